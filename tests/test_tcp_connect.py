"""Connecting: names, addresses, silence, refusal, cancellation; one deadline for all of it."""

from __future__ import annotations

import errno
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from dicomnet import errors
from dicomnet.enums import DicomExceptionCode, DicomNetIpTypeFlags
from dicomnet.transport import connect
from dicomnet.transport.accept import Acceptor, listen_tcp
from dicomnet.transport.connect import ConnectAttempt, connect_tcp
from dicomnet.transport.deadline import NEVER, Deadline
from dicomnet.transport.waiting import WRITE, wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.usefixtures("leak_check")

PATIENCE = 60
SOON = 0.02
LOOPBACK = "127.0.0.1"
needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 on this machine")


@pytest.fixture
def listening() -> Iterator[tuple[str, int]]:
    sock = listen_tcp(LOOPBACK, 0, 5)
    yield sock.getsockname()
    sock.close()


@pytest.fixture
def unused() -> Iterator[int]:
    """A port that nothing listens on, kept from everybody else."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((LOOPBACK, 0))
        yield sock.getsockname()[1]


@pytest.fixture
def silent() -> Iterator[tuple[str, int]]:
    """An address that answers nothing: with its backlog full, Linux drops what else comes."""
    sockets = [listen_tcp(LOOPBACK, 0, 0)]
    address = sockets[0].getsockname()
    while True:
        sock = socket.socket()
        sockets.append(sock)
        sock.setblocking(False)
        sock.connect_ex(address)
        try:
            wait(Deadline.after(0.1), (sock.fileno(), WRITE))
        except TimeoutError:
            break
    yield address
    for sock in sockets:
        sock.close()


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    began = threading.Event()

    def telling(deadline: Deadline, *interests: tuple[int, int]) -> dict[int, int]:
        began.set()
        return wait(deadline, *interests)

    monkeypatch.setattr(connect, "wait", telling)
    return began


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[], list[tuple[str, int]]]]:
    """Names and what looking them up does, beside those that the system knows."""
    table: dict[str, Callable[[], list[tuple[str, int]]]] = {}
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, family: int, kind: int, protocol: int, flags: int) -> list[Any]:
        if host not in table or flags:
            return real(host, port, family, kind, protocol, flags)
        return [entry for name, at in table[host]() for entry in real(name, at, family, kind, protocol)]

    monkeypatch.setattr(connect.socket, "getaddrinfo", getaddrinfo)
    return table


def test_connects_and_carries_bytes(listening: tuple[str, int]) -> None:
    stream = connect_tcp(*listening, deadline=Deadline.after(PATIENCE))
    assert stream.peer_address == listening
    assert stream._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    stream.write([b"x"], NEVER)
    stream.kill()


@pytest.mark.parametrize("ip_type", list(DicomNetIpTypeFlags))
def test_takes_the_family_asked_for(ip_type: DicomNetIpTypeFlags) -> None:
    if ip_type & DicomNetIpTypeFlags.IPV6 and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 on this machine")
    host = "::1" if ip_type == DicomNetIpTypeFlags.IPV6 else LOOPBACK
    sock = listen_tcp(host, 0, 5, ip_type)
    stream = connect_tcp(host, sock.getsockname()[1], deadline=NEVER, ip_type=ip_type)
    assert stream.peer_address == (host, sock.getsockname()[1])
    assert stream.peer.startswith("[::1]:" if host == "::1" else "127.0.0.1:")
    stream.kill()
    sock.close()


def test_a_name_with_several_addresses_is_tried_to_the_end(
    listening: tuple[str, int], unused: int, names: dict[str, Callable[[], list[tuple[str, int]]]]
) -> None:
    names["pacs"] = lambda: [(LOOPBACK, unused), ("127.0.0.2", unused), listening]
    stream = connect_tcp("pacs", listening[1], deadline=NEVER)
    assert stream.peer_address == listening
    stream.kill()


def test_a_silent_address_does_not_use_up_the_time_of_the_next(
    listening: tuple[str, int], silent: tuple[str, int], names: dict[str, Callable[[], list[tuple[str, int]]]]
) -> None:
    names["pacs"] = lambda: [silent, listening]
    stream = connect_tcp("pacs", 104, deadline=Deadline.after(1))
    assert stream.peer_address == listening
    stream.kill()


def test_localhost_is_looked_up_and_found(listening: tuple[str, int]) -> None:
    stream = connect_tcp("localhost", listening[1], deadline=Deadline.after(PATIENCE))
    assert stream.peer_address == listening
    stream.kill()


def test_refused(unused: int) -> None:
    with pytest.raises(
        errors.ConnectionRefused, match=rf"127\.0\.0\.1:{unused}.*Nothing listens there"
    ) as caught:
        connect_tcp(LOOPBACK, unused, deadline=NEVER)
    assert (caught.value.code, caught.value.errno) == (
        DicomExceptionCode.NET_CONNECTION_REFUSED,
        errno.ECONNREFUSED,
    )
    assert (caught.value.peer, caught.value.state) == (f"127.0.0.1:{unused}", "connecting")


def test_silence_ends_at_the_deadline(silent: tuple[str, int]) -> None:
    with pytest.raises(errors.ConnectTimeout, match=r"no answer.*firewall") as caught:
        connect_tcp(*silent, deadline=Deadline.after(SOON))
    assert caught.value.limit == SOON
    assert caught.value.elapsed >= SOON


def test_the_message_has_every_address_and_the_kind_that_says_most(
    silent: tuple[str, int], unused: int, names: dict[str, Callable[[], list[tuple[str, int]]]]
) -> None:
    names["pacs"] = lambda: [(LOOPBACK, unused), silent]
    with pytest.raises(errors.ConnectTimeout) as caught:
        connect_tcp("pacs", 104, deadline=Deadline.after(0.4))
    text = str(caught.value)
    assert "pacs:104" in text
    assert f"127.0.0.1:{unused}: Connection refused" in text
    assert f"127.0.0.1:{silent[1]}: no answer" in text


def test_a_machine_that_cannot_be_reached() -> None:
    with pytest.raises(errors.NetworkError) as caught:  # a broadcast address is refused by the system itself
        connect_tcp("255.255.255.255", 104, deadline=Deadline.after(PATIENCE))
    assert caught.value.errno in (errno.EACCES, errno.ENETUNREACH, errno.EHOSTUNREACH)
    assert caught.value.code in (
        DicomExceptionCode.NET_ACCESS,
        DicomExceptionCode.NET_UN_REACH,
        DicomExceptionCode.NET_HOST_UNREACHABLE,
    )


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["", "two..dots", "x" * 64 + ".example", "nul\0"])
def test_what_can_be_no_host_name(host: str) -> None:
    with pytest.raises(errors.HostNotFound) as caught:
        connect_tcp(host, 104, deadline=Deadline.after(PATIENCE))
    assert caught.value.code == DicomExceptionCode.NET_HOST_NOT_FOUND
    assert "\0" not in str(caught.value)


def test_an_unknown_name(names: dict[str, Callable[[], list[tuple[str, int]]]]) -> None:
    def unknown() -> list[tuple[str, int]]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    names["nowhere.invalid"] = unknown
    with pytest.raises(errors.HostNotFound, match=r"'nowhere\.invalid': Name or service not known"):
        connect_tcp("nowhere.invalid", 104, deadline=Deadline.after(PATIENCE))


@pytest.mark.parametrize(
    ("host", "ip_type"), [(LOOPBACK, DicomNetIpTypeFlags.IPV6), ("::1", DicomNetIpTypeFlags.IPV4)]
)
def test_an_address_of_the_other_family(host: str, ip_type: DicomNetIpTypeFlags) -> None:
    with pytest.raises(errors.HostNotFound, match="ip_type") as caught:
        connect_tcp(host, 104, deadline=Deadline.after(PATIENCE), ip_type=ip_type)
    assert caught.value.code == DicomExceptionCode.IPV4_IPV6_CONFLICT


def test_a_name_server_that_is_silent_is_under_the_deadline_too(
    names: dict[str, Callable[[], list[tuple[str, int]]]],
) -> None:
    answer = threading.Event()
    names["slow"] = lambda: [("127.0.0.1", 104)] * answer.wait(PATIENCE)
    with pytest.raises(errors.ConnectTimeout, match="looking up the name: no answer"):
        connect_tcp("slow", 104, deadline=Deadline.after(SOON))
    answer.set()  # the answer comes to nobody, and does no harm


# --- cancelling ----------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["look-up", "connecting"])
def test_cancelled_while_it_waits(
    silent: tuple[str, int],
    names: dict[str, Callable[[], list[tuple[str, int]]]],
    waiting: threading.Event,
    phase: str,
) -> None:
    answer = threading.Event()
    names["slow"] = lambda: [silent] * answer.wait(PATIENCE)
    attempt = ConnectAttempt("slow" if phase == "look-up" else LOOPBACK, silent[1])
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(attempt.run, NEVER)
        assert waiting.wait(PATIENCE)
        attempt.cancel()
        with pytest.raises(errors.LinkClosed, match="cancelled"):
            running.result()
    answer.set()


def test_cancelled_before_it_began(listening: tuple[str, int]) -> None:
    attempt = ConnectAttempt(*listening)
    attempt.cancel()
    with pytest.raises(errors.LinkClosed):
        attempt.run(NEVER)


def test_cancelling_is_too_late_once_there_is_a_stream(listening: tuple[str, int]) -> None:
    attempt = ConnectAttempt(*listening)
    stream = attempt.run(NEVER)
    attempt.cancel()
    stream.write([b"x"], NEVER)
    stream.kill()


# --- the local end -------------------------------------------------------------------------------


def test_a_local_port_can_be_used_again_at_once(unused: int) -> None:
    for _ in range(2):
        with listen_tcp(LOOPBACK, 0, 5) as sock:
            stream = connect_tcp(*sock.getsockname(), local=(LOOPBACK, unused), deadline=NEVER)
            assert stream.local_address == (LOOPBACK, unused)
            stream.kill()


def test_connects_from_an_address_only(listening: tuple[str, int]) -> None:
    stream = connect_tcp(*listening, local=("127.0.0.3", 0), deadline=NEVER)
    assert stream.local_address[0] == "127.0.0.3"
    stream.kill()


def test_a_local_address_that_is_not_ours(listening: tuple[str, int]) -> None:
    with pytest.raises(errors.NetworkError, match=r"cannot use the local address 192\.0\.2\.1:0") as caught:
        connect_tcp(*listening, local=("192.0.2.1", 0), deadline=NEVER)
    assert caught.value.code == DicomExceptionCode.NET_ADDRESS_NOT_AVAILABLE


def test_a_socket_that_would_connect_to_itself_is_refused(unused: int) -> None:
    with pytest.raises(errors.ConnectionRefused):
        connect_tcp(LOOPBACK, unused, local=(LOOPBACK, unused), deadline=NEVER)


def test_socket_options_are_set(listening: tuple[str, int]) -> None:
    stream = connect_tcp(*listening, deadline=NEVER, options=[(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)])
    assert stream._socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    stream.kill()


@pytest.mark.parametrize(("port", "local"), [(0, 0), (-1, 0), (65536, 0), (104, -1), (104, 65536)])
def test_numbers_that_are_no_ports(port: int, local: int) -> None:
    with pytest.raises(ValueError, match="port"):
        ConnectAttempt(LOOPBACK, port, local=(None, local))


@needs_ipv6
def test_an_ipv4_peer_of_a_dual_stack_listener_has_its_ipv4_address() -> None:
    acceptor = Acceptor(listen_tcp("*", 0, 5))
    for host in (LOOPBACK, "::1"):
        stream = connect_tcp(host, acceptor.address[1], deadline=Deadline.after(PATIENCE))
        accepted = acceptor.accept(Deadline.after(PATIENCE))
        assert accepted is not None
        server = connect.TcpStream(accepted)
        assert (server.peer_address, server.local_address) == (stream.local_address, stream.peer_address)
        assert server.peer_address[0] == host
        stream.kill()
        server.kill()
    acceptor.close()
