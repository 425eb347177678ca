"""Store DICOM files over mutual TLS: certificate, key password, cipher suite list, and what was negotiated.

The files go out byte for byte, each in the transfer syntax that it has. The password of the private key is
taken from the environment variable KEY_PASSWORD, else asked for on the terminal.

    python samples/tls_store_client.py HOST PORT CA.pem CERTIFICATE.pem KEY.pem FILE...
"""

from __future__ import annotations

import getpass
import os
import sys

from dicomnet import (
    DicomException,
    DicomExceptionCode,
    DicomNetSecurityMode,
    DicomOpenSslContextCreationSettings,
    DicomTlsCertificateType,
    DicomTlsCipherSuiteType,
    PasswordRequest,
)
from dicomnet.scu import DicomScp, StoreScu

SUITES = (  # most preferred first; the list is optional, its default is the profile of PS3.15 B.12
    DicomTlsCipherSuiteType.AES_256_GCM_SHA384,  # TLS 1.3; without such a suite TLS 1.3 is off
    DicomTlsCipherSuiteType.ECDHE_RSA_WITH_AES256_GCM_SHA384,
    DicomTlsCipherSuiteType.ECDHE_RSA_WITH_AES128_GCM_SHA256,
)


class TlsStoreClient(StoreScu):
    """A storage client that knows where to get a password, and tells how the link is secured."""

    def on_private_key_password_for(self, request: PasswordRequest) -> str | None:
        """The key is encrypted; asked again, up to three times in all, if the password is wrong."""
        return os.environ.get("KEY_PASSWORD") or getpass.getpass(f"Password of {request.path}: ")

    def on_secure_link_ready(self, error: DicomExceptionCode) -> None:
        """The handshake has ended; from now on the link can tell what was negotiated."""
        if error == DicomExceptionCode.SUCCESS:
            suite = self.get_tls_cipher_suite()
            print(f"secure link ready: {suite.name}, key of {self.get_tls_encryption_key_length()} bits")


def main(host: str, port: str, ca: str, certificate: str, key: str, *files: str) -> int:
    """Store the files; return 0 if the peer has taken every one."""
    net = TlsStoreClient(DicomScp(host, "STORAGE", int(port)), ae_title="STORE-CLIENT")
    authority = DicomOpenSslContextCreationSettings(certification_authorities_file_name=ca)
    net.initialize(None, DicomNetSecurityMode.TLS, authority)
    net.set_tls_client_certificate(certificate, DicomTlsCertificateType.PEM, key)
    net.set_tls_cipher_suite_by_index(0, DicomTlsCipherSuiteType.NONE)  # empties the list
    for index, suite in enumerate(SUITES):
        net.set_tls_cipher_suite_by_index(index, suite)

    failed = 0
    with net:
        for result in net.store(files):
            failed += not result.stored
            print(f"{result.source}: {result.error or f'{result.status!r}'}")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except DicomException as error:
        sys.exit(f"{type(error).__name__}: {error}")
