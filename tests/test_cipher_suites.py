"""Every registered suite decodes, and the parts agree with CryptoDataHub and with the linked OpenSSL."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from cryptodatahub.tls.algorithm import TlsCipherSuite
from OpenSSL import SSL

from dicomnet.enums import DicomExceptionCode, DicomTlsCipherSuiteType
from dicomnet.enums import DicomTlsAuthenticationMethodType as Authentication
from dicomnet.enums import DicomTlsEncryptionMethodType as Encryption
from dicomnet.enums import DicomTlsExchangeMethodType as Exchange
from dicomnet.enums import DicomTlsMacMethodType as Mac
from dicomnet.errors import TlsConfigurationError
from dicomnet.tls.cipher_suites import (
    SUITES,
    TLS_1_2,
    TLS_1_3,
    Suite,
    by_iana_name,
    by_openssl_name,
    by_type,
    version_name,
)

if TYPE_CHECKING:
    from authority import Authority, Identity

# The registry's assigned ranges, without the two AEGIS drafts.
REGISTERED = {
    code
    for first, last in (
        (0x0000, 0x001B),
        (0x001E, 0x0046),
        (0x0067, 0x006D),
        (0x0084, 0x00C7),
        (0x00FF, 0x00FF),
        (0x1301, 0x1305),
        (0x5600, 0x5600),
        (0xC001, 0xC0B5),
        (0xC100, 0xC106),
        (0xCCA8, 0xCCAE),
        (0xD001, 0xD003),
        (0xD005, 0xD005),
    )
    for code in range(first, last + 1)
}

SIGNALS = {0x00FF, 0x5600}


def test_every_registered_suite_is_in_the_table():
    assert len(REGISTERED) == 350
    assert set(SUITES) == REGISTERED
    assert all(suite.code == code for code, suite in SUITES.items())


@pytest.mark.parametrize("code", sorted(REGISTERED), ids="{:04X}".format)
def test_parts_are_consistent_and_found_again_by_every_name(code: int):
    suite = SUITES[code]
    assert by_iana_name(suite.iana_name) is suite
    assert by_type(suite.leadtools) is suite
    assert by_type(int(suite.leadtools)) is suite
    if suite.openssl_name:
        assert by_openssl_name(suite.openssl_name) is suite
    assert suite.strength_bits <= suite.key_bits
    assert (suite.key_bits == 0) == (suite.encryption is Encryption.NONE)
    assert (suite.tag_bits == 0) == (suite.integrity is Mac.NONE)
    assert suite.min_version <= suite.max_version
    assert (suite.exchange is Exchange.ANY) == (suite.min_version == TLS_1_3)
    assert (suite.exchange is Exchange.ANY) == (suite.authentication is Authentication.ANY)
    if suite.integrity is Mac.AEAD:
        assert suite.min_version >= TLS_1_2
    assert suite.encryption_text
    assert suite.integrity_text


# --- against CryptoDataHub -----------------------------------------------------------------------

OTHERS = {member.value.code: member.value for member in TlsCipherSuite}

# Wrong in CryptoDataHub 1.6: ARIA in CBC mode marked as AEAD, CCM not marked as AEAD.
KNOWN_ERRORS = {
    "TLS_ECDHE_PSK_WITH_ARIA_128_CBC_SHA256": True,
    "TLS_ECDHE_PSK_WITH_ARIA_256_CBC_SHA384": True,
    "TLS_ECDHE_PSK_WITH_AES_128_CCM_8_SHA256": False,
    "TLS_ECDHE_PSK_WITH_AES_128_CCM_SHA256": False,
}

# Not in CryptoDataHub: the signals, ECCPWD, and TLS 1.3 without encryption.
MISSING = SIGNALS | {0xC0B0, 0xC0B1, 0xC0B2, 0xC0B3, 0xC0B4, 0xC0B5}

# The same key exchange in its words; it leaves the authentication out.
EXCHANGES = {
    Exchange.ANY: None,
    Exchange.NONE: "NULL",
    Exchange.DSS: "DH",
    Exchange.DHE_DSS: "DHE",
    Exchange.RSA_SIGNED_DHE: "DHE",
    Exchange.DHE_PSK: "DHE",
    Exchange.DH_ANON: "ADH",
    Exchange.ECDH_ANON: "AECDH",
    Exchange.ECDHE_PSK: "ECDHE",
    Exchange.RSA_PSK: "RSA",
    Exchange.GOST: "GOST_R3411_12_256",
}
AUTHENTICATIONS = {
    Authentication.ANY: None,
    Authentication.NONE: "ANONYMOUS",
    Authentication.GOST: "GOST_R3410_12_256",
}
CIPHERS = {
    Encryption.NONE: None,
    Encryption.THREE_DES: "TRIPLE_DES_EDE",
    Encryption.GOST28147: "GOST2814789",
    Encryption.MAGMA: "GOST_R3412_15_64",
    Encryption.KUZNYECHIK: "GOST_R3412_15_128",
}
MODES = {"": None, "POLY1305": None, "CTR": "EAX"}
MACS = {Mac.SHA256: "SHA2_256", Mac.SHA384: "SHA2_384", Mac.NONE: None, Mac.IMIT: "IMIT_GOST28147"}

# It names these two as other sources do, and the registry does not.
IANA_SPELLINGS = {
    "TLS_PSK_DHE_WITH_AES_128_CCM_8": "TLS_DHE_PSK_WITH_AES_128_CCM_8",
    "TLS_PSK_DHE_WITH_AES_256_CCM_8": "TLS_DHE_PSK_WITH_AES_256_CCM_8",
}
# OpenSSL forks' names, and none for the two of OpenSSL 3 and later.
OPENSSL_SPELLINGS = {
    "TLS_SM4_GCM_SM3": "TLS13-SM4-GCM-SM3",
    "TLS_SM4_CCM_SM3": "TLS13-SM4-CCM-SM3",
    "GOST2012-KUZNYECHIK-KUZNYECHIKOMAC": None,
    "GOST2012-MAGMA-MAGMAOMAC": None,
    "IANA-GOST2012-GOST8912-GOST8912": "GOST2012-GOST8912-GOST8912",
}


def named(member: object) -> str | None:
    return getattr(member, "name", None)


def cipher_words(suite: Suite) -> str | None:
    name = CIPHERS.get(suite.encryption, suite.encryption.name)
    if suite.encryption in {Encryption.AES, Encryption.ARIA, Encryption.CAMELLIA, Encryption.RC4}:
        return f"{name}_{suite.key_bits}"
    return {40: {"DES": "DES40", "RC2": "RC2_40"}}.get(suite.key_bits, {}).get(str(name), name)


def test_the_rows_that_cryptodatahub_lacks_are_known():
    assert {code for code in SUITES if code not in OTHERS} == MISSING


@pytest.mark.parametrize("code", sorted(REGISTERED - MISSING), ids="{:04X}".format)
def test_decomposition_agrees_with_cryptodatahub(code: int):
    suite, other = SUITES[code], OTHERS[code]
    russian_tls13 = suite.mode == "MGM"  # RFC 9367: exchange and signature stand in the name all the same
    if not russian_tls13:
        assert named(other.key_exchange) == EXCHANGES.get(suite.exchange, suite.exchange.name)
        assert named(other.authentication) == AUTHENTICATIONS.get(
            suite.authentication, suite.authentication.name
        )
    assert named(other.bulk_cipher) == cipher_words(suite)
    assert named(other.block_cipher_mode) == MODES.get(suite.mode, suite.mode)
    assert other.export_grade == suite.export
    assert other.iana_name == IANA_SPELLINGS.get(suite.iana_name, suite.iana_name)
    assert other.openssl_name == (OPENSSL_SPELLINGS.get(suite.openssl_name, suite.openssl_name) or None)
    aead = suite.integrity is Mac.AEAD
    assert other.authenticated_encryption == KNOWN_ERRORS.get(suite.iana_name, aead)
    if suite.integrity is Mac.OMAC:
        assert named(other.mac) == f"GOST_R3412_15_{suite.encryption.name}_CTR_OMAC"
    elif not aead:
        assert named(other.mac) == MACS.get(suite.integrity, suite.integrity.name)
    elif named(other.mac) not in {None, "POLY1305"}:  # there it is the hash of the key derivation
        assert named(other.mac) == {"SHA256": "SHA2_256", "SHA384": "SHA2_384"}[suite.prf]


def test_the_four_known_errors_are_still_there():
    for name, wrong in KNOWN_ERRORS.items():
        suite = by_iana_name(name)
        assert suite is not None
        assert OTHERS[suite.code].authenticated_encryption is wrong
        assert (suite.integrity is Mac.AEAD) is not wrong


# --- against the linked OpenSSL ------------------------------------------------------------------

# Older drafts of the Russian suites at private code points; never registered.
UNREGISTERED = {
    "GOST2001-GOST89-GOST89",
    "GOST2001-NULL-GOST94",
    "GOST2012-NULL-GOST12",
    "LEGACY-GOST2012-GOST8912-GOST8912",
}


def library_names() -> list[str]:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_cipher_list(b"ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    return SSL.Connection(context).get_cipher_list()


def test_every_suite_of_the_library_is_known_by_its_name():
    names = library_names()
    assert len(names) > 100
    assert [name for name in names if by_openssl_name(name) is None and name not in UNREGISTERED] == []


def test_code_points_and_lowest_versions_agree_with_the_library():
    private = pytest.importorskip("OpenSSL._util")
    lib, ffi = private.lib, private.ffi
    if not hasattr(lib, "SSL_CIPHER_find") or not hasattr(lib, "SSL_CIPHER_get_version"):
        pytest.skip("this cryptography does not bind SSL_CIPHER_find")
    connection = SSL.Connection(SSL.Context(SSL.TLS_METHOD))
    versions = {"SSLv3": 0x300, "TLSv1.0": 0x301, "TLSv1.2": TLS_1_2, "TLSv1.3": TLS_1_3}
    seen = 0
    for code, suite in SUITES.items():
        cipher = lib.SSL_CIPHER_find(connection._ssl, code.to_bytes(2, "big"))
        if cipher == ffi.NULL or code in SIGNALS:
            continue
        seen += 1
        assert ffi.string(lib.SSL_CIPHER_get_name(cipher)).decode() == suite.openssl_name
        if suite.authentication is not Authentication.GOST:  # OpenSSL allows RFC 9189's before TLS 1.2
            version = ffi.string(lib.SSL_CIPHER_get_version(cipher)).decode()
            assert versions[version] == suite.min_version, suite.iana_name
    assert seen > 100


def context_for(suite: Suite, identity: Identity | None, level: int) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(TLS_1_2)
    context.set_max_proto_version(min(suite.max_version, TLS_1_3))
    name = suite.openssl_name.encode()
    if suite.max_version == TLS_1_3:
        context.set_cipher_list(f"DEFAULT:@SECLEVEL={level}".encode())
        context.set_tls13_ciphersuites(name)
    else:
        context.set_cipher_list(name + f":@SECLEVEL={level}".encode())
        context.set_tls13_ciphersuites(b"")
    if identity is not None:
        context.use_certificate(identity.certificate)
        context.use_privatekey(identity.key)
    return context


def negotiate(suite: Suite, identity: Identity, level: int = 0) -> SSL.Connection | None:
    """Make a handshake in memory with that suite only; None where it fails."""
    server = SSL.Connection(context_for(suite, identity, level))
    client = SSL.Connection(context_for(suite, None, level))
    server.set_accept_state()
    client.set_connect_state()
    for _ in range(8):
        done = 0
        for end, other in ((client, server), (server, client)):
            try:
                end.do_handshake()
                done += 1
            except SSL.WantReadError:
                pass
            except SSL.Error:
                return None
            with contextlib.suppress(SSL.WantReadError):
                other.bio_write(end.bio_read(65536))
        if done == 2:
            return client
    return None


LIVE = [
    suite
    for suite in SUITES.values()
    if suite.authentication in {Authentication.RSA, Authentication.ECDSA, Authentication.ANY}
    and suite.exchange is not Exchange.SRP
    and suite.max_version >= TLS_1_2
    and suite.openssl_name in {*library_names(), "TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256"}
]


@pytest.fixture(scope="module")
def identities(authority: Authority) -> dict[Authentication, Identity]:
    return {
        Authentication.RSA: authority.issue("rsa", dns=("localhost",)),
        Authentication.ECDSA: authority.issue("ec", dns=("localhost",), key="ec"),
    }


@pytest.mark.parametrize("suite", LIVE, ids=str)
def test_a_real_handshake_agrees_with_the_parts(suite: Suite, identities: dict[Authentication, Identity]):
    with_key = {Authentication.ANY: Authentication.RSA}.get(suite.authentication, suite.authentication)
    connection = negotiate(suite, identities[with_key])
    assert connection is not None
    assert connection.get_cipher_name() == suite.openssl_name
    assert suite.min_version <= connection.get_protocol_version() <= suite.max_version
    # OpenSSL tells the strength, and counts the short tag of CCM_8 as strength.
    assert connection.get_cipher_bits() == (64 if suite.mode == "CCM_8" else suite.strength_bits)
    if suite.authentication is not Authentication.ANY:
        other = Authentication.ECDSA if with_key is Authentication.RSA else Authentication.RSA
        assert negotiate(suite, identities[other]) is None
    at_level_2 = negotiate(suite, identities[with_key], level=2)
    assert (at_level_2 is not None) == (suite.security_level == 2)


def test_the_handshakes_cover_every_kind_of_suite():
    assert {suite.authentication for suite in LIVE} == {
        Authentication.RSA,
        Authentication.ECDSA,
        Authentication.ANY,
    }
    assert {suite.mode for suite in LIVE} >= {"", "CBC", "GCM", "CCM", "CCM_8", "POLY1305"}
    assert {suite.exchange for suite in LIVE} >= {Exchange.RSA, Exchange.RSA_SIGNED_DHE, Exchange.ECDHE}


# --- LEADTOOLS -----------------------------------------------------------------------------------

T = DicomTlsCipherSuiteType
# number, code point, exchange, cipher, key length, integrity: from the suites' definitions
LEADTOOLS = [
    (0x12, 0x0015, Exchange.RSA_SIGNED_DHE, Encryption.DES, 56, Mac.SHA1),
    (0x13, 0x0016, Exchange.RSA_SIGNED_DHE, Encryption.THREE_DES, 168, Mac.SHA1),
    (0x14, 0x0039, Exchange.RSA_SIGNED_DHE, Encryption.AES, 256, Mac.SHA1),
    (0x15, 0x002F, Exchange.RSA, Encryption.AES, 128, Mac.SHA1),
    (0x16, 0x000A, Exchange.RSA, Encryption.THREE_DES, 168, Mac.SHA1),
    (0x17, 0x009E, Exchange.RSA_SIGNED_DHE, Encryption.AES, 128, Mac.AEAD),
    (0x18, 0xC02F, Exchange.ECDHE, Encryption.AES, 128, Mac.AEAD),
    (0x19, 0x009F, Exchange.RSA_SIGNED_DHE, Encryption.AES, 256, Mac.AEAD),
    (0x1A, 0xC030, Exchange.ECDHE, Encryption.AES, 256, Mac.AEAD),
]


@pytest.mark.parametrize(("number", "code", "exchange", "encryption", "bits", "mac"), LEADTOOLS)
def test_leadtools_numbers_are_its_own(number, code, exchange, encryption, bits, mac):
    suite = by_type(number)
    assert suite.code == code
    assert suite.leadtools == number
    assert suite.authentication is Authentication.RSA
    assert (suite.exchange, suite.encryption, suite.key_bits, suite.integrity) == (
        exchange,
        encryption,
        bits,
        mac,
    )


def test_3des_counts_as_112_bits_of_strength():
    assert by_type(T.RSA_WITH_3DES_EDE_CBC_SHA).strength_bits == 112


@pytest.mark.parametrize("number", [0, 1, 0x11, 0x1B, 0x1_FFFF, -1])
def test_a_number_that_is_no_suite_is_refused(number: int):
    with pytest.raises(TlsConfigurationError) as caught:
        by_type(number)
    assert caught.value.code is DicomExceptionCode.PARAMETER


def test_an_iana_code_given_as_the_number_is_explained():
    with pytest.raises(TlsConfigurationError, match="AES_256_GCM_SHA384"):
        by_type(0x1302)


def test_names_of_java_and_unknown_names():
    assert by_iana_name("SSL_RSA_WITH_3DES_EDE_CBC_SHA") is SUITES[0x000A]
    assert by_iana_name("TLS_NO_SUCH_SUITE") is None
    assert by_openssl_name("") is None


@pytest.mark.parametrize(
    ("code", "encryption", "integrity"),
    [
        (0x1302, "AES-256-GCM", "AEAD (128-bit tag)"),
        (0xC0AE, "AES-128-CCM-8", "AEAD (64-bit tag)"),
        (0xCCA8, "CHACHA20-POLY1305", "AEAD (128-bit tag)"),
        (0x000A, "3DES-CBC", "HMAC-SHA1"),
        (0x0004, "RC4-128", "HMAC-MD5"),
        (0x003B, "none", "HMAC-SHA256"),
        (0x0000, "none", "none"),
    ],
)
def test_words_for_a_person(code: int, encryption: str, integrity: str):
    assert SUITES[code].encryption_text == encryption
    assert SUITES[code].integrity_text == integrity


def test_version_names():
    assert version_name(0x0303) == "TLS 1.2"
    assert version_name(0x0305) == "0x0305"
