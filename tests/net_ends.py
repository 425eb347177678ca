"""Both ends of a `DicomNet` link on loopback, and a peer that is played by hand, PDU by PDU."""

from __future__ import annotations

import queue
import socket
import threading
from contextlib import contextmanager
from struct import pack, unpack
from typing import TYPE_CHECKING, Any, ClassVar

from dialogue import AC, CT, EXPLICIT, IMPLICIT, RQ, VERIFICATION, element, p_data, pdv
from tls_peers import LONG, error_of, in_thread

from dicomnet import DicomAssociate, DicomNet, Timeouts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from dicomnet.enums import DicomExceptionCode

__all__ = [
    "CONTEXTS",
    "LONG",
    "PATIENT",
    "Client",
    "Peer",
    "Server",
    "Storage",
    "associate",
    "associated",
    "connected",
    "error_of",
    "event",
    "in_thread",
    "played",
    "proposal",
    "raw_client",
    "reset",
    "response",
    "serving",
]

CONTEXTS = {1: (VERIFICATION, (IMPLICIT,)), 3: (CT, (EXPLICIT, IMPLICIT))}
"""What the clients here propose: id -> abstract and transfer syntaxes, as in `dialogue`."""

PATIENT = Timeouts(connect=LONG, handshake=LONG, artim=LONG, association=LONG, read=LONG, write=LONG)


def proposal(contexts: dict[int, tuple[str, tuple[str, ...]]] | None = None) -> DicomAssociate:
    """Return an association request."""
    made = DicomAssociate(True)
    made.called, made.calling = "PACS", "SCU"
    for number, (abstract, syntaxes) in (contexts or CONTEXTS).items():
        made.add_presentation_context(number, 0, abstract)
        for syntax in syntaxes:
            made.add_transfer(number, syntax)
    for number in made.find_abstracts(CT):  # some tests store in the other direction, too
        made.set_role_select(number, True, 1, 1)
    return made


class Client(DicomNet):
    """Keeps what its callbacks get in `events`, for the C-ECHO and C-STORE responses and the end."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"timeouts": PATIENT, "trace": None, **options})
        self.events: list[tuple[Any, ...]] = []

    def names(self) -> list[str]:
        """The callbacks that ran, in order."""
        return [name for name, *_ in self.events]

    def on_receive_c_echo_response(self, presentation_id, message_id, affected_class, status):
        self.events.append(("echo", message_id, int(status)))

    def on_receive_c_store_response(self, presentation_id, message_id, affected_class, instance, status):
        self.events.append(("store", message_id, int(status)))

    def on_receive_abort(self, source, reason):
        self.events.append(("abort", int(source), int(reason)))

    def on_close(self, error, net):
        assert net is self
        self.events.append(("close", error))

    # --- calls that tests make often ------------------------------------------------------------

    def echo(self, message_id: int = 0) -> int:
        """Do a C-ECHO and return its status."""
        message_id = message_id or self.next_message_id()
        self.send_c_echo_request(1, message_id, VERIFICATION)
        found: list[int] = []

        def answered() -> bool:
            found.extend(e[2] for e in self.events if e[:2] == ("echo", message_id))
            return bool(found)

        assert self.wait(answered, LONG)
        return found[0]

    def store(self, data_set: Any, message_id: int = 0) -> int:
        """Send a C-STORE request; return its message id."""
        message_id = message_id or self.next_message_id()
        self.send_c_store_request(3, message_id, CT, "1.2.3.4", 0, "", 0, data_set)
        return message_id

    def status_of(self, message_id: int) -> int:
        """Wait for the response to a C-STORE request."""
        assert self.wait(lambda: any(e[:2] == ("store", message_id) for e in self.events), LONG)
        return next(e[2] for e in self.events if e[:2] == ("store", message_id))


class Storage(DicomNet):
    """An accepted link that takes C-ECHO and C-STORE, and keeps the data sets that it got in `stored`."""

    supported_contexts: ClassVar[Mapping[str, Sequence[str]]] = {
        VERIFICATION: (IMPLICIT, EXPLICIT),
        CT: (EXPLICIT, IMPLICIT),
    }

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"timeouts": PATIENT, "trace": None, **options})
        self.stored: list[bytes] = []
        self.events: list[tuple[Any, ...]] = []

    def on_receive_c_store_request(
        self, presentation_id, message_id, affected_class, instance, priority, move_ae, move_id, data_set
    ):
        self.stored.append(data_set.encoded)
        self.send_c_store_response(presentation_id, message_id, affected_class, instance, 0)

    def on_close(self, error, net):
        assert net is self
        self.events.append(("close", error))


class Server(DicomNet):
    """Listens, makes a link for each connection with `make`, and puts what was closed into a queue."""

    def __init__(self, make: Callable[[], DicomNet], **options: Any) -> None:
        super().__init__(**{"trace": None, **options})
        self.make = make
        self.links: queue.Queue[Any] = queue.Queue()
        self.closed: queue.Queue[tuple[DicomExceptionCode, Any, int]] = queue.Queue()

    def on_accept(self, error):
        link = self.make()
        self.accept(link)
        self.links.put(link)

    def on_close(self, error, net):
        self.closed.put((error, net, threading.get_ident()))


@contextmanager
def serving(make: Callable[[], DicomNet] = Storage, **options: Any) -> Iterator[Server]:
    """Run a `Server` on a thread of its own."""
    server = Server(make, **options)
    server.listen("127.0.0.1", 0)
    thread = server.start()
    try:
        yield server
    finally:
        server.close()
        thread.join(LONG)
        assert not thread.is_alive()


def connected(client: Any, port: int) -> Any:
    """Connect a client and return it."""
    client.connect(None, 0, "127.0.0.1", port)
    return client


def associate(client: Any, request: DicomAssociate | None = None) -> Any:
    """Make an association on a connected client and return it."""
    client.send_associate_request(request or proposal())
    assert client.wait(client.is_associated, LONG)
    return client


@contextmanager
def associated(port: int, client: Any = None) -> Iterator[Any]:
    """Return a client with an association; it is closed in the end, whatever state it is in."""
    client = Client() if client is None else client
    try:
        yield associate(connected(client, port))
    finally:
        client.close()


# --- the peer that is played by hand ---------------------------------------------------------------


def response(field: int, message_id: int = 1, status: int = 0, context: int = 1) -> bytes:
    """A P-DATA-TF with a response without data set."""
    body = b"".join(
        (
            element(0x0002, VERIFICATION.encode() + b"\0"),
            element(0x0100, pack("<H", field)),
            element(0x0120, pack("<H", message_id)),
            element(0x0800, pack("<H", 0x0101)),
            element(0x0900, pack("<H", status)),
        )
    )
    return p_data(pdv(element(0, pack("<I", len(body))) + body, 3, context))


class Peer:
    """One end of a plain socket; all calls fail after `LONG` seconds."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(LONG)
        self.sock = sock

    def send(self, *data: bytes) -> None:
        self.sock.sendall(b"".join(data))

    def take(self, size: int) -> bytes:
        """Read that many bytes, fewer only before the end."""
        data = bytearray()
        while len(data) < size and (piece := self.sock.recv(size - len(data))):
            data += piece
        return bytes(data)

    def pdu(self) -> tuple[int, bytes]:
        """Read a PDU: its type, and its body. (0, b"") is the end."""
        head = self.take(6)
        if not head:
            return 0, b""
        kind, length = unpack(">BxI", head)
        return kind, self.take(length)

    def until(self, kind: int) -> bytes:
        """Read PDUs until one of that type; return its body."""
        while (found := self.pdu())[0] != kind:
            assert found[0], f"the end, and no PDU of type {kind}"
        return found[1]

    def request(self) -> Peer:
        """Ask for an association, which must be accepted."""
        self.send(RQ)
        assert self.pdu()[0] == 2
        return self

    def accept(self) -> Peer:
        """Accept the association that the other end asks for."""
        assert self.pdu()[0] == 1
        self.send(AC)
        return self

    def at_end(self) -> bool:
        """Read and drop until the end: True if that was orderly, False if it was a reset."""
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionError:
            return False
        return True


def reset(sock: socket.socket) -> None:
    """Close a connection with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))
    sock.close()


@contextmanager
def raw_client(port: int) -> Iterator[Peer]:
    """Connect a peer that is played by hand to a server of ours."""
    with socket.create_connection(("127.0.0.1", port), LONG) as sock:
        yield Peer(sock)


@contextmanager
def played(play: Callable[[Peer], Any], *, buffer: int = 0) -> Iterator[int]:
    """Let `play` be the server of one connection, on a thread of its own; return the port.

    What it raises is raised in the end. `buffer` makes it receive into a small buffer.
    """
    with socket.socket() as listener:
        if buffer:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(LONG)

        def run() -> None:
            sock, _ = listener.accept()
            with sock:
                play(Peer(sock))

        finish = in_thread(run)
        try:
            yield listener.getsockname()[1]
        finally:
            finish()


class event(threading.Event):
    """An event whose `wait` must succeed."""

    def wait(self, timeout: float | None = LONG) -> bool:
        assert super().wait(timeout), "it did not happen"
        return True
