"""The TLS profiles of PS3.15 Annex B as data, and which of them a link meets.

B.12 and B.13 are in force; B.9 to B.11 were retired by Supplement 230, B.1 and B.3 with 2018b. (B.2 is
ISCL, not TLS; B.4 to B.8 are not about the transport.) A profile asks things of an implementation, such as
which suites it has; of those, what shows on one established link is judged here: version, suite, group and
the two certificates. What a profile only discourages is told as a remark, and does not make a link miss it.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from dicomnet.enums import DicomTlsEncryptionMethodType as Encryption
from dicomnet.tls.cipher_suites import TLS_1_0, TLS_1_2, TLS_1_3, Suite, version_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dicomnet.tls.certificates import CertificateInfo

__all__ = ["DEFAULT_PROFILE", "PROFILES", "Profile", "Verdict", "group_bits", "profiles_met", "weakness"]

DEFAULT_PROFILE = "B.12"

_TLS13 = (0x1302, 0x1303, 0x1301)
_ECDHE_GCM = (0xC02F, 0xC02B, 0xC030, 0xC02C)
_RFC7525 = (0x009E, 0xC02F, 0x009F, 0xC030)


@dataclass(frozen=True)
class Profile:
    """What one section of PS3.15 Annex B asks of a link. Lengths are bits; 0 asks nothing."""

    section: str
    """"B.12"."""

    title: str
    """The section's title without "Secure Transport Connection Profile"."""

    suites: tuple[int, ...]
    """IANA codes that we offer for it, most preferred first."""

    min_version: int
    max_version: int

    current: bool = False
    """False once the section is retired."""

    closed: bool = False
    """True where no suite outside the section's lists may be used."""

    optional: frozenset[int] = frozenset()
    """Suites that a closed profile permits besides `suites`."""

    strength: int = 0
    """Least strength of the cipher."""

    forward_secrecy: bool = False
    """True where the suite must have forward secrecy."""

    dhe: int = 0
    """Least length of a DHE group."""

    ecdhe: int = 0
    """Least length of an ECDHE group."""

    rsa: int = 0
    """Least length of a certificate's RSA key."""

    elliptic: int = 0
    """Least length of a certificate's elliptic key."""

    sha2: bool = False
    """True where certificates must not be signed with MD5 or SHA-1."""

    advice: bool = False
    """True where RFC 9325 4.1 discourages what is still permitted."""


@dataclass(frozen=True)
class Verdict:
    """Whether a link meets a profile, and why not."""

    section: str
    """"B.12"."""

    title: str
    current: bool
    """False for a retired profile."""

    reasons: tuple[str, ...]
    """What the link lacks; empty where it meets the profile."""

    remarks: tuple[str, ...]
    """What the profile permits and advises against."""

    @property
    def met(self) -> bool:
        """True where nothing is lacking."""
        return not self.reasons


PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        profile.section: profile
        for profile in (
            Profile(
                "B.12",
                "BCP 195 RFC 8996, 9325 TLS",
                (*_TLS13, *_ECDHE_GCM),
                TLS_1_2,
                TLS_1_3,
                current=True,
                strength=112,
                dhe=2048,
                ecdhe=224,
                rsa=2048,
                elliptic=224,
                sha2=True,
                advice=True,
            ),
            Profile(
                "B.13",
                "Modified BCP 195 RFC 8996, 9325 TLS",
                # The order is the section's. The CCM_8 suites need OpenSSL's security level 0.
                (
                    *(*_TLS13, 0x1304, 0x1305),
                    *(0xC02C, 0xC030, 0xC0AD, 0xC0AF, 0xCCA9, 0xCCA8, 0xC02F, 0xC02B, 0xC0AC, 0xC0AE),
                ),
                TLS_1_2,
                TLS_1_3,
                current=True,
                closed=True,
                optional=frozenset({0xC08A, 0xC086, 0xC08B, 0xC087}),
                strength=128,
                dhe=2048,
                ecdhe=256,
                rsa=2048,
                elliptic=256,
                sha2=True,
            ),
            Profile(
                "B.11",
                "Extended BCP 195 TLS Profile",
                (*_RFC7525, 0xC02C, 0xC02B),
                TLS_1_2,
                TLS_1_2,
                closed=True,
                optional=frozenset({0xC07D, 0xC07C, 0xC087, 0xC08B, 0xC086, 0xC08A}),
                strength=128,
                dhe=2048,
                ecdhe=256,
            ),
            Profile(
                "B.10",
                "Non-Downgrading BCP 195 TLS",
                (*_TLS13, *_RFC7525),
                TLS_1_2,
                TLS_1_3,
                # "Should" of RFC 7525 reads "shall" here; other suites must be as strong as the four.
                strength=128,
                forward_secrecy=True,
                dhe=2048,
                ecdhe=192,
            ),
            Profile(
                "B.9",
                "BCP 195 TLS",
                (*_TLS13, *_RFC7525, 0x002F, 0x000A),
                TLS_1_0,
                TLS_1_3,
                strength=112,
                dhe=2048,
                ecdhe=192,
            ),
            Profile("B.3", "AES TLS", (0x002F, 0x000A), TLS_1_0, TLS_1_2, closed=True),
            Profile("B.1", "Basic TLS", (0x000A,), TLS_1_0, TLS_1_2, closed=True),
        )
    }
)
"""Every TLS profile by its section, the default first, then from the newest to the oldest."""


# --- key lengths ---------------------------------------------------------------------------------

_GROUP_BITS = {
    "x25519": 256,
    "x448": 448,
    "secp224r1": 224,
    "secp256r1": 256,
    "prime256v1": 256,
    "p-256": 256,
    "secp256k1": 256,
    "brainpoolp256r1": 256,
    "brainpoolp256r1tls13": 256,
    "secp384r1": 384,
    "p-384": 384,
    "brainpoolp384r1": 384,
    "brainpoolp384r1tls13": 384,
    "secp521r1": 521,
    "p-521": 521,
    "brainpoolp512r1": 512,
    "brainpoolp512r1tls13": 512,
    "x25519mlkem768": 256,
    "secp256r1mlkem768": 256,
    "secp384r1mlkem1024": 384,
    "ffdhe2048": 2048,
    "ffdhe3072": 3072,
    "ffdhe4096": 4096,
    "ffdhe6144": 6144,
    "ffdhe8192": 8192,
}


def group_bits(group: str | None) -> int:
    """Return a key-exchange group's length in bits (of a hybrid one its classical part); 0 = unknown."""
    return _GROUP_BITS.get((group or "").lower(), 0)


def weakness(certificate: CertificateInfo) -> str:
    """Return what is too weak in a certificate to trust it, "" for nothing.

    The measure is OpenSSL's security level 2 (112 bits; RFC 9325 4.4). Where a suite needs level 0, this
    check stands in for the one that OpenSSL then leaves out.
    """
    return next(_weaknesses(certificate, rsa=2048, elliptic=224, sha2=True), "")


def _weaknesses(certificate: CertificateInfo, *, rsa: int, elliptic: int, sha2: bool) -> Iterator[str]:
    kind, bits = certificate.key_type, certificate.key_bits
    least = rsa if kind in {"RSA", "DSA"} else elliptic
    if bits < least:
        yield f"has a key of {bits} bits ({kind}), less than {least}"
    # A root's own signature proves nothing, so its hash does not matter.
    if (
        sha2
        and certificate.signature_hash in {"md2", "md4", "md5", "sha1"}
        and certificate.subject != certificate.issuer
    ):
        yield f"is signed with {certificate.signature_hash.upper()}"


# --- verdicts ------------------------------------------------------------------------------------


def profiles_met(
    version: int,
    suite: Suite,
    group: str | None,
    own: CertificateInfo | None,
    peer: CertificateInfo | None,
    *,
    verified: bool = True,
) -> tuple[tuple[Verdict, ...], tuple[Verdict, ...]]:
    """Judge a link by every profile: those met, and those missed with the reasons.

    `version` is the negotiated one (0x0303 = TLS 1.2), `group` OpenSSL's name of the key-exchange group
    or None where it does not tell, `own` and `peer` the certificates shown, None for none. A peer whose
    certificate was not verified may be anybody, so a link to it meets none; a client may show none.
    """
    verdicts = [
        Verdict(
            profile.section,
            profile.title,
            profile.current,
            (
                *_link_shortfalls(profile, version, suite, group),
                *_certificate_shortfalls(profile, own, peer),
                *(("the peer's certificate was not verified",) if peer is not None and not verified else ()),
            ),
            tuple(_remarks(suite)) if profile.advice else (),
        )
        for profile in PROFILES.values()
    ]
    return tuple(v for v in verdicts if v.met), tuple(v for v in verdicts if not v.met)


def _link_shortfalls(profile: Profile, version: int, suite: Suite, group: str | None) -> Iterator[str]:
    if not profile.min_version <= version <= profile.max_version:
        wanted = " to ".join(dict.fromkeys(map(version_name, (profile.min_version, profile.max_version))))
        yield f"{version_name(version)} is not {wanted}"
    if profile.closed and suite.code not in profile.optional.union(profile.suites):
        yield f"{suite.iana_name} is not among its cipher suites"
    elif suite.encryption is Encryption.NONE and profile.strength:
        yield f"{suite.iana_name} does not encrypt"
    elif suite.strength_bits < profile.strength:
        yield f"{suite.iana_name} has {suite.strength_bits} bits of strength, less than {profile.strength}"
    elif suite.encryption is Encryption.RC4 and profile.strength:
        yield "RC4 is forbidden"
    if profile.forward_secrecy and not suite.forward_secrecy:
        yield f"{suite.iana_name} has no forward secrecy"
    if suite.anonymous:
        yield "neither end is authenticated"
    # OpenSSL does not tell the length of a DHE group without a name; at the security level that DHE suites
    # are used at, it refuses less than 2048 bits.
    bits = group_bits(group)
    least = profile.dhe if suite.finite_field_dhe or bits >= 1024 else profile.ecdhe
    if 0 < bits < least:
        yield f"the group {group} has {bits} bits, less than {least}"


def _certificate_shortfalls(
    profile: Profile, own: CertificateInfo | None, peer: CertificateInfo | None
) -> Iterator[str]:
    for whose, certificate in (("our", own), ("the peer's", peer)):
        if certificate is not None:
            for weak in _weaknesses(
                certificate, rsa=profile.rsa, elliptic=profile.elliptic, sha2=profile.sha2
            ):
                yield f"{whose} certificate {weak}"


def _remarks(suite: Suite) -> Iterator[str]:
    if not suite.forward_secrecy:
        yield "no forward secrecy"
    if suite.finite_field_dhe:
        yield "DHE in TLS 1.2"
    if suite.strength_bits < 128:
        yield "less than 128 bits of strength"
    if suite.mode == "CBC":
        yield "CBC mode"
