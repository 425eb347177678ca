"""Waiting for descriptors, always under a deadline, and waking a waiter from another thread.

A poll object is made for each wait: that costs 0.2 us more than keeping one, and it leaves no state that a
reader and a writer of the same stream would have to share.
"""

from __future__ import annotations

import select
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from dicomnet.transport.deadline import DeadlineExpired

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dicomnet.transport.deadline import Deadline

__all__ = ["READ", "WRITE", "Waker", "wait"]

READ, WRITE = 1, 4
"""What to wait for: the values of POLLIN and POLLOUT."""


def wait(deadline: Deadline, *interests: tuple[int, int]) -> dict[int, int]:
    """Wait until one of `(descriptor, READ | WRITE)` is ready; return the ready ones with what they are for.

    An error or a hang-up makes a descriptor ready too, and may set other bits of poll(2): the system call
    that is tried next says what it is. Raises `DeadlineExpired`, at once where the deadline has passed.
    """
    while milliseconds := deadline.poll_ms():
        if ready := _ready(interests, milliseconds):
            return dict(ready)
    raise DeadlineExpired("the deadline passed while waiting for the peer")


def _poll(interests: Iterable[tuple[int, int]], milliseconds: int) -> list[tuple[int, int]]:
    poll = select.poll()
    for descriptor, events in interests:
        poll.register(descriptor, events)
    return poll.poll(milliseconds)


def _select(interests: Iterable[tuple[int, int]], milliseconds: int) -> list[tuple[int, int]]:
    """Do the same where there is no poll(2); select(2) takes no descriptor above 1023."""
    asked = list(interests)
    readers, writers, _ = select.select(
        [descriptor for descriptor, events in asked if events & READ],
        [descriptor for descriptor, events in asked if events & WRITE],
        [],
        None if milliseconds < 0 else milliseconds / 1000,
    )
    found = {
        descriptor: READ * (descriptor in readers) | WRITE * (descriptor in writers)
        for descriptor, _ in asked
    }
    return [(descriptor, events) for descriptor, events in found.items() if events]


_ready = _poll if hasattr(select, "poll") else _select


class Waker:
    """A descriptor to wait for with `READ`, which any thread can make ready."""

    __slots__ = ("_lock", "_reader", "_writer", "woken")

    woken: bool
    """True from `wake` to `clear`."""

    def __init__(self) -> None:
        self.woken = False
        self._lock = threading.Lock()
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._reader.fileno()

    def wake(self) -> None:
        """Make the descriptor ready until `clear`; without effect after `close`."""
        with self._lock, suppress(OSError):  # closed: nobody waits any more
            if not self.woken:
                self.woken = True
                self._writer.send(b"\0")

    def clear(self) -> None:
        """Make the descriptor not ready again."""
        with self._lock:
            if self.woken:
                self.woken = False
                self._reader.recv(1)

    def close(self) -> None:
        """Close both ends; only when nobody waits for the descriptor any more."""
        with self._lock:
            self._reader.close()
            self._writer.close()
