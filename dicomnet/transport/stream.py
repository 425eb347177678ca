"""The stream boundary: what a link needs from its connection, whether it is TCP, TLS or a script."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dicomnet.transport.deadline import Deadline

__all__ = ["Address", "Stream", "address_text"]

Address = tuple[str, int]
"""Host and port, as numbers: ("192.0.2.1", 104) or ("2001:db8::1", 104); ("", 0) where it is not known."""


def address_text(address: Address) -> str:
    """Return "host:port", with an IPv6 address in brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Stream(ABC):
    """A connection: an ordered, reliable stream of bytes in each direction.

    One thread reads and another may write at the same time; two that read, or two that write, have to take
    turns. `shutdown` alone may be called at any time by anyone. `close` and `kill` give the descriptor
    back: they are for the reader, or for when nobody reads or writes any more, because the system could
    reuse a descriptor that a waiting thread still holds.

    Waiting raises `DeadlineExpired` at the deadline, `ConnectionLost` where the peer or the network broke
    the connection, and `LinkClosed` after `shutdown` on our side. Every call tries first and waits only
    when there is nothing to do, so one that need not wait may succeed after its deadline.
    """

    __slots__ = ()

    local_address: Address
    """Our end."""

    peer_address: Address
    """The peer's end."""

    @property
    def peer(self) -> str:
        """The peer's end as text, "192.0.2.1:104" or "[2001:db8::1]:104"."""
        return address_text(self.peer_address)

    @abstractmethod
    def fileno(self) -> int:
        """Return the descriptor, or -1 where there is none (any more)."""

    @abstractmethod
    def read_into(self, buffer: memoryview, deadline: Deadline) -> int:
        """Read at least one byte into `buffer`, and return how many; 0 is the peer's orderly end."""

    @abstractmethod
    def try_read_into(self, buffer: memoryview) -> int | None:
        """Read what is there without waiting; `None` where nothing is."""

    @abstractmethod
    def write(
        self,
        buffers: Sequence[bytes | memoryview],
        deadline: Deadline,
        *,
        stall: float | None = None,
        on_readable: Callable[[], bool] | None = None,
    ) -> None:
        """Write all bytes of all buffers, in as few system calls as can be.

        A memoryview must have one byte per item. Beside the deadline, `stall` limits the seconds without
        progress. While the peer takes nothing and sends something itself, `on_readable` is called, so
        that two ends that both write cannot lock each other up; it reads with `try_read_into` and returns
        whether it can take more. What it raises ends the write.

        After any exception an unknown part of the bytes has left: nothing more can be written.
        """

    def quick_ack(self) -> None:  # noqa: B027 - not every stream can, and none has to
        """Acknowledge what was read at once.

        For a read that ends within a PDU or message: a peer that leaves Nagle's algorithm on may hold the
        rest back until then.
        """

    @abstractmethod
    def shutdown(self) -> None:
        """End both directions and wake whoever waits; from any thread, more than once, never raising."""

    @abstractmethod
    def close(self, deadline: Deadline) -> None:
        """Close in good order; never raises.

        Announces our end, then reads and drops until the peer's: closing with bytes unread would reset the
        connection, and the peer could lose the last ones that we sent.
        """

    @abstractmethod
    def kill(self) -> None:
        """Close now, in whatever state; never raises."""
