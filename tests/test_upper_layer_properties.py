"""The protocol core under any bytes, in any pieces, in any state; and two cores against each other."""

from __future__ import annotations

from dataclasses import fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from dialogue import (
    AC,
    ACCEPT,
    ECHO,
    ECHO_PDU,
    PATHS,
    REJECT,
    RELEASE_RP,
    RELEASE_RQ,
    REQUEST,
    RJ,
    RQ,
    STORE,
    End,
    Recorder,
    abort,
    end_in,
    head,
    message,
    p_data,
    pdv,
    split,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dicomnet.errors import LocalProtocolError, RemoteProtocolError
from dicomnet.protocol.assembler import MessageReceived, batches
from dicomnet.protocol.state_machine import State
from dicomnet.protocol.upper_layer import (
    AbortReceived,
    AcceptReceived,
    Fault,
    Refused,
    RejectReceived,
    ReleaseReceived,
    ReleaseResponseReceived,
    RequestReceived,
)
from dicomnet.settings import Limits

if TYPE_CHECKING:
    from collections.abc import Collection

INDICATIONS = (
    MessageReceived,
    RequestReceived,
    Refused,
    AcceptReceived,
    RejectReceived,
    ReleaseReceived,
    ReleaseResponseReceived,
    AbortReceived,
    Fault,
)
ANSWERING = (State.STA8, State.STA9, State.STA12)
QUIET = (State.STA1, State.STA2, State.STA4, State.STA13)
SMALL = Limits(max_pdu=3000, association_pdu=3000, command_set=600, data_set=5000)

in_any_state = st.sampled_from(sorted(PATHS, key=str))
good = st.sampled_from(
    [
        RQ,
        AC,
        RJ,
        RELEASE_RQ,
        RELEASE_RP,
        abort(0, 0),
        abort(2, 6),
        ECHO_PDU,
        message(bytes(300), step=70),
        p_data(pdv(STORE, 3, 3), pdv(b"abc", 0, 3)),
        p_data(pdv(b"defg", 2, 3), pdv(ECHO[:9], 1)),
    ]
)
lengths = st.one_of(
    st.integers(0, 80), st.sampled_from([2999, 3000, 3001, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
)
headers = st.builds(head, st.integers(0, 255) | st.integers(0, 8), lengths)
pdvs = st.builds(pdv, st.binary(max_size=40), st.integers(0, 255), st.sampled_from([0, 1, 2, 3, 5, 255]))
fragments = st.lists(pdvs, max_size=4).map(lambda parts: p_data(*parts))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good PDU with some bytes changed, some left out or some put in."""
    data = bytearray(draw(good))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(data)


streams = st.lists(good | headers | fragments | damaged() | st.binary(max_size=40), max_size=8).map(b"".join)
calls = st.sampled_from(
    [
        ("associate_request", REQUEST),
        ("associate_accept", ACCEPT),
        ("associate_reject", REJECT),
        ("p_data",),
        ("release_request",),
        ("release_response",),
        ("abort", 0, 0),
        ("artim_expired",),
    ]
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut `data` at the places that are in it."""
    edges = [0, *sorted({place for place in places if 0 < place < len(data)}), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def flat(event: Any) -> object:
    """An event in a form that can be compared: errors and commands by what they say."""
    if isinstance(event, Fault):
        error = event.error
        return type(error), str(error), error.abort_source, error.abort_reason
    if isinstance(event, MessageReceived):
        return event.context_id, event.command.raw, event.data_set, event.error
    return (type(event), *(getattr(event, field.name) for field in fields(event)))


@settings(deadline=None, max_examples=400)
@given(in_any_state, st.lists(streams | calls, max_size=5), st.integers(1, 50), st.booleans())
def test_any_bytes_and_calls_in_any_state(where, steps, size, tapped):
    """Only indications, bytes and faults come out; a local call is done or refused as such."""
    requestor, state = where
    shown: list[bytes] = []
    tap = (lambda _kind, data: shown.append(bytes(data))) if tapped else None
    end = end_in(state, requestor=requestor, limits=SMALL, tap=tap)
    for step in steps:
        before, sent = end.core.state, end.sent
        if isinstance(step, bytes):
            end.feed(step, size)
        else:
            try:
                end.call(*step)
            except LocalProtocolError:
                assert (end.core.state, end.sent) == (before, sent)
        assert len(end.core.buffer())
    assert all(isinstance(event, INDICATIONS) for event in end.events)
    faults = [event.error for event in end.events if isinstance(event, Fault)]
    assert len(faults) <= 1
    assert all(isinstance(error, RemoteProtocolError) for error in faults)
    kinds = [data[0] for data in split(end.sent)]
    assert set(kinds[kinds.index(7) :] if 7 in kinds else ()) <= {7}  # after an abort nothing but aborts
    assert end.core.state in State
    assert all(len(data) == 6 + int.from_bytes(data[2:6], "big") for data in shown)
    end.call("transport_closed")
    end.core.release()
    assert end.feed(RQ + ECHO_PDU) == []
    assert not end.core.mid_message
    assert [len(sink.ended) for sink in end.sinks] == [1] * len(end.sinks)
    delivered = sum(event.data_set is not None for event in end.events if isinstance(event, MessageReceived))
    assert [sink.ended for sink in end.sinks].count(["finished"]) == delivered


@settings(deadline=None, max_examples=400)
@given(in_any_state, streams, st.lists(st.integers(1, 700), max_size=30), st.booleans())
def test_the_same_stream_cut_anywhere_gives_the_same(where, data, places, tapped):
    """P13: events, answers, state, what the tap and the sinks got do not depend on the pieces."""
    requestor, state = where
    results = []
    for parts in (cut(data, places), [data], [bytes([byte]) for byte in data]):
        shown: list[bytes] = []
        tap = (lambda _kind, pdu, shown=shown: shown.append(bytes(pdu))) if tapped else None
        end = end_in(state, requestor=requestor, limits=SMALL, tap=tap)
        end.feed_pieces(parts)
        results.append(
            (
                [flat(event) for event in end.events],
                end.sent,
                end.core.state,
                shown,
                [(bytes(sink.data), sink.ended) for sink in end.sinks],
                end.core.mid_message,
            )
        )
    assert results[0] == results[1] == results[2]


@settings(deadline=None, max_examples=200)
@given(
    st.binary(max_size=3000),
    st.lists(st.integers(1, 400), max_size=200),
    st.lists(st.integers(1, 4000), max_size=20),
    st.booleans(),
)
def test_any_fragments_in_any_pieces_are_the_data_set(data, sizes, places, joined):
    """D01 to D13: however a data set is cut into PDVs, these are put into PDUs, and those arrive."""
    parts, at = [pdv(STORE, 3, 3)], 0
    for size in sizes:
        if at + size < len(data):
            parts.append(pdv(data[at : at + size], 0, 3))
            at += size
    parts.append(pdv(data[at:], 2, 3))
    stream = p_data(*parts) if joined else b"".join(map(p_data, parts))
    end = end_in(State.STA6, requestor=True)
    end.feed_pieces(cut(stream, places))
    (event,) = end.events
    assert (event.data_set, event.error) == (data, None)
    assert not end.core.mid_message


class Data:
    """A source in memory, or one that is read."""

    def __init__(self, data: bytes, *, streamed: bool) -> None:
        self._data, self._streamed, self._at = data, streamed, 0
        self.size = len(data)

    def view(self) -> memoryview | None:
        return None if self._streamed else memoryview(self._data)

    def read_into(self, views: list[memoryview]) -> None:
        for view in views:
            view[:] = self._data[self._at : self._at + len(view)]
            self._at += len(view)

    def close(self) -> None:
        """Nothing to free."""


class TwoEnds(RuleBasedStateMachine):
    """A requestor and an acceptor that do what they may, and two wires that deliver when they like."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = {role: End(requestor=role, make_sink=Recorder) for role in (True, False)}
        self.wires = {True: b"", False: b""}  # what the end of this role has sent
        self.taken = {True: 0, False: 0}
        self.messages: dict[bool, list[object]] = {True: [], False: []}  # sent, not yet delivered
        self.got: dict[bool, list[object]] = {True: [], False: []}

    def collect(self, role: bool) -> None:
        end = self.ends[role]
        self.wires[role] += end.sent
        end.sent = b""

    def act(self, role: bool, *call: object) -> None:
        end = self.ends[role]
        end.call(*call)
        self.collect(role)

    @initialize(early=st.sampled_from([False, False, False, True]))
    def ask(self, early: bool) -> None:
        self.act(True, "associate_request", REQUEST)
        if not early:
            self.deliver(role=True, size=len(RQ))
            self.answer(accept=True)
            self.deliver(role=False, size=len(AC))

    @precondition(lambda self: any(self.wires.values()))
    @rule(role=st.booleans(), size=st.integers(1, 30) | st.integers(300, 5000))
    def deliver(self, role: bool, size: int) -> None:
        """Bytes that `role` has sent arrive at the other end."""
        data, self.wires[role] = self.wires[role][:size], self.wires[role][size:]
        other = self.ends[not role]
        events = other.feed(data) if data else []
        self.collect(not role)
        for event in events:
            assert isinstance(event, INDICATIONS)
            assert not isinstance(event, Fault), event.error
            if isinstance(event, MessageReceived):
                expected = self.messages[role].pop(0)
                assert (event.context_id, event.data_set) == expected

    @precondition(lambda self: self.may(State.STA6, State.STA8))
    @rule(
        role=st.booleans(),
        data=st.none() | st.binary(max_size=300),
        maximum=st.sampled_from([8, 40, 500]),
        streamed=st.booleans(),
    )
    def send_message(self, role: bool, data: bytes | None, maximum: int, streamed: bool) -> None:
        end = self.ends[role]
        if end.core.state not in (State.STA6, State.STA8):
            with pytest.raises(LocalProtocolError):
                end.core.p_data()
            return
        end.core.p_data()
        context, raw = (1, ECHO) if data is None else (3, STORE)
        source = None if data is None else Data(data, streamed=streamed)
        for batch in batches(context, raw, source, min(maximum, end.core.send_length)):
            self.wires[role] += b"".join(batch.buffers)
        self.messages[role].append((context, data))

    @precondition(lambda self: self.ends[False].core.state is State.STA3)
    @rule(accept=st.sampled_from([True, True, True, False]))
    def answer(self, accept: bool) -> None:
        self.act(False, *(("associate_accept", ACCEPT) if accept else ("associate_reject", REJECT)))

    def may(self, *states: State) -> bool:
        return any(end.core.state in states for end in self.ends.values())

    @precondition(lambda self: self.may(State.STA6))
    @rule(role=st.booleans())
    def release(self, role: bool) -> None:
        self.try_call(role, "release_request", {State.STA6})

    @precondition(lambda self: self.may(*ANSWERING))
    @rule(role=st.booleans())
    def answer_release(self, role: bool) -> None:
        self.try_call(role, "release_response", ANSWERING)

    @rule(role=st.booleans(), dice=st.integers(1, 8))
    def give_up(self, role: bool, dice: int) -> None:
        if dice == 8 and self.ends[role].core.state not in QUIET:
            self.act(role, "abort", 0, 0)

    def try_call(self, role: bool, name: str, allowed: Collection[State]) -> None:
        possible = self.ends[role].core.state in allowed
        try:
            self.act(role, name)
        except LocalProtocolError:
            assert not possible
        else:
            assert possible

    @precondition(lambda self: self.may(State.STA1))
    @rule(role=st.booleans())
    def close_when_the_peer_has(self, role: bool) -> None:
        """Who is in Sta1 has closed: behind all bytes the other sees the end, and was told why or knows."""
        if self.ends[role].core.state is State.STA1 and not self.wires[role]:
            assert self.ends[not role].core.state in (State.STA1, State.STA13)
            assert self.ends[not role].call("transport_closed") is False

    @invariant()
    def nothing_is_left_open(self) -> None:
        for end in self.ends.values():
            if end.core.state is State.STA1:
                end.core.release()
                assert [len(sink.ended) for sink in end.sinks] == [1] * len(end.sinks)


TwoEnds.TestCase.settings = settings(deadline=None, max_examples=80, stateful_step_count=40)
TestTwoEnds = TwoEnds.TestCase
