"""Every time-out ends in its own exception, within its limit, and frees the socket.

The limits are short; the upper bounds are generous, since the machine may be busy.
"""

from __future__ import annotations

import socket
import threading
from dataclasses import replace
from struct import pack
from time import monotonic

import pytest
from dialogue import AC, CT, ECHO_PDU, EXPLICIT, IMPLICIT, RQ, VERIFICATION, abort, element, p_data, pdv
from net_ends import (
    LONG,
    PATIENT,
    Client,
    Storage,
    associate,
    associated,
    connected,
    event,
    in_thread,
    played,
    raw_client,
    reset,
    response,
    serving,
)

from dicomnet import DicomDataSet, Limits, Timeouts, errors
from dicomnet.enums import DicomExceptionCode
from dicomnet.link import watch

pytestmark = pytest.mark.usefixtures("leak_check")

SHORT = 0.2
AT_MOST = 5.0  # none of the limits that are not meant is shorter than 10 s
TIMEOUT = DicomExceptionCode.NET_TIMEOUT


def limits(**some: float) -> Timeouts:
    return replace(PATIENT, **{"response": LONG, "reply": LONG, "release": LONG, "idle": LONG, **some})


class Timed:
    """Measures a block, which must take as long as the limit and not much longer."""

    def __enter__(self):
        self.began = monotonic()
        return self

    def __exit__(self, *_):
        spent = monotonic() - self.began
        assert spent + 0.01 >= SHORT, spent
        assert spent < AT_MOST, spent


def check(error: errors.TimeoutExpired, port: int = 0, limit: float = SHORT) -> None:
    assert error.limit == limit
    assert error.elapsed >= limit
    assert isinstance(error, TimeoutError)
    assert error.code is TIMEOUT
    assert error.peer == f"127.0.0.1:{port}" or not port
    assert error.state.startswith("Sta")


# --- as a client -------------------------------------------------------------------------------------


def test_association():
    def play(peer):
        assert peer.pdu()[0] == 1
        peer.send(AC[:30])
        assert peer.pdu() == (7, bytes(4))

    client = Client(timeouts=limits(association=SHORT))
    with played(play) as port:
        connected(client, port)
        with Timed(), pytest.raises(errors.AssociationTimeout, match=r"Timeouts\.association") as caught:
            associate(client)
        check(caught.value, port)
        assert client.events == [("close", TIMEOUT)]


@pytest.mark.parametrize("threaded", [False, True], ids=["alone", "with a reader"])
def test_response(threaded):
    """With a reader: it was waiting already when the request was sent, and has to learn of the limit."""

    def play(peer):
        peer.accept()
        assert peer.pdu()[0] == 4
        assert peer.pdu() == (7, bytes(4))

    client = Client(timeouts=limits(response=SHORT))
    with played(play) as port, associated(port, client):
        thread = client.start() if threaded else None
        with Timed(), pytest.raises(errors.ResponseTimeout, match=r"Timeouts\.response") as caught:
            client.echo()
        check(caught.value, port)
        if thread:
            thread.join(LONG)
        assert client.events == [("close", TIMEOUT)]


def test_response_counts_from_one_pending_response_to_the_next_for_each_operation():
    def pending(status: int) -> bytes:
        body = element(0x0100, pack("<H", 0x8020)) + element(0x0120, pack("<H", 1))
        body += element(0x0800, pack("<H", 1)) + element(0x0900, pack("<H", status))
        return p_data(pdv(element(0, pack("<I", len(body))) + body, 3, 3), pdv(b"", 2, 3))

    answered = event()

    def play(peer):
        peer.accept()
        while peer.pdu()[1][5] != 2:
            pass
        for _ in range(6):  # together longer than the limit, none of them for itself
            peer.send(pending(0xFF00), ECHO_PDU)
            threading.Event().wait(SHORT / 3)
        answered.set()
        for _ in range(200):  # other traffic is no sign of life of this operation
            try:
                peer.send(ECHO_PDU)
            except ConnectionError:
                return
            threading.Event().wait(SHORT / 3)

    found = []

    class Finding(Client):
        def on_receive_c_find_response(self, *arguments):
            found.append(int(arguments[3]))
            assert not answered.is_set()

    client = Finding(timeouts=limits(response=SHORT))
    with played(play) as port, associated(port, client):
        client.send_c_find_request(3, 1, CT, 0, DicomDataSet(b"\x10\0\x20\0LO\4\0ABCD", EXPLICIT))
        with Timed(), pytest.raises(errors.ResponseTimeout):
            client.wait(lambda: False, LONG)
        client.close()
    assert found == [0xFF00] * 6


def test_the_time_that_sending_takes_is_not_waiting_for_the_response():
    """A large file with a very short limit on the response succeeds, with a thread that reads beside it."""
    body = bytes(24_000_000)

    def play(peer):
        peer.accept()
        while peer.pdu()[1][5] != 2:
            threading.Event().wait(0.006)  # 190 PDUs: longer than the limit
        peer.send(response(0x8001, 1, context=3))
        peer.at_end()

    client = Client(timeouts=limits(response=3 * SHORT), limits=Limits(max_pdu_send=131072))
    client.socket_options.send_buffer_size = 65536
    with played(play, buffer=65536) as port, associated(port, client):
        client.link.core.send_length = 131072
        client.start()
        began = monotonic()
        assert client.status_of(client.store(DicomDataSet(body, EXPLICIT))) == 0
        assert monotonic() - began > 3 * SHORT


def test_release():
    def play(peer):
        peer.accept()
        assert peer.pdu()[0] == 5
        assert peer.pdu() == (7, bytes(4))

    client = Client(timeouts=limits(release=SHORT))
    with played(play) as port, associated(port, client):
        with Timed(), pytest.raises(errors.ReleaseTimeout, match=r"Timeouts\.release") as caught:
            client.release()
        check(caught.value, port)


def test_idle_only_where_it_is_asked_for():
    def play(peer):
        peer.accept()
        assert peer.pdu() == (7, bytes(4))

    client = Client(timeouts=limits(idle=SHORT))
    with played(play) as port, associated(port, client):
        with Timed(), pytest.raises(errors.IdleTimeout, match=r"Timeouts\.idle") as caught:
            client.run()
        check(caught.value, port)


@pytest.mark.parametrize("threaded", [False, True], ids=["alone", "with a reader"])
def test_T5_write(threaded):
    """The peer accepts a large C-STORE and stops reading: closed, without waiting for an A-ABORT to drain."""
    stopped = event()

    def play(peer):
        peer.accept()
        stopped.wait()

    client = Client(timeouts=limits(write=SHORT))
    with played(play, buffer=65536) as port, associated(port, client):
        thread = client.start() if threaded else None
        with Timed(), pytest.raises(errors.WriteTimeout, match="stopped reading") as caught:
            client.store(DicomDataSet(bytes(64_000_000), EXPLICIT))
        check(caught.value, port)
        if thread:
            thread.join(LONG)
        assert client.events == [("close", TIMEOUT)]
        assert not client.is_connected()
        with pytest.raises(errors.WriteTimeout):
            client.send_c_echo_request(1, 9, VERIFICATION)
        stopped.set()


def test_write_that_is_too_slow_fails_too():
    """The peer reads, but less than `Limits.minimum_rate`: no single stall is as long as the limit."""
    done = event()

    def play(peer):
        peer.accept()
        for _ in range(1000):
            peer.take(8000)
            if threading.Event.wait(done, SHORT / 10):
                return

    client = Client(timeouts=limits(write=SHORT), limits=Limits(minimum_rate=1_000_000))
    client.socket_options.send_buffer_size = 16384
    with played(play, buffer=4096) as port, associated(port, client):
        with Timed(), pytest.raises(errors.WriteTimeout):
            client.store(DicomDataSet(bytes(64_000_000), EXPLICIT))
        done.set()


def test_a_limit_of_none_is_none():
    timeouts = Timeouts(None, None, None, None, None, None, None, None, None, None)
    with serving(lambda: Storage(timeouts=timeouts)) as server:
        client = Client(timeouts=timeouts)
        with associated(server.host_port, client):
            assert client.echo() == 0
            assert client.status_of(client.store(DicomDataSet(bytes(1_000_000), EXPLICIT))) == 0
            assert not client.receive(0.01)
            client.release()


def test_a_wait_has_its_own_deadline_and_leaves_the_link_alone():
    with serving() as server, associated(server.host_port) as client:
        with Timed():
            assert not client.wait(lambda: False, SHORT)
        with Timed():
            assert not client.receive(SHORT)
        with Timed():
            assert not client.wait(threading.Event(), SHORT)
        client.start()
        with Timed():
            assert not client.wait(lambda: False, SHORT)
        assert client.echo() == 0


# --- the peer falls silent within something -----------------------------------------------------------


def store_pdus(size: int = 100_000) -> bytes:
    """A C-STORE request, and a part of its data set."""
    body = element(0x0002, CT.encode() + b"\0") + element(0x0100, pack("<H", 1))
    body += element(0x0110, pack("<H", 1)) + element(0x0700, pack("<H", 0))
    body += element(0x0800, pack("<H", 1)) + element(0x1000, b"1.2.3.4\0")
    command = p_data(pdv(element(0, pack("<I", len(body))) + body, 3, 3))
    return command + p_data(pdv(bytes(size), 0, 3))


PARTS = {
    "a header": ECHO_PDU[:3],
    "a PDU": ECHO_PDU[:-1],
    "a command": p_data(pdv(b"\0\0\0\0\4\0\0\0", 1, 1)),
    "a data set": store_pdus(),
    "a PDU of a data set": store_pdus()[:-100],
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("how", ["serving", "wait"])
def test_T4_silence_within(part, how, tmp_path):
    """`wait` looks every fifth of a second whether its predicate holds; the limit must not begin anew."""
    timeouts = limits(read=3 * SHORT)
    with serving(lambda: Storage(str(tmp_path), timeouts=timeouts, limits=Limits(memory=1000))) as server:
        if how == "serving":
            with raw_client(server.host_port) as peer:
                peer.request()
                began = monotonic()
                peer.send(PARTS[part])
                assert peer.pdu() == (7, bytes([0, 0, 2, 0]))
                assert 3 * SHORT <= monotonic() - began + 0.01 < AT_MOST
                assert peer.at_end()
            assert server.closed.get(timeout=LONG)[0] is TIMEOUT
            assert list(tmp_path.iterdir()) == []
            return

    def play(peer):
        peer.accept()
        peer.send(PARTS[part])
        assert peer.pdu() == (7, bytes([0, 0, 2, 0]))

    client = Client(timeouts=timeouts)
    with played(play) as port, associated(port, client):
        with Timed(), pytest.raises(errors.ReadTimeout, match=r"Timeouts\.read") as caught:
            client.wait(lambda: False, LONG)
        check(caught.value, port, 3 * SHORT)


@pytest.mark.parametrize("rate", [20, 0], ids=["trickle", "fragments of nothing"])
def test_a_trickle_is_ended_by_the_minimum_rate(rate):
    """One byte every 50 ms is never silence for as long as the limit, and would hold the link for hours."""
    with serving(lambda: Storage(timeouts=limits(read=2 * SHORT))) as server:
        with raw_client(server.host_port) as peer:
            peer.request().send(store_pdus(1000)[: None if not rate else -900])
            began = monotonic()
            with pytest.raises(ConnectionError):  # noqa: PT012
                while monotonic() - began < AT_MOST:
                    peer.send(b"\0" if rate else p_data(pdv(b"", 0, 3)))
                    threading.Event().wait(0.05)
            assert 2 * SHORT <= monotonic() - began + 0.01 < AT_MOST
        assert server.closed.get(timeout=LONG)[0] is TIMEOUT


def test_a_slow_peer_above_the_minimum_rate_is_served_to_the_end():
    timeouts = limits(read=SHORT)
    with serving(lambda: Storage(timeouts=timeouts)) as server, raw_client(server.host_port) as peer:
        peer.request()
        pdus = store_pdus(20_000) + p_data(pdv(b"", 2, 3))
        for at in range(0, len(pdus), 1000):
            peer.send(pdus[at : at + 1000])
            threading.Event().wait(0.04)
        assert peer.pdu()[0] == 4
        assert server.links.get(timeout=LONG).stored == [bytes(20_000)]


def test_the_time_that_the_application_takes_is_not_the_peers():
    """Between two calls nobody reads: that is no silence."""
    sent, go = event(), event()

    def play(peer):
        peer.accept()
        peer.send(response(0x8030)[:10])
        sent.set()
        go.wait()
        peer.send(response(0x8030)[10:])
        peer.at_end()

    client = Client(timeouts=limits(read=SHORT))
    with played(play) as port, associated(port, client):
        sent.wait()
        assert not client.receive(SHORT / 4)
        threading.Event().wait(2 * SHORT)  # the application does something else
        assert not client.receive(SHORT / 4)
        go.set()
        assert client.receive(LONG)


# --- as a server -------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [b"", RQ[:3], RQ[:-1]], ids=["nothing", "half a header", "half a request"])
def test_T05_T1_artim_closes_a_silent_connection_without_a_word(first):
    with serving(lambda: Storage(timeouts=limits(artim=SHORT))) as server:
        with raw_client(server.host_port) as peer, Timed():
            peer.send(first)
            assert peer.take(1) == b""
        error, link, _ = server.closed.get(timeout=LONG)
        assert error is TIMEOUT
        assert isinstance(link.link.error, errors.AssociationTimeout)
        check(link.link.error)


def test_T3_a_trickle_does_not_prolong_artim():
    with serving(lambda: Storage(timeouts=limits(artim=SHORT))) as server:
        with raw_client(server.host_port) as peer:
            began = monotonic()
            with pytest.raises(ConnectionError):  # noqa: PT012
                for at in range(len(RQ)):
                    peer.send(RQ[at : at + 1])
                    threading.Event().wait(0.05)
            assert monotonic() - began < AT_MOST
        assert server.closed.get(timeout=LONG)[0] is TIMEOUT


def refused(peer):
    peer.send(RQ.replace(CT.encode(), b"1.2.840.10008.5.1.4.1.1.3").replace(VERIFICATION.encode(), b"9" * 17))
    assert peer.pdu()[0] == 3


def released(peer):
    peer.request().send(b"\5\0\0\0\0\4\0\0\0\0")
    assert peer.pdu()[0] == 6


def faulty(peer):
    peer.request().send(RQ)
    assert peer.pdu()[0] == 7


def aborted(peer):
    peer.send(AC)
    assert peer.pdu()[0] == 7


@pytest.mark.parametrize("play", [refused, released, faulty, aborted])
@pytest.mark.parametrize("flooding", [False, True], ids=["silent", "flooding"])
def test_T06_a_peer_that_does_not_close_is_closed_when_artim_expires(play, flooding, monkeypatch):
    """Sta13, after our A-ASSOCIATE-RJ, A-RELEASE-RP, A-ABORT (AA-8 and AA-1); what it sends is dropped."""
    monkeypatch.setattr("dicomnet.link.link.LINGER", 0.05)
    with serving(lambda: Storage(timeouts=limits(artim=SHORT))) as server:
        with raw_client(server.host_port) as peer, Timed():
            play(peer)
            if flooding:
                with pytest.raises(ConnectionError):  # noqa: PT012
                    while True:
                        peer.send(ECHO_PDU * 100)
            else:
                peer.at_end()
        error, link, _ = server.closed.get(timeout=LONG)
        assert (error is TIMEOUT) is False
        assert not link.is_connected()


def test_M03_in_sta13_a_request_is_answered_with_another_abort_and_an_abort_closes():
    with serving() as server, raw_client(server.host_port) as peer:
        faulty(peer)
        peer.send(ECHO_PDU, RQ)
        assert peer.pdu()[0] == 7
        peer.send(abort(0, 0))
        assert peer.at_end()


@pytest.mark.parametrize("owed", ["association", "echo", "release"])
def test_reply_our_own_handler_does_not_answer(owed):
    class Silent(Storage):
        def on_receive_associate_request(self, association):
            if owed != "association":
                answer = type(association)(False)
                answer.add_presentation_context(1, 0, VERIFICATION)
                answer.add_transfer(1, IMPLICIT)
                self.send_associate_accept(answer)

        def on_receive_c_echo_request(self, *arguments):
            pass

        def on_receive_release_request(self):
            pass

    with serving(lambda: Silent(timeouts=limits(reply=SHORT))) as server:
        client = connected(Client(), server.host_port)
        with Timed(), pytest.raises(errors.AssociationAborted) as caught:  # noqa: PT012
            associate(client)
            (client.release if owed == "release" else client.echo)()
        assert (caught.value.by, caught.value.source) == ("peer", 0)
        error, link, _ = server.closed.get(timeout=LONG)
        assert error is TIMEOUT
        assert isinstance(link.link.error, errors.ReplyTimeout)
        check(link.link.error)


def test_reply_counts_from_one_sign_of_progress_to_the_next():
    done = event()

    class Slow(Storage):
        def on_receive_c_find_request(self, presentation_id, message_id, affected_class, priority, data_set):
            identifier = DicomDataSet(data_set.encoded, EXPLICIT)

            def work():
                for _ in range(6):
                    threading.Event().wait(SHORT / 3)
                    self.send_c_find_response(presentation_id, message_id, affected_class, 0xFF00, identifier)
                done.wait()

            self.worker = in_thread(work)

    class Finding(Client):
        def on_receive_c_find_response(self, *arguments):
            self.events.append(int(arguments[3]))

    client = Finding()
    with serving(lambda: Slow(timeouts=limits(reply=SHORT))) as server, associated(server.host_port, client):
        client.send_c_find_request(3, 1, CT, 0, DicomDataSet(b"\x10\0\x20\0LO\4\0ABCD", EXPLICIT))
        with Timed(), pytest.raises(errors.AssociationAborted):
            client.run()
        assert client.events[:6] == [0xFF00] * 6
        done.set()
        link = server.closed.get(timeout=LONG)[1]
        link.worker()
        assert isinstance(link.link.error, errors.ReplyTimeout)


def test_the_time_that_sending_takes_is_neither_a_late_reply_nor_idleness():
    """A worker answers with a data set that takes longer than both limits, while the link's thread waits."""
    body = bytes(24_000_000)

    class Answering(Storage):
        def on_receive_c_find_request(self, presentation_id, message_id, affected_class, priority, data_set):
            answer = (presentation_id, message_id, affected_class, 0xFF00, DicomDataSet(body, EXPLICIT))
            self.worker = in_thread(lambda: self.send_c_find_response(*answer))

    def make() -> Answering:
        link = Answering(timeouts=limits(reply=3 * SHORT, idle=3 * SHORT))
        link.limits = Limits(max_pdu_send=131072)
        return link

    request = element(0x0002, CT.encode() + b"\0") + element(0x0100, pack("<H", 0x0020))
    request += element(0x0110, pack("<H", 1)) + element(0x0700, pack("<H", 0))
    request += element(0x0800, pack("<H", 1))
    request = p_data(pdv(element(0, pack("<I", len(request))) + request, 3, 3), pdv(b"", 2, 3))
    with serving(make) as server, raw_client(server.host_port) as peer:
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        peer.request().send(request)
        began = monotonic()
        size = 0
        while size < len(body):
            kind, found = peer.pdu()
            assert kind == 4
            size += (len(found) - 6) * (not found[5] & 1)
            threading.Event().wait(0.0007)  # 1500 PDUs: longer than the limits
        assert monotonic() - began > 3 * SHORT
        server.links.get(timeout=LONG).worker()


def test_idle_of_a_server(monkeypatch):
    assert watch.IDLE_ACCEPTOR == 600
    monkeypatch.setattr(watch, "IDLE_ACCEPTOR", SHORT)
    with serving(lambda: Storage(timeouts=replace(limits(), idle=None))) as server:
        with associated(server.host_port) as client, Timed(), pytest.raises(errors.AssociationAborted):
            client.run()
        error, link, _ = server.closed.get(timeout=LONG)
        assert error is TIMEOUT
        assert isinstance(link.link.error, errors.IdleTimeout)


def test_idle_counts_from_the_last_message():
    timeouts = limits(idle=2 * SHORT)
    with serving(lambda: Storage(timeouts=timeouts)) as server, associated(server.host_port) as client:
        for _ in range(6):
            assert client.echo() == 0
            threading.Event().wait(SHORT / 2)
        with pytest.raises(errors.AssociationAborted):
            client.run()


def test_infinity_is_never():
    timeouts = Timeouts(idle=float("inf"))
    with serving(lambda: Storage(timeouts=timeouts)) as server, associated(server.host_port) as client:
        link = server.links.get(timeout=LONG)
        assert link.link.watch.limit(sending=False).left == float("inf")
        client.release()


def test_a_peer_that_stops_reading_our_responses(monkeypatch):
    """The write of an acceptor's callback expires; the link ends with it, and others go on."""
    monkeypatch.setattr("dicomnet.link.link.LINGER", 0.05)

    class Talking(Storage):
        def on_receive_c_echo_request(self, presentation_id, message_id, affected_class):
            for number in range(1, 100):
                self.link.operations.clear()
                self.send_c_store_request(
                    3, number, CT, "1.2.3", 0, "", 0, DicomDataSet(bytes(4_000_000), EXPLICIT)
                )

    timeouts = limits(write=SHORT)
    with serving(lambda: Talking(timeouts=timeouts)) as server, raw_client(server.host_port) as peer, Timed():
        peer.request().send(ECHO_PDU)
        error, link, _ = server.closed.get(timeout=LONG)
        assert error is TIMEOUT
        assert isinstance(link.link.error, errors.WriteTimeout)
        reset(peer.sock)
