"""Operations under way: C06, C07, X26, U07 and F12 to F14."""

from __future__ import annotations

import pytest

from dicomnet.errors import LocalProtocolError
from dicomnet.protocol.message_table import (
    C_CANCEL_RQ,
    C_ECHO_RQ,
    C_FIND_RQ,
    C_GET_RQ,
    C_MOVE_RQ,
    C_STORE_RQ,
    MESSAGES,
    N_ACTION_RQ,
)
from dicomnet.protocol.operations import Operations

STORE_RSP, FIND_RSP, ECHO_RSP = 0x8001, 0x8020, 0x8030
SUCCESS, FAILURE, WARNING, CANCEL, PENDING, PENDING_WARNING = 0x0000, 0xC001, 0xB000, 0xFE00, 0xFF00, 0xFF01

requests = [message for message in MESSAGES.values() if message.response is not None]
cancellable = [C_FIND_RQ, C_GET_RQ, C_MOVE_RQ]


def test_ids_run_from_1_and_wrap():
    """C06: 1 to 65535, then 1 again; never 0."""
    operations = Operations()
    ids = [operations.next_message_id() for _ in range(65536)]
    assert ids[:3] == [1, 2, 3]
    assert ids[65534:] == [65535, 1]
    assert 0 not in ids
    assert len(set(ids)) == 65535


def test_id_of_an_outstanding_operation_is_skipped():
    """C06: no two outstanding operations share an id, also where the application chose it."""
    operations = Operations(invoked=0)
    for message_id in (1, 2, 65535):
        operations.invoke(message_id, C_ECHO_RQ, 1)
    assert operations.next_message_id() == 3
    operations.invoke(4, C_ECHO_RQ, 1)
    assert operations.next_message_id() == 5
    for _ in range(65535 - 6):
        operations.next_message_id()
    assert operations.next_message_id() == 3  # 65535, 1 and 2 are skipped
    operations.answered(1, SUCCESS, ECHO_RSP)
    assert 1 in {operations.next_message_id() for _ in range(65535)}


def test_no_id_left():
    """C06: an error rather than an endless loop."""
    operations = Operations(invoked=0)
    for message_id in range(1, 65536):
        operations.invoke(message_id, C_ECHO_RQ, 1)
    with pytest.raises(LocalProtocolError, match="every message id"):
        operations.next_message_id()


def test_id_in_use():
    """C06: a second request under an outstanding id is refused; when answered, the id is free again."""
    operations = Operations(invoked=0)
    operations.invoke(7, C_FIND_RQ, 1)
    with pytest.raises(LocalProtocolError, match="message id 7"):
        operations.invoke(7, C_ECHO_RQ, 3)
    assert operations.outstanding[7].message is C_FIND_RQ
    operations.answered(7, SUCCESS, FIND_RSP)
    operations.invoke(7, C_ECHO_RQ, 3)


def test_response_finds_its_request():
    """C07: the operation is found by (0000,0120), whatever the order of the answers."""
    operations = Operations(invoked=0)
    first, second = operations.invoke(7, C_STORE_RQ, 1), operations.invoke(8, C_STORE_RQ, 3)
    first.extra = "a.dcm"
    assert operations.answered(8, SUCCESS, STORE_RSP) is second
    assert operations.answered(7, FAILURE, STORE_RSP) is first
    assert (first.message_id, first.message, first.context_id, first.extra) == (7, C_STORE_RQ, 1, "a.dcm")
    assert not operations.outstanding


@pytest.mark.parametrize(
    ("responded_id", "field"), [(8, STORE_RSP), (0, STORE_RSP), (7, ECHO_RSP), (7, 0x0001)]
)
def test_response_to_nothing(responded_id, field):
    """C07, C05: an unknown id, or another kind of response, answers nothing and ends nothing."""
    operations = Operations()
    operations.invoke(7, C_STORE_RQ, 1)
    assert operations.answered(responded_id, SUCCESS, field) is None
    assert 7 in operations.outstanding


@pytest.mark.parametrize("message", cancellable, ids=lambda message: message.name)
def test_pending_keeps_the_operation(message):
    """X26: any number of pending responses, then one final; what comes after it answers nothing."""
    operations = Operations()
    operation = operations.invoke(7, message, 1)
    field = message.response.command_field
    for status in (PENDING, PENDING_WARNING, PENDING):
        assert operations.answered(7, status, field) is operation
    assert operations.answered(7, SUCCESS, field) is operation
    assert operations.answered(7, PENDING, field) is None
    assert operations.answered(7, SUCCESS, field) is None


@pytest.mark.parametrize("status", [SUCCESS, FAILURE, WARNING, CANCEL, 0x0107, 0x0122, 0x1234, 0xFF02])
@pytest.mark.parametrize("message", requests, ids=lambda message: message.name)
def test_any_other_status_ends_it(message, status):
    """X26: every status but pending ends the operation, in both directions."""
    operations = Operations()
    operations.invoke(7, message, 1)
    operations.perform(7, message, 1)
    assert operations.answered(7, status, message.response.command_field)
    assert operations.replied(7, status)
    assert not operations.outstanding
    assert not operations.owed


@pytest.mark.parametrize("message", [C_STORE_RQ, C_ECHO_RQ, N_ACTION_RQ], ids=lambda message: message.name)
def test_pending_where_there_is_none(message):
    """X26: a service without pending responses is over with any; else a peer could keep it open for ever."""
    operations = Operations()
    operations.invoke(7, message, 1)
    assert operations.answered(7, PENDING, message.response.command_field)
    assert not operations.outstanding


def test_reply_is_owed_once():
    """X26, C13: one final response for each request, no second one, and none that nobody asked for."""
    operations = Operations()
    assert not operations.replied(7, SUCCESS)
    operations.perform(7, C_FIND_RQ, 1)
    assert list(operations.owed) == [7]
    assert operations.replied(7, PENDING)
    assert operations.replied(7, SUCCESS)
    assert not operations.replied(7, PENDING)
    assert not operations.replied(7, SUCCESS)


def test_duplicate_invocation():
    """C06: a peer that uses an id twice gets told (0210H); the first operation goes on."""
    operations = Operations()
    first = operations.perform(7, C_FIND_RQ, 1)
    assert operations.perform(7, C_STORE_RQ, 3) is None
    assert operations.owed[7] is first


def test_directions_are_independent():
    """F03: the same id may be in use both ways (C-GET and its C-STORE sub-operations)."""
    operations = Operations()
    get = operations.invoke(1, C_GET_RQ, 1)
    store = operations.perform(1, C_STORE_RQ, 3)
    assert operations.outstanding[1] is get
    assert operations.owed[1] is store
    assert operations.replied(1, SUCCESS)
    assert operations.answered(1, SUCCESS, 0x8010) is get


def test_one_operation_at_a_time():
    """U07: by default the second request waits for the first response; pending ones do not count."""
    operations = Operations()
    assert operations.can_invoke
    operations.invoke(1, C_FIND_RQ, 1)
    assert not operations.can_invoke
    with pytest.raises(LocalProtocolError, match="wait for a response"):
        operations.invoke(2, C_ECHO_RQ, 1)
    operations.answered(1, PENDING, FIND_RSP)
    assert not operations.can_invoke
    operations.answered(1, SUCCESS, FIND_RSP)
    assert operations.can_invoke


@pytest.mark.parametrize("window", [1, 2, 5])
def test_window(window):
    """U07: as many as negotiated, each direction by its own number."""
    operations = Operations(invoked=window, performed=window)
    for message_id in range(window):
        assert operations.can_invoke
        assert operations.can_perform
        operations.invoke(message_id, C_STORE_RQ, 1)
        operations.perform(message_id, C_STORE_RQ, 1)
    assert not operations.can_invoke
    assert not operations.can_perform
    operations.replied(0, SUCCESS)
    assert operations.can_perform
    assert not operations.can_invoke


def test_window_without_limit():
    """U04: 0 is unlimited."""
    operations = Operations(invoked=0, performed=0)
    for message_id in range(1000):
        operations.invoke(message_id, C_STORE_RQ, 1)
        operations.perform(message_id, C_STORE_RQ, 1)
    assert operations.can_invoke
    assert operations.can_perform


@pytest.mark.parametrize("message", cancellable, ids=lambda message: message.name)
def test_cancel(message):
    """F12: C-FIND, C-GET and C-MOVE can be cancelled by both ends' books, before the final response."""
    operations = Operations()
    ours, theirs = operations.invoke(7, message, 1), operations.perform(7, message, 1)
    assert operations.cancel(7, 1) is ours
    assert operations.cancelled(7, 1) is theirs
    assert ours.cancelled
    assert theirs.cancelled


@pytest.mark.parametrize(
    "message", [one for one in requests if one not in cancellable], ids=lambda message: message.name
)
def test_cancel_of_the_others(message):
    """F12: nothing else can be cancelled: ours is an error, a peer's is ignored."""
    operations = Operations()
    ours, theirs = operations.invoke(7, message, 1), operations.perform(7, message, 1)
    with pytest.raises(LocalProtocolError, match="cannot be cancelled"):
        operations.cancel(7, 1)
    assert operations.cancelled(7, 1) is None
    assert not ours.cancelled
    assert not theirs.cancelled


def test_cancel_on_another_context():
    """F12: on the same presentation context as the request."""
    operations = Operations()
    operations.invoke(7, C_FIND_RQ, 1)
    operations.perform(7, C_FIND_RQ, 1)
    with pytest.raises(LocalProtocolError, match="context 3"):
        operations.cancel(7, 3)
    assert operations.cancelled(7, 3) is None


@pytest.mark.parametrize("status", [CANCEL, SUCCESS, FAILURE])
def test_after_a_cancel_any_final_status_stands(status):
    """F13: cancelled in time or too late, the requestor accepts either end."""
    operations = Operations()
    operation = operations.invoke(7, C_FIND_RQ, 1)
    operations.cancel(7, 1)
    assert operations.answered(7, PENDING, FIND_RSP) is operation
    assert operations.answered(7, status, FIND_RSP) is operation
    assert not operations.outstanding


def test_too_late_to_cancel():
    """F13: after the final response there is nothing to send, and that is no error."""
    operations = Operations()
    operations.invoke(7, C_FIND_RQ, 1)
    operations.answered(7, SUCCESS, FIND_RSP)
    assert operations.cancel(7, 1) is None


def test_cancel_is_no_operation():
    """F14: a cancel for an unknown id is ignored, and one for a known id needs no reply of its own."""
    operations = Operations()
    assert operations.cancelled(7, 1) is None
    operations.perform(8, C_MOVE_RQ, 1)
    operations.cancelled(8, 1)
    assert list(operations.owed) == [8]
    assert C_CANCEL_RQ.response is None


def test_views_cannot_be_changed():
    operations = Operations()
    with pytest.raises(TypeError):
        operations.outstanding[1] = None
    with pytest.raises(TypeError):
        operations.owed[1] = None


def test_clear():
    """The association has ended: nothing is outstanding or owed any more."""
    operations = Operations()
    operations.invoke(7, C_FIND_RQ, 1)
    operations.perform(8, C_MOVE_RQ, 1)
    assert repr(operations.outstanding[7]) == "<Operation C-FIND-RQ 7 on context 1>"
    operations.clear()
    assert not operations.outstanding
    assert not operations.owed
    assert operations.can_invoke
