"""PS3.8 table 9-10, cell by cell, against a transcription of the standard and against pynetdicom's."""

from __future__ import annotations

import pytest

from dicomnet.errors import LocalProtocolError
from dicomnet.protocol.state_machine import TABLE, Action, Event, State, transition

# Event -> "states: action -> next state". What is not listed cannot happen.
STANDARD = {
    "E01": "1:AE-1>4",
    "E02": "4:AE-2>5",
    "E03": "2:AA-1>13 3:AA-8>13 5:AE-3>6 6-12:AA-8>13 13:AA-6>13",
    "E04": "2:AA-1>13 3:AA-8>13 5:AE-4>1 6-12:AA-8>13 13:AA-6>13",
    "E05": "1:AE-5>2",
    "E06": "2:AE-6>3 3:AA-8>13 5-12:AA-8>13 13:AA-7>13",
    "E07": "3:AE-7>6",
    "E08": "3:AE-8>13",
    "E09": "6:DT-1>6 8:AR-7>8",
    "E10": "2:AA-1>13 3:AA-8>13 5:AA-8>13 6:DT-2>6 7:AR-6>7 8-12:AA-8>13 13:AA-6>13",
    "E11": "6:AR-1>7",
    "E12": "2:AA-1>13 3:AA-8>13 5:AA-8>13 6:AR-2>8 7:AR-8>9/10 8-12:AA-8>13 13:AA-6>13",
    "E13": "2:AA-1>13 3:AA-8>13 5-6:AA-8>13 7:AR-3>1 8-9:AA-8>13 10:AR-10>12 11:AR-3>1 12:AA-8>13 13:AA-6>13",
    "E14": "8:AR-4>13 9:AR-9>11 12:AR-4>13",
    "E15": "3:AA-1>13 4:AA-2>1 5-12:AA-1>13",
    "E16": "2:AA-2>1 3:AA-3>1 5-12:AA-3>1 13:AA-2>1",
    "E17": "2:AA-5>1 3-12:AA-4>1 13:AR-5>1",
    "E18": "2:AA-2>1 13:AA-2>1",
    "E19": "2:AA-1>13 3:AA-8>13 5-12:AA-8>13 13:AA-7>13",
}

NAMES = {
    "E01": "A_ASSOCIATE_REQUEST",
    "E02": "TRANSPORT_CONNECTED",
    "E03": "A_ASSOCIATE_AC_RECEIVED",
    "E04": "A_ASSOCIATE_RJ_RECEIVED",
    "E05": "TRANSPORT_INDICATION",
    "E06": "A_ASSOCIATE_RQ_RECEIVED",
    "E07": "A_ASSOCIATE_ACCEPT",
    "E08": "A_ASSOCIATE_REJECT",
    "E09": "P_DATA_REQUEST",
    "E10": "P_DATA_RECEIVED",
    "E11": "A_RELEASE_REQUEST",
    "E12": "A_RELEASE_RQ_RECEIVED",
    "E13": "A_RELEASE_RP_RECEIVED",
    "E14": "A_RELEASE_RESPONSE",
    "E15": "A_ABORT_REQUEST",
    "E16": "A_ABORT_RECEIVED",
    "E17": "TRANSPORT_CLOSED",
    "E18": "ARTIM_EXPIRED",
    "E19": "INVALID_PDU",
}

LOCAL = ("E01", "E07", "E08", "E09", "E11", "E14", "E15")
PDUS = ("E03", "E04", "E06", "E10", "E12", "E13")
ROLES = pytest.mark.parametrize("requestor", [True, False], ids=["requestor", "acceptor"])


def cells() -> dict[tuple[int, str], tuple[str, str]]:
    found = {}
    for event, row in STANDARD.items():
        for part in row.split():
            states, _, rest = part.partition(":")
            action, _, following = rest.partition(">")
            first, _, last = states.partition("-")
            for state in range(int(first), int(last or first) + 1):
                assert (state, event) not in found
                found[state, event] = action, following
    return found


CELLS = cells()
PAIRS = [
    pytest.param(state, event, id=f"{event}-{state.name.capitalize()}")
    for event in STANDARD
    for state in State
]


def event_of(rule: str) -> Event:
    return Event[NAMES[rule]]


@pytest.mark.parametrize("rule", STANDARD)
def test_events_have_the_numbers_of_the_standard(rule):
    assert event_of(rule).value == int(rule[1:])


def test_states_have_the_numbers_of_the_standard():
    assert {state.name: state.value for state in State} == {f"STA{n}": n for n in range(1, 14)}
    assert str(State.STA6) == "Sta6 (data transfer)"


@ROLES
@pytest.mark.parametrize(("state", "event"), PAIRS)
def test_cell(state, event, requestor):
    expected = CELLS.get((state.value, event))
    if expected is None:
        with pytest.raises(LocalProtocolError) as caught:
            transition(state, event_of(event), requestor=requestor)
        assert caught.value.state == str(state)
        return
    action, following = transition(state, event_of(event), requestor=requestor)
    name, states = expected
    assert action.value == name
    assert following.value == int(states.split("/")[0 if requestor else -1])


def test_table_has_the_cells_of_the_standard_and_no_others():
    assert {(state.value, f"E{event.value:02}") for state, event in TABLE} == set(CELLS)
    assert len(TABLE) == 123


def test_table_cannot_be_changed():
    with pytest.raises(TypeError):
        TABLE[State.STA1, Event.P_DATA_REQUEST] = (Action.DT_1, State.STA6)  # type: ignore[index]


@ROLES
@pytest.mark.parametrize("event", [*PDUS, "E19"])
def test_m01_a_wrong_first_pdu_is_aborted_as_the_user(event, requestor):
    if event != "E06":
        result = transition(State.STA2, event_of(event), requestor=requestor)
        assert result == (Action.AA_1, State.STA13)
    assert transition(State.STA2, Event.A_ASSOCIATE_RQ_RECEIVED, requestor=requestor)[0] is Action.AE_6


@pytest.mark.parametrize("state", [State.STA3, *list(State)[4:12]])
def test_m02_each_wrong_pdu_later_is_aborted_as_the_provider(state):
    wrong = [event for event in (*PDUS, "E19") if CELLS[state.value, event][0] == "AA-8"]
    assert {"E06", "E19"} <= set(wrong)
    for event in wrong:
        assert transition(state, event_of(event), requestor=True) == (Action.AA_8, State.STA13)


def test_m03_closing_drops_everything_but_aborts_requests_and_invalid_pdus():
    actions = {
        event: transition(State.STA13, event_of(event), requestor=True)[0] for event in (*PDUS, "E16", "E19")
    }
    assert actions.pop("E16") is Action.AA_2
    assert actions.pop("E06") is actions.pop("E19") is Action.AA_7
    assert set(actions.values()) == {Action.AA_6}


@pytest.mark.parametrize("event", LOCAL)
def test_m05_local_requests_without_a_cell_raise(event):
    for state in State:
        if (state.value, event) not in CELLS:
            with pytest.raises(LocalProtocolError, match=f"not possible in Sta{state.value} ") as caught:
                transition(state, event_of(event), requestor=True)
            assert caught.value.clause


def test_r09_release_collision_from_both_sides():
    def walk(requestor: bool, *events: Event) -> list[str]:
        state, path = State.STA6, []
        for event in events:
            action, state = transition(state, event, requestor=requestor)
            path.append(f"{action.value}>{state.value}")
        return path

    ask, asked = Event.A_RELEASE_REQUEST, Event.A_RELEASE_RQ_RECEIVED
    answer, answered = Event.A_RELEASE_RESPONSE, Event.A_RELEASE_RP_RECEIVED
    assert walk(True, ask, asked, answer, answered) == ["AR-1>7", "AR-8>9", "AR-9>11", "AR-3>1"]
    assert walk(False, ask, asked, answered, answer) == ["AR-1>7", "AR-8>10", "AR-10>12", "AR-4>13"]


def test_pynetdicom_has_the_same_table():
    fsm = pytest.importorskip("pynetdicom.fsm")
    theirs = {(int(s[3:]), int(e[3:])): action for (e, s), action in fsm.TRANSITION_TABLE.items()}
    ours = {(state.value, event.value): action.value for (state, event), (action, _) in TABLE.items()}
    assert ours == theirs


@pytest.mark.parametrize("action", Action, ids=lambda action: action.value)
def test_pynetdicom_has_the_same_next_states(action):
    fsm = pytest.importorskip("pynetdicom.fsm")
    states = fsm.ACTIONS[action.value][2]
    theirs = {states} if isinstance(states, str) else set(states)
    ours = {
        f"Sta{transition(state, event, requestor=requestor)[1].value}"
        for (state, event), (found, _) in TABLE.items()
        for requestor in (True, False)
        if found is action
    }
    if action is Action.AE_6:  # a refusal by the provider goes on with AE-8
        ours.add(f"Sta{transition(State.STA3, Event.A_ASSOCIATE_REJECT, requestor=False)[1].value}")
    assert ours == theirs
    assert action.meaning
