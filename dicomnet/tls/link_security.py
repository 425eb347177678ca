"""What secures an established link, in parts that a program can read and as text for a person."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dicomnet.enums import DicomTlsAuthenticationMethodType as Authentication
from dicomnet.enums import DicomTlsExchangeMethodType as Exchange
from dicomnet.tls.certificates import CertificateInfo, describe
from dicomnet.tls.cipher_suites import Suite, by_openssl_name, version_name
from dicomnet.tls.profiles import Verdict, group_bits, profiles_met

if TYPE_CHECKING:
    from dicomnet.tls.settings import TlsSettings
    from dicomnet.tls.stream import TlsStream

__all__ = ["LinkSecurity", "authentication_of", "exchange_of", "inspect_link", "suite_of"]

# RFC 8422 puts EdDSA certificates among the suites and signatures named after ECDSA.
_AUTHENTICATION = {
    "RSA": Authentication.RSA,
    "EC": Authentication.ECDSA,
    "Ed25519": Authentication.ECDSA,
    "Ed448": Authentication.ECDSA,
    "DSA": Authentication.DSS,
}

_EXCHANGE_TEXTS = {
    Exchange.RSA: "RSA key transport",
    Exchange.RSA_SIGNED_DHE: "DHE",
    Exchange.DHE_DSS: "DHE",
    Exchange.ECDHE: "ECDHE",
}


@dataclass(frozen=True)
class LinkSecurity:
    """What secures a link. `str()` gives a table for a person, `as_dict()` plain data.

    Of a link without TLS, and before the handshake has ended, everything is empty and `secure` is False.
    """

    secure: bool = False
    """True on an established TLS link."""

    version: str = ""
    """"TLS 1.3"."""

    suite: str = ""
    """Registered name of the cipher suite."""

    suite_code: int = 0
    """Its IANA code point."""

    openssl_name: str = ""
    """OpenSSL's name for it."""

    key_exchange: str = ""
    """"ECDHE", "DHE", "RSA key transport"."""

    group: str = ""
    """OpenSSL's name of the key-exchange group ("x25519", "secp256r1"); empty where it does not tell."""

    group_bits: int = 0
    """Length of the group, 0 where it is not known."""

    forward_secrecy: bool = False
    """True where a key stolen later does not open what was recorded today."""

    authentication: str = ""
    """What the server's identity is proved with: "RSA", "ECDSA"."""

    encryption: str = ""
    """"AES-256-GCM"; "none" for a suite that does not encrypt."""

    encryption_key_length: int = 0
    """Length of the cipher's key in bits."""

    encryption_strength: int = 0
    """The bits that count against an attack: 112 for 3DES, whose key has 168."""

    integrity: str = ""
    """"AEAD (128-bit tag)", "HMAC-SHA1", ..."""

    peer_verified: bool = False
    """True where the peer has shown a certificate, the settings have its chain verified, and it was found
    good; False also where `on_verify` has let the peer in all the same."""

    overruled: str = ""
    """Why the peer would have been refused, had `on_verify` not let it in; empty where it has not."""

    peer_name: str = ""
    """The name that the peer's certificate was checked for; empty where none was."""

    own_certificate: CertificateInfo | None = None
    """Our certificate; a server decides whether it wants to see its client's."""

    peer_certificate: CertificateInfo | None = None
    """The peer's certificate, None where it has shown none."""

    profiles_met: tuple[Verdict, ...] = ()
    """The TLS profiles of PS3.15 Annex B that the link meets."""

    profiles_missed: tuple[Verdict, ...] = ()
    """The others, each with its reasons."""

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data, fit for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        if not self.secure:
            return "no secure link"
        group = f"group {self.group or 'not told by OpenSSL'}" if self.key_exchange.endswith("DHE") else ""
        exchange = (self.key_exchange, group, "" if self.forward_secrecy else "no forward secrecy")
        encryption = (self.encryption, f"key of {self.encryption_key_length} bits")
        rows = [
            ("version", self.version),
            ("cipher suite", f"{self.suite} (OpenSSL: {self.openssl_name})"),
            ("key exchange", ", ".join(filter(None, exchange))),
            ("authentication", self.authentication),
            ("encryption", ", ".join(encryption[: 2 if self.encryption_key_length else 1])),
            ("integrity", self.integrity),
            ("own certificate", _certificate_text(self.own_certificate)),
            ("peer certificate", _certificate_text(self.peer_certificate)),
            ("peer verified", self._verification_text()),
            *(("profile met", _verdict_text(verdict)) for verdict in self.profiles_met),
            *(("profile missed", _verdict_text(verdict)) for verdict in self.profiles_missed),
        ]
        return "\n".join(f"{label + ':':<18}{text}" for label, text in rows)

    def _verification_text(self) -> str:
        if self.peer_certificate is None:
            return "no, it has shown no certificate"
        if self.overruled:
            return f"no: on_verify let it in although {self.overruled}"
        if not self.peer_verified:
            return "no, verification is switched off"
        return f"chain and name {self.peer_name}" if self.peer_name else "chain, no name"


def _certificate_text(certificate: CertificateInfo | None) -> str:
    if certificate is None:
        return "none"
    return (
        f"{certificate.subject}, issued by {certificate.issuer}, expires {certificate.not_after}, "
        f"{certificate.key_type} {certificate.key_bits} bits"
    )


def _verdict_text(verdict: Verdict) -> str:
    status = "" if verdict.current else " (retired)"
    remarks = f" (discouraged: {', '.join(verdict.remarks)})" if verdict.met and verdict.remarks else ""
    reasons = f": {'; '.join(verdict.reasons)}" if verdict.reasons else ""
    return f"PS3.15 {verdict.section} {verdict.title}{status}{remarks}{reasons}"


# --- from a live stream --------------------------------------------------------------------------


def suite_of(stream: TlsStream | None) -> Suite | None:
    """Return the negotiated suite; None without TLS and before the handshake has ended."""
    name = stream.cipher_name if stream is not None else ""
    return by_openssl_name(name) if name else None


def exchange_of(suite: Suite, stream: TlsStream) -> Exchange:
    """Return the key exchange of a live link, which in TLS 1.3 the group tells and not the suite."""
    if suite.exchange is not Exchange.ANY or not stream.group:
        return suite.exchange
    if not stream.group.lower().startswith("ffdhe"):
        return Exchange.ECDHE
    return Exchange.RSA_SIGNED_DHE if authentication_of(suite, stream) is Authentication.RSA else Exchange.ANY


def authentication_of(suite: Suite, stream: TlsStream) -> Authentication:
    """Return what proves the server's identity, which in TLS 1.3 its certificate's key tells."""
    certificate = stream.own_certificate if stream.server_side else stream.peer_certificate
    if suite.authentication is not Authentication.ANY or certificate is None:
        return suite.authentication
    return _AUTHENTICATION.get(describe(certificate).key_type, Authentication.ANY)


def inspect_link(stream: TlsStream | None, settings: TlsSettings | None) -> LinkSecurity:
    """Describe a link from its stream and the settings that it was made with."""
    suite = suite_of(stream)
    if stream is None or suite is None:
        return LinkSecurity()
    own, peer = (
        describe(certificate) if certificate is not None else None
        for certificate in (stream.own_certificate, stream.peer_certificate)
    )
    verified = settings is not None and bool(settings.verify) and peer is not None and not stream.overruled
    met, missed = profiles_met(stream.version, suite, stream.group, own, peer, verified=verified)
    exchange = exchange_of(suite, stream)
    ffdhe = (stream.group or "").lower().startswith("ffdhe")
    return LinkSecurity(
        secure=True,
        version=version_name(stream.version),
        suite=suite.iana_name,
        suite_code=suite.code,
        openssl_name=suite.openssl_name,
        key_exchange="DHE" if ffdhe else _EXCHANGE_TEXTS.get(exchange, exchange.name),
        group=stream.group or "",
        group_bits=group_bits(stream.group),
        forward_secrecy=suite.forward_secrecy,
        authentication=authentication_of(suite, stream).name,
        encryption=suite.encryption_text,
        encryption_key_length=suite.key_bits,
        encryption_strength=suite.strength_bits,
        integrity=suite.integrity_text,
        peer_verified=verified,
        overruled=stream.overruled,
        peer_name=settings.name_to_check if settings is not None else "",
        own_certificate=own,
        peer_certificate=peer,
        profiles_met=met,
        profiles_missed=missed,
    )
