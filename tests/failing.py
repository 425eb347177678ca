"""What every failure has to be: of its own class, with a message that helps, and not later than its limit."""

from __future__ import annotations

import pickle
import queue
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest
from peers import LOCAL, LONG, Store

from dicomnet import Timeouts, errors
from dicomnet.scu import DicomScp, StoreScu

if TYPE_CHECKING:
    from collections.abc import Iterator

SOON = 0.2
ENDLESS = 1000.0
"""Longer than a test may take: what ends by this limit fails."""

_ALL = [field.name for field in fields(Timeouts)]


def only(*names: str) -> Timeouts:
    """Return time-outs of which these end soon, and no other within a test."""
    return Timeouts(**{**dict.fromkeys(_ALL, ENDLESS), **dict.fromkeys(names, SOON)})


def at(port: int, host: str = LOCAL) -> str:
    return f"{host}:{port}"


def check(error: BaseException, kind: type[BaseException], *words: str, peer: str = "") -> Any:
    """Check class, message and fields of an error, and return it."""
    assert type(error) is kind, f"{type(error).__name__}: {error}"
    text = str(error)
    missing = [word for word in (peer, *words) if word not in text]
    assert not missing, f"{missing} not in: {text}"
    assert text.isascii()
    assert "\n" not in text
    assert getattr(error, "peer", "") == peer
    assert str(pickle.loads(pickle.dumps(error))) == text
    if isinstance(error, errors.TimeoutExpired):
        assert error.limit == SOON
        assert f"{SOON:g} s" in text
        assert error.elapsed >= SOON
    return error


@contextmanager
def failure(kind: type[BaseException], *words: str, peer: str = "") -> Iterator[pytest.ExceptionInfo[Any]]:
    """Expect this error in the block, with these words in its message; `peer` must be named."""
    with pytest.raises(BaseException) as raised:
        yield raised
    check(raised.value, kind, *words, peer=peer)


class Failures(queue.Queue[tuple[str, str]]):
    """A trace hook that keeps the failures of links, and of nothing else, as (class name, message)."""

    def __call__(self, event: str, fields: Any) -> None:
        if event == "link.failed":
            self.put((fields["error"], fields["message"]))

    def expect(self, kind: type[BaseException], *words: str) -> str:
        """Wait for the next failure, and check it."""
        name, message = self.get(timeout=LONG)
        assert name == kind.__name__, f"{name}: {message}"
        missing = [word for word in words if word not in message]
        assert not missing, f"{missing} not in: {message}"
        return message


class WatchedStore(Store):
    """A storage server that keeps the failures of its links."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.failures = Failures()
        super().__init__(*args, **{"timeouts": only(), "trace": self.failures, **options})


def scu(port: int, host: str = LOCAL, **options: Any) -> StoreScu:
    """Return a client of ours that is not connected; no time-out of it ends within a test."""
    return StoreScu(DicomScp(host, "PACS", port), **{"timeouts": only(), "trace": None, **options})
