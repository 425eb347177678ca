"""A stream without a network: it plays a script to whoever reads, and keeps what is written."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from dicomnet import errors
from dicomnet.transport.deadline import DeadlineExpired
from dicomnet.transport.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from dicomnet.transport.deadline import Deadline
    from dicomnet.transport.stream import Address

__all__ = ["AWAIT_WRITE", "SILENCE", "ScriptedStream", "Step"]


class _Mark:
    """A step that is only itself."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


AWAIT_WRITE: Final = _Mark("AWAIT_WRITE")
"""The script goes on once something was written after its last AWAIT_WRITE: the peer answers."""

SILENCE: Final = _Mark("SILENCE")
"""One wait in vain: `read_into` raises `DeadlineExpired` without waiting, `try_read_into` returns `None`."""

Step = bytes | Exception | _Mark


class ScriptedStream(Stream):
    """Plays the steps of `script` in order, and then the peer's orderly end.

    A step is what arrives in one piece (bytes), what the read raises (an exception), `AWAIT_WRITE` or
    `SILENCE`. A read never joins two pieces, so a script also chooses where a message is cut. Steps are
    drawn when their turn comes: a generator can make them from what was written until then. One thread may
    read and another write. No clock runs but at an `AWAIT_WRITE` under a deadline.
    """

    def __init__(
        self,
        script: Iterable[Step] = (),
        *,
        local_address: Address = ("127.0.0.1", 49152),
        peer_address: Address = ("127.0.0.1", 104),
    ) -> None:
        self.local_address = local_address
        self.peer_address = peer_address
        self.writes: list[bytes] = []
        """What each call of `write` wrote."""
        self.fail_write: Exception | None = None
        """What the next `write` raises, instead of taking the bytes."""
        self.quick_acks = 0
        """How often an immediate acknowledgement was asked for."""
        self.closed = ""
        """How the stream was closed: "close", "kill", or "" while it is open."""
        self._script = iter(script)
        self._step: Step | None = None
        self._answered = 0
        self._shut = False
        self._changed = threading.Condition()

    @property
    def written(self) -> bytes:
        """All bytes written so far."""
        return b"".join(self.writes)

    def fileno(self) -> int:
        """Return -1: there is nothing to poll."""
        return -1

    def read_into(self, buffer: memoryview, deadline: Deadline) -> int:
        """Play the next step; waits at an `AWAIT_WRITE` only."""
        with self._changed:
            if self._changed.wait_for(self._ready, deadline.remaining()):
                n = self._play(buffer)
                if n is not None:
                    return n
        raise DeadlineExpired("the script is silent here")

    def try_read_into(self, buffer: memoryview) -> int | None:
        """Play the next step; `None` at a `SILENCE`, and where the script waits for a write."""
        with self._changed:
            return self._play(buffer) if self._ready() else None

    def _ready(self) -> bool:
        """Draw the next step if there is none; False where it has to wait for a write."""
        while not self._shut:
            if self._step is None:
                self._step = next(self._script, None)
            if self._step is not AWAIT_WRITE:
                break
            if self._answered == len(self.writes):
                return False
            self._answered, self._step = len(self.writes), None
        return True

    def _play(self, buffer: memoryview) -> int | None:
        self._check_open()
        step, self._step = self._step, None
        if isinstance(step, Exception):
            raise step
        if isinstance(step, _Mark):
            return None
        if not step:
            return 0
        n = min(len(step), len(buffer))
        buffer[:n] = step[:n]
        self._step = step[n:] or None
        return n

    def write(
        self,
        buffers: Sequence[bytes | memoryview],
        deadline: Deadline,  # noqa: ARG002 - never waits
        *,
        stall: float | None = None,  # noqa: ARG002
        on_readable: Callable[[], bool] | None = None,  # noqa: ARG002
    ) -> None:
        """Keep what is written as one item of `writes`."""
        with self._changed:
            self._check_open()
            failure, self.fail_write = self.fail_write, None
            if failure is not None:
                raise failure
            self.writes.append(b"".join(buffers))
            self._changed.notify_all()

    def quick_ack(self) -> None:
        """Count in `quick_acks`."""
        self.quick_acks += 1

    def shutdown(self) -> None:
        """Let every read and write from now on raise `LinkClosed`, those that wait included."""
        with self._changed:
            self._shut = True
            self._changed.notify_all()

    def close(self, deadline: Deadline) -> None:  # noqa: ARG002 - nothing to wait for
        """Close; `closed` becomes "close"."""
        self._close("close")

    def kill(self) -> None:
        """Close; `closed` becomes "kill"."""
        self._close("kill")

    def _close(self, how: str) -> None:
        self.shutdown()
        self.closed = self.closed or how

    def _check_open(self) -> None:
        if self._shut:
            raise errors.LinkClosed(f"the connection to {self.peer} was closed on our side", peer=self.peer)
