"""P-DATA both ways: fragments to messages, messages to fragments (PS3.8 9.3.5 and annex E).

Receiving, a fragment goes straight from the receive buffer to a `Sink`; nothing is kept here but the
command set, which is small and capped. Sending, `batches` lays many P-DATA-TF PDUs into one write: slices
of the data set with headers between them where it lies in memory, one staging buffer that the `Source`
fills in place where it does not.

Neither knows the state machine: whether P-DATA is allowed now is `upper_layer`'s business.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Any, Protocol

from dicomnet.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from dicomnet.protocol import command_set

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Sequence

    from dicomnet.protocol.command_set import Command
    from dicomnet.settings import Limits

__all__ = ["Assembler", "Batch", "MessageReceived", "Sink", "Source", "batches", "lease", "restore"]

COMMAND, LAST = 1, 2  # message control header, E.2
PDV_HEADER = 6  # item length 4, context id 1, message control header 1
_HEADERS = Struct(">BxIIBB")  # P-DATA-TF header and the header of its only PDV
BATCH = 1024 * 1024  # bytes that go into one write: a CT image and what is around it
BATCH_PDUS = 512  # and PDUs, each of two buffers: IOV_MAX is 1024

MOST_EMPTY = 64  # fragments without bytes that one message may have

_pool: deque[bytearray] = deque(maxlen=16)


def lease() -> bytearray:
    """Return a buffer of `BATCH` bytes, out of the pool where it has one."""
    try:
        return _pool.pop()
    except IndexError:
        return bytearray(BATCH)


def restore(buffer: bytearray) -> None:
    """Give a leased buffer back; the pool keeps a few and lets the others go."""
    if len(buffer) == BATCH:
        _pool.append(buffer)


class Sink(Protocol):
    """Where the bytes of one received data set go, chosen before its first fragment.

    `write` gets a view that is valid during the call only. Exactly one of `finish` (all bytes came; what it
    returns is the data set that the callback gets) and `abandon` (they did not) ends it. An exception from
    `write` or `finish` makes the message fail, not the association.
    """

    def write(self, fragment: memoryview, /) -> object:
        """Take the next bytes."""

    def finish(self) -> Any:
        """All bytes are there: return what the callback gets as its data set."""

    def abandon(self) -> None:
        """The rest will not come, or a write failed: leave nothing behind."""


class Source(Protocol):
    """The encoded data set that a message carries, `size` bytes (even, D08) in all."""

    @property
    def size(self) -> int:
        """How many bytes the data set has."""

    def view(self) -> memoryview | None:
        """The whole data set where it lies in memory, else None."""

    def read_into(self, views: Sequence[memoryview], /) -> None:
        """Fill all `views` with the next bytes; `DataSetError` where there are not enough."""

    def close(self) -> None:
        """Free what the source holds."""


@dataclass(slots=True)
class MessageReceived:
    """A complete DIMSE message. `error` is what its sink raised; the data set is then lost."""

    context_id: int
    command: Command
    data_set: Any = None
    error: Exception | None = None


class Assembler:
    """The receiving half: one message at a time, as D04-D07 demand.

    `open_sink(context_id, command)` is asked where a data set goes when its command is complete; None
    discards it.
    """

    def __init__(self, limits: Limits, open_sink: Callable[[int, Command], Sink | None]) -> None:
        self.contexts: Container[int] = ()
        self._limits = limits
        self._open_sink = open_sink
        self._command = bytearray()
        self._control = 0
        self._context = 0  # id of the message in progress, 0 between messages
        self._message: Command | None = None  # its command, while its data set arrives
        self._sink: Sink | None = None
        self._size = 0
        self._empty = self._filled = 0  # fragments without bytes in this message; bytes after the last one
        self._error: Exception | None = None
        self._last_raw = b""
        self._last_command: Command | None = None

    @property
    def busy(self) -> bool:
        """True within a message."""
        return self._context != 0

    def begin(self, context_id: int, control: int) -> None:
        """A fragment begins; `control` is its message control header."""
        if self._context and context_id != self._context:
            what = f"a fragment on context {context_id} inside a message on {self._context}"
            raise _invalid(what, 5, "PS3.8 E.1")
        if not self._context:
            if context_id not in self.contexts:
                raise _invalid(f"P-DATA on context {context_id}, which was not accepted", 6, "PS3.8 9.3.5.1")
            self._context = context_id
            self._empty = 0
        if (control & COMMAND == 0) != (self._message is not None):
            came, due = ("data set", "command") if self._message is None else ("command", "data set")
            raise _invalid(f"a {came} fragment where one of the {due} had to come", 5, "PS3.8 E.1")
        self._control = control

    def write(self, data: memoryview) -> None:
        """Take the next bytes of the fragment."""
        if self._message is None:
            if len(self._command) + len(data) > self._limits.command_set:
                raise self._limit("command_set", len(self._command) + len(data))
            self._command += data
            return
        self._size += len(data)
        if self._size > self._limits.data_set:
            raise self._limit("data_set", self._size)
        if self._sink is not None:
            try:
                self._sink.write(data)
            except Exception as error:  # an application's sink may raise anything
                self._fail(error)

    def end(self) -> MessageReceived | None:
        """The fragment is complete; return the message if it was the last one."""
        if not self._control & LAST:
            self._check_progress()
            return None
        if self._message is None:
            self._message = self._decode()
            if self._message.has_data_set:
                self._open(self._message)
                return None
        result = MessageReceived(self._context, self._message, None, self._error)
        if self._sink is not None:
            sink, self._sink = self._sink, None
            try:
                result.data_set = sink.finish()
            except Exception as error:
                result.error = error
        self._context, self._message, self._error = 0, None, None
        return result

    def _check_progress(self) -> None:
        """A peer may send a fragment without bytes (D10), but not go on with it for ever."""
        filled = self._size + len(self._command)
        if filled == self._filled:
            self._empty += 1
            if self._empty > MOST_EMPTY:
                raise _invalid(f"more than {MOST_EMPTY} fragments without bytes in a message", 6, "PS3.8 E.1")
        self._filled = filled

    def abandon(self) -> None:
        """The association ends: drop what has arrived of a message."""
        self._context, self._message, self._error = 0, None, None
        self._command.clear()
        sink, self._sink = self._sink, None
        if sink is not None:
            with suppress(Exception):  # what ended the association is the error that counts
                sink.abandon()

    def _decode(self) -> Command:
        raw = bytes(self._command)
        self._command.clear()
        if raw != self._last_raw or self._last_command is None:
            self._last_command = command_set.decode(raw)
            self._last_raw = raw
        return self._last_command

    def _open(self, command: Command) -> None:
        self._size = 0
        try:
            self._sink = self._open_sink(self._context, command)
        except Exception as error:
            self._error = error
        if not self.busy:  # the callback has closed the link
            self.abandon()

    def _fail(self, error: Exception) -> None:
        self._error = error
        sink, self._sink = self._sink, None
        if sink is not None:
            try:
                sink.abandon()
            except Exception as second:  # the first error is the one that counts
                error.__context__ = second

    def _limit(self, name: str, seen: int) -> LimitExceeded:
        allowed = getattr(self._limits, name)
        return LimitExceeded(
            f"the peer sent a message with more than Limits.{name} = {allowed} bytes, and was aborted",
            limit=name,
            allowed=allowed,
            seen=seen,
            abort_reason=0,
        )


def _invalid(what: str, reason: int, clause: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"the peer sent {what}", abort_reason=reason, clause=clause)


@dataclass(slots=True)
class Batch:
    """One write: its buffers in order, and the length of each PDU in it (headers included)."""

    buffers: list[bytes | memoryview]
    pdus: list[int]


def batches(context_id: int, command: bytes, source: Source | None, max_length: int) -> Iterator[Batch]:
    """Yield the P-DATA-TF PDUs of one message, `BATCH` bytes or so at a time.

    Each PDU holds one PDV: some peers refuse several. `max_length` is the peer's maximum (D.1, never 0
    here); the largest fragment is 6 bytes less, rounded down to even (L05, D08). A staging buffer is
    reused between batches: write one out before asking for the next.
    """
    step = (max_length - PDV_HEADER) & ~1
    if step < 2:
        raise LocalProtocolError(
            f"the peer takes P-DATA of at most {max_length} bytes: no fragment fits, release or abort",
            clause="PS3.8 D.1",
        )
    batch = Batch([], [])
    view = memoryview(command)
    for at in range(0, len(view), step):
        _append(batch, context_id, COMMAND, view[at : at + step], at + step >= len(view))
    if source is None:
        yield batch
        return
    per_batch = max(1, min(BATCH_PDUS, BATCH // (step + 12)))
    whole = source.view()
    if whole is not None:
        yield from _from_memory(batch, context_id, whole, step, per_batch)
    else:
        yield from _from_stream(batch, context_id, source, step, per_batch)


def _append(batch: Batch, context_id: int, kind: int, data: memoryview, last: bool) -> None:
    n = len(data)
    batch.buffers.append(_HEADERS.pack(4, n + 6, n + 2, context_id, kind | LAST if last else kind))
    batch.buffers.append(data)
    batch.pdus.append(n + 12)


def _from_memory(
    batch: Batch, context_id: int, data: memoryview, step: int, per_batch: int
) -> Iterator[Batch]:
    total = len(data)
    if not total:  # announced but empty: one last fragment without bytes (D10)
        _append(batch, context_id, 0, data, last=True)
    full = _HEADERS.pack(4, step + 6, step + 2, context_id, 0)
    for at in range(0, total, step):
        if len(batch.pdus) > per_batch:
            yield batch
            batch = Batch([], [])
        if at + step < total:
            batch.buffers += (full, data[at : at + step])
            batch.pdus.append(step + 12)
        else:
            _append(batch, context_id, 0, data[at:], last=True)
    yield batch


def _from_stream(batch: Batch, context_id: int, source: Source, step: int, per_batch: int) -> Iterator[Batch]:
    left, slot = source.size, step + 12
    head, pdus = b"".join(batch.buffers), batch.pdus  # in the same buffer, so that TLS need not join them
    staging = lease() if len(head) + slot <= BATCH else bytearray(len(head) + slot)
    stage, used = memoryview(staging), len(head)
    stage[:used] = head
    try:
        while True:
            views: list[memoryview] = []
            while used + slot <= len(staging) and len(views) < per_batch:
                n = min(step, left)
                left -= n
                _HEADERS.pack_into(staging, used, 4, n + 6, n + 2, context_id, 0 if left else LAST)
                views.append(stage[used + 12 : used + 12 + n])
                pdus.append(n + 12)
                used += n + 12
                if not left:
                    break
            source.read_into(views)
            yield Batch([stage[:used]], pdus)
            if not left:
                return
            pdus, used = [], 0
    finally:
        restore(staging)
