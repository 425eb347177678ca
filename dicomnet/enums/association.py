"""Numbers of the association: PDU types, verdicts, reasons of rejection and abort (PS3.8 9.3)."""

from __future__ import annotations

from dicomnet.enums.base import OpenIntEnum

__all__ = [
    "DicomAbortReasonType",
    "DicomAbortSourceType",
    "DicomAssociateAcceptResultType",
    "DicomAssociateRejectReasonType",
    "DicomAssociateRejectResultType",
    "DicomAssociateRejectSourceType",
    "DicomPduType",
    "DicomRoleSupport",
    "DicomUserIdentityType",
    "abort_text",
    "reject_reason",
    "reject_reason_name",
    "reject_text",
]


class DicomPduType(OpenIntEnum):
    """PDU types (PS3.8 9.3.1; LEADTOOLS `DicomPduType`)."""

    UNKNOWN = 0
    ASSOCIATE_REQUEST = 1
    ASSOCIATE_ACCEPT = 2
    ASSOCIATE_REJECT = 3
    DATA_TRANSFER = 4
    RELEASE_REQUEST = 5
    RELEASE_RESPONSE = 6
    ABORT = 7


class DicomAssociateAcceptResultType(OpenIntEnum):
    """The answer to one presentation context (PS3.8 table 9-18)."""

    SUCCESS = 0
    USER_REJECT = 1
    PROVIDER_REJECT = 2
    """No reason given."""
    ABSTRACT_SYNTAX = 3
    """The abstract syntax is not supported."""
    TRANSFER_SYNTAX = 4
    """None of the transfer syntaxes is supported."""


class DicomRoleSupport(OpenIntEnum):
    """A role in SCP/SCU role selection (PS3.7 D.3.3.4)."""

    UNSUPPORTED = 0
    SUPPORTED = 1


class DicomUserIdentityType(OpenIntEnum):
    """What identifies the user in user identity negotiation (PS3.7 D.3.3.7). Not in LEADTOOLS."""

    USERNAME = 1
    USERNAME_AND_PASSCODE = 2
    KERBEROS = 3
    SAML = 4
    JWT = 5


class DicomAssociateRejectResultType(OpenIntEnum):
    """Whether a rejection is for good (PS3.8 table 9-21)."""

    PERMANENT = 1
    TRANSIENT = 2


class DicomAssociateRejectSourceType(OpenIntEnum):
    """Who rejected an association (PS3.8 table 9-21)."""

    USER = 1
    """The application."""
    PROVIDER1 = 2
    """The service provider, ACSE part."""
    PROVIDER2 = 3
    """The service provider, presentation part."""


class DicomAssociateRejectReasonType(OpenIntEnum):
    """Why an association was rejected (PS3.8 table 9-21).

    The same number means different things for different sources, so members overlap as in LEADTOOLS:
    VERSION and LIMIT equal APPLICATION, and CONGESTION equals UNKNOWN. `reject_reason` gives the
    member that is named right for its source.
    """

    UNKNOWN = 1
    """No reason given (sources USER and PROVIDER1)."""
    APPLICATION = 2
    """Application context not supported (USER)."""
    CALLING = 3
    """Calling AE title not recognized (USER)."""
    CALLED = 7
    """Called AE title not recognized (USER)."""
    VERSION = 2
    """Protocol version not supported (PROVIDER1)."""
    CONGESTION = 1
    """Temporary congestion (PROVIDER2)."""
    LIMIT = 2
    """Local limit exceeded (PROVIDER2)."""


class DicomAbortSourceType(OpenIntEnum):
    """Who aborted (PS3.8 table 9-26)."""

    USER = 0
    PROVIDER = 2


class DicomAbortReasonType(OpenIntEnum):
    """Why the provider aborted (PS3.8 table 9-26); without meaning where the source is USER."""

    UNKNOWN = 0
    UNRECOGNIZED = 1
    UNEXPECTED = 2
    UNRECOGNIZED_PARAMETER = 4
    UNEXPECTED_PARAMETER = 5
    INVALID_PARAMETER_VALUE = 6


_REJECT_REASONS: dict[tuple[int, int], tuple[str, str]] = {
    (1, 1): ("UNKNOWN", "no reason given"),
    (1, 2): ("APPLICATION", "the application context is not supported"),
    (1, 3): ("CALLING", "the calling AE title is not recognized"),
    (1, 7): ("CALLED", "the called AE title is not recognized"),
    (2, 1): ("UNKNOWN", "no reason given"),
    (2, 2): ("VERSION", "the protocol version is not supported"),
    (3, 1): ("CONGESTION", "temporary congestion"),
    (3, 2): ("LIMIT", "a local limit is exceeded"),
}
_REJECT_SOURCES = {
    1: "the application",
    2: "the service provider (ACSE)",
    3: "the service provider (presentation)",
}
_REJECT_RESULTS = {1: "rejected permanently", 2: "rejected for now"}

_ABORT_SOURCES = {2: "the service provider"}
_ABORT_REASONS = {
    0: "no reason given",
    1: "it did not recognize a PDU",
    2: "it did not expect a PDU",
    4: "it did not recognize a parameter of a PDU",
    5: "it did not expect a parameter of a PDU",
    6: "a parameter of a PDU had an invalid value",
}


def reject_reason(source: int, reason: int) -> DicomAssociateRejectReasonType:
    """Return `reason` under the name that it has for `source` (PS3.8 table 9-21).

    (3, 1) gives CONGESTION although the number is that of UNKNOWN as well. A reserved number keeps its value.
    """
    name, _ = _REJECT_REASONS.get((source, reason), (f"UNKNOWN_0x{reason:04X}", ""))
    return DicomAssociateRejectReasonType.under_name(reason, name)


def reject_reason_name(source: int, reason: int) -> str:
    """Return LEADTOOLS' name of a reject reason for its source, "UNKNOWN_0x0004" for a reserved one."""
    return reject_reason(source, reason).name


def reject_text(result: int, source: int, reason: int) -> str:
    """Say in words what an A-ASSOCIATE-RJ says; reserved values appear as numbers."""
    verdict = _REJECT_RESULTS.get(result, f"rejected with the reserved result {result:d}")
    by = _REJECT_SOURCES.get(source, f"the reserved source {source:d}")
    why = _REJECT_REASONS.get((source, reason), ("", f"the reserved reason {reason:d}"))[1]
    return f"{verdict} by {by}: {why}"


def abort_text(source: int, reason: int) -> str:
    """Say in words what an A-ABORT says; the reason counts for the provider only (PS3.8 9.3.8)."""
    if source == DicomAbortSourceType.USER:
        return "aborted by the application"
    by = _ABORT_SOURCES.get(source, f"the reserved source {source:d}")
    return f"aborted by {by}: {_ABORT_REASONS.get(reason, f'the reserved reason {reason:d}')}"
