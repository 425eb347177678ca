"""`DicomNet` as a client: its life cycle, what goes out, and how it ends, against peers played by hand."""

from __future__ import annotations

import select
import socket
from struct import pack

import pytest
from dialogue import (
    AC,
    CT,
    EXPLICIT,
    IMPLICIT,
    RELEASE_RP,
    RELEASE_RQ,
    RJ,
    VERIFICATION,
    abort,
    element,
    p_data,
    pdv,
    short,
)
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
    reset,
    response,
    serving,
)

from dicomnet import DicomAssociate, DicomDataSet, DicomNet, Limits, errors
from dicomnet.enums import (
    DicomAssociateRejectReasonType,
    DicomExceptionCode,
    DicomNetIpTypeFlags,
    DicomNetSecurityMode,
)
from dicomnet.transport.tcp import TcpStream
from dicomnet.transport.waiting import WRITE

pytestmark = pytest.mark.usefixtures("leak_check")

SUCCESS = DicomExceptionCode.SUCCESS
ECHO_RSP, STORE_RSP = 0x8030, 0x8001
LARGE = bytes(range(256)) * 16384 * 16  # 64 MiB: more than two sockets hold


def data_set(data: bytes = b"\x08\0\x16\0UI\x08\x001.2.3.4\0") -> DicomDataSet:
    return DicomDataSet(data, EXPLICIT)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


# --- life cycle ------------------------------------------------------------------------------------


class Starting(Client):
    def on_connect(self, error):
        self.events.append(("connect", error, self.is_connected()))

    def on_secure_link_ready(self, error):
        self.events.append(("secure", error))


def test_connect_echo_store_release_and_once_more():
    with serving() as server:
        client = Starting()
        for _ in range(2):
            assert not client.is_activated()
            connected(client, server.host_port)
            assert client.events == [("connect", SUCCESS, True)]
            assert client.is_connected()
            assert not client.is_associated()
            assert (client.peer_address, client.peer_port) == ("127.0.0.1", server.host_port)
            link = server.links.get(timeout=LONG)
            assert (client.host_address, client.host_port) == (link.peer_address, link.peer_port)
            associate(client)
            assert client.association.get_transfer(3, 0) == EXPLICIT
            assert client.echo() == 0
            assert client.status_of(client.store(data_set())) == 0
            client.release()
            assert not client.is_connected()
            assert client.events[-1] == ("close", SUCCESS)
            assert client.names().count("close") == 1
            assert link.stored == [data_set().encoded]
            client.close()
            client.events.clear()


def test_refused_tells_the_callback_first_then_raises_and_the_object_can_be_used_again():
    client = Starting()
    with pytest.raises(errors.ConnectionRefused) as caught:
        connected(client, free_port())
    assert client.events == [("connect", DicomExceptionCode.NET_CONNECTION_REFUSED, False)]
    assert caught.value.code is DicomExceptionCode.NET_CONNECTION_REFUSED
    assert not client.is_activated()
    with serving() as server, associated(server.host_port, client):
        assert client.echo() == 0


def test_name_not_found():
    client = Starting()
    with pytest.raises(errors.HostNotFound):
        client.connect(None, 0, "no-such-host.invalid", 104)
    assert client.names() == ["connect"]


def test_leaving_the_block_releases_and_closes():
    def play(peer):
        peer.accept()
        assert peer.pdu()[0] == 5
        peer.send(RELEASE_RP)
        assert peer.at_end()

    with played(play) as port:
        with connected(Client(), port) as client:
            associate(client)
        assert client.events == [("close", SUCCESS)]
        assert not client.is_activated()


def test_an_exception_in_the_block_aborts():
    def play(peer):
        peer.accept()
        assert peer.pdu() == (7, bytes([0, 0, 0, 0]))
        assert peer.at_end()

    with played(play) as port, pytest.raises(KeyError), connected(Client(), port) as client:  # noqa: PT012
        associate(client)
        raise KeyError("mine")
    assert client.events == [("close", SUCCESS)]
    assert not client.is_activated()


def test_leaving_the_block_after_the_peer_has_gone_closes_and_raises():
    def play(peer):
        peer.accept()

    with played(play) as port:
        with pytest.raises(errors.ConnectionLost), connected(Client(), port) as client:
            associate(client)
        assert not client.is_activated()


def test_an_exception_in_on_connect_closes():
    class Raising(Client):
        def on_connect(self, error):
            raise KeyError("mine")

    client = Raising()
    with played(lambda peer: peer.at_end()) as port, pytest.raises(KeyError):
        connected(client, port)
    assert client.events == [("close", DicomExceptionCode.NET_CONNECTION_ABORTED)]
    assert not client.is_activated()


def test_the_association_can_be_made_inside_on_connect():
    class Eager(Client):
        def on_connect(self, error):
            associate(self)

    with serving() as server:
        client = Eager()
        connected(client, server.host_port)
        assert client.echo() == 0
        client.release()


def test_calls_without_a_link_and_a_second_connect_are_wrong():
    client = Client()
    for call in (
        client.send_release_request,
        client.receive,
        client.run,
        client.start,
        client.release,
        client.next_message_id,
        lambda: client.send_associate_request(proposal()),
        lambda: client.wait(lambda: True),
    ):
        with pytest.raises(errors.WrongStateError, match="connect"):
            call()
    with pytest.raises(errors.WrongStateError):
        client.get_client(0)
    assert client.get_client_count() == 0
    client.close()
    client.close_forced()
    client.dispose()
    with serving() as server:
        connected(client, server.host_port)
        with pytest.raises(errors.WrongStateError, match="already"):
            connected(client, server.host_port)
        with pytest.raises(errors.WrongStateError):
            client.listen("127.0.0.1", 0)
        with pytest.raises(errors.WrongStateError):
            client.initialize(mode=DicomNetSecurityMode.NONE)
        client.close()


def test_local_address_and_ip_type_are_used():
    with serving() as server:
        client = Client()
        client.connect("127.0.0.2", 0, "127.0.0.1", server.host_port, DicomNetIpTypeFlags.IPV4)
        assert server.links.get(timeout=LONG).peer_address == "127.0.0.2"
        assert client.ip_type is DicomNetIpTypeFlags.IPV4
        client.close()


def test_iscl_is_refused_by_name():
    with pytest.raises(errors.TlsConfigurationError, match="ISCL"):
        DicomNet(None, DicomNetSecurityMode.ISCL)


def test_close_ends_all_links_of_the_process():
    with serving() as server:
        client = associate(connected(Client(), server.host_port))
        DicomNet.shutdown()
        assert not client.is_connected()
        assert not server.is_activated()
    DicomNet.startup()


# --- association -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "transient"), [((1, 1, 7), False), ((1, 2, 2), False), ((2, 3, 2), True), ((9, 8, 7), False)]
)
def test_R01_R05_a_rejection_carries_its_numbers(numbers, transient):
    seen = []

    class Rejected(Client):
        def on_receive_associate_reject(self, result, source, reason):
            seen.append((int(result), int(source), int(reason), reason))

    def play(peer):
        assert peer.pdu()[0] == 1
        peer.send(short(3, *numbers))
        assert peer.at_end()

    client = Rejected()
    with played(play) as port:
        connected(client, port).send_associate_request(proposal())
        with pytest.raises(errors.AssociationRejected) as caught:
            client.wait(client.is_associated, LONG)
    error = caught.value
    assert (error.result, error.source, error.reason, error.transient) == (*numbers, transient)
    assert seen[0][:2] == numbers[:2]
    assert seen[0][2] & 0xFF == numbers[2]
    if numbers == (1, 1, 7):
        assert seen[0][3] == DicomAssociateRejectReasonType.CALLED
    assert client.events == [("close", DicomExceptionCode.NET_CONNECTION_REFUSED)]
    assert not client.run()
    assert not client.receive(0)


def test_an_event_set_in_the_callback_of_a_rejection_is_what_wait_waits_for():
    """As code does that was written for LEADTOOLS; on the link's own thread too."""
    for threaded in (False, True):
        done = event()

        class Rejected(Client):
            def on_receive_associate_reject(self, result, source, reason, done=done):
                done.set()

        def play(peer):
            assert peer.pdu()[0] == 1
            peer.send(RJ)
            assert peer.at_end()

        client = Rejected()
        with played(play) as port:
            connected(client, port)
            if threaded:
                client.start()
            client.send_associate_request(proposal())
            assert client.wait(done, LONG)
            client.close()


def test_T01_a_second_request_on_the_association_is_refused_here():
    with serving() as server, associated(server.host_port) as client:
        with pytest.raises(errors.LocalProtocolError):
            client.send_associate_request(proposal())
        assert client.echo() == 0


def test_A22_abort_while_the_answer_is_awaited():
    def play(peer):
        assert peer.pdu()[0] == 1
        assert peer.pdu() == (7, bytes(4))

    client = Client()
    with played(play) as port:
        connected(client, port).send_associate_request(proposal())
        client.send_abort()
        client.run()
    assert client.events == [("close", SUCCESS)]


def test_A19_all_contexts_refused_is_an_association_and_using_one_names_what_was_accepted():
    refusing = proposal({5: ("1.2.3", (IMPLICIT,)), 7: (VERIFICATION, (IMPLICIT,))})
    with serving() as server:
        client = associate(connected(Client(), server.host_port), refusing)
        with pytest.raises(errors.NoAcceptedContext, match=r"context 5 .* accepted are \[7\]"):
            client.send_c_echo_request(5, 1, VERIFICATION)
        client.send_c_echo_request(7, 1, VERIFICATION)
        assert client.wait(lambda: client.events, LONG)
        client.release()


def test_a_file_in_another_syntax_than_the_contexts_is_an_error_and_the_association_goes_on():
    with serving() as server, associated(server.host_port) as client:
        with pytest.raises(errors.DataSetError):
            client.store(DicomDataSet(b"\x08\0\x16\0\x08\0\0\x001.2.3.4\0", IMPLICIT))
        assert client.link.operations.outstanding == {}
        assert client.echo() == 0


def test_M05_nothing_can_be_sent_before_the_association():
    with played(lambda peer: peer.at_end()) as port:
        client = connected(Client(), port)
        with pytest.raises(errors.LocalProtocolError):
            client.send_c_echo_request(1, 1, VERIFICATION)
        with pytest.raises(errors.LocalProtocolError):
            client.send_release_request()
        with pytest.raises(errors.WrongStateError):
            client.send_associate_accept(DicomAssociate(False))
        client.close()


# --- messages --------------------------------------------------------------------------------------


def test_U07_a_second_request_waits_for_the_response_to_the_first():
    def play(peer):
        peer.accept()
        assert peer.pdu()[0] == 4
        peer.sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            peer.sock.recv(1)
        peer.sock.settimeout(LONG)
        peer.send(response(ECHO_RSP, 1))
        assert peer.pdu()[0] == 4
        peer.send(response(ECHO_RSP, 2, 0x0122))
        peer.at_end()

    with played(play) as port, associated(port) as client:
        client.send_c_echo_request(1, 1, VERIFICATION)
        client.send_c_echo_request(1, 2, VERIFICATION)
        assert client.events == [("echo", 1, 0)]
        assert client.wait(lambda: len(client.events) == 2, LONG)
        assert client.events[1] == ("echo", 2, 0x0122)


def test_a_negotiated_window_lets_several_requests_out():
    def play(peer):
        assert peer.pdu()[0] == 1
        # the accepted window: 3 invoked, 1 performed
        item = b"\x53\0\0\4\0\3\0\1"
        at = AC.index(b"\x50\0")
        size = int.from_bytes(AC[at + 2 : at + 4], "big") + len(item)
        body = AC[6 : at + 2] + size.to_bytes(2, "big") + AC[at + 4 :] + item
        peer.send(AC[:2] + pack(">I", len(body)) + body)
        for _ in range(3):
            assert peer.pdu()[0] == 4
        for number in (3, 1, 2):
            peer.send(response(ECHO_RSP, number))
        peer.at_end()

    request = proposal()
    request.set_asynchronous_operations(True, 3, 1)
    with played(play) as port:
        client = associate(connected(Client(), port), request)
        for number in (1, 2, 3):
            client.send_c_echo_request(1, number, VERIFICATION)
        assert client.events == []
        with pytest.raises(errors.LocalProtocolError, match="message id 2"):
            client.link.operations.invoke(2, None, 1)
        assert client.wait(lambda: len(client.events) == 3, LONG)
        assert [number for _, number, _ in client.events] == [3, 1, 2]
        client.close()


def test_C07_a_response_to_nothing_is_dropped_with_a_trace():
    seen = []

    def play(peer):
        peer.accept()
        assert peer.pdu()[0] == 4
        peer.send(response(ECHO_RSP, 99), response(STORE_RSP, 1), response(ECHO_RSP, 1))
        peer.at_end()

    with played(play) as port:
        client = Client(trace=lambda name, fields: seen.append((name, fields)))
        with associated(port, client):
            assert client.echo(1) == 0
            assert client.events == [("echo", 1, 0)]
    unknown = [fields["unknown_message_id"] for name, fields in seen if name == "response.warning"]
    assert unknown == [99, 1]
    assert all(fields["link"] and fields["peer"] for name, fields in seen if "link" in fields)


def test_C06_message_ids_are_those_of_no_outstanding_request():
    def play(peer):
        peer.accept()
        assert peer.pdu()[0] == 4
        peer.at_end()

    with played(play) as port, associated(port) as client:
        client.send_c_echo_request(1, 1, VERIFICATION)
        client.link.operations._last_id = 0xFFFF
        assert client.next_message_id() == 2


class Finding(Client):
    def on_receive_c_find_response(self, presentation_id, message_id, affected_class, status, data_set):
        self.events.append(("find", int(status), data_set and data_set.encoded))
        if len(self.events) == 1:
            self.send_c_cancel_request(presentation_id, message_id)


def pending(message_id: int, identifier: bytes) -> bytes:
    body = b"".join(
        (
            element(0x0100, pack("<H", 0x8020)),
            element(0x0120, pack("<H", message_id)),
            element(0x0800, pack("<H", 1)),
            element(0x0900, pack("<H", 0xFF00)),
        )
    )
    return p_data(pdv(element(0, pack("<I", len(body))) + body, 3, 3), pdv(identifier, 2, 3))


def test_F12_cancel_goes_out_while_the_operation_runs_and_not_after_it():
    match = b"\x10\0\x20\0LO\x04\0ABCD"

    def play(peer):
        peer.accept()
        while peer.pdu()[1][5] != 2:  # the last fragment of the identifier
            pass
        peer.send(pending(1, match))
        kind, body = peer.pdu()
        assert (kind, body[-2:]) == (4, b"\x01\x01")
        assert pack("<HHIH", 0, 0x0100, 2, 0x0FFF) in body
        assert pack("<HHIH", 0, 0x0120, 2, 1) in body
        peer.send(pending(1, match), response(0x8020, 1, 0xFE00, context=3))
        assert peer.pdu()[0] == 5
        peer.send(RELEASE_RP)

    with played(play) as port:
        client = associate(connected(Finding(), port))
        client.send_c_find_request(3, 1, CT, 0, data_set(match))
        with pytest.raises(errors.LocalProtocolError):
            client.send_c_cancel_request(1, 1)  # on another context
        assert client.wait(lambda: ("find", 0xFE00, None) in client.events, LONG)
        client.send_c_cancel_request(3, 1)
        client.release()
    assert [name for name in client.events if name[0] == "find"] == [
        ("find", 0xFF00, match),
        ("find", 0xFF00, match),
        ("find", 0xFE00, None),
    ]


def test_send_data_sends_a_command_set_made_by_hand():
    with serving() as server, associated(server.host_port) as client:
        body = element(0x0100, pack("<H", 0x0030)) + element(0x0110, pack("<H", 7))
        body += element(0x0800, pack("<H", 0x0101))
        client.send_data(
            1, DicomDataSet(element(0x0002, VERIFICATION.encode() + b"\0") + body, IMPLICIT), None
        )
        assert client.wait(lambda: client.events, LONG)
        assert client.events == [("echo", 7, 0)]
        with pytest.raises(errors.LocalProtocolError):
            client.send_data(1, DicomDataSet(b"\x08\0\x16\0\x08\0\0\x001.2.3.4\0", IMPLICIT), None)
        assert client.echo() == 0


def test_the_command_set_can_be_changed_before_it_is_sent():
    class Editing(Client):
        def on_before_send_command_set(self, command_set):
            if command_set.CommandField == 1:
                command_set.AffectedSOPInstanceUID = "1.2.3.99"

    instances = []

    class Naming(Storage):
        def on_receive_c_store_request(self, *arguments):
            instances.append(arguments[3])
            super().on_receive_c_store_request(*arguments)

    with serving(Naming) as server, associated(server.host_port, Editing()) as client:
        assert client.status_of(client.store(data_set())) == 0
        assert client.echo() == 0
    assert instances == ["1.2.3.99"]


def test_U06_max_length_of_the_peer_is_kept():
    def play(peer):
        peer.accept()  # announces 16384
        size = 0
        while size < 100_000:
            kind, body = peer.pdu()
            assert kind == 4
            assert len(body) <= 16384
            if not body[5] & 1:
                size += len(body) - 6
        peer.send(response(STORE_RSP, 1, context=3))
        peer.at_end()

    with played(play) as port, associated(port) as client:
        assert client.status_of(client.store(data_set(bytes(100_000)))) == 0


# --- the end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("threaded", [False, True], ids=["alone", "with a reader"])
def test_T4_the_peer_aborts_while_we_send(threaded):
    """It says why and hangs up with our data unread, which resets the connection."""

    def play(peer):
        peer.accept()
        assert peer.pdu()[0] == 4
        peer.send(abort(2, 6))
        reset(peer.sock)

    client = Client()
    with played(play) as port, associated(port, client):
        thread = client.start() if threaded else None
        with pytest.raises(errors.AssociationAborted) as caught:
            client.store(data_set(LARGE))
        assert (caught.value.by, caught.value.source, caught.value.reason) == ("peer", 2, 6)
        if thread:
            thread.join(LONG)
        assert client.events == [("abort", 2, 6), ("close", DicomExceptionCode.NET_CONNECTION_ABORTED)]
        assert not client.is_connected()
        with pytest.raises(errors.AssociationAborted):
            client.wait(lambda: False)


@pytest.mark.parametrize("threaded", [False, True], ids=["alone", "with a reader"])
def test_T4_the_peer_aborts_while_we_send_and_neither_reads_nor_closes(threaded, monkeypatch):
    """The sender is stuck until it learns of the abort, which somebody has to read."""
    stuck, over = event(), event()
    wait = TcpStream.wait

    def noting(stream, events, deadline):
        if events & WRITE:
            stuck.set()
        return wait(stream, events, deadline)

    monkeypatch.setattr(TcpStream, "wait", noting)

    def play(peer):
        peer.accept()
        stuck.wait()
        peer.send(abort(2, 6))
        over.wait()

    client = Client()
    client.socket_options.send_buffer_size = 16384  # less than one write: it cannot end
    with played(play, buffer=16384) as port, associated(port, client):
        thread = client.start() if threaded else None
        with pytest.raises(errors.AssociationAborted) as caught:
            client.store(data_set(LARGE))
        assert (caught.value.by, caught.value.source, caught.value.reason) == ("peer", 2, 6)
        over.set()
        if thread:
            thread.join(LONG)
        assert client.events == [("abort", 2, 6), ("close", DicomExceptionCode.NET_CONNECTION_ABORTED)]


@pytest.mark.parametrize("threaded", [False, True], ids=["alone", "with a reader"])
@pytest.mark.parametrize("how", ["reset", "end"])
def test_T4_the_peer_goes_while_we_send(how, threaded):
    def play(peer):
        peer.accept()
        assert peer.pdu()[0] == 4
        if how == "reset":
            reset(peer.sock)

    client = Client()
    with played(play) as port, associated(port, client):
        thread = client.start() if threaded else None
        with pytest.raises(errors.ConnectionLost) as caught:
            client.store(data_set(LARGE))
        assert caught.value.peer == f"127.0.0.1:{port}"
        assert caught.value.state.startswith("Sta6")
        if thread:
            thread.join(LONG)
        assert client.events == [("close", caught.value.code)]


def test_an_early_failure_response_is_seen_while_the_data_set_is_still_being_sent():
    """A peer whose disk is full says so at once, and reads on."""
    told = event()

    def play(peer):
        peer.accept()
        assert peer.pdu()[0] == 4
        peer.send(response(STORE_RSP, 1, 0xA700, context=3))
        told.wait()
        while peer.pdu()[1][5] != 2:
            pass
        peer.at_end()

    class Watching(Client):
        def on_receive_c_store_response(self, *arguments):
            super().on_receive_c_store_response(*arguments)
            told.set()

    with played(play) as port, associated(port, Watching()) as client:
        client.start()
        assert client.status_of(client.store(data_set(LARGE))) == 0xA700


@pytest.mark.parametrize("threaded", [False, True], ids=["alone", "with a reader"])
def test_a_file_that_becomes_shorter_while_it_is_sent_aborts(tmp_path, threaded):
    path = tmp_path / "large"
    path.write_bytes(LARGE)

    def play(peer):
        peer.accept()
        assert peer.pdu()[0] == 4
        path.write_bytes(LARGE[:1000])
        peer.until(7)
        assert peer.at_end()

    client = Client()
    with played(play) as port, associated(port, client):
        thread = client.start() if threaded else None
        with pytest.raises(errors.DataSetError, match="shorter") as caught:
            client.store(DicomDataSet(path, EXPLICIT))
        assert caught.value.path == str(path)
        if thread:
            thread.join(LONG)
        assert client.events == [("close", DicomExceptionCode.READ)]


def test_R09_release_collision_as_requestor():
    def play(peer):
        peer.accept()
        assert peer.pdu()[0] == 5
        peer.send(RELEASE_RQ)
        assert peer.pdu()[0] == 6
        peer.send(RELEASE_RP)
        assert peer.at_end()

    class Telling(Client):
        def on_receive_release_request(self):
            self.events.append(("release request",))
            self.send_release_response()

        def on_receive_release_response(self):
            self.events.append(("release response",))

    for client in (Client(), Telling()):
        with played(play) as port:
            associate(connected(client, port)).release()
        assert client.events[-1] == ("close", SUCCESS)
    assert client.names() == ["release request", "release response", "close"]


def test_R06_messages_that_come_after_our_release_request_are_still_delivered():
    def play(peer):
        peer.accept()
        assert peer.pdu()[0] == 4
        assert peer.pdu()[0] == 5
        peer.send(response(ECHO_RSP, 1), RELEASE_RP)

    with played(play) as port:
        client = associate(connected(Client(), port))
        client.send_c_echo_request(1, 1, VERIFICATION)
        client.release()
    assert client.events == [("echo", 1, 0), ("close", SUCCESS)]


def test_the_peer_aborts_instead_of_releasing():
    def play(peer):
        peer.accept()
        assert peer.pdu()[0] == 5
        peer.send(abort(0, 0))

    with played(play) as port:
        client = associate(connected(Client(), port))
        with pytest.raises(errors.AssociationAborted) as caught:
            client.release()
    assert (caught.value.by, caught.value.source) == ("peer", 0)
    assert client.events == [("abort", 0, 0), ("close", DicomExceptionCode.NET_CONNECTION_ABORTED)]


def test_send_abort_carries_source_and_reason_and_run_returns_when_the_peer_closes():
    def play(peer):
        peer.accept()
        assert peer.pdu() == (7, bytes([0, 0, 2, 5]))

    with played(play) as port:
        client = associate(connected(Client(), port))
        client.send_abort(2, 5)
        assert not client.is_associated()
        client.send_abort()
        with pytest.raises(errors.AssociationAborted):
            client.send_c_echo_request(1, 1, VERIFICATION)
        client.run()
    assert client.events == [("close", SUCCESS)]


def test_close_forced_sends_nothing():
    def play(peer):
        peer.accept()
        assert peer.take(1) == b""

    with played(play) as port:
        client = associate(connected(Client(), port))
        client.close_forced(True)
        assert client.events == [("close", SUCCESS)]
        with pytest.raises(errors.LinkClosed):
            client.send_c_echo_request(1, 1, VERIFICATION)


def test_close_forced_false_is_close():
    def play(peer):
        peer.accept()
        assert peer.pdu()[0] == 7

    with played(play) as port:
        associate(connected(Client(), port)).close_forced(False)


def test_receive_handles_one_thing_at_a_time_and_raises_what_ended_the_link():
    def play(peer):
        peer.accept()
        assert peer.pdu()[0] == 4
        peer.send(response(ECHO_RSP, 1))
        go.wait()

    go = event()
    with played(play) as port, associated(port) as client:
        client.send_c_echo_request(1, 1, VERIFICATION)
        assert client.receive(LONG)
        assert client.events == [("echo", 1, 0)]
        assert not client.receive(0.01)
        go.set()
        with pytest.raises(errors.ConnectionLost):
            client.receive(LONG)


def test_breathe_handles_the_links_that_this_thread_has_connected():
    with serving() as server, associated(server.host_port) as client:
        client.send_c_echo_request(1, 1, VERIFICATION)
        in_thread(DicomNet.breathe)()
        assert client.events == []
        assert select.select([client.link.stream], [], [], LONG)[0]
        DicomNet.breathe()
        assert client.events == [("echo", 1, 0)]
        assert client.is_associated()


def test_an_on_close_that_raises_is_logged_and_hides_nothing(caplog):
    class Raising(Client):
        def on_close(self, error, net):
            raise KeyError("in on_close")

    with played(lambda peer: peer.accept()) as port:
        client = associate(connected(Raising(), port))
        with pytest.raises(errors.ConnectionLost):
            client.run()
    assert "in on_close" in caplog.text


def test_L1_a_peer_that_announces_too_much_is_aborted_before_anything_is_allocated():
    def play(peer):
        peer.accept()
        peer.send(pack(">BBI", 4, 0, 0x7FFFFFFF) + bytes(100))
        assert peer.pdu() == (7, bytes([0, 0, 2, 6]))

    with played(play) as port:
        client = associate(connected(Client(limits=Limits(max_pdu=65536)), port))
        with pytest.raises(errors.LimitExceeded) as caught:
            client.run()
    assert (caught.value.limit, caught.value.allowed, caught.value.seen) == ("max_pdu", 65536, 0x7FFFFFFF)


@pytest.mark.parametrize(
    ("answer", "seen"), [(b"\x15\x03\x01\0\2\2\x46", "TLS"), (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP")]
)
def test_S15_a_port_that_speaks_something_else_is_named(answer, seen):
    def play(peer):
        assert peer.pdu()[0] == 1
        peer.send(answer)
        peer.at_end()

    with played(play) as port:
        client = connected(Client(), port)
        client.send_associate_request(proposal())
        with pytest.raises(errors.ProtocolMismatch, match=seen):
            client.wait(client.is_associated, LONG)
        assert client.events == [("close", DicomExceptionCode.NET_PROTOCOL_TYPE)]
