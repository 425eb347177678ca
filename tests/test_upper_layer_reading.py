"""The reading half of the protocol core: broken-off messages, limits, the tap, buffers, memory."""

from __future__ import annotations

import tracemalloc
from collections import deque
from struct import pack

import pytest
from dialogue import (
    AC,
    ACCEPT,
    ECHO,
    ECHO_PDU,
    LIMITS,
    RELEASE_RP,
    RELEASE_RQ,
    ROLES,
    RQ,
    STEPS,
    STORE,
    End,
    Recorder,
    abort,
    end_in,
    head,
    message,
    p_data,
    pdv,
    pieces,
    split,
    states,
)

from dicomnet.errors import LimitExceeded
from dicomnet.protocol import assembler
from dicomnet.protocol.assembler import MessageReceived
from dicomnet.protocol.state_machine import State
from dicomnet.protocol.upper_layer import CONTROL, NEED_DATA, AbortReceived, Fault
from dicomnet.settings import Limits

ASSOCIATION = (State.STA3, *list(State)[4:12])
TRANSFER = (State.STA6, State.STA7)


def up(*, requestor: bool = False, **options) -> End:
    return end_in(State.STA6, requestor=requestor, **options)


# --- a message that is broken off ----------------------------------------------------------------

HALF = message(bytes(40000), step=16000)


@pytest.mark.parametrize("cut", [6, 12, 40, len(STORE) + 12, len(STORE) + 20, len(STORE) + 24, 20000, 39000])
@ROLES
def test_our_abort_within_a_message(requestor, cut):
    """AA-6: what comes after it is dropped, is not taken for a message, and is not answered."""
    end = up(requestor=requestor)
    end.feed(HALF[:cut])
    end.call("abort", 0, 0)
    end.feed(HALF[cut:] + ECHO_PDU)
    assert end.events == []
    assert end.sent == abort(0, 0)
    assert [sink.ended for sink in end.sinks] == [["abandoned"]] * len(end.sinks)
    end.feed(abort(0, 0))
    assert end.core.state is State.STA1


@pytest.mark.parametrize("data", [RELEASE_RQ, abort(2, 0), RQ, head(4, 0), p_data(pdv(b"", 1, 3))])
@ROLES
def test_the_peer_breaks_off_its_message(requestor, data):
    end = up(requestor=requestor)
    end.feed(b"".join(split(HALF)[:2]))
    end.feed(data)
    end.handle()
    assert [sink.ended for sink in end.sinks] == [["abandoned"]]
    assert not any(isinstance(event, MessageReceived) for event in end.events)


def test_local_events_leave_the_receiving_half_to_the_reader():
    """An abort may come from another thread while a sink is being written to."""
    end = up()
    end.feed(HALF[:20000])
    end.call("abort", 0, 0)
    end.call("transport_closed")
    (sink,) = end.sinks
    assert sink.ended == []
    end.handle()
    assert sink.ended == ["abandoned"]


class Closing(Recorder):
    """A sink from inside of which the link is aborted or closed."""

    def __init__(self, end: End, act, *, when: str) -> None:
        super().__init__()
        self.when = when
        self.act = lambda: act(end)

    def write(self, fragment: memoryview) -> None:
        super().write(fragment)
        if self.when == "write":
            self.act()

    def finish(self) -> bytes:
        if self.when == "finish":
            self.act()
        return super().finish()


def aborting(end: End) -> None:
    if end.core.state is State.STA6:
        end.call("abort", 0, 0)


def lost(end: End) -> None:
    aborting(end)
    end.call("transport_closed")


def closing(end: End) -> None:
    lost(end)
    end.core.release()


@pytest.mark.parametrize("act", [aborting, lost, closing])
@pytest.mark.parametrize("when", ["open", "write", "finish"])
@pytest.mark.parametrize("step", [None, 7000])
@pytest.mark.parametrize("size", [16000, 40000], ids=["fragments", "one-fragment"])
@pytest.mark.parametrize("tapped", [False, True], ids=["", "tapped"])
def test_the_link_ends_from_inside_a_sink(act, when, step, size, tapped):
    """Nothing is written to the sink after that, and what is behind in the buffer is not delivered."""
    seen = []

    def make() -> Closing:
        sink = Closing(end, act, when=when)
        if when == "open":
            sink.act()
        return sink

    end = None

    def tap(_kind: int, _data: memoryview) -> None:
        seen.append(end and end.core.state)

    end = up(make_sink=make, tap=tap if tapped else None)
    data = message(bytes(40000), step=size) + ECHO_PDU + HALF
    for part in pieces(data, step or len(data)):
        if end.core.state is not State.STA1:
            end.feed(part)
    assert end.sent == abort(0, 0)
    assert end.core.state is (State.STA13 if act is aborting else State.STA1)
    if act is not closing:
        end.core.release()
    assert not end.core.mid_message
    assert State.STA1 not in seen
    (sink,) = end.sinks
    if when == "finish":
        assert [event.data_set for event in end.events] == [bytes(40000)]
        assert sink.ended == ["finished"]
    else:
        assert end.events == []
        assert sink.ended == ["abandoned"]


def test_a_sink_that_closes_the_link_and_fails_too():
    class Both(Recorder):
        def write(self, fragment: memoryview) -> None:
            closing(end)
            raise OSError("no space left")

    end = up(make_sink=Both)
    end.feed(HALF)
    assert end.events == []
    assert end.sinks[0].ended == ["abandoned"]
    assert not end.core.mid_message


@pytest.mark.parametrize("act", [aborting, closing])
def test_the_link_ends_from_inside_the_tap(act):
    shown = []

    def tap(kind: int, data: memoryview) -> None:
        shown.append(kind)
        if kind == 4:
            act(end)

    end = up(tap=tap)
    shown.clear()
    end.feed(ECHO_PDU)
    assert shown == [4]
    assert end.events == []
    assert end.sent == abort(0, 0)
    assert not end.core.mid_message
    if act is closing:
        assert end.core.next_event() is NEED_DATA


@pytest.mark.parametrize("cut", [20, None])
def test_a_local_event_between_next_event_and_control(cut):
    """Another thread may change the state there: what the PDU means is looked up again."""
    end = end_in(State.STA3, requestor=False)
    put(end, ECHO_PDU[:cut])
    assert end.core.next_event() is CONTROL  # unexpected in Sta3
    end.call("associate_accept", ACCEPT)
    assert end.core.control() == (None, b"")
    end.handle()
    end.feed(ECHO_PDU[cut:] if cut else b"")
    assert [event.command.field for event in end.events] == [0x0030]

    put(end, RELEASE_RP[:6])
    assert end.core.next_event() is CONTROL  # unexpected in Sta6
    end.call("release_request")
    assert end.core.control() == (None, b"")
    assert end.core.next_event() is NEED_DATA
    end.feed(RELEASE_RP[6:])
    assert end.core.state is State.STA1


@pytest.mark.parametrize("data", [head(99, 0), RELEASE_RQ])
def test_closed_between_next_event_and_control(data):
    end = up()
    put(end, data)
    assert end.core.next_event() is CONTROL
    assert end.core.next_event() is CONTROL
    end.call("transport_closed")
    assert end.core.control() == (None, b"")
    assert end.core.next_event() is NEED_DATA


def put(end: End, data: bytes) -> None:
    """Receive without handling."""
    buffer = end.core.buffer()
    buffer[: len(data)] = data
    end.core.received(len(data))


# --- limits on P-DATA ----------------------------------------------------------------------------


@pytest.mark.parametrize("length", [101, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
@states(*TRANSFER)
def test_l04_p_data_over_our_maximum(requestor, state, length):
    """L04: refused by its header, six bytes."""
    end = end_in(state, requestor=requestor, limits=Limits(max_pdu=100))
    end.feed(head(4, length))
    assert end.sent == abort(2, 6)
    error = end.fault()
    assert isinstance(error, LimitExceeded)
    assert (error.limit, error.allowed, error.seen, error.clause) == ("max_pdu", 100, length, "PS3.8 D.1")


@pytest.mark.parametrize("limit", [100, 0], ids=["at the maximum", "no maximum"])
def test_l04_p_data_that_is_allowed(limit):
    end = up(limits=Limits(max_pdu=limit))
    data = message(bytes(94 if limit else 300000), step=300000)
    assert end.feed(p_data(pdv(STORE[:60], 1, 3)) + p_data(pdv(STORE[60:], 3, 3)) + data[12 + len(STORE) :])
    assert len(end.events[0].data_set) == (94 if limit else 300000)


@pytest.mark.parametrize("length", [0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_d14_pdv_lengths_that_cannot_be(length):
    """D14: under 2, or past the end of the PDU."""
    end = up()
    end.feed(head(4, 20) + pack(">IBB", length, 1, 3) + bytes(14))
    assert end.sent == abort(2, 6)


@pytest.mark.parametrize("rest", [1, 2, 3, 4, 5])
def test_d14_too_little_behind_the_last_pdv(rest):
    end = up()
    end.feed(p_data(pdv(ECHO, 3), bytes(rest))[:-rest])
    assert [type(event) for event in end.events] == [MessageReceived, Fault]
    assert end.sent == abort(2, 6)


@pytest.mark.parametrize("excess", [1, 3, 4])
def test_d14_pdv_longer_than_the_rest_of_its_pdu(excess):
    end = up()
    first = pdv(ECHO[:20], 1)
    second = pack(">IBB", len(ECHO) - 20 + 2 + excess, 1, 3) + ECHO[20:]
    end.feed(p_data(first, second))
    assert end.sent == abort(2, 6)
    assert end.events[-1].error.clause == "PS3.8 9.3.5.1"


# --- the tap -------------------------------------------------------------------------------------


@STEPS
def test_tap_sees_each_complete_pdu_once_before_its_event(step):
    seen = []

    def tap(kind: int, data: memoryview) -> None:
        seen.append((kind, bytes(data), len(end.events)))

    end = End(requestor=False, tap=tap)
    end.feed(RQ, step)
    end.call("associate_accept", ACCEPT)
    parts = [ECHO_PDU, *split(message(bytes(5000), step=3000)), RELEASE_RQ]
    end.feed(b"".join(parts), step)
    assert [(kind, data) for kind, data, _ in seen] == [(part[0], part) for part in (RQ, *parts)]
    assert [count for _, _, count in seen] == [0, 1, 2, 2, 2, 3]


@states(*ASSOCIATION, State.STA2, State.STA13)
def test_tap_does_not_wait_for_what_breaks_a_rule(requestor, state):
    seen = []
    for data in (head(99, 1000), head(7, 1000), head(1, LIMITS.association_pdu + 1)):
        end = end_in(state, requestor=requestor, tap=lambda kind, _: seen.append(kind))
        seen.clear()
        end.feed(data)
        assert end.sent[:1] == b"\7"
        assert end.core.state is State.STA13
        assert seen == []


def test_tap_sees_an_unexpected_pdu_and_what_is_dropped():
    seen = []
    end = end_in(State.STA3, requestor=False, tap=lambda kind, data: seen.append(kind))
    seen.clear()
    end.feed(RELEASE_RP + ECHO_PDU + AC + abort(0, 0))
    assert seen == [6, 4, 2, 7]


def test_tap_and_a_p_data_tf_that_is_too_long_to_hold():
    """Without a maximum nothing bounds a P-DATA-TF: one longer than any other PDU passes unseen."""
    seen = []
    end = up(limits=Limits(max_pdu=0), tap=lambda kind, data: seen.append(len(data)))
    seen.clear()
    data = bytes(LIMITS.association_pdu)
    end.feed(message(data), 50000)
    assert end.events[0].data_set == data
    assert seen == [len(STORE) + 12]
    end.feed(message(data[:-6]), 50000)
    assert seen[1:] == [len(STORE) + 12, LIMITS.association_pdu + 6]


def test_tap_that_raises():
    """The PDU is not shown again; whoever catches the exception can go on."""
    calls = []

    def tap(kind: int, data: memoryview) -> None:
        calls.append(kind)
        if kind == 4:
            raise ValueError("the application's own")

    end = up(tap=tap)
    calls.clear()
    with pytest.raises(ValueError, match="own"):
        end.feed(ECHO_PDU)
    end.handle()
    assert [event.command.field for event in end.events] == [0x0030]
    assert calls == [4]


# --- buffers -------------------------------------------------------------------------------------


@pytest.fixture
def pool(monkeypatch):
    """An empty pool of receive buffers."""
    empty: deque[bytearray] = deque(maxlen=16)
    monkeypatch.setattr(assembler, "_pool", empty)
    return empty


def test_a_large_buffer_only_within_a_message_that_fills_the_small_one(pool):
    end = up()
    small = len(end.core.buffer())
    data = message(bytes(200000), step=100000)
    end.feed(data[:300])
    assert len(end.core.buffer()) == small
    end.feed(data[300:20000])
    assert len(end.core.buffer()) == assembler.BATCH
    end.feed(data[20000:-1])
    assert len(end.core.buffer()) == assembler.BATCH
    end.feed(data[-1:])
    assert len(end.core.buffer()) == small
    assert len(pool) == 1
    end.feed(data[:20000])
    assert len(end.core.buffer()) == assembler.BATCH
    assert len(pool) == 0
    end.core.release()
    assert len(pool) == 1
    assert end.sinks[-1].ended == ["abandoned"]
    assert not end.core.mid_message


def test_after_an_abort_no_large_buffer_is_held(pool):
    end = up()
    end.feed(HALF[:20000])
    end.call("abort", 0, 0)
    end.feed(HALF[20000:])
    assert len(end.core.buffer()) == 8192
    assert len(pool) == 1


def test_read_ahead_before_what_is_pending_was_handled(pool):
    """A sender that cannot get on takes in one buffer, and no more."""
    end = up()
    data = (ECHO_PDU * (assembler.BATCH // len(ECHO_PDU) + 1))[: assembler.BATCH]
    at = 0
    while len(buffer := end.core.read_ahead_buffer()):
        buffer[:] = data[at : at + len(buffer)]
        end.core.received(len(buffer))
        at += len(buffer)
    assert at == assembler.BATCH
    end.handle()
    end.feed(ECHO_PDU[at % len(ECHO_PDU) :])
    assert len(end.events) == assembler.BATCH // len(ECHO_PDU) + 1
    assert len(end.core.buffer()) == 8192
    assert len(pool) == 1


def test_abort_waiting():
    """Seen as soon as it is complete and next, so that a sender can give up."""
    end = up()
    data = abort(2, 0)
    for byte in range(len(data)):
        assert not end.core.abort_waiting
        put(end, data[byte : byte + 1])
    assert end.core.abort_waiting
    assert end.core.control() == (AbortReceived(2, 0), b"")
    end = up()
    put(end, ECHO_PDU + data)
    assert not end.core.abort_waiting
    assert isinstance(end.core.next_event(), MessageReceived)
    assert end.core.abort_waiting
    end = up()
    put(end, ECHO_PDU + data[:-1])
    end.core.next_event()
    assert not end.core.abort_waiting
    end = up()
    end.feed(HALF[:20000])
    put(end, abort(2, 0))
    assert not end.core.abort_waiting  # those are bytes of the data set


@states(State.STA2, State.STA5)
def test_a_trickled_association_pdu_costs_what_has_arrived(requestor, state, pool):
    """Memory: announced at the limit, sent byte by byte; buffers are at most doubled."""
    end = end_in(state, requestor=requestor)
    kind = 2 if requestor else 1
    end.feed(head(kind, LIMITS.association_pdu))
    tracemalloc.start()
    try:
        for received in (2000, 10000, 20000, 40000):
            tracemalloc.reset_peak()
            end.feed(bytes(received - end.core.bytes_received % 50000), 97)
            assert tracemalloc.get_traced_memory()[1] < 3 * received + 32768
    finally:
        tracemalloc.stop()
    assert end.events == []
    end.core.release()
    assert len(end.core.buffer()) == 8192


@pytest.mark.parametrize(
    ("state", "data"),
    [
        (State.STA2, head(1, 0xFFFFFFFF)),
        (State.STA6, head(4, 0xFFFFFFFF)),
        (State.STA6, head(4, 131072) + pack(">IBB", 131068, 1, 1)),
        (State.STA6, p_data(pdv(STORE, 3, 3)) + head(4, 131072) + pack(">IBB", 131068, 3, 0)),
        (State.STA13, head(4, 0xFFFFFFFF)),
    ],
    ids=["l1", "l3", "command", "data-set", "sta13"],
)
def test_memory_is_not_taken_for_what_a_length_says(state, data, pool):
    """L1, L3: a length costs nothing, and 300 KiB behind it are dropped or refused in one buffer."""

    class Nothing(Recorder):
        def write(self, fragment: memoryview) -> None:
            """Keep nothing."""

    end = end_in(state, requestor=False, make_sink=Nothing)
    rest = bytes(300 * 1024)
    tracemalloc.start()
    try:
        end.feed(data)
        assert tracemalloc.get_traced_memory()[1] < 65536
        for at in range(0, len(rest), 1000):
            end.feed(rest[at : at + 1000])
        assert tracemalloc.get_traced_memory()[1] < 3 * 65536 + 16384
    finally:
        tracemalloc.stop()


def test_one_byte_at_a_time_costs_nothing_more(pool):
    end = up()
    data = message(bytes(20000), step=700)
    tracemalloc.start()
    try:
        end.feed(data, 1)
        assert tracemalloc.get_traced_memory()[1] < 20000 * 4
    finally:
        tracemalloc.stop()
    assert len(end.events) == 1
    assert not pool
