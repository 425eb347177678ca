"""Who reads: one thread at a time, as deep as its callbacks nest; and how the other threads learn of it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ReaderRole"]


class ReaderRole:
    """The right to read a link, to run its callbacks and to close its stream.

    The thread that has it can take it again, which counts as one deeper, and leaves as often as it took. A
    thread that takes it `briefly` is not a reader: it looks what is there, or closes, and those who want to
    read wait for it.

    Whoever wants the link ended and cannot have the role `summons` its holder, who cannot leave before that
    is done. So an end that is wanted is never left to nobody.
    """

    def __init__(self) -> None:
        self.news = 0
        """Counts what `announce` told; a number to compare with only."""
        self.depth = 0
        """How often the holder has taken the role, 0 where nobody has it."""
        self._lock = threading.RLock()  # entered by itself: a third of what its condition takes for that
        self._changed = threading.Condition(self._lock)
        self._holder: int | None = None
        self._brief = False
        self._summoned = False

    @property
    def mine(self) -> bool:
        """True on the thread that has the role."""
        return self._holder == threading.get_ident()

    def take(self) -> bool:
        """Take the role; False if another thread reads."""
        me = threading.get_ident()
        with self._lock:
            while self._brief and self._holder != me:
                self._changed.wait()
            return self._take(me)

    def take_briefly(self) -> bool:
        """Take the role for something that does not wait for the peer; False if another thread has it."""
        me = threading.get_ident()
        with self._lock:
            brief = self._holder is None
            taken = self._take(me)
            self._brief = self._brief or (brief and taken)
            return taken

    def take_or_summon(self) -> bool:
        """Take the role briefly to end the link, or leave that to the thread that has it (False)."""
        with self._lock:
            taken = self.take_briefly()
            self._summoned = self._summoned or not taken
            return taken

    def _take(self, me: int) -> bool:
        if self._holder not in (None, me):
            return False
        self._holder = me
        self.depth += 1
        return True

    def leave(self) -> bool:
        """Give one depth back. False where the link has to be ended first: do that, and leave again."""
        with self._lock:
            if self.depth == 1 and self._summoned:
                self._summoned = False
                return False
            self.depth -= 1
            if not self.depth:
                self._holder, self._brief = None, False
                self._tell()
            return True

    def announce(self) -> None:
        """Something happened on the link: wake those who wait."""
        with self._lock:
            self._tell()

    def _tell(self) -> None:
        self.news += 1
        self._changed.notify_all()

    def wait_for_news(self, since: int, seconds: float | None) -> None:
        """Wait until something was announced, or the role given back, after `news` was `since`."""
        with self._lock:
            self._changed.wait_for(lambda: self.news != since, seconds)

    def wait_until(self, predicate: Callable[[], object], seconds: float | None) -> None:
        """Wait until `predicate` holds, which is looked at when there are news; it must not lock anything."""
        with self._lock:
            self._changed.wait_for(predicate, seconds)
