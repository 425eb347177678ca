"""Several threads on one link: who reads, who sends, who waits, and who closes it under the others."""

from __future__ import annotations

import itertools
import queue
import socket
import threading
from struct import pack, unpack_from

import pytest
from dialogue import AC, CT, EXPLICIT, IMPLICIT, RELEASE_RP, VERIFICATION, abort
from net_ends import (
    LONG,
    Client,
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

from dicomnet import DicomDataSet, DicomNet, Limits, errors
from dicomnet.enums import DicomExceptionCode

pytestmark = pytest.mark.usefixtures("leak_check")

SUCCESS = DicomExceptionCode.SUCCESS
LARGE = bytes(range(256)) * 16384 * 4  # 16 MiB: more than two sockets hold


def data_set(data: bytes = LARGE) -> DicomDataSet:
    return DicomDataSet(data, EXPLICIT)


# --- reading and waiting -----------------------------------------------------------------------------


def test_start_reads_and_every_other_thread_may_wait():
    with serving() as server, associated(server.host_port) as client:
        thread = client.start()
        with pytest.raises(errors.WrongStateError, match="started"):
            client.start()
        assert client.wait(lambda: client.link._role.depth, LONG)
        for call in (client.receive, client.run):
            with pytest.raises(errors.WrongStateError, match="wait"):
                call()
        assert client.echo() == 0
        assert client.status_of(client.store(data_set(b"\x10\0\x20\0LO\4\0ABCD"))) == 0
        client.release()
        thread.join(LONG)
        assert not thread.is_alive()
    assert client.events[-1] == ("close", SUCCESS)


def test_an_event_that_a_callback_sets_ends_the_wait_of_another_thread():
    class Signalling(Client):
        answered = event()

        def on_receive_c_echo_response(self, *arguments):
            self.answered.set()

    with serving() as server, associated(server.host_port, Signalling()) as client:
        client.start()
        client.send_c_echo_request(1, 1, VERIFICATION)
        assert client.wait(client.answered, LONG)


def test_an_event_that_another_thread_sets_ends_the_wait_of_the_reader():
    go = event()
    with serving() as server, associated(server.host_port) as client:
        waiting = in_thread(lambda: client.wait(go, LONG))
        go.set()
        assert waiting()
        assert client.echo() == 0


def test_a_wait_becomes_the_reader_when_the_reader_leaves():
    with serving() as server, associated(server.host_port) as client:
        leave = event()
        first = in_thread(lambda: client.wait(leave, LONG))
        second = in_thread(lambda: client.wait(lambda: client.events, LONG))
        leave.set()
        assert first()
        client.send_c_echo_request(1, 1, VERIFICATION)
        assert second()


def test_what_makes_a_wait_unreachable_is_raised_in_every_thread():
    def play(peer):
        peer.accept()
        go.wait()
        peer.send(abort(2, 1))

    go = event()
    with played(play) as port, associated(port) as client:
        thread = client.start()
        waits = [in_thread(lambda: client.wait(lambda: False, LONG)) for _ in range(3)]
        go.set()
        for wait in waits:
            with pytest.raises(errors.AssociationAborted) as caught:
                wait()
            assert (caught.value.source, caught.value.reason) == (2, 1)
        thread.join(LONG)


def test_a_wait_may_be_made_on_an_accepted_link_while_its_own_thread_reads():
    with serving() as server, associated(server.host_port) as client:
        link = server.links.get(timeout=LONG)
        assert link.wait(link.is_associated, LONG)
        assert client.status_of(client.store(data_set(b"\x10\0\x20\0LO\4\0ABCD"))) == 0
        assert link.wait(lambda: link.stored, LONG)
        with pytest.raises(errors.WrongStateError):
            link.receive()


def test_a_short_wait_and_a_run_change_places_without_getting_lost():
    with serving() as server, associated(server.host_port) as client:
        for _ in range(50):
            waits = [in_thread(lambda: client.wait(lambda: False, 0.002)) for _ in range(3)]
            assert client.echo() == 0
            assert [wait() for wait in waits] == [False] * 3


# --- sending -----------------------------------------------------------------------------------------


def test_U07_two_threads_share_a_window_of_one():
    """Each request waits for its slot; nothing is lost, no id comes twice, the peer sees one at a time."""

    def play(peer):
        peer.accept()
        ids = set()
        for _ in range(100):
            body = peer.until(4)
            (number,) = unpack_from("<H", body, body.index(pack("<HHI", 0, 0x0110, 2)) + 8)
            ids.add(number)
            peer.sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                peer.sock.recv(1)
            peer.sock.settimeout(LONG)
            peer.send(response(0x8030, number))
        assert len(ids) == 100
        peer.at_end()

    for threaded in (True, False):
        with played(play) as port, associated(port) as client:
            if threaded:
                client.start()
            senders = [in_thread(lambda: [client.echo() for _ in range(25)]) for _ in range(4)]
            assert [sender() for sender in senders] == [[0] * 25] * 4
            assert client.names().count("echo") == 100


def test_U07_a_cut_data_set_is_not_sent_when_the_slot_was_taken_meanwhile(tmp_path):
    """A file is opened before there is room; while its sender waits, another thread takes the slot."""
    path = tmp_path / "x"
    path.write_bytes(LARGE[:3_000_000])
    with serving() as server, associated(server.host_port) as client:
        client.start()

        def go():
            for _ in range(5):
                assert client.status_of(client.store(DicomDataSet(path, EXPLICIT))) == 0

        for sender in [in_thread(go) for _ in range(4)]:
            sender()
        link = server.links.get(timeout=LONG)
        assert len(link.stored) == 20
        assert set(link.stored) == {LARGE[:3_000_000]}


def test_D06_messages_of_several_threads_are_not_interleaved():
    """Responses come from worker threads while the reader goes on (scenario 7)."""

    class Working(Storage):
        def __init__(self):
            super().__init__()
            self.work = queue.SimpleQueue()
            self.workers = [in_thread(self.labour) for _ in range(3)]

        def labour(self):
            while (job := self.work.get()) is not None:
                self.send_c_find_response(*job)

        def on_receive_c_find_request(self, presentation_id, message_id, affected_class, priority, data_set):
            identifier = DicomDataSet(data_set.encoded, EXPLICIT)
            for _ in range(10):
                self.work.put((presentation_id, message_id, affected_class, 0xFF00, identifier))

        def on_receive_c_echo_request(self, presentation_id, message_id, affected_class):
            for _ in self.workers:
                self.work.put(None)
            for worker in self.workers:
                worker()
            self.send_c_echo_response(presentation_id, message_id, affected_class, 0)

    found = []

    class Finding(Client):
        def on_receive_c_find_response(self, presentation_id, message_id, affected_class, status, data_set):
            found.append((message_id, len(data_set.encoded)))

    request = proposal()
    request.set_asynchronous_operations(True, 10, 1)

    class Willing(Working):
        def on_receive_associate_request(self, association):
            answer = type(association)(False)
            for number, (abstract, syntax) in {1: (VERIFICATION, IMPLICIT), 3: (CT, EXPLICIT)}.items():
                answer.add_presentation_context(number, 0, abstract)
                answer.add_transfer(number, syntax)
            answer.set_asynchronous_operations(True, 10, 1)
            self.send_associate_accept(answer)

    with serving(Willing) as server:
        client = associate(connected(Finding(limits=Limits(max_pdu=4096)), server.host_port), request)
        sizes = {number: 1000 * number for number in range(1, 6)}
        for number, size in sizes.items():
            client.send_c_find_request(3, number, CT, 0, data_set(LARGE[:size]))
        client.wait(lambda: len(found) == 50, LONG)
        assert client.echo(99) == 0
        client.close()
    assert sorted(found) == sorted((number, size) for number, size in sizes.items() for _ in range(10))


@pytest.mark.parametrize("threaded", [False, True], ids=["alone", "with readers"])
def test_two_ends_that_both_send_do_not_lock_each_other_up(threaded):
    """Each sends more than the sockets between them hold, and reads ahead while it cannot get on."""
    together = threading.Barrier(2)
    body = LARGE[:400_000]

    class Both(Storage):
        def on_receive_c_echo_request(self, presentation_id, message_id, affected_class):
            if threaded:
                self.sender = in_thread(self.both)
            self.send_c_echo_response(presentation_id, message_id, affected_class, 0)
            if not threaded:
                self.both()

        def both(self):
            together.wait(LONG)
            self.send_c_store_request(3, 1, CT, "1.2.3", 0, "", 0, data_set(body))

        def on_receive_c_store_response(self, *arguments):
            self.events.append(("store", int(arguments[4])))

    class Taking(Client):
        stored = None

        def on_receive_c_store_request(self, presentation_id, message_id, affected_class, instance, *rest):
            self.stored = rest[-1].encoded
            self.send_c_store_response(presentation_id, message_id, affected_class, instance, 0)

    def small() -> Limits:
        return Limits(max_pdu=16384)

    server_options = {"limits": small()}
    with serving(lambda: small_buffers(Both(**server_options))) as server:
        client = small_buffers(Taking(limits=small()))
        with associated(server.host_port, client):
            if threaded:
                client.start()
            client.echo(1)
            together.wait(LONG)
            assert client.status_of(client.store(data_set(body), 2)) == 0
            assert client.wait(lambda: client.stored, LONG)
            assert client.stored == body
            link = server.links.get(timeout=LONG)
            assert link.wait(lambda: link.stored and link.events, LONG)
            assert link.stored == [body]
            assert link.events == [("store", 0)]
            if threaded:
                link.sender()


def small_buffers(net: DicomNet) -> DicomNet:
    """Let the sockets of its links hold little, so that a few hundred KiB fill them."""
    adopt = net._adopt

    def adopted(stream):
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            stream._socket.setsockopt(socket.SOL_SOCKET, option, 16384)
        adopt(stream)

    net._adopt = adopted
    return net


def test_a_callback_that_answers_while_another_thread_sends_reads_ahead_for_it():
    """The reader waits for its turn, the sender for the peer, and the peer for the reader."""
    waiting, body = event(), LARGE[:300_000]

    def play(peer):
        peer.accept()
        peer.until(4)
        peer.send(request(1))
        waiting.wait()
        # what follows fits into no socket, and the sender of our peer is not read before it has gone
        peer.send(bytes_of_messages(8))
        got = 0
        while got < 9:
            kind, found = peer.pdu()
            assert kind == 4
            got += pack("<HHIH", 0, 0x0100, 2, 0x8030) in found
        peer.at_end()

    def request(number: int) -> bytes:
        from dialogue import command, p_data, pdv

        return p_data(pdv(command(0x0030, message_id=number, extra=b""), 3, 1))

    def bytes_of_messages(count: int) -> bytes:
        from dialogue import command, element, p_data, pdv

        padding = element(0x9999, bytes(40_000))
        return b"".join(
            p_data(pdv(command(0x0030, message_id=number, extra=padding), 3, 1))
            for number in range(2, 2 + count)
        )

    class Answering(Client):
        def on_receive_c_echo_request(self, presentation_id, message_id, affected_class):
            waiting.set()
            self.send_c_echo_response(presentation_id, message_id, affected_class, 0)
            self.events.append(message_id)

    client = small_buffers(Answering())
    with played(play, buffer=16384) as port, associated(port, client):
        client.start()
        client.store(data_set(body))
        client.wait(lambda: client.events == [*range(1, 10)], LONG)
        client.close()


# --- closing under another thread ----------------------------------------------------------------------


def silent_port():
    """A port that takes connections and says nothing."""
    return socket.create_server(("127.0.0.1", 0))


def test_close_while_another_thread_connects(monkeypatch):
    """The name look-up is what can be made to last here."""
    inside, leave = event(), event()
    look_up = socket.getaddrinfo

    def slow(host, port, family=0, kind=0, proto=0, flags=0):
        if not flags & socket.AI_NUMERICHOST:
            inside.set()
            leave.wait()
        return look_up("127.0.0.1", port, family, kind, proto, flags) if host == "127.0.0.1" else fail()

    def fail():
        raise socket.gaierror(socket.EAI_NONAME, "not known")

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    codes = []

    class Noting(Client):
        def on_connect(self, error):
            codes.append(error)

    client = Noting()
    connecting = in_thread(lambda: client.connect(None, 0, "slow.example", 104))
    inside.wait()
    assert client.is_activated()
    client.close()
    with pytest.raises(errors.LinkClosed):
        connecting()
    leave.set()
    assert codes == [DicomExceptionCode.NET_CONNECTION_ABORTED]
    assert client.events == []
    assert not client.is_activated()


def test_close_right_after_the_connection_was_made(monkeypatch):
    """Between the end of connecting and the beginning of the link nothing must be lost."""
    client = Client()
    adopt = client._adopt

    def adopted(stream):
        adopt(stream)
        client.close()

    client._adopt = adopted
    with silent_port() as listener:
        with pytest.raises(errors.LinkClosed, match="cancelled"):
            connected(client, listener.getsockname()[1])
        assert not client.is_activated()
        assert client.events == []


@pytest.mark.parametrize("how", ["close", "close_forced"])
@pytest.mark.parametrize("waiting", ["run", "wait", "receive", "start"])
def test_close_while_another_thread_reads(how, waiting):
    with serving() as server, associated(server.host_port) as client:
        if waiting == "start":
            thread = client.start()
            done = lambda: thread.join(LONG)  # noqa: E731
        else:
            arguments = (lambda: False,) if waiting == "wait" else ()
            done = in_thread(lambda: getattr(client, waiting)(*arguments))
        while not client.link._role.depth:  # until it reads
            threading.Event().wait(0.001)
        getattr(client, how)()
        if waiting == "wait":
            kind = errors.AssociationAborted if how == "close" else errors.LinkClosed
            with pytest.raises(kind):
                done()
        else:
            assert not done()
        assert client.events == [("close", SUCCESS)]
        assert not client.is_connected()


@pytest.mark.parametrize("how", ["close", "close_forced", "send_abort"])
@pytest.mark.parametrize("threaded", [False, True], ids=["alone", "with a reader"])
def test_close_while_another_thread_is_stuck_in_a_write(how, threaded, monkeypatch):
    """An abort cannot get past half a PDU: after a moment the connection is closed without it."""
    monkeypatch.setattr("dicomnet.link.link.ABORT_WAIT", 0.1)
    stuck, done = event(), event()

    def play(peer):
        peer.accept()
        peer.take(100)
        stuck.set()
        done.wait()

    client = Client()
    with played(play, buffer=16384) as port, associated(port, client):
        thread = client.start() if threaded else None
        sending = in_thread(lambda: client.store(data_set()))
        stuck.wait()
        getattr(client, how)()
        kind = errors.LinkClosed if how == "close_forced" else errors.AssociationAborted
        with pytest.raises(kind) as caught:
            sending()
        assert getattr(caught.value, "by", "us") == "us"
        if thread:
            thread.join(LONG)
        client.close()
        assert client.events == [("close", SUCCESS)]
        done.set()


def test_close_while_another_thread_waits_for_a_slot_of_the_window():
    def play(peer):
        peer.accept()
        peer.until(4)
        peer.until(7)

    with played(play) as port, associated(port) as client:
        client.send_c_echo_request(1, 1, VERIFICATION)
        waiting = in_thread(lambda: client.send_c_echo_request(1, 2, VERIFICATION))
        while not client.link._role.depth:
            threading.Event().wait(0.001)
        client.close()
        with pytest.raises(errors.AssociationAborted):
            waiting()


def test_close_while_a_callback_of_another_thread_runs():
    inside, leave = event(), event()

    class Slow(Client):
        def on_receive_c_echo_response(self, *arguments):
            super().on_receive_c_echo_response(*arguments)
            inside.set()
            leave.wait()

    with serving() as server, associated(server.host_port, Slow()) as client:
        client.send_c_echo_request(1, 1, VERIFICATION)
        receiving = in_thread(lambda: client.receive(LONG))
        inside.wait()
        client.close_forced()
        assert client.events == [("echo", 1, 0)]  # on_close comes last
        leave.set()
        receiving()
        assert client.events == [("echo", 1, 0), ("close", SUCCESS)]
        assert not client.is_connected()


@pytest.mark.parametrize("how", ["close", "close_forced"])
def test_a_callback_that_meets_the_close_of_another_thread_is_no_failure(how, caplog, monkeypatch):
    """What it calls raises, as it must; but the link was closed because somebody wanted that."""
    monkeypatch.setattr("dicomnet.link.link.LINGER", 0.05)
    inside, leave = event(), event()

    class Asking(Client):
        def on_receive_c_echo_response(self, *arguments):
            super().on_receive_c_echo_response(*arguments)
            inside.set()
            leave.wait()
            self.send_c_echo_request(1, 2, VERIFICATION)

    with serving() as server, associated(server.host_port, Asking()) as client:
        client.send_c_echo_request(1, 1, VERIFICATION)
        running = in_thread(client.run)
        inside.wait()
        getattr(client, how)()
        leave.set()
        running()
        assert client.events == [("echo", 1, 0), ("close", SUCCESS)]
    assert caplog.text == ""


def test_a_request_that_cannot_be_answered_any_more_is_no_failure_of_its_callback(caplog):
    inside, leave = event(), event()

    class Slow(Storage):
        def on_receive_c_echo_request(self, presentation_id, message_id, affected_class):
            inside.set()
            leave.wait()
            self.send_c_echo_response(presentation_id, message_id, affected_class, 0)

    with serving(Slow) as server, associated(server.host_port) as client:
        client.send_c_echo_request(1, 1, VERIFICATION)
        inside.wait()
        server.links.get(timeout=LONG).send_abort()
        leave.set()
        assert server.closed.get(timeout=LONG)[0] is SUCCESS
    assert caplog.text == ""


def test_release_from_another_thread_than_the_reader():
    def play(peer):
        peer.accept()
        assert peer.pdu()[0] == 5
        peer.send(RELEASE_RP)

    with played(play) as port, associated(port) as client:
        thread = client.start()
        client.release()
        thread.join(LONG)
        assert client.events == [("close", SUCCESS)]


def test_the_object_can_be_used_again_right_after_close_whatever_thread_read():
    with serving() as server:
        client = Client()
        for _ in range(10):
            associate(connected(client, server.host_port))
            client.start()
            assert client.echo() == 0
            client.close()
            assert client.names() == ["echo", "close"]
            client.events.clear()


def test_many_threads_send_and_wait_and_one_closes():
    """Whatever they were doing, they all end, with a reason, and on_close comes once."""
    rounds = itertools.count()
    with serving() as server:
        for _ in range(10):
            client = associate(connected(Client(), server.host_port))
            next(rounds)

            def go(client=client):
                while True:
                    client.echo()

            threads = [in_thread(go) for _ in range(4)]
            assert client.wait(lambda client=client: client.names().count("echo") > 5, LONG)
            client.close()
            for thread in threads:
                with pytest.raises(errors.DicomException):
                    thread()
            assert client.names().count("close") == 1
            assert client.names()[-1] == "close"


def test_next_message_id_is_unique_across_threads():
    with serving() as server, associated(server.host_port) as client:
        together = threading.Barrier(4)

        def go():
            together.wait(LONG)
            return [client.next_message_id() for _ in range(500)]

        ids = [number for done in [in_thread(go) for _ in range(4)] for number in done()]
        assert len(set(ids)) == 2000


def test_links_of_one_process_do_not_get_in_each_others_way():
    """Scenario 4: a program that is server and client at once, and waits for the one in the other."""
    with serving() as inner:

        class Forwarding(Storage):
            def on_receive_c_echo_request(self, presentation_id, message_id, affected_class):
                with associated(inner.host_port) as further:
                    status = further.echo()
                self.send_c_echo_response(presentation_id, message_id, affected_class, status)

        with serving(Forwarding) as server, associated(server.host_port) as client:
            assert [client.echo() for _ in range(5)] == [0] * 5


def test_an_association_may_come_up_while_another_thread_waits_for_it():
    """The answer comes in one piece with the first message (go-netdicom, dicom-rs 589)."""

    def play(peer):
        assert peer.pdu()[0] == 1
        peer.send(AC + response(0x8030, 77) + response(0x8030, 78))
        peer.at_end()

    with played(play) as port:
        client = connected(Client(), port)
        client.start()
        client.send_associate_request(proposal())
        assert client.wait(client.is_associated, LONG)
        client.close()


def test_raw_peers_that_come_and_go_while_the_server_closes():
    for _ in range(5):
        with serving() as server:
            stop = event()

            def go(server=server, stop=stop):
                while not stop.is_set():
                    try:
                        with raw_client(server.host_port) as peer:
                            peer.request()
                    except (OSError, AssertionError):
                        return

            comers = [in_thread(go) for _ in range(3)]
            server.links.get(timeout=LONG)
            server.close()
            stop.set()
            for comer in comers:
                comer()
