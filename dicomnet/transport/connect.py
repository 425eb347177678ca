"""Making a TCP connection: name look-up and connecting under one deadline, cancellable from any thread."""

from __future__ import annotations

import errno
import os
import socket
import threading
from typing import TYPE_CHECKING, Any

from dicomnet import errors
from dicomnet.enums import DicomExceptionCode, DicomNetIpTypeFlags
from dicomnet.transport.deadline import DeadlineExpired
from dicomnet.transport.stream import address_text
from dicomnet.transport.system_errors import network_error, reason
from dicomnet.transport.tcp import TcpStream
from dicomnet.transport.waiting import READ, WRITE, Waker, wait

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dicomnet.transport.deadline import Deadline

__all__ = ["ANYWHERE", "FAMILIES", "ConnectAttempt", "connect_tcp"]

ANYWHERE: tuple[str | None, int] = (None, 0)
"""The local end of a connection where it does not matter."""

FAMILIES = {
    DicomNetIpTypeFlags.NONE: socket.AF_UNSPEC,
    DicomNetIpTypeFlags.IPV4: socket.AF_INET,
    DicomNetIpTypeFlags.IPV6: socket.AF_INET6,
    DicomNetIpTypeFlags.IPV4_OR_IPV6: socket.AF_UNSPEC,
}
_STATE = "connecting"
_ADVICE: dict[type[OSError], str] = {
    TimeoutError: "Check the address, and whether a firewall drops the packets",
    ConnectionRefusedError: "Nothing listens there: check the port, and that the peer is running",
    OSError: "Check the addresses and this machine's network",
}


def connect_tcp(
    host: str,
    port: int,
    *,
    deadline: Deadline,
    local: tuple[str | None, int] = ANYWHERE,
    ip_type: DicomNetIpTypeFlags = DicomNetIpTypeFlags.IPV4_OR_IPV6,
    options: Iterable[tuple[int, int, int | bytes]] = (),
) -> TcpStream:
    """Connect to the first address of `host` that answers; see `ConnectAttempt`."""
    return ConnectAttempt(host, port, local=local, ip_type=ip_type, options=options).run(deadline)


class ConnectAttempt:
    """An attempt to connect that another thread can cancel.

    `local` is the address and port to connect from (`None` and 0: the system's choice); `options` are
    (level, name, value) as setsockopt(2) takes them, set before the connection is made.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        local: tuple[str | None, int] = ANYWHERE,
        ip_type: DicomNetIpTypeFlags = DicomNetIpTypeFlags.IPV4_OR_IPV6,
        options: Iterable[tuple[int, int, int | bytes]] = (),
    ) -> None:
        for name, number, lowest in (("port", port, 1), ("local port", local[1], 0)):
            if not lowest <= number <= 65535:
                raise ValueError(f"{name} {number} is not between {lowest} and 65535")
        self.target = errors.escape(address_text((host, port)))
        self._host, self._port = host, port
        self._local, self._options = local, tuple(options)
        self._family = FAMILIES[ip_type]
        self._cancelled = False
        self._waker: Waker | None = None

    def cancel(self) -> None:
        """Let `run` raise `LinkClosed`; from any thread. Too late once `run` has returned."""
        self._cancelled = True
        if self._waker is not None:
            self._waker.wake()

    def run(self, deadline: Deadline) -> TcpStream:
        """Look the name up and connect to one of its addresses after the other.

        Each address gets an equal share of the time that is left, so a first one that is silent does not
        keep us from the next. Raises `HostNotFound`, `ConnectionRefused`, `ConnectTimeout`, `NetworkError`
        with the number of what else went wrong, or `LinkClosed` when cancelled.
        """
        self._waker = waker = Waker()
        failures: list[tuple[str, OSError]] = []
        try:
            found = self._look_up(deadline, waker)
            for position, (family, _, _, _, address) in enumerate(found):
                left = deadline.remaining()
                share = deadline.sooner(None if left is None else left / (len(found) - position))
                try:
                    return TcpStream(self._open(family, address, share, waker))
                except errors.DicomException:
                    raise
                except OSError as error:
                    failures.append((address_text(address[:2]), error))
        except DeadlineExpired as error:
            failures.append(("looking up the name", error))
        finally:
            waker.close()
        raise self._failure(failures, deadline)

    def _look_up(self, deadline: Deadline, waker: Waker) -> list[Any]:
        """Return what getaddrinfo(3) finds; it cannot be given a time limit, so names go to a thread."""
        found: list[Any] | Exception = []

        def resolve(flags: int = 0) -> None:
            nonlocal found
            try:
                found = socket.getaddrinfo(
                    self._host, self._port, self._family, socket.SOCK_STREAM, socket.IPPROTO_TCP, flags
                )
            except (OSError, ValueError) as error:  # ValueError: what can be no host name at all
                found = error
            if not flags:
                waker.wake()

        resolve(socket.AI_NUMERICHOST)
        if isinstance(found, Exception):
            threading.Thread(target=resolve, name=f"dicomnet look-up of {self.target}", daemon=True).start()
            wait(deadline, (waker.fileno(), READ))
            waker.clear()
        self._check_cancelled()
        if isinstance(found, Exception):
            raise self._not_found(found) from found
        return found

    def _open(self, family: int, address: tuple[Any, ...], deadline: Deadline, waker: Waker) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            for level, name, value in self._options:
                sock.setsockopt(level, name, value)
            if self._local != ANYWHERE:
                self._bind(sock)
            number = sock.connect_ex(address)
            if number == errno.EINPROGRESS:
                wait(deadline, (sock.fileno(), WRITE), (waker.fileno(), READ))
                number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._check_cancelled()
            # TCP lets a socket connect to itself, where the peer's port is one that the system may give us.
            if not number and sock.getsockname() == sock.getpeername():
                number = errno.ECONNREFUSED
            if number:
                raise OSError(number, os.strerror(number))
        except BaseException:
            sock.close()
            raise
        return sock

    def _bind(self, sock: socket.socket) -> None:
        host, port = self._local
        if port:  # else the port stays taken for a minute after each connection
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host or "", port))
        except OSError as error:
            place = errors.escape(address_text((host or "*", port)))
            raise OSError(error.errno, f"cannot use the local address {place}: {reason(error)}") from error

    def _check_cancelled(self) -> None:
        if self._cancelled:
            raise errors.LinkClosed(
                f"connecting to {self.target} was cancelled", peer=self.target, state=_STATE
            )

    def _not_found(self, error: Exception) -> errors.HostNotFound:
        conflict = getattr(error, "errno", None) == socket.EAI_ADDRFAMILY
        return errors.HostNotFound(
            f"cannot find an address for {errors.escape(self._host)!r}: {reason(error)}. Check the name, the "
            "name server and the address family (ip_type)",
            code=DicomExceptionCode.IPV4_IPV6_CONFLICT if conflict else errors.HostNotFound.default_code,
            peer=self.target,
            state=_STATE,
        )

    def _failure(self, failures: list[tuple[str, OSError]], deadline: Deadline) -> errors.DicomException:
        """Return one error for all addresses: the kind that is most worth knowing, with every detail."""
        kinds = (TimeoutError, ConnectionRefusedError, OSError)
        kind, cause = next((k, error) for k in kinds for _, error in failures if isinstance(error, k))
        details = "; ".join(
            f"{where}: {'no answer' if isinstance(error, TimeoutError) else reason(error)}"
            for where, error in failures
        )
        message = f"cannot connect to {self.target} ({details}). {_ADVICE[kind]}"
        failure: errors.DicomException
        if kind is TimeoutError:
            failure = errors.ConnectTimeout(
                message,
                limit=deadline.limit or 0.0,
                elapsed=deadline.elapsed(),
                peer=self.target,
                state=_STATE,
            )
        else:
            refused = kind is ConnectionRefusedError
            failure = network_error(
                errors.ConnectionRefused if refused else errors.NetworkError,
                message,
                cause.errno,
                peer=self.target,
                state=_STATE,
            )
        failure.__cause__ = cause
        return failure
