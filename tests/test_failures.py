"""What goes wrong with network, peer and files, each seen as a user of the SDK sees it.

Each failure has its own exception class and a message that names the peer and says what to do next; it comes
at once, or by its own time-out: all others are longer than a test may take. Nothing is left open.
"""

from __future__ import annotations

import resource
import shutil
import socket
import ssl
import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import dialogue
import pydicom
import pytest
from dialogue import CT, EXPLICIT, IMPLICIT, VERIFICATION
from failing import Failures, WatchedStore, at, check, failure, only, scu
from net_ends import Peer, played, raw_client, reset
from peers import LOCAL, LONG, PORT, SHIPPED, client, free_port, listening, needs, secure, serve

from dicomnet import DicomNet, Limits, errors
from dicomnet.protocol import items
from dicomnet.scu import DicomConnection, DicomScp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from dicomnet.scu import StoreScu

pytestmark = pytest.mark.usefixtures("leak_check")

CT_FILE = next(path for path in SHIPPED if path.endswith("CT_small.dcm"))
JPEG_FILE = next(path for path in SHIPPED if path.endswith("SC_rgb_jpeg_dcmtk.dcm"))
ECHO = [(VERIFICATION, (IMPLICIT,))]


# --- connecting ------------------------------------------------------------------------------------


def test_connection_refused() -> None:
    port = free_port()
    with failure(
        errors.ConnectionRefused, "Nothing listens there", "check the port", peer=at(port)
    ) as raised:
        scu(port).open()
    assert raised.value.errno


def test_name_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def look_up(host: str, *arguments: Any) -> Any:
        if host == "pacs.invalid" and not arguments[-1]:  # what a resolver answers; here there may be none
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *arguments)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(errors.HostNotFound, match=r"'pacs\.invalid'.*Check the name") as raised:
        scu(104, "pacs.invalid").open()
    assert raised.value.peer == "pacs.invalid:104"


def test_silent_peer() -> None:
    """It takes the connection and the request, and says nothing."""
    words = ("DICOM server", "wants TLS")
    with played(Peer.at_end) as port, failure(errors.AssociationTimeout, *words, peer=at(port)):
        scu(port, timeouts=only("association")).open()


def test_peer_that_closes_at_once() -> None:
    """As a TLS port does, a firewall of the host, or a server that is full."""
    with (
        played(lambda _: None) as port,
        failure(errors.ConnectionLost, "may want TLS", "not let us in", peer=at(port)),
    ):
        scu(port).open()


def test_silent_peer_at_our_server(tmp_path: Path) -> None:
    with (
        listening(WatchedStore(tmp_path, timeouts=only("artim"))) as server,
        raw_client(server.host_port) as peer,
    ):
        assert peer.at_end()
        server.failures.expect(errors.AssociationTimeout, at(peer.sock.getsockname()[1]))


@pytest.mark.parametrize(
    ("answer", "seen", "advice"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "HTTP", "Look whether this is the port"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH", "Look whether this is the port"),
        # An alert: so TLS servers answer what is no ClientHello.
        (b"\x15\x03\x01\x00\x02\x02\x46", "TLS", "Connect with DicomNetSecurityMode.TLS"),
    ],
    ids=["HTTP", "SSH", "TLS"],
)
def test_another_protocol_at_the_server(answer: bytes, seen: str, advice: str) -> None:
    def answers(peer: Peer) -> None:
        peer.send(answer)
        peer.at_end()

    with played(answers) as port, failure(errors.ProtocolMismatch, seen, advice, peer=at(port)) as raised:
        scu(port).open()
    assert raised.value.seen == seen


@pytest.mark.parametrize(
    ("first", "seen"),
    [
        (b"GET / HTTP/1.1\r\nHost: pacs\r\n\r\n", "HTTP"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), "TLS"),
    ],
    ids=["HTTP", "SSH", "TLS"],
)
def test_another_protocol_at_our_server(tmp_path: Path, first: bytes, seen: str) -> None:
    with listening(WatchedStore(tmp_path)) as server, raw_client(server.host_port) as peer:
        peer.send(first)
        peer.at_end()
        server.failures.expect(errors.ProtocolMismatch, at(peer.sock.getsockname()[1]), seen)


# --- association -----------------------------------------------------------------------------------

REASONS = {  # PS3.8 table 9-21
    (1, 1): ("no reason", "none of what was proposed", "log"),
    (1, 2): ("application context", "a DICOM server"),
    (1, 3): ("calling AE title", "our AE title 'DICOMNET' made known"),
    (1, 7): ("called AE title", "It was called 'PACS'"),
    (2, 1): ("no reason", "Its log"),
    (2, 2): ("protocol version", "Its log"),
    (3, 1): ("congestion", "Try again later"),
    (3, 2): ("local limit", "Try again later"),
    (1, 9): ("reserved reason 9", "Its log"),
}


@pytest.mark.parametrize(("source", "reason"), REASONS)
@pytest.mark.parametrize("result", [1, 2])
def test_association_rejected(result: int, source: int, reason: int) -> None:
    def rejects(peer: Peer) -> None:
        assert peer.pdu()[0] == 1
        peer.send(dialogue.short(3, result, source, reason))
        peer.at_end()

    with (
        played(rejects) as port,
        failure(errors.AssociationRejected, *REASONS[source, reason], peer=at(port)) as raised,
    ):
        scu(port).open()
    error = raised.value
    assert (error.result, error.source, error.reason) == (result, source, reason)
    assert error.transient is (result == 2)


def test_association_rejected_for_a_title(tmp_path: Path) -> None:
    with (
        listening(WatchedStore(tmp_path, ae_title="ARCHIVE")) as server,
        failure(errors.AssociationRejected, "called AE title", peer=at(server.host_port)),
    ):
        scu(server.host_port).open()


def test_association_rejected_where_too_many_are_served(tmp_path: Path) -> None:
    with (
        listening(WatchedStore(tmp_path, limits=Limits(links=1))) as server,
        DicomConnection(DicomScp(LOCAL, "PACS", server.host_port)),
        failure(errors.AssociationRejected, "local limit", "fewer associations", peer=at(server.host_port)),
    ):
        scu(server.host_port).open()


def test_association_rejected_by_a_server_that_takes_nothing_of_it(tmp_path: Path) -> None:
    with (
        listening(WatchedStore(tmp_path)) as server,
        failure(errors.AssociationRejected, peer=at(server.host_port)),
    ):
        scu(server.host_port).open([("1.2.840.10008.5.1.4.31", (IMPLICIT,))])


def accepting(*results: int) -> bytes:
    """Return an A-ASSOCIATE-AC with these results for the contexts 1, 3, ..."""
    contexts = tuple(
        items.PresentationContextAc(2 * n + 1, result, EXPLICIT) for n, result in enumerate(results)
    )
    return replace(dialogue.ACCEPT, contexts=contexts).encode()


def refusing(peer: Peer) -> None:
    """Accept an association, but none of its contexts."""
    assert peer.pdu()[0] == 1
    peer.send(accepting(3, 4))
    assert peer.pdu()[0] == 5
    peer.send(dialogue.RELEASE_RP)
    peer.at_end()


def test_no_context_accepted_to_echo() -> None:
    with played(refusing) as port:
        client = scu(port)
        client.open(ECHO)
        with failure(errors.NoAcceptedContext, VERIFICATION, "Have the peer set up", peer=at(port)):
            client.echo()
        client.release()


def test_no_context_accepted_to_store() -> None:
    with played(refusing) as port:
        (result,) = scu(port).store(CT_FILE)
    assert not result.stored
    check(result.error, errors.NoAcceptedContext, CT, "though in others", "Convert", peer=at(port))


@pytest.mark.interop
@needs("storescp")
def test_transfer_syntax_without_an_accepted_context(tmp_path: Path) -> None:
    """A storescp without +xa takes no compressed data sets; the other file goes through all the same."""
    with serve(tmp_path, "storescp", "-dhl", "--ignore", PORT) as peer:
        jpeg, ct = scu(peer.port).store([JPEG_FILE, CT_FILE])
    assert ct.stored
    syntax = "in transfer syntax 1.2.840.10008.1.2.4.50, though in others"
    check(jpeg.error, errors.NoAcceptedContext, syntax, "Convert the object", peer=at(peer.port))


def test_transfer_syntax_that_is_not_the_accepted_one(tmp_path: Path) -> None:
    class OnlyImplicit(DicomNet):
        supported_contexts: ClassVar = {CT: (IMPLICIT,)}

    class Server(DicomNet):
        def on_accept(self, error: int) -> None:
            self.accept(OnlyImplicit())

    with listening(Server()) as server:
        (result,) = scu(server.host_port).store(CT_FILE)
    words = (f"in transfer syntax {EXPLICIT}, only in {IMPLICIT}", "Convert the object")
    check(result.error, errors.NoAcceptedContext, *words, peer=at(server.host_port))


def test_sop_class_without_an_accepted_context(tmp_path: Path) -> None:
    class OnlyCt(WatchedStore):
        def accepts(self, abstract_syntax: str) -> bool:
            return abstract_syntax == CT

    with listening(OnlyCt(tmp_path)) as server:
        jpeg, ct = scu(server.host_port).store([JPEG_FILE, CT_FILE])
    assert ct.stored
    words = ("SOP class 1.2.840.10008.5.1.4.1.1.7.", "Have the peer set up")
    check(jpeg.error, errors.NoAcceptedContext, *words, peer=at(server.host_port))


# --- the middle of a data set, our client sends ----------------------------------------------------

SECURED = pytest.mark.parametrize("security", ["plain", "TLS"])


@contextmanager
def secured(peer: Peer, certs: Path, security: str, *, server_side: bool) -> Iterator[Peer]:
    """Put TLS under a peer that is played by hand."""
    if security == "plain":
        yield peer
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certs / "ca.pem")
    name = "server" if server_side else "client"
    context.load_cert_chain(certs / f"{name}.pem", certs / f"{name}.key")
    peer.sock.settimeout(LONG)
    with context.wrap_socket(peer.sock, server_side=server_side) as wrapped:
        yield Peer(wrapped)


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file whose data set does not fit into the buffers between two ends."""
    data_set = pydicom.dcmread(CT_FILE)
    data_set.PixelData = bytes(64 << 20)
    path = str(tmp_path_factory.mktemp("big") / "big.dcm")
    data_set.save_as(path)
    return path


def midway(certs: Path, security: str, then: Callable[[Peer], Any]) -> Callable[[Peer], None]:
    """Play a server that reads a mebibyte of a data set and then does something else."""

    def play(plain: Peer) -> None:
        with secured(plain, certs, security, server_side=True) as peer:
            assert peer.pdu()[0] == 1
            peer.send(accepting(0, 3))
            peer.take(1 << 20)
            then(peer)

    return play


def sender(certs: Path, security: str, port: int, *timeouts: str) -> StoreScu:
    made = scu(port, timeouts=only(*timeouts))
    if security != "plain":
        secure(made, certs, "client")
    return made


@SECURED
def test_peer_aborts_in_the_middle(certs: Path, big: str, security: str) -> None:
    def aborts(peer: Peer) -> None:
        peer.send(dialogue.abort(2, 1))
        peer.at_end()

    with (
        played(midway(certs, security, aborts)) as port,
        failure(errors.AssociationAborted, "did not recognize", "log", peer=at(port)) as raised,
    ):
        sender(certs, security, port).store(big)
    assert (raised.value.source, raised.value.reason, raised.value.by) == (2, 1, "peer")


@SECURED
def test_peer_resets_in_the_middle(certs: Path, big: str, security: str) -> None:
    with (
        played(midway(certs, security, lambda peer: reset(peer.sock))) as port,
        failure(errors.ConnectionLost, "reset", peer=at(port)),
    ):
        sender(certs, security, port).store(big)


@SECURED
def test_peer_stops_reading(certs: Path, big: str, security: str) -> None:
    done = threading.Event()
    with played(midway(certs, security, lambda _: done.wait(LONG))) as port:
        try:
            with failure(errors.WriteTimeout, "stopped reading", "a peer that hangs", peer=at(port)):
                sender(certs, security, port, "write").store(big)
        finally:
            done.set()


def test_peer_falls_silent_before_its_response() -> None:
    def takes_it(peer: Peer) -> None:
        assert peer.pdu()[0] == 1
        peer.send(accepting(0, 3))
        peer.at_end()

    with played(takes_it) as port, failure(errors.ResponseTimeout, peer=at(port)):
        scu(port, timeouts=only("response")).store(CT_FILE)


@pytest.mark.interop
@needs("storescp")
@pytest.mark.parametrize("when", ["--abort-after", "--abort-during"])
def test_storescp_aborts(tmp_path: Path, when: str) -> None:
    with (
        serve(tmp_path, "storescp", "-dhl", "--ignore", when, PORT) as peer,
        failure(errors.AssociationAborted, "log", peer=at(peer.port)),
    ):
        scu(peer.port).store(CT_FILE)


@pytest.mark.interop
@needs("storescp")
def test_storescp_refuses(tmp_path: Path) -> None:
    with (
        serve(tmp_path, "storescp", "-dhl", "--refuse", PORT) as peer,
        failure(errors.AssociationRejected, peer=at(peer.port)),
    ):
        scu(peer.port).store(CT_FILE)


# --- the middle of a data set, our server receives -------------------------------------------------

HALF = dialogue.message(bytes(1 << 20), step=4096)[: -128 * (4096 + 12)]  # whole PDUs, not the last one


ENDS: dict[str, tuple[Callable[[Peer], Any], list[str], type[errors.DicomException], list[str]]] = {
    "aborts": (lambda peer: peer.send(dialogue.abort(0, 0)), [], errors.AssociationAborted, ["log"]),
    "closes": (lambda peer: peer.sock.close(), [], errors.ConnectionLost, ["closed"]),
    "resets": (lambda peer: reset(peer.sock), [], errors.ConnectionLost, ["reset"]),
    "falls silent": (lambda peer: None, ["read"], errors.ReadTimeout, ["0.2 s", "the network"]),
}


@SECURED
@pytest.mark.parametrize("how", ENDS)
def test_sender_ends_in_the_middle(certs: Path, tmp_path: Path, how: str, security: str) -> None:
    end, timeouts, kind, words = ENDS[how]
    server = WatchedStore(tmp_path, timeouts=only(*timeouts))
    if security != "plain":
        secure(server, certs, "server")
    with listening(server), raw_client(server.host_port) as plain:
        where = at(plain.sock.getsockname()[1])
        with secured(plain, certs, security, server_side=False) as peer:
            peer.request()
            peer.send(HALF)
            end(peer)
            server.failures.expect(kind, where, *words)
    assert (server.stored, server.failed) == (0, 1)
    assert list(tmp_path.iterdir()) == []


def test_sender_ends_in_the_middle_and_nothing_stays_in_the_spool(tmp_path: Path) -> None:
    failures = Failures()

    class Keeps(DicomNet):
        supported_contexts: ClassVar = {CT: (EXPLICIT,)}

        def on_receive_c_store_request(self, *_: Any) -> None:
            raise AssertionError("it never comes whole")

    class Server(DicomNet):
        def on_accept(self, error: int) -> None:
            self.accept(Keeps(str(tmp_path), limits=Limits(memory=0), timeouts=only(), trace=failures))

    with listening(Server()) as server, raw_client(server.host_port) as peer:
        peer.request()
        peer.send(HALF)
        peer.send(dialogue.abort(0, 0))
        failures.expect(errors.AssociationAborted, "log")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


# --- a server that cannot store --------------------------------------------------------------------


def unwritable(folder: Path) -> None:
    """Make a folder unwritable, also for root."""
    shutil.rmtree(folder)
    folder.write_bytes(b"")


def test_server_cannot_write(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    with listening(WatchedStore(folder)) as server:
        unwritable(folder)
        (result,) = scu(server.host_port).store(CT_FILE)
    assert result.status == 0xA700
    assert "A700H out of resources" in str(result)
    assert (server.stored, server.failed) == (0, 1)


@pytest.mark.interop
@needs("storescu")
def test_server_cannot_write_what_storescu_sends(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    with listening(WatchedStore(folder)) as server:
        unwritable(folder)
        done = client("storescu", "-v", "-R", LOCAL, server.host_port, CT_FILE)
    assert "Refused: OutOfResources" in done.stdout
    assert (server.stored, server.failed) == (0, 1)


@contextmanager
def full_disk() -> Iterator[None]:
    """Let no file get longer than a mebibyte: writing the rest fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_disk_is_full_in_the_middle(tmp_path: Path, big: str) -> None:
    with listening(WatchedStore(tmp_path)) as server, full_disk():
        lost, kept = scu(server.host_port).store([big, JPEG_FILE])
    assert lost.status == 0xA700
    assert kept.stored
    assert (server.stored, server.failed) == (1, 1)
    assert [str(path) for path in tmp_path.iterdir()] == [server.instances[0].path]


@pytest.mark.interop
@needs("storescu")
def test_disk_is_full_in_the_middle_of_what_storescu_sends(tmp_path: Path, big: str) -> None:
    with listening(WatchedStore(tmp_path)) as server, full_disk():
        done = client("storescu", "-v", "-R", LOCAL, server.host_port, big)
    assert "Refused: OutOfResources" in done.stdout
    assert (server.stored, server.failed) == (0, 1)
    assert list(tmp_path.iterdir()) == []
