"""What a secure link is asked to be: `TlsSettings`, and LEADTOOLS' creation settings that map to it.

Nothing here touches OpenSSL. The decisions that do not need it are made here, in one place: which of the
suites asked for can be offered (`TlsSettings.offer`), which TLS versions and which security level follow
from them, and which combinations cannot work or would not be what they seem (`TlsSettings.check`).

The floor is TLS 1.2 (RFC 8996; PS3.15 B.12). Nothing in LEADTOOLS' settings lowers it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509

from dicomnet.enums import (
    DicomExceptionCode,
    DicomOpenSslOptionsFlags,
    DicomOpenSslVerificationFlags,
    DicomSslMethodType,
)
from dicomnet.errors import CertificateFileError, CipherSuitesUnavailable, TlsConfigurationError
from dicomnet.tls.certificates import Credentials, describe, load_ca_certificates
from dicomnet.tls.cipher_suites import SUITES, TLS_1_2, TLS_1_3, Suite, version_name
from dicomnet.tls.profiles import DEFAULT_PROFILE, PROFILES, weakness

if TYPE_CHECKING:
    from collections.abc import Container

__all__ = ["DicomOpenSslContextCreationSettings", "Offer", "TlsSettings"]

VERIFY_NONE = DicomOpenSslVerificationFlags.NONE
VERIFY_PEER = DicomOpenSslVerificationFlags.PEER
VERIFY_FULL = VERIFY_PEER | DicomOpenSslVerificationFlags.FAIL_IF_NO_PEER_CERTIFICATE

CA_LINE = (
    "net.initialize(None, DicomNetSecurityMode.TLS, "
    'DicomOpenSslContextCreationSettings(certification_authorities_file_name="ca.pem"))'
)
_PEM_CRL = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----\s*", re.DOTALL)

CERTIFICATE_LINE = 'net.set_tls_server_certificate("cert.pem", DicomTlsCertificateType.PEM, "key.pem")'


@dataclass
class DicomOpenSslContextCreationSettings:
    """LEADTOOLS' bundle of TLS settings for `DicomNet.initialize`, with its parameter order.

    The defaults are secure and not LEADTOOLS': the peer's certificate is required and verified. What
    LEADTOOLS has no word for is keyword only.
    """

    method_type: DicomSslMethodType = DicomSslMethodType.TLS
    """Accepted for LEADTOOLS' sake; no value changes the versions, which are TLS 1.2 and 1.3."""

    certification_authorities_file_name: str | os.PathLike[str] | None = None
    """PEM file of the CA certificates that the peer's chain may lead to; needed to verify anything."""

    verification_flags: DicomOpenSslVerificationFlags = VERIFY_FULL
    """`PEER` verifies the peer's certificate; on a server `FAIL_IF_NO_PEER_CERTIFICATE` also insists on
    one. `NONE` verifies nothing, and is the only way to get that."""

    maximum_verification_depth: int = 9
    """How many CA certificates may lie between the peer's certificate and the root."""

    options: DicomOpenSslOptionsFlags = DicomOpenSslOptionsFlags.NONE
    """`NO_TLS_V12` leaves TLS 1.3 only. The older protocols and compression are always off, so the other
    bits change nothing."""

    check_name: bool | None = field(default=None, kw_only=True)
    """Whether a client checks that the certificate is made out to the peer it connects to. `None` means
    yes, except under LEADTOOLS' spelling, which never checked names."""

    peer_name: str = field(default="", kw_only=True)
    """The name or address that the peer's certificate must carry, where it is not the address connected
    to. Given, it is checked under either spelling, and by a server as well."""

    profile: str = field(default=DEFAULT_PROFILE, kw_only=True)
    """PS3.15 Annex B section whose suites and versions apply while no suite list is set by index."""

    revocation_list_file_name: str | os.PathLike[str] | None = field(default=None, kw_only=True)
    """PEM file of certificate revocation lists that the peer's own certificate is checked against. With
    it, a certificate whose CA has no current list is refused."""

    groups: tuple[str, ...] = field(default=(), kw_only=True)
    """Names of the key-exchange groups, most preferred first; empty takes OpenSSL's. Its list starts with
    the hybrid X25519MLKEM768, whose ClientHello needs more than one packet: where an old device or firewall
    never answers it, try `("X25519", "P-256", "P-384")`."""


@dataclass(frozen=True)
class Offer:
    """What goes into the TLS context: the suites that can be had, and what follows from them."""

    suites: tuple[Suite, ...]
    """The usable suites, most preferred first."""

    skipped: tuple[tuple[Suite, str], ...]
    """Suites asked for that cannot be offered, each with the reason."""

    min_version: int
    """Lowest TLS version on the wire (0x0303 = TLS 1.2)."""

    max_version: int
    """Highest TLS version on the wire (0x0304 = TLS 1.3)."""

    @property
    def security_level(self) -> int:
        """OpenSSL's security level: 2, or 0 where a suite was asked for that a higher level excludes."""
        return min(suite.security_level for suite in self.suites)

    @property
    def cipher_list(self) -> bytes:
        """The argument for OpenSSL's list of TLS 1.2 suites; it also sets the security level."""
        names = [suite.openssl_name for suite in self.suites if suite.min_version < TLS_1_3] or ["DEFAULT"]
        return ":".join([*names, f"@SECLEVEL={self.security_level}"]).encode("ascii")

    @property
    def tls13_list(self) -> bytes:
        """The argument for OpenSSL's list of TLS 1.3 suites; empty where there are none."""
        return ":".join(s.openssl_name for s in self.suites if s.min_version >= TLS_1_3).encode("ascii")


@dataclass(frozen=True)
class TlsSettings:
    """Everything that one TLS context is made from; hashable, so that equal settings share a context."""

    credentials: Credentials | None = None
    """Own certificate, chain and key. A server needs them; a client may do without."""

    ca_certificates: tuple[x509.Certificate, ...] = ()
    """The CAs that the peer's chain may lead to."""

    ca_path: str = ""
    """Where they came from, for messages."""

    crls: tuple[x509.CertificateRevocationList, ...] = field(default=(), hash=False)  # they have none
    """Revocation lists; empty checks no revocation."""

    verify: DicomOpenSslVerificationFlags = VERIFY_FULL
    """As in LEADTOOLS: `NONE`, or `PEER` with or without `FAIL_IF_NO_PEER_CERTIFICATE`."""

    depth: int = 9
    """CA certificates allowed between the peer's certificate and the root."""

    check_name: bool = True
    """Whether the peer's certificate must carry `expected_name`; only where one is known."""

    expected_name: str = field(default="", compare=False)
    """Host name or address to check; belongs to the connection, so contexts are shared across names."""

    min_version: int = TLS_1_2
    """Lowest TLS version allowed (0x0303 or 0x0304)."""

    max_version: int = TLS_1_3
    """Highest TLS version allowed."""

    suites: tuple[int, ...] | None = None
    """IANA codes in order of preference; `None` takes the profile's."""

    profile: str = DEFAULT_PROFILE
    """PS3.15 Annex B section, "B.12" by default."""

    groups: tuple[str, ...] = ()
    """Names of the key-exchange groups in order of preference; empty takes OpenSSL's."""

    @classmethod
    def from_creation(cls, creation: DicomOpenSslContextCreationSettings) -> TlsSettings:
        """Make the settings that LEADTOOLS' describe, and load the files that they name.

        Certificate, suite list and the peer's name belong to the `DicomNet` and are not among them.
        Raises `CertificateFileError`, or `TlsConfigurationError` for an unknown profile.
        """
        if creation.profile not in PROFILES:
            raise TlsConfigurationError(
                f"There is no TLS profile {creation.profile!r} in PS3.15; there are {', '.join(PROFILES)}."
            )
        ca_path = creation.certification_authorities_file_name
        crl_path = creation.revocation_list_file_name
        only_tls13 = DicomOpenSslOptionsFlags(creation.options) & DicomOpenSslOptionsFlags.NO_TLS_V12
        return cls(
            ca_certificates=load_ca_certificates(ca_path) if ca_path else (),
            ca_path=os.fspath(ca_path or ""),
            crls=_load_revocation_lists(crl_path) if crl_path else (),
            verify=DicomOpenSslVerificationFlags(creation.verification_flags),
            depth=creation.maximum_verification_depth,
            check_name=creation.check_name is not False,
            expected_name=creation.peer_name,
            min_version=TLS_1_3 if only_tls13 else TLS_1_2,
            profile=creation.profile,
            groups=tuple(creation.groups),
        )

    @property
    def wanted(self) -> tuple[Suite, ...]:
        """The suites asked for, available or not, most preferred first."""
        codes = PROFILES[self.profile].suites if self.suites is None else self.suites
        return tuple(SUITES[code] for code in codes)

    def offer(self, available: Container[str]) -> Offer:
        """Sort the suites asked for by whether they can be had.

        `available` holds the OpenSSL names that the linked library knows. A list without TLS 1.3 suites
        switches TLS 1.3 off, and one with nothing else switches TLS 1.2 off. Raises
        `CipherSuitesUnavailable` where nothing is left, naming each suite and why.
        """
        reasons = {suite: self._obstacle(suite, available) for suite in self.wanted}
        usable = tuple(suite for suite, reason in reasons.items() if not reason)
        skipped = tuple((suite, reason) for suite, reason in reasons.items() if reason)
        if not usable:
            listing = "; ".join(f"{suite.iana_name}: {reason}" for suite, reason in skipped)
            raise CipherSuitesUnavailable(
                f"None of the cipher suites asked for can be offered ({listing or 'the list is empty'}). "
                "Put at least one current suite into the list with set_tls_cipher_suite_by_index, "
                "for example DicomTlsCipherSuiteType.ECDHE_RSA_WITH_AES256_GCM_SHA384.",
                suites=tuple(suite.iana_name for suite, _ in skipped),
            )
        weak = next((suite for suite in usable if suite.security_level == 0), None)
        ephemeral = next((suite for suite in usable if suite.finite_field_dhe), None)
        if weak and ephemeral:
            raise TlsConfigurationError(
                f"{weak.iana_name} needs OpenSSL's security level 0, which accepts DH groups of any "
                f"length, and {ephemeral.iana_name} uses DH groups. Take one of the two out of the "
                "cipher suite list.",
                code=DicomExceptionCode.TLS_INSUFFICIENT_SECURITY,
            )
        return Offer(
            suites=usable,
            skipped=skipped,
            min_version=max(self.min_version, min(suite.min_version for suite in usable)),
            max_version=min(self.max_version, max(suite.max_version for suite in usable)),
        )

    def _obstacle(self, suite: Suite, available: Container[str]) -> str:
        if suite.anonymous:
            return "it proves nobody's identity"
        if suite.needs_shared_secret:
            return "it needs a shared secret, and links are secured with certificates"
        if suite.openssl_name not in available:
            return "the linked OpenSSL does not have it"
        if suite.max_version < self.min_version or suite.min_version > self.max_version:
            allowed = " to ".join(dict.fromkeys(map(version_name, (self.min_version, self.max_version))))
            return f"it ends with {version_name(suite.max_version)}, and {allowed} is allowed"
        return ""

    @property
    def name_to_check(self) -> str:
        """The name that the peer's certificate must carry; "" where none is checked.

        Without a verified chain a name proves nothing, so it is not checked then.
        """
        return self.expected_name if self.check_name and self.verify & VERIFY_PEER else ""

    def check(self, *, server_side: bool) -> None:
        """Raise `TlsConfigurationError` where these settings cannot work, with the line that helps."""
        if self.verify and not self.verify & VERIFY_PEER:
            raise TlsConfigurationError(
                f"The verification flags {self.verify!r} verify nothing without PEER. Add "
                "DicomOpenSslVerificationFlags.PEER, or give NONE alone to switch verification off.",
                code=DicomExceptionCode.TLS_INVALID_CTX_VERIFY_MODE,
            )
        if self.verify and not self.ca_certificates:
            raise TlsConfigurationError(
                "The peer's certificate is to be verified and no CA certificate is given. Give the file with "
                f"the CA that issued it: {CA_LINE}",
                code=DicomExceptionCode.TLS_INVALID_CTX_CAFILE,
            )
        if server_side and self.credentials is None:
            raise TlsConfigurationError(
                f"A TLS server needs a certificate and its private key. Give them: {CERTIFICATE_LINE}",
                code=DicomExceptionCode.CERTIFICATE_LOAD_FAILED,
            )
        if self.credentials is not None:
            for certificate in (self.credentials.certificate, *self.credentials.chain):
                info = describe(certificate)
                if weak := weakness(info):
                    raise TlsConfigurationError(
                        f"The certificate of {info.subject} in {self.credentials.path} {weak}: no current "
                        "peer accepts that. Have a new one issued.",
                        code=DicomExceptionCode.TLS_INSUFFICIENT_SECURITY,
                    )


def _load_revocation_lists(file: str | os.PathLike[str]) -> tuple[x509.CertificateRevocationList, ...]:
    """Load the revocation lists of a file, PEM or DER."""
    path = os.fspath(file)
    try:
        data = Path(path).read_bytes()
        blocks = _PEM_CRL.findall(data)
        if not blocks:
            return (x509.load_der_x509_crl(data),)
        return tuple(map(x509.load_pem_x509_crl, blocks))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no revocation list, or damaged"
        raise CertificateFileError(
            f"The revocation list {path} cannot be used: {reason}.", path=path
        ) from error
