"""A stream over TLS on loopback: both ends ours, or a bare pyOpenSSL or stdlib peer, or a hostile one."""

from __future__ import annotations

import array
import hashlib
import os
import select
import socket
import ssl
import struct
import threading
from typing import TYPE_CHECKING

import pytest
from OpenSSL import SSL
from tls_peers import (
    LONG,
    PEER,
    TLS12,
    TLS13,
    Pair,
    bare,
    bare_context,
    error_of,
    in_thread,
    pair,
    read_all,
    settings,
    tcp_pair,
    tell_waiting,
)

from dicomnet import errors
from dicomnet.tls import openssl
from dicomnet.tls.context import context_for
from dicomnet.tls.stream import PIECE, TlsStream
from dicomnet.transport.deadline import NEVER, Deadline, DeadlineExpired
from dicomnet.transport.tcp import TcpStream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("leak_check")

MIB = 1024 * 1024
SOON = 0.05
RESET = struct.pack("ii", 1, 0)


@pytest.fixture(params=[TLS12, TLS13], ids=["TLS1.2", "TLS1.3"])
def version(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def link(certs: Path, version: int) -> Iterator[Pair]:
    """Two ends of ours, after the handshake."""
    with pair(settings(certs, "client", version=version), settings(certs, version=version)) as both:
        yield both.ready()


@pytest.fixture
def half(certs: Path, version: int) -> Iterator[tuple[TlsStream, SSL.Connection, socket.socket]]:
    """Our client stream, and the bare server that it is connected to, after the handshake."""
    near, far = tcp_pair()
    peer = bare(bare_context(certs, server_side=True, name="server", version=version), far, server_side=True)
    ours = context_for(settings(certs, "client", version=version), server_side=False).stream(TcpStream(near))
    done = in_thread(peer.do_handshake)
    ours.handshake(Deadline.after(LONG))
    done()
    yield ours, peer, far
    ours.kill()
    far.close()


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    return tell_waiting(monkeypatch)


def soon() -> Deadline:
    return Deadline.after(SOON)


def later() -> Deadline:
    return Deadline.after(LONG)


def read(stream: TlsStream, size: int = 65536, deadline: Deadline = NEVER) -> bytes:
    buffer = bytearray(size)
    return bytes(buffer[: stream.read_into(memoryview(buffer), deadline)])


def fill_up(stream: TlsStream) -> None:
    """Write until the peer, which does not read, lets nothing more through."""
    with pytest.raises(DeadlineExpired):
        stream.write([bytes(64 * MIB)], Deadline.after(LONG), stall=SOON)


# --- handshake --------------------------------------------------------------------------------------


def test_a_default_timeout_for_sockets_does_not_touch_the_handshake(certs: Path, version: int) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(3)
    try:
        with pair(settings(certs, "client", version=version), settings(certs, version=version)) as both:
            assert both.client._peek() == b"", "it does not wait, and does not fail"
            both.ready()
    finally:
        socket.setdefaulttimeout(before)


@pytest.mark.parametrize(
    ("args", "how"), [((None, None), "closed"), ((), "closed"), ((-1, "x"), "closed"), ((104, None), "reset")]
)
def test_a_system_error_without_a_number_or_words_can_be_told(
    certs: Path, args: tuple[object, ...], how: str
) -> None:
    with pair(settings(certs, "client"), settings(certs)) as both:
        assert how in str(both.client._explained(SSL.SysCallError(*args)))
        both.client._evidence.alert_read = 40
        assert "handshake_failure" in str(both.client._explained(SSL.SysCallError(*args)))


# --- data -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fill", [openssl.fill_directly, openssl.fill_by_copying])
def test_both_ways_of_reading_deliver_every_byte(
    link: Pair, fill: openssl.Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openssl, "fill", fill)
    data = os.urandom(3 * MIB + 7)
    done = in_thread(lambda: link.client.write([data], later()))
    assert read_all(link.server, len(data), 100_003) == data
    done()
    assert link.server.try_read_into(memoryview(bytearray(9))) is None
    link.client.close(soon())
    assert read(link.server) == b""


def test_the_direct_way_is_chosen_here_and_the_public_one_where_it_does_not_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert openssl.fill is openssl.fill_directly
    assert openssl._choose_fill() is openssl.fill_directly
    monkeypatch.setattr(openssl, "lib", object())
    assert openssl._choose_fill() is openssl.fill_by_copying
    monkeypatch.setattr(openssl, "ffi", None)
    assert openssl._choose_fill() is openssl.fill_by_copying


@pytest.mark.parametrize("round_", range(8))
def test_two_threads_at_each_end_may_read_and_write_at_once(link: Pair, round_: int) -> None:
    up, down = os.urandom(4 * MIB), os.urandom(4 * MIB)

    def send(stream: TlsStream, data: bytes) -> None:
        step = 1 + (round_ * 7919 + 30_011) % 200_000
        for start in range(0, len(data), step):
            stream.write([data[start : start + 100], data[start + 100 : start + step]], later())

    calls = [
        in_thread(lambda: send(link.client, up)),
        in_thread(lambda: send(link.server, down)),
        in_thread(lambda: read_all(link.client, len(down))),
        in_thread(lambda: read_all(link.server, len(up))),
    ]
    received = [call() for call in calls][2:]
    assert [hashlib.sha256(data).digest() for data in received] == [
        hashlib.sha256(data).digest() for data in (down, up)
    ]


@pytest.mark.parametrize("call", ["send", "shutdown", "pending"])
def test_openssl_is_never_called_from_two_threads_at_once(
    link: Pair, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one thread is inside OpenSSL, a reader gets no further than the lock."""
    stream, reading = link.client, threading.Event()
    fill, method = openssl.fill, getattr(stream.connection, call)
    others, overlaps = [], []

    def enter(*args: object) -> object:
        if not others:
            others.append(in_thread(lambda: error_of(lambda: stream.try_read_into(memoryview(bytearray(1))))))
            overlaps.append(reading.wait(SOON))
        return method(*args)

    def note(*args: object) -> object:
        reading.set()
        return fill(*args)

    setattr(stream.connection, call, enter)
    monkeypatch.setattr(openssl, "fill", note)
    if call == "shutdown":
        stream.close(soon())
    else:
        error_of(lambda: stream.write([bytes(16 * MIB)], soon(), on_readable=lambda: False))
    assert overlaps == [False]
    others[0]()


def test_two_ends_that_only_write_do_not_lock_up_while_each_takes_in_what_comes(link: Pair) -> None:
    data = os.urandom(6 * MIB)

    def talk(stream: TlsStream) -> bytes:
        got, buffer = bytearray(), memoryview(bytearray(65536))

        def take() -> bool:
            n = stream.try_read_into(buffer)
            got.extend(buffer[: n or 0])
            return n != 0

        stream.write([data], later(), on_readable=take)
        return bytes(got) + read_all(stream, len(data) - len(got))

    one = in_thread(lambda: talk(link.client))
    two = in_thread(lambda: talk(link.server))
    assert one() == data
    assert two() == data


def test_on_readable_that_has_enough_is_not_asked_again(link: Pair) -> None:
    asked = []

    def enough() -> bool:
        asked.append(1)
        return False

    link.client.write([b"never taken"], later())
    writing = in_thread(
        lambda: link.server.write([bytes(8 * MIB), bytes(8 * MIB)], later(), on_readable=enough)
    )
    read_all(link.client, 16 * MIB)
    writing()
    assert len(asked) <= 1


def test_one_write_joins_its_buffers_into_full_records(half, version: int) -> None:
    ours, peer, sock = half
    ours.write([b"head", b"", bytes(16380), b"tail"], later())
    overhead = {TLS12: 8 + 16, TLS13: 1 + 16}[version]  # explicit nonce or content type, and the tag
    wire, lengths = b"", []
    while len(wire) < 16388 + 2 * (5 + overhead):
        wire = sock.recv(65536, socket.MSG_PEEK)
    while wire:
        lengths.append(int.from_bytes(wire[3:5], "big") - overhead)
        wire = wire[5 + lengths[-1] + overhead :]
    assert lengths == [16384, 4]
    assert peer.recv(16384)[:5] == b"head\0"


def test_pieces_are_contiguous_bounded_and_complete() -> None:
    from dicomnet.tls.stream import _pieces

    large = memoryview(os.urandom(2 * PIECE + 5))
    buffers = [b"a", b"", large, b"b", bytes(PIECE), b"c" * 10]
    pieces = list(_pieces(buffers))
    assert b"".join(pieces) == b"".join(buffers)
    assert all(0 < len(piece) <= PIECE for piece in pieces)
    assert list(_pieces([b"", b""])) == []
    (only,) = _pieces([large[:100]])
    assert only.obj is large.obj, "a single buffer need not be copied"


def test_a_view_of_wide_items_is_sent_whole(link: Pair) -> None:
    words = array.array("I", range(5000))
    link.client.write([memoryview(words), memoryview(words)], later())
    assert read_all(link.server, 2 * len(words.tobytes())) == words.tobytes() * 2


def test_a_view_with_gaps_is_refused_before_anything_is_sent(link: Pair) -> None:
    with pytest.raises(TypeError):
        link.client.write([memoryview(bytes(100))[::2]], later())
    link.client.write([b"ok"], later())
    assert read(link.server) == b"ok"


def test_nothing_to_write_writes_nothing_and_no_room_to_read_is_an_error(link: Pair) -> None:
    link.client.write([], later())
    link.client.write([b"", memoryview(b"")], later())
    assert link.server.try_read_into(memoryview(bytearray(1))) is None
    for call in (link.server.try_read_into, lambda buffer: link.server.read_into(buffer, soon())):
        with pytest.raises(ValueError):
            call(memoryview(b""))
    with pytest.raises(BufferError):
        link.server.read_into(memoryview(bytes(10)), soon())
    link.client.write([b"x"], later())
    assert read(link.server) == b"x"


def test_what_openssl_holds_back_is_read_though_poll_says_nothing_is_there(link: Pair) -> None:
    data = os.urandom(16_000)
    link.client.write([data], later())
    assert read(link.server, 100) == data[:100]
    poll = select.poll()
    poll.register(link.server.fileno(), select.POLLIN)
    assert not poll.poll(0)
    got = b"".join(read(link.server, 100, soon()) for _ in range(159))
    assert got == data[100:]


def test_a_read_fills_the_buffer_from_all_records_that_are_there(half) -> None:
    ours, peer, _ = half
    for letter in b"abcde":
        peer.sendall(bytes([letter]) * 3000)
    peer.sendall(b"!")
    got = bytearray()
    while not got.endswith(b"!"):
        got += read(ours, 1_000_000)
    assert got == b"".join(bytes([letter]) * 3000 for letter in b"abcde") + b"!"
    assert ours.try_read_into(memoryview(bytearray(1))) is None


# --- waiting and cancelling -------------------------------------------------------------------------


def test_a_read_ends_at_its_deadline_and_the_link_goes_on(link: Pair) -> None:
    with pytest.raises(DeadlineExpired):
        link.client.read_into(memoryview(bytearray(10)), soon())
    link.server.write([b"late"], later())
    assert read(link.client) == b"late"


def test_shutdown_from_another_thread_ends_a_read(link: Pair, waiting: threading.Event) -> None:
    reading = in_thread(lambda: read(link.client))
    assert waiting.wait(LONG)
    link.client.shutdown()
    link.client.shutdown()
    with pytest.raises(errors.LinkClosed):
        reading()
    with pytest.raises(errors.LinkClosed):
        link.client.write([b"x"], later())


def test_shutdown_from_another_thread_ends_a_write(link: Pair, waiting: threading.Event) -> None:
    writing = in_thread(lambda: link.client.write([bytes(64 * MIB)], NEVER))
    assert waiting.wait(LONG)
    link.client.shutdown()
    with pytest.raises(errors.LinkClosed):
        writing()


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
def test_shutdown_from_another_thread_ends_a_handshake(
    certs: Path, waiting: threading.Event, server_side: bool
) -> None:
    near, far = tcp_pair()
    with far:
        stream = context_for(settings(certs), server_side=server_side).stream(TcpStream(near))
        shaking = in_thread(lambda: stream.handshake(NEVER))
        assert waiting.wait(LONG)
        stream.shutdown()
        with pytest.raises(errors.LinkClosed):
            shaking()
        assert stream.fileno() == -1


@pytest.mark.parametrize(
    "sent", [b"", b"\x16", b"\x16\x03\x01\x02\x00"], ids=["nothing", "1 byte", "5 bytes"]
)
@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
def test_a_handshake_ends_at_its_deadline(certs: Path, sent: bytes, server_side: bool) -> None:
    near, far = tcp_pair()
    with far:
        far.sendall(sent)
        stream = context_for(settings(certs), server_side=server_side).stream(TcpStream(near))
        with pytest.raises(errors.HandshakeTimeout) as caught:
            stream.handshake(Deadline.after(SOON))
        error = caught.value
        assert (error.limit, error.peer, error.state) == (SOON, stream.peer, "TLS handshake")
        assert error.elapsed >= SOON
        expected = {b"": ("not sent anything" if server_side else "plain DICOM")}.get(
            sent, "began the handshake" if len(sent) > 2 else "unknown data"
        )
        assert expected in str(error)
        assert stream.fileno() == -1
        with pytest.raises(errors.HandshakeTimeout):
            stream.read_into(memoryview(bytearray(1)), later())


def test_a_trickle_of_bytes_does_not_prolong_a_handshake(certs: Path) -> None:
    near, far = tcp_pair()
    over = threading.Event()

    def trickle() -> None:
        with far:
            for byte in b"\x16\x03\x01\x3f\xff" + bytes(16_000):
                if over.wait(0.002) or error_of(lambda byte=byte: far.sendall(bytes([byte]))):
                    return

    dripping = in_thread(trickle)
    stream = context_for(settings(certs), server_side=True).stream(TcpStream(near))
    with pytest.raises(errors.HandshakeTimeout):
        stream.handshake(Deadline.after(0.1))
    over.set()
    dripping()


class Once:
    """Stands before a method of a connection: raises `error` the first time, and then lets it work."""

    def __init__(self, connection: SSL.Connection, name: str, error: SSL.Error) -> None:
        self.method, self.error = getattr(connection, name), error
        self.raised = 0
        setattr(connection, name, self)

    def __call__(self, *args: object) -> object:
        if not self.raised:
            self.raised += 1
            raise self.error
        return self.method(*args)


def test_reading_may_have_to_write(link: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[tuple[int, SSL.Error | None]] = [(0, SSL.WantWriteError()), (0, SSL.WantWriteError())]
    fill = openssl.fill
    monkeypatch.setattr(openssl, "fill", lambda *args: answers.pop() if answers else fill(*args))
    link.server.write([b"x"], later())
    assert link.client.try_read_into(memoryview(bytearray(1))) is None
    assert read(link.client) == b"x"


def test_writing_may_have_to_read(link: Pair) -> None:
    link.server.write([b"first"], later())
    assert read(link.client) == b"first"
    once = Once(link.client.connection, "send", SSL.WantReadError())
    link.server.write([b"wakes the writer"], later())
    link.client.write([b"x"], later())
    assert once.raised
    assert read(link.server) == b"x"
    assert read(link.client) == b"wakes the writer"


def test_the_handshake_and_the_goodbye_may_have_to_wait_before_they_write(certs: Path) -> None:
    with pair(settings(certs, "client"), settings(certs)) as both:
        shaking = Once(both.client.connection, "do_handshake", SSL.WantWriteError())
        both.ready()
        leaving = Once(both.client.connection, "shutdown", SSL.WantWriteError())
        both.client.close(soon())
        assert shaking.raised == leaving.raised == 1
        assert read(both.server) == b""


def test_after_our_own_shutdown_the_peers_close_notify_is_no_clean_end(half) -> None:
    ours, peer, _ = half
    peer.shutdown()
    assert read(ours) == b""
    ours.shutdown()
    with pytest.raises(errors.LinkClosed):
        read(ours)


# --- a write that was given up -------------------------------------------------------------------------


def test_after_a_write_that_timed_out_nothing_more_is_sent(link: Pair) -> None:
    fill_up(link.client)
    for method in ("send", "shutdown"):
        setattr(link.client.connection, method, lambda *_: pytest.fail("OpenSSL must be left alone"))
    for attempt in (b"A-ABORT", bytes(64 * MIB)):
        with pytest.raises(errors.ConnectionLost, match="given up"):
            link.client.write([attempt], later())
    link.client.close(soon())
    got, error = bytearray(), None
    while error is None:
        error = error_of(lambda: got.extend(read(link.server)))
    assert isinstance(error, errors.ConnectionLost), "neither close_notify nor anything that is not the data"
    assert not any(got)


def test_what_the_peer_says_can_still_be_read_after_a_write_that_timed_out(link: Pair) -> None:
    fill_up(link.client)
    link.server.write([b"my turn"], later())
    assert read(link.client) == b"my turn"


def test_the_stall_limit_ends_a_write_that_makes_no_progress(link: Pair) -> None:
    with pytest.raises(DeadlineExpired):
        link.client.write([bytes(64 * MIB)], NEVER, stall=SOON)


def test_a_peer_that_talks_does_not_prolong_the_stall_limit(link: Pair) -> None:
    over = threading.Event()

    def chat() -> None:
        while not over.wait(SOON / 10) and error_of(lambda: link.server.write([b"x"], later())) is None:
            pass

    def take() -> bool:
        return bool(link.client.try_read_into(memoryview(bytearray(100))) or True)

    chatting = in_thread(chat)
    with pytest.raises(DeadlineExpired):
        link.client.write([bytes(64 * MIB)], NEVER, stall=2 * SOON, on_readable=take)
    over.set()
    chatting()


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt()])
def test_an_exception_within_a_write_poisons_the_stream_too(link: Pair, error: BaseException) -> None:
    def fail() -> bool:
        raise error

    link.server.write([b"wake"], later())
    with pytest.raises(type(error)):
        link.client.write([bytes(64 * MIB)], later(), on_readable=fail)
    with pytest.raises(errors.ConnectionLost, match="given up"):
        link.client.write([b"more"], later())


# --- how a link ends --------------------------------------------------------------------------------


def test_close_notify_is_a_clean_end_again_and_again(link: Pair) -> None:
    link.client.write([b"last words"], later())
    closing = in_thread(lambda: link.client.close(later()))
    assert read(link.server) == b"last words"
    assert [read(link.server) for _ in range(3)] == [b"", b"", b""]
    assert link.server.try_read_into(memoryview(bytearray(1))) == 0
    link.server.close(later())
    closing()


def test_after_the_peers_close_notify_we_may_still_write(half) -> None:
    ours, peer, _ = half
    peer.shutdown()
    assert read(ours) == b""
    ours.write([b"answer"], later())
    assert peer.recv(100) == b"answer"


def test_close_waits_for_the_peer_so_that_it_gets_everything(link: Pair) -> None:
    data = os.urandom(MIB)
    link.server.write([b"unread by the client"], later())
    sending = in_thread(lambda: link.client.write([data], later()) or link.client.close(later()))
    assert read_all(link.server, len(data)) == data
    assert read(link.server) == b""
    link.server.close(later())
    sending()


def test_a_peer_that_is_gone_without_close_notify_is_a_loss(half) -> None:
    ours, peer, sock = half
    peer.sendall(b"half of it")
    sock.shutdown(socket.SHUT_WR)
    assert read(ours) == b"half of it", "what came before is delivered first"
    for _ in range(2):
        with pytest.raises(errors.ConnectionLost, match="close_notify") as caught:
            read(ours)
        assert caught.value.peer == ours.peer


def test_an_end_within_a_record_is_a_loss(half) -> None:
    ours, peer, sock = half
    peer.sendall(b"whole")
    sock.sendall(b"\x17\x03\x03\x40\x00half a record")
    sock.shutdown(socket.SHUT_WR)
    assert read(ours) == b"whole"
    with pytest.raises(errors.ConnectionLost):
        read(ours)


def test_a_reset_is_a_loss(half) -> None:
    ours, peer, sock = half
    peer.sendall(b"x")
    assert read(ours) == b"x"
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()
    with pytest.raises(errors.ConnectionLost, match="reset") as caught:
        read(ours)
    assert caught.value.errno
    with pytest.raises(errors.ConnectionLost):
        ours.write([b"x"], later())


def test_what_a_peer_said_before_its_reset_can_be_read_after_a_write_that_failed(half) -> None:
    ours, peer, sock = half
    peer.sendall(b"A-ABORT")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()
    poll = select.poll()
    poll.register(ours.fileno(), 0)
    assert poll.poll(LONG * 1000), "the reset has arrived"
    for _ in range(2):
        with pytest.raises(errors.ConnectionLost):
            ours.write([b"more"], later())
    assert read(ours) == b"A-ABORT"
    with pytest.raises(errors.ConnectionLost):
        read(ours)


def test_a_reset_during_a_blocked_write_ends_it(half) -> None:
    ours, _, sock = half
    writing = in_thread(lambda: ours.write([bytes(64 * MIB)], later()))
    sock.recv(1, socket.MSG_PEEK)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()
    with pytest.raises(errors.ConnectionLost):
        writing()


def test_t13_a_damaged_record_ends_the_link_and_the_first_error_stays(half) -> None:
    ours, peer, sock = half
    peer.sendall(b"good")
    sock.sendall(b"\x17\x03\x03\x00\x40" + bytes(64))
    assert read(ours) == b"good"
    seen = [
        error_of(lambda: read(ours)),
        error_of(lambda: read(ours)),
        error_of(lambda: ours.write([b"x"], later())),
    ]
    for error in seen:
        assert type(error) is errors.TlsError
        assert (error.alert, error.refused_by) == (20, "us")
        assert error.peer == ours.peer
        assert "tampered" in str(error)
    assert seen[0] is not seen[1], "each raise has a traceback of its own"
    with pytest.raises(SSL.Error, match="bad record mac"):
        peer.recv(1)


def test_an_alert_within_the_link_is_named(half) -> None:
    ours, peer, _ = half
    ours.write([b"x"], later())
    peer.recv(1)
    peer.sendall(b"y")
    assert read(ours) == b"y"
    # The bare peer finds a damaged record, and says so.
    raw = socket.socket(fileno=os.dup(ours.fileno()))
    with raw:
        raw.sendall(b"\x17\x03\x03\x00\x40" + bytes(64))
    with pytest.raises(SSL.Error):
        peer.recv(1)
    with pytest.raises(errors.TlsError) as caught:
        read(ours)
    assert (caught.value.alert, caught.value.refused_by) == (20, "peer")
    assert "bad_record_mac (20)" in str(caught.value)


@pytest.mark.parametrize("end", ["kill", "close"])
def test_after_the_end_every_call_says_that_we_have_closed(link: Pair, end: str) -> None:
    closing = in_thread(lambda: link.client.kill() if end == "kill" else link.client.close(later()))
    link.server.shutdown()
    closing()
    assert link.client.fileno() == -1
    link.client.kill()
    link.client.close(soon())
    link.client.quick_ack()
    for call in (lambda: read(link.client), lambda: link.client.write([b"x"], later())):
        with pytest.raises(errors.LinkClosed):
            call()
    assert link.client.version in (TLS12, TLS13)
    assert link.client.peer_certificate is not None


def test_close_ends_at_its_deadline_with_a_peer_that_does_nothing(link: Pair) -> None:
    link.client.close(soon())
    assert link.client.fileno() == -1


def test_close_ends_at_its_deadline_with_a_peer_that_never_stops_sending(link: Pair) -> None:
    flooding = in_thread(lambda: error_of(lambda: link.server.write([bytes(256 * MIB)], later())))
    link.client.close(Deadline.after(0.2))
    assert isinstance(flooding(), errors.ConnectionLost)


# --- the handshake's results ----------------------------------------------------------------------------


def test_a_link_tells_what_was_negotiated(link: Pair, version: int) -> None:
    client, server = link.client, link.server
    for stream in (client, server):
        assert stream.version == version
        assert (
            stream.cipher_name
            == {TLS12: "ECDHE-RSA-AES128-GCM-SHA256", TLS13: "TLS_AES_256_GCM_SHA384"}[version]
        )
        assert stream.group
        assert repr(stream) == f"<TlsStream to {stream.peer}, {stream.cipher_name}>"
    assert not client.server_side
    assert server.server_side
    assert client.peer_address == server.local_address
    assert client.own_certificate == server.peer_certificate == server.peer_chain[0]
    assert server.own_certificate == client.peer_certificate == client.peer_chain[0]
    assert len(client.peer_chain) == 2
    assert [client.connection.get_alpn_proto_negotiated(), server.connection.get_alpn_proto_negotiated()] == [
        b"dicom",
        b"dicom",
    ]


def test_a_certificate_nobody_asked_for_is_not_shown(certs: Path, version: int) -> None:
    relaxed = settings(certs, ca=None, verify=0, version=version)
    with pair(settings(certs, "client", version=version), relaxed) as both:
        both.ready()
        assert both.client.own_certificate is None
        assert both.server.peer_certificate is None
        assert both.server.peer_chain == ()


def test_rsa_key_exchange_has_no_group(certs: Path) -> None:
    options = {"suites": (0x009C,), "version": TLS12}
    with pair(settings(certs, "client", **options), settings(certs, **options)) as both:
        both.ready()
        assert both.client.cipher_name == "AES128-GCM-SHA256"
        assert both.client.group is both.server.group is None


def test_a_client_without_certificate_is_let_in_where_none_is_demanded(certs: Path, version: int) -> None:
    with pair(settings(certs, None, version=version), settings(certs, verify=PEER, version=version)) as both:
        both.ready()
        both.client.write([b"hello"], later())
        assert read(both.server) == b"hello"
        assert both.server.peer_certificate is None


def test_dhe_works_with_a_peer_that_names_no_groups(certs: Path) -> None:
    near, far = tcp_pair()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("DHE-RSA-AES256-GCM-SHA384")
    context.load_verify_locations(certs / "ca.pem")
    context.load_cert_chain(certs / "client.pem", certs / "client.key")
    server = context_for(settings(certs, suites=(0x009F,)), server_side=True).stream(TcpStream(far))
    done = in_thread(lambda: server.handshake(later()))
    with context.wrap_socket(near, server_hostname="localhost") as peer:
        done()
        peer.sendall(b"over DHE")
        assert read(server) == b"over DHE"
        assert peer.cipher()[0] == server.cipher_name == "DHE-RSA-AES256-GCM-SHA384"
        server.kill()


def test_the_stdlib_as_client_and_server(certs: Path, version: int) -> None:
    wanted = {TLS12: ssl.TLSVersion.TLSv1_2, TLS13: ssl.TLSVersion.TLSv1_3}[version]
    for purpose in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER):
        client = purpose is ssl.PROTOCOL_TLS_CLIENT
        context = ssl.SSLContext(purpose)
        context.minimum_version = context.maximum_version = wanted
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certs / "ca.pem")
        context.load_cert_chain(certs / "chained.pem", certs / "chained.key")
        near, far = tcp_pair()
        ours = context_for(settings(certs, version=version), server_side=client).stream(
            TcpStream(far), expected_name=None if client else "localhost"
        )
        done = in_thread(lambda stream=ours: stream.handshake(later()))
        name = "localhost" if client else None
        with context.wrap_socket(near, server_side=not client, server_hostname=name) as peer:
            done()
            peer.sendall(b"ping")
            assert read(ours) == b"ping"
            ours.write([b"pong"], later())
            assert peer.recv(100) == b"pong"
            assert len(ours.peer_chain) == 3
            ours.kill()


# --- many links of one context --------------------------------------------------------------------------


def test_one_context_makes_many_links_at_once(certs: Path, version: int) -> None:
    client, server = settings(certs, "client", version=version), settings(certs, version=version)
    pairs = [Pair(client, server) for _ in range(12)]

    def talk(both: Pair) -> bytes:
        both.ready()
        both.client.write([both.client.peer.encode()], later())
        return read(both.server)

    try:
        calls = [(both, in_thread(lambda both=both: talk(both))) for both in pairs]
        assert all(call() == both.client.peer.encode() for both, call in calls)
        assert len({both.client.connection.get_context() for both in pairs}) == 1
    finally:
        for both in pairs:
            both.kill()


@pytest.mark.parametrize("tickets", [True, False], ids=["tickets", "session ids"])
def test_a_peer_may_resume_its_session_with_its_client_certificate(
    certs: Path, version: int, tickets: bool
) -> None:
    context = bare_context(certs, server_side=False, name="client", version=version)
    if not tickets:
        context.set_options(SSL.OP_NO_TICKET)
    server = context_for(settings(certs, version=version), server_side=True)
    session = None
    asked: list[int] = []

    def judge(ok: int, _text: str, _error: object) -> int:
        asked.append(ok)
        return ok

    for reused in (False, True):
        near, far = tcp_pair()
        ours = server.stream(TcpStream(far), on_verify=judge)
        done = in_thread(lambda stream=ours: stream.handshake(later()))
        peer = bare(context, near, server_side=False)
        if session is not None:
            peer.set_session(session)
        peer.do_handshake()
        done()
        ours.write([b"tickets come before this"], later())
        peer.recv(100)
        session = peer.get_session()
        assert bool(openssl.lib.SSL_session_reused(peer._ssl)) is reused
        assert ours.peer_certificate is not None, "the certificate is known in a resumed session too"
        assert asked == ([1, 1, 1] if reused else [1, 1]), "and the application is asked about it again"
        assert ("was resumed" in ours.overruled) is reused, "what it overruled the first time is not known"
        peer.shutdown()
        assert read(ours) == b""
        near.close()
        ours.kill()


def test_a_resumed_session_may_be_refused_by_on_verify(certs: Path, version: int) -> None:
    context = bare_context(certs, server_side=False, name="client", version=version)
    server = context_for(settings(certs, version=version), server_side=True)
    session, verdicts = None, [1, 1, 0]
    for _ in range(2):
        near, far = tcp_pair()
        ours = server.stream(TcpStream(far), on_verify=lambda *_: verdicts.pop(0))
        done = in_thread(lambda stream=ours: stream.handshake(later()))
        peer = bare(context, near, server_side=False)
        if session is not None:
            peer.set_session(session)
        peer.do_handshake()
        if session is None:
            done()
            ours.write([b"x"], later())
            peer.recv(1)
            session = peer.get_session()
            peer.shutdown()
        else:
            near.close()
            with pytest.raises(errors.CertificateVerificationError, match="on_verify returned 0"):
                done()
        near.close()
        ours.kill()


def test_a_client_cannot_renegotiate(certs: Path) -> None:
    near, far = tcp_pair()
    ours = context_for(settings(certs, version=TLS12), server_side=True).stream(TcpStream(far))
    done = in_thread(lambda: ours.handshake(later()))
    peer = bare(bare_context(certs, server_side=False, name="client", version=TLS12), near, server_side=False)
    peer.do_handshake()
    done()
    assert ours.connection.set_options(0) & SSL.OP_NO_RENEGOTIATION
    assert peer.renegotiate()
    shaking = in_thread(lambda: error_of(peer.do_handshake))
    error_of(lambda: ours.read_into(memoryview(bytearray(10)), Deadline.after(0.5)))
    ours.kill()
    assert isinstance(shaking(), SSL.Error)
    near.close()


def test_closing_from_on_verify_ends_the_handshake_and_closes_once(certs: Path, version: int) -> None:
    near, far = tcp_pair()
    peer = bare(bare_context(certs, server_side=True, name="server", version=version), far, server_side=True)
    streams: list[TlsStream] = []

    def close(_ok: int, _text: str, _error: object) -> int:
        streams[0].close(later())
        streams[0].kill()
        assert streams[0].fileno() != -1, "the descriptor is in use by OpenSSL"
        return 1

    context = context_for(settings(certs, "client", version=version), server_side=False)
    streams.append(context.stream(TcpStream(near), on_verify=close))
    done = in_thread(lambda: error_of(peer.do_handshake))
    with pytest.raises(errors.LinkClosed):
        streams[0].handshake(later())
    assert streams[0].fileno() == -1
    far.close()
    done()


def test_the_peer_gets_our_alert_though_it_is_still_writing(certs: Path) -> None:
    """A refused TLS 1.3 client that has half a megabyte on its way still learns why."""
    near, far = tcp_pair()
    ours = context_for(settings(certs), server_side=True).stream(TcpStream(far))
    done = in_thread(lambda: error_of(lambda: ours.handshake(later())))
    peer = bare(bare_context(certs, server_side=False, version=TLS13), near, server_side=False)
    peer.do_handshake()
    wrote = error_of(lambda: peer.sendall(bytes(500_000)))
    seen = wrote or error_of(lambda: peer.recv(1))
    near.close()
    assert isinstance(done(), errors.PeerCertificateMissing)
    assert "certificate required" in str(seen)
