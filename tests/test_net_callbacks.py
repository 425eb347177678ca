"""The callbacks: their order, what the library answers by default, what may be called in them, exceptions."""

from __future__ import annotations

import itertools
import threading
from struct import pack
from typing import ClassVar

import pytest
from dialogue import CT, ECHO_PDU, EXPLICIT, IMPLICIT, RELEASE_RQ, VERIFICATION, abort, element, p_data, pdv
from net_ends import (
    LONG,
    Client,
    Server,
    Storage,
    associate,
    associated,
    connected,
    event,
    in_thread,
    played,
    proposal,
    raw_client,
    response,
    serving,
)

from dicomnet import CallableSink, DicomAssociate, DicomDataSet, DiscardSink, FileSink, Limits, errors
from dicomnet.enums import DicomExceptionCode

pytestmark = pytest.mark.usefixtures("leak_check")

SUCCESS = DicomExceptionCode.SUCCESS
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
IDENTIFIER = b"\x10\0\x20\0LO\x04\0ABCD"


def data_set(data: bytes = IDENTIFIER) -> DicomDataSet:
    return DicomDataSet(data, EXPLICIT)


# --- order -----------------------------------------------------------------------------------------


class Everything(Storage):
    """Notes every callback that has to do with the wire, in order, and on which thread."""

    def note(self, *what):
        self.events.append(what)
        self.threads = {*getattr(self, "threads", ()), threading.get_ident()}

    def on_receive(self, error, pdu_type, buffer, length):
        assert error is SUCCESS
        assert (buffer[0], len(buffer)) == (pdu_type, length)
        self.note("receive", int(pdu_type))

    def on_send(self, error, pdu_type, length):
        assert error is SUCCESS
        self.note("send", int(pdu_type))

    def on_receive_data(self, presentation_id, command_set, data_set):
        self.note("data", int(command_set.CommandField), data_set and data_set.encoded)

    def on_receive_associate_request(self, association):
        assert association.calling == "SCU"
        self.note("associate request")
        answer = DicomAssociate(False)
        for number, (abstract, syntaxes) in {1: (VERIFICATION, IMPLICIT), 3: (CT, EXPLICIT)}.items():
            answer.add_presentation_context(number, 0, abstract)
            answer.add_transfer(number, syntaxes)
        self.send_associate_accept(answer)

    def on_receive_c_echo_request(self, presentation_id, message_id, affected_class):
        self.note("echo", presentation_id, message_id, affected_class)
        self.send_c_echo_response(presentation_id, message_id, affected_class, 0)

    def on_receive_c_store_request(self, presentation_id, message_id, *rest):
        self.note("store", presentation_id, message_id)
        super().on_receive_c_store_request(presentation_id, message_id, *rest)

    def on_receive_release_request(self):
        self.note("release request")
        self.send_release_response()


def test_order_of_callbacks_on_the_side_that_serves():
    with serving(Everything) as server, associated(server.host_port) as client:
        client.echo(5)
        client.status_of(client.store(data_set(), 6))
        client.release()
        error, link, _ = server.closed.get(timeout=LONG)
    assert error is SUCCESS
    assert link.events == [
        ("receive", 1),
        ("associate request",),
        ("send", 2),
        ("receive", 4),
        ("data", 0x0030, None),
        ("echo", 1, 5, VERIFICATION),
        ("send", 4),
        ("receive", 4),
        ("receive", 4),
        ("data", 0x0001, IDENTIFIER),
        ("store", 3, 6),
        ("send", 4),
        ("receive", 5),
        ("release request",),
        ("send", 6),
        ("close", SUCCESS),
    ]
    assert len(link.threads) == 1


class Observed(Client):
    def on_receive(self, error, pdu_type, buffer, length):
        self.events.append(("receive", int(pdu_type)))

    def on_send(self, error, pdu_type, length):
        self.events.append(("send", int(pdu_type), length))

    def on_receive_data(self, presentation_id, command_set, data_set):
        self.events.append(("data", int(command_set.CommandField)))

    def on_receive_associate_accept(self, association):
        self.events.append(("accept", association.get_transfer(1, 0)))

    def on_receive_release_response(self):
        self.events.append(("release response",))


def test_order_of_callbacks_on_the_side_that_calls():
    with serving() as server, associated(server.host_port, Observed()) as client:
        client.echo()
        client.release()
    assert client.events == [
        ("send", 1, client.events[0][2]),
        ("receive", 2),
        ("accept", IMPLICIT),
        ("send", 4, 80),
        ("receive", 4),
        ("data", 0x8030),
        ("echo", 1, 0),
        ("send", 5, 10),
        ("receive", 6),
        ("release response",),
        ("close", SUCCESS),
    ]


def test_on_receive_comes_before_an_abort_and_a_rejection():
    def play(peer):
        peer.accept()
        peer.send(abort(0, 0))

    with played(play) as port, associated(port, Observed()) as client:
        with pytest.raises(errors.AssociationAborted):
            client.run()
        assert client.events[-3:] == [
            ("receive", 7),
            ("abort", 0, 0),
            ("close", DicomExceptionCode.NET_CONNECTION_ABORTED),
        ]


def test_the_command_set_can_be_asked_for_inside_the_callback_only():
    class Asking(Storage):
        def on_receive_c_echo_request(self, presentation_id, message_id, affected_class):
            self.events.append(int(self.get_command_set().MessageID))
            self.send_c_echo_response(presentation_id, message_id, affected_class, 0)

    with serving(Asking) as server, associated(server.host_port) as client:
        client.echo(77)
        client.release()
        link = server.closed.get(timeout=LONG)[1]
        assert link.events[0] == 77
        with pytest.raises(errors.WrongStateError):
            link.get_command_set()


# --- default answers -------------------------------------------------------------------------------


class Plain(Storage):
    """Overrides nothing but what tells of data sets."""

    supported_contexts: ClassVar = {VERIFICATION: (IMPLICIT,), CT: (EXPLICIT,), FIND: (IMPLICIT,)}
    on_receive_c_store_request = Client.on_receive_c_store_request


def test_an_echo_is_answered_and_what_is_not_overridden_is_refused_with_its_data_set_discarded(monkeypatch):
    monkeypatch.setattr("dicomnet.dispatch.MemorySink", None)  # would be the place of a data set
    contexts = {1: (VERIFICATION, (IMPLICIT,)), 3: (CT, (EXPLICIT,)), 5: (FIND, (IMPLICIT,))}
    found = []

    class Finding(Client):
        def on_receive_c_find_response(self, presentation_id, message_id, affected_class, status, data_set):
            found.append((affected_class, int(status), data_set))

        def on_receive_n_get_response(self, presentation_id, message_id, affected_class, *rest):
            found.append((affected_class, int(rest[1]), rest[2]))

    with serving(Plain) as server:
        client = associate(connected(Finding(), server.host_port), proposal(contexts))
        assert client.echo() == 0
        assert client.status_of(client.store(data_set(bytes(1_000_000)))) == 0x0122
        client.send_c_find_request(5, 50, FIND, 0, DicomDataSet(b"\x10\0\x20\0\0\0\0\0", IMPLICIT))
        client.wait(lambda: len(found) == 1, LONG)
        client.send_n_get_request(5, 51, FIND, "1.2.3", [0x00100020])
        client.wait(lambda: len(found) == 2, LONG)
        assert found == [(FIND, 0x0122, None), (FIND, 0x0118, None)]  # PS3.7 10.1.2: N-GET has no 0122H
        client.release()


def test_an_association_without_a_usable_context_is_rejected():
    with serving() as server, pytest.raises(errors.AssociationRejected) as caught:
        associate(connected(Client(), server.host_port), proposal({1: ("1.2.3", (IMPLICIT,))}))
    assert (caught.value.result, caught.value.source, caught.value.reason) == (1, 1, 1)


def test_R09_release_collision_as_acceptor():
    for link_class in (Storage, Everything):
        with serving(link_class) as server:
            with raw_client(server.host_port) as peer:
                peer.request()
                link = server.links.get(timeout=LONG)
                link.wait(link.is_associated, LONG)
                link.send_release_request()
                assert peer.pdu()[0] == 5
                peer.send(RELEASE_RQ)
                link.wait(lambda link=link: link.link.state.value == 10, LONG)
                peer.send(b"\6\0\0\0\0\4\0\0\0\0")
                assert peer.pdu()[0] == 6
            assert server.closed.get(timeout=LONG)[0] is SUCCESS


@pytest.mark.parametrize("answer", ["at once", "later"])
def test_an_association_and_a_release_can_be_answered_from_another_thread(answer):
    asked, released = event(), event()

    class Late(Storage):
        def on_receive_associate_request(self, association):
            asked.set()

        def on_receive_release_request(self):
            released.set()

    with serving(Late) as server:
        client = connected(Client(), server.host_port)
        client.send_associate_request(proposal())
        asked.wait()
        link = server.links.get(timeout=LONG)
        assert not client.receive(0.01)
        accept = DicomAssociate(False)
        accept.add_presentation_context(1, 0, VERIFICATION)
        accept.add_transfer(1, IMPLICIT)
        link.send_associate_accept(accept)
        assert client.wait(client.is_associated, LONG)
        assert client.echo() == 0
        releasing = in_thread(client.release)
        released.wait()
        link.send_release_response()
        releasing()


def test_C05_an_unknown_command_aborts_unless_the_callback_is_overridden():
    body = element(0x0002, VERIFICATION.encode() + b"\0") + element(0x0100, pack("<H", 0x0777))
    body += element(0x0110, pack("<H", 9)) + element(0x0800, pack("<H", 0x0101))
    unknown = p_data(pdv(element(0, pack("<I", len(body))) + body, 3, 1))
    with serving() as server:
        with raw_client(server.host_port) as peer:
            peer.request().send(unknown)
            assert peer.pdu()[0] == 7
        error, _, _ = server.closed.get(timeout=LONG)
        assert error is DicomExceptionCode.BAD_PDU_TYPE

    class Knowing(Storage):
        def on_receive_unknown(self, presentation_id, command_set, data_set):
            self.events.append(("unknown", int(command_set.CommandField), data_set))

    with serving(Knowing) as server, raw_client(server.host_port) as peer:
        peer.request().send(unknown, ECHO_PDU)
        assert peer.pdu()[0] == 4
        assert server.links.get(timeout=LONG).events == [("unknown", 0x0777, None)]


def test_X28_a_request_without_its_mandatory_elements_is_answered_with_mistyped_argument():
    body = element(0x0100, pack("<H", 0x0030)) + element(0x0110, pack("<H", 9))
    body += element(0x0800, pack("<H", 0x0101))
    with serving(Everything) as server, raw_client(server.host_port) as peer:
        peer.request().send(p_data(pdv(element(0, pack("<I", len(body))) + body, 3, 1)))
        assert element(0x0900, pack("<H", 0x0212)) in peer.pdu()[1]
        peer.send(ECHO_PDU)
        assert element(0x0900, pack("<H", 0)) in peer.pdu()[1]


def test_C06_a_second_request_with_an_id_in_use_aborts():
    class Silent(Storage):
        def on_receive_c_echo_request(self, *arguments):
            self.events.append(("echo",))

    with serving(Silent) as server:
        with raw_client(server.host_port) as peer:
            peer.request().send(ECHO_PDU, ECHO_PDU)
            assert peer.pdu()[0] == 7
            assert peer.at_end()
        error, link, _ = server.closed.get(timeout=LONG)
    assert (error, len(link.events)) == (DicomExceptionCode.BAD_PDU_TYPE, 2)


def test_X26_one_final_response_is_owed_and_a_second_is_refused():
    class Twice(Storage):
        def on_receive_c_echo_request(self, presentation_id, message_id, affected_class):
            self.send_c_echo_response(presentation_id, message_id, affected_class, 0)
            with pytest.raises(errors.LocalProtocolError, match="owed"):
                self.send_c_echo_response(presentation_id, message_id, affected_class, 0)
            with pytest.raises(errors.LocalProtocolError, match="owed"):
                self.send_c_echo_response(presentation_id, message_id + 1, affected_class, 0)
            self.events.append("done")

    with serving(Twice) as server, associated(server.host_port) as client:
        assert client.echo() == 0
        assert client.echo() == 0
        assert server.links.get(timeout=LONG).events[0] == "done"


# --- exceptions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "store", "echo"),
    [
        (KeyError("mine"), 0xC000, 0x0110),
        (OSError(28, "No space left on device"), 0xA700, 0x0110),
        (errors.DataSetError("full"), 0xA700, 0x0110),
        (errors.StatusError("no", status=0x0117), 0x0117, 0x0117),
        (errors.DicomException("anything"), 0xC000, 0x0110),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_exception_in_the_callback_of_a_request_becomes_a_failure_status_and_is_logged(
    raised, store, echo, caplog
):
    class Raising(Storage):
        def on_receive_c_store_request(self, *arguments):
            raise raised

        def on_receive_c_echo_request(self, *arguments):
            raise raised

    with serving(Raising) as server, associated(server.host_port) as client:
        assert client.status_of(client.store(data_set())) == store
        assert client.echo() == echo
        assert client.is_associated()
    assert "on_receive_c_store_request" in caplog.text
    assert type(raised).__name__ in caplog.text


def test_an_exception_after_the_response_was_sent_aborts_and_is_logged(caplog):
    class Raising(Storage):
        def on_receive_c_store_request(self, *arguments):
            super().on_receive_c_store_request(*arguments)
            raise KeyError("after the response")

    with serving(Raising) as server, associated(server.host_port) as client:
        assert client.status_of(client.store(data_set())) == 0
        with pytest.raises(errors.AssociationAborted) as caught:
            client.run()
        assert (caught.value.by, caught.value.source) == ("peer", 0)
        error, link, _ = server.closed.get(timeout=LONG)
    assert error is DicomExceptionCode.NET_CONNECTION_ABORTED
    assert link.events == [("close", error)]
    assert "after the response" in caplog.text


CALLBACKS = (
    "on_receive_associate_accept",
    "on_receive_c_echo_response",
    "on_receive_release_response",
    "on_receive",
    "on_receive_data",
)


@pytest.mark.parametrize("name", CALLBACKS)
@pytest.mark.parametrize("threaded", [False, True], ids=["alone", "with a reader"])
def test_an_exception_in_any_other_callback_aborts_and_comes_out_or_is_logged(name, threaded, caplog):
    def raising(self, *arguments):
        if name != "on_receive" or arguments[1] == 2:
            raise KeyError(name)

    client = type("Raising", (Client,), {name: raising})()
    with serving() as server:
        connected(client, server.host_port)
        thread = client.start() if threaded else None

        def go():
            associate(client)
            client.echo()
            client.release()

        expected = errors.AssociationAborted if threaded else KeyError
        if name == "on_receive_release_response" and threaded:
            go()  # there was no association left to abort
        else:
            with pytest.raises(expected, match=name):
                go()
        if thread:
            thread.join(LONG)
            assert name in caplog.text
        assert client.names().count("close") == 1
        assert client.names()[-1] == "close"
        assert not client.is_activated()


def test_an_exception_in_on_receive_associate_request_aborts():
    class Raising(Storage):
        def on_receive_associate_request(self, association):
            raise KeyError("mine")

    with serving(Raising) as server:
        with pytest.raises(errors.AssociationAborted):
            associate(connected(Client(), server.host_port))
        assert server.closed.get(timeout=LONG)[0] is DicomExceptionCode.NET_CONNECTION_ABORTED


# --- what may be called inside -----------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "close_forced", "send_abort", "dispose"])
@pytest.mark.parametrize("name", ["on_receive_c_echo_request", "on_receive_associate_request", "on_receive"])
def test_M2_ending_the_link_inside_a_callback(how, name, caplog):
    def ending(self, *arguments):
        if name != "on_receive" or arguments[1] == 4:
            getattr(self, how)()

    link_class = type("Ending", (Storage,), {name: ending})
    with serving(link_class) as server:
        client = connected(Client(), server.host_port)
        with pytest.raises((errors.AssociationAborted, errors.ConnectionLost)) as caught:
            associate(client).echo()
        assert isinstance(caught.value, errors.ConnectionLost) == (how in ("close_forced", "dispose"))
        error, link, _ = server.closed.get(timeout=LONG)
        assert error is SUCCESS
        assert link.events == [("close", SUCCESS)]
    assert caplog.text == ""


def test_M2_ending_the_link_inside_the_callback_of_a_response():
    class Ending(Client):
        def on_receive_c_echo_response(self, *arguments):
            super().on_receive_c_echo_response(*arguments)
            self.close()
            with pytest.raises(errors.AssociationAborted):
                self.send_c_echo_request(1, 2, VERIFICATION)
            with pytest.raises(errors.AssociationAborted):
                self.wait(lambda: False)

    with serving() as server, associated(server.host_port, Ending()) as client:
        client.send_c_echo_request(1, 1, VERIFICATION)
        client.run()
        assert client.events == [("echo", 1, 0), ("close", SUCCESS)]


def test_M2_releasing_inside_the_callback_of_a_response():
    class Releasing(Client):
        def on_receive_c_echo_response(self, *arguments):
            super().on_receive_c_echo_response(*arguments)
            self.release()
            self.events.append(("released",))

    with serving() as server, associated(server.host_port, Releasing()) as client:
        client.send_c_echo_request(1, 1, VERIFICATION)
        client.run()
        assert client.events == [("echo", 1, 0), ("released",), ("close", SUCCESS)]


def test_the_next_request_can_be_sent_inside_the_callback_of_a_response():
    """Scenario 2 of LEADTOOLS' programs: one file after the other, driven by the responses."""
    files = [data_set(bytes([number]) * 1000) for number in range(20)]

    class Chain(Client):
        def on_receive_c_store_response(self, *arguments):
            super().on_receive_c_store_response(*arguments)
            if files:
                self.store(files.pop())
            else:
                self.send_release_request()

    with serving() as server, associated(server.host_port, Chain()) as client:
        client.store(files.pop())
        client.run()
        assert client.names() == ["store"] * 20 + ["close"]
        assert len(server.links.get(timeout=LONG).stored) == 20


def test_a_blocking_call_in_a_callback_goes_on_handling_the_link():
    """A provider that, before it answers, asks back on the same association, and the reverse."""

    class Asking(Storage):
        def on_receive_c_store_request(self, presentation_id, message_id, *rest):
            command = self.get_command_set()
            self.send_c_echo_request(1, 900, VERIFICATION)
            assert self.wait(lambda: "answered" in self.events, LONG)
            assert self.get_command_set().MessageID == command.MessageID == message_id
            super().on_receive_c_store_request(presentation_id, message_id, *rest)

        def on_receive_c_echo_response(self, *arguments):
            self.events.append("answered")

    with serving(Asking) as server, associated(server.host_port) as client:
        assert client.status_of(client.store(data_set(), 3)) == 0


def test_blocking_calls_nest_eight_deep_and_the_ninth_is_refused():
    depth = itertools.count()

    class Deep(Client):
        def on_receive_c_echo_response(self, *arguments):
            super().on_receive_c_echo_response(*arguments)
            next(depth)
            self.echo()

    with serving() as server, associated(server.host_port, Deep()) as client:
        with pytest.raises(errors.ReentrancyError, match="9 deep"):
            client.echo()
        assert next(depth) == 8
        assert not client.is_connected()

    assert Limits().nesting == 8


def test_a_blocking_call_in_on_receive_and_on_data_set_is_refused_and_sending_is_not():
    refused = []

    class Within(Storage):
        def on_receive(self, error, pdu_type, buffer, length):
            if pdu_type == 4:
                for call in (self.receive, self.run, lambda: self.wait(lambda: True)):
                    with pytest.raises(errors.ReentrancyError):
                        call()
                    refused.append("on_receive")

        def on_data_set(self, presentation_id, command):
            self.send_c_echo_request(1, self.next_message_id(), VERIFICATION)
            with pytest.raises(errors.ReentrancyError):  # the window is full: it would have to wait
                self.send_c_echo_request(1, self.next_message_id(), VERIFICATION)
            refused.append("on_data_set")

    with serving(Within) as server, associated(server.host_port) as client:
        assert client.status_of(client.store(data_set())) == 0
        client.release()
        assert server.closed.get(timeout=LONG)[1].stored == [IDENTIFIER]
    assert refused.count("on_data_set") == 1
    assert refused.count("on_receive") == 3 * 3  # command, data set, and the response to our C-ECHO


def test_sending_or_waiting_in_on_send_is_refused_and_an_uncaught_refusal_aborts():
    class Sending(Client):
        caught = True

        def on_send(self, error, pdu_type, length):
            if pdu_type == 4 and self.caught:
                with pytest.raises(errors.ReentrancyError):
                    self.send_c_echo_request(1, 77, VERIFICATION)
                with pytest.raises(errors.ReentrancyError):
                    self.send_release_request()
                with pytest.raises(errors.ReentrancyError):
                    self.receive(0)
            elif pdu_type == 4:
                self.wait(lambda: True)

    with serving() as server, associated(server.host_port, Sending()) as client:
        assert client.echo() == 0
        client.caught = False
        with pytest.raises(errors.ReentrancyError):
            client.echo()
        assert not client.is_connected()
        assert client.names()[-1] == "close"


def test_a_close_in_on_send_cuts_the_message_off():
    class Closing(Client):
        def on_send(self, error, pdu_type, length):
            if pdu_type == 4:
                self.close()
                self.events.append(("sent",))

    with serving() as server, associated(server.host_port, Closing()) as client:
        with pytest.raises(errors.AssociationAborted):
            client.store(data_set(bytes(5_000_000)))
        assert client.names() == ["sent"] * client.names().count("sent") + ["close"]


# --- data sets ---------------------------------------------------------------------------------------


def spooled(folder) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


def test_a_large_data_set_goes_to_the_spool_outlives_its_callback_and_leaves_nothing(tmp_path):
    kept = []

    class Keeping(Storage):
        def on_receive_c_store_request(self, *arguments):
            kept.append(arguments[-1])
            super().on_receive_c_store_request(*arguments)

    body = bytes(range(256)) * 1000
    limits = Limits(memory=65536)
    with serving(lambda: Keeping(str(tmp_path), limits=limits)) as server:
        with associated(server.host_port) as client:
            assert client.status_of(client.store(data_set(body))) == 0
            assert client.status_of(client.store(data_set(body[:1000]))) == 0
        assert len(spooled(tmp_path)) == 1
    assert [each.encoded for each in kept] == [body, body[:1000]]
    for each in kept:
        each.close()
    assert spooled(tmp_path) == []


def test_a_spool_that_is_full_makes_the_message_fail_and_not_the_association(tmp_path):
    limits = Limits(memory=1000, spool=50_000)
    with serving(lambda: Storage(str(tmp_path), limits=limits)) as server:
        with associated(server.host_port) as client:
            assert client.status_of(client.store(data_set(bytes(40_000)))) == 0
            assert client.status_of(client.store(data_set(bytes(60_000)))) == 0xA700
            assert client.status_of(client.store(data_set(bytes(40_000)))) == 0
        assert server.links.get(timeout=LONG).stored == [bytes(40_000)] * 2
    assert spooled(tmp_path) == []


def test_L8_L9_fragments_that_never_end_are_aborted_at_the_limit_and_leave_nothing(tmp_path):
    limits = Limits(memory=1000, data_set=200_000, command_set=20_000)
    body = element(0x0002, CT.encode() + b"\0") + element(0x0100, pack("<H", 1))
    body += element(0x0110, pack("<H", 1)) + element(0x0800, pack("<H", 1))
    command = p_data(pdv(element(0, pack("<I", len(body))) + body, 3, 3))
    with serving(lambda: Storage(str(tmp_path), limits=limits)) as server:
        for first, fragment in ((b"", pdv(bytes(1000), 1, 3)), (command, pdv(bytes(10_000), 0, 3))):
            with raw_client(server.host_port) as peer:
                peer.request().send(first + p_data(fragment) * 21)
                assert peer.pdu()[0] == 7
            assert server.closed.get(timeout=LONG)[0] is not SUCCESS
            assert spooled(tmp_path) == []


@pytest.mark.parametrize("where", ["open", "write", "finish", "callback"])
def test_a_sink_that_fails_makes_its_message_fail_with_A700_and_the_association_goes_on(where, caplog):
    abandoned = []

    def fail(*_):
        raise OSError(28, "No space left on device")

    class Failing(Storage):
        def on_data_set(self, presentation_id, command):
            if where == "callback":
                fail()
            write = fail if where == "write" else len
            finish = fail if where == "finish" else None
            if where == "open":
                return FileSink("/proc/no/such/folder/x", self.link.core.contexts[3], command)
            return CallableSink(write, finish, lambda: abandoned.append(1))

    with serving(Failing) as server, associated(server.host_port) as client:
        for _ in range(2):
            assert client.status_of(client.store(data_set(bytes(2_000_000)))) == 0xA700
        assert client.echo() == 0
    assert "was lost" in caplog.text
    assert len(abandoned) == (2 if where == "write" else 0)


def test_a_sink_chooses_what_the_callback_gets():
    got = []

    class Choosing(Storage):
        def on_data_set(self, presentation_id, command):
            if command.message_id == 1:
                return DiscardSink()
            parts = []
            return CallableSink(lambda part: parts.append(bytes(part)), lambda: b"".join(parts))

        def on_receive_c_store_request(self, presentation_id, message_id, *rest):
            got.append(rest[-1])
            self.send_c_store_response(presentation_id, message_id, rest[0], rest[1], 0)

    with serving(Choosing) as server, associated(server.host_port) as client:
        for number in (1, 2):
            assert client.status_of(client.store(data_set(), number)) == 0
    assert got == [None, IDENTIFIER]


def test_T4_a_peer_that_goes_within_a_data_set_leaves_no_file(tmp_path):
    class Filing(Storage):
        def on_data_set(self, presentation_id, command):
            return FileSink(tmp_path / "x.dcm", self.link.core.contexts[presentation_id], command)

    with serving(Filing) as server:
        for last in (abort(0, 0), b""):
            with raw_client(server.host_port) as peer:
                peer.request()
                body = element(0x0002, CT.encode() + b"\0") + element(0x0100, pack("<H", 1))
                body += element(0x0110, pack("<H", 1)) + element(0x0700, bytes(2))
                body += element(0x0800, pack("<H", 1)) + element(0x1000, b"1.2.3\0")
                peer.send(p_data(pdv(element(0, pack("<I", len(body))) + body, 3, 3)))
                peer.send(p_data(pdv(bytes(100_000), 0, 3)))
                link = server.links.get(timeout=LONG)
                assert link.wait(lambda link=link: link.link.core.bytes_received > 100_000, LONG)
                assert len(spooled(tmp_path)) == 1
                peer.send(last)
            error, _, _ = server.closed.get(timeout=LONG)
            assert error is DicomExceptionCode.NET_CONNECTION_ABORTED
            assert spooled(tmp_path) == []


def test_C_CANCEL_reaches_the_callback_while_a_worker_sends_pending_responses():
    """Scenario 7 of LEADTOOLS' programs: responses from a thread of their own, and a cancel in between."""

    class Finder(Storage):
        supported_contexts: ClassVar = {FIND: (IMPLICIT,)}

        def __init__(self):
            super().__init__()
            self.cancelled = event()
            self.worker = None

        def on_receive_c_find_request(self, presentation_id, message_id, affected_class, priority, data_set):
            identifier = DicomDataSet(data_set.encoded, IMPLICIT)

            def work():
                for _ in range(3):
                    self.send_c_find_response(presentation_id, message_id, affected_class, 0xFF00, identifier)
                self.cancelled.wait()
                self.send_c_find_response(presentation_id, message_id, affected_class, 0xFE00, None)

            self.worker = in_thread(work)

        def on_receive_c_cancel_request(self, presentation_id, message_id):
            self.events.append(("cancel", presentation_id, message_id))
            self.cancelled.set()

    class Finding(Client):
        def on_receive_c_find_response(self, presentation_id, message_id, affected_class, status, data_set):
            self.events.append((int(status), data_set and data_set.encoded))

    key = b"\x10\0\x20\0\4\0\0\0ABCD"
    with serving(Finder) as server:
        client = associate(connected(Finding(), server.host_port), proposal({1: (FIND, (IMPLICIT,))}))
        client.send_c_find_request(1, 7, FIND, 0, DicomDataSet(key, IMPLICIT))
        client.wait(lambda: len(client.events) == 3, LONG)
        client.send_c_cancel_request(1, 7)
        client.wait(lambda: len(client.events) == 4, LONG)
        link = server.links.get(timeout=LONG)
        link.worker()
        client.release()
    assert client.events[:4] == [(0xFF00, key)] * 3 + [(0xFE00, None)]
    assert link.events[0] == ("cancel", 1, 7)


def test_F14_a_cancel_of_nothing_is_ignored():
    body = element(0x0100, pack("<H", 0x0FFF)) + element(0x0120, pack("<H", 9))
    body += element(0x0800, pack("<H", 0x0101))
    cancel = p_data(pdv(element(0, pack("<I", len(body))) + body, 3, 1))
    with serving(Everything) as server, raw_client(server.host_port) as peer:
        peer.request().send(cancel, ECHO_PDU)
        assert element(0x0900, pack("<H", 0)) in peer.pdu()[1]


def test_the_callbacks_of_a_listening_object_and_of_its_links_are_their_own():
    class Link(Storage):
        def on_receive_c_echo_request(self, presentation_id, message_id, affected_class):
            assert self.server.host_port == self.host_port
            assert isinstance(self.server, Server)
            self.send_c_echo_response(presentation_id, message_id, affected_class, 0)

    with serving(Link) as server, associated(server.host_port) as client:
        assert client.echo() == 0
        assert client.server is None


def test_a_response_without_a_status_counts_as_a_failure():
    """X28."""

    def play(peer):
        peer.accept()
        assert peer.pdu()[0] == 4
        body = element(0x0100, pack("<H", 0x8030)) + element(0x0120, pack("<H", 1))
        body += element(0x0800, pack("<H", 0x0101))
        peer.send(p_data(pdv(element(0, pack("<I", len(body))) + body, 3, 1)), response(0x8030, 1))
        peer.at_end()

    with played(play) as port, associated(port) as client:
        assert client.echo(1) == 0x0110
