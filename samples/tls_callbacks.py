"""Every TLS callback of `DicomNet`, in the order in which they come, on one C-ECHO.

    python samples/tls_callbacks.py HOST PORT CA.pem CERTIFICATE.pem KEY.pem

The password of the private key is taken from the environment variable KEY_PASSWORD.
"""

from __future__ import annotations

import os
import sys

from dicomnet import (
    DicomException,
    DicomExceptionCode,
    DicomNetSecurityMode,
    DicomOpenSslContextCreationSettings,
    PasswordRequest,
)
from dicomnet.errors import DicomSecurityCertificateException
from dicomnet.scu import DicomConnection, DicomScp


class Talkative(DicomConnection):
    """Prints what each callback is told, and does what its default would do."""

    def on_private_key_password_for(self, request: PasswordRequest) -> str | bytes | None:
        """Asked while an encrypted key is loaded. Of the two forms this is the one that is asked."""
        print(f"on_private_key_password_for: {request.role} key {request.path}, attempt {request.attempt}")
        return super().on_private_key_password_for(request)  # asks the other form

    def on_private_key_password(self, encryption: bool) -> str | None:
        """The form that LEADTOOLS has, which does not tell which key it is about."""
        print("on_private_key_password")
        return os.environ.get("KEY_PASSWORD")

    def on_connect(self, error: DicomExceptionCode) -> None:
        """The TCP connection is there, or not. Nothing can be sent yet."""
        print(f"on_connect: {error!r}")

    def on_verify(self, ok: int, certificate_string: str, error: DicomSecurityCertificateException) -> int:
        """For each certificate of the peer's chain, the CA's first. Returning 1 for `ok` 0 lets it in."""
        print(f"on_verify: ok={ok} ({error})")
        print(*(f"    {line}" for line in certificate_string.splitlines()), sep="\n")
        return ok

    def on_secure_link_ready(self, error: DicomExceptionCode) -> None:
        """The handshake has ended, well or not; after success the link can describe itself."""
        print(f"on_secure_link_ready: {error!r}")
        print(self.link_security())


def main(host: str, port: str, ca: str, certificate: str, key: str) -> int:
    """Do one C-ECHO over a mutually authenticated link; return 0 if all went well."""
    net = Talkative(DicomScp(host, port=int(port)))
    authority = DicomOpenSslContextCreationSettings(certification_authorities_file_name=ca)
    net.initialize(None, DicomNetSecurityMode.TLS, authority)
    net.set_tls_client_certificate(certificate, path_to_key_file=key)
    with net:
        status = net.echo()
    print(f"C-ECHO: {status!r}")
    return int(status)


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except DicomException as error:
        sys.exit(f"{type(error).__name__}: {error}")
