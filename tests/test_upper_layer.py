"""The protocol machine of PS3.8 9.2 as it is driven: bytes and calls in, bytes and indications out."""

from __future__ import annotations

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
    ROLES,
    RQ,
    STEPS,
    STORE,
    VERIFICATION,
    End,
    abort,
    end_in,
    head,
    message,
    p_data,
    pdv,
    short,
    states,
)
from test_state_machine import CELLS

from dicomnet.errors import LimitExceeded, LocalProtocolError
from dicomnet.protocol import items
from dicomnet.protocol.assembler import MessageReceived
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

ASSOCIATION = (State.STA3, *list(State)[4:12])
TRANSFER = (State.STA6, State.STA7)


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
