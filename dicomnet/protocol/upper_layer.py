"""The DICOM upper layer without I/O: bytes in, events and bytes out (PS3.8 9).

The caller reads into `buffer()`, says `received(n)`, and takes events with `next_event()` until it answers
`NEED_DATA`. P-DATA is handled there: one look at the state serves all of a read, and fragments go straight
to their sink. `CONTROL` means that a control PDU, or a fault, is next: the caller takes the lock under which
it also writes and calls `control()`, which makes the transition and returns the event and the bytes that
must go out with it. So the order on the wire is the order of states.

The `send` half is a method for each local event of table 9-10; each makes its transition and returns bytes.
In a state that does not allow it, it raises `LocalProtocolError` and nothing changes (M05).

A requestor's core starts in Sta4: its transport is up when it is made, and the association request follows.
State Sta1 after a call means: close the transport now. Sta2 and Sta13 are the states that ARTIM guards.

One thread at a time reads (`buffer` to `control`, and `release`); the local events may come from any thread
that holds the lock, and from inside the tap or a sink. So they change the state and nothing else: the reader
notices, and drops the message that an abort broke off.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from struct import Struct
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from dicomnet.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from dicomnet.protocol import negotiation, pdu
from dicomnet.protocol.assembler import Assembler, MessageReceived, lease, restore
from dicomnet.protocol.state_machine import Action, Event, State, transition

if TYPE_CHECKING:
    from collections.abc import Callable

    from dicomnet.protocol.assembler import Sink
    from dicomnet.protocol.command_set import Command
    from dicomnet.settings import Limits

__all__ = [
    "CONTROL",
    "NEED_DATA",
    "AbortReceived",
    "AcceptReceived",
    "Fault",
    "Indication",
    "Refused",
    "RejectReceived",
    "ReleaseReceived",
    "ReleaseResponseReceived",
    "RequestReceived",
    "UpperLayer",
]


class _Signal(Enum):
    NEED_DATA = "need data"
    CONTROL = "control"


NEED_DATA: Final = _Signal.NEED_DATA
CONTROL: Final = _Signal.CONTROL


@dataclass(frozen=True, slots=True)
class RequestReceived:
    """A-ASSOCIATE indication."""

    pdu: pdu.AssociateRq


@dataclass(frozen=True, slots=True)
class Refused:
    """An A-ASSOCIATE-RQ that the provider itself refuses (AE-6): `pdu` is our answer, sent with it."""

    pdu: pdu.AssociateRj


@dataclass(frozen=True, slots=True)
class AcceptReceived:
    """A-ASSOCIATE confirmation, accepted: the association is up."""

    pdu: pdu.AssociateAc


@dataclass(frozen=True, slots=True)
class RejectReceived:
    """A-ASSOCIATE confirmation, rejected."""

    pdu: pdu.AssociateRj


@dataclass(frozen=True, slots=True)
class ReleaseReceived:
    """A-RELEASE indication; `collision` where we have asked as well (R09)."""

    collision: bool


@dataclass(frozen=True, slots=True)
class ReleaseResponseReceived:
    """A-RELEASE confirmation; `ours_pending` where the acceptor still owes its own response (Sta12)."""

    ours_pending: bool


@dataclass(frozen=True, slots=True)
class AbortReceived:
    """A-ABORT (source 0) or A-P-ABORT (source 2) indication caused by the peer."""

    source: int
    reason: int


@dataclass(frozen=True, slots=True)
class Fault:
    """A-P-ABORT indication that we caused, because the peer broke the rule in `error`.

    Before there is an association (Sta2, Sta4) it concerns nobody but the log (AA-1).
    """

    error: RemoteProtocolError


Indication: TypeAlias = (
    RequestReceived
    | Refused
    | AcceptReceived
    | RejectReceived
    | ReleaseReceived
    | ReleaseResponseReceived
    | AbortReceived
    | Fault
)

_PDU = Struct(">BxI")
_PDV = Struct(">IBB")
_P_DATA = 4
_RECEIVED = {
    pdu.AssociateRq.kind: Event.A_ASSOCIATE_RQ_RECEIVED,
    pdu.AssociateAc.kind: Event.A_ASSOCIATE_AC_RECEIVED,
    pdu.AssociateRj.kind: Event.A_ASSOCIATE_RJ_RECEIVED,
    _P_DATA: Event.P_DATA_RECEIVED,
    pdu.ReleaseRq.kind: Event.A_RELEASE_RQ_RECEIVED,
    pdu.ReleaseRp.kind: Event.A_RELEASE_RP_RECEIVED,
    pdu.Abort.kind: Event.A_ABORT_RECEIVED,
}
_SHORT = _PDU.size + 4  # the length of every PDU but P-DATA-TF and _ASSOCIATE
_ASSOCIATE = (pdu.AssociateRq.kind, pdu.AssociateAc.kind)
_TRANSFER = (State.STA6, State.STA7)  # P-DATA is delivered: DT-2, AR-6
_IDLE_BUFFER = 8 * 1024  # all that a quiet link holds; a small message fits


class UpperLayer:
    """One association's protocol machine, either role; see the module's text for how to drive it.

    `open_sink` chooses where a data set goes (see `Assembler`). `tap`, where given, is called with the type
    and the bytes of each complete PDU received, before anything else happens to it; PDUs are then held until
    they are complete. It does not see a PDU whose header breaks a rule, nor a P-DATA-TF so long that only
    `Limits.max_pdu` = 0 allows it.
    """

    def __init__(
        self,
        limits: Limits,
        open_sink: Callable[[int, Command], Sink | None],
        *,
        requestor: bool,
        tap: Callable[[int, memoryview], object] | None = None,
    ) -> None:
        self.requestor = requestor
        self.request: pdu.AssociateRq | None = None
        self.accept: pdu.AssociateAc | None = None
        self.contexts: dict[int, negotiation.Context] = {}
        self.send_length = 0  # longest P-DATA-TF that we may send
        self.bytes_received = 0
        self.strange = b""  # the first bytes of a PDU of unknown type, for a diagnosis
        self._limits = limits
        self._assembler = Assembler(limits, open_sink)
        self._tap = tap
        self._tapped = False
        self._fault: RemoteProtocolError | None = None
        self._pdu_left = 0  # bytes of the current P-DATA-TF, or of a PDU to skip, still to come
        self._pdv_left = 0
        self._in_fragment = False
        self._idle = bytearray(_IDLE_BUFFER)
        self._use(self._idle)
        self._start = self._end = 0
        first = Event.A_ASSOCIATE_REQUEST if requestor else Event.TRANSPORT_INDICATION
        self.state = transition(State.STA1, first, requestor=requestor)[1]

    # --- the receive buffer ------------------------------------------------------------------------

    def buffer(self) -> memoryview:
        """Return the free space to read into, never empty; at rest it is all that the link holds.

        A message gets a large one as soon as a read has filled the small one, until it is complete.
        """
        full = self._end == len(self._view)
        if self._start == self._end:
            self._start = self._end = 0
            receiving = self.state in _TRANSFER and self.mid_message
            if self._buffer is not self._idle:
                if not receiving:
                    restore(self._buffer)
                    self._use(self._idle)
            elif full and receiving:
                self._use(lease())
            return self._view
        if self._start:
            pending = bytes(self._view[self._start : self._end])
            self._view[: len(pending)] = pending
            self._start, self._end = 0, len(pending)
        elif full:
            self._grow()
        return self._view[self._end :]

    def read_ahead_buffer(self) -> memoryview:
        """Return space to read into before what is pending has been handled; empty when there is none."""
        if self._end == len(self._view) and self._buffer is self._idle:
            self._grow()
        return self._view[self._end :]

    def received(self, n: int) -> None:
        """Take note of `n` bytes read into the buffer."""
        self._end += n
        self.bytes_received += n

    @property
    def mid_message(self) -> bool:
        """True within a PDU or a message: more has to come."""
        return self._pdu_left > 0 or self._end > self._start or self._assembler.busy

    @property
    def abort_waiting(self) -> bool:
        """True if the next PDU in the buffer is an A-ABORT (for a sender that cannot get on)."""
        start = self._start
        return not self._pdu_left and self._end - start >= _SHORT and self._view[start] == pdu.Abort.kind

    def _use(self, buffer: bytearray) -> None:
        self._buffer, self._view = buffer, memoryview(buffer)

    def _grow(self) -> None:
        """Go on in a larger buffer. Outside data transfer it is no more than twice what was received."""
        old, view, pending = self._buffer, self._view, self._end - self._start
        large = old is self._idle and self.state in _TRANSFER
        self._use(lease() if large else bytearray(2 * len(old)))
        self._view[:pending] = view[self._start : self._end]
        self._start, self._end = 0, pending

    def release(self) -> None:
        """The link is over: give up buffers and what has arrived of a message."""
        self._start = self._end = self._pdu_left = self._pdv_left = 0
        self._in_fragment = False
        if self._buffer is not self._idle:
            restore(self._buffer)
        self._use(self._idle)
        self._assembler.abandon()

    # --- receiving -----------------------------------------------------------------------------------

    def next_event(self) -> MessageReceived | Literal[_Signal.NEED_DATA, _Signal.CONTROL]:
        """Handle P-DATA in the buffer; return the next message, or what else the caller has to do."""
        if self._fault is not None:
            return CONTROL
        if self.state not in _TRANSFER:
            self._stop()
        try:
            return self._advance()
        except RemoteProtocolError as error:
            self._fault = error
            return CONTROL

    def _advance(self) -> MessageReceived | Literal[_Signal.NEED_DATA, _Signal.CONTROL]:
        view, assembler = self._view, self._assembler
        at, end = self._start, self._end
        try:
            while True:
                if self._in_fragment:
                    n = min(self._pdv_left, end - at)
                    if n:
                        at += n
                        self._pdv_left -= n
                        self._pdu_left -= n
                        assembler.write(view[at - n : at])
                    if self._pdv_left:
                        return NEED_DATA
                    self._in_fragment = False
                    if self.state in _TRANSFER:  # else the sink, or another thread, has ended it
                        message = assembler.end()
                        if message is not None:
                            return message
                elif self._pdu_left:
                    if self.state not in _TRANSFER:  # Sta13: read and dropped (AA-6)
                        n = min(self._pdu_left, end - at)
                        at += n
                        self._pdu_left -= n
                        if self._pdu_left:
                            return NEED_DATA
                        continue
                    if self._pdu_left < _PDV.size:
                        raise _invalid(f"{self._pdu_left} bytes where a PDV had to come", "PS3.8 9.3.5")
                    if end - at < _PDV.size:
                        return NEED_DATA
                    length, context_id, control = _PDV.unpack_from(view, at)
                    if not 2 <= length <= self._pdu_left - 4:
                        raise _invalid(f"a PDV of length {length} in {self._pdu_left} bytes", "PS3.8 9.3.5.1")
                    at += _PDV.size
                    self._pdu_left -= _PDV.size
                    self._pdv_left = length - 2
                    self._in_fragment = True
                    assembler.begin(context_id, control)
                else:
                    if end - at < _PDU.size:
                        return NEED_DATA
                    kind, length = _PDU.unpack_from(view, at)
                    if self._tap is not None and not self._whole(kind, length, at):
                        return NEED_DATA
                    if kind != _P_DATA or self.state not in _TRANSFER:
                        return CONTROL if self._control_ready(kind, length, at) else NEED_DATA
                    self._check_p_data(length)
                    at += _PDU.size
                    self._pdu_left = length
                    self._tapped = False
        finally:
            self._start = at

    def _stop(self) -> None:
        """Drop the message that the end of data transfer broke off; after Sta1 nothing counts any more."""
        self._in_fragment, self._pdv_left = False, 0
        self._assembler.abandon()
        if self.state is State.STA1:
            self._start, self._pdu_left = self._end, 0

    def _check_p_data(self, length: int) -> None:
        if not length:
            raise _invalid("a P-DATA-TF without a PDV", "PS3.8 9.3.5")
        if 0 < self._limits.max_pdu < length:
            raise LimitExceeded(
                f"the peer sent a P-DATA-TF of {length} bytes and our maximum is {self._limits.max_pdu}: it "
                "ignores the maximum length that was negotiated",
                limit="max_pdu",
                allowed=self._limits.max_pdu,
                seen=length,
                abort_reason=6,
                clause="PS3.8 D.1",
            )

    def _check_control(self, kind: int, length: int, at: int) -> None:
        if kind not in _RECEIVED:
            self.strange = bytes(self._view[at : min(self._end, at + 16)])
            raise RemoteProtocolError(
                f"the peer sent a PDU of unknown type {kind:02X}H", abort_reason=1, clause="PS3.8 9.3.1"
            )
        if kind in _ASSOCIATE:
            allowed = self._limits.association_pdu
            if length > allowed:
                raise LimitExceeded(
                    f"the peer announced an association PDU of {length} bytes; the limit is {allowed}",
                    limit="association_pdu",
                    allowed=allowed,
                    seen=length,
                    abort_reason=6,
                )
        elif kind != _P_DATA and length != 4:
            raise _invalid(f"a PDU of type {kind:02X}H with length {length}, not 4", "PS3.8 9.3")

    def _whole(self, kind: int, length: int, at: int) -> bool:
        """Show a complete PDU to the tap, once; False while it is not complete, or the link is closed."""
        if self.state is State.STA1 or self._tap is None:
            return False
        if self._tapped:
            return True
        if kind == _P_DATA and self.state in _TRANSFER:
            self._check_p_data(length)
        else:
            self._check_control(kind, length, at)
        if length > max(self._limits.max_pdu, self._limits.association_pdu):
            return True
        if self._end - at < _PDU.size + length:
            return False
        self._tapped = True
        self._tap(kind, self._view[at : at + _PDU.size + length])
        return True

    def _control_ready(self, kind: int, length: int, at: int) -> bool:
        """True when enough of a PDU is there for `control`: all of it where its content matters.

        An unexpected PDU needs no body: only what the table would use is waited for (P08, P10, P11).
        """
        if self.state is State.STA1:
            return False
        self._check_control(kind, length, at)
        return self._unused(_RECEIVED[kind]) or self._end - at >= _PDU.size + length

    def _unused(self, event: Event) -> bool:
        """True for an event whose cell looks at no parameter: unexpected, or dropped while closing."""
        try:
            action = transition(self.state, event, requestor=self.requestor)[0]
        except LocalProtocolError:  # Sta4: nothing may arrive before our request
            return True
        return action in (Action.AA_1, Action.AA_6, Action.AA_7, Action.AA_8)

    def control(self) -> tuple[Indication | None, bytes]:
        """Make the transition that `CONTROL` announced; return what to indicate and what to send with it.

        Neither where a local event has come between and changed what the PDU means: ask `next_event` again.
        """
        fault, self._fault = self._fault, None
        if self.state is State.STA1:
            return None, b""
        if fault is not None:
            return self._refuse(Event.INVALID_PDU, fault)
        kind, length = _PDU.unpack_from(self._view, self._start)
        event = _RECEIVED[kind]
        if self._unused(event):
            self._skip(length)
            return self._refuse(event, _unexpected(kind, self.state))
        body = self._view[self._start + _PDU.size : self._end][:length]
        if kind == _P_DATA or len(body) < length:
            return None, b""
        self._skip(length)
        try:
            indication = self._indication(pdu.decode(kind, body, self._limits))
        except RemoteProtocolError as error:
            return self._refuse(Event.INVALID_PDU, error)
        action, self.state = transition(self.state, event, requestor=self.requestor)
        if isinstance(indication, Refused):
            self.state = State.STA13
            return indication, indication.pdu.encode()
        return (None if action is Action.AA_2 else indication), b""

    def _skip(self, length: int) -> None:
        """Step over the PDU at the head, as much of it as is there; the rest is dropped on arrival."""
        self._tapped = False
        at = self._start + _PDU.size
        here = min(length, self._end - at)
        self._start = at + here
        self._pdu_left = length - here

    def _refuse(self, event: Event, error: RemoteProtocolError) -> tuple[Indication | None, bytes]:
        """AA-1, AA-6, AA-7, AA-8: what the table does with what may not come."""
        if self.state is State.STA4:  # the table has no cell: nobody asked yet, so nothing is owed
            self.state = State.STA1
            return Fault(error), b""
        action, self.state = transition(self.state, event, requestor=self.requestor)
        if action is Action.AA_6:
            return None, b""
        if event is Event.INVALID_PDU:  # where the next PDU begins is not known any more
            self._drop_rest()
        source, reason = (0, 0) if action is Action.AA_1 else (2, error.abort_reason)
        error.abort_source, error.abort_reason = source, reason
        indicate = action is not Action.AA_7
        return (Fault(error) if indicate else None), pdu.Abort(source, reason).encode()

    def _drop_rest(self) -> None:
        self._start = self._end = 0
        self._in_fragment, self._pdv_left, self._pdu_left = False, 0, 1 << 62

    def _indication(self, received: pdu.Pdu) -> Indication:
        if isinstance(received, pdu.AssociateRq):
            self.request = received
            refusal = negotiation.check_request(received)
            return RequestReceived(received) if refusal is None else Refused(refusal)
        if isinstance(received, pdu.AssociateAc):
            assert self.request is not None
            negotiation.check_accept(received)
            self._establish(self.request, received)
            self.send_length = self._peer_length(received.user_information)
            return AcceptReceived(received)
        if isinstance(received, pdu.AssociateRj):
            return RejectReceived(received)
        if isinstance(received, pdu.ReleaseRq):
            return ReleaseReceived(collision=self.state is State.STA7)
        if isinstance(received, pdu.ReleaseRp):
            return ReleaseResponseReceived(ours_pending=self.state is State.STA10)
        assert isinstance(received, pdu.Abort)
        return AbortReceived(received.source, received.reason)

    def _establish(self, request: pdu.AssociateRq, accept: pdu.AssociateAc) -> None:
        self.accept = accept
        self.contexts = negotiation.accepted_contexts(request, accept)
        self._assembler.contexts = self.contexts

    def _peer_length(self, information: pdu.UserInformation) -> int:
        announced, own = negotiation.peer_max_pdu(information), self._limits.max_pdu_send
        return min(announced, own) if announced else own

    # --- local events ------------------------------------------------------------------------------

    def associate_request(self, request: pdu.AssociateRq) -> bytes:
        """E02 with AE-2: the A-ASSOCIATE-RQ."""
        data = request.encode()
        self._move(Event.TRANSPORT_CONNECTED)
        self.request = request
        return data

    def associate_accept(self, accept: pdu.AssociateAc) -> bytes:
        """E07: the A-ASSOCIATE-AC."""
        data = accept.encode()
        following = transition(self.state, Event.A_ASSOCIATE_ACCEPT, requestor=self.requestor)[1]
        assert self.request is not None
        self._establish(self.request, accept)
        self.send_length = self._peer_length(self.request.user_information)
        self.state = following  # last: from now on the reader takes P-DATA
        return data

    def associate_reject(self, reject: pdu.AssociateRj) -> bytes:
        """E08: the A-ASSOCIATE-RJ."""
        data = reject.encode()
        self._move(Event.A_ASSOCIATE_REJECT)
        return data

    def p_data(self) -> None:
        """E09: raise unless P-DATA may be sent now."""
        if self.state is not State.STA6:
            self._move(Event.P_DATA_REQUEST)

    def release_request(self) -> bytes:
        """E11: the A-RELEASE-RQ."""
        self._move(Event.A_RELEASE_REQUEST)
        return pdu.ReleaseRq().encode()

    def release_response(self) -> bytes:
        """E14: the A-RELEASE-RP."""
        self._move(Event.A_RELEASE_RESPONSE)
        return pdu.ReleaseRp().encode()

    def abort(self, source: int, reason: int) -> bytes:
        """E15: the A-ABORT, or nothing where no association has been asked for (Sta4, AA-2)."""
        data = pdu.Abort(source, reason).encode()
        return b"" if self._move(Event.A_ABORT_REQUEST) is Action.AA_2 else data

    def artim_expired(self) -> None:
        """E18: AA-2, close the transport."""
        self._move(Event.ARTIM_EXPIRED)

    def transport_closed(self) -> bool:
        """E17: True if that is an A-P-ABORT (AA-4), False where it was due (AA-5, AR-5)."""
        return self.state is not State.STA1 and self._move(Event.TRANSPORT_CLOSED) is Action.AA_4

    def _move(self, event: Event) -> Action:
        action, self.state = transition(self.state, event, requestor=self.requestor)
        return action


def _invalid(what: str, clause: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"the peer sent {what}", abort_reason=6, clause=clause)


def _unexpected(kind: int, state: State) -> RemoteProtocolError:
    return RemoteProtocolError(
        f"the peer sent a PDU of type {kind:02X}H in state {state.name}, where it may not come",
        abort_reason=2,
        clause="PS3.8 table 9-10",
    )
