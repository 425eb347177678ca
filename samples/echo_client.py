"""C-ECHO by hand: the programming model of `DicomNet`, without TLS.

Connect, ask for an association, send a C-ECHO, wait for the callback that has its answer, release.

    python samples/echo_client.py HOST PORT [CALLED_AE]
"""

from __future__ import annotations

import sys

from dicomnet import DicomAssociate, DicomCommandStatusType, DicomException, DicomNet

VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"


class EchoClient(DicomNet):
    """A client that keeps the status of the last C-ECHO response."""

    status: DicomCommandStatusType | None = None

    def on_receive_associate_accept(self, association: DicomAssociate) -> None:
        """The peer has accepted; `association` holds what was negotiated."""
        print(f"associated; the peer takes PDUs of up to {association.max_length} bytes")

    def on_receive_c_echo_response(
        self, presentation_id: int, message_id: int, affected_class: str, status: DicomCommandStatusType
    ) -> None:
        """The answer to our request: what `wait` below waits for."""
        self.status = status


def main(host: str, port: str, called: str = "ANY-SCP") -> int:
    """Do one C-ECHO; return 0 if the peer answered with success."""
    request = DicomAssociate()
    request.called, request.calling = called, "ECHO-CLIENT"
    request.add_presentation_context(1, 0, VERIFICATION)
    request.add_transfer(1, IMPLICIT_LITTLE_ENDIAN)

    with EchoClient() as net:  # leaving the block releases the association; an exception aborts it
        net.connect(None, 0, host, int(port))
        net.send_associate_request(request)
        net.wait(net.is_associated)
        net.send_c_echo_request(1, net.next_message_id(), VERIFICATION)
        net.wait(lambda: net.status is not None)
    print(f"C-ECHO: {net.status!r}")
    return 0 if net.status == DicomCommandStatusType.SUCCESS else 1


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except DicomException as error:
        sys.exit(f"{type(error).__name__}: {error}")
