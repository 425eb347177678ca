"""What a TLS stream knows of its link: collected as it goes, and read when something has to be explained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from OpenSSL import SSL

from dicomnet.tls.cipher_suites import TLS_1_3

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography import x509

    from dicomnet.tls.settings import Offer, TlsSettings
    from dicomnet.tls.verification import Verification

__all__ = ["ALERTS", "Evidence"]

ALERTS = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    21: "decryption_failed",
    22: "record_overflow",
    30: "decompression_failure",
    40: "handshake_failure",
    41: "no_certificate",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    60: "export_restriction",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    100: "no_renegotiation",
    109: "missing_extension",
    110: "unsupported_extension",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
}
"""Names of the TLS alerts (RFC 8446 6; RFC 5246 7.2 has those given up since)."""

_NO_REFUSAL = frozenset({0, 90, 100})  # close_notify, user_canceled, no_renegotiation


@dataclass(slots=True)
class Evidence:
    """The state of one TLS link as far as it matters for explaining its end."""

    peer: str
    """Address and port."""

    server_side: bool
    """True where we are the TLS server."""

    settings: TlsSettings
    """What the link was asked to be."""

    offer: Offer
    """The suites and versions that came of it."""

    verification: Verification
    """The judgement on the peer's certificates."""

    expected_name: str = ""
    """The name or address that we connected to."""

    first_bytes: bytes = field(default=b"", repr=False)
    """What the peer sent first."""

    glimpse: Callable[[], bytes] | None = field(default=None, repr=False)
    """During the handshake: return what has arrived, without taking it."""

    alert_read: int | None = None
    """The alert by which the peer ended the link. Its number, unlike OpenSSL's text for it, never changes."""

    alert_sent: int | None = None
    """The alert by which we did."""

    hello: bool = False
    """The server's hello has been read: version and suite are agreed on."""

    asked: bool = False
    """The server has asked for our certificate."""

    version: int = 0
    """The version negotiated (0x0304 = TLS 1.3) once the handshake is done."""

    received: bool = False
    """Something was received after the handshake, so the peer has taken our certificate."""

    def note(self, where: int, value: int, step: bytes) -> None:
        """Take in one call of OpenSSL's info callback; `step` names the state of the handshake."""
        if where & SSL.SSL_CB_ALERT:
            number = value & 0xFF
            if number in _NO_REFUSAL:
                return
            if where & SSL.SSL_CB_READ:
                self.alert_read = number
            else:
                self.alert_sent = number
        elif b"write client hello" in step and self.glimpse is not None:
            self.first_bytes = self.first_bytes or self.glimpse()  # OpenSSL reads next
        elif b"read server hello" in step:
            self.hello = True
        elif b"read server certificate request" in step:
            self.asked = True

    @property
    def done(self) -> bool:
        """True after the handshake."""
        return bool(self.version)

    @property
    def own_certificate(self) -> x509.Certificate | None:
        """Our certificate, if it was shown to the peer."""
        credentials = self.settings.credentials
        return credentials.certificate if credentials and (self.server_side or self.asked) else None

    @property
    def unproven(self) -> bool:
        """True while the server may still refuse us: in TLS 1.3 a client learns that with its first read."""
        return not (self.received or self.server_side) and self.version >= TLS_1_3
