"""A stream over a TCP connection."""

from __future__ import annotations

import errno
import os
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from dicomnet import errors
from dicomnet.transport.deadline import DeadlineExpired
from dicomnet.transport.stream import Stream
from dicomnet.transport.system_errors import network_error, reason
from dicomnet.transport.waiting import READ, WRITE, wait

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dicomnet.transport.deadline import Deadline
    from dicomnet.transport.stream import Address

__all__ = ["TcpStream"]

_IOV_MAX = os.sysconf("SC_IOV_MAX") if hasattr(os, "sysconf") else 16
_QUICK_ACK: int | None = getattr(socket, "TCP_QUICKACK", None)
_CORK: int | None = getattr(socket, "TCP_CORK", None)
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 seconds
_DRAIN = 65536
_KEEP_ALIVE = {
    getattr(socket, name): value
    for name, value in {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}.items()
    if hasattr(socket, name)
}
"""Option -> value: after 60 s of silence 4 probes, 15 s apart, find a peer whose machine is gone."""
_LOST = {
    errno.ECONNRESET: "reset the connection",
    errno.EPIPE: "has closed the connection and takes no more data",
    errno.ETIMEDOUT: "no longer answers",
}


class TcpStream(Stream):
    """A connected TCP socket, which belongs to the stream from then on; non-blocking, with TCP_NODELAY.

    TCP keep-alive is on, so that a read ends with `ConnectionLost`, also one without a deadline, about two
    minutes after the peer's machine or the network has gone without a word.
    """

    __slots__ = ("_recv_into", "_sendmsg", "_shut", "_socket", "local_address", "peer_address")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        with suppress(OSError):  # the peer may be gone already: the first read tells
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEP_ALIVE.items():
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
        self.local_address = _address(sock.getsockname)
        self.peer_address = _address(sock.getpeername)
        self._socket = sock
        self._shut = False
        self._recv_into = sock.recv_into
        self._sendmsg = sock.sendmsg

    def __repr__(self) -> str:
        return f"<TcpStream to {self.peer}{', shut down' if self._shut else ''}>"

    def fileno(self) -> int:
        """Return the socket's descriptor, -1 after `close` or `kill`."""
        return self._socket.fileno()

    def read_into(self, buffer: memoryview, deadline: Deadline) -> int:
        """Read at least one byte into `buffer`, and return how many; 0 is the peer's FIN."""
        while (n := self.try_read_into(buffer)) is None:
            self.wait(READ, deadline)
        return n

    def try_read_into(self, buffer: memoryview) -> int | None:
        """Read what is there without waiting; `None` where nothing is."""
        try:
            n = self._recv_into(buffer)
        except BlockingIOError:
            return None
        except OSError as error:
            raise self.lost(error) from error
        if not n:
            if not len(buffer):
                raise ValueError("a read needs room for one byte at least")
            if self._shut:
                raise self.lost(None)
        return n

    def write(
        self,
        buffers: Sequence[bytes | memoryview],
        deadline: Deadline,
        *,
        stall: float | None = None,
        on_readable: Callable[[], bool] | None = None,
    ) -> None:
        """Write all buffers with as few sendmsg(2) as can be; see `Stream.write`."""
        quiet: Deadline | None = None  # set while nothing moves
        while buffers:
            try:
                sent = self._sendmsg(buffers if len(buffers) <= _IOV_MAX else buffers[:_IOV_MAX])
            except BlockingIOError:
                sent = -1
            except OSError as error:
                raise self.lost(error) from error
            if sent >= 0:
                buffers, quiet = _rest(buffers, sent), None
                continue
            quiet = quiet or deadline.sooner(stall)
            ready = self.wait(WRITE if on_readable is None else READ | WRITE, quiet)
            if on_readable is not None and ready != WRITE and not on_readable():
                on_readable = None

    def quick_ack(self) -> None:
        """Set TCP_QUICKACK where the system has it; Linux takes it back by itself."""
        self._set(_QUICK_ACK, 1)

    def gather(self, *, on: bool) -> None:
        """Hold back what fills no segment until it is switched off (TCP_CORK, where the system has it).

        For TLS on top, which writes record by record: a quarter of the segments is a sixth of the work.
        """
        self._set(_CORK, int(on))

    def _set(self, option: int | None, value: int) -> None:
        if option is not None:
            try:  # noqa: SIM105 - suppress() costs as much as the system call
                self._socket.setsockopt(socket.IPPROTO_TCP, option, value)
            except OSError:  # closed: there is nothing to acknowledge or to send
                pass

    def shutdown(self) -> None:
        """End both directions and wake whoever waits; from any thread, more than once, never raising."""
        self._shut = True
        with suppress(OSError):  # the peer was faster
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self, deadline: Deadline) -> None:
        """Send FIN, read and drop until the peer's FIN or the deadline, then close the descriptor."""
        try:
            with suppress(OSError):  # includes every exception of the transport
                self._socket.shutdown(socket.SHUT_WR)
                waste = memoryview(bytearray(_DRAIN))
                while self.read_into(waste, deadline) and not deadline.expired:
                    pass
        finally:
            self.kill()

    def kill(self) -> None:
        """Close the descriptor now; after a write that expired, what the system still holds is not sent."""
        self.shutdown()
        self._socket.close()

    def wait(self, events: int, deadline: Deadline) -> int:
        """Wait for `READ`, `WRITE` or both; return what is ready, more bits on a hang-up. For TLS on top.

        Raises `DeadlineExpired`. A peer that takes nothing until then never gets the rest: the connection
        will be reset when it is closed, and the system need not keep the bytes.
        """
        descriptor = self._socket.fileno()
        if descriptor < 0:
            raise self.lost(None)
        try:
            return wait(deadline, (descriptor, events))[descriptor]
        except DeadlineExpired:
            if events & WRITE:
                with suppress(OSError):  # closed in the meantime
                    self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            raise

    def lost(self, error: OSError | None) -> errors.NetworkError:
        """Return the exception for a system call that failed, or for an end that our own side made."""
        if self._shut:
            return errors.LinkClosed(f"the connection to {self.peer} was closed on our side", peer=self.peer)
        number = error.errno if error else None
        what = _LOST.get(number or 0) or f"was lost: {reason(error) if error else 'unexpected end'}"
        return network_error(errors.ConnectionLost, f"{self.peer} {what}", number, peer=self.peer)


def _rest(buffers: Sequence[bytes | memoryview], sent: int) -> Sequence[bytes | memoryview]:
    """Return what is left of `buffers` after `sent` bytes."""
    if sent == sum(map(len, buffers)):  # as a rule, and much faster than the loop
        return ()
    for index, buffer in enumerate(buffers):
        if sent < len(buffer):
            return [memoryview(buffer)[sent:], *buffers[index + 1 :]]
        sent -= len(buffer)
    raise ValueError("a memoryview to write must have one byte per item")


def _address(name: Callable[[], tuple[str, int]]) -> Address:
    """Return one end of a socket; an IPv4 peer of an IPv6 socket as the IPv4 address that it has."""
    try:
        host, port = name()[:2]
    except OSError:  # reset before we looked
        return "", 0
    mapped = host.removeprefix("::ffff:")
    return (host if ":" in mapped else mapped), port
