"""The TLS side of `DicomNet`: certificate, cipher suite list, and what the link was secured with.

LEADTOOLS says of the getters for the algorithms and key lengths only that they exist; not what they return.
Here they mean the following, for a suite given by number or, without an argument, for the negotiated one:

* Key exchange and authentication of a TLS 1.3 suite are not part of it. Asked for the suite that the link
  uses, the answer comes from the link: its key-exchange group, its server's certificate. For any other
  TLS 1.3 suite the answer is `ANY`.
* The encryption key length is the cipher's as specified: 3DES 168, DES 56, no encryption 0.
* The mutual authentication key length is the length of the key in the peer's certificate, and where the peer
  has shown none, in our own: what each end proves its identity with. It belongs to a link and not to a suite,
  so it is 0 for any suite but the negotiated one.
* Without a secure link, the negotiated suite is `NONE`, its algorithms are `NONE` and its lengths 0.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from dicomnet.enums import (
    DicomExceptionCode,
    DicomNetSecurityMode,
    DicomOpenSslVerificationFlags,
    DicomTlsAuthenticationMethodType,
    DicomTlsCertificateType,
    DicomTlsCipherSuiteType,
    DicomTlsEncryptionMethodType,
    DicomTlsExchangeMethodType,
    DicomTlsMacMethodType,
)
from dicomnet.errors import TlsConfigurationError
from dicomnet.tls.certificates import Credentials, describe, load_credentials
from dicomnet.tls.cipher_suites import SUITES, Suite, by_type
from dicomnet.tls.context import openssl_version
from dicomnet.tls.link_security import LinkSecurity, authentication_of, exchange_of, inspect_link, suite_of
from dicomnet.tls.profiles import PROFILES
from dicomnet.tls.settings import DicomOpenSslContextCreationSettings, TlsSettings
from dicomnet.trace import logger

if TYPE_CHECKING:
    import os

    from dicomnet.tls.passwords import PasswordRequest
    from dicomnet.tls.stream import TlsStream

__all__ = ["MAX_CIPHER_SUITES", "DicomOpenSslVersion", "LinkSecurity", "Security"]

MAX_CIPHER_SUITES = 16
"""Entries of the cipher suite list, as in LEADTOOLS."""

_NONE = DicomTlsCipherSuiteType.NONE


@dataclass(frozen=True)
class DicomOpenSslVersion:
    """Which OpenSSL secures the links (LEADTOOLS `DicomOpenSslVersion`)."""

    installed_version: str
    """The version in use, as it describes itself."""

    is_available: bool = True
    """Always True: OpenSSL comes with this package's dependencies."""

    required_version: str = "3.0"
    """The oldest version that this package works with."""

    download_message: str = (
        "OpenSSL is part of the Python package cryptography; nothing has to be downloaded."
    )
    """What LEADTOOLS tells a user who has no OpenSSL."""


@functools.cache
def _say_that_names_go_unchecked() -> None:
    logger.warning(
        "The peer's certificate is verified, but not that it was made out to the peer, as in LEADTOOLS. "
        "To check that too: DicomOpenSslContextCreationSettings(..., check_name=True)"
    )


class Security:
    """Mixin of `DicomNet` with everything that concerns the secure link."""

    _checks_names: ClassVar[bool] = True
    """Whether names are checked where the settings do not say; False under LEADTOOLS' spelling."""

    _security_mode = DicomNetSecurityMode.NONE
    _tls_base = TlsSettings()
    _tls_in_use: TlsSettings | None = None
    _tls_suites: tuple[DicomTlsCipherSuiteType, ...] | None = None
    _tls_client_credentials: Credentials | None = None
    _tls_server_credentials: Credentials | None = None

    if TYPE_CHECKING:

        def on_private_key_password_for(self, request: PasswordRequest) -> str | bytes | None:
            """See `Callbacks`."""

    def _tls_stream(self) -> TlsStream | None:
        """Return the TLS stream of the current link; None where there is none or it is plain TCP."""
        raise NotImplementedError

    # --- settings ------------------------------------------------------------------------------------

    @property
    def security_mode(self) -> DicomNetSecurityMode:
        """The security layer that the object was made with (LEADTOOLS `SecurityMode`)."""
        return self._security_mode

    def _set_security_mode(self, mode: DicomNetSecurityMode | int) -> None:
        mode = DicomNetSecurityMode(mode)
        if mode is DicomNetSecurityMode.ISCL:
            raise TlsConfigurationError(
                "ISCL is not implemented: DICOM retired it in 2018 (PS3.15 B.2). "
                "Use DicomNetSecurityMode.TLS.",
                code=DicomExceptionCode.NET_OPERATION_NOT_SUPPORTED,
            )
        self._security_mode = mode

    def _configure_tls(self, creation: DicomOpenSslContextCreationSettings) -> None:
        """Take over the settings given to `initialize`, and load the files that they name."""
        base = TlsSettings.from_creation(creation)
        if creation.check_name is None and not creation.peer_name:
            base = replace(base, check_name=self._checks_names)
        self._tls_base = base

    def _tls_settings(self, server_side: bool, peer_name: str = "") -> TlsSettings:
        """Return the settings for the next link; raise `TlsConfigurationError` where they cannot work.

        `peer_name` is what a client connects to; a server checks a name only where `initialize` gave one.
        """
        base = self._tls_base
        server_credentials = self._tls_server_credentials or self._tls_client_credentials
        settings = replace(
            base,
            credentials=server_credentials if server_side else self._tls_client_credentials,
            suites=None if self._tls_suites is None else self._suite_codes(),
            expected_name=base.expected_name or ("" if server_side else peer_name),
        )
        settings.check(server_side=server_side)
        verified = base.verify & DicomOpenSslVerificationFlags.PEER
        if verified and not server_side and not base.check_name and not self._checks_names:
            _say_that_names_go_unchecked()
        self._tls_in_use = settings
        return settings

    @property
    def _tls_configured(self) -> bool:
        """True if this object was given TLS settings of its own."""
        own = self._tls_client_credentials or self._tls_server_credentials or self._tls_suites
        return own is not None or self._tls_base is not Security._tls_base

    def _inherit_tls(self, server: Security) -> None:
        """Take over the listening object's mode and, unless this one has its own, its TLS settings.

        What listens in TLS mode makes no plain links, whatever the object was made with.
        """
        if server.security_mode is DicomNetSecurityMode.TLS:
            self._set_security_mode(server.security_mode)
        if not self._tls_configured:
            self._tls_base, self._tls_suites = server._tls_base, server._tls_suites
            self._tls_client_credentials = server._tls_client_credentials
            self._tls_server_credentials = server._tls_server_credentials

    @staticmethod
    def get_openssl_version() -> DicomOpenSslVersion:
        """Tell which OpenSSL is in use (LEADTOOLS `GetOpenSslVersion`)."""
        return DicomOpenSslVersion(openssl_version())

    # --- certificate ---------------------------------------------------------------------------------

    def set_tls_client_certificate(
        self,
        path_to_certificate: str | os.PathLike[str],
        certificate_type: DicomTlsCertificateType | int = DicomTlsCertificateType.PEM,
        path_to_key_file: str | os.PathLike[str] | None = None,
        *,
        password: str | bytes | None = None,
    ) -> None:
        """Load this end's certificate, its chain and its private key (LEADTOOLS `SetTlsClientCertificate`).

        Serves a client and, unless `set_tls_server_certificate` is called too, a server. Without a key
        file the key is in the certificate file. For an encrypted key `on_private_key_password_for` (and
        by default `on_private_key_password`) is asked before the call returns; `password` is taken instead
        where it is given. Raises `CertificateFileError` and its subclasses: a missing or damaged file, a
        key that does not belong to the certificate, a password that is missing or wrong.
        """
        self._tls_client_credentials = load_credentials(
            path_to_certificate,
            certificate_type,
            path_to_key_file,
            self.on_private_key_password_for,
            "client",
            password=password,
        )

    def set_tls_server_certificate(
        self,
        path_to_certificate: str | os.PathLike[str],
        certificate_type: DicomTlsCertificateType | int = DicomTlsCertificateType.PEM,
        path_to_key_file: str | os.PathLike[str] | None = None,
        *,
        password: str | bytes | None = None,
    ) -> None:
        """Load the certificate for links that this end accepts (native LEADTOOLS `SetServerCertificateTLS`).

        Everything else is as in `set_tls_client_certificate`.
        """
        self._tls_server_credentials = load_credentials(
            path_to_certificate,
            certificate_type,
            path_to_key_file,
            self.on_private_key_password_for,
            "server",
            password=password,
        )

    # --- cipher suite list ---------------------------------------------------------------------------

    def _suite_list(self) -> tuple[DicomTlsCipherSuiteType, ...]:
        if self._tls_suites is not None:
            return self._tls_suites
        profile = tuple(SUITES[code].leadtools for code in PROFILES[self._tls_base.profile].suites)
        return profile + (_NONE,) * (MAX_CIPHER_SUITES - len(profile))

    def _suite_codes(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(by_type(suite).code for suite in self._suite_list() if suite is not _NONE))

    def set_tls_cipher_suite_by_index(self, index: int, cipher: DicomTlsCipherSuiteType | int) -> None:
        """Write one entry of the preference list (LEADTOOLS `SetTlsCipherSuiteByIndex`).

        `index` runs from 0, the most preferred, to 15. `NONE` at index 0 empties the whole list, and
        anywhere else that entry. Until the first call the list holds the suites of the profile. A list
        without TLS 1.3 suites switches TLS 1.3 off. Suites that the linked OpenSSL does not have, such as
        DES and 3DES, stay in the list and are skipped with a warning when the link is made; an emptied
        list fails there. Raises `TlsConfigurationError` (code PARAMETER) for another index or number.
        """
        self._check_index(index)
        entry = _NONE if cipher == _NONE else by_type(cipher).leadtools
        entries = list(self._suite_list())
        if index == 0 and entry is _NONE:
            entries = [_NONE] * MAX_CIPHER_SUITES
        entries[index] = entry
        self._tls_suites = tuple(entries)

    def get_tls_cipher_suite_by_index(self, index: int) -> DicomTlsCipherSuiteType:
        """Read one entry of the preference list; `NONE` is an empty one (`GetTlsCipherSuiteByIndex`)."""
        self._check_index(index)
        return self._suite_list()[index]

    @staticmethod
    def _check_index(index: int) -> None:
        if not 0 <= index < MAX_CIPHER_SUITES:
            raise TlsConfigurationError(
                f"The cipher suite list has the indices 0 to {MAX_CIPHER_SUITES - 1}, not {index}.",
                code=DicomExceptionCode.PARAMETER,
            )

    # --- the link ------------------------------------------------------------------------------------

    def get_tls_cipher_suite(self) -> DicomTlsCipherSuiteType:
        """Return the negotiated suite, from `on_secure_link_ready` on; `NONE` before and without TLS."""
        suite = suite_of(self._tls_stream())
        return suite.leadtools if suite else _NONE

    def _suite(self, cipher: DicomTlsCipherSuiteType | int | None) -> tuple[Suite | None, TlsStream | None]:
        """Return the suite asked about, and the stream where the link uses it."""
        stream = self._tls_stream()
        negotiated = suite_of(stream)
        suite = negotiated if cipher is None else None if cipher == _NONE else by_type(cipher)
        return suite, stream if suite is not None and suite is negotiated else None

    def get_tls_key_exchange_algorithm(
        self, cipher: DicomTlsCipherSuiteType | int | None = None
    ) -> DicomTlsExchangeMethodType:
        """Return how the keys are agreed on (LEADTOOLS `GetTlsKeyExchangeAlgorithm`)."""
        suite, stream = self._suite(cipher)
        if suite is None:
            return DicomTlsExchangeMethodType.NONE
        return suite.exchange if stream is None else exchange_of(suite, stream)

    def get_tls_authentication_algorithm(
        self, cipher: DicomTlsCipherSuiteType | int | None = None
    ) -> DicomTlsAuthenticationMethodType:
        """Return what proves the server's identity (LEADTOOLS `GetTlsAuthenticationAlgorithm`)."""
        suite, stream = self._suite(cipher)
        if suite is None:
            return DicomTlsAuthenticationMethodType.NONE
        return suite.authentication if stream is None else authentication_of(suite, stream)

    def get_tls_encryption_algorithm(
        self, cipher: DicomTlsCipherSuiteType | int | None = None
    ) -> DicomTlsEncryptionMethodType:
        """Return the cipher, without key length and mode (LEADTOOLS `GetTlsEncryptionAlgorithm`)."""
        suite, _ = self._suite(cipher)
        return suite.encryption if suite else DicomTlsEncryptionMethodType.NONE

    def get_tls_integrity_algorithm(
        self, cipher: DicomTlsCipherSuiteType | int | None = None
    ) -> DicomTlsMacMethodType:
        """Return the HMAC, or AEAD where the cipher protects the integrity (`GetTlsIntegrityAlgorithm`)."""
        suite, _ = self._suite(cipher)
        return suite.integrity if suite else DicomTlsMacMethodType.NONE

    def get_tls_encryption_key_length(self, cipher: DicomTlsCipherSuiteType | int | None = None) -> int:
        """Return the length of the cipher's key in bits (LEADTOOLS `GetTlsEncryptionKeyLength`)."""
        suite, _ = self._suite(cipher)
        return suite.key_bits if suite else 0

    def get_tls_mutual_authentication_key_length(
        self, cipher: DicomTlsCipherSuiteType | int | None = None
    ) -> int:
        """Return the length in bits of the key in the peer's certificate, or else in our own.

        0 for any suite but the negotiated one (LEADTOOLS `GetTlsMutualAuthenticationKeyLength`).
        """
        _, stream = self._suite(cipher)
        certificate = stream and (stream.peer_certificate or stream.own_certificate)
        return describe(certificate).key_bits if certificate else 0

    def link_security(self) -> LinkSecurity:
        """Return all that secures the current link: print it, or take it as data with `as_dict()`."""
        return inspect_link(self._tls_stream(), self._tls_in_use)
