"""The link alone, over a scripted stream: reader role, locks, reentrancy, first cause, and its one end."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any

import pytest
from dialogue import AC, ECHO, ECHO_PDU, RELEASE_RP, RELEASE_RQ, REQUEST, RJ, RQ, Recorder, message
from dialogue import abort as abort_pdu
from net_ends import LONG, event, in_thread

from dicomnet import errors
from dicomnet.link import Link
from dicomnet.link.role import ReaderRole
from dicomnet.protocol.assembler import MessageReceived
from dicomnet.protocol.state_machine import State
from dicomnet.protocol.upper_layer import AbortReceived, Fault, ReleaseReceived
from dicomnet.settings import Limits, Timeouts
from dicomnet.transport.deadline import NEVER, Deadline, DeadlineExpired
from dicomnet.transport.scripted import AWAIT_WRITE, SILENCE, ScriptedStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

pytestmark = pytest.mark.usefixtures("leak_check")

NOW = Deadline.after(0.0)


class Owner:
    """What a link calls upward: keeps the events, and does what the test wants with them."""

    def __init__(self, act: Callable[[Any], object] | None = None, sink: Any = None) -> None:
        self.events: list[Any] = []
        self.ends = 0
        self.act = act
        self.sink = sink

    def _open_sink(self, context_id, command):
        return self.sink or Recorder()

    def _dispatch(self, event):
        self.events.append(event)
        if self.act is not None:
            self.act(event)

    def _link_ended(self):
        self.ends += 1

    def kinds(self) -> list[type]:
        return [type(event) for event in self.events]


def make(script: Iterable[Any], owner: Owner, *, requestor: bool = True, **options: Any) -> Any:
    """Return a link over a script."""
    options = {"timeouts": Timeouts(), "limits": Limits(), **options}
    return Link(ScriptedStream(script), owner, requestor=requestor, **options)


def up(script: Iterable[Any], owner: Owner, **options: Any) -> Any:
    """Return a requestor's link with an association; `script` is what comes after the A-ASSOCIATE-AC."""
    act, owner.act = owner.act, None
    link = make(itertools.chain([AWAIT_WRITE, AC], script), owner, **options)
    link.send(lambda: link.core.associate_request(REQUEST), "association.requested")
    assert step(link)
    assert link.associated
    owner.events.clear()
    owner.act = act
    link.stream.writes.clear()
    link.stream._answered = 0
    return link


def step(link: Any, deadline: Deadline = NEVER) -> bool:
    with link.reader():
        return link.step(deadline)


def echo(link: Any) -> None:
    link.send_message(1, ECHO, None, lambda: None)


class Source:
    """A data set that is read from somewhere."""

    def __init__(self, size: int = 3_000_000, read: Callable[[int], object] = lambda _: None) -> None:
        self.size = size
        self.reads = 0
        self._read = read

    def view(self):
        return None

    def read_into(self, views):
        self.reads += 1
        self._read(self.reads)

    def close(self):
        pass


# --- reading ---------------------------------------------------------------------------------------


def test_events_reach_the_handler_in_order_and_a_release_ends_the_link_once():
    owner = Owner()
    link = up([ECHO_PDU + message(b"data"), RELEASE_RP], owner)
    link.send(link.core.release_request, "release.requested")
    link.run()
    assert [kind.__name__ for kind in owner.kinds()] == [
        "MessageReceived",
        "MessageReceived",
        "ReleaseResponseReceived",
    ]
    assert owner.events[1].data_set == b"data"
    assert (link.ended, owner.ends, link.error, link.stream.closed) == (True, 1, None, "close")
    link.close()
    link.kill()
    assert owner.ends == 1


def test_step_returns_false_at_its_deadline_and_the_link_goes_on():
    owner = Owner()
    link = up([SILENCE, SILENCE, ECHO_PDU], owner)
    assert not step(link, NOW)
    assert not link.wait(lambda: owner.events, NOW)
    assert link.wait(lambda: owner.events)
    assert not link.ended
    link.kill()


@pytest.mark.parametrize(
    ("requestor", "state"), [(True, "Sta4"), (True, "Sta6"), (False, "Sta2"), (False, "Sta3")]
)
def test_T12_T14_an_unexpected_end_is_an_error_where_somebody_waits(requestor, state):
    """Before any PDU of the peer's it is nobody's business: a port scanner, say."""
    owner = Owner()
    if state == "Sta6":
        link = up([], owner)
    else:
        link = make([RQ] if state == "Sta3" else [], owner, requestor=requestor)
    if state == "Sta2":
        link.run()
        assert link.error is None
    else:
        with pytest.raises(errors.ConnectionLost, match=state) as caught:
            link.run()
        assert caught.value.state.startswith(state)
        assert caught.value.peer == "127.0.0.1:104"
    assert owner.ends == 1
    assert link.stream.writes == []


def test_P14_a_connection_that_ends_within_a_message_delivers_nothing():
    owner = Owner(sink=Recorder())
    link = up([message(bytes(100))[:-10]], owner)
    with pytest.raises(errors.ConnectionLost):
        link.run()
    assert owner.events == []
    assert owner.sink.ended == ["abandoned"]


def test_a_fault_of_the_peer_is_answered_with_an_abort_and_then_the_peer_has_to_close():
    owner = Owner()
    link = up([RQ, RELEASE_RQ], owner)
    with pytest.raises(errors.RemoteProtocolError) as caught:
        link.run()
    assert caught.value.abort_reason == 2
    assert caught.value.state.startswith("Sta")
    assert link.stream.writes == [abort_pdu(2, 2)]
    assert owner.kinds() == [Fault]


@pytest.mark.parametrize(
    ("first", "seen"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "TLS"),
        (b"GET / HTTP/1.1\r\n\r\n", "HTTP"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
    ],
)
def test_S15_another_protocol_is_named_and_closed_at_once(first, seen):
    link = make([first, *[SILENCE] * 3], Owner(), requestor=False)
    with pytest.raises(errors.ProtocolMismatch, match=seen) as caught:
        link.run()
    assert caught.value.seen == seen
    assert link.stream.closed


def test_the_peers_abort_is_the_cause():
    owner = Owner()
    link = up([abort_pdu(2, 6)], owner)
    with pytest.raises(errors.AssociationAborted) as caught:
        link.run()
    assert (caught.value.source, caught.value.reason, caught.value.by) == (2, 6, "peer")
    assert caught.value.state.startswith("Sta6")
    assert owner.kinds() == [AbortReceived]


def test_an_error_of_the_stream_is_the_cause_and_nothing_more_is_sent():
    link = up([errors.TlsError("bad record")], Owner())
    with pytest.raises(errors.TlsError, match="bad record") as caught:
        link.run()
    assert caught.value.state.startswith("Sta6")
    assert link.stream.closed == "kill"
    assert link.stream.writes == []


def test_P04_a_peer_that_never_stops_sending_cannot_hold_the_link_while_it_should_close():
    link = make(itertools.chain([RJ], itertools.repeat(RJ)), Owner(), requestor=False)
    link.timeouts = link.watch._timeouts = Timeouts(artim=0.05)
    with pytest.raises(errors.RemoteProtocolError):
        link.run()
    assert link.ended


# --- the reader role -------------------------------------------------------------------------------


def test_who_wants_to_read_waits_for_who_has_the_role_briefly():
    role = ReaderRole()
    assert role.take_briefly()
    reading = in_thread(lambda: (role.take(), role.leave()))
    assert not in_thread(role.take_briefly)()
    assert role.leave()
    assert reading() == (True, True)
    assert role.take()
    assert role.take_briefly()  # deeper, and not brief
    assert not in_thread(role.take)()
    assert role.depth == 2
    assert role.leave()
    assert role.leave()
    assert not role.depth


def test_who_is_summoned_cannot_leave_before_the_link_has_ended():
    role = ReaderRole()
    assert role.take()
    assert role.take()
    assert not in_thread(role.take_or_summon)()
    assert role.leave()
    assert not role.leave()
    assert role.mine
    assert role.leave()
    assert role.take_or_summon()
    assert role.leave()


def test_a_wait_lets_the_callback_that_tells_of_the_end_come_to_its_own():
    """The error is known before the callback has run, and what that sets is what the other waits for."""
    inside, leave, done = event(), event(), event()
    owner = Owner(lambda _: (inside.set(), leave.wait(), done.set()))
    link = up([abort_pdu(0, 0)], owner)
    close = link.close
    link.close = lambda: (leave.set(), close())
    reading = in_thread(lambda: step(link))
    inside.wait()
    assert link.error is not None
    assert link.wait(done.is_set)
    assert reading()
    with pytest.raises(errors.AssociationAborted):
        link.wait(lambda: False)


def test_news_wake_who_waits_for_them():
    role = ReaderRole()
    news = role.news
    waiting = in_thread(lambda: role.wait_for_news(news, LONG))
    role.announce()
    waiting()
    role.wait_for_news(news, LONG)
    role.wait_for_news(role.news, 0.0)


def test_a_second_reader_is_an_error_and_waits_instead():
    inside, leave = event(), event()
    owner = Owner(lambda _: (inside.set(), leave.wait()))
    link = up([ECHO_PDU, SILENCE], owner)
    reading = in_thread(lambda: step(link))
    inside.wait()
    with pytest.raises(errors.WrongStateError, match="wait"), link.reader():
        pass
    with pytest.raises(errors.WrongStateError):
        link.run()
    assert not link.poll()
    assert not link.wait(lambda: False, NOW)
    waiting = in_thread(lambda: link.wait(leave.is_set, Deadline.after(LONG)))
    leave.set()
    assert waiting()
    assert reading()
    link.kill()


def test_blocking_calls_nest_eight_deep():
    deep = []

    def act(_):
        deep.append(link._role.depth)
        link.wait(lambda: len(deep) > 20)

    link = up([ECHO_PDU] * 20, Owner(act))
    with pytest.raises(errors.ReentrancyError, match="9 deep"):
        link.wait(lambda: False)
    assert deep == [1, 2, 3, 4, 5, 6, 7, 8]
    assert link.ended


def test_a_predicate_that_holds_is_not_waited_for_however_deep():
    link = up([], Owner())
    assert link.wait(lambda: True, NOW)
    link.kill()
    assert link.wait(lambda: True)
    with pytest.raises(errors.LinkClosed):
        link.wait(lambda: False)


def test_close_waits_for_who_reads_and_is_not_forgotten_when_that_takes_long(monkeypatch):
    """The reader was in a callback all the time, and would not have looked again."""
    monkeypatch.setattr("dicomnet.link.link.LINGER", 0.01)
    inside, leave = event(), event()
    owner = Owner(lambda _: (inside.set(), leave.wait()))
    link = up([ECHO_PDU], owner)
    reading = in_thread(lambda: step(link, NOW))
    inside.wait()
    link.close()
    assert not link.ended
    assert owner.ends == 0
    leave.set()
    assert reading()
    assert link.ended
    assert owner.ends == 1
    assert link.stream.writes == [abort_pdu(0, 0)]


@pytest.mark.parametrize("how", ["close", "kill", "abort"])
def test_M2_ending_the_link_in_a_callback(how):
    owner = Owner(lambda _: getattr(link, how)())
    link = up([ECHO_PDU + ECHO_PDU, ECHO_PDU], owner)
    link.run()
    assert owner.kinds() == [MessageReceived]
    assert (link.ended, owner.ends, link.failure) == (True, 1, None)
    assert link.stream.writes == ([] if how == "kill" else [abort_pdu(0, 0)])
    with pytest.raises(errors.DicomException):
        echo(link)


def test_M2_a_callback_that_raises_aborts_and_the_exception_comes_out():
    def act(_):
        raise KeyError("lost")

    owner = Owner(act)
    link = up([ECHO_PDU], owner)
    with pytest.raises(KeyError):
        link.run()
    assert link.stream.writes == [abort_pdu(0, 0)]
    assert (link.ended, owner.ends, link.deliberate) == (True, 1, False)
    assert isinstance(link.failure, errors.AssociationAborted)
    assert "KeyError" in str(link.failure)


@pytest.mark.parametrize("last", [RELEASE_RP, abort_pdu(0, 0)], ids=["release", "abort"])
def test_M2_a_callback_that_raises_when_the_association_is_over_ends_the_link_too(last):
    def act(_):
        raise KeyError("lost")

    owner = Owner()
    link = up([last], owner)
    owner.act = act
    if last is RELEASE_RP:
        link.send(link.core.release_request, "release.requested")
    with pytest.raises(KeyError):
        link.run()
    assert (link.ended, owner.ends, link.stream.closed) == (True, 1, "close")


def test_M2_a_tap_that_raises_aborts():
    def tap(kind, _):
        if kind == 4:
            raise KeyError(kind)

    link = up([ECHO_PDU], Owner(), tap=tap)
    with pytest.raises(KeyError):
        link.run()
    assert link.stream.writes == [abort_pdu(0, 0)]
    assert link.ended


def test_what_runs_within_a_pdu_cannot_wait_but_send_and_close():
    found = []

    class Waiting(Recorder):
        def write(self, fragment):
            super().write(fragment)
            with pytest.raises(errors.ReentrancyError, match="sink"):
                link.wait(lambda: True)
            assert not link.poll()
            found.append("sink")

    def tap(kind, _):
        if kind == 4:
            with pytest.raises(errors.ReentrancyError), link.reader():
                pass
            with pytest.raises(errors.ReentrancyError):
                link.step()
            echo(link)
            found.append("tap")

    link = up([message(b"data"), AWAIT_WRITE, SILENCE], Owner(sink=Waiting()), tap=tap)
    assert step(link)
    assert found == ["tap", "tap", "sink"]
    assert len(link.stream.writes) == 2
    link.kill()


# --- sending ---------------------------------------------------------------------------------------


def test_on_send_is_told_each_pdu_after_it_was_sent_and_can_neither_send_nor_wait():
    told = []

    def sent(kind, length):
        told.append((kind, length, len(link.stream.writes)))
        with pytest.raises(errors.ReentrancyError):
            echo(link)
        with pytest.raises(errors.ReentrancyError):
            link.send(link.core.release_request, "")
        with pytest.raises(errors.ReentrancyError):
            link.wait(lambda: True)

    link = make([AWAIT_WRITE, AC], Owner(), sent=sent)
    link.send(lambda: link.core.associate_request(REQUEST), "association.requested")
    assert step(link)
    link.send_message(3, ECHO, Source(20_000), lambda: None)
    assert told == [(1, len(REQUEST.encode()), 1), (4, 12 + len(ECHO), 2), (4, 16390, 2), (4, 3634, 2)]
    link.kill()


def test_an_on_send_that_raises_aborts_since_the_rest_of_the_message_is_missing():
    def sent(kind, _):
        if kind == 4:
            raise KeyError(kind)

    owner = Owner()
    link = up([], owner, sent=sent)
    with pytest.raises(KeyError):
        link.send_message(3, ECHO, Source(), lambda: None)
    assert link.stream.writes[1:] == [abort_pdu(0, 0)]
    assert (link.ended, owner.ends) == (True, 1)


def test_a_data_set_that_ends_early_aborts_the_association_if_a_part_has_left():
    def read(number):
        if number == 3:
            raise errors.DataSetError("too short")

    owner = Owner()
    link = up([], owner)
    with pytest.raises(errors.DataSetError):
        link.send_message(3, ECHO, Source(read=read), lambda: None)
    assert link.stream.writes[2:] == [abort_pdu(0, 0)]
    assert isinstance(link.failure, errors.DataSetError)
    assert (link.ended, owner.ends) == (True, 1)


def test_a_data_set_that_cannot_be_read_at_all_changes_nothing():
    def read(_):
        raise OSError("unreadable")

    entered = []
    link = up([ECHO_PDU], Owner())
    with pytest.raises(OSError, match="unreadable"):
        link.send_message(3, ECHO, Source(read=read), lambda: entered.append(1))
    assert (link.stream.writes, entered) == ([], [])
    assert step(link)
    assert link.associated
    link.kill()


def test_a_data_set_that_sends_while_it_is_read_is_refused():
    def read(_):
        with pytest.raises(errors.ReentrancyError):
            echo(link)

    link = up([], Owner())
    link.send_message(3, ECHO, Source(20_000, read), lambda: None)
    assert len(link.stream.writes) == 1
    link.kill()


def test_without_room_nothing_happens_and_the_data_set_stays_unread():
    source = Source()
    link = up([], Owner())
    assert not link.send_message(3, ECHO, source, lambda: None, room=lambda: False)
    assert (source.reads, link.stream.writes) == (0, [])
    link.kill()


def test_D06_a_control_pdu_waits_for_the_end_of_a_message():
    inside, leave = event(), event()

    def read(number):
        if number == 2:
            inside.set()
            leave.wait()

    link = up([AWAIT_WRITE], Owner())
    sending = in_thread(lambda: link.send_message(3, ECHO, Source(read=read), lambda: None))
    inside.wait()
    releasing = in_thread(lambda: link.send(link.core.release_request, "release.requested"))
    assert link.state is State.STA6
    leave.set()
    sending()
    releasing()
    assert link.stream.writes[-1] == RELEASE_RQ
    link.kill()


def test_M05_what_the_state_does_not_allow_sends_nothing_and_changes_nothing():
    link = up([], Owner())
    with pytest.raises(errors.LocalProtocolError):
        link.send(link.core.release_response, "release.answered")
    assert (link.stream.writes, link.associated, link.error) == ([], True, None)
    link.kill()


def test_a_write_that_expires_is_a_write_timeout_and_the_connection_is_killed():
    owner = Owner()
    link = up([ECHO_PDU], owner)
    link.stream.fail_write = DeadlineExpired()
    with pytest.raises(errors.WriteTimeout, match="stopped reading") as caught:
        echo(link)
    assert (caught.value.limit, caught.value.peer) == (30.0, "127.0.0.1:104")
    assert caught.value.state.startswith("Sta6")
    assert (link.ended, owner.ends, link.stream.closed, owner.events) == (True, 1, "kill", [])
    with pytest.raises(errors.WriteTimeout):
        echo(link)


def test_what_the_peer_said_before_it_went_is_handled_and_is_the_cause_of_a_failed_write():
    owner = Owner()
    link = up([ECHO_PDU + abort_pdu(2, 1), errors.ConnectionLost("reset")], owner)
    link.stream.fail_write = errors.ConnectionLost("reset")
    with pytest.raises(errors.AssociationAborted) as caught:
        echo(link)
    assert (caught.value.source, caught.value.reason, caught.value.by) == (2, 1, "peer")
    assert owner.kinds() == [MessageReceived, AbortReceived]
    assert (link.ended, owner.ends, link.failure) == (True, 1, caught.value)


def test_without_last_words_the_loss_is_the_cause():
    owner = Owner()
    link = up([SILENCE] * 4, owner)
    link.stream.fail_write = errors.ConnectionLost("reset", errno=104)
    with pytest.raises(errors.ConnectionLost, match="reset") as caught:
        echo(link)
    assert caught.value.errno == 104
    assert caught.value.state.startswith("Sta6")
    assert (link.ended, owner.ends) == (True, 1)


def test_a_callback_that_raises_among_the_last_words_is_logged(caplog):
    def act(_):
        raise KeyError("lost")

    owner = Owner(act)
    link = up([ECHO_PDU], owner)
    link.stream.fail_write = errors.ConnectionLost("reset")
    with pytest.raises(errors.AssociationAborted, match="KeyError"):
        echo(link)
    assert "KeyError" in caplog.text
    assert (link.ended, owner.ends) == (True, 1)


def test_a_callback_that_cannot_answer_any_more_does_not_hide_the_cause(caplog):
    owner = Owner()
    link = up([ECHO_PDU * 3, abort_pdu(0, 0)], owner)

    def act(found):
        if isinstance(found, MessageReceived):
            link.stream.fail_write = errors.ConnectionLost("reset")
            echo(link)

    owner.act = act
    link.stream.fail_write = errors.ConnectionLost("reset")
    with pytest.raises(errors.ConnectionLost, match="reset"):
        echo(link)
    assert (link.ended, owner.ends) == (True, 1)
    assert caplog.text == ""


def test_a_write_fails_inside_a_callback():
    owner = Owner()
    link = up([ECHO_PDU, abort_pdu(2, 1)], owner)

    def act(found):
        if isinstance(found, MessageReceived):
            link.stream.fail_write = errors.ConnectionLost("reset")
            echo(link)

    owner.act = act
    with pytest.raises(errors.AssociationAborted):
        link.run()
    assert owner.kinds() == [MessageReceived, AbortReceived]
    assert (link.ended, owner.ends) == (True, 1)


def test_an_interrupt_within_a_write_shuts_the_stream_since_half_a_pdu_is_out():
    link = up([], Owner())
    link.stream.fail_write = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        echo(link)
    with pytest.raises(errors.LinkClosed):
        link.stream.write([b"more"], NOW)
    link.close()
    assert link.ended
    assert link.stream.writes == []


def test_the_first_cause_is_kept():
    link = up([], Owner())
    link.abort(0, 0)
    first = link.error
    link.kill(errors.ConnectionLost("later"))
    link.close()
    assert link.error is first
    assert link.deliberate


@pytest.mark.parametrize("requestor", [True, False])
def test_R14_an_abort_without_an_association_sends_nothing(requestor):
    owner = Owner()
    link = make([], owner, requestor=requestor)
    link.abort()
    assert (link.stream.writes, link.error) == ([], None)
    assert link.ended is requestor
    link.close()
    assert (link.ended, owner.ends) == (True, 1)


def test_an_abort_that_cannot_be_sent_shuts_the_stream():
    link = up([], Owner())
    link.stream.fail_write = DeadlineExpired()
    link.abort()
    assert link.state is State.STA13
    link.run()
    assert link.ended


def test_a_release_request_of_the_peer_is_indicated():
    owner = Owner()
    link = up([RELEASE_RQ], owner)
    assert step(link)
    assert owner.events == [ReleaseReceived(collision=False)]
    link.send(link.core.release_response, "release.answered")
    link.run()
    assert (link.ended, link.error) == (True, None)


def test_many_threads_want_the_end_and_it_comes_once():
    for _ in range(50):
        owner = Owner()
        link = up([AWAIT_WRITE], owner)
        together = threading.Barrier(4)
        calls = [
            in_thread(lambda call=call, together=together: (together.wait(), call()))
            for call in (link.close, link.kill, link.run, lambda link=link: link.abort(0, 0))
        ]
        for call in calls:
            call()
        link.close()
        assert (link.ended, owner.ends) == (True, 1)
