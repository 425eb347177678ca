"""Every exception that dicomnet raises: one tree under `DicomException`.

Errors are told apart by class and by fields, never by text. Each class lists its fields as annotated
attributes with a default; the constructor takes the message and the fields by keyword. A message says
what happened, with whom, in which state, and what to do next. All of them can be pickled.

`DicomException.code` is LEADTOOLS' `DicomExceptionCode`, so that ported code can go on comparing codes.
"""

from __future__ import annotations

from typing import Any, ClassVar

from dicomnet.enums import DicomExceptionCode, DicomSecurityCertificateExceptionCode

__all__ = [
    "AssociationAborted",
    "AssociationRejected",
    "AssociationTimeout",
    "CertificateExpired",
    "CertificateFileError",
    "CertificateNameMismatch",
    "CertificateNotYetValid",
    "CertificateRefusedByPeer",
    "CertificateRequiredByPeer",
    "CertificateRevoked",
    "CertificateSelfSigned",
    "CertificateUnknownCa",
    "CertificateVerificationError",
    "CipherSuitesUnavailable",
    "ConnectTimeout",
    "ConnectionLost",
    "ConnectionRefused",
    "DataSetError",
    "DicomException",
    "DicomSecurityCertificateException",
    "HandshakeTimeout",
    "HostNotFound",
    "IdleTimeout",
    "KeyMismatch",
    "KeyPasswordError",
    "LimitExceeded",
    "LinkClosed",
    "LocalProtocolError",
    "NetworkError",
    "NoAcceptedContext",
    "NoCommonCipherSuite",
    "NoCommonVersion",
    "PasswordNotNeeded",
    "PasswordRequired",
    "PeerCertificateMissing",
    "ProtocolError",
    "ProtocolMismatch",
    "ReadTimeout",
    "ReentrancyError",
    "ReleaseTimeout",
    "RemoteProtocolError",
    "ReplyTimeout",
    "ResponseTimeout",
    "StatusError",
    "TimeoutExpired",
    "TlsConfigurationError",
    "TlsError",
    "TlsHandshakeError",
    "WriteTimeout",
    "WrongPassword",
    "WrongStateError",
    "escape",
]


def escape(text: object) -> str:
    """Return a peer's string with everything but printable ASCII escaped, fit for logs and messages."""
    return str(text).encode("unicode_escape").decode("ascii").replace("\x7f", "\\x7f")


class DicomException(Exception):
    """Base of all errors (LEADTOOLS `DicomException`).

    `code` is the `DicomExceptionCode` nearest to the error; `peer` is "address:port" or "" where none is
    known; `state` names what the link was doing ("connecting", "TLS handshake", "Sta6 data transfer", ...).
    `results` holds what a call that does several things, `StoreScu.store`, had done before the error.
    """

    default_code: ClassVar[DicomExceptionCode] = DicomExceptionCode.NET_FAILURE
    code: DicomExceptionCode
    peer: str = ""
    state: str = ""
    results: tuple[Any, ...] = ()

    def __init__(self, message: str | int = "", **fields: Any) -> None:
        if isinstance(message, int):  # LEADTOOLS: new DicomException(DicomExceptionCode.NetTimeout)
            code = DicomExceptionCode(message)
            fields, message = {"code": code, **fields}, code.name
        super().__init__(message)
        self.code = self.default_code
        for name, value in fields.items():
            if name.startswith("_") or not (name == "code" or hasattr(type(self), name)):
                raise TypeError(f"{type(self).__name__} has no field {name!r}")
            setattr(self, name, value)
        self._fields = fields

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args[0], self._fields)


def _rebuild(kind: type[DicomException], message: str, fields: dict[str, Any]) -> DicomException:
    return kind(message, **fields)


# --- time-outs -----------------------------------------------------------------------------------


class TimeoutExpired(DicomException, TimeoutError):
    """A wait reached its limit. `limit` and `elapsed` are seconds."""

    default_code = DicomExceptionCode.NET_TIMEOUT
    limit: float = 0.0
    elapsed: float = 0.0


class ConnectTimeout(TimeoutExpired):
    """The TCP connection was not established within `Timeouts.connect`."""


class HandshakeTimeout(TimeoutExpired):
    """The TLS handshake did not end within `Timeouts.handshake`: a silent or very slow TLS peer."""


class AssociationTimeout(TimeoutExpired):
    """No A-ASSOCIATE-AC, -RJ (requestor) or -RQ (acceptor, ARTIM) arrived in time."""


class ReadTimeout(TimeoutExpired):
    """The peer fell silent, or trickled, within a PDU or message."""


class WriteTimeout(TimeoutExpired):
    """The peer stopped reading while we were sending; the connection is closed without an A-ABORT."""


class ResponseTimeout(TimeoutExpired):
    """No response to an outstanding request within `Timeouts.response`."""


class ReplyTimeout(TimeoutExpired):
    """Our own handler did not send the final response it owed within `Timeouts.reply`."""


class ReleaseTimeout(TimeoutExpired):
    """No A-RELEASE-RP within `Timeouts.release`."""


class IdleTimeout(TimeoutExpired):
    """The association carried nothing for `Timeouts.idle` seconds."""


# --- network -------------------------------------------------------------------------------------


class NetworkError(DicomException, ConnectionError):
    """The TCP connection could not be made, or was lost. `errno` is the system's number or 0."""

    default_code = DicomExceptionCode.NET_FAILURE
    errno: int = 0


class ConnectionRefused(NetworkError):
    """Nothing listens at that address and port."""

    default_code = DicomExceptionCode.NET_CONNECTION_REFUSED


class HostNotFound(NetworkError):
    """The host name could not be resolved."""

    default_code = DicomExceptionCode.NET_HOST_NOT_FOUND


class ConnectionLost(NetworkError):
    """The peer closed or reset the connection where the protocol did not allow it (A-P-ABORT)."""

    default_code = DicomExceptionCode.NET_CONNECTION_ABORTED


class LinkClosed(NetworkError):
    """The link was closed on our side while something still waited for it."""

    default_code = DicomExceptionCode.NET_CONNECTION_ABORTED


# --- TLS -----------------------------------------------------------------------------------------


class TlsError(DicomException):
    """Base of everything that concerns the secure link.

    `openssl` is OpenSSL's reason text, `alert` the TLS alert number (RFC 8446 6) or None, `refused_by`
    "us", "peer" or "".
    """

    default_code = DicomExceptionCode.TLS_INTERNAL_ERROR
    openssl: str = ""
    alert: int | None = None
    refused_by: str = ""


class TlsHandshakeError(TlsError):
    """The handshake failed for a reason that has no class of its own."""

    default_code = DicomExceptionCode.TLS_HANDSHAKE_FAILURE


class NoCommonCipherSuite(TlsHandshakeError):
    """The two ends have no cipher suite (or no key-exchange group) in common."""


class NoCommonVersion(TlsHandshakeError):
    """The two ends have no TLS version in common."""

    default_code = DicomExceptionCode.TLS_PROTOCOL_VERSION


class ProtocolMismatch(TlsHandshakeError):
    """One end speaks TLS and the other does not. `seen` names what arrived ("plain DICOM", "HTTP", ...)."""

    default_code = DicomExceptionCode.NET_PROTOCOL_TYPE

    seen: str = ""


class CertificateRequiredByPeer(TlsHandshakeError):
    """The peer wants a client certificate and we have shown none."""

    default_code = DicomExceptionCode.TLS_BAD_CERTIFICATE


class CertificateRefusedByPeer(TlsHandshakeError):
    """The peer does not accept our certificate; `alert` says why as far as the peer tells."""

    default_code = DicomExceptionCode.TLS_BAD_CERTIFICATE


class PeerCertificateMissing(TlsHandshakeError):
    """We require a certificate and the peer has shown none."""

    default_code = DicomExceptionCode.TLS_BAD_CERTIFICATE


class CertificateVerificationError(TlsHandshakeError):
    """The peer's certificate chain failed our verification.

    `verify_code` and `depth` are OpenSSL's (X509_V_ERR_..., 0 = the peer's own certificate); `subject` and
    `issuer` name the certificate concerned (escaped); `findings` holds one sentence for each problem found.
    """

    default_code = DicomExceptionCode.TLS_CERTIFICATE_VERIFY_FAILED

    verify_code: int = 0
    depth: int = 0
    subject: str = ""
    issuer: str = ""
    findings: tuple[str, ...] = ()


class CertificateUnknownCa(CertificateVerificationError):
    """The chain does not lead to a CA that we trust."""

    default_code = DicomExceptionCode.TLS_UNABLE_TO_GET_ISSUER_CERT_LOCALLY


class CertificateSelfSigned(CertificateVerificationError):
    """The certificate is signed by itself and is not among the CAs that we trust."""

    default_code = DicomExceptionCode.TLS_DEPTH_ZERO_SELF_SIGNED_CERT


class CertificateExpired(CertificateVerificationError):
    """The certificate's validity has ended."""

    default_code = DicomExceptionCode.TLS_CERT_HAS_EXPIRED


class CertificateNotYetValid(CertificateVerificationError):
    """The certificate's validity has not begun; one of the two clocks may be wrong."""

    default_code = DicomExceptionCode.TLS_CERT_NOT_YET_VALID


class CertificateRevoked(CertificateVerificationError):
    """The certificate is on a revocation list."""

    default_code = DicomExceptionCode.TLS_CERT_REVOKED


class CertificateNameMismatch(CertificateVerificationError):
    """The certificate is valid, but not for the name or address that we connected to (`expected`)."""

    default_code = DicomExceptionCode.TLS_APPLICATION_VERIFICATION

    expected: str = ""


class DicomSecurityCertificateException(Exception):
    """What `on_verify` is told about one certificate (LEADTOOLS); it is handed over, never raised.

    `code` is `SUCCESS` or what is wrong with the certificate, `str()` of it a sentence that says so.
    """

    def __init__(self, code: DicomSecurityCertificateExceptionCode, message: str = "") -> None:
        super().__init__(code, message)
        self.code = code

    def __str__(self) -> str:
        return str(self.args[1] or self.code)


class TlsConfigurationError(TlsError):
    """The local TLS settings cannot work: no CA given, contradicting options, retired mechanism, ..."""

    default_code = DicomExceptionCode.TLS_INVALID_CTX


class CipherSuitesUnavailable(TlsConfigurationError):
    """Only suites were asked for that the linked OpenSSL does not have; `suites` names them."""

    default_code = DicomExceptionCode.TLS_INSUFFICIENT_SECURITY

    suites: tuple[str, ...] = ()


class CertificateFileError(TlsConfigurationError):
    """A certificate, key or CA file is missing, unreadable, damaged or of the wrong format (`path`)."""

    default_code = DicomExceptionCode.CERTIFICATE_LOAD_FAILED

    path: str = ""


class KeyMismatch(CertificateFileError):
    """The private key does not belong to the certificate."""

    default_code = DicomExceptionCode.KEYS_MISMATCH


class KeyPasswordError(CertificateFileError):
    """Base of the errors about a private key's password. `attempts` counts the passwords tried."""

    default_code = DicomExceptionCode.PRIVATE_KEY_LOAD_FAILED

    attempts: int = 0


class PasswordRequired(KeyPasswordError):
    """The private key is encrypted and no password was given."""


class WrongPassword(KeyPasswordError):
    """None of the passwords given decrypts the private key."""


class PasswordNotNeeded(KeyPasswordError):
    """A password was given explicitly for a private key that is not encrypted."""


# --- protocol ------------------------------------------------------------------------------------


class ProtocolError(DicomException):
    """A rule of PS3.7 or PS3.8 was broken. `clause` names it, for example "PS3.8 9.3.5"."""

    default_code = DicomExceptionCode.BAD_PDU_TYPE
    clause: str = ""


class LocalProtocolError(ProtocolError):
    """Our own side asked for something that is not allowed now; nothing was sent."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the rule. `abort_source` and `abort_reason` are what the A-ABORT says (table 9-26)."""

    abort_source: int = 2
    abort_reason: int = 0


class LimitExceeded(RemoteProtocolError):
    """The peer went over one of `Limits`: `limit` names the field, `allowed` and `seen` are its unit."""

    limit: str = ""
    allowed: int = 0
    seen: int = 0


# --- association and messages --------------------------------------------------------------------


class AssociationRejected(DicomException):
    """A-ASSOCIATE-RJ received: numbers of PS3.8 table 9-21; `transient` means it is worth retrying."""

    default_code = DicomExceptionCode.NET_CONNECTION_REFUSED
    result: int = 0
    source: int = 0
    reason: int = 0

    @property
    def transient(self) -> bool:
        """True where the peer says that the rejection is for now only."""
        return self.result == 2


class AssociationAborted(DicomException, ConnectionError):
    """The association was aborted: numbers of PS3.8 table 9-26; `by` is "peer" or "us"."""

    default_code = DicomExceptionCode.NET_CONNECTION_ABORTED
    source: int = 0
    reason: int = 0
    by: str = "peer"


class NoAcceptedContext(DicomException):
    """No accepted presentation context fits. `proposed` and `answered` describe both sides' view."""

    default_code = DicomExceptionCode.CLASS_NOT_SUPPORTED
    proposed: tuple[str, ...] = ()
    answered: tuple[str, ...] = ()


class StatusError(DicomException):
    """A response carried a failure status (PS3.7 C): `status`, (0000,0902) and (0000,0901)."""

    default_code = DicomExceptionCode.NET_FAILURE
    status: int = 0
    comment: str = ""
    offending: tuple[int, ...] = ()


class DataSetError(DicomException):
    """A data set or file cannot be read, sent or stored (`path` where there is one)."""

    default_code = DicomExceptionCode.READ
    path: str = ""


class ReentrancyError(DicomException):
    """A call that cannot work from inside the running callback."""

    default_code = DicomExceptionCode.NET_BLOCKING_OPERATION_IN_PROGRESS


class WrongStateError(DicomException):
    """The call does not fit what the object is doing (not connected, already associated, closed, ...)."""

    default_code = DicomExceptionCode.NET_OPERATION_NOT_SUPPORTED
