"""A stream over real sockets on loopback: waiting, cutting, ending, and what a hostile peer can do to it."""

from __future__ import annotations

import errno
import os
import random
import select
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from dicomnet import errors
from dicomnet.enums import DicomExceptionCode
from dicomnet.transport import deadline as deadline_module
from dicomnet.transport import tcp
from dicomnet.transport.deadline import NEVER, Deadline, DeadlineExpired
from dicomnet.transport.tcp import TcpStream
from dicomnet.transport.waiting import READ, WRITE, wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

pytestmark = pytest.mark.usefixtures("leak_check")

MIB = 1024 * 1024
SOON = 0.02
PATIENCE = 60


def connected(buffer: int = 65536) -> tuple[socket.socket, socket.socket]:
    """Two ends of a loopback connection; with small buffers, so that a write soon has to wait."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        one.connect(listening.getsockname())
        other, _ = listening.accept()
        other.settimeout(PATIENCE)
    return one, other


@pytest.fixture
def ends() -> Iterator[tuple[TcpStream, socket.socket]]:
    """Our stream, and the peer's bare socket."""
    one, peer = connected()
    stream = TcpStream(one)
    yield stream, peer
    stream.kill()
    peer.close()


@pytest.fixture
def both() -> Iterator[tuple[TcpStream, TcpStream]]:
    ours, theirs = (TcpStream(sock) for sock in connected())
    yield ours, theirs
    ours.kill()
    theirs.kill()


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set as soon as a stream begins to wait."""
    began = threading.Event()

    def telling(deadline: Deadline, *interests: tuple[int, int]) -> dict[int, int]:
        began.set()
        return wait(deadline, *interests)

    monkeypatch.setattr(tcp, "wait", telling)
    return began


def read(stream: TcpStream, size: int = 65536, deadline: Deadline = NEVER) -> bytes:
    buffer = memoryview(bytearray(size))
    return bytes(buffer[: stream.read_into(buffer, deadline)])


def read_all(stream: TcpStream, size: int = 65536) -> bytes:
    whole = bytearray()
    while piece := read(stream, size):
        whole += piece
    return bytes(whole)


def receive_all(peer: socket.socket) -> bytes:
    whole = bytearray()
    while piece := peer.recv(65536):
        whole += piece
    return bytes(whole)


def flood(peer: socket.socket) -> None:
    while True:
        peer.sendall(bytes(65536))


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


# --- reading -------------------------------------------------------------------------------------


def test_reads_into_the_slice_and_nowhere_else(ends: tuple[TcpStream, socket.socket]) -> None:
    stream, peer = ends
    peer.sendall(b"abc")
    buffer = bytearray(b".........")
    assert stream.read_into(memoryview(buffer)[2:4], NEVER) == 2
    assert stream.read_into(memoryview(buffer)[6:9], NEVER) == 1
    assert buffer == b"..ab..c.."


def test_waits_for_what_comes_later(ends: tuple[TcpStream, socket.socket], waiting: threading.Event) -> None:
    stream, peer = ends
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read, stream)
        assert waiting.wait(PATIENCE)
        peer.sendall(b"later")
        assert reading.result() == b"later"


def test_a_read_expires_and_the_stream_goes_on(ends: tuple[TcpStream, socket.socket]) -> None:
    stream, peer = ends
    with pytest.raises(DeadlineExpired):
        read(stream, deadline=Deadline.after(SOON))
    peer.sendall(b"x")
    assert read(stream) == b"x"


def test_what_is_there_is_read_even_after_the_deadline(ends: tuple[TcpStream, socket.socket]) -> None:
    stream, peer = ends
    peer.sendall(b"x")
    wait(NEVER, (stream.fileno(), READ))
    assert read(stream, deadline=Deadline.after(0)) == b"x"
    with pytest.raises(DeadlineExpired):
        read(stream, deadline=Deadline.after(0))


def test_a_try_does_not_wait(ends: tuple[TcpStream, socket.socket]) -> None:
    stream, peer = ends
    buffer = memoryview(bytearray(10))
    assert stream.try_read_into(buffer) is None
    peer.sendall(b"x")
    wait(NEVER, (stream.fileno(), READ))
    assert stream.try_read_into(buffer) == 1
    assert stream.try_read_into(buffer) is None


def test_no_room_is_a_mistake_and_not_the_peers_end(ends: tuple[TcpStream, socket.socket]) -> None:
    stream, peer = ends
    peer.sendall(b"x")
    wait(NEVER, (stream.fileno(), READ))
    with pytest.raises(ValueError, match="room"):
        stream.try_read_into(memoryview(bytearray()))


def test_fin_is_the_end_after_the_last_byte_and_we_may_still_write(
    ends: tuple[TcpStream, socket.socket],
) -> None:
    stream, peer = ends
    peer.sendall(b"last")
    peer.shutdown(socket.SHUT_WR)
    assert [read(stream), read(stream), read(stream)] == [b"last", b"", b""]
    stream.write([b"answer"], NEVER)
    assert peer.recv(100) == b"answer"


def test_rst_is_a_lost_connection(ends: tuple[TcpStream, socket.socket]) -> None:
    stream, peer = ends
    reset(peer)
    with pytest.raises(errors.ConnectionLost, match="reset") as caught:
        read(stream)
    assert (caught.value.errno, caught.value.code) == (
        errno.ECONNRESET,
        DicomExceptionCode.NET_CONNECTION_RESET,
    )
    assert caught.value.peer == stream.peer


def test_rst_ends_a_read_that_waits(ends: tuple[TcpStream, socket.socket], waiting: threading.Event) -> None:
    stream, peer = ends
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read, stream)
        assert waiting.wait(PATIENCE)
        reset(peer)
        with pytest.raises(errors.ConnectionLost):
            reading.result()


# --- writing -------------------------------------------------------------------------------------


def spy(stream: TcpStream, take: Callable[[int], int] | None = None) -> list[int]:
    """Count the buffers of each sendmsg(2); `take` may cut a call down to so many bytes."""
    calls: list[int] = []
    real = stream._sendmsg

    def sendmsg(buffers: Sequence[bytes | memoryview]) -> int:
        calls.append(len(buffers))
        if take is None:
            return real(buffers)
        joined = b"".join(buffers)
        return real([joined[: take(len(joined))]])

    stream._sendmsg = sendmsg
    return calls


def test_no_delay_is_set(ends: tuple[TcpStream, socket.socket]) -> None:
    sock = ends[0]._socket
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert not sock.getblocking()


def test_keep_alive_finds_a_peer_that_is_gone_within_two_minutes(
    ends: tuple[TcpStream, socket.socket],
) -> None:
    sock = ends[0]._socket
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    assert [sock.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [60, 15, 4]


def test_what_fits_is_one_system_call(ends: tuple[TcpStream, socket.socket]) -> None:
    stream, peer = ends
    calls = spy(stream)
    stream.write([b"header", memoryview(b"--body--")[2:6], b"", b"tail"], NEVER)
    assert calls == [4]
    assert peer.recv(100) == b"headerbodytail"
    stream.write([], NEVER)
    assert calls == [4]


@pytest.mark.parametrize("buffers", [[b""], [b"", b""], [b""] * 5000, [*[b""] * 5000, b"x", b""]])
def test_empty_buffers_are_nothing(ends: tuple[TcpStream, socket.socket], buffers: list[bytes]) -> None:
    stream, peer = ends
    stream.write(buffers, NEVER)
    stream.write([b"."], NEVER)
    stream.shutdown()
    assert receive_all(peer) == b"".join(buffers) + b"."


def test_a_view_of_wider_items_is_a_mistake_and_not_cut_short(ends: tuple[TcpStream, socket.socket]) -> None:
    with pytest.raises(ValueError, match="one byte per item"):
        ends[0].write([b"ab", memoryview(bytes(8)).cast("I")], NEVER)


def test_more_buffers_than_the_system_takes_at_a_time(ends: tuple[TcpStream, socket.socket]) -> None:
    stream, peer = ends
    limit = os.sysconf("SC_IOV_MAX")
    buffers = [bytes([n % 251]) * (n % 5) for n in range(2 * limit + 10)]
    calls = spy(stream)
    stream.write(buffers, NEVER)
    assert calls == [limit, limit, 10]
    stream.shutdown()
    assert receive_all(peer) == b"".join(buffers)


def test_goes_on_in_the_middle_of_a_buffer(ends: tuple[TcpStream, socket.socket]) -> None:
    stream, peer = ends
    chance = random.Random(8)
    buffers = [chance.randbytes(chance.choice((0, 1, 6, 100, 5000))) for _ in range(40)]
    original = list(buffers)
    spy(stream, lambda most: min(most, chance.randrange(1, 3000)))
    with ThreadPoolExecutor(1) as pool:
        arrived = pool.submit(receive_all, peer)
        stream.write(buffers, NEVER)
        stream.shutdown()
        assert arrived.result() == b"".join(original)
    assert buffers == original


def test_full_duplex_between_two_threads_of_one_stream(both: tuple[TcpStream, TcpStream]) -> None:
    chance = random.Random(9)
    pool = ThreadPoolExecutor(4)

    def send(stream: TcpStream, data: bytes, sizes: list[int]) -> None:
        view, at = memoryview(data), 0
        while at < len(data):
            batch: list[bytes | memoryview] = []
            for size in sizes:
                batch.append(view[at : at + size])
                at += size
            stream.write(batch, NEVER, stall=PATIENCE)

    def take(stream: TcpStream, size: int, room: int) -> bytes:
        whole = memoryview(bytearray(size))
        at = 0
        while at < size:
            at += stream.read_into(whole[at : at + room], Deadline.after(PATIENCE))
        return bytes(whole)

    with pool:
        there, back = chance.randbytes(8 * MIB), chance.randbytes(6 * MIB + 17)
        ours, theirs = both
        writes = [
            pool.submit(send, ours, there, [12, 100_000, 12, 3000]),
            pool.submit(send, theirs, back, [6, 16_384] * 20),
        ]
        assert pool.submit(take, theirs, len(there), 50_000).result() == there
        assert pool.submit(take, ours, len(back), 262_144).result() == back
        for write in writes:
            write.result()


def test_a_peer_that_does_not_read_cannot_hold_a_write(ends: tuple[TcpStream, socket.socket]) -> None:
    stream, peer = ends
    with pytest.raises(DeadlineExpired):
        stream.write([bytes(8 * MIB)], Deadline.after(SOON))
    stream.kill()
    assert stream.fileno() == -1
    with pytest.raises(ConnectionResetError):  # what nobody will ever read is not kept by the system
        receive_all(peer)


def test_a_stalled_write_ends_without_a_deadline(ends: tuple[TcpStream, socket.socket]) -> None:
    with pytest.raises(DeadlineExpired):
        ends[0].write([bytes(8 * MIB)], NEVER, stall=SOON)


@pytest.fixture
def slow(ends: tuple[TcpStream, socket.socket], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let a second pass, and the peer read a little, each time that the stream waits; return what it read."""
    stream, peer = ends
    now = [0.0]
    reads: list[int] = []

    def trickle(deadline: Deadline, *interests: tuple[int, int]) -> dict[int, int]:
        while not select.select([], [stream.fileno()], [], 0)[1]:
            reads.append(len(peer.recv(4096)))
        now[0] += 1
        return wait(deadline, *interests)

    monkeypatch.setattr(tcp, "wait", trickle)
    monkeypatch.setattr(deadline_module, "monotonic", lambda: now[0])
    return reads


def test_a_trickle_does_not_extend_the_deadline(
    ends: tuple[TcpStream, socket.socket], slow: list[int]
) -> None:
    with pytest.raises(DeadlineExpired):
        ends[0].write([bytes(32 * MIB)], Deadline.after(5), stall=3)
    assert slow
    assert sum(slow) < 16 * MIB


def test_progress_restarts_the_stall(ends: tuple[TcpStream, socket.socket], slow: list[int]) -> None:
    ends[0].write([bytes(4 * MIB)], Deadline.after(10_000), stall=1.5)
    assert len(slow) > 10


def test_being_readable_is_no_progress(
    ends: tuple[TcpStream, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, peer = ends
    peer.sendall(b"x")
    now = [0.0]
    asked: list[Deadline] = []

    def ticking(deadline: Deadline, *interests: tuple[int, int]) -> dict[int, int]:
        asked.append(deadline)
        now[0] += 1
        return wait(deadline, *interests)

    monkeypatch.setattr(tcp, "wait", ticking)
    monkeypatch.setattr(deadline_module, "monotonic", lambda: now[0])
    with pytest.raises(DeadlineExpired):
        stream.write([bytes(8 * MIB)], NEVER, stall=5, on_readable=lambda: True)
    assert len(asked) > 2
    assert len(set(map(id, asked[-4:]))) == 1


def test_two_ends_that_both_write_are_freed_by_reading_ahead(both: tuple[TcpStream, TcpStream]) -> None:
    size = 8 * MIB

    def write(stream: TcpStream) -> int:
        buffer = memoryview(bytearray(65536))
        ahead = 0

        def take() -> bool:
            nonlocal ahead
            ahead += stream.try_read_into(buffer) or 0
            return True

        stream.write([bytes(size)], Deadline.after(PATIENCE), on_readable=take)
        left = size - ahead
        while left:
            left -= stream.read_into(buffer, Deadline.after(PATIENCE))
        return ahead

    with ThreadPoolExecutor(2) as pool:
        assert sum(done.result() for done in [pool.submit(write, stream) for stream in both])


def test_a_full_reader_is_not_asked_again(ends: tuple[TcpStream, socket.socket]) -> None:
    stream, peer = ends
    peer.sendall(b"unread")
    asked = []
    with pytest.raises(DeadlineExpired):
        stream.write([bytes(8 * MIB)], Deadline.after(SOON), on_readable=lambda: bool(asked.append(1)))
    assert asked == [1]
    assert read(stream) == b"unread"


def test_what_the_reader_raises_ends_the_write(ends: tuple[TcpStream, socket.socket]) -> None:
    stream, peer = ends
    peer.sendall(b"x")

    def abort_seen() -> bool:
        raise errors.AssociationAborted("seen")

    with pytest.raises(errors.AssociationAborted):
        stream.write([bytes(8 * MIB)], NEVER, on_readable=abort_seen)


def test_writing_to_a_peer_that_is_gone(ends: tuple[TcpStream, socket.socket]) -> None:
    stream, peer = ends
    reset(peer)
    wait(NEVER, (stream.fileno(), READ))
    with pytest.raises(errors.ConnectionLost):
        stream.write([b"x"], NEVER)
    with pytest.raises(errors.ConnectionLost, match="takes no more") as caught:
        stream.write([b"x"], NEVER)
    assert caught.value.code == DicomExceptionCode.NET_SHUTDOWN


def test_a_peer_that_resets_ends_a_write_that_waits(
    ends: tuple[TcpStream, socket.socket], waiting: threading.Event
) -> None:
    stream, peer = ends
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(stream.write, [bytes(8 * MIB)], NEVER)
        assert waiting.wait(PATIENCE)
        reset(peer)
        with pytest.raises(errors.ConnectionLost):
            writing.result()


# --- ending --------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["read", "write"])
def test_shutdown_from_another_thread_wakes(
    ends: tuple[TcpStream, socket.socket], waiting: threading.Event, what: str
) -> None:
    stream, _ = ends
    with ThreadPoolExecutor(1) as pool:
        blocked = (
            pool.submit(read, stream)
            if what == "read"
            else pool.submit(stream.write, [bytes(8 * MIB)], NEVER)
        )
        assert waiting.wait(PATIENCE)
        stream.shutdown()
        with pytest.raises(errors.LinkClosed, match="our side"):
            blocked.result()
    assert stream.fileno() >= 0  # the descriptor stays ours until somebody who may do so closes it
    stream.shutdown()


def test_a_write_after_shutdown(ends: tuple[TcpStream, socket.socket]) -> None:
    stream, peer = ends
    stream.shutdown()
    with pytest.raises(errors.LinkClosed):
        stream.write([b"x"], NEVER)
    assert receive_all(peer) == b""


@pytest.mark.parametrize("how", ["kill", "close"])
def test_nothing_works_on_a_closed_stream_and_nothing_else_is_touched(
    ends: tuple[TcpStream, socket.socket], how: str
) -> None:
    stream, _ = ends
    stream.kill() if how == "kill" else stream.close(Deadline.after(0))
    for action in (
        lambda: read(stream),
        lambda: stream.try_read_into(memoryview(bytearray(1))),
        lambda: stream.write([b"x"], NEVER),
        lambda: stream.wait(WRITE, NEVER),
    ):
        with pytest.raises(errors.LinkClosed):
            action()
    stream.quick_ack()
    stream.shutdown()
    stream.close(NEVER)
    stream.kill()
    assert stream.fileno() == -1
    assert stream.peer.startswith("127.0.0.1:")


def test_close_lets_a_peer_that_is_still_sending_read_our_last_bytes(
    ends: tuple[TcpStream, socket.socket], waiting: threading.Event
) -> None:
    stream, peer = ends
    peer.sendall(b"unread when we close")
    stream.write([b"A-ABORT"], NEVER)
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(stream.close, Deadline.after(PATIENCE))
        assert waiting.wait(PATIENCE)
        peer.sendall(bytes(2 * MIB))
        assert not closing.done()
        peer.sendall(bytes(2 * MIB))
        peer.shutdown(socket.SHUT_WR)
        assert receive_all(peer) == b"A-ABORT"
        closing.result()
    assert stream.fileno() == -1


def test_close_without_lingering_would_lose_them(ends: tuple[TcpStream, socket.socket]) -> None:
    """What the test above is worth: the same peer, and no lingering."""
    stream, peer = ends
    stream.write([b"A-ABORT"], NEVER)
    stream.kill()
    with pytest.raises(ConnectionError):
        flood(peer)


def test_close_ends_at_its_deadline_with_a_peer_that_never_closes(
    ends: tuple[TcpStream, socket.socket],
) -> None:
    ends[0].close(Deadline.after(SOON))
    assert ends[0].fileno() == -1


def test_close_ends_at_its_deadline_with_a_peer_that_never_stops(
    ends: tuple[TcpStream, socket.socket],
) -> None:
    stream, _ = ends
    stream._recv_into = len  # there is always a buffer full of it
    stream.close(Deadline.after(SOON))
    assert stream.fileno() == -1


def test_close_after_a_reset(ends: tuple[TcpStream, socket.socket]) -> None:
    stream, peer = ends
    reset(peer)
    stream.close(NEVER)
    assert stream.fileno() == -1


def test_close_can_be_cut_short_by_shutdown(
    ends: tuple[TcpStream, socket.socket], waiting: threading.Event
) -> None:
    stream, _ = ends
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(stream.close, NEVER)
        assert waiting.wait(PATIENCE)
        stream.shutdown()
        closing.result()
    assert stream.fileno() == -1


# --- the rest ------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="Linux only")
def test_quick_ack_is_asked_for_again_and_again(ends: tuple[TcpStream, socket.socket]) -> None:
    stream, _ = ends
    stream._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
    stream.quick_ack()
    assert stream._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK)


def test_addresses(ends: tuple[TcpStream, socket.socket]) -> None:
    stream, peer = ends
    assert stream.peer_address == peer.getsockname()
    assert stream.local_address == peer.getpeername()
    assert stream.peer == "{}:{}".format(*peer.getsockname())
    assert stream.peer in repr(stream)


def test_a_peer_that_is_gone_before_we_look() -> None:
    one, peer = connected()
    reset(peer)
    wait(NEVER, (one.fileno(), READ))
    stream = TcpStream(one)
    assert stream.peer_address == ("", 0)
    with pytest.raises(errors.ConnectionLost):
        read(stream)
    stream.kill()
