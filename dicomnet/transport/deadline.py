"""The one clock object: a deadline that a call is given and passes down to its last partial read or write."""

from __future__ import annotations

from math import ceil, inf
from time import monotonic
from typing import Final

__all__ = ["NEVER", "Deadline", "DeadlineExpired"]

_LONGEST_POLL = 2**31 - 1  # poll(2) takes a C int


class DeadlineExpired(TimeoutError):
    """A wait in the transport reached its deadline.

    It never reaches an application: the layer that set the limit knows what it means, and raises the class
    of `TimeoutExpired` that says so.
    """


class Deadline:
    """A moment that a wait may not outlast. Immutable; two deadlines nest with `sooner`."""

    __slots__ = ("_end", "_start", "limit")

    limit: Final[float | None]
    """The seconds that it was given; `None` for never."""

    def __init__(self, seconds: float | None) -> None:
        self._start: Final = monotonic()
        self._end: Final = inf if seconds is None else self._start + seconds
        self.limit = None if self._end == inf else seconds

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """Return the deadline that many seconds from now; `None` and infinity never come."""
        return cls(seconds)

    def __repr__(self) -> str:
        left = self.remaining()
        return "Deadline(never)" if left is None else f"Deadline({left:.3f} s left of {self.limit:g} s)"

    @property
    def expired(self) -> bool:
        """True once the moment has come."""
        return self._end <= monotonic()

    def remaining(self) -> float | None:
        """Return the seconds left, 0.0 when expired and `None` for never: a timeout for Python's locks."""
        return None if self._end == inf else max(0.0, self._end - monotonic())

    def elapsed(self) -> float:
        """Return the seconds since the deadline was set; without meaning for `NEVER`."""
        return monotonic() - self._start

    def sooner(self, other: Deadline | float | None) -> Deadline:
        """Return whichever comes first: this deadline, or another one, or so many seconds from now."""
        if not isinstance(other, Deadline):
            other = Deadline(other)
        return other if other._end < self._end else self

    def poll_ms(self) -> int:
        """Return the milliseconds left as poll(2) takes them: -1 for never, 0 only when expired.

        Rounded up, so that a poll does not return just before the deadline; cut at 24 days, so poll again.
        """
        if self._end == inf:
            return -1
        return min(_LONGEST_POLL, max(0, ceil((self._end - monotonic()) * 1000)))


NEVER: Final = Deadline(None)
