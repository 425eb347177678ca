"""The accept loop of a listening `DicomNet`: limits, one thread per link, and the news of closed links.

A connection is offered to the owner one at a time; what it does not take is closed. Above `Limits.links` (or
`links_per_address`) connections are still taken, so that the association can be rejected as the standard
wants (R04: transient, local limit exceeded); `MARGIN` above that they are closed unheard.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from typing import TYPE_CHECKING, Protocol

from dicomnet.transport.deadline import NEVER, Deadline
from dicomnet.transport.tcp import TcpStream

if TYPE_CHECKING:
    import socket

    from dicomnet.settings import Limits
    from dicomnet.transport.accept import Acceptor

__all__ = ["Client", "Listener", "Owner"]

MARGIN = 16  # connections above a limit that are told so
GRACE = 1.0  # seconds that aborted links have until they are closed


class Client(Protocol):
    """A link's object that an owner has taken a connection for."""

    def _serve(self) -> None:
        """Run the link until it has ended, on the link's own thread; never raises."""

    def _leave(self) -> None:
        """Abort the association, with hardly any waiting; the peer is expected to close."""

    def _drop(self) -> None:
        """End the link now."""


class Owner(Protocol):
    """The listening object."""

    def _offer(self, stream: TcpStream, *, crowded: bool) -> Client | None:
        """Take a connection (then its object is returned) or not."""

    def _client_closed(self, client: Client) -> None:
        """A client's link has ended; runs on the accept loop's thread while there is one."""


class Listener:
    """Accepts connections until `close`; `run` holds the calling thread."""

    def __init__(self, acceptor: Acceptor, owner: Owner, limits: Limits) -> None:
        self._acceptor = acceptor
        self._owner = owner
        self._limits = limits
        self._changed = threading.Condition()
        self._clients: dict[Client, tuple[int, str]] = {}  # number of its thread, peer's address
        self._addresses: Counter[str] = Counter()
        self._ended: deque[Client] = deque()
        self._closed = False
        self._stopped = False
        self._runner: int | None = None
        self._accepting = False

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that the socket is bound to."""
        host, port = self._acceptor.address
        return str(host), int(port)

    @property
    def clients(self) -> list[Client]:
        """The links being served, oldest first."""
        with self._changed:
            return list(self._clients)

    @property
    def closed(self) -> bool:
        """True once `close` was called."""
        return self._closed

    def run(self) -> None:
        """Accept until closed; then go on until the last link has ended, to tell the owner of it."""
        self._runner = threading.get_ident()
        self._accepting = True
        try:
            while not self._closed:
                connection = self._acceptor.accept(NEVER)
                self._report()
                if connection is not None:
                    self._admit(connection)
            self._let_go()
            while self._outlasted():
                self._report()
        finally:
            self._runner = None
            self._let_go()
            self._report()

    def _let_go(self) -> None:
        with self._changed:
            self._accepting = False
            self._changed.notify_all()

    def _outlasted(self) -> bool:
        """Wait for the next link to end; False when none is left, or `stop` has given up on the rest."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or not self._clients or self._stopped)
            return bool(self._clients) and not self._stopped

    def _admit(self, connection: socket.socket) -> None:
        stream = TcpStream(connection)
        address = stream.peer_address[0]
        with self._changed:
            over = max(
                len(self._clients) - self._limits.links,
                self._addresses[address] - self._limits.links_per_address,
            )
        client = None
        if over < MARGIN and not self._closed:
            client = self._owner._offer(stream, crowded=over >= 0)
        if client is None:
            stream.kill()
            return
        thread = threading.Thread(target=self._serve, args=(client,), name=f"dicomnet {address}", daemon=True)
        with self._changed:
            self._clients[client] = 0, address
            self._addresses[address] += 1
        try:
            thread.start()
        except RuntimeError:  # no more threads to be had
            client._drop()
            stream.kill()
            self._forget(client)

    def _serve(self, client: Client) -> None:
        with self._changed:
            self._clients[client] = threading.get_ident(), self._clients[client][1]
            stopped = self._stopped
        try:
            if stopped:
                client._drop()
            client._serve()
        finally:
            self._forget(client)

    def _forget(self, client: Client) -> None:
        with self._changed:
            _, address = self._clients.pop(client)
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]
            self._ended.append(client)
            running = self._runner is not None
            self._changed.notify_all()
        if running:
            self._acceptor.wake()
        else:
            self._report()

    def _report(self) -> None:
        """Tell the owner of the links that have ended since the last call."""
        while True:
            try:
                client = self._ended.popleft()
            except IndexError:
                return
            self._owner._client_closed(client)

    def close(self) -> None:
        """Stop accepting, from any thread; links in progress go on.

        Returns when the port is free again. An `on_accept` that is running on another thread holds it, and is
        not waited for longer than a second.
        """
        self._closed = True
        self._acceptor.close()
        if self._runner != threading.get_ident():
            with self._changed:
                self._changed.wait_for(lambda: not self._accepting, GRACE)

    def stop(self, seconds: float, *, forced: bool) -> None:
        """Stop accepting and end every link; wait for them and for `run`, but no longer than `seconds`.

        The associations are aborted first, unless `forced`. Called from a link's own callback, that link ends
        when the callback returns.
        """
        self.close()
        deadline, me = Deadline.after(seconds), threading.get_ident()

        def gone() -> bool:
            return all(thread == me for thread, _ in self._clients.values())

        if not forced:
            for client in self.clients:
                if not deadline.expired:
                    client._leave()
            with self._changed:
                self._changed.wait_for(gone, deadline.sooner(GRACE).remaining())
        for client in self.clients:
            client._drop()
        with self._changed:
            self._changed.wait_for(gone, deadline.remaining())
            self._stopped = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._runner in (None, me), deadline.remaining())
