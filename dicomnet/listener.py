"""The accept loop of a listening `DicomNet`: limits, one thread per link, and the news of closed links.

A connection is offered to the owner one at a time; what it does not take is closed. Above `Limits.links` (or
`links_per_address`) connections are still taken, so that the association can be rejected as the standard
wants (R04: transient, local limit exceeded); `MARGIN` above that they are closed unheard.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from typing import TYPE_CHECKING, Protocol

from dicomnet.transport.deadline import NEVER
from dicomnet.transport.tcp import TcpStream

if TYPE_CHECKING:
    import socket

    from dicomnet.settings import Limits
    from dicomnet.transport.accept import Acceptor

__all__ = ["Client", "Listener", "Owner"]

MARGIN = 16  # connections above a limit that are told so


class Client(Protocol):
    """A link's object that an owner has taken a connection for."""

    def serve(self) -> None:
        """Run the link until it has ended, on the link's own thread; never raises."""

    def close_forced(self, forced: bool) -> None:
        """End the link now."""


class Owner(Protocol):
    """The listening object."""

    def offer(self, stream: TcpStream, *, crowded: bool) -> Client | None:
        """Take a connection (then its object is returned) or not."""

    def client_closed(self, client: Client) -> None:
        """A client's link has ended; runs on the accept loop's thread."""


class Listener:
    """Accepts connections until `close`; `run` holds the calling thread."""

    def __init__(self, acceptor: Acceptor, owner: Owner, limits: Limits) -> None:
        self._acceptor = acceptor
        self._owner = owner
        self._limits = limits
        self._lock = threading.Lock()
        self._clients: dict[Client, tuple[threading.Thread, str]] = {}
        self._addresses: Counter[str] = Counter()
        self._ended: deque[Client] = deque()
        self._closed = threading.Event()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that the socket is bound to."""
        host, port = self._acceptor.address
        return str(host), int(port)

    @property
    def clients(self) -> list[Client]:
        """The links being served, oldest first."""
        with self._lock:
            return list(self._clients)

    @property
    def closed(self) -> bool:
        """True once `close` was called."""
        return self._closed.is_set()

    def run(self) -> None:
        """Accept until closed; then wait for nothing: links go on until they are closed themselves."""
        while not self._closed.is_set():
            connection = self._acceptor.accept(NEVER)
            self.report()
            if connection is not None:
                self._admit(connection)

    def _admit(self, connection: socket.socket) -> None:
        stream = TcpStream(connection)
        address = stream.peer_address[0]
        with self._lock:
            over = max(
                len(self._clients) - self._limits.links,
                self._addresses[address] - self._limits.links_per_address,
            )
        if over >= MARGIN or self._closed.is_set():
            stream.kill()
            return
        client = self._owner.offer(stream, crowded=over >= 0)
        if client is None:
            stream.kill()
            return
        thread = threading.Thread(target=self._serve, args=(client,), name=f"dicomnet {address}", daemon=True)
        with self._lock:
            self._clients[client] = thread, address
            self._addresses[address] += 1
        try:
            thread.start()
        except RuntimeError:  # no more threads to be had
            client.close_forced(True)
            self._forget(client)

    def _serve(self, client: Client) -> None:
        try:
            client.serve()
        finally:
            self._forget(client)

    def _forget(self, client: Client) -> None:
        with self._lock:
            _, address = self._clients.pop(client)
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]
            self._ended.append(client)
        self._acceptor.wake()

    def report(self) -> None:
        """Tell the owner of the links that have ended since the last call."""
        while self._ended:
            self._owner.client_closed(self._ended.popleft())

    def close(self) -> None:
        """Stop accepting, from any thread; links in progress go on."""
        self._closed.set()
        self._acceptor.close()

    def close_clients(self, timeout: float) -> None:
        """End every link now and wait up to `timeout` seconds for their threads."""
        with self._lock:
            threads = [thread for thread, _ in self._clients.values()]
        for client in self.clients:
            client.close_forced(True)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(timeout)
