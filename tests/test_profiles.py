"""PS3.15 Annex B: which profiles a link meets, and why it misses the others."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from dicomnet.tls.certificates import CertificateInfo, describe
from dicomnet.tls.cipher_suites import SUITES, TLS_1_0, TLS_1_2, TLS_1_3, by_iana_name
from dicomnet.tls.profiles import DEFAULT_PROFILE, PROFILES, group_bits, profiles_met, weakness

if TYPE_CHECKING:
    from authority import Authority


@pytest.fixture(scope="module")
def good(authority: Authority) -> CertificateInfo:
    return describe(authority.issue("peer", dns=("localhost",)).certificate)


@pytest.fixture(scope="module")
def elliptic(authority: Authority) -> CertificateInfo:
    return describe(authority.issue("peer", dns=("localhost",), key="ec").certificate)


def sections(verdicts) -> list[str]:
    return [verdict.section for verdict in verdicts]


def judge(version, name, group, own, peer):
    suite = by_iana_name(name)
    assert suite is not None
    met, missed = profiles_met(version, suite, group, own, peer)
    assert {*sections(met), *sections(missed)} == set(PROFILES)
    return met, {verdict.section: " / ".join(verdict.reasons) for verdict in missed}


# --- the data ------------------------------------------------------------------------------------


def test_the_current_profiles_are_b12_and_b13_and_b12_is_the_default():
    assert DEFAULT_PROFILE == "B.12"
    assert {section for section, profile in PROFILES.items() if profile.current} == {"B.12", "B.13"}


@pytest.mark.parametrize("section", PROFILES)
def test_the_suites_of_a_profile_are_registered_and_meet_it(section: str, good: CertificateInfo):
    profile = PROFILES[section]
    for code in profile.suites:
        suite = SUITES[code]
        version = min(suite.max_version, profile.max_version)
        group = "secp256r1" if "ECDHE" in suite.iana_name else None
        met, missed = profiles_met(version, suite, group, good, good)
        assert section in sections(met), (suite, missed)


# Required suites, as the sections (B.10, B.11, B.13) and RFC 9325 4.2 (B.12) list them.
REQUIRED = {
    "B.12": {0xC02F, 0xC02B, 0xC030, 0xC02C},
    "B.13": {0xC02C, 0xC030, 0xC0AD, 0xC0AF, 0xCCA9, 0xCCA8, 0xC02F, 0xC02B, 0xC0AC, 0xC0AE}
    | {0x1301, 0x1302, 0x1303, 0x1304, 0x1305},
    "B.11": {0x009E, 0xC02F, 0x009F, 0xC030},
    "B.10": {0x009E, 0xC02F, 0x009F, 0xC030},
    "B.3": {0x002F, 0x000A},
    "B.1": {0x000A},
}


@pytest.mark.parametrize("section", REQUIRED)
def test_the_required_suites_are_offered(section: str):
    assert REQUIRED[section] <= set(PROFILES[section].suites)


@pytest.mark.parametrize("section", PROFILES)
def test_only_profiles_that_know_tls_13_allow_it(section: str):
    profile = PROFILES[section]
    has_tls13_suites = any(SUITES[code].min_version == TLS_1_3 for code in profile.suites)
    assert has_tls13_suites == (profile.max_version == TLS_1_3)
    assert len(profile.suites) <= 16  # they are what the list by index starts with


# --- verdicts ------------------------------------------------------------------------------------


def test_tls_13_meets_both_current_profiles(good):
    met, missed = judge(TLS_1_3, "TLS_AES_256_GCM_SHA384", "X25519MLKEM768", good, good)
    assert sections(met) == ["B.12", "B.13", "B.10", "B.9"]
    assert missed["B.11"].startswith("TLS 1.3 is not TLS 1.2")
    assert "not TLS 1.0 to TLS 1.2" in missed["B.3"]
    assert all(not verdict.remarks for verdict in met)


def test_ecdhe_gcm_in_tls_12_meets_every_profile_since_2018(good):
    met, missed = judge(TLS_1_2, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "secp256r1", None, good)
    assert sections(met) == ["B.12", "B.13", "B.11", "B.10", "B.9"]
    assert set(missed) == {"B.3", "B.1"}


def test_static_rsa_is_permitted_by_b12_and_discouraged(good):
    met, missed = judge(TLS_1_2, "TLS_RSA_WITH_AES_128_CBC_SHA", None, good, good)
    assert sections(met) == ["B.12", "B.9", "B.3"]
    assert met[0].remarks == ("no forward secrecy", "CBC mode")
    assert "no forward secrecy" in missed["B.10"]
    assert "not among its cipher suites" in missed["B.13"]


def test_b13_has_no_dhe_suites_and_b12_discourages_them(good):
    met, missed = judge(TLS_1_2, "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384", None, good, good)
    assert sections(met) == ["B.12", "B.11", "B.10", "B.9"]
    assert met[0].remarks == ("DHE in TLS 1.2",)
    assert set(missed) == {"B.13", "B.3", "B.1"}


def test_the_camellia_suites_that_openssl_lacks_are_permitted(good):
    met, _ = judge(TLS_1_2, "TLS_ECDHE_RSA_WITH_CAMELLIA_256_GCM_SHA384", "secp256r1", good, good)
    assert {"B.11", "B.13"} <= set(sections(met))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("TLS_RSA_WITH_NULL_SHA256", "does not encrypt"),
        ("TLS_RSA_WITH_DES_CBC_SHA", "56 bits of strength, less than 112"),
        ("TLS_ECDHE_RSA_WITH_RC4_128_SHA", "RC4 is forbidden"),
        ("TLS_DH_anon_WITH_AES_256_GCM_SHA384", "neither end is authenticated"),
    ],
)
def test_what_rfc_9325_forbids_misses_b12(name: str, reason: str, good):
    met, missed = judge(TLS_1_2, name, "secp256r1", good, good)
    assert sections(met) in ([], ["B.3"])
    assert reason in missed["B.12"]


def test_3des_has_112_bits_and_passes_where_128_are_not_asked_for(good):
    met, missed = judge(TLS_1_2, "TLS_RSA_WITH_3DES_EDE_CBC_SHA", None, good, good)
    assert sections(met) == ["B.12", "B.9", "B.3", "B.1"]
    assert "less than 128 bits of strength" in met[0].remarks
    assert "112 bits of strength, less than 128" in missed["B.10"]


def test_tls_10_is_below_the_floor_of_every_profile_that_is_not_retired(good):
    met, _ = judge(TLS_1_0, "TLS_RSA_WITH_AES_128_CBC_SHA", None, good, good)
    assert sections(met) == ["B.9", "B.3"]
    assert not any(verdict.current for verdict in met)


@pytest.mark.parametrize(
    ("group", "missing"),
    [
        ("secp224r1", {"B.13", "B.11"}),
        ("secp256r1", set()),
        ("x25519", set()),
        ("ffdhe2048", set()),
        (None, set()),
    ],
)
def test_the_length_of_the_group_counts(group, missing, good):
    _, missed = judge(TLS_1_2, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", group, good, good)
    assert set(missed) - {"B.3", "B.1"} == missing
    for section in missing:
        assert "secp224r1 has 224 bits, less than 256" in missed[section]


def test_a_short_rsa_key_of_either_end_counts(good, authority):
    short = describe(authority.issue("short", key="rsa1024").certificate)
    for own, peer, whose in ((short, good, "our"), (good, short, "the peer's")):
        met, missed = judge(TLS_1_3, "TLS_AES_128_GCM_SHA256", "x25519", own, peer)
        assert sections(met) == ["B.10", "B.9"]
        assert missed["B.12"] == f"{whose} certificate has a key of 1024 bits (RSA), less than 2048"
        assert missed["B.13"] == missed["B.12"]


def test_an_elliptic_key_of_224_bits_is_enough_for_b12_and_not_for_b13(elliptic):
    met, missed = judge(
        TLS_1_3, "TLS_AES_128_GCM_SHA256", "x25519", None, replace(elliptic, key_bits=224, curve="secp224r1")
    )
    assert "B.12" in sections(met)
    assert "less than 256" in missed["B.13"]


def test_a_certificate_signed_with_sha1_misses_the_current_profiles(good):
    _, missed = judge(TLS_1_3, "TLS_AES_128_GCM_SHA256", "x25519", None, replace(good, signature_hash="sha1"))
    assert "the peer's certificate is signed with SHA1" in missed["B.12"]
    assert "B.13" in missed


# --- key lengths ---------------------------------------------------------------------------------


def test_group_names_in_openssls_spellings():
    for name in ("X25519", "x25519", "P-256", "secp256r1", "prime256v1", "X25519MLKEM768"):
        assert group_bits(name) == 256
    assert group_bits("ffdhe3072") == 3072
    assert group_bits(None) == group_bits("something new") == 0


def test_weakness_names_what_openssl_would_refuse(good, elliptic, authority):
    assert weakness(good) == ""
    assert weakness(elliptic) == ""
    assert weakness(describe(authority.certificate)) == ""
    assert "1024 bits" in weakness(describe(authority.issue("short", key="rsa1024").certificate))
    assert weakness(replace(good, signature_hash="md5")) == "is signed with MD5"


def test_the_hash_of_a_roots_own_signature_does_not_matter(authority):
    assert weakness(replace(describe(authority.certificate), signature_hash="sha1")) == ""
