"""All registered TLS cipher suites, taken apart by the rules that their names follow.

A name of TLS 1.2 and earlier is `TLS_<exchange and authentication>[_EXPORT]_WITH_<cipher>[_<mode>][_<hash>]`;
a TLS 1.3 name is the part after `WITH` alone, because key exchange and authentication are negotiated apart
from the suite. With an AEAD mode the hash at the end is only that of the key derivation: the integrity
comes from the cipher's tag. OpenSSL's own names follow from the registered ones by further rules.

The suites and their code points are the members of `DicomTlsCipherSuiteType`: its numbers above 0x10000 are
0x10000 + code point. LEADTOOLS' nine have numbers of its own; `_LEADTOOLS_CODES` has their code points.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING

from dicomnet.enums import DicomExceptionCode, DicomTlsCipherSuiteType
from dicomnet.enums import DicomTlsAuthenticationMethodType as Authentication
from dicomnet.enums import DicomTlsEncryptionMethodType as Encryption
from dicomnet.enums import DicomTlsExchangeMethodType as Exchange
from dicomnet.enums import DicomTlsMacMethodType as Mac
from dicomnet.errors import TlsConfigurationError
from dicomnet.tls.suite import SSL_3_0, TLS_1_0, TLS_1_1, TLS_1_2, TLS_1_3, Suite, version_name
from dicomnet.tls.suite_names import openssl_name, registered_names

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "SSL_3_0",
    "SUITES",
    "TLS_1_0",
    "TLS_1_1",
    "TLS_1_2",
    "TLS_1_3",
    "Suite",
    "by_iana_name",
    "by_openssl_name",
    "by_type",
    "version_name",
]

IANA_OFFSET = 0x10000

_LEADTOOLS_CODES = {
    DicomTlsCipherSuiteType.DHE_RSA_WITH_DES_CBC_SHA: 0x0015,
    DicomTlsCipherSuiteType.DHE_RSA_WITH_3DES_EDE_CBC_SHA: 0x0016,
    DicomTlsCipherSuiteType.DHE_RSA_AES256_SHA: 0x0039,
    DicomTlsCipherSuiteType.RSA_WITH_AES128_CBC_SHA: 0x002F,
    DicomTlsCipherSuiteType.RSA_WITH_3DES_EDE_CBC_SHA: 0x000A,
    DicomTlsCipherSuiteType.DHE_RSA_WITH_AES128_GCM_SHA256: 0x009E,
    DicomTlsCipherSuiteType.ECDHE_RSA_WITH_AES128_GCM_SHA256: 0xC02F,
    DicomTlsCipherSuiteType.DHE_RSA_WITH_AES256_GCM_SHA384: 0x009F,
    DicomTlsCipherSuiteType.ECDHE_RSA_WITH_AES256_GCM_SHA384: 0xC030,
}

# The part before _WITH_. Static (EC)DH authenticates by the algorithm that signed the certificate.
_HANDSHAKES = {
    "": (Exchange.ANY, Authentication.ANY),
    "NULL": (Exchange.NONE, Authentication.NONE),
    "RSA": (Exchange.RSA, Authentication.RSA),
    "DH_RSA": (Exchange.DH, Authentication.RSA),
    "DH_DSS": (Exchange.DSS, Authentication.DSS),
    "DHE_RSA": (Exchange.RSA_SIGNED_DHE, Authentication.RSA),
    "DHE_DSS": (Exchange.DHE_DSS, Authentication.DSS),
    "DH_anon": (Exchange.DH_ANON, Authentication.NONE),
    "ECDH_RSA": (Exchange.ECDH, Authentication.RSA),
    "ECDH_ECDSA": (Exchange.ECDH, Authentication.ECDSA),
    "ECDHE_RSA": (Exchange.ECDHE, Authentication.RSA),
    "ECDHE_ECDSA": (Exchange.ECDHE, Authentication.ECDSA),
    "ECDH_anon": (Exchange.ECDH_ANON, Authentication.NONE),
    "PSK": (Exchange.PSK, Authentication.PSK),
    "DHE_PSK": (Exchange.DHE_PSK, Authentication.PSK),
    "PSK_DHE": (Exchange.DHE_PSK, Authentication.PSK),  # C0AA and C0AB are registered in this spelling
    "ECDHE_PSK": (Exchange.ECDHE_PSK, Authentication.PSK),
    "RSA_PSK": (Exchange.RSA_PSK, Authentication.PSK),
    "KRB5": (Exchange.KRB5, Authentication.KRB5),
    "SRP_SHA": (Exchange.SRP, Authentication.SRP),
    "SRP_SHA_RSA": (Exchange.SRP, Authentication.RSA),
    "SRP_SHA_DSS": (Exchange.SRP, Authentication.DSS),
    "ECCPWD": (Exchange.ECCPWD, Authentication.ECCPWD),
    "GOSTR341112_256": (Exchange.GOST, Authentication.GOST),
}

_CIPHER = re.compile(
    r"(?P<cipher>3DES_EDE|DES40|DES|RC2|RC4|IDEA|SEED|AES|CAMELLIA|ARIA|CHACHA20|SM4|KUZNYECHIK|MAGMA|28147|NULL)"
    r"(?:_(?P<bits>\d+))?(?:_(?P<mode>CBC|GCM|CCM_8|CCM|POLY1305|CTR|CNT|MGM))?(?:_(?P<export_bits>40))?"
    r"(?:_(?P<hash>NULL|MD5|SHA|SHA256|SHA384|SM3|OMAC|IMIT|L|S))?",
)

# Cipher and the length of its key in bits, where the name does not give it.
_CIPHERS = {
    "NULL": (Encryption.NONE, 0),
    "DES": (Encryption.DES, 56),
    "DES40": (Encryption.DES, 40),
    "3DES_EDE": (Encryption.THREE_DES, 168),
    "RC2": (Encryption.RC2, 40),
    "RC4": (Encryption.RC4, 128),
    "IDEA": (Encryption.IDEA, 128),
    "SEED": (Encryption.SEED, 128),
    "AES": (Encryption.AES, 0),
    "CAMELLIA": (Encryption.CAMELLIA, 0),
    "ARIA": (Encryption.ARIA, 0),
    "CHACHA20": (Encryption.CHACHA20, 256),
    "SM4": (Encryption.SM4, 128),
    "28147": (Encryption.GOST28147, 256),
    "MAGMA": (Encryption.MAGMA, 256),
    "KUZNYECHIK": (Encryption.KUZNYECHIK, 256),
}

# HMAC (or other MAC) of a suite without AEAD, and the bits of its value.
_MACS = {
    "NULL": (Mac.NONE, 0),
    "MD5": (Mac.MD5, 128),
    "SHA": (Mac.SHA1, 160),
    "SHA256": (Mac.SHA256, 256),
    "SHA384": (Mac.SHA384, 384),
    "OMAC": (Mac.OMAC, 128),
    "IMIT": (Mac.IMIT, 32),
}

_AEAD_BITS = {"GCM": 128, "CCM": 128, "CCM_8": 64, "POLY1305": 128, "MGM": 128}

# Names that do not say what they are made of: RFC 9150 (TLS 1.3 without encryption), and the two
# signalling values (RFC 5746, RFC 7507), which stand in the list of suites and are none.
_SPELLED_OUT = {
    "SHA256_SHA256": "NULL_SHA256",
    "SHA384_SHA384": "NULL_SHA384",
    "EMPTY_RENEGOTIATION_INFO_SCSV": "NULL_WITH_NULL_NULL",
    "FALLBACK_SCSV": "NULL_WITH_NULL_NULL",
}

_ELLIPTIC = frozenset({Exchange.ECDH, Exchange.ECDHE, Exchange.ECDH_ANON, Exchange.ECDHE_PSK})
_PRESHARED = frozenset({Exchange.PSK, Exchange.DHE_PSK, Exchange.ECDHE_PSK, Exchange.RSA_PSK})


# --- names to parts ------------------------------------------------------------------------------


def _decode(member: DicomTlsCipherSuiteType, code: int, name: str) -> Suite:
    """Take a registered name (without `TLS_`) apart."""
    left, with_, right = _SPELLED_OUT.get(name, name).rpartition("_WITH_")
    export = left.endswith("_EXPORT")
    exchange, authentication = _HANDSHAKES[left.removesuffix("_EXPORT")]
    parts = _CIPHER.fullmatch(right)
    assert parts is not None, name
    mode = parts["mode"] or ""
    if not with_ or mode == "MGM":  # RFC 9367 keeps the old form of name for TLS 1.3
        exchange, authentication = Exchange.ANY, Authentication.ANY
    encryption, named_bits = _CIPHERS[parts["cipher"]]
    key_bits = int(parts["export_bits"] or parts["bits"] or named_bits)
    integrity, tag_bits = (Mac.AEAD, _AEAD_BITS[mode]) if mode in _AEAD_BITS else _MACS[parts["hash"]]
    min_version, max_version = _versions(exchange, encryption, integrity, export=export)
    return Suite(
        code=code,
        iana_name=f"TLS_{name}",
        openssl_name=openssl_name(name),
        exchange=exchange,
        authentication=authentication,
        encryption=encryption,
        mode=mode,
        key_bits=key_bits,
        strength_bits=112 if encryption is Encryption.THREE_DES else key_bits,
        integrity=integrity,
        tag_bits=min(tag_bits, 64) if encryption is Encryption.MAGMA else tag_bits,  # its blocks have 64 bits
        prf=_prf(left, parts["hash"]),
        min_version=min_version,
        max_version=max_version,
        export=export,
        leadtools=member,
    )


def _versions(exchange: Exchange, encryption: Encryption, integrity: Mac, *, export: bool) -> tuple[int, int]:
    if exchange is Exchange.ANY:
        return TLS_1_3, TLS_1_3
    if export:
        return SSL_3_0, TLS_1_0
    if encryption in {Encryption.DES, Encryption.IDEA}:  # RFC 5469
        return SSL_3_0, TLS_1_1
    if integrity in {Mac.MD5, Mac.SHA1, Mac.NONE}:
        return (TLS_1_0 if exchange in _ELLIPTIC else SSL_3_0), TLS_1_2
    if integrity in {Mac.SHA256, Mac.SHA384} and exchange in _PRESHARED:  # RFC 5487, RFC 5489
        return TLS_1_0, TLS_1_2
    return TLS_1_2, TLS_1_2


def _prf(left: str, last: str | None) -> str:
    if left.startswith("GOST"):
        return "GOSTR341112_256"
    return last if last in {"SHA384", "SM3"} else "SHA256"


def _code(member: DicomTlsCipherSuiteType) -> int:
    return _LEADTOOLS_CODES.get(member, member - IANA_OFFSET)


# --- the table -----------------------------------------------------------------------------------


SUITES: Mapping[int, Suite] = MappingProxyType(
    dict(
        sorted(
            (_code(member), _decode(member, _code(member), name))
            for member, name in registered_names().items()
        )
    ),
)
"""Every registered suite by its IANA code point."""

_BY_TYPE: dict[int, Suite] = {suite.leadtools: suite for suite in SUITES.values()}
_BY_OPENSSL_NAME = {suite.openssl_name: suite for suite in SUITES.values() if suite.openssl_name}
_BY_IANA_NAME = {suite.iana_name: suite for suite in SUITES.values()}


def by_openssl_name(name: str) -> Suite | None:
    """Return the suite with that OpenSSL name ("ECDHE-RSA-AES256-GCM-SHA384"), or None."""
    return _BY_OPENSSL_NAME.get(name)


def by_iana_name(name: str) -> Suite | None:
    """Return the suite with that registered name, or None. Java's prefix `SSL_` means the same as `TLS_`."""
    return _BY_IANA_NAME.get(re.sub("^SSL_", "TLS_", name))


def by_type(suite: DicomTlsCipherSuiteType | int) -> Suite:
    """Return the suite for a member of the enumeration or its number.

    Raises `TlsConfigurationError` (code PARAMETER) for anything else; `NONE` is not a suite either.
    """
    found = _BY_TYPE.get(suite)
    if found is not None:
        return found
    if suite in SUITES:
        hint = f" {suite:#06x} is the IANA code of DicomTlsCipherSuiteType.{SUITES[suite].leadtools.name}."
    else:
        hint = " The members of DicomTlsCipherSuiteType are the suites there are."
    raise TlsConfigurationError(f"{suite!r} is no cipher suite.{hint}", code=DicomExceptionCode.PARAMETER)
