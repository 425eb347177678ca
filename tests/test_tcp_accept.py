"""The listening socket and the wait for connections, which any thread can end."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import dicomnet.errors as errors_module
from dicomnet import errors
from dicomnet.enums import DicomExceptionCode, DicomNetIpTypeFlags
from dicomnet.transport import accept
from dicomnet.transport.accept import Acceptor, listen_tcp
from dicomnet.transport.deadline import NEVER, Deadline
from dicomnet.transport.waiting import READ, wait

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("leak_check")

PATIENCE = 60
SOON = 0.02
needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 on this machine")


class Stubborn(socket.socket):
    """A listening socket whose `accept` first fails with the given numbers."""

    failures: list[int]
    accepts = 0

    def accept(self) -> Any:
        self.accepts += 1
        if self.failures:
            number = (
                self.failures[0] if len(self.failures) == 1 and self.failures[0] < 0 else self.failures.pop(0)
            )
            raise OSError(abs(number), os.strerror(abs(number)))
        return super().accept()


@pytest.fixture
def acceptor() -> Iterator[Acceptor]:
    acceptor = Acceptor(listen_tcp("127.0.0.1", 0, 10))
    yield acceptor
    acceptor.close()


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    began = threading.Event()

    def telling(deadline: Deadline, *interests: tuple[int, int]) -> dict[int, int]:
        began.set()
        return wait(deadline, *interests)

    monkeypatch.setattr(accept, "wait", telling)
    return began


def stubborn(*failures: int) -> Stubborn:
    sock = Stubborn()
    sock.failures = list(failures)
    sock.bind(("127.0.0.1", 0))
    sock.listen(5)
    return sock


# --- accepting -----------------------------------------------------------------------------------


def test_accepts_what_is_there_and_what_comes(acceptor: Acceptor, waiting: threading.Event) -> None:
    with ThreadPoolExecutor(1) as pool:
        accepting = pool.submit(acceptor.accept, NEVER)
        assert waiting.wait(PATIENCE)
        clients = [socket.create_connection(acceptor.address) for _ in range(3)]
        accepted = [accepting.result(), acceptor.accept(NEVER), acceptor.accept(NEVER)]
    assert {sock.getpeername() for sock in accepted if sock} == {sock.getsockname() for sock in clients}
    for sock in [*clients, *accepted]:
        assert sock
        sock.close()


def test_what_is_there_is_accepted_even_at_the_deadline(acceptor: Acceptor) -> None:
    assert acceptor.accept(Deadline.after(0)) is None
    with socket.create_connection(acceptor.address):
        wait(NEVER, (acceptor._listening.fileno(), READ))
        accepted = acceptor.accept(Deadline.after(0))
        assert accepted
        accepted.close()


def test_none_at_the_deadline(acceptor: Acceptor) -> None:
    assert acceptor.accept(Deadline.after(SOON)) is None
    assert not acceptor.closed


def test_woken_while_it_waits_and_usable_afterwards(acceptor: Acceptor, waiting: threading.Event) -> None:
    with ThreadPoolExecutor(1) as pool:
        accepting = pool.submit(acceptor.accept, NEVER)
        assert waiting.wait(PATIENCE)
        acceptor.wake()
        assert accepting.result() is None
    with socket.create_connection(acceptor.address):
        accepted = acceptor.accept(Deadline.after(PATIENCE))
        assert accepted
        accepted.close()


def test_a_wake_that_comes_early_is_kept_even_while_connections_flood_in(acceptor: Acceptor) -> None:
    acceptor.wake()
    with socket.create_connection(acceptor.address):
        wait(NEVER, (acceptor._listening.fileno(), READ))
        assert acceptor.accept(NEVER) is None
        accepted = acceptor.accept(NEVER)
        assert accepted
        accepted.close()


def test_closed_by_another_thread_while_it_waits(acceptor: Acceptor, waiting: threading.Event) -> None:
    with ThreadPoolExecutor(1) as pool:
        accepting = pool.submit(acceptor.accept, NEVER)
        assert waiting.wait(PATIENCE)
        acceptor.close()
        assert accepting.result() is None
    assert acceptor._listening.fileno() == -1
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(acceptor.address)


def test_closed_while_nobody_waits(acceptor: Acceptor) -> None:
    acceptor.close()
    assert acceptor._listening.fileno() == -1
    assert acceptor.closed
    assert acceptor.accept(NEVER) is None
    acceptor.wake()
    acceptor.close()


# --- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.ECONNRESET])
def test_a_connection_that_broke_in_the_backlog_is_passed_over(number: int) -> None:
    told: list[str] = []
    acceptor = Acceptor(stubborn(number, number), lambda event, fields: told.append(event))
    with socket.create_connection(acceptor.address):
        accepted = acceptor.accept(NEVER)
        assert accepted
        accepted.close()
    acceptor.close()
    assert told == []


@pytest.mark.parametrize(
    "number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EPERM, errno.EPROTO]
)
def test_a_shortage_is_waited_out_and_told_once(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accept, "PAUSE", 0.001)
    told: list[tuple[str, object]] = []
    listening = stubborn(number, number, number)
    acceptor = Acceptor(listening, lambda event, fields: told.append((event, fields["error"])))
    with socket.create_connection(acceptor.address):
        accepted = acceptor.accept(NEVER)
        assert accepted
        accepted.close()
    acceptor.close()
    assert listening.accepts == 4
    assert told == [("accept.failed", os.strerror(number))]


def test_a_shortage_is_no_busy_loop_and_ends_at_the_deadline() -> None:
    listening = stubborn(-errno.EMFILE)
    acceptor = Acceptor(listening, lambda event, fields: None)
    with socket.create_connection(acceptor.address):
        assert acceptor.accept(Deadline.after(3 * accept.PAUSE)) is None
    assert listening.accepts <= 5
    acceptor.close()


def test_a_shortage_can_be_closed(monkeypatch: pytest.MonkeyPatch, waiting: threading.Event) -> None:
    monkeypatch.setattr(accept, "PAUSE", PATIENCE)
    acceptor = Acceptor(stubborn(-errno.EMFILE), lambda event, fields: None)
    with ThreadPoolExecutor(1) as pool:
        accepting = pool.submit(acceptor.accept, NEVER)
        assert waiting.wait(PATIENCE)
        acceptor.close()
        assert accepting.result() is None


def test_a_socket_that_does_not_listen_is_a_mistake() -> None:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    acceptor = Acceptor(sock)
    with pytest.raises(OSError, match="Invalid argument"):
        acceptor.accept(NEVER)
    acceptor.close()


_OUT_OF_FILES = """
import resource, socket
from dicomnet.transport.accept import Acceptor, listen_tcp
from dicomnet.transport.deadline import Deadline

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
told, hoard = [], []

def trace(event, fields):
    told.append((event, fields["error"]))
    for sock in hoard:
        sock.close()

acceptor = Acceptor(listen_tcp("127.0.0.1", 0, 5), trace)
clients = [socket.socket() for _ in range(2)]
try:
    while True:
        hoard.append(socket.socket())
except OSError:
    pass
for client in clients:
    client.connect(acceptor.address)
for _ in clients:
    accepted = acceptor.accept(Deadline.after(60))
    accepted.send(b"alive")
    accepted.close()
assert [client.recv(9) for client in clients] == [b"alive"] * 2
for client in clients:
    client.close()
acceptor.close()
print(told)
"""


def test_survives_running_out_of_descriptors() -> None:
    root = Path(errors_module.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _OUT_OF_FILES],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.stderr == ""
    assert done.stdout.strip() == "[('accept.failed', 'Too many open files')]"


# --- listening -----------------------------------------------------------------------------------


def reaches(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), PATIENCE).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("host", [None, "", "*"])
@pytest.mark.parametrize(
    ("ip_type", "v4", "v6"),
    [
        (DicomNetIpTypeFlags.NONE, True, True),
        (DicomNetIpTypeFlags.IPV4, True, False),
        pytest.param(DicomNetIpTypeFlags.IPV6, False, True, marks=needs_ipv6),
        (DicomNetIpTypeFlags.IPV4_OR_IPV6, True, True),
    ],
)
def test_listens_everywhere(host: str | None, ip_type: DicomNetIpTypeFlags, v4: bool, v6: bool) -> None:
    with listen_tcp(host, 0, 5, ip_type) as sock:
        port = sock.getsockname()[1]
        assert port
        assert not sock.getblocking()
        assert reaches("127.0.0.1", port) == v4
        assert reaches("127.0.0.2", port) == v4
        assert reaches("::1", port) == (v6 and socket.has_dualstack_ipv6())


def test_listens_at_one_address_only() -> None:
    with listen_tcp("127.0.0.2", 0, 5) as sock:
        assert reaches("127.0.0.2", sock.getsockname()[1])
        assert not reaches("127.0.0.1", sock.getsockname()[1])


def test_listens_at_a_name() -> None:
    with listen_tcp("localhost", 0, 5, DicomNetIpTypeFlags.IPV4) as sock:
        assert sock.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize("host", ["*", "127.0.0.1"])
def test_a_port_that_is_taken(host: str) -> None:
    with (
        listen_tcp(host, 0, 5) as sock,
        pytest.raises(errors.NetworkError, match="another program") as caught,
    ):
        listen_tcp(host, sock.getsockname()[1], 5)
    assert caught.value.code == DicomExceptionCode.NET_ADDRESS_IN_USE
    assert caught.value.errno == errno.EADDRINUSE


def test_a_port_just_closed_can_be_had_again() -> None:
    acceptor = Acceptor(listen_tcp("127.0.0.1", 0, 5))
    with socket.create_connection(acceptor.address) as client:
        accepted = acceptor.accept(NEVER)
        assert accepted
        accepted.close()  # our side closes first, so that TIME_WAIT is ours
        client.recv(1)
    acceptor.close()
    listen_tcp("127.0.0.1", acceptor.address[1], 5).close()


def test_an_address_that_is_not_ours() -> None:
    with pytest.raises(errors.NetworkError, match="no such address") as caught:
        listen_tcp("192.0.2.1", 0, 5)
    assert caught.value.code == DicomExceptionCode.NET_ADDRESS_NOT_AVAILABLE


@pytest.mark.parametrize("host", ["no..name", "nul\0", "::1::1"])
def test_a_host_that_is_none(host: str) -> None:
    with pytest.raises(errors.HostNotFound):
        listen_tcp(host, 0, 5)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_number_that_is_no_port(port: int) -> None:
    with pytest.raises(ValueError, match="port"):
        listen_tcp("*", port, 5)


def test_trace_by_default_goes_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    acceptor = Acceptor(stubborn(errno.EMFILE))
    with caplog.at_level("WARNING", "dicomnet"), socket.create_connection(acceptor.address):
        accepted = acceptor.accept(NEVER)
        assert accepted
        accepted.close()
    acceptor.close()
    assert "accept.failed" in caplog.text
