"""The time limits of the protocol: which of them bounds the wait that begins now, and what is left of it.

A reader that waits does not learn that another thread has sent a request meanwhile, which sets a limit of
its own. So it never waits longer than the shortest limit there is, and then asks again: a limit that begins
during a wait cannot end before it.
"""

from __future__ import annotations

from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

from dicomnet import errors
from dicomnet.protocol.state_machine import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dicomnet.protocol.operations import Operation, Operations
    from dicomnet.protocol.upper_layer import UpperLayer
    from dicomnet.settings import Limits, Timeouts

__all__ = ["IDLE_ACCEPTOR", "Limit", "Watch"]

IDLE_ACCEPTOR: Final = 600.0

_OF_STATE = {
    State.STA2: "artim",
    State.STA3: "reply",
    State.STA5: "association",
    State.STA7: "release",
    State.STA8: "reply",
    State.STA9: "reply",
    State.STA10: "release",
    State.STA11: "release",
    State.STA12: "reply",
    State.STA13: "artim",
}
_EXPIRED: dict[str, tuple[type[errors.TimeoutExpired], str, str]] = {
    "artim": (
        errors.AssociationTimeout,
        "no complete association request came from",
        "It may be a port scan, or wait for us to speak first",
    ),
    "association": (
        errors.AssociationTimeout,
        "no complete answer to our association request came from",
        "Look whether this is the port of its DICOM server, and whether that wants TLS",
    ),
    "read": (errors.ReadTimeout, "too little came from", "Look at the network, and at the peer's log"),
    "response": (
        errors.ResponseTimeout,
        "no response came from",
        "Look at its log; where it needs longer, allow more",
    ),
    "reply": (
        errors.ReplyTimeout,
        "our own handler did not answer",
        "Send the response from the callback, or later from any thread; where that takes longer, allow more",
    ),
    "release": (errors.ReleaseTimeout, "no release response came from", "The connection was closed"),
    "idle": (
        errors.IdleTimeout,
        "nothing was exchanged with",
        "To keep an association, allow more or send a C-ECHO now and then",
    ),
}


class Limit(NamedTuple):
    """A limit: seconds that are left of it, its name in `Timeouts`, and the seconds it allows in all."""

    left: float
    name: str
    seconds: float


_NEVER = Limit(inf, "", inf)


class Watch:
    """The clock of one link. `Operation.extra` of its operations is the time of their last sign of life."""

    def __init__(self, timeouts: Timeouts, limits: Limits, core: UpperLayer, operations: Operations) -> None:
        self._timeouts = timeouts
        self._minimum_rate = limits.minimum_rate
        self._core = core
        self._operations = operations
        self._since = monotonic()  # when the state was entered, or the last message went in or out
        self._silent = 0.0  # seconds waited since the last byte came
        self._waited = 0.0  # seconds waited for the PDU or message in progress
        self._base: int | None = None  # bytes received when it was first waited for
        idle = timeouts.idle
        if idle is None:
            idle = inf if core.requestor else IDLE_ACCEPTOR
        self._idle = idle
        self.shortest: Final[float] = min(idle, *(self._seconds(name) for name in _EXPIRED if name != "idle"))
        """The longest that a wait may last before `limit` is asked again."""

    def _seconds(self, name: str) -> float:
        seconds: float | None = self._idle if name == "idle" else getattr(self._timeouts, name)
        return inf if seconds is None else seconds

    def moved(self) -> None:
        """The state has changed, or a message went in or out."""
        self._since = monotonic()

    def heard(self) -> None:
        """Bytes have come."""
        self._silent = 0.0

    def complete(self) -> None:
        """What comes next is a new PDU or message."""
        self._base = None

    def waited(self, seconds: float) -> None:
        """The reader has waited for bytes."""
        self._silent += seconds
        self._waited += seconds

    @staticmethod
    def alive(operation: Operation | None) -> None:
        """Note a sign of life: the request or a response of `operation` went out, or came in."""
        if operation is not None:
            operation.extra = monotonic()

    def limit(self, *, sending: bool) -> Limit:
        """Return the limit that ends the wait first; while we are `sending`, the write has its own."""
        return min(self._limits(sending))

    def _limits(self, sending: bool) -> Iterator[Limit]:
        now, core = monotonic(), self._core
        name = _OF_STATE.get(core.state)
        if name is not None:
            yield self._limit(name, now - self._since)
            return
        if core.mid_message:
            if self._base is None:
                self._base, self._waited = core.bytes_received, 0.0
            yield self._limit("read", self._silent)
            grace = (core.bytes_received - self._base) / self._minimum_rate
            yield self._limit("read", self._waited, grace)
            return
        self._base = None
        operations = self._operations
        for operation in list(operations.outstanding.values()):
            if operation.extra is not None:  # else it is being sent
                yield self._limit("response", now - operation.extra)
        for operation in () if sending else list(operations.owed.values()):
            yield self._limit("reply", now - operation.extra)
        if not (sending or operations.outstanding or operations.owed):
            yield self._limit("idle", now - self._since)
        yield _NEVER

    def _limit(self, name: str, elapsed: float, grace: float = 0.0) -> Limit:
        seconds = self._seconds(name) + grace
        return Limit(seconds - elapsed, name, seconds)

    def error(self, limit: Limit, peer: str) -> errors.TimeoutExpired:
        """Return the exception for a limit that has passed."""
        kind, what, advice = _EXPIRED[limit.name]
        state, seconds = str(self._core.state), self._seconds(limit.name)
        return kind(
            f"{what} {peer} within {seconds:g} s (Timeouts.{limit.name}) in {state}. {advice}",
            limit=seconds, elapsed=limit.seconds - limit.left, peer=peer, state=state,
        )  # fmt: skip
