"""Link: one connection with at most one association on it; drives the protocol core with a stream.

Three locks, always taken in this order. `message`: one message at a time on the wire (PS3.8 E.1, D06).
`wire`: a state change together with its bytes, once per batch of PDUs, so that the order on the wire is the
order of states. The stream's own lock, around each OpenSSL call, comes last.

One thread at a time is the **reader**: it reads, and runs the callbacks. Any call that has to wait for the
peer becomes the reader while it waits, or waits for the thread that is. From inside a callback, a waiting
call goes on reading on the same thread, nested.

The link ends once. Whoever ends it records the first cause in `error`, and the reader, or the closing
thread where nobody reads, closes the stream.
"""

from __future__ import annotations

import itertools
import threading
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from dicomnet import errors
from dicomnet.enums import abort_text
from dicomnet.protocol import sniff
from dicomnet.protocol.assembler import MessageReceived, batches
from dicomnet.protocol.operations import Operations
from dicomnet.protocol.state_machine import State
from dicomnet.protocol.upper_layer import CONTROL, NEED_DATA, AbortReceived, Fault, UpperLayer
from dicomnet.transport.deadline import NEVER, Deadline, DeadlineExpired

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dicomnet.protocol.assembler import Sink, Source
    from dicomnet.protocol.command_set import Command
    from dicomnet.protocol.upper_layer import Indication
    from dicomnet.settings import Limits, Timeouts
    from dicomnet.trace import Trace
    from dicomnet.transport.stream import Stream

__all__ = ["Handler", "Link"]

ABORT_WAIT = 1.0  # seconds that an abort waits for a write in progress
LINGER = 1.0  # seconds that a closing thread waits for the peer to close
SLICE = 0.2  # seconds between two looks at a predicate that nobody announces
IDLE_ACCEPTOR = 600.0

_numbers = itertools.count(1)
_QUIET = (State.STA1, State.STA2, State.STA4, State.STA13)  # no association that an abort would end


class Handler(Protocol):
    """What a link calls upward. All of it runs on the reader's thread, but `sent` on the sender's."""

    def open_sink(self, context_id: int, command: Command) -> Sink | None:
        """Choose where a data set goes."""

    def dispatch(self, event: Indication | MessageReceived) -> None:
        """Handle a message or an indication; an exception aborts the association."""

    def link_ended(self) -> None:
        """The stream is closed; `error` holds the cause. Called once."""


class Link:
    """One connection: its stream, protocol core, locks, deadlines and first error."""

    def __init__(
        self,
        stream: Stream,
        handler: Handler,
        *,
        requestor: bool,
        timeouts: Timeouts,
        limits: Limits,
        trace: Trace | None = None,
        tap: Callable[[int, memoryview], object] | None = None,
        sent: Callable[[int, int], object] | None = None,
    ) -> None:
        self.number = next(_numbers)
        self.stream = stream
        self.timeouts = timeouts
        self.limits = limits
        self.core = UpperLayer(limits, handler.open_sink, requestor=requestor, tap=tap)
        self.operations = Operations()
        self.error: errors.DicomException | None = None
        self.ended = False
        self._handler = handler
        self._trace = trace
        self._sent = sent
        self._message = threading.Lock()
        self._sender: int | None = None
        self._wire = threading.RLock()
        self._changed = threading.Condition()
        self._reader: int | None = None
        self._depth = 0
        self._in_core = False
        self._finished = False
        self._since = monotonic()  # when the state was entered, or the last request or reply went out
        self._unit: tuple[float, int] | None = None  # when a PDU or message was first waited for, bytes then

    # --- what it is doing -------------------------------------------------------------------------

    @property
    def peer(self) -> str:
        """The peer's "address:port"."""
        return self.stream.peer

    @property
    def state(self) -> State:
        """The protocol machine's state (PS3.8 table 9-10)."""
        return self.core.state

    @property
    def state_name(self) -> str:
        """The state in words."""
        return str(self.core.state)

    @property
    def associated(self) -> bool:
        """True while an association is established and not being released."""
        return self.core.state is State.STA6

    @property
    def reading(self) -> bool:
        """True on the thread that is the reader."""
        return self._reader == threading.get_ident()

    def trace(self, event: str, **fields: Any) -> None:
        """Report an event to the trace hook, if there is one."""
        if self._trace is not None:
            self._trace(event, {"link": self.number, "peer": self.peer, **fields})

    # --- sending ----------------------------------------------------------------------------------

    def send(self, make: Callable[[], bytes], event: str, **fields: Any) -> None:
        """Make a control PDU's transition and write it; `make` is one of the core's local events."""
        try:
            with self._wire:
                self._check_open()
                data = make()
                self._since = monotonic()
                if data:
                    self._write([data], [len(data)])
        finally:
            self._settle()
        self.trace(event, **fields)
        self._notify()

    def abort(self, source: int = 0, reason: int = 0) -> None:
        """Send A-ABORT if that is still possible within a second, then end the link."""
        error = errors.AssociationAborted(
            f"we aborted the association with {self.peer}", source=source, reason=reason, by="us",
            peer=self.peer, state=self.state_name,
        )  # fmt: skip
        self._abort(source, reason, error)

    def _abort(self, source: int, reason: int, error: errors.DicomException) -> None:
        if self.error is None:
            self.error = error
        if self._wire.acquire(timeout=ABORT_WAIT):
            try:
                if self.core.state not in _QUIET:
                    data = self.core.abort(source, reason)
                    self._since = monotonic()
                    self.stream.write([data], Deadline.after(ABORT_WAIT))
                    self.trace("association.aborted", by="us", source=source, reason=reason)
            except (errors.DicomException, DeadlineExpired):
                self.stream.shutdown()  # nothing more can be sent
            finally:
                self._wire.release()
        else:
            self.stream.shutdown()
        self._notify()

    def send_message(
        self, context_id: int, command: bytes, source: Source | None, registered: Callable[[], object]
    ) -> None:
        """Send one message; `registered` is called before its first byte leaves.

        Where the data set cannot be read to its end, the association is aborted: half a message cannot be
        taken back. Before the first byte nothing has happened, and the association goes on.
        """
        if self._sender == threading.get_ident():
            raise errors.ReentrancyError(
                "on_send and a data set that is being read cannot send a message themselves"
            )
        try:
            with self._message:
                self._sender = threading.get_ident()
                try:
                    self._send_batches(context_id, command, source, registered)
                finally:
                    self._sender = None
        finally:
            self._settle()

    def _send_batches(
        self, context_id: int, command: bytes, source: Source | None, registered: Callable[[], object]
    ) -> None:
        started = False
        try:
            for batch in batches(context_id, command, source, self.core.send_length):
                with self._wire:
                    self._check_open()
                    self.core.p_data()
                    if not started:
                        registered()
                        started = True
                    self._write(batch.buffers, batch.pdus, data=True)
        except errors.DataSetError as error:  # the source, not the link
            if started:
                self._abort(0, 0, error)
                self._end()
            raise
        self._since = monotonic()

    def _write(
        self, buffers: Sequence[bytes | memoryview], pdus: Sequence[int], *, data: bool = False
    ) -> None:
        """Write with the link's time limits; any failure ends the link. The caller holds `wire`."""
        limit = self.timeouts.write
        total = None if limit is None else limit + sum(pdus) / self.limits.minimum_rate
        try:
            self.stream.write(buffers, Deadline.after(total), stall=limit, on_readable=self._read_ahead)
        except DeadlineExpired:
            error: errors.DicomException = errors.WriteTimeout(
                f"{self.peer} stopped reading: nothing could be sent for {limit:g} s in {self.state_name}. "
                "The connection was closed; look for a peer that hangs or a network that drops large packets",
                limit=limit or 0.0, elapsed=limit or 0.0, peer=self.peer, state=self.state_name,
            )  # fmt: skip
            raise self._fail(error) from None
        except errors.DicomException as error:
            raise self._fail(self._cause_of(error)) from error
        if self._sent is not None:
            for kind, length in ((4 if data else buffers[0][0], n) for n in pdus):
                self._sent(kind, length)

    def _read_ahead(self) -> bool:
        """While a write blocks: take in at most one buffer, undispatched; False when there is no more to do.

        So two ends that both send cannot lock up, and a sender sees the peer's abort.
        """
        if self._in_core or not self._take_reader():
            return False
        try:
            if self.core.abort_waiting:
                raise errors.ConnectionLost("the peer aborted", peer=self.peer)
            buffer = self.core.read_ahead_buffer()
            if not len(buffer):
                return False
            n = self.stream.try_read_into(buffer)
            if n:
                self.core.received(n)
            if self.core.abort_waiting:
                raise errors.ConnectionLost("the peer aborted", peer=self.peer)
            return bool(n) or n is None
        finally:
            self._leave_reader()

    def _cause_of(self, error: errors.DicomException) -> errors.DicomException:
        """A lost connection may have brought the peer's A-ABORT just before: that is the cause then."""
        if not self._in_core and self._take_reader():
            try:
                buffer = self.core.read_ahead_buffer()
                n = self.stream.try_read_into(buffer) if len(buffer) else None
                if n:
                    self.core.received(n)
                event = self.core.control()[0] if self.core.abort_waiting else None
                if isinstance(event, AbortReceived):
                    return self._aborted(event)
            except errors.DicomException:
                pass
            finally:
                self._leave_reader()
        return error

    # --- reading ----------------------------------------------------------------------------------

    def step(self, deadline: Deadline = NEVER) -> bool:
        """Handle what arrives next and run its callbacks. The caller is the reader.

        Return False when `deadline` passed or the link ended; raise what ended it otherwise than by a
        release, a rejection or a local close.
        """
        if self._in_core:
            raise errors.ReentrancyError(
                "on_receive and on_data_set cannot wait for the peer: they run inside its PDU"
            )
        core = self.core
        while not self.ended:
            self._in_core = True
            try:
                event = core.next_event()
            finally:
                self._in_core = False
            if event is NEED_DATA:
                if core.state is State.STA1:
                    self._end_now()
                elif not self._fill(deadline):
                    return False
            elif event is CONTROL:
                if self._control():
                    return True
            else:
                assert isinstance(event, MessageReceived)
                self._unit = None
                self._dispatch(event)
                return True
        return False

    def _control(self) -> bool:
        """Handle a control PDU or fault; False if it was only dropped."""
        if self.core.abort_waiting and not self._wire.acquire(blocking=False):
            self.stream.shutdown()  # a writer is stuck: let it go, the association is over anyway
        elif self.core.abort_waiting:
            self._wire.release()
        with self._wire:
            event, reply = self.core.control()
            self._since = monotonic()
            self._unit = None
            if reply and not self.ended:
                self._write_reply(reply)
        if event is None:
            return False
        if isinstance(event, AbortReceived):
            self._record(self._aborted(event))
        elif isinstance(event, Fault):
            self._record(self._diagnosed(event.error))
        self._dispatch(event)
        if self.core.state is State.STA1 or isinstance(self.error, errors.ProtocolMismatch):
            self._end_now()
        return True

    def _diagnosed(self, error: errors.DicomException) -> errors.DicomException:
        """A fault; where the bytes are another protocol's, the error says so."""
        seen = sniff.recognise(self.core.strange) if self.core.strange else ""
        if seen:
            error = errors.ProtocolMismatch(
                f"{self.peer} speaks {seen} where plain DICOM was expected: switch TLS on at this end, or "
                "use the right port", seen=seen,
            )  # fmt: skip
        error.peer, error.state = self.peer, self.state_name
        return error

    def _write_reply(self, reply: bytes) -> None:
        try:
            self.stream.write([reply], Deadline.after(ABORT_WAIT))
        except (errors.DicomException, DeadlineExpired):
            self.stream.shutdown()

    def _dispatch(self, event: Indication | MessageReceived) -> None:
        try:
            self._handler.dispatch(event)
        except Exception as error:
            if not self.ended and self.core.state not in _QUIET:
                cause = error if isinstance(error, errors.DicomException) else None
                self._abort(0, 0, cause or errors.AssociationAborted(
                    f"a callback raised {error!r}; the association with {self.peer} was aborted",
                    by="us", peer=self.peer,
                ))  # fmt: skip
                self._end_now()
            raise
        finally:
            self._since = monotonic()
            self._notify()

    def _aborted(self, event: AbortReceived) -> errors.AssociationAborted:
        return errors.AssociationAborted(
            f"association with {self.peer} {abort_text(event.source, event.reason)} in {self.state_name}; "
            "the peer's log should say why",
            source=event.source, reason=event.reason, by="peer", peer=self.peer, state=self.state_name,
        )  # fmt: skip

    def _fill(self, deadline: Deadline) -> bool:
        """Read once; False when `deadline` passed. What the protocol's own limits say ends the link."""
        stream, core = self.stream, self.core
        buffer = core.buffer()
        try:
            n = stream.try_read_into(buffer)
            if n is None:
                n = self._wait_read(buffer, deadline)
                if n is None:
                    return False
        except errors.DicomException as error:
            self._lost(error)
            return True
        if n == 0:
            self._lost(None)
            return True
        core.received(n)
        if core.mid_message:
            stream.quick_ack()
        return True

    def _wait_read(self, buffer: memoryview, deadline: Deadline) -> int | None:
        limit, kind, name = self._limit()
        wait = limit.sooner(deadline)
        try:
            return self.stream.read_into(buffer, wait)
        except DeadlineExpired:
            if not limit.expired:
                return None
        self._expire(kind, name)
        return None

    def _limit(self) -> tuple[Deadline, type[errors.TimeoutExpired], str]:
        """Which of the protocol's time limits bounds the wait that begins now."""
        t, state, core = self.timeouts, self.core.state, self.core
        fixed = _STATE_LIMITS.get(state)
        if fixed is not None:
            kind, name = fixed
            return self._from(self._since, getattr(t, name)), kind, name
        if core.mid_message:
            if self._unit is None:
                self._unit = (monotonic(), core.bytes_received)
            if t.read is None:
                return NEVER, errors.ReadTimeout, "read"
            started, base = self._unit
            rate = self._from(started, t.read + (core.bytes_received - base) / self.limits.minimum_rate)
            return rate.sooner(Deadline.after(t.read)), errors.ReadTimeout, "read"
        self._unit = None
        if self.operations.outstanding:
            return self._from(self._since, t.response), errors.ResponseTimeout, "response"
        if self.operations.owed:
            return self._from(self._since, t.reply), errors.ReplyTimeout, "reply"
        idle = t.idle if t.idle is not None or core.requestor else IDLE_ACCEPTOR
        return self._from(self._since, idle), errors.IdleTimeout, "idle"

    @staticmethod
    def _from(start: float, seconds: float | None) -> Deadline:
        if seconds is None or seconds == float("inf"):
            return NEVER
        return Deadline.after(max(0.0, start + seconds - monotonic()))

    def _expire(self, kind: type[errors.TimeoutExpired], name: str) -> None:
        """A limit of the protocol passed: end the association as the state demands."""
        state, seconds = self.core.state, getattr(self.timeouts, name) or IDLE_ACCEPTOR
        if state is State.STA13:
            with self._wire:
                self.core.artim_expired()
            self._end_now()
            return
        error = kind(
            f"{_EXPIRED[kind]} {self.peer} within {seconds:g} s (Timeouts.{name}) while {self.state_name}",
            limit=seconds, elapsed=monotonic() - self._since, peer=self.peer, state=self.state_name,
        )  # fmt: skip
        self.trace("timeout.failed", limit=name, state=self.state_name)
        if state is State.STA2:
            with self._wire:
                self.core.artim_expired()
            self._record(error)
        else:
            self._abort(*((2, 0) if kind is errors.ReadTimeout else (0, 0)), error)
        self._end_now()

    def _lost(self, error: errors.DicomException | None) -> None:
        """The transport is gone: an A-P-ABORT unless it was due (AA-4, AA-5, AR-5)."""
        state, name = self.core.state, self.state_name
        with self._wire:
            indication = self.core.transport_closed()
        if indication and self.error is None and not self._finished:
            if error is None:
                error = errors.ConnectionLost(f"{self.peer} closed the connection while {name}")
            error.peer, error.state = self.peer, error.state or name
            self._record(error)
        elif state is State.STA2 and isinstance(error, errors.TlsError):
            self._record(error)
        self._end_now()

    def _record(self, error: errors.DicomException) -> None:
        if self.error is None:
            self.error = error

    # --- the reader role --------------------------------------------------------------------------

    def _take_reader(self) -> bool:
        me = threading.get_ident()
        with self._changed:
            if self._reader not in (None, me):
                return False
            self._reader = me
            self._depth += 1
            return True

    def _leave_reader(self) -> None:
        with self._changed:
            self._depth -= 1
            if not self._depth:
                self._reader = None
                self._changed.notify_all()

    @contextmanager
    def reader(self) -> Iterator[None]:
        """Hold the reader role; an error if another thread has it, or if calls nest too deep."""
        if not self._take_reader():
            raise errors.WrongStateError(
                f"another thread is already reading the link to {self.peer}: use wait() from this one",
                peer=self.peer,
            )
        with self._reading():
            yield

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Leave the reader role, which has been taken, when the block ends."""
        try:
            if self._depth > self.limits.nesting:
                raise errors.ReentrancyError(
                    f"blocking calls inside callbacks are {self._depth} deep", peer=self.peer
                )
            yield
        finally:
            self._leave_reader()
            self._settle()

    def wait(self, predicate: Callable[[], object], deadline: Deadline = NEVER) -> bool:
        """Handle the link until `predicate()` holds (True) or `deadline` passes (False).

        Where another thread reads, wait for it. Raise what ended the link if it can hold no more.
        """
        while not predicate():
            if self.ended or self.error is not None:
                self.close()
                raise self.why()
            part = deadline.sooner(SLICE)
            if self._take_reader():
                with self._reading():
                    self.step(part)
            else:
                with self._changed:
                    if self._reader is not None and not predicate():
                        self._changed.wait(part.remaining())
            if deadline.expired:
                return bool(predicate())
        return True

    def run(self) -> None:
        """Read until the link has ended; raise unless it ended by release, rejection or local close."""
        with self.reader():
            while not self.ended:
                self.step()
        error = self.error
        expected = (
            isinstance(error, (errors.AssociationRejected, errors.LinkClosed))
            or getattr(error, "by", "") == "us"
        )
        if error is not None and not expected:
            raise error

    def poll(self) -> bool:
        """Handle what is there already, if no other thread reads; False when nothing is."""
        if self._in_core or not self._take_reader():
            return False
        with self._reading():
            return self.step(Deadline.after(0.0))

    def why(self) -> errors.DicomException:
        """The error that a call gets which waits for an ended link."""
        return self.error or errors.LinkClosed(f"the link to {self.peer} has been closed", peer=self.peer)

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    # --- the end ----------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self.ended or self._finished:
            raise self.why()

    def _fail(self, error: errors.DicomException) -> errors.DicomException:
        """A write failed: record why, end the link, and return what to raise (the first cause)."""
        if self.error is None:
            error.peer, error.state = error.peer or self.peer, error.state or self.state_name
            self.error = error
        self.core.transport_closed()
        self._end()
        return self.error

    def close(self) -> None:
        """End the link from any thread: abort an association, then close; returns when it is closed.

        From inside a callback the link is closed at once, and `link_ended` follows when the callback ends.
        """
        if self.ended:
            return
        if self.core.state not in _QUIET:
            self.abort()
        if self._reader in (None, threading.get_ident()):
            self._end_now()
            self._settle()
            return
        limit = Deadline.after(LINGER)
        with self._changed:
            while not self.ended and not limit.expired:
                if self.core.state in (State.STA1, State.STA2, State.STA4):
                    break
                self._changed.wait(limit.remaining())
        self.stream.shutdown()
        with self._changed:
            self._changed.wait_for(lambda: self.ended, LINGER)

    def kill(self) -> None:
        """End the link at once: no A-ABORT, no lingering."""
        if not self.ended:
            self._record(errors.LinkClosed(f"the link to {self.peer} was closed", peer=self.peer))
            self._end()
        self._settle()

    def _end(self) -> None:
        """End the link from a thread that may not be its reader: the reader closes the stream then."""
        if self._reader in (None, threading.get_ident()):
            self._end_now()
        else:
            self.stream.shutdown()

    def _end_now(self) -> None:
        """Close the stream, once. The caller is the reader, or nobody is."""
        with self._changed:
            if self._finished:
                return
            self._finished = True
        graceful = not isinstance(self.error, (errors.NetworkError, errors.TlsError, errors.WriteTimeout))
        with self._wire:
            if graceful:
                self.stream.close(Deadline.after(LINGER))
            else:
                self.stream.kill()
            if self.core.state is not State.STA1:
                self.core.transport_closed()
            self.core.release()
        self.operations.clear()
        with self._changed:
            self.ended = True
            self._changed.notify_all()
        self.trace("link.closed", error=type(self.error).__name__ if self.error else "")

    def _settle(self) -> None:
        """Tell the handler that the link has ended, once, when no callback of it is running any more."""
        with self._changed:
            if not self.ended or self._depth or self._handler is _TOLD:
                return
            handler, self._handler = self._handler, _TOLD
        handler.link_ended()


class _Told:
    """Stands in for the handler after it was told that the link ended."""

    def open_sink(self, context_id: int, command: Command) -> Sink | None:
        """Nothing arrives any more."""

    def dispatch(self, event: Indication | MessageReceived) -> None:
        """Nothing arrives any more."""

    def link_ended(self) -> None:
        """Already told."""


_TOLD = _Told()
_STATE_LIMITS: dict[State, tuple[type[errors.TimeoutExpired], str]] = {
    State.STA2: (errors.AssociationTimeout, "artim"),
    State.STA3: (errors.ReplyTimeout, "reply"),
    State.STA5: (errors.AssociationTimeout, "association"),
    State.STA7: (errors.ReleaseTimeout, "release"),
    State.STA8: (errors.ReplyTimeout, "reply"),
    State.STA9: (errors.ReplyTimeout, "reply"),
    State.STA10: (errors.ReleaseTimeout, "release"),
    State.STA11: (errors.ReleaseTimeout, "release"),
    State.STA12: (errors.ReplyTimeout, "reply"),
    State.STA13: (errors.AssociationTimeout, "artim"),
}
_EXPIRED: dict[type[errors.TimeoutExpired], str] = {
    errors.AssociationTimeout: "no complete association PDU from",
    errors.ReadTimeout: "the data dried up from",
    errors.ResponseTimeout: "no response from",
    errors.ReplyTimeout: "our own handler did not answer",
    errors.ReleaseTimeout: "no release response from",
    errors.IdleTimeout: "nothing was exchanged with",
}
