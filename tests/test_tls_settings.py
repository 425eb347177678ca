"""Settings of the secure link: secure defaults, LEADTOOLS' settings, and what is offered of a suite list."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from authority import Authority, pem, write
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from dicomnet.enums import (
    DicomExceptionCode,
    DicomOpenSslOptionsFlags,
    DicomOpenSslVerificationFlags,
    DicomSslMethodType,
)
from dicomnet.errors import CertificateFileError, CipherSuitesUnavailable, TlsConfigurationError
from dicomnet.tls.certificates import load_ca_certificates, load_credentials
from dicomnet.tls.cipher_suites import SUITES, TLS_1_2, TLS_1_3
from dicomnet.tls.profiles import PROFILES
from dicomnet.tls.settings import DicomOpenSslContextCreationSettings, TlsSettings

if TYPE_CHECKING:
    from pathlib import Path

PEER = DicomOpenSslVerificationFlags.PEER
FAIL = DicomOpenSslVerificationFlags.FAIL_IF_NO_PEER_CERTIFICATE
NONE = DicomOpenSslVerificationFlags.NONE

EVERYTHING = frozenset(suite.openssl_name for suite in SUITES.values())


def library() -> frozenset[str]:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_cipher_list(b"ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    tls13 = {"TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256"}
    return frozenset(SSL.Connection(context).get_cipher_list()) | tls13


@pytest.fixture
def complete(certs: Path) -> TlsSettings:
    """Settings that work for both ends."""
    return TlsSettings(
        credentials=load_credentials(certs / "server.pem", key_path=certs / "server.key"),
        ca_certificates=load_ca_certificates(certs / "ca.pem"),
    )


# --- defaults ------------------------------------------------------------------------------------


def test_the_defaults_are_secure():
    for settings in (TlsSettings(), TlsSettings.from_creation(DicomOpenSslContextCreationSettings())):
        assert settings.verify == PEER | FAIL
        assert settings.check_name
        assert (settings.min_version, settings.max_version) == (TLS_1_2, TLS_1_3)
        assert settings.profile == "B.12"
        offer = settings.offer(EVERYTHING)
        assert all(suite.forward_secrecy and suite.strength_bits >= 128 for suite in offer.suites)
        assert offer.security_level == 2
        assert (offer.min_version, offer.max_version) == (TLS_1_2, TLS_1_3)


def test_settings_that_can_work_pass_the_check(complete: TlsSettings):
    complete.check(server_side=True)
    replace(complete, credentials=None).check(server_side=False)  # a client may do without a certificate


def test_no_ca_is_an_error_that_shows_the_line(complete: TlsSettings):
    for server_side in (True, False):
        with pytest.raises(
            TlsConfigurationError, match=r"certification_authorities_file_name=\"ca.pem\""
        ) as e:
            replace(complete, ca_certificates=()).check(server_side=server_side)
        assert e.value.code is DicomExceptionCode.TLS_INVALID_CTX_CAFILE


def test_no_ca_is_needed_where_verification_is_switched_off_by_name(complete: TlsSettings):
    replace(complete, ca_certificates=(), verify=NONE).check(server_side=True)


def test_a_server_needs_a_certificate(complete: TlsSettings):
    with pytest.raises(TlsConfigurationError, match="set_tls_server_certificate"):
        replace(complete, credentials=None).check(server_side=True)


@pytest.mark.parametrize("flags", [FAIL, DicomOpenSslVerificationFlags.CLIENT_ONCE])
def test_flags_that_openssl_would_ignore_are_refused(complete: TlsSettings, flags):
    with pytest.raises(TlsConfigurationError, match="PEER") as e:
        replace(complete, verify=flags).check(server_side=True)
    assert e.value.code is DicomExceptionCode.TLS_INVALID_CTX_VERIFY_MODE


def test_a_weak_certificate_of_our_own_is_refused_before_connecting(
    complete: TlsSettings, authority: Authority, tmp_path: Path
):
    authority.issue("short", key="rsa1024").write(tmp_path, "short")
    short = load_credentials(tmp_path / "short.pem", key_path=tmp_path / "short.key")
    with pytest.raises(TlsConfigurationError, match=r"CN=short.*1024 bits"):
        replace(complete, credentials=short).check(server_side=False)


# --- the name ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, "pacs.example"),
        ({"check_name": False}, ""),
        ({"verify": NONE}, ""),
        ({"verify": PEER}, "pacs.example"),
        ({"expected_name": ""}, ""),
    ],
)
def test_the_name_is_checked_unless_switched_off(fields, name):
    settings = replace(TlsSettings(expected_name="pacs.example"), **fields)
    assert settings.name_to_check == name


# --- sharing contexts ----------------------------------------------------------------------------


def test_equal_settings_share_a_context_whatever_the_name(complete: TlsSettings, certs: Path):
    again = replace(
        complete, ca_certificates=load_ca_certificates(certs / "ca.pem"), expected_name="elsewhere"
    )
    assert again == complete
    assert hash(again) == hash(complete)
    for different in (
        {"credentials": None},
        {"ca_certificates": ()},
        {"verify": PEER},
        {"depth": 2},
        {"suites": (0x1302,)},
        {"profile": "B.13"},
        {"groups": ("P-256",)},
        {"min_version": TLS_1_3},
    ):
        assert replace(complete, **different) != complete


# --- suites --------------------------------------------------------------------------------------


@pytest.mark.parametrize("section", PROFILES)
def test_openssl_takes_the_offer_of_every_profile_as_it_is(section: str):
    settings = TlsSettings(profile=section)
    if section == "B.1":
        with pytest.raises(CipherSuitesUnavailable, match=r"RSA_WITH_3DES_EDE_CBC_SHA.*does not have it"):
            settings.offer(library())
        return
    offer = settings.offer(library())
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_cipher_list(offer.cipher_list)
    context.set_tls13_ciphersuites(offer.tls13_list)
    names = SSL.Connection(context).get_cipher_list()
    assert {suite.openssl_name for suite in offer.suites} == set(names)
    tls12 = [suite.openssl_name for suite in offer.suites if suite.max_version == TLS_1_2]
    assert [name for name in names if not name.startswith("TLS_")] == tls12  # in our order
    assert {suite.openssl_name for suite in (*offer.suites, *(s for s, _ in offer.skipped))} == {
        suite.openssl_name for suite in settings.wanted
    }


def test_a_list_without_tls_13_suites_switches_tls_13_off():
    offer = TlsSettings(suites=(0xC030, 0x0035)).offer(library())
    assert (offer.min_version, offer.max_version) == (TLS_1_2, TLS_1_2)
    assert offer.tls13_list == b""
    assert offer.cipher_list == b"ECDHE-RSA-AES256-GCM-SHA384:AES256-SHA:@SECLEVEL=2"


def test_a_list_with_tls_13_suites_only_switches_tls_12_off():
    offer = TlsSettings(suites=(0x1303, 0x1301)).offer(library())
    assert (offer.min_version, offer.max_version) == (TLS_1_3, TLS_1_3)
    assert offer.tls13_list == b"TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"
    assert offer.cipher_list == b"DEFAULT:@SECLEVEL=2"


def test_an_unavailable_suite_is_skipped_with_its_reason():
    offer = TlsSettings(suites=(0x0015, 0x0016, 0xC030)).offer(library())
    assert [suite.code for suite in offer.suites] == [0xC030]
    assert [(suite.iana_name, reason) for suite, reason in offer.skipped] == [
        ("TLS_DHE_RSA_WITH_DES_CBC_SHA", "the linked OpenSSL does not have it"),
        ("TLS_DHE_RSA_WITH_3DES_EDE_CBC_SHA", "the linked OpenSSL does not have it"),
    ]


def test_the_versions_follow_from_what_is_left():
    """TLS 1.2 suites that cannot be had must not keep TLS 1.2 on with nothing to offer in it."""
    offer = TlsSettings(suites=(0x000A, 0x1302)).offer(library())
    assert (offer.min_version, offer.max_version) == (TLS_1_3, TLS_1_3)


def test_nothing_left_is_an_error_that_names_suites_and_reasons():
    with pytest.raises(CipherSuitesUnavailable) as e:
        TlsSettings(suites=(0x0015, 0x000A)).offer(library())
    assert e.value.suites == ("TLS_DHE_RSA_WITH_DES_CBC_SHA", "TLS_RSA_WITH_3DES_EDE_CBC_SHA")
    for name in e.value.suites:
        assert f"{name}: the linked OpenSSL does not have it" in str(e.value)


def test_an_empty_list_is_an_error():
    with pytest.raises(CipherSuitesUnavailable, match="the list is empty"):
        TlsSettings(suites=()).offer(library())


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (0x00A7, "nobody's identity"),  # anonymous
        (0xC019, "nobody's identity"),
        (0x0000, "nobody's identity"),
        (0x00A9, "shared secret"),  # PSK
        (0xC01E, "shared secret"),  # SRP with a certificate
        (0x0007, "ends with TLS 1.1"),  # IDEA
        (0xC08B, "does not have it"),  # Camellia GCM
    ],
)
def test_suites_that_cannot_secure_a_link_are_never_offered(code: int, reason: str):
    with pytest.raises(CipherSuitesUnavailable, match=reason):
        TlsSettings(suites=(code,)).offer(EVERYTHING - {""})


def test_no_encryption_is_had_by_name_only():
    assert not any(
        SUITES[code].strength_bits == 0 for profile in PROFILES.values() for code in profile.suites
    )
    offer = TlsSettings(suites=(0x0002,)).offer(library())
    assert offer.cipher_list == b"NULL-SHA:@SECLEVEL=0"


def test_security_level_0_and_dhe_exclude_each_other():
    """At level 0 OpenSSL takes any DH group that a server gives."""
    with pytest.raises(TlsConfigurationError, match=r"CCM_8.*DHE_RSA"):
        TlsSettings(suites=(0xC0AE, 0x009F)).offer(library())
    assert TlsSettings(suites=(0xC0AE, 0xC02F)).offer(library()).security_level == 0


# --- LEADTOOLS' settings -------------------------------------------------------------------------


@pytest.mark.parametrize("method", DicomSslMethodType)
@pytest.mark.parametrize("option", DicomOpenSslOptionsFlags)
def test_no_method_and_no_option_lowers_the_floor(method, option):
    creation = DicomOpenSslContextCreationSettings(method, None, PEER, 9, option)
    settings = TlsSettings.from_creation(creation)
    only_tls13 = option is DicomOpenSslOptionsFlags.NO_TLS_V12
    assert settings.min_version == (TLS_1_3 if only_tls13 else TLS_1_2)
    assert settings.max_version == TLS_1_3


def test_no_tls_12_and_a_list_without_tls_13_contradict_each_other():
    settings = TlsSettings(min_version=TLS_1_3, suites=(0xC030,))
    with pytest.raises(CipherSuitesUnavailable, match=r"ends with TLS 1.2, and TLS 1.3 is allowed"):
        settings.offer(library())


def test_the_five_parameters_of_leadtools_in_its_order(certs: Path):
    creation = DicomOpenSslContextCreationSettings(
        DicomSslMethodType.SSL_V23,
        str(certs / "ca.pem"),
        PEER | FAIL,
        2,
        DicomOpenSslOptionsFlags.NO_SSL_V2 | DicomOpenSslOptionsFlags.ALL_BUG_WORKAROUNDS,
    )
    settings = TlsSettings.from_creation(creation)
    assert settings.ca_certificates == load_ca_certificates(certs / "ca.pem")
    assert settings.ca_path == str(certs / "ca.pem")
    assert (settings.verify, settings.depth) == (PEER | FAIL, 2)


def test_plain_numbers_do_for_the_enumerations():
    creation = DicomOpenSslContextCreationSettings(2, None, 3, 9, 0x08000000)
    settings = TlsSettings.from_creation(creation)
    assert settings.verify == PEER | FAIL
    assert settings.min_version == TLS_1_3


def test_what_leadtools_has_no_word_for():
    creation = DicomOpenSslContextCreationSettings(
        check_name=False, peer_name="pacs.example", profile="B.13", groups=("P-256",)
    )
    settings = TlsSettings.from_creation(creation)
    assert (settings.check_name, settings.expected_name) == (False, "pacs.example")
    assert (settings.profile, settings.groups) == ("B.13", ("P-256",))


def test_an_unknown_profile_is_refused_with_the_known_ones():
    with pytest.raises(TlsConfigurationError, match=r"B\.14.*B\.12, B\.13"):
        TlsSettings.from_creation(DicomOpenSslContextCreationSettings(profile="B.14"))


def test_a_missing_ca_file_is_an_error_at_once(tmp_path: Path):
    creation = DicomOpenSslContextCreationSettings(
        certification_authorities_file_name=str(tmp_path / "none.pem")
    )
    with pytest.raises(CertificateFileError) as e:
        TlsSettings.from_creation(creation)
    assert e.value.path == str(tmp_path / "none.pem")


# --- revocation lists ----------------------------------------------------------------------------


def test_revocation_lists_in_pem_several_and_in_der(authority: Authority, tmp_path: Path):
    first, second = authority.crl(), Authority("Another CA").crl()
    write(tmp_path / "two.pem", pem(first) + pem(second))
    write(tmp_path / "one.der", first.public_bytes(Encoding.DER))
    for name, expected in (("two.pem", (first, second)), ("one.der", (first,))):
        creation = DicomOpenSslContextCreationSettings(revocation_list_file_name=str(tmp_path / name))
        assert TlsSettings.from_creation(creation).crls == expected
        assert isinstance(expected[0], x509.CertificateRevocationList)


@pytest.mark.parametrize(
    "content", [None, b"", b"junk", b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"]
)
def test_a_revocation_list_that_cannot_be_read_is_an_error(content: bytes | None, tmp_path: Path):
    path = tmp_path / "list.pem"
    if content is not None:
        path.write_bytes(content)
    creation = DicomOpenSslContextCreationSettings(revocation_list_file_name=str(path))
    with pytest.raises(CertificateFileError, match=r"list\.pem") as e:
        TlsSettings.from_creation(creation)
    assert e.value.path == str(path)
