"""The scripted stream keeps the promises of the stream boundary, so that a test with it means something."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from dicomnet import errors
from dicomnet.transport.deadline import NEVER, Deadline, DeadlineExpired
from dicomnet.transport.scripted import AWAIT_WRITE, SILENCE, ScriptedStream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dicomnet.transport.stream import Stream

pytestmark = pytest.mark.usefixtures("leak_check")


def read(stream: Stream, size: int = 100, deadline: Deadline = NEVER) -> bytes:
    buffer = memoryview(bytearray(size))
    return bytes(buffer[: stream.read_into(buffer, deadline)])


def test_plays_piece_by_piece_and_ends() -> None:
    stream = ScriptedStream([b"one", b"two"])
    assert [read(stream), read(stream), read(stream), read(stream)] == [b"one", b"two", b"", b""]


def test_a_small_buffer_takes_a_piece_in_parts_and_never_joins_two() -> None:
    stream = ScriptedStream([b"abcde", b"f"])
    assert [read(stream, 2) for _ in range(5)] == [b"ab", b"cd", b"e", b"f", b""]


def test_reads_into_a_slice() -> None:
    buffer = bytearray(b"........")
    assert ScriptedStream([b"xy"]).read_into(memoryview(buffer)[3:6], NEVER) == 2
    assert buffer == b"...xy..."


def test_raises_what_the_script_says_and_goes_on() -> None:
    stream = ScriptedStream([b"a", errors.ConnectionLost("reset"), b"b"])
    assert read(stream) == b"a"
    with pytest.raises(errors.ConnectionLost, match="reset"):
        read(stream)
    assert read(stream) == b"b"


def test_silence_is_one_wait_in_vain() -> None:
    stream = ScriptedStream([SILENCE, SILENCE, b"late"])
    with pytest.raises(DeadlineExpired):
        read(stream)
    buffer = memoryview(bytearray(10))
    assert stream.try_read_into(buffer) is None
    assert stream.try_read_into(buffer) == 4
    assert stream.try_read_into(buffer) == 0


def test_an_answer_waits_for_the_write() -> None:
    stream = ScriptedStream([AWAIT_WRITE, b"first", AWAIT_WRITE, b"second"])
    assert stream.try_read_into(memoryview(bytearray(9))) is None
    with pytest.raises(DeadlineExpired):
        read(stream, deadline=Deadline.after(0.01))
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read, stream)
        stream.write([b"ab", memoryview(b"cd")], NEVER)
        assert reading.result() == b"first"
    assert stream.try_read_into(memoryview(bytearray(9))) is None
    stream.write([b"e"], NEVER)
    assert read(stream) == b"second"
    assert (stream.writes, stream.written) == ([b"abcd", b"e"], b"abcde")


def test_a_generator_answers_what_was_written() -> None:
    def peer() -> Iterator[bytes]:
        yield AWAIT_WRITE
        yield stream.written.upper()

    stream = ScriptedStream(peer())
    stream.write([b"hello"], NEVER)
    assert read(stream) == b"HELLO"


def test_shutdown_wakes_a_waiting_reader_and_ends_everything() -> None:
    stream = ScriptedStream([AWAIT_WRITE, b"never"])
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read, stream)
        stream.shutdown()
        with pytest.raises(errors.LinkClosed):
            reading.result()
    with pytest.raises(errors.LinkClosed):
        stream.write([b"x"], NEVER)
    with pytest.raises(errors.LinkClosed):
        stream.try_read_into(memoryview(bytearray(1)))
    assert stream.written == b""


def test_a_write_that_fails_takes_nothing() -> None:
    stream = ScriptedStream()
    stream.fail_write = DeadlineExpired("full")
    with pytest.raises(DeadlineExpired):
        stream.write([b"x"], NEVER)
    stream.write([b"y"], NEVER)
    assert stream.written == b"y"


@pytest.mark.parametrize("how", ["close", "kill"])
def test_tells_how_it_was_closed(how: str) -> None:
    stream = ScriptedStream(peer_address=("2001:db8::1", 104))
    assert (stream.closed, stream.peer, stream.fileno()) == ("", "[2001:db8::1]:104", -1)
    stream.quick_ack()
    assert stream.quick_acks == 1
    stream.close(NEVER) if how == "close" else stream.kill()
    stream.kill()
    assert stream.closed == how
    with pytest.raises(errors.LinkClosed, match=r"\[2001:db8::1\]:104"):
        read(stream)
