"""Link: drives the protocol core with a stream.

Three locks, always taken in this order. `message`: one message at a time on the wire (PS3.8 E.1, D06); a
control PDU other than A-ABORT waits for its end too. `wire`: a state change together with its bytes, once
per batch of PDUs, so that the order on the wire is the order of states. The stream's own lock, around each
OpenSSL call, comes last.

One thread at a time is the **reader** (see `role`): it reads, and runs the callbacks. Any call that has to
wait for the peer becomes the reader while it waits, or waits for the thread that is. From inside a callback,
a waiting call goes on reading on the same thread, nested.

The link ends once. Whoever ends it records the first cause in `error`; the thread that has the reader role,
or can have it, closes the stream. A writer that is stuck then is let go by shutting the stream down.
"""

from __future__ import annotations

import itertools
import threading
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from dicomnet import errors
from dicomnet.enums import abort_text
from dicomnet.link import words
from dicomnet.link.role import ReaderRole
from dicomnet.link.watch import Watch
from dicomnet.protocol import sniff
from dicomnet.protocol.assembler import MessageReceived, batches
from dicomnet.protocol.operations import Operations
from dicomnet.protocol.state_machine import State
from dicomnet.protocol.upper_layer import CONTROL, NEED_DATA, AbortReceived, Fault, UpperLayer
from dicomnet.trace import logger
from dicomnet.transport.deadline import NEVER, Deadline, DeadlineExpired

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dicomnet.link.watch import Limit
    from dicomnet.protocol.assembler import Sink, Source
    from dicomnet.protocol.command_set import Command
    from dicomnet.protocol.upper_layer import Indication
    from dicomnet.settings import Limits, Timeouts
    from dicomnet.trace import Trace
    from dicomnet.transport.stream import Stream

__all__ = ["Handler", "Link"]

ABORT_WAIT = 1.0  # seconds that an abort waits for a write in progress, and a failed writer for the reader
LINGER = 1.0  # seconds that a closing thread waits for the peer to close
SLICE = 0.2  # seconds between two looks at a predicate that nobody announces
MOST_READS = 64  # one after the other without a look at the deadline
TURN = 0.05  # seconds between two looks at the peer while another thread sends and cannot get on

_P_DATA = 4
_QUIET = (State.STA1, State.STA2, State.STA4, State.STA13)  # no association that an abort would end
_UNANSWERED = (State.STA1, State.STA2, State.STA4)  # the peer owes no close
_TRANSPORT_FAILED = (errors.NetworkError, errors.TlsError, errors.WriteTimeout)
_numbers = itertools.count(1)


class Handler(Protocol):
    """What a link calls upward. All of it runs on the reader's thread."""

    def _open_sink(self, context_id: int, command: Command) -> Sink | None:
        """Choose where a data set goes."""

    def _dispatch(self, event: Indication | MessageReceived) -> None:
        """Handle a message or an indication; an exception aborts the association."""

    def _link_ended(self) -> None:
        """The stream is closed; `error` holds the cause. Called once, last, and never raises."""


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
        self.peer = stream.peer
        """The peer's "address:port"."""
        self.timeouts = timeouts
        self.limits = limits
        self.core = UpperLayer(limits, handler._open_sink, requestor=requestor, tap=tap)
        self.operations = Operations()
        self.watch = Watch(timeouts, limits, self.core, self.operations)
        self.error: errors.DicomException | None = None
        """What ended the link, or is about to; the first cause."""
        self.deliberate = False
        """True where `error` is our own wish: an abort or a close that somebody called for."""
        self.ended = False
        self._handler = handler
        self._trace = trace
        self._sent = sent
        self._message = threading.Lock()
        self._sender: int | None = None  # the thread that has it
        self._wire = threading.RLock()
        self._role = ReaderRole()
        self._in_core = False  # the reader runs on_receive, on_data_set or a sink
        self._reads = 0  # since a deadline was looked at
        self._last_words = False  # what came before a failed write is being handled
        self._failed_write: errors.DicomException | None = None
        self._thrown: BaseException | None = None  # what a callback raised: it comes out at every depth
        self._told = threading.Lock()

    # --- what it is doing -------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """The protocol machine's state (PS3.8 table 9-10)."""
        return self.core.state

    @property
    def associated(self) -> bool:
        """True while an association is established and not being released."""
        return self.core.state is State.STA6

    @property
    def failure(self) -> errors.DicomException | None:
        """What ended the link, unless that was a release, a rejection or our own wish."""
        expected = self.deliberate or isinstance(self.error, (errors.AssociationRejected, errors.LinkClosed))
        return None if expected else self.error

    def why(self) -> errors.DicomException:
        """The error that a call gets which waits for an ended link."""
        return self.error or errors.LinkClosed(f"the link to {self.peer} has been closed", peer=self.peer)

    def trace(self, event: str, **fields: Any) -> None:
        """Report an event to the trace hook, if there is one."""
        if self._trace is not None:
            self._trace(event, {"link": self.number, "peer": self.peer, **fields})

    # --- sending ----------------------------------------------------------------------------------

    def send(self, make: Callable[[], bytes], event: str, **fields: Any) -> None:
        """Make a control PDU's transition and write it; `make` is one of the core's local events."""
        try:
            with self._turn(), self._wire:
                self._check_open()
                data = make()
                self.watch.moved()
                if data:
                    self._write([data], [len(data)], data[0])
        except _TRANSPORT_FAILED as error:
            raise self._broken(error) from error.__cause__
        finally:
            self._settle()
        self.trace(event, **fields)
        self._role.announce()

    def send_message(
        self,
        context_id: int,
        command: bytes,
        source: Source | None,
        registered: Callable[[], object],
        *,
        room: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Send one message, when no other thread is sending one; False if there is no `room` for it then.

        `registered` is called before its first byte leaves. If the data set cannot be read to its end, the
        association is aborted: half a message cannot be taken back. Before the first byte nothing has
        happened, and the association goes on.
        """
        try:
            with self._turn():
                if not room():
                    return False
                self._send_batches(context_id, command, source, registered)
        except _TRANSPORT_FAILED as error:
            raise self._broken(error) from error.__cause__
        finally:
            self._settle()
        return True

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until no other thread is within a message, and hold them off."""
        self._check_caller()
        if not self._message.acquire(blocking=not self._role.mine):
            while not self._message.acquire(timeout=TURN):
                self._read_ahead()  # the sender waits for a peer that may be waiting for us
        self._sender = threading.get_ident()
        try:
            yield
        finally:
            self._sender = None
            self._message.release()

    def _check_caller(self) -> None:
        if self._sender == threading.get_ident():
            raise errors.ReentrancyError(
                "on_send, and a data set that is being read, can neither send nor wait: a message is half out"
            )

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
                    self._write(batch.buffers, batch.pdus, _P_DATA)
        except _TRANSPORT_FAILED:
            raise
        except BaseException as error:  # the source, not the link
            if started:
                self._give_up(error)
            raise
        self.watch.moved()

    def _write(self, buffers: Sequence[bytes | memoryview], pdus: Sequence[int], kind: int) -> None:
        """Write PDUs of a kind within the link's time limits. The caller holds `wire`."""
        limit, began = self.timeouts.write, monotonic()
        total = None if limit is None else limit + sum(pdus) / self.limits.minimum_rate
        try:
            self.stream.write(buffers, Deadline.after(total), stall=limit, on_readable=self._read_ahead)
        except DeadlineExpired:
            raise errors.WriteTimeout(
                f"{self.peer} stopped reading: too little could be sent within {limit:g} s (Timeouts.write) "
                f"in {self.core.state}. The connection was closed; look for a peer that hangs, or a "
                "network that drops large packets",
                limit=limit or 0.0, elapsed=monotonic() - began, peer=self.peer, state=str(self.core.state),
            ) from None  # fmt: skip
        except errors.DicomException:
            raise
        except BaseException:  # KeyboardInterrupt, say: nothing may follow half a PDU
            self.stream.shutdown()
            raise
        if self._sent is not None:
            try:
                for length in pdus:
                    self._sent(kind, length)
            except Exception as error:
                self._give_up(error)
                raise

    def _read_ahead(self) -> bool:
        """While a write blocks: take in at most one buffer, undispatched; False when there is no more to do.

        So a sender sees the peer's abort, and two ends that both send don't lock up, unless both send more
        than buffers hold and neither has a thread that reads: then it is a `WriteTimeout`.
        """
        if self._in_core or not self._role.take_briefly():
            return False
        try:
            buffer = self.core.read_ahead_buffer()
            n = self.stream.try_read_into(buffer) if len(buffer) else 0
            if n:
                self.core.received(n)
                self.watch.heard()
            if self.core.abort_waiting:
                raise errors.ConnectionLost(f"{self.peer} aborted", peer=self.peer)
            return n != 0
        finally:
            self._leave()

    def _broken(self, error: errors.DicomException) -> errors.DicomException:
        """The transport failed a writer, which holds no lock any more: end the link; return the first cause.

        What the peer said before it went counts more than that it went: it is handled first, by the reader
        or, where there is none, here.
        """
        error = words.lost(error, self.peer, self.core.state, requestor=self.core.requestor)
        if isinstance(error, errors.NetworkError) and self.error is None and not self.ended:
            if self._role.take():
                self._failed_write = error
                self._hear_last_words()
            else:
                self._role.wait_until(lambda: self.error is not None or self.ended, ABORT_WAIT)
        self._record(error)
        self._end()
        self._settle()
        return self.error or error

    def _hear_last_words(self) -> None:
        """Handle what is there, and leave the reader role; not within a PDU, and not twice."""
        nested = self._in_core or self._last_words or self._role.depth > self.limits.nesting
        self._last_words = True
        try:
            while not nested and self.step(Deadline.after(0.0)):
                pass
        except Exception as error:
            if error is not self.error:
                logger.exception("a callback raised after %s was lost", self.peer)
        finally:
            self._leave()

    # --- aborting ---------------------------------------------------------------------------------

    def abort(self, source: int = 0, reason: int = 0, *, patience: float = ABORT_WAIT) -> None:
        """Send A-ABORT if that is possible within `patience` seconds; the link ends when the peer closes.

        Where there is no association nothing happens, but that a link without one is closed.
        """
        if self.core.state in _QUIET:
            if self.core.state is State.STA4:  # R14
                self._end()
                self._settle()
            return
        self._wish(errors.AssociationAborted(
            f"we aborted the association with {self.peer}", source=source, reason=reason, by="us",
            peer=self.peer, state=str(self.core.state),
        ))  # fmt: skip
        self._send_abort(source, reason, patience)

    def _send_abort(self, source: int, reason: int, patience: float = ABORT_WAIT) -> None:
        if self._wire.acquire(timeout=patience):
            try:
                if self.core.state not in _QUIET:
                    data = self.core.abort(source, reason)
                    self.watch.moved()
                    self.stream.write([data], Deadline.after(patience))
                    self.trace("association.aborted", by="us", source=source, reason=reason)
            except (errors.DicomException, DeadlineExpired):
                self.stream.shutdown()  # nothing more can be sent
            finally:
                self._wire.release()
        else:
            self.stream.shutdown()
        self._role.announce()

    def _give_up(self, error: BaseException) -> None:
        """An application's code raised where that cannot be answered: abort with it as the cause, and end."""
        if self.core.state not in _QUIET:
            source, reason = 0, 0
            if isinstance(error, errors.RemoteProtocolError):
                source, reason = error.abort_source, error.abort_reason
            cause = error if isinstance(error, errors.DicomException) else errors.AssociationAborted(
                f"{error!r} was raised at our end; the association with {self.peer} was aborted",
                by="us", peer=self.peer, state=str(self.core.state),
            )  # fmt: skip
            self._record(cause)
            self._send_abort(source, reason)
        self._end()

    # --- reading ----------------------------------------------------------------------------------

    def step(self, deadline: Deadline = NEVER) -> bool:
        """Handle what arrives next and run its callbacks. The caller is the reader.

        Return False when `deadline` passed or the link ended; raise what a callback raised.
        """
        self._check_may_wait()
        core = self.core
        while not self.ended:
            event = self._next_event()
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
                self.watch.complete()
                self._dispatch(event)
                return True
        return False

    def _check_may_wait(self) -> None:
        self._check_caller()
        if self._in_core and self._role.mine:
            raise errors.ReentrancyError(
                "on_receive, on_data_set and a sink cannot wait for the peer: they run inside its PDU"
            )

    def _next_event(self) -> Any:
        self._in_core = True
        try:
            return self.core.next_event()
        except Exception as error:
            self._give_up(error)
            raise
        finally:
            self._in_core = False

    def _control(self) -> bool:
        """Handle a control PDU or fault; False if it was only dropped."""
        with self._over_writers() if self.core.abort_waiting else self._wire:
            before = self.core.state
            event, reply = self.core.control()
            if self.core.state is not before:  # what is dropped does not start ARTIM anew
                self.watch.moved()
            self.watch.complete()
            if reply and not self.ended:
                self._write_reply(reply)
        if event is None:
            return False
        if isinstance(event, AbortReceived):
            self._record(self._aborted(event, str(before)))
        elif isinstance(event, Fault):
            self._record(self._diagnosed(event.error, str(before)))
        self._dispatch(event)
        if self.core.state is State.STA1 or isinstance(self.error, errors.ProtocolMismatch):
            self._end_now()
        return True

    @contextmanager
    def _over_writers(self) -> Iterator[None]:
        """Hold `wire` for what ends the association; a writer in the way is let go, it has lost anyway."""
        if not self._wire.acquire(blocking=False):
            self.stream.shutdown()
            self._wire.acquire()
        try:
            yield
        finally:
            self._wire.release()

    def _diagnosed(self, error: errors.DicomException, state: str) -> errors.DicomException:
        """A fault; where the bytes are another protocol's, the error says so."""
        seen = sniff.recognise(self.core.strange) if self.core.strange else ""
        if seen:
            error = words.mismatch(seen, self.peer, requestor=self.core.requestor)
        error.peer, error.state = self.peer, state
        return error

    def _write_reply(self, reply: bytes) -> None:
        try:
            self.stream.write([reply], Deadline.after(ABORT_WAIT))
        except (errors.DicomException, DeadlineExpired):
            self.stream.shutdown()

    def _dispatch(self, event: Indication | MessageReceived) -> None:
        try:
            self._handler._dispatch(event)
        except Exception as error:
            if error is not self.error or error is self._thrown:
                self._thrown = error
                self._give_up(error)
                raise
            self._end()  # a call in it met the end of the link, which is told anyway
        finally:
            self.watch.moved()
            self._role.announce()

    def _aborted(self, event: AbortReceived, state: str) -> errors.AssociationAborted:
        return errors.AssociationAborted(
            f"association with {self.peer} {abort_text(event.source, event.reason)} in {state}; "
            "the peer's log should say why",
            source=event.source, reason=event.reason, by="peer", peer=self.peer, state=state,
        )  # fmt: skip

    def _fill(self, deadline: Deadline) -> bool:
        """Read once; False when `deadline` passed, or a limit of the protocol, which ends the link."""
        try:
            n = self._read(self.core.buffer(), deadline)
        except errors.DicomException as error:
            self._lost(error)
            return True
        if n is None:
            return False
        if n == 0:
            self._lost(None)
            return True
        self.core.received(n)
        self.watch.heard()
        return True

    def _read(self, buffer: memoryview, deadline: Deadline) -> int | None:
        """Read what is there or comes; None when `deadline` passed, or a limit, which ends the link."""
        n = None
        if self._reads == MOST_READS:  # a peer that never stops sending moves no deadline
            self._reads = 0
            if deadline.expired:
                return None
        elif self.core.state is State.STA6:  # elsewhere it has its limit, too
            self._reads += 1
            n = self.stream.try_read_into(buffer)
        while n is None:
            limit = self.watch.limit(sending=self._sender is not None)
            if limit.left <= 0:
                self._expire(limit)
                return None
            if deadline.expired:
                return self.stream.try_read_into(buffer)
            if self.core.mid_message:  # the peer may hold the rest back until what came is acknowledged
                self.stream.quick_ack()
            began = monotonic()
            try:
                n = self.stream.read_into(buffer, deadline.sooner(min(limit.left, self.watch.shortest)))
            except DeadlineExpired:
                pass
            finally:
                self.watch.waited(monotonic() - began)
        return n

    def _expire(self, limit: Limit) -> None:
        """A limit of the protocol passed: end the association as the state demands."""
        state, error = self.core.state, self.watch.error(limit, self.peer)
        if state is not State.STA13:
            self.trace("timeout.failed", limit=limit.name, state=str(state))
            self._record(error)
        if state in (State.STA2, State.STA13):
            with self._over_writers():
                if self.core.state is state:
                    self.core.artim_expired()
        else:
            self._send_abort(2 if limit.name == "read" else 0, 0)
        self._end_now()

    def _lost(self, error: errors.DicomException | None) -> None:
        """The transport is gone: an A-P-ABORT unless it was due (AA-4, AA-5, AR-5)."""
        state = self.core.state
        with self._over_writers():
            indication = self.core.transport_closed()
        if indication or (state is State.STA2 and isinstance(error, errors.TlsError)):
            self._record(
                words.lost(self._failed_write or error, self.peer, state, requestor=self.core.requestor)
            )
        self._end_now()

    def _record(self, error: errors.DicomException) -> None:
        if self.error is None:
            self.error = error
            self._role.announce()

    def _wish(self, error: errors.DicomException) -> None:
        """Record an end that is wished for."""
        self.deliberate = self.deliberate or self.error is None
        self._record(error)

    # --- the reader role --------------------------------------------------------------------------

    @contextmanager
    def reader(self) -> Iterator[None]:
        """Hold the reader role; an error if another thread has it, or if calls nest too deep."""
        self._check_may_wait()
        if not self._role.take():
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
            if self._role.depth > self.limits.nesting:
                raise errors.ReentrancyError(
                    f"blocking calls inside callbacks are {self._role.depth} deep", peer=self.peer
                )
            yield
        finally:
            self._leave()
            self._settle()

    def _leave(self) -> None:
        while not self._role.leave():
            self._end_now()

    def wait(self, predicate: Callable[[], object], deadline: Deadline = NEVER) -> bool:
        """Handle the link until `predicate()` holds (True) or `deadline` passes (False).

        Where another thread reads, wait for it. Raise what ended the link if it can hold no more.
        """
        self._check_may_wait()
        while True:
            news, over = self._role.news, self.ended or self.error is not None
            if over:
                self.close()  # the reader gets to the end of its callbacks
            if predicate():
                return True
            if over:
                raise self.why()
            if deadline.expired:
                return False
            part = deadline.sooner(SLICE)
            if self._role.take():
                with self._reading():
                    self.step(part)
            else:
                self._role.wait_for_news(news, part.remaining())

    def run(self) -> None:
        """Read until the link has ended; raise unless it ended by release, rejection or our own wish."""
        with self.reader():
            while not self.ended:
                self.step()
        if self.failure is not None:
            raise self.failure

    def poll(self) -> bool:
        """Handle what is there already, if no other thread reads; False when nothing is."""
        if self._in_core or not self._role.take():
            return False
        with self._reading():
            return self.step(Deadline.after(0.0))

    # --- the end ----------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self.ended or self.error is not None:
            raise self.why()

    def close(self) -> None:
        """End the link from any thread: abort an association, then close; returns when it is closed.

        From inside a callback the link is closed at once, and `_link_ended` follows when the callback ends. A
        callback that runs on another thread is waited for, but no longer than two seconds.
        """
        self.abort()
        limit = Deadline.after(LINGER)
        while not self.ended and not limit.expired and self.core.state not in _UNANSWERED:
            news = self._role.news
            if self._role.take_briefly():  # nobody reads
                self._leave_ended()
            else:  # the reader sees the peer close
                self._role.wait_for_news(news, limit.remaining())
        self._end()
        self._role.wait_until(lambda: self.ended, LINGER)
        self._settle()

    def kill(self, error: errors.DicomException | None = None) -> None:
        """End the link at once, without A-ABORT or lingering; because of `error`, or because we want to."""
        if error is not None:
            self._record(error)
        elif not self.ended:
            self._wish(errors.LinkClosed(f"the link to {self.peer} was closed", peer=self.peer))
        self.stream.shutdown()
        self._end()
        self._settle()

    def _end(self) -> None:
        """End the link, or see to it that the thread which has the reader role does."""
        if self.ended:
            return
        if self._role.take_or_summon():
            self._leave_ended()
        else:
            self.stream.shutdown()

    def _leave_ended(self) -> None:
        try:
            self._end_now()
        finally:
            self._leave()

    def _end_now(self) -> None:
        """Close the stream, once. The caller has the reader role."""
        if self.ended:
            return
        graceful = not isinstance(self.error, _TRANSPORT_FAILED)
        with self._over_writers():
            if graceful:
                waited = isinstance(self.error, errors.TimeoutExpired)  # the caller's time is up
                self.stream.close(Deadline.after(0.0 if waited else LINGER))
            else:
                self.stream.kill()
            self.core.transport_closed()
            self.core.release()
        self.operations.clear()
        self.ended = True
        self._role.announce()
        self.trace("link.closed", error=type(self.error).__name__ if self.error else "")

    def _settle(self) -> None:
        """Tell the handler that the link has ended, once, when no callback of it is running any more."""
        running = self._role.depth or self._sender == threading.get_ident()  # the latter in on_send
        if self.ended and not running and self._told.acquire(blocking=False):
            self._handler._link_ended()
