"""The protocol machine of PS3.8 9.2 as it is driven: bytes and calls in, bytes and indications out."""

from __future__ import annotations

import tracemalloc
from collections import deque
from dataclasses import replace
from struct import pack

import pytest
from dialogue import (
    AC,
    ACCEPT,
    CT,
    ECHO,
    ECHO_PDU,
    EXPLICIT,
    IMPLICIT,
    LIMITS,
    PATHS,
    REJECT,
    RELEASE_RP,
    RELEASE_RQ,
    REQUEST,
    RJ,
    RQ,
    STORE,
    VERIFICATION,
    End,
    Recorder,
    abort,
    each_state,
    end_in,
    head,
    message,
    p_data,
    pdv,
    pieces,
    short,
)
from test_state_machine import CELLS

from dicomnet.errors import LimitExceeded, LocalProtocolError
from dicomnet.protocol import assembler, items
from dicomnet.protocol.assembler import MessageReceived
from dicomnet.protocol.state_machine import State
from dicomnet.protocol.upper_layer import (
    CONTROL,
    NEED_DATA,
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

ASSOCIATION = (State.STA3, *list(State)[4:12])
TRANSFER = (State.STA6, State.STA7)
NO_PDU = (State.STA1, State.STA4)  # the table knows no PDU there
ROLES = pytest.mark.parametrize("requestor", [True, False], ids=["requestor", "acceptor"])
STEPS = pytest.mark.parametrize("step", [None, 1, 7], ids=["whole", "bytes", "sevens"])


def states(*wanted: State) -> pytest.MarkDecorator:
    """Parametrize over every way to be in one of the states."""
    return pytest.mark.parametrize(
        ("requestor", "state"),
        [
            pytest.param(*pair, id=f"{pair[1].name}-{'requestor' if pair[0] else 'acceptor'}")
            for pair in each_state(*wanted)
        ],
    )


def up(*, requestor: bool = False, **options) -> End:
    return end_in(State.STA6, requestor=requestor, **options)


# --- table 9-10 ----------------------------------------------------------------------------------

RECEIVED = {
    "E03": (AC,),
    "E04": (RJ,),
    "E06": (RQ,),
    "E10": (ECHO_PDU,),
    "E12": (RELEASE_RQ,),
    "E13": (RELEASE_RP,),
    "E16": (abort(0, 0), abort(2, 6)),
    "E19": (
        head(0, 4),
        head(8, 4) + bytes(4),
        head(0xFF, 0xFFFFFFFF),
        head(3, 5),
        head(5, 0),
        head(6, 3),
        head(7, 0xFFFFFFFF),
        head(1, 0xFFFFFFFF),
        head(2, LIMITS.association_pdu + 1),
    ),
}
CALLS = {
    "E02": ("associate_request", REQUEST),
    "E07": ("associate_accept", ACCEPT),
    "E08": ("associate_reject", REJECT),
    "E09": ("p_data",),
    "E11": ("release_request",),
    "E14": ("release_response",),
    "E15": ("abort", 0, 0),
    "E17": ("transport_closed",),
    "E18": ("artim_expired",),
}
# Action -> what is sent (None: an A-ABORT of the provider), what is indicated.
OUTCOMES = {
    "AE-2": (RQ, []),
    "AE-3": (b"", [AcceptReceived]),
    "AE-4": (b"", [RejectReceived]),
    "AE-6": (b"", [RequestReceived]),
    "AE-7": (AC, []),
    "AE-8": (RJ, []),
    "DT-1": (b"", []),
    "DT-2": (b"", [MessageReceived]),
    "AR-1": (RELEASE_RQ, []),
    "AR-2": (b"", [ReleaseReceived(collision=False)]),
    "AR-3": (b"", [ReleaseResponseReceived(ours_pending=False)]),
    "AR-4": (RELEASE_RP, []),
    "AR-5": (b"", []),
    "AR-6": (b"", [MessageReceived]),
    "AR-7": (b"", []),
    "AR-8": (b"", [ReleaseReceived(collision=True)]),
    "AR-9": (RELEASE_RP, []),
    "AR-10": (b"", [ReleaseResponseReceived(ours_pending=True)]),
    "AA-2": (b"", []),
    "AA-3": (b"", [AbortReceived]),
    "AA-4": (b"", []),
    "AA-5": (b"", []),
    "AA-6": (b"", []),
    "AA-7": (None, []),
    "AA-8": (None, [Fault]),
}
REASONS = dict.fromkeys(RECEIVED["E19"][:3], 1) | dict.fromkeys(RECEIVED["E19"][3:], 6)

CELL_TESTS = [
    pytest.param(requestor, state, event, data, id=f"{event}-{state.name}-{requestor:d}-{number}")
    for requestor, state in PATHS
    for event in (*RECEIVED, *CALLS)
    for number, data in enumerate(RECEIVED.get(event, (None,)))
]


def indicated(event: object, expected: object) -> bool:
    return isinstance(event, expected) if isinstance(expected, type) else event == expected


@pytest.mark.parametrize(("requestor", "state", "event", "data"), CELL_TESTS)
def test_m04_cell(requestor, state, event, data):
    """M04: each pair of state and event, by real bytes or calls."""
    end = end_in(state, requestor=requestor)
    cell = CELLS.get((state.value, event))
    if data is not None:
        end.feed(data)
    elif cell is None and event != "E17":
        with pytest.raises(LocalProtocolError):  # M05
            end.call(*CALLS[event])
    else:
        assert end.call(*CALLS[event]) in (
            (cell is not None and cell[0] == "AA-4",) if event == "E17" else (None, end.sent)
        )
    if cell is None:
        closed = data is not None and state is State.STA4  # nobody asked the peer yet: nothing is owed to it
        assert end.core.state is (State.STA1 if closed else state)
        assert end.sent == b""
        assert [type(event) for event in end.events] == [Fault] * closed
        return
    action, following = cell
    assert end.core.state.value == int(following.split("/")[0 if requestor else -1])
    if action == "AA-1":
        assert end.sent == abort(0, 0)
        assert [type(event) for event in end.events] == [Fault] * (data is not None)
        return
    sent, expected = OUTCOMES[action]
    assert end.sent == (abort(2, REASONS.get(data, 2)) if sent is None else sent)
    assert len(end.events) == len(expected)
    assert all(map(indicated, end.events, expected))


@ROLES
def test_m04_e01_and_e05_happen_when_the_core_is_made(requestor):
    end = End(requestor=requestor)
    assert end.core.state is (State.STA4 if requestor else State.STA2)
    assert CELLS[1, "E01"][1] == "4"
    assert CELLS[1, "E05"][1] == "2"


@pytest.mark.parametrize(
    ("requestor", "state", "data"),
    [
        (False, State.STA2, head(1, 68) + bytes(68)),
        (True, State.STA5, head(2, 68) + bytes(68)),
        *((role, state, p_data(pdv(b"", 3, 99))) for role in (True, False) for state in TRANSFER),
    ],
)
def test_m04_e19_a_pdu_whose_content_is_invalid(requestor, state, data):
    """Where its type is expected; elsewhere nobody looks at the content."""
    end = end_in(state, requestor=requestor)
    end.feed(data)
    assert end.core.state is State.STA13
    assert end.sent == (abort(0, 0) if state is State.STA2 else abort(2, 6))
    assert end.fault()


# --- PDU basics ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("requestor", "state", "data", "garbled"),
    [
        (
            False,
            State.STA2,
            RQ,
            RQ[:1] + b"\xa5" + RQ[2:8] + b"\xa5\x5a" + RQ[10:42] + b"\xa5" * 32 + RQ[74:],
        ),
        (True, State.STA5, AC, AC[:1] + b"\xa5" + AC[2:8] + b"\xa5" * 66 + AC[74:]),
        (True, State.STA5, RJ, b"\3\xa5\0\0\0\4\xa5\1\1\7"),
        (True, State.STA6, RELEASE_RQ, b"\5\xa5\0\0\0\4\xa5\xa5\xa5\xa5"),
        (True, State.STA7, RELEASE_RP, b"\6\xa5\0\0\0\4\xa5\xa5\xa5\xa5"),
        (True, State.STA6, abort(2, 1), b"\7\xa5\0\0\0\4\xa5\xa5\2\1"),
        (True, State.STA6, ECHO_PDU, b"\4\xa5" + ECHO_PDU[2:]),
        (True, State.STA6, ECHO_PDU, p_data(pdv(ECHO, 0xFF))),
    ],
    ids=["rq", "ac", "rj", "release-rq", "release-rp", "abort", "p-data", "d02-control-header"],
)
def test_p03_reserved_fields_are_not_tested(requestor, state, data, garbled):
    """P03, D02: garbage in reserved bytes and bits changes nothing."""
    good, bad = (end_in(state, requestor=requestor) for _ in range(2))
    good.feed(data)
    bad.feed(garbled)
    assert bad.core.state is good.core.state
    assert bad.sent == good.sent == b""
    assert [type(event) for event in bad.events] == [type(event) for event in good.events]
    assert len(good.events) == 1


def test_p03_reserved_fields_are_sent_as_zero():
    end = up()
    end.call("release_request")
    end.call("abort", 2, 6)
    assert end.sent == bytes.fromhex("05000000000400000000 07000000000400000206")


@pytest.mark.parametrize("kind", [0x00, 0x08, 0x47, 0x80, 0xFF])
@pytest.mark.parametrize("length", [0, 4, 0xFFFFFFFF])
@states(State.STA2, *ASSOCIATION, State.STA13)
def test_p04_p05_unknown_type(requestor, state, kind, length):
    """P04: AA-1 in Sta2, AA-7 in Sta13, else AA-8; P05: with source 2 and reason 1. The header is enough."""
    end = end_in(state, requestor=requestor)
    end.feed(head(kind, length))
    assert end.sent == (abort(0, 0) if state is State.STA2 else abort(2, 1))
    assert end.core.state is State.STA13
    assert len(end.events) == (state is not State.STA13)


def test_p04_the_first_bytes_of_a_stranger_are_kept():
    end = End(requestor=False)
    end.feed(b"GET /index.html HTTP/1.1\r\n\r\n")
    assert end.core.strange == b"GET /index.html "
    assert (end.fault().abort_source, end.fault().abort_reason) == (0, 0)


@pytest.mark.parametrize("length", [0, 1, 3, 5, 68, 0x80000000, 0xFFFFFFFF])
@pytest.mark.parametrize("kind", [3, 5, 6, 7])
@ROLES
def test_p08_length_must_be_4(requestor, kind, length):
    end = up(requestor=requestor)
    end.feed(head(kind, length))
    assert end.sent == abort(2, 6)
    assert end.fault().clause == "PS3.8 9.3"


@states(*TRANSFER)
def test_p09_p_data_without_a_pdv(requestor, state):
    """P09: the six bytes are all that comes, and waiting for more would be a stall."""
    end = end_in(state, requestor=requestor)
    end.feed(head(4, 0))
    assert end.sent == abort(2, 6)
    assert end.core.state is State.STA13


@pytest.mark.parametrize("length", [0, 1, 67, 68])
def test_p10_short_association_pdus(length):
    """P10: no bytes, too few for the fixed part, and no items behind it."""
    acceptor, requestor = End(requestor=False), end_in(State.STA5, requestor=True)
    acceptor.feed(head(1, length) + RQ[6 : 6 + length])
    requestor.feed(head(2, length) + AC[6 : 6 + length])
    assert acceptor.sent == abort(0, 0)
    assert requestor.sent == abort(2, 6)
    assert isinstance(acceptor.events[0], Fault)
    assert isinstance(requestor.events[0], Fault)


@pytest.mark.parametrize("length", [LIMITS.association_pdu + 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_p11_an_association_pdu_over_the_limit_is_refused_by_its_header(length):
    acceptor, requestor = End(requestor=False), end_in(State.STA5, requestor=True)
    acceptor.feed(head(1, length))
    requestor.feed(head(2, length))
    assert acceptor.sent == abort(0, 0)
    assert requestor.sent == abort(2, 6)
    for end in acceptor, requestor:
        error = end.fault()
        assert isinstance(error, LimitExceeded)
        assert (error.limit, error.allowed, error.seen) == ("association_pdu", LIMITS.association_pdu, length)


def test_p11_an_association_pdu_at_the_limit_passes():
    limits = Limits(association_pdu=len(RQ) - 6)
    end = End(requestor=False, limits=limits)
    end.feed(RQ)
    assert isinstance(end.events[0], RequestReceived)


def test_p11_an_unexpected_p_data_needs_no_limit():
    """It is not believed, so how long it says it is does not matter (M02, reason 2)."""
    end = end_in(State.STA3, requestor=False)
    end.feed(head(4, 0xFFFFFFFF))
    assert end.sent == abort(2, 2)


@pytest.mark.parametrize(
    "data",
    [
        RQ[:74] + pack(">BBH", 0x10, 0, 0xFFFF) + RQ[78:],
        RQ[:2] + pack(">I", len(RQ) - 5) + RQ[6:] + b"\0",
        RQ[:2] + pack(">I", len(RQ) - 6 + 3) + RQ[6:] + b"\x51\0\0",
    ],
    ids=["item past the end", "one byte behind the last item", "three bytes"],
)
def test_p12_lengths_that_do_not_fit(data):
    end = End(requestor=False)
    end.feed(data)
    assert end.sent == abort(0, 0)
    assert isinstance(end.events[0], Fault)


DIALOGUE = RQ, AC, ECHO_PDU + message(bytes(range(256)) * 100, step=900), RELEASE_RQ


@pytest.mark.parametrize("step", [1, 2, 3, 5, 6, 7, 1000, 1 << 20])
def test_p13_pdus_in_pieces_and_joined(step):
    """P13: however the stream is cut, the events are the same."""
    end = End(requestor=False)
    rq, _, data, release = DIALOGUE
    end.feed(rq, step)
    end.call("associate_accept", ACCEPT)
    end.feed(data + release, step)
    echo, store, released = end.events[1:]
    assert (echo.context_id, echo.command.field, echo.data_set, echo.error) == (1, 0x0030, None, None)
    assert (store.context_id, store.data_set) == (3, bytes(range(256)) * 100)
    assert released == ReleaseReceived(collision=False)
    assert end.core.bytes_received == len(rq + data + release)


@pytest.mark.parametrize("cut", [*range(1, 30), len(STORE) + 12, -3, -1])
def test_p14_closed_within_a_pdu(cut):
    """P14, T12: an A-P-ABORT, nothing sent, and nothing delivered from the partial PDU."""
    end = up()
    data = message(b"abcdefgh" * 4)
    end.feed(data[:cut])
    assert end.events == []
    assert end.call("transport_closed") is True
    end.core.release()
    assert end.core.state is State.STA1
    assert end.events == []
    assert end.sent == b""
    assert [sink.ended for sink in end.sinks] == [["abandoned"]] * len(end.sinks)
    assert not end.core.mid_message


# --- T, M: timers, wrong PDUs --------------------------------------------------------------------


def test_t08_artim_states():
    """T08: a valid request leaves Sta2; closing and A-ABORT end Sta2 and Sta13 without an indication."""
    end = End(requestor=False)
    end.feed(RQ)
    assert end.core.state is State.STA3
    for state in (State.STA2, State.STA13):
        for event in (abort(0, 0), ("transport_closed",), ("artim_expired",)):
            end = end_in(state, requestor=False)
            if isinstance(event, bytes):
                end.feed(event)
            else:
                assert not end.call(*event)
            assert end.core.state is State.STA1
            assert end.events == []
            assert end.sent == b""


@states(*ASSOCIATION, State.STA4)
def test_t12_the_peer_closes(requestor, state):
    end = end_in(state, requestor=requestor)
    assert end.call("transport_closed") is True
    assert end.core.state is State.STA1
    assert end.sent == b""
    assert end.call("transport_closed") is False


@pytest.mark.parametrize("data", [AC, RJ, ECHO_PDU, RELEASE_RQ, RELEASE_RP, head(4, 0), head(9, 0)])
def test_m01_wrong_first_pdu(data):
    """M01: A-ABORT source 0 reason 0, Sta13; the fault says so and is for the log."""
    end = End(requestor=False)
    end.feed(data)
    assert end.sent == abort(0, 0)
    assert end.core.state is State.STA13
    assert (end.fault().abort_source, end.fault().abort_reason) == (0, 0)


@states(*ASSOCIATION)
def test_m02_exactly_one_indication(requestor, state):
    """M02: one fault, one A-ABORT of source 2, whatever follows; reason 2 for a known type."""
    end = end_in(state, requestor=requestor)
    end.feed(RQ + ECHO_PDU + RELEASE_RQ + AC + RELEASE_RP)
    assert end.sent == abort(2, 2)
    assert (end.fault().abort_source, end.fault().abort_reason) == (2, 2)
    assert end.fault().clause == "PS3.8 table 9-10"
    assert len(end.events) == 1
    assert end.core.state is State.STA13


@ROLES
def test_m02_nothing_is_believed_behind_an_invalid_pdu(requestor):
    """Where the next PDU would begin is not known: what looks like one is not answered."""
    end = up(requestor=requestor)
    end.feed(head(4, 5) + b"\0\0\0\0\0" + RQ + head(9, 0))
    assert end.sent == abort(2, 6)
    assert len(end.events) == 1
    end.feed(RQ + abort(0, 0) + RQ)
    assert end.sent == abort(2, 6)
    assert end.core.state is State.STA13
    assert len(end.core.buffer()) == 8192


@ROLES
@STEPS
def test_m03_closing(requestor, step):
    """M03: in Sta13 everything but A-ABORT, RQ and invalid PDUs is dropped; these two get another A-ABORT."""
    end = end_in(State.STA13, requestor=requestor)
    end.feed(AC + RJ + message(bytes(50000), step=5000) + RELEASE_RQ + RELEASE_RP + head(4, 0), step)
    assert end.sent == b""
    end.feed(RQ + RQ, step)
    assert end.sent == abort(2, 2) * 2
    end.feed(head(99, 0), step)
    assert end.sent == abort(2, 2) * 2 + abort(2, 1)
    assert end.events == []
    assert end.sinks == []


@ROLES
def test_m03_a_longer_p_data_than_our_maximum_is_dropped_too(requestor):
    end = end_in(State.STA13, requestor=requestor)
    end.feed(head(4, 300000) + bytes(299999))
    assert end.core.mid_message
    end.feed(b"\0" + RELEASE_RQ)
    assert not end.core.mid_message
    assert end.sent == b""
    end.feed(abort(0, 0))
    assert end.core.state is State.STA1


@states(*(state for state in State if state not in (*TRANSFER, State.STA8)))
def test_m05_p_data_and_release_where_they_are_not_allowed(requestor, state):
    end = end_in(state, requestor=requestor)
    for name in "p_data", "release_request":
        with pytest.raises(LocalProtocolError, match=f"not possible in Sta{state.value} ") as caught:
            end.call(name)
        assert caught.value.clause == "PS3.8 9.2.3"
    assert end.core.state is state
    assert end.sent == b""


@ROLES
def test_m05_what_cannot_be_encoded_changes_nothing(requestor):
    for state, call in (
        (State.STA6, ("abort", 300, 0)),
        (State.STA3, ("associate_reject", replace(REJECT, reason=-1))),
        (State.STA3, ("associate_accept", replace(ACCEPT, called_raw=b"short"))),
        (State.STA4, ("associate_request", replace(REQUEST, called=""))),
    ):
        if (requestor, state) in PATHS:
            end = end_in(state, requestor=requestor)
            with pytest.raises(LocalProtocolError):
                end.call(*call)
            assert end.core.state is state


# --- association ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (replace(REQUEST, protocol_version=0), short(3, 1, 2, 2)),
        (replace(REQUEST, protocol_version=0xFFFE), short(3, 1, 2, 2)),
        (replace(REQUEST, application_context="1.2.3"), short(3, 1, 1, 2)),
    ],
    ids=["a02-version-0", "a02-bit-0-clear", "a09-application-context"],
)
@STEPS
def test_refused_by_the_provider(request_, answer, step):
    """A02, A09 and AE-6: the rejection goes out at once, and the state is that of AE-8."""
    end = End(requestor=False)
    (event,) = end.feed(request_.encode(), step)
    assert isinstance(event, Refused)
    assert end.sent == answer == event.pdu.encode()
    assert end.core.state is State.STA13
    with pytest.raises(LocalProtocolError):
        end.call("associate_accept", ACCEPT)


@pytest.mark.parametrize("version", [1, 3, 0xFFFF])
def test_a02_only_bit_0_counts(version):
    (event,) = End(requestor=False).feed(replace(REQUEST, protocol_version=version).encode())
    assert isinstance(event, RequestReceived)
    assert event.pdu.protocol_version == version


def test_a09_a_requestor_aborts_when_the_application_context_is_not_dicoms():
    end = end_in(State.STA5, requestor=True)
    end.feed(replace(ACCEPT, application_context="1.2.3").encode())
    assert end.sent == abort(2, 6)
    assert end.core.state is State.STA13
    assert end.core.contexts == {}


@ROLES
def test_a14_contexts_are_matched_by_id(requestor):
    """A14: the answer has them the other way round."""
    core = up(requestor=requestor).core
    assert {n: (c.abstract_syntax, c.transfer_syntax) for n, c in core.contexts.items()} == {
        1: (VERIFICATION, IMPLICIT),
        3: (CT, EXPLICIT),
    }
    assert core.accept == ACCEPT
    assert core.request == REQUEST


def test_a21_a_requestor_that_waits_can_only_abort():
    end = end_in(State.STA5, requestor=True)
    for call in (*CALLS.values(), ("associate_request", REQUEST)):
        if call[0] not in ("abort", "transport_closed"):
            with pytest.raises(LocalProtocolError):
                end.call(*call)
    assert end.sent == b""
    assert end.core.state is State.STA5


def test_a22_abort_while_waiting_for_the_answer():
    end = end_in(State.STA5, requestor=True)
    end.call("abort", 0, 5)
    assert end.sent == abort(0, 0)  # R10: with source 0 the reason is 0
    end.feed(AC)  # had been on its way
    assert end.core.state is State.STA13
    assert end.events == []


def test_a_context_that_was_rejected_carries_nothing():
    """D15 through the negotiation: context 5 was answered with result 3."""
    end = up()
    end.feed(p_data(pdv(ECHO, 3, 5)))
    assert end.sent == abort(2, 6)


@pytest.mark.parametrize(
    ("announced", "own", "expected"),
    [
        (4096, 131072, 4096),
        (131072, 4096, 4096),
        (0, 131072, 131072),
        (0xFFFFFFFF, 1000, 1000),
        (None, 131072, 16384),
    ],
    ids=["l02-peer", "own", "l03-no-limit", "huge", "l07-absent"],
)
@ROLES
def test_send_length(requestor, announced, own, expected):
    """L02, L03, L07: what we send is bounded by the peer's maximum and by our own, each direction alone."""
    found = () if announced is None else (items.MaximumLength(announced),)
    information = items.UserInformation((*found, items.ImplementationClassUid("1.2.3")))
    end = End(requestor=requestor, limits=Limits(max_pdu_send=own, max_pdu=7777))
    if requestor:
        end.call("associate_request", REQUEST)
        end.feed(replace(ACCEPT, user_information=information).encode())
    else:
        end.feed(replace(REQUEST, user_information=information).encode())
        end.call("associate_accept", ACCEPT)
    assert end.core.send_length == expected


def test_l08_the_maximum_is_not_for_association_pdus():
    end = End(requestor=False, limits=Limits(max_pdu=64))
    end.feed(RQ)
    assert isinstance(end.events[0], RequestReceived)


def test_a_request_with_128_contexts_of_32_syntaxes_passes_the_default_limits():
    syntaxes = tuple(f"1.2.840.10008.1.2.4.{n}" for n in range(50, 82))
    contexts = tuple(items.PresentationContextRq(2 * n + 1, f"{CT}.{n}", syntaxes) for n in range(128))
    end = End(requestor=False)
    end.feed(replace(REQUEST, contexts=contexts).encode(), 4096)
    assert end.events[0].pdu.contexts == contexts
    assert len(end.core.buffer()) == 8192


# --- release and abort ---------------------------------------------------------------------------


def test_r03_after_a_rejection():
    """R03: the one who sent it waits in Sta13, the one who got it closes."""
    acceptor, requestor = end_in(State.STA3, requestor=False), end_in(State.STA5, requestor=True)
    acceptor.call("associate_reject", REJECT)
    (event,) = requestor.feed(acceptor.sent)
    assert event == RejectReceived(REJECT)
    assert (acceptor.core.state, requestor.core.state) == (State.STA13, State.STA1)


@ROLES
def test_r06_after_our_release_request(requestor):
    """R06: nothing more may be sent, and what arrives is still delivered."""
    end = end_in(State.STA7, requestor=requestor)
    with pytest.raises(LocalProtocolError):
        end.call("p_data")
    store, released = end.feed(message(b"late") + RELEASE_RP)
    assert store.data_set == b"late"
    assert released == ReleaseResponseReceived(ours_pending=False)
    assert end.core.state is State.STA1


@ROLES
def test_r07_r08_after_the_peers_release_request(requestor):
    """R07: we may still send until we answer. R08: there is no other answer than yes, or an abort."""
    end = end_in(State.STA8, requestor=requestor)
    end.call("p_data")
    for refused in "release_request", "artim_expired":
        with pytest.raises(LocalProtocolError):
            end.call(refused)
    end.call("release_response")
    assert end.sent == RELEASE_RP
    assert end.core.state is State.STA13
    with pytest.raises(LocalProtocolError):
        end.call("p_data")


def test_r09_release_collision():
    """R09: the requestor answers first, then the acceptor, each told who comes next."""
    requestor, acceptor = up(requestor=True), up()
    for end in requestor, acceptor:
        end.call("release_request")
    assert requestor.feed(acceptor.sent) == acceptor.feed(requestor.sent) == [ReleaseReceived(collision=True)]
    with pytest.raises(LocalProtocolError):
        acceptor.call("release_response")
    answer = requestor.call("release_response")
    assert acceptor.feed(answer) == [ReleaseResponseReceived(ours_pending=True)]
    answer = acceptor.call("release_response")
    assert requestor.feed(answer) == [ReleaseResponseReceived(ours_pending=False)]
    assert (requestor.core.state, acceptor.core.state) == (State.STA1, State.STA13)


@states(*ASSOCIATION)
@pytest.mark.parametrize(("source", "reason"), [(0, 0), (0, 7), (1, 0), (2, 0), (2, 6), (9, 99)])
def test_r12_abort_received(requestor, state, source, reason):
    """R12, R10: indicated with its numbers (reason 0 for the user), never answered."""
    end = end_in(state, requestor=requestor)
    assert end.feed(abort(source, reason)) == [AbortReceived(source, reason if source else 0)]
    assert end.core.state is State.STA1
    assert end.sent == b""


@pytest.mark.parametrize("state", [State.STA2, State.STA13])
@STEPS
def test_r13_abort_received_where_nobody_cares(state, step):
    end = end_in(state, requestor=False)
    assert end.feed(abort(2, 1), step) == []
    assert end.core.state is State.STA1
    assert end.sent == b""


def test_r14_abort_before_anything_was_asked():
    end = End(requestor=True)
    assert end.call("abort", 0, 0) == b""
    assert end.core.state is State.STA1


@ROLES
@pytest.mark.parametrize("reason", [0, 1, 2, 4, 5, 6])
def test_abort_of_ours_as_the_provider(requestor, reason):
    end = up(requestor=requestor)
    assert end.call("abort", 2, reason) == abort(2, reason)
    assert end.core.state is State.STA13


@states(State.STA1)
def test_after_the_end_nothing_counts(requestor, state):
    end = end_in(state, requestor=requestor)
    for data in (RQ, AC, message(b"x"), head(99, 0), head(1, 0xFFFFFFFF), b"\4"):
        assert end.feed(data) == []
    assert end.sent == b""
    assert not end.core.mid_message
    assert end.core.control() == (None, b"")


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


def closing(end: End) -> None:
    aborting(end)
    end.call("transport_closed")
    end.core.release()


@pytest.mark.parametrize("act", [aborting, closing])
@pytest.mark.parametrize("when", ["open", "write", "finish"])
@pytest.mark.parametrize("step", [None, 7000])
@pytest.mark.parametrize("tapped", [False, True])
def test_the_link_ends_from_inside_a_sink(act, when, step, tapped):
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
    data = HALF + ECHO_PDU + HALF
    for part in pieces(data, step or len(data)):
        if end.core.state is not State.STA1:
            end.feed(part)
    assert end.sent == abort(0, 0)
    assert end.core.state is (State.STA1 if act is closing else State.STA13)
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


def test_an_accept_or_abort_between_next_event_and_control():
    """Another thread may change the state there: what the PDU means is looked up again."""
    end = end_in(State.STA3, requestor=False)
    put(end, ECHO_PDU[:20])
    assert end.core.next_event() is CONTROL  # unexpected in Sta3
    end.call("associate_accept", ACCEPT)
    assert end.core.control() == (None, b"")
    end.feed(ECHO_PDU[20:])
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


def split(data: bytes) -> list[bytes]:
    """Cut a stream into its PDUs."""
    found = []
    while data:
        length = 6 + int.from_bytes(data[2:6], "big")
        found.append(data[:length])
        data = data[length:]
    return found


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
    data = (ECHO_PDU * 8000)[: assembler.BATCH]
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
