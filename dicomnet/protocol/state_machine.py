"""The state machine of PS3.8 9.2 as data: table 9-10, and nothing that acts on it.

`TABLE` maps (state, event) to (action, next state); what an action does is the business of whoever drives
the machine. Two cells of the standard have two next states. AE-6 leads to Sta3 here: a provider that refuses
the request itself goes on from there with a rejection (AE-8), the same bytes and the same Sta13 in the end.
AR-8 depends on who requested the association, which `transition` is told.
"""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING

from dicomnet.errors import LocalProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

__all__ = ["TABLE", "Action", "Event", "State", "transition"]


class State(Enum):
    """A state of the protocol machine (PS3.8 9.2.1): `value` is its number, `meaning` what it waits for."""

    meaning: str

    def __new__(cls, number: int, meaning: str) -> Self:
        """Make the member whose value is its number in the standard."""
        member = object.__new__(cls)
        member._value_ = number
        member.meaning = meaning
        return member

    STA1 = 1, "idle"
    STA2 = 2, "connected, awaiting the A-ASSOCIATE-RQ"
    STA3 = 3, "awaiting our answer to the A-ASSOCIATE-RQ"
    STA4 = 4, "awaiting the transport connection"
    STA5 = 5, "awaiting the A-ASSOCIATE-AC or -RJ"
    STA6 = 6, "data transfer"
    STA7 = 7, "awaiting the A-RELEASE-RP"
    STA8 = 8, "awaiting our answer to the A-RELEASE-RQ"
    STA9 = 9, "release collision, requestor: awaiting our answer"
    STA10 = 10, "release collision, acceptor: awaiting the A-RELEASE-RP"
    STA11 = 11, "release collision, requestor: awaiting the A-RELEASE-RP"
    STA12 = 12, "release collision, acceptor: awaiting our answer"
    STA13 = 13, "awaiting the close of the transport connection"

    def __str__(self) -> str:
        return f"Sta{self.value} ({self.meaning})"


class Event(Enum):
    """What can happen to the protocol machine (PS3.8 table 9-10); `value` is the row.

    ..._RECEIVED is a PDU, TRANSPORT_... comes from the connection, the others from the local user or timer.
    """

    A_ASSOCIATE_REQUEST = 1
    TRANSPORT_CONNECTED = 2
    A_ASSOCIATE_AC_RECEIVED = 3
    A_ASSOCIATE_RJ_RECEIVED = 4
    TRANSPORT_INDICATION = 5
    A_ASSOCIATE_RQ_RECEIVED = 6
    A_ASSOCIATE_ACCEPT = 7
    A_ASSOCIATE_REJECT = 8
    P_DATA_REQUEST = 9
    P_DATA_RECEIVED = 10
    A_RELEASE_REQUEST = 11
    A_RELEASE_RQ_RECEIVED = 12
    A_RELEASE_RP_RECEIVED = 13
    A_RELEASE_RESPONSE = 14
    A_ABORT_REQUEST = 15
    A_ABORT_RECEIVED = 16
    TRANSPORT_CLOSED = 17
    ARTIM_EXPIRED = 18
    INVALID_PDU = 19


class Action(Enum):
    """What the machine does (PS3.8 9.2.2): `value` is its name there, `next` the state that it leads to."""

    next: State
    meaning: str

    def __new__(cls, name: str, following: State, meaning: str) -> Self:
        """Make the member whose value is its name in the standard."""
        member = object.__new__(cls)
        member._value_ = name
        member.next = following
        member.meaning = meaning
        return member

    AE_1 = "AE-1", State.STA4, "open the transport connection"
    AE_2 = "AE-2", State.STA5, "send the A-ASSOCIATE-RQ"
    AE_3 = "AE-3", State.STA6, "confirm the association as accepted"
    AE_4 = "AE-4", State.STA1, "confirm the association as rejected and close"
    AE_5 = "AE-5", State.STA2, "accept the transport connection and start ARTIM"
    AE_6 = "AE-6", State.STA3, "stop ARTIM and indicate the association request"
    AE_7 = "AE-7", State.STA6, "send the A-ASSOCIATE-AC"
    AE_8 = "AE-8", State.STA13, "send the A-ASSOCIATE-RJ and start ARTIM"
    DT_1 = "DT-1", State.STA6, "send P-DATA-TF"
    DT_2 = "DT-2", State.STA6, "indicate P-DATA"
    AR_1 = "AR-1", State.STA7, "send the A-RELEASE-RQ"
    AR_2 = "AR-2", State.STA8, "indicate the release request"
    AR_3 = "AR-3", State.STA1, "confirm the release and close"
    AR_4 = "AR-4", State.STA13, "send the A-RELEASE-RP and start ARTIM"
    AR_5 = "AR-5", State.STA1, "stop ARTIM"
    AR_6 = "AR-6", State.STA7, "indicate P-DATA while our release is pending"
    AR_7 = "AR-7", State.STA8, "send P-DATA-TF while the peer's release is pending"
    AR_8 = "AR-8", State.STA9, "indicate the release collision"
    AR_9 = "AR-9", State.STA11, "send the A-RELEASE-RP in a release collision"
    AR_10 = "AR-10", State.STA12, "confirm the release in a release collision"
    AA_1 = "AA-1", State.STA13, "send an A-ABORT of the service user and (re)start ARTIM"
    AA_2 = "AA-2", State.STA1, "stop ARTIM and close"
    AA_3 = "AA-3", State.STA1, "indicate the peer's abort and close"
    AA_4 = "AA-4", State.STA1, "indicate an A-P-ABORT: the connection is gone"
    AA_5 = "AA-5", State.STA1, "stop ARTIM"
    AA_6 = "AA-6", State.STA13, "ignore the PDU"
    AA_7 = "AA-7", State.STA13, "send an A-ABORT"
    AA_8 = (
        "AA-8",
        State.STA13,
        "send an A-ABORT of the service provider, indicate an A-P-ABORT and start ARTIM",
    )


_STA = tuple(State)
_ASSOCIATION = (State.STA3, *_STA[4:12])  # Sta3 and Sta5 to Sta12: a PDU finds an association, whole or half
_CONNECTED = (State.STA2, *_ASSOCIATION, State.STA13)


def _each(states: tuple[State, ...], action: Action) -> dict[State, Action]:
    return dict.fromkeys(states, action)


def _received(expected: Mapping[State, Action], closing: Action = Action.AA_6) -> dict[State, Action]:
    """Return the row of a received PDU: what is not `expected` breaks the association."""
    return {**_each(_ASSOCIATION, Action.AA_8), State.STA2: Action.AA_1, State.STA13: closing, **expected}


_ROWS: dict[Event, dict[State, Action]] = {
    Event.A_ASSOCIATE_REQUEST: {State.STA1: Action.AE_1},
    Event.TRANSPORT_CONNECTED: {State.STA4: Action.AE_2},
    Event.A_ASSOCIATE_AC_RECEIVED: _received({State.STA5: Action.AE_3}),
    Event.A_ASSOCIATE_RJ_RECEIVED: _received({State.STA5: Action.AE_4}),
    Event.TRANSPORT_INDICATION: {State.STA1: Action.AE_5},
    Event.A_ASSOCIATE_RQ_RECEIVED: _received({State.STA2: Action.AE_6}, closing=Action.AA_7),
    Event.A_ASSOCIATE_ACCEPT: {State.STA3: Action.AE_7},
    Event.A_ASSOCIATE_REJECT: {State.STA3: Action.AE_8},
    Event.P_DATA_REQUEST: {State.STA6: Action.DT_1, State.STA8: Action.AR_7},
    Event.P_DATA_RECEIVED: _received({State.STA6: Action.DT_2, State.STA7: Action.AR_6}),
    Event.A_RELEASE_REQUEST: {State.STA6: Action.AR_1},
    Event.A_RELEASE_RQ_RECEIVED: _received({State.STA6: Action.AR_2, State.STA7: Action.AR_8}),
    Event.A_RELEASE_RP_RECEIVED: _received(
        {State.STA7: Action.AR_3, State.STA10: Action.AR_10, State.STA11: Action.AR_3}
    ),
    Event.A_RELEASE_RESPONSE: {State.STA8: Action.AR_4, State.STA9: Action.AR_9, State.STA12: Action.AR_4},
    Event.A_ABORT_REQUEST: {**_each(_ASSOCIATION, Action.AA_1), State.STA4: Action.AA_2},
    Event.A_ABORT_RECEIVED: {
        State.STA2: Action.AA_2,
        **_each(_ASSOCIATION, Action.AA_3),
        State.STA13: Action.AA_2,
    },
    Event.TRANSPORT_CLOSED: {
        State.STA2: Action.AA_5,
        **_each(_STA[2:12], Action.AA_4),
        State.STA13: Action.AR_5,
    },
    Event.ARTIM_EXPIRED: _each((State.STA2, State.STA13), Action.AA_2),
    Event.INVALID_PDU: _received({}, closing=Action.AA_7),
}

TABLE: Mapping[tuple[State, Event], tuple[Action, State]] = MappingProxyType(
    {(state, event): (action, action.next) for event, row in _ROWS.items() for state, action in row.items()}
)
"""PS3.8 table 9-10; a pair that is not in it cannot happen, or is not allowed."""


def _check_complete() -> None:
    """Fail the import for a hole: what peer and clock do has a cell wherever it can happen."""
    expected = {(state, event) for event in Event if event.name.endswith("_RECEIVED") for state in _CONNECTED}
    expected |= {(state, Event.INVALID_PDU) for state in _CONNECTED}
    expected |= {(state, Event.TRANSPORT_CLOSED) for state in _STA[1:]}
    expected |= {(state, Event.ARTIM_EXPIRED) for state in (State.STA2, State.STA13)}
    assert expected <= set(TABLE), expected - set(TABLE)
    assert set(_ROWS) == set(Event)
    assert {action for action, _ in TABLE.values()} == set(Action)
    assert {state for _, state in TABLE.values()} | {State.STA10} == set(State)


_check_complete()


def transition(state: State, event: Event, *, requestor: bool) -> tuple[Action, State]:
    """Return what to do and the next state when `event` happens in `state`.

    `requestor` is True for the side that requested the association. A pair without a cell raises
    `LocalProtocolError`: the call is not possible now, nothing is sent and the state stays (M05).
    """
    cell = TABLE.get((state, event))
    if cell is None:
        name = event.name.replace("_", " ").lower()
        raise LocalProtocolError(f"{name} is not possible in {state}", state=str(state), clause="PS3.8 9.2.3")
    if cell[0] is Action.AR_8 and not requestor:
        return Action.AR_8, State.STA10
    return cell
