"""Why a TLS link failed, as an exception that says what to do next.

OpenSSL's texts differ from version to version, so what counts is the alert numbers, the peer's first bytes
and how far the handshake had come; the texts serve only where OpenSSL itself found the fault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from OpenSSL import SSL

from dicomnet import errors
from dicomnet.enums import DicomExceptionCode
from dicomnet.protocol.sniff import recognise
from dicomnet.tls.certificates import describe
from dicomnet.tls.cipher_suites import version_name
from dicomnet.tls.client_hello import parse
from dicomnet.tls.evidence import ALERTS
from dicomnet.transport.system_errors import network_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509

    from dicomnet.tls.evidence import Evidence
    from dicomnet.transport.deadline import Deadline

__all__ = ["explain", "timed_out"]

HANDSHAKE = "TLS handshake"
LINK = "TLS link"


class _Case(NamedTuple):
    error: type[errors.DicomException]
    text: str
    """A template for `_words`, without the full stop."""


_LOG = "It does not say why; its log should"
_GIVE = 'Give one: net.set_tls_client_certificate("cert.pem", DicomTlsCertificateType.PEM, "key.pem")'
_REFUSES_OURS = "{peer} refuses our certificate ({subject}): {alert}. "

# --- alerts from the peer --------------------------------------------------------------------------

_REFUSED = {
    number: _Case(errors.CertificateRefusedByPeer, _REFUSES_OURS + advice)
    for number, advice in {
        42: _LOG + ". Look whether it trusts {issuer}, and at the certificate's names and dates",
        43: "It does not take this kind: look at the type of its key and its extended key usage (TLS {role})",
        44: "It has been revoked: have a new one issued",
        45: "It is valid from {not_before} to {not_after}: renew it, or compare the clocks of the two ends",
        46: _LOG + ". Look whether it trusts {issuer}, and whether the certificate has the name it expects",
        48: (
            "Add the issuer {issuer} to the CAs that it trusts; if that is an intermediate CA, put its "
            "certificate into {path}"
        ),
        49: "The certificate is good, but not let in: look at the access rules there",
        113: _LOG,
    }.items()
}
_REQUIRED = _Case(
    errors.CertificateRequiredByPeer,
    "{peer} demands a client certificate, and {no_certificate}: {alert}. " + _GIVE,
)
_NO_CERTIFICATE = frozenset({40, 41, 42, 43, 116})
"""What servers say to a client that shows no certificate where they demand one."""

_NO_COMMON_SUITE = _Case(
    errors.NoCommonCipherSuite,
    "{peer} refuses the handshake: {alert}. Most often it has no cipher suite or key-exchange group in "
    "common with us, or no certificate that goes with one. We offer {offered}. Switch one of these on "
    "there, or add one of its own with set_tls_cipher_suite_by_index",
)
_ALERTS = {
    70: _Case(
        errors.NoCommonVersion,
        "{peer} refuses the handshake: {alert}. We offer {offered}. Switch on TLS 1.2 or 1.3 there, or put "
        "a TLS gateway before it",
    ),
    71: _NO_COMMON_SUITE,
    112: _Case(
        errors.TlsHandshakeError, "{peer} does not serve the name {name}: {alert}. Connect by another name"
    ),
    120: _Case(
        errors.TlsHandshakeError,
        "{peer} does not want the protocol DICOM: {alert}. Look whether it is the right port",
    ),
}
_OTHER_ALERT = _Case(errors.TlsHandshakeError, "{peer} ended the TLS handshake: {alert}. " + _LOG)
_LINK_ALERT = _Case(errors.TlsError, "{peer} ended the TLS link: {alert}. " + _LOG)

# --- what OpenSSL finds at fault -------------------------------------------------------------------

_NO_SUITE = _Case(
    errors.NoCommonCipherSuite,
    "{peer} offers no cipher suite that we can use: it offers {hello}; we allow {offered}, and our "
    "certificate has {own_key}. Switch one of ours on there, or add one of its with "
    "set_tls_cipher_suite_by_index",
)
_NO_GROUP = _Case(
    errors.NoCommonCipherSuite,
    "{peer} has no key-exchange group in common with us. Switch on X25519 or P-256 there",
)
_NO_VERSION = _Case(
    errors.NoCommonVersion,
    "{peer} has no TLS version in common with us: it offers {hello}; we allow {offered}. Switch on TLS 1.2 "
    "or 1.3 there, or put a TLS gateway before it",
)
_NOT_TLS = {
    True: _Case(
        errors.ProtocolMismatch,
        "{peer} speaks {seen} to our TLS port: {first}. Switch TLS on there, or have it connect to a port "
        "without TLS",
    ),
    False: _Case(
        errors.ProtocolMismatch,
        "{peer} answers our TLS handshake with {seen}: {first}. It has no TLS on this port: switch it on "
        "there, look for its TLS port (often 2762), or connect with DicomNetSecurityMode.NONE",
    ),
}
_NO_RECORD = ("wrong version number", "http request", "https proxy request", "unknown protocol", "too long")
_FAULTS = {
    "peer did not return a certificate": _Case(
        errors.PeerCertificateMissing,
        "{peer} shows no certificate, and we demand one. Give it one there; to let in clients without, leave "
        "FAIL_IF_NO_PEER_CERTIFICATE out of the verification flags",
    ),
    "no shared cipher": _NO_SUITE,
    "no suitable key share": _NO_GROUP,
    "no suitable groups": _NO_GROUP,
    "unsupported protocol": _NO_VERSION,
    "wrong ssl version": _NO_VERSION,
    "unsafe legacy renegotiation disabled": _Case(
        errors.TlsHandshakeError,
        "{peer} lacks secure renegotiation (RFC 5746): its TLS is from before 2010. Update it, or put a "
        "TLS gateway before it",
    ),
    "dh key too small": _Case(
        errors.TlsHandshakeError,
        "{peer} uses a Diffie-Hellman group of less than 2048 bits. Give it a longer one, or offer ECDHE "
        "suites only",
    ),
}
_OTHER_FAULT = _Case(
    errors.TlsHandshakeError,
    "The TLS handshake with {peer} failed on our side: {openssl}. Its TLS may be faulty",
)
_LINK_FAULT = _Case(
    errors.TlsError,
    "A TLS record from {peer} is not acceptable: {openssl}. It was damaged or tampered with on the way, or "
    "the peer's TLS is faulty",
)

# --- the connection is gone ------------------------------------------------------------------------

_LOST_SILENT = {
    True: _Case(
        errors.ConnectionLost,
        "{peer} connected to our TLS port and {how} without sending anything: a port scan, or a check "
        "whether we live",
    ),
    False: _Case(
        errors.ConnectionLost,
        "{peer} {how} in answer to our TLS handshake: it may speak plain DICOM on this port, or let in no "
        "more connections, or none from our address",
    ),
}
_LOST_HANDSHAKE = _Case(
    errors.ConnectionLost,
    "{peer} {how} in the middle of the TLS handshake without an alert; if it does not like our certificate "
    "({subject}), its log should say so",
)
_LOST_UNASKED = _Case(errors.ConnectionLost, "{peer} {how} right after the TLS handshake. " + _LOG)
_LOST_REQUIRED = _Case(
    errors.CertificateRequiredByPeer,
    "{peer} asked for a client certificate, and {no_certificate}; right after the TLS handshake it {how}. "
    "Most likely it demands one, and its alert was lost in the reset. " + _GIVE,
)
_LOST_REFUSED = _Case(
    errors.ConnectionLost,
    "{peer} {how} right after the TLS handshake: it may have refused our certificate ({subject}), and the "
    "alert that says so was lost in the reset. Its log should say; look whether it trusts {issuer}",
)
_LOST_LINK = _Case(
    errors.ConnectionLost, "{peer} {how} without ending the TLS link (close_notify): data may be missing"
)

_SEEN = {"DICOM": "plain DICOM", "HTTP": "HTTP", "SSH": "SSH", "SSLv2": "SSL 2.0"}


def explain(
    evidence: Evidence, error: SSL.Error, chain: Sequence[x509.Certificate] = ()
) -> errors.DicomException:
    """Return our exception for one of OpenSSL's, during the handshake or after it.

    `chain` is what the peer has shown of certificates, its own first.
    """
    fields: dict[str, Any] = {"state": LINK if evidence.done else HANDSHAKE}
    openssl = _openssl_words(error)
    if evidence.verification.refused and not evidence.done:
        return evidence.verification.error(
            evidence.peer, chain, alert=evidence.alert_sent, openssl=openssl, **fields
        )
    fields["peer"] = evidence.peer
    if evidence.alert_read is None and isinstance(error, (SSL.SysCallError, SSL.ZeroReturnError)):
        return _lost(evidence, error, fields)
    fields["openssl"] = openssl
    if evidence.alert_read is not None:
        case = _alert_case(evidence, evidence.alert_read)
        fields |= {"alert": evidence.alert_read, "refused_by": "peer"}
        name = f"TLS_{ALERTS.get(evidence.alert_read, '').upper()}"
        fields["code"] = getattr(DicomExceptionCode, name, case.error.default_code)
    else:
        case = _fault_case(evidence, openssl)
        fields |= {"alert": evidence.alert_sent, "refused_by": "us"}
        if case.error is errors.ProtocolMismatch:
            fields["seen"] = _seen(evidence)
    return case.error(case.text.format_map(_words(evidence, openssl=openssl)) + ".", **fields)


def timed_out(evidence: Evidence, deadline: Deadline) -> errors.HandshakeTimeout:
    """Return the error for a handshake that did not end by its deadline."""
    if recognise(evidence.first_bytes) == "TLS":
        why = "It began the handshake and did not go on"
    elif evidence.first_bytes:
        why = f"It sent {_seen(evidence)}: {evidence.first_bytes[:16]!r}"
    elif evidence.server_side:
        why = "It has not sent anything"
    else:
        why = (
            "It has not answered: it may speak plain DICOM on this port, or a firewall holds back our "
            "first packet, which is large with post-quantum groups (naming the groups X25519 and P-256 "
            "makes it small)"
        )
    limit = deadline.limit or 0.0
    return errors.HandshakeTimeout(
        f"The TLS handshake with {evidence.peer} did not end within {limit:g} s (Timeouts.handshake). {why}.",
        limit=limit,
        elapsed=deadline.elapsed(),
        peer=evidence.peer,
        state=HANDSHAKE,
    )


def _alert_case(evidence: Evidence, alert: int) -> _Case:
    client, early = not evidence.server_side, evidence.unproven or not evidence.done
    shown = evidence.own_certificate is not None
    if client and early and (alert == 116 or (evidence.asked and not shown and alert in _NO_CERTIFICATE)):
        return _REQUIRED
    if shown and early and alert in _REFUSED:
        return _REFUSED[alert]
    if evidence.done:
        return _LINK_ALERT
    if alert == 40 and client and not evidence.hello:
        return _NO_COMMON_SUITE
    return _ALERTS.get(alert, _OTHER_ALERT)


def _fault_case(evidence: Evidence, openssl: str) -> _Case:
    if evidence.done:
        return _LINK_FAULT
    if any(words in openssl for words in _NO_RECORD) and recognise(evidence.first_bytes) != "TLS":
        return _NOT_TLS[evidence.server_side]
    return next((case for words, case in _FAULTS.items() if words in openssl), _OTHER_FAULT)


def _lost(evidence: Evidence, error: SSL.Error, fields: dict[str, Any]) -> errors.DicomException:
    number = error.args[0] if isinstance(error, SSL.SysCallError) and error.args else None
    number = number if number is not None and number > 0 else None  # -1 is an unexpected end
    how = "reset the connection" if number else "closed the connection"
    case = _lost_case(evidence)
    text = case.text.format_map(_words(evidence, how=how)) + "."
    if issubclass(case.error, errors.NetworkError):
        return network_error(case.error, text, number, **fields)
    return case.error(text, refused_by="peer", **fields)


def _lost_case(evidence: Evidence) -> _Case:
    if not evidence.done:
        return _LOST_HANDSHAKE if evidence.first_bytes else _LOST_SILENT[evidence.server_side]
    if not evidence.unproven:
        return _LOST_LINK
    if not evidence.asked:
        return _LOST_UNASKED
    return _LOST_REFUSED if evidence.own_certificate else _LOST_REQUIRED


# --- words -----------------------------------------------------------------------------------------


def _words(evidence: Evidence, *, openssl: str = "", how: str = "") -> dict[str, str]:
    """Return what the templates are filled with; everything from the peer is escaped."""
    credentials = evidence.settings.credentials
    own = describe(credentials.certificate) if credentials else None
    alert = evidence.alert_read
    hello = parse(evidence.first_bytes) if evidence.server_side else None
    return {
        "peer": evidence.peer,
        "role": "server" if evidence.server_side else "client",
        "name": repr(errors.escape(evidence.expected_name)),
        "openssl": openssl,
        "how": how,
        "alert": "" if alert is None else f"alert {ALERTS.get(alert, 'unknown')} ({alert})",
        "first": repr(evidence.first_bytes[:16]),
        "seen": _seen(evidence),
        "hello": str(hello or "other ones"),
        "offered": _offered(evidence),
        "subject": own.subject if own else "none",
        "issuer": own.issuer if own else "",
        "not_before": own.not_before if own else "",
        "not_after": own.not_after if own else "",
        "own_key": f"an {own.key_type} key" if own else "no key",
        "path": credentials.path if credentials else "",
        "no_certificate": f"ours ({own.subject}) does not fit what it asks for"
        if own
        else "we have none to show",
    }


def _seen(evidence: Evidence) -> str:
    return _SEEN.get(recognise(evidence.first_bytes), "unknown data")


def _offered(evidence: Evidence) -> str:
    offer = evidence.offer
    versions = dict.fromkeys(map(version_name, (offer.min_version, offer.max_version)))
    names = [suite.iana_name for suite in offer.suites]
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"{' to '.join(versions)} with {', '.join(names[:8])}{more}"


def _openssl_words(error: SSL.Error) -> str:
    """Return OpenSSL's reasons, or the system's."""
    if isinstance(error, SSL.SysCallError):
        return str(next((part for part in reversed(error.args) if part is not None), ""))
    reasons = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return "; ".join(reason for *_, reason in reasons if reason)
