"""`DicomNet` as a listening object: accepting, limits, one thread per link, and how it all ends."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace

import pytest
from dialogue import AC, ECHO_PDU, EXPLICIT, RQ, VERIFICATION, command, element, p_data, pdv
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
    reset,
    serving,
)

from dicomnet import DicomAssociate, DicomDataSet, DicomNet, Limits, Timeouts, errors
from dicomnet.enums import DicomExceptionCode
from dicomnet.listener import MARGIN
from dicomnet.protocol import negotiation
from dicomnet.transport.accept import Acceptor

pytestmark = pytest.mark.usefixtures("leak_check")

SUCCESS = DicomExceptionCode.SUCCESS


# --- listening -------------------------------------------------------------------------------------


def test_listen_finds_a_free_port_and_can_be_called_again_after_close():
    server = Server(Storage)
    for _ in range(2):
        server.listen("127.0.0.1", 0)
        assert server.host_port > 0
        assert (server.host_address, server.peer_address, server.peer_port) == ("127.0.0.1", "", 0)
        assert server.is_activated()
        assert not server.is_connected()
        with pytest.raises(errors.WrongStateError):
            server.listen("127.0.0.1", 0)
        with pytest.raises(errors.WrongStateError):
            server.connect(None, 0, "127.0.0.1", 104)
        server.start()
        with associated(server.host_port) as client:
            assert client.echo() == 0
        server.close()
        assert not server.is_activated()
        server.close()


def test_a_port_that_is_taken_is_an_error():
    with serving() as server, pytest.raises(errors.NetworkError, match="has the port"):
        Server(Storage).listen("127.0.0.1", server.host_port)


def test_close_before_run_and_run_after_close():
    server = Server(Storage)
    server.listen("127.0.0.1", 0)
    server.close()
    server.listen("127.0.0.1", 0)
    server.server_close()
    server.run()
    server.close()


def test_start_twice_is_an_error():
    with serving() as server, pytest.raises(errors.WrongStateError, match="started"):
        server.start()


def test_run_holds_the_calling_thread_until_close():
    server = Server(Storage)
    server.listen("127.0.0.1", 0)
    running = in_thread(server.run)
    with associated(server.host_port) as client:
        assert client.echo() == 0
        server.close()
        running()
        with pytest.raises(errors.AssociationAborted):
            client.run()


# --- accepting -------------------------------------------------------------------------------------


def test_a_connection_that_nobody_accepts_is_closed():
    for listening in (DicomNet(trace=None), type("Refusing", (DicomNet,), {"on_accept": lambda *_: None})()):
        listening.listen("127.0.0.1", 0)
        listening.start()
        with raw_client(listening.host_port) as peer:
            assert peer.at_end()
        assert listening.get_client_count() == 0
        listening.close()


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_on_accept_that_raises_closes_the_connection_and_the_next_one_is_served(when, caplog):
    class Raising(Server):
        fails = True

        def on_accept(self, error):
            if when == "after":
                super().on_accept(error)
            if self.fails:
                raise KeyError("mine")
            if when == "before":
                super().on_accept(error)

    server = Raising(Storage)
    server.listen("127.0.0.1", 0)
    server.start()
    with raw_client(server.host_port) as peer:
        assert peer.at_end()
    assert server.get_client_count() == 0
    server.fails = False
    with associated(server.host_port) as client:
        assert client.echo() == 0
    if when == "after":
        assert not server.links.get(timeout=LONG).is_activated()
    server.close()
    assert "on_accept raised" in caplog.text


def test_accept_belongs_inside_on_accept_once_and_takes_an_unused_object():
    class Twice(Server):
        def on_accept(self, error):
            busy = Server(Storage)
            busy.listen("127.0.0.1", 0)
            with pytest.raises(errors.WrongStateError):
                self.accept(busy)
            busy.close()
            link = Storage()
            self.accept(link)
            assert (link.peer_address, link.host_port) == ("127.0.0.1", self.host_port)
            assert link.is_connected()
            with pytest.raises(errors.WrongStateError, match="once"):
                self.accept(Storage())
            self.links.put(link)

    server = Twice(Storage)
    with pytest.raises(errors.WrongStateError):
        server.accept(Storage())
    server.listen("127.0.0.1", 0)
    server.start()
    with associated(server.host_port) as client:
        assert client.echo() == 0
        assert server.links.get(timeout=LONG).peer_port == client.host_port
    server.close()


def test_an_accepted_object_can_be_used_again_and_as_a_client_too():
    link = Storage()
    with serving(lambda: link) as server:
        for _ in range(2):
            with associated(server.host_port) as client:
                assert client.echo() == 0
                client.release()
            assert server.closed.get(timeout=LONG)[1] is link
            assert link.server is server
        link.make = None
    with played(lambda peer: peer.at_end()) as port:
        connected(link, port)
        assert link.server is None
        link.close()


def test_a_peer_that_has_reset_before_it_was_accepted_does_no_harm():
    server = Server(Storage)
    server.listen("127.0.0.1", 0)
    for _ in range(3):
        sock = socket.create_connection(("127.0.0.1", server.host_port))
        reset(sock)
    server.start()
    with associated(server.host_port) as client:
        assert client.echo() == 0
    server.close()


def test_peers_are_served_at_the_same_time_and_silent_ones_hold_up_nobody():
    with serving() as server:
        silent = [socket.create_connection(("127.0.0.1", server.host_port)) for _ in range(20)]
        together = threading.Barrier(8)

        def go():
            with associated(server.host_port) as client:
                together.wait(LONG)
                return [client.echo() for _ in range(10)]

        assert [done() for done in [in_thread(go) for _ in range(8)]] == [[0] * 10] * 8
        for sock in silent:
            sock.close()


def test_a_slow_callback_holds_up_its_own_link_only():
    inside, leave = event(), event()

    class Slow(Storage):
        def on_receive_c_echo_request(self, presentation_id, message_id, affected_class):
            if message_id == 1:
                inside.set()
                leave.wait()
            self.send_c_echo_response(presentation_id, message_id, affected_class, 0)

    with serving(Slow) as server, associated(server.host_port) as one, associated(server.host_port) as two:
        one.send_c_echo_request(1, 1, VERIFICATION)
        inside.wait()
        assert two.echo(2) == 0
        leave.set()
        assert one.wait(lambda: one.events, LONG)


# --- limits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [Limits(links=2), Limits(links_per_address=2)], ids=["all", "per address"])
def test_R04_connections_above_a_limit_are_rejected_as_transient_and_the_place_is_freed(limits):
    with serving(limits=limits) as server:
        one, two = (associate(connected(Client(), server.host_port)) for _ in range(2))
        assert server.get_client_count() == 2
        assert server.get_client(1).peer_port == two.host_port
        assert server.get_client(0).server is server
        with pytest.raises(IndexError):
            server.get_client(2)
        with pytest.raises(errors.AssociationRejected) as caught:
            associate(connected(Client(), server.host_port))
        assert (caught.value.result, caught.value.source, caught.value.reason) == (2, 3, 2)
        assert caught.value.transient
        assert one.echo() == two.echo() == 0
        one.release()
        closed = {server.closed.get(timeout=LONG)[1] for _ in range(2)}
        assert server.links.get(timeout=LONG) in closed
        with associated(server.host_port) as three:
            assert three.echo() == 0
        two.close()


def test_the_limit_per_address_counts_addresses_apart():
    with serving(limits=Limits(links_per_address=1)) as server:
        one = associate(connected(Client(), server.host_port))
        other = Client()
        other.connect("127.0.0.2", 0, "127.0.0.1", server.host_port)
        assert associate(other).echo() == 0
        one.close()
        other.close()


def test_far_above_a_limit_connections_are_closed_unheard():
    with serving(limits=Limits(links=1)) as server:
        crowd = [socket.create_connection(("127.0.0.1", server.host_port)) for _ in range(1 + MARGIN)]
        for _ in crowd:
            server.links.get(timeout=LONG)
        with raw_client(server.host_port) as peer:
            peer.send(RQ)
            peer.at_end()
        assert server.links.empty()
        for sock in crowd:
            sock.close()


def test_without_a_thread_to_be_had_the_connection_is_closed_and_told_of(monkeypatch):
    with serving() as server:
        start = threading.Thread.start

        def refused(thread):
            if thread.name == "dicomnet 127.0.0.1":
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", refused)
        with raw_client(server.host_port) as peer:
            peer.at_end()
        server.closed.get(timeout=LONG)
        assert server.get_client_count() == 0
        monkeypatch.undo()
        with associated(server.host_port) as client:
            assert client.echo() == 0


# --- the end ---------------------------------------------------------------------------------------


def test_on_close_of_the_listening_object_comes_after_the_links_own_and_on_its_thread():
    with serving() as server:
        with associated(server.host_port) as client:
            client.release()
        error, link, thread = server.closed.get(timeout=LONG)
        assert (error, link.events) == (SUCCESS, [("close", SUCCESS)])
        assert thread == server._thread.ident
        assert server.get_client_count() == 0
        with raw_client(server.host_port) as peer:
            peer.request()
        error, link, thread = server.closed.get(timeout=LONG)
        assert error is DicomExceptionCode.NET_CONNECTION_ABORTED
        assert link.events == [("close", error)]
        assert thread == server._thread.ident


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_callback_that_exits_ends_its_thread_and_its_link():
    class Exiting(Storage):
        def on_receive_c_echo_request(self, *arguments):
            raise SystemExit

    with serving(Exiting) as server:
        with associated(server.host_port) as client, pytest.raises(errors.ConnectionLost):
            client.echo()
        link = server.closed.get(timeout=LONG)[1]
        assert not link.is_activated()
        assert link.events == [("close", SUCCESS)]


def test_an_on_close_that_raises_is_logged_and_the_loop_goes_on(caplog):
    class Raising(Server):
        def on_close(self, error, net):
            super().on_close(error, net)
            raise KeyError("in on_close")

    server = Raising(Storage)
    server.listen("127.0.0.1", 0)
    server.start()
    for _ in range(2):
        with associated(server.host_port) as client:
            client.release()
        server.closed.get(timeout=LONG)
    server.close()
    assert "in on_close" in caplog.text


def test_close_aborts_the_associations_closes_the_rest_and_tells_of_all():
    with serving() as server:
        one = associate(connected(Client(), server.host_port))
        with raw_client(server.host_port) as silent, raw_client(server.host_port) as hanging:
            hanging.request()
            for _ in range(3):
                server.links.get(timeout=LONG)
            listening = server._thread.ident
            closing = in_thread(server.close)
            with pytest.raises(errors.AssociationAborted) as caught:
                one.run()
            assert (caught.value.by, caught.value.source) == ("peer", 0)
            assert hanging.pdu()[0] == 7  # and it does not close
            closing()
            silent.at_end()
        told = [server.closed.get(timeout=LONG) for _ in range(3)]
        assert {error for error, _, _ in told} == {SUCCESS}
        assert {thread for _, _, thread in told} == {listening}
        assert server.closed.empty()


def test_close_forced_closes_without_a_word():
    with serving() as server:
        client = associate(connected(Client(), server.host_port))
        server.close_forced(True)
        with pytest.raises(errors.ConnectionLost):
            client.run()
        assert server.closed.get(timeout=LONG)[0] is SUCCESS


def test_leaving_the_block_closes():
    with Server(Storage) as server:
        server.listen("127.0.0.1", 0)
        server.start()
        client = associate(connected(Client(), server.host_port))
    with pytest.raises(errors.AssociationAborted):
        client.run()


def test_server_close_takes_no_more_connections_and_lets_the_links_go_on():
    with serving() as server:
        client = associate(connected(Client(), server.host_port))
        thread = server._thread
        server.server_close()
        with pytest.raises(errors.NetworkError):
            connected(Client(), server.host_port)
        assert client.echo() == 0
        assert thread.is_alive()
        client.release()
        thread.join(LONG)
        assert not thread.is_alive()
        error, _, told_on = server.closed.get(timeout=LONG)
        assert (error, told_on) == (SUCCESS, thread.ident)


def test_the_port_is_free_when_server_close_returns(monkeypatch):
    """The accept loop's thread gives it back, which may take it a moment."""
    release, freed = Acceptor._release, []

    def slowly(acceptor):
        threading.Event().wait(0.2)
        release(acceptor)
        freed.append(1)

    monkeypatch.setattr(Acceptor, "_release", slowly)
    with serving() as server:
        with associated(server.host_port) as client:
            assert client.echo() == 0  # so the loop is running
        server.server_close()
        assert freed


@pytest.mark.parametrize("where", ["on_accept", "on_close"])
def test_close_inside_a_callback_of_the_listening_object(where):
    class Closing(Server):
        def on_accept(self, error):
            super().on_accept(error)
            if where == "on_accept":
                self.close()

        def on_close(self, error, net):
            super().on_close(error, net)
            if where == "on_close":
                self.close()

    server = Closing(Storage, timeouts=Timeouts(release=0.5))
    server.listen("127.0.0.1", 0)
    thread = server.start()
    with raw_client(server.host_port) as peer:
        if where == "on_close":
            peer.sock.shutdown(socket.SHUT_WR)
        peer.at_end()
    thread.join(LONG)
    assert not thread.is_alive()
    assert server.closed.get(timeout=LONG)[1] is server.links.get(timeout=LONG)


def test_close_of_the_server_inside_a_callback_of_its_link():
    class Closing(Storage):
        def on_receive_c_echo_request(self, *arguments):
            self.server.close()

    with serving(Closing) as server:
        bystander = associate(connected(Client(), server.host_port))
        client = associate(connected(Client(), server.host_port))
        with pytest.raises(errors.AssociationAborted):
            client.echo()
        with pytest.raises(errors.AssociationAborted):
            bystander.run()
        told = {server.closed.get(timeout=LONG)[1] for _ in range(2)}
        assert told == {server.links.get(timeout=LONG) for _ in range(2)}


def test_close_does_not_wait_for_ever_for_a_callback_that_hangs():
    inside, leave = event(), event()

    class Hanging(Storage):
        def on_receive_c_echo_request(self, *arguments):
            inside.set()
            leave.wait()

    with serving(Hanging, timeouts=Timeouts(release=0.1)) as server:
        client = associate(connected(Client(), server.host_port))
        client.send_c_echo_request(1, 1, VERIFICATION)
        inside.wait()
        server.close()
        assert server.closed.empty()
        leave.set()
        error, link, thread = server.closed.get(timeout=LONG)
        assert (error, thread != threading.get_ident()) == (SUCCESS, True)
        assert link.events == [("close", SUCCESS)]
        client.close()


def test_a_listening_object_can_be_closed_by_several_threads():
    with serving() as server:
        clients = [associate(connected(Client(), server.host_port)) for _ in range(3)]
        for done in [in_thread(server.close) for _ in range(4)]:
            done()
        for client in clients:
            with pytest.raises(errors.AssociationAborted):
                client.run()
        assert {server.closed.get(timeout=LONG)[1] for _ in range(3)}


def test_M1_connections_of_every_short_kind_leave_nothing():
    """leak_check counts the threads and descriptors."""
    with serving() as server:
        for _ in range(50):
            with raw_client(server.host_port):
                pass
            with raw_client(server.host_port) as peer:
                peer.send(RQ[:40])
            with raw_client(server.host_port) as peer:
                peer.request()
                reset(peer.sock)
            with raw_client(server.host_port) as peer:
                peer.send(AC)
                assert peer.pdu()[0] == 7
        for _ in range(200):
            server.closed.get(timeout=LONG)
        assert server.get_client_count() == 0
        assert server._listener._addresses == {}


@pytest.mark.parametrize(
    ("first", "seen"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), "TLS"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
    ],
)
def test_S15_another_protocol_on_our_port_is_named_and_closed_at_once(first, seen):
    traces = []
    link = Storage(trace=lambda name, fields: traces.append((name, dict(fields))))
    with serving(lambda: link) as server:
        with raw_client(server.host_port) as peer:
            peer.send(first)
            assert peer.pdu()[0] == 7
            peer.at_end()
        assert server.closed.get(timeout=LONG)[0] is DicomExceptionCode.NET_PROTOCOL_TYPE
        failed = [fields for name, fields in traces if name == "link.failed"]
        assert failed[0]["error"] == "ProtocolMismatch"
        assert seen in failed[0]["message"]


def test_an_error_on_a_thread_of_its_own_is_logged():
    traces = []
    with played(lambda peer: peer.accept()) as port:
        client = Client(trace=lambda name, fields: traces.append((name, dict(fields))))
        associate(connected(client, port))
        client.start().join(LONG)
    failed = [fields for name, fields in traces if name == "link.failed"]
    assert failed[0]["error"] == "ConnectionLost"
    assert failed[0]["peer"] == f"127.0.0.1:{port}"


def test_another_client_is_served_while_one_sends_garbage():
    with serving() as server, raw_client(server.host_port) as bad, raw_client(server.host_port) as good:
        good.request()
        bad.request().send(b"\4\0\0\0\0\1\0")
        assert bad.pdu() == (7, bytes([0, 0, 2, 6]))
        good.send(ECHO_PDU)
        assert good.pdu()[0] == 4


# --- what a peer must not ask for ------------------------------------------------------------------


class Owing(Storage):
    """Never answers a C-STORE, and keeps for what it was asked to open a sink."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.opened = []

    def on_data_set(self, presentation_id, command):
        self.opened.append(command.message_id)

    def on_receive_c_store_request(self, *arguments):
        pass


def store_pdus(message_id):
    extra = element(0x0700, b"\0\0") + element(0x1000, b"1.2\0")
    return p_data(pdv(command(1, 1, message_id, extra), 3, 3), pdv(b"", 2, 3))


def test_D333_a_request_above_the_window_of_one_aborts_and_opens_no_sink():
    """PS3.7 D.3.3.3: without negotiation one operation may be outstanding."""
    traces = []
    link = Owing(trace=lambda name, fields: traces.append((name, dict(fields))))
    with serving(lambda: link) as server, raw_client(server.host_port) as peer:
        peer.request().send(store_pdus(1), store_pdus(2))
        assert peer.pdu() == (7, bytes([0, 0, 2, 0]))
        assert server.closed.get(timeout=LONG)[1] is link
    assert link.opened == [1]
    (failed,) = [fields for name, fields in traces if name == "link.failed"]
    assert failed["error"] == "RemoteProtocolError"
    assert "asynchronous operations window" in failed["message"]


def test_D333_an_unlimited_window_ends_at_our_own_limit():
    class Unlimited(Owing):
        def on_receive_associate_request(self, association):
            request = self.link.core.request
            answers = negotiation.answer_contexts(request, self.supported_contexts)
            answer = DicomAssociate.accepting(request, answers, self.limits.max_pdu)
            answer.set_asynchronous_operations(True, 0, 1)
            self.send_associate_accept(answer)

    with serving(lambda: Unlimited(limits=Limits(operations=3))) as server:
        request = proposal()
        request.set_asynchronous_operations(True, 0, 1)
        client = associate(connected(Client(), server.host_port), request)
        link = server.links.get(timeout=LONG)
        for _ in range(4):
            client.store(DicomDataSet(b"", EXPLICIT))
        with pytest.raises(errors.AssociationAborted):
            client.run()
        assert link.opened == [1, 2, 3]
        client.close()


@pytest.mark.parametrize(("selected", "status"), [((0, 1), 0x0122), ((1, 0), 0), ((1, 1), 0)])
def test_a_c_store_to_who_is_not_the_scp_is_refused(selected, status):
    """PS3.7 D.3.3.4: `selected` are the requestor's roles, SCU and SCP."""

    class Roles(Storage):
        def on_receive_associate_request(self, association):
            answers = negotiation.answer_contexts(self.link.core.request, self.supported_contexts)
            answer = DicomAssociate.accepting(self.link.core.request, answers, self.limits.max_pdu)
            self.send_associate_accept(answer)
            context = self.link.core.contexts[3]
            agreed = replace(context, scu=bool(selected[0]), scp=bool(selected[1]))
            self.link.core.contexts = {**self.link.core.contexts, 3: agreed}

    with serving(Roles) as server, associated(server.host_port) as client:
        assert client.status_of(client.store(DicomDataSet(b"", EXPLICIT))) == status
        assert len(server.links.get(timeout=LONG).stored) == (status == 0)
