"""One TLS cipher suite: what it consists of, and what follows from that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dicomnet.enums import DicomTlsAuthenticationMethodType as Authentication
from dicomnet.enums import DicomTlsEncryptionMethodType as Encryption
from dicomnet.enums import DicomTlsExchangeMethodType as Exchange
from dicomnet.enums import DicomTlsMacMethodType as Mac

if TYPE_CHECKING:
    from dicomnet.enums import DicomTlsCipherSuiteType

__all__ = ["SSL_3_0", "TLS_1_0", "TLS_1_1", "TLS_1_2", "TLS_1_3", "Suite", "version_name"]

SSL_3_0, TLS_1_0, TLS_1_1, TLS_1_2, TLS_1_3 = 0x0300, 0x0301, 0x0302, 0x0303, 0x0304

_VERSION_NAMES = {
    SSL_3_0: "SSL 3.0",
    TLS_1_0: "TLS 1.0",
    TLS_1_1: "TLS 1.1",
    TLS_1_2: "TLS 1.2",
    TLS_1_3: "TLS 1.3",
}


def version_name(version: int) -> str:
    """Return "TLS 1.2" for 0x0303; an unknown number comes back as its hexadecimal digits."""
    return _VERSION_NAMES.get(version, f"0x{version:04X}")


_EPHEMERAL = frozenset(
    {
        Exchange.ANY,
        Exchange.RSA_SIGNED_DHE,
        Exchange.DHE_DSS,
        Exchange.DH_ANON,
        Exchange.ECDHE,
        Exchange.ECDH_ANON,
        Exchange.DHE_PSK,
        Exchange.ECDHE_PSK,
        Exchange.SRP,
        Exchange.ECCPWD,
    },
)
_FINITE_FIELD_DHE = frozenset({Exchange.RSA_SIGNED_DHE, Exchange.DHE_DSS, Exchange.DH_ANON, Exchange.DHE_PSK})
_SHARED_SECRET = frozenset(
    {Authentication.PSK, Authentication.KRB5, Authentication.SRP, Authentication.ECCPWD}
)
_LENGTH_VARIES = frozenset(
    {Encryption.AES, Encryption.CAMELLIA, Encryption.ARIA, Encryption.RC4, Encryption.RC2}
)
_MAC_TEXTS = {
    Mac.NONE: "none",
    Mac.MD5: "HMAC-MD5",
    Mac.SHA1: "HMAC-SHA1",
    Mac.SHA256: "HMAC-SHA256",
    Mac.SHA384: "HMAC-SHA384",
}


@dataclass(frozen=True)
class Suite:
    """One registered cipher suite and what it consists of."""

    code: int
    """IANA code point, the two bytes big-endian (0xC02F)."""

    iana_name: str
    """Registered name, with `TLS_`."""

    openssl_name: str
    """OpenSSL's name, of whichever version has the suite; empty where none ever had."""

    exchange: Exchange
    """How the keys are agreed on; ANY in TLS 1.3, where the negotiated group decides."""

    authentication: Authentication
    """What proves the server's identity; ANY in TLS 1.3, where the certificate's key decides."""

    encryption: Encryption
    """The cipher."""

    mode: str
    """"CBC", "GCM", "CCM", "CCM_8", "POLY1305", ...; "" for RC4 and for no encryption."""

    key_bits: int
    """Length of the cipher's key as specified: 3DES 168, DES 56, none 0."""

    strength_bits: int
    """The key length that counts against an attack: 112 for 3DES, otherwise `key_bits`."""

    integrity: Mac
    """The HMAC, or AEAD where the cipher itself protects the integrity."""

    tag_bits: int
    """Length of the HMAC's value or of the AEAD tag."""

    prf: str
    """Hash of the key derivation in TLS 1.2 and 1.3 ("SHA256", "SHA384", ...)."""

    min_version: int
    """Lowest protocol version that may use the suite (0x0303 = TLS 1.2)."""

    max_version: int
    """Highest protocol version that may use it."""

    export: bool
    """True for the deliberately weak suites of the 1990s."""

    leadtools: DicomTlsCipherSuiteType
    """The enumeration's member for it."""

    @property
    def anonymous(self) -> bool:
        """True where neither end proves its identity."""
        return self.authentication is Authentication.NONE

    @property
    def needs_shared_secret(self) -> bool:
        """True where the ends must share a secret (PSK, SRP, Kerberos, passwords) besides certificates."""
        return self.authentication in _SHARED_SECRET or self.exchange is Exchange.SRP

    @property
    def forward_secrecy(self) -> bool:
        """True where a key stolen later does not open what was recorded today."""
        return self.exchange in _EPHEMERAL

    @property
    def finite_field_dhe(self) -> bool:
        """True where the server chooses a Diffie-Hellman group, of whatever length."""
        return self.exchange in _FINITE_FIELD_DHE

    @property
    def security_level(self) -> int:
        """OpenSSL's security level under which the suite works: 2, or 0 for the weak ones."""
        return 2 if self.strength_bits >= 112 and self.tag_bits > 64 and not self.anonymous else 0

    @property
    def encryption_text(self) -> str:
        """The cipher as a person reads it: "AES-256-GCM"; "none" without encryption."""
        if self.encryption is Encryption.NONE:
            return "none"
        cipher = "3DES" if self.encryption is Encryption.THREE_DES else self.encryption.name
        length = str(self.key_bits) if self.encryption in _LENGTH_VARIES else ""
        return "-".join(part for part in (cipher, length, self.mode.replace("_", "-")) if part)

    @property
    def integrity_text(self) -> str:
        """What protects the integrity, as a person reads it."""
        if self.integrity is Mac.AEAD:
            return f"AEAD ({self.tag_bits}-bit tag)"
        return _MAC_TEXTS.get(self.integrity, self.integrity.name)

    def __str__(self) -> str:
        return self.iana_name
