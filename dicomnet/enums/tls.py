"""Choices and findings of the secure link.

The algorithm enumerations go beyond LEADTOOLS', which know neither elliptic curves, SHA-2, authenticated
encryption nor TLS 1.3. The numbers added begin at 0x1000, so that they never meet LEADTOOLS' own. The mode
of a cipher (CBC, GCM, ...) is not part of `DicomTlsEncryptionMethodType`.
"""

from __future__ import annotations

from enum import IntFlag

from dicomnet.enums.base import NamedIntEnum

__all__ = [
    "DicomOpenSslOptionsFlags",
    "DicomOpenSslVerificationFlags",
    "DicomSslMethodType",
    "DicomTlsAuthenticationMethodType",
    "DicomTlsCertificateType",
    "DicomTlsEncryptionMethodType",
    "DicomTlsExchangeMethodType",
    "DicomTlsMacMethodType",
]


class DicomTlsEncryptionMethodType(NamedIntEnum):
    """The cipher of a suite, without key length and mode."""

    NONE = 0
    DES = 1
    THREE_DES = 2
    RC4 = 3
    RC2 = 4
    IDEA = 5
    FORTEZZA = 6
    AES = 7
    CAMELLIA = 0x1000
    ARIA = 0x1001
    SEED = 0x1002
    CHACHA20 = 0x1003
    SM4 = 0x1004
    GOST28147 = 0x1005
    MAGMA = 0x1006
    KUZNYECHIK = 0x1007


class DicomTlsMacMethodType(NamedIntEnum):
    """What protects the integrity of the records."""

    NONE = 0
    SHA1 = 0x10
    MD5 = 0x11
    AEAD = 0x1000
    """The cipher's own tag (GCM, CCM, Poly1305, MGM); there is no HMAC."""
    SHA256 = 0x1001
    SHA384 = 0x1002
    OMAC = 0x1003
    IMIT = 0x1004


class DicomTlsAuthenticationMethodType(NamedIntEnum):
    """What proves the identity of the server; NONE is an anonymous suite."""

    NONE = 0
    RSA = 0x20
    DSS = 0x21
    DH = 0x22
    ANY = 0x1000
    """TLS 1.3: not part of the suite, the certificate's key decides."""
    ECDSA = 0x1001
    PSK = 0x1002
    KRB5 = 0x1003
    SRP = 0x1004
    ECCPWD = 0x1005
    GOST = 0x1006


class DicomTlsExchangeMethodType(NamedIntEnum):
    """How the two ends agree on a key. DHE and ECDHE have forward secrecy."""

    NONE = 0
    RSA_SIGNED_DHE = 0x40
    """DHE with an RSA certificate."""
    RSA = 0x41
    """Key transport."""
    DH = 0x42
    """Static DH with an RSA-signed certificate."""
    DSS = 0x43
    """Static DH with a DSS-signed certificate."""
    FORTEZZA = 0x44
    ANY = 0x1000
    """TLS 1.3: not part of the suite, the negotiated group decides."""
    ECDHE = 0x1001
    ECDH = 0x1002
    """Static ECDH."""
    DHE_DSS = 0x1003
    DH_ANON = 0x1004
    ECDH_ANON = 0x1005
    PSK = 0x1006
    DHE_PSK = 0x1007
    ECDHE_PSK = 0x1008
    RSA_PSK = 0x1009
    KRB5 = 0x100A
    SRP = 0x100B
    ECCPWD = 0x100C
    GOST = 0x100D


class DicomSslMethodType(NamedIntEnum):
    """OpenSSL method (LEADTOOLS); accepted for ported code, and never lowers the floor of TLS 1.2."""

    SSL_V2 = 1
    SSL_V3 = 2
    TLS_V1 = 3
    SSL_V23 = 4
    TLS = 5


class DicomTlsCertificateType(NamedIntEnum):
    """File format of a certificate and its key."""

    PEM = 1
    ASN1 = 2
    """DER."""


class DicomOpenSslVerificationFlags(IntFlag):
    """How the peer's certificate is verified, with the meaning of OpenSSL's SSL_VERIFY_* flags."""

    NONE = 0
    PEER = 1
    """Client: the server's chain must verify. Server: ask for a certificate, verify it if one is shown."""
    FAIL_IF_NO_PEER_CERTIFICATE = 2
    """Server, with PEER: a client that shows no certificate is refused."""
    CLIENT_ONCE = 4
    """Server, with PEER: ask in the first handshake only."""
    ALL = 7


class DicomOpenSslOptionsFlags(IntFlag):
    """OpenSSL options under LEADTOOLS' numbers, which are not those of today's OpenSSL: mapped by name."""

    NONE = 0
    NO_COMPRESSION = 0x00020000
    NO_SSL_V2 = 0x01000000
    NO_SSL_V3 = 0x02000000
    NO_TLS_V1 = 0x04000000
    NO_TLS_V12 = 0x08000000
    NO_TLS_V11 = 0x10000000
    ALL_BUG_WORKAROUNDS = 0x80000BFF
