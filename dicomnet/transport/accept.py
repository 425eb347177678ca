"""Listening for TCP connections, with a wait that any thread can end."""

from __future__ import annotations

import errno
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from dicomnet import errors
from dicomnet.enums import DicomNetIpTypeFlags
from dicomnet.trace import log_trace
from dicomnet.transport.connect import FAMILIES
from dicomnet.transport.deadline import Deadline, DeadlineExpired
from dicomnet.transport.stream import address_text
from dicomnet.transport.system_errors import network_error, reason
from dicomnet.transport.waiting import READ, Waker, wait

if TYPE_CHECKING:
    from dicomnet.trace import Trace

__all__ = ["Acceptor", "listen_tcp"]

PAUSE = 0.1
"""Seconds between two tries to accept while the system is out of descriptors or memory."""

_FATAL = {errno.EBADF, errno.EINVAL, errno.ENOTSOCK}  # no listening socket (any more): our own mistake
_STATE = "listening"
_ADVICE = {
    errno.EADDRINUSE: "another program, or another listener of this one, has the port",
    errno.EACCES: "ports below 1024 need a privilege; 11112 is DICOM's port without one",
    errno.EADDRNOTAVAIL: "this machine has no such address",
}


def listen_tcp(
    host: str | None,
    port: int,
    backlog: int,
    ip_type: DicomNetIpTypeFlags = DicomNetIpTypeFlags.IPV4_OR_IPV6,
) -> socket.socket:
    """Return a non-blocking listening socket.

    `host` is an address or name of this machine; `None`, "" and "*" stand for all its addresses, of IPv4
    and IPv6 both where `ip_type` leaves the choice. Port 0 takes a free one. `backlog` is how many
    connections may wait to be accepted. Raises `HostNotFound`, or `NetworkError` saying why not.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"port {port} is not between 0 and 65535")
    everywhere = host in (None, "", "*")
    where = errors.escape(address_text(("*" if everywhere else str(host), port)))
    family: int = FAMILIES[ip_type]
    try:
        if everywhere:
            dual = family == socket.AF_UNSPEC and socket.has_dualstack_ipv6()
            family = family or (socket.AF_INET6 if dual else socket.AF_INET)
            listening = socket.create_server(("", port), family=family, backlog=backlog, dualstack_ipv6=dual)
        else:
            found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)
            listening = socket.create_server(found[0][4], family=found[0][0], backlog=backlog)
    except (socket.gaierror, UnicodeError) as error:
        raise errors.HostNotFound(f"cannot listen on {where}: {reason(error)}", state=_STATE) from error
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "")
        message = f"cannot listen on {where}: {advice or reason(error)}"
        raise network_error(errors.NetworkError, message, error.errno, state=_STATE) from error
    listening.setblocking(False)
    return listening


class Acceptor:
    """The accept loop's socket: one thread accepts, any thread wakes it or closes the socket.

    `trace` gets "accept.failed" once each time the system runs out of descriptors or memory.
    """

    def __init__(self, listening: socket.socket, trace: Trace = log_trace) -> None:
        listening.setblocking(False)
        self.address = listening.getsockname()[:2]
        self._listening = listening
        self._trace = trace
        self._waker = Waker()
        self._lock = threading.Lock()
        self._accepting = False
        self._closed = False

    @property
    def closed(self) -> bool:
        """True once `close` was called."""
        return self._closed

    def accept(self, deadline: Deadline) -> socket.socket | None:
        """Return the next connection; `None` at the deadline, after `wake`, and after `close`.

        A connection that broke before it was accepted is passed over. Where the system has no descriptor or
        memory left, the connections wait in the backlog until it has.
        """
        with self._lock:
            if self.closed:
                return None
            self._accepting = True
        try:
            with suppress(DeadlineExpired):
                return self._next(deadline)
            return None
        finally:
            with self._lock:
                self._accepting = False
                if self._closed:
                    self._release()

    def wake(self) -> None:
        """Let the running `accept`, or else the next one, return `None`; from any thread."""
        self._waker.wake()

    def close(self) -> None:
        """Stop listening; from any thread. A running `accept` returns `None` and closes the socket itself."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._waker.wake()
            if not self._accepting:
                self._release()
                return
            with suppress(OSError):  # nobody is let in any more, though the descriptor is still in use
                self._listening.shutdown(socket.SHUT_RDWR)

    def _next(self, deadline: Deadline) -> socket.socket | None:
        wakers = ((self._waker.fileno(), READ),)
        interests = (*wakers, (self._listening.fileno(), READ))
        told = False
        while not self._waker.woken:
            try:
                return self._listening.accept()[0]
            except BlockingIOError:
                wait(deadline, *interests)
            except ConnectionError:
                continue
            except OSError as error:
                if self._closed:
                    return None
                if error.errno in _FATAL:
                    raise
                if not told:
                    told = True
                    self._trace("accept.failed", {"link": 0, "error": reason(error), "pause": PAUSE})
                with suppress(DeadlineExpired):
                    wait(deadline.sooner(PAUSE), *wakers)
                if deadline.expired:
                    return None
        self._waker.clear()
        return None

    def _release(self) -> None:
        self._listening.close()
        self._waker.close()
