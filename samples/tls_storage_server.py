"""A storage server over mutual TLS that writes each data set straight into a Part 10 file.

One object listens; each connection gets an object of its own, which takes over the listening object's TLS
settings and runs on its own thread. Only clients with a certificate of that CA get in. Ends on Ctrl-C.

    python samples/tls_storage_server.py HOST PORT CA.pem CERTIFICATE.pem KEY.pem FOLDER
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from dicomnet import (
    DicomCommandStatusType,
    DicomException,
    DicomExceptionCode,
    DicomNet,
    DicomNetSecurityMode,
    DicomOpenSslContextCreationSettings,
    FileSink,
)
from dicomnet.dataset.spool import instance_file_name


class Connection(DicomNet):
    """One client's link."""

    supported_contexts = {"*": ["*"]}  # every SOP class, in any transfer syntax
    folder = Path()

    def on_data_set(self, presentation_id: int, command: Any) -> FileSink:
        """Choose, before its first byte is read, where a data set goes. The peer's UID is not trusted."""
        name = instance_file_name(command.value(0x1000))  # (0000,1000) Affected SOP Instance UID
        context = self.link.core.contexts[presentation_id]
        return FileSink(self.folder / name, context, command, exists="next")

    def on_receive_c_store_request(self, presentation_id: int, message_id: int, *request: Any) -> None:
        """The file is complete and has its name: only now the client is told of success."""
        sop_class, instance, *_, data_set = request
        print(f"{self.peer_address} sent {data_set.path}", flush=True)
        success = DicomCommandStatusType.SUCCESS
        self.send_c_store_response(presentation_id, message_id, sop_class, instance, success)


class Server(DicomNet):
    """The listening object."""

    def on_accept(self, error: DicomExceptionCode) -> None:
        """Give a new connection an object; what is not given to `accept` is closed."""
        self.accept(Connection(None, DicomNetSecurityMode.TLS))

    def on_private_key_password(self, encryption: bool) -> str | None:
        """The password, should the key be encrypted."""
        return os.environ.get("KEY_PASSWORD")


def main(host: str, port: str, ca: str, certificate: str, key: str, folder: str) -> None:
    """Serve until Ctrl-C."""
    Connection.folder = Path(folder)
    Connection.folder.mkdir(parents=True, exist_ok=True)
    with Server() as server:
        authority = DicomOpenSslContextCreationSettings(certification_authorities_file_name=ca)
        server.initialize(None, DicomNetSecurityMode.TLS, authority)
        server.set_tls_server_certificate(certificate, path_to_key_file=key)
        server.listen(host, int(port))
        print(f"listening on port {server.host_port}", flush=True)
        with suppress(KeyboardInterrupt):
            server.run()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except DicomException as error:
        sys.exit(f"{type(error).__name__}: {error}")
