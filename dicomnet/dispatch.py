"""What arrives becomes callbacks, and what callbacks leave unanswered is answered here; the way out too.

A request whose callback is not overridden is refused with "SOP class not supported" and its data set is
discarded unread; C-ECHO is answered with success, a release with its response. An exception in a request's
callback becomes a failure status while a response is owed, and aborts the association otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from dicomnet import errors
from dicomnet.association import DicomAssociate
from dicomnet.callbacks import Callbacks, overridden
from dicomnet.dataset import DicomDataSet, as_data_set
from dicomnet.dataset.sinks import MemorySink
from dicomnet.enums import (
    DicomAbortReasonType,
    DicomAbortSourceType,
    DicomAssociateRejectResultType,
    DicomAssociateRejectSourceType,
    DicomCommandStatusType,
    DicomExceptionCode,
    DicomPduType,
    reject_reason,
)
from dicomnet.link import words
from dicomnet.messages import Messages
from dicomnet.protocol import command_set, negotiation, pdu
from dicomnet.protocol.assembler import MessageReceived
from dicomnet.protocol.message_table import (
    C_CANCEL_RQ,
    C_ECHO_RQ,
    C_FIND_RQ,
    C_GET_RQ,
    C_MOVE_RQ,
    C_STORE_RQ,
    MESSAGES,
    Message,
)
from dicomnet.protocol.state_machine import State
from dicomnet.protocol.status import first_allowed
from dicomnet.protocol.upper_layer import (
    AbortReceived,
    AcceptReceived,
    Fault,
    RejectReceived,
    ReleaseReceived,
    ReleaseResponseReceived,
    RequestReceived,
)
from dicomnet.trace import logger

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence

    from dicomnet.dataset.spool import Spool
    from dicomnet.link import Link
    from dicomnet.messages import DataSetLike
    from dicomnet.protocol.assembler import Sink
    from dicomnet.protocol.command_set import Command
    from dicomnet.protocol.negotiation import Context
    from dicomnet.protocol.operations import Operation
    from dicomnet.protocol.upper_layer import Indication
    from dicomnet.settings import Limits

__all__ = ["Dispatch"]

_VERIFICATION = "1.2.840.10008.1.1"
_IMPLICIT = "1.2.840.10008.1.2"
_UNCOMPRESSED = ("1.2.840.10008.1.2.1", _IMPLICIT)

# Requests for the SOP class of their context, to the side in the SCP role. C-ECHO is answered wherever it
# comes; contexts of the N-services may be for a meta SOP class, and N-EVENT-REPORT goes to the SCU.
_OF_THEIR_CONTEXT = frozenset({C_STORE_RQ, C_FIND_RQ, C_GET_RQ, C_MOVE_RQ})


class Dispatch(Callbacks, Messages):
    """The part of `DicomNet` that stands between a link and the callbacks."""

    supported_contexts: ClassVar[Mapping[str, Sequence[str]]] = {_VERIFICATION: _UNCOMPRESSED}
    """What the default `on_receive_associate_request` accepts: transfer syntaxes by abstract syntax."""

    limits: Limits
    _spool: Spool
    _link: Link | None
    _crowded: bool
    _association: DicomAssociate | None
    _command: Command | None
    _numbering: threading.Lock

    @property
    def link(self) -> Link:
        """The link in use; `WrongStateError` where there is none."""
        if self._link is None:
            raise errors.WrongStateError("not connected: call connect() first")
        return self._link

    def get_command_set(self) -> DicomDataSet:
        """The command set of the message whose callback is running, as a data set; an error outside."""
        return self._command_set()

    def _command_set(self) -> DicomDataSet:
        if self._command is None:
            raise errors.WrongStateError("no message is being handled: there is no command set to show")
        return DicomDataSet(self._command.raw, _IMPLICIT)

    # --- association ------------------------------------------------------------------------------

    def send_associate_request(self, associate: DicomAssociate) -> None:
        """Send the A-ASSOCIATE-RQ; `on_receive_associate_accept` or `..._reject` follows (PS3.8 7.1.1)."""
        link, request = self.link, associate.to_request(self.limits.max_pdu)
        link.send(
            lambda: link.core.associate_request(request), "association.requested", called=request.called
        )

    def send_associate_accept(self, associate: DicomAssociate) -> None:
        """Answer the A-ASSOCIATE-RQ positively with the results in `associate`."""
        self._accept(associate)

    def _accept(self, associate: DicomAssociate) -> None:
        link = self.link
        request = link.core.request
        if request is None:
            raise errors.WrongStateError("there is no association request to accept")
        accept = associate.to_accept(request, self.limits.max_pdu)

        def make() -> bytes:
            data = link.core.associate_accept(accept)  # from now on the peer's messages may come
            self._association = DicomAssociate.answered(request, accept)
            performed, link.operations.invoked = _window(request, accept)
            link.operations.performed = performed or self.limits.operations
            return data

        link.send(make, "association.accepted", calling=request.calling)

    def send_associate_reject(self, result: int, source: int, reason: int) -> None:
        """Answer the A-ASSOCIATE-RQ negatively (numbers of PS3.8 table 9-21); the peer then closes."""
        self._reject(pdu.AssociateRj(int(result), int(source), int(reason)))

    def _reject(self, reject: pdu.AssociateRj) -> None:
        link = self.link
        numbers = {"result": reject.result, "source": reject.source, "reason": reject.reason}
        link.send(lambda: link.core.associate_reject(reject), "association.refused", **numbers)

    def send_release_request(self) -> None:
        """Send the A-RELEASE-RQ; after `on_receive_release_response` the link is closed."""
        self._request_release()

    def _request_release(self) -> None:
        link = self.link
        link.send(link.core.release_request, "release.requested")

    def send_release_response(self) -> None:
        """Answer an A-RELEASE-RQ; the peer then closes.

        If both ends have asked for the release, the acceptor of the association has to wait for the peer's
        answer (PS3.8 7.2.2.7); then nothing is sent here, and the response follows by itself.
        """
        self._confirm_release()

    def _confirm_release(self) -> None:
        link = self.link
        if link.state is not State.STA10:
            link.send(link.core.release_response, "release.answered")

    def send_abort(
        self,
        source: DicomAbortSourceType | int = DicomAbortSourceType.USER,
        reason: DicomAbortReasonType | int = DicomAbortReasonType.UNKNOWN,
    ) -> None:
        """Abort the association (PS3.8 7.3); nothing more can be sent, and `close` should follow."""
        self.link.abort(int(source), int(reason))

    # --- messages ---------------------------------------------------------------------------------

    def next_message_id(self) -> int:
        """A message id that no outstanding request of this link uses (1 to 65535)."""
        with self._numbering:
            return self.link.operations.next_message_id()

    def _send_message(
        self, message: Message, presentation_id: int, values: dict[str, Any], data_set: DataSetLike | None
    ) -> None:
        link = self.link
        context = self._context(link, presentation_id)
        source = None if data_set is None else as_data_set(data_set).source(context.transfer_syntax)
        try:
            command = command_set.encode(message, values, source is not None)
            if overridden(type(self), "on_before_send_command_set"):
                command = self._edited(command)
            self._transmit(
                link, message, presentation_id, values["message_id"], values.get("status"), command, source
            )
        finally:
            if source is not None:
                source.close()
        link.trace("message.sent", message=message.name, message_id=values.get("message_id"))

    @staticmethod
    def _transmit(
        link: Link,
        message: Message,
        context_id: int,
        message_id: int,
        status: int | None,
        command: bytes,
        source: Any,
    ) -> None:
        """Send a message and enter it with the operations, before its first byte leaves.

        Where the window has no room (PS3.7 D.3.3.3), a request waits for it.
        """
        operations = link.operations
        operation: Operation | None = None

        def enter() -> None:
            nonlocal operation
            if message.is_request:
                operation = operations.invoke(message_id, message, context_id)
                return
            operation = operations.owed.get(message_id)
            if not operations.replied(message_id, int(status or 0)):
                raise errors.LocalProtocolError(
                    f"no response is owed to message {message_id}: it was answered already, or never came",
                    clause="PS3.7 9.3",
                )

        def room() -> bool:
            return not message.is_request or operations.can_invoke

        if message is C_CANCEL_RQ:
            if operations.cancel(message_id, context_id) is not None:
                link.send_message(context_id, command, source, _nothing)
            return
        while not link.send_message(context_id, command, source, enter, room=room):
            link.wait(room)
        link.watch.alive(operation)

    def _edited(self, command: bytes) -> bytes:
        """Let `on_before_send_command_set` change the command set."""
        data_set = DicomDataSet(command, _IMPLICIT)
        self.on_before_send_command_set(data_set)
        return command_set.with_group_length(data_set.encoded)

    def send_data(
        self, presentation_id: int, command_set_: DicomDataSet, data_set: DataSetLike | None
    ) -> None:
        """Send a message whose command set is made by hand (LEADTOOLS `SendData`).

        The command set must be one of PS3.7 E; which elements it has is the caller's business.
        """
        link = self.link
        context = self._context(link, presentation_id)
        raw = command_set.with_group_length(as_data_set(command_set_).encoded)
        try:
            command = command_set.decode(raw)
        except errors.RemoteProtocolError as error:
            raise errors.LocalProtocolError(
                f"this is no command set: {error}", clause=error.clause
            ) from error
        source = None if data_set is None else as_data_set(data_set).source(context.transfer_syntax)
        message_id = _id_of(command)
        try:
            if command.message is None:
                link.send_message(presentation_id, raw, source, _nothing)
            else:
                self._transmit(
                    link, command.message, presentation_id, message_id, command.status, raw, source
                )
        finally:
            if source is not None:
                source.close()

    @staticmethod
    def _context(link: Link, presentation_id: int) -> Context:
        context = link.core.contexts.get(presentation_id)
        if context is None:
            link.core.p_data()
            raise errors.NoAcceptedContext(
                f"presentation context {presentation_id} was not accepted by {link.peer}; accepted are "
                f"{sorted(link.core.contexts) or 'none'}", peer=link.peer,
            )  # fmt: skip
        return context

    # --- what the link calls ----------------------------------------------------------------------

    def _open_sink(self, context_id: int, command: Command) -> Sink | None:
        """Choose where a data set goes: what `on_data_set` says, or memory and spool; None discards it."""
        cls = type(self)
        context = self.link.core.contexts[context_id]
        name = command.message.callback if command.message is not None else "on_receive_unknown"
        if not (overridden(cls, name) or overridden(cls, "on_receive_data")):
            return None
        if not self._expected(context_id, command):
            return None
        if overridden(cls, "on_data_set"):
            sink = self.on_data_set(context_id, command)
            if sink is not None:
                return sink
        request = self.link.core.request
        source = request.calling if request is not None and not self.link.core.requestor else ""
        return MemorySink(context, command, self.limits, self._spool, source_ae=source)

    def _expected(self, context_id: int, command: Command) -> bool:
        """Tell whether a message will be handled: neither refused here, nor the answer to nothing."""
        message = command.message
        if message is None or message is C_CANCEL_RQ:
            return True
        if message.is_request:
            self._check_room(command, message)
            return not self._refusal(context_id, command, message)
        return self.link.operations.awaiting(command.responded_id, command.field) is not None

    def _dispatch(self, event: Indication | MessageReceived) -> None:
        """Run the callbacks of what arrived, on the reader's thread."""
        if isinstance(event, MessageReceived):
            self._dispatch_message(event)
        elif isinstance(event, RequestReceived):
            self._dispatch_request(event.pdu)
        elif isinstance(event, AcceptReceived):
            self._dispatch_accept(event.pdu)
        elif isinstance(event, RejectReceived):
            self._dispatch_reject(event.pdu)
        elif isinstance(event, ReleaseReceived):
            self._dispatch_release()
        elif isinstance(event, ReleaseResponseReceived):
            self.on_receive_release_response()
            if event.ours_pending and self.link.state is State.STA12:
                self._confirm_release()
        elif isinstance(event, AbortReceived):
            self.link.trace("association.aborted", by="peer", source=event.source, reason=event.reason)
            self.on_receive_abort(DicomAbortSourceType(event.source), DicomAbortReasonType(event.reason))
        elif isinstance(event, Fault):
            self.link.trace("protocol.failed", error=str(event.error))

    def _dispatch_request(self, request: pdu.AssociateRq) -> None:
        if self._crowded:
            self._reject(negotiation.REJECT_LIMIT)  # R04
        elif overridden(type(self), "on_receive_associate_request"):
            self._association = DicomAssociate.from_pdu(request)
            self.on_receive_associate_request(self._association)
        else:
            answers = negotiation.answer_contexts(request, self.supported_contexts)
            if any(answer.result == 0 for answer in answers):
                self._accept(DicomAssociate.accepting(request, answers, self.limits.max_pdu))
            else:
                self._reject(negotiation.REJECT_NO_REASON)

    def _dispatch_accept(self, accept: pdu.AssociateAc) -> None:
        link = self.link
        assert link.core.request is not None
        self._association = DicomAssociate.answered(link.core.request, accept)
        link.operations.invoked, performed = _window(link.core.request, accept)
        link.operations.performed = performed or self.limits.operations
        link.trace("association.established", contexts=len(link.core.contexts))
        self.on_receive_associate_accept(self._association)

    def _dispatch_reject(self, reject: pdu.AssociateRj) -> None:
        link = self.link
        assert link.core.request is not None
        link.error = words.rejected(reject, link.core.request, link.peer)
        link.trace("association.rejected", result=reject.result, source=reject.source, reason=reject.reason)
        self.on_receive_associate_reject(
            DicomAssociateRejectResultType(reject.result),
            DicomAssociateRejectSourceType(reject.source),
            reject_reason(reject.source, reject.reason),
        )

    def _dispatch_release(self) -> None:
        overrides = overridden(type(self), "on_receive_release_request")
        if overrides:
            self.on_receive_release_request()
        link = self.link
        if not overrides and link.state in (State.STA8, State.STA9):
            self._confirm_release()

    def _dispatch_message(self, event: MessageReceived) -> None:
        outer, self._command = self._command, event.command
        try:
            self._handle(event)
        finally:
            self._command = outer  # a blocking call in a callback handles messages within a message

    def _handle(self, event: MessageReceived) -> None:
        command, message = event.command, event.command.message
        if event.error is not None:
            logger.error("the data set of message %d was lost: %s", _id_of(command), str(event.error))
        if overridden(type(self), "on_receive_data"):
            self.on_receive_data(event.context_id, self._command_set(), event.data_set)
        if message is None:
            self._unknown(event)
        elif message is C_CANCEL_RQ:
            if self.link.operations.cancelled(command.responded_id, event.context_id) is not None:  # else F14
                self.on_receive_c_cancel_request(event.context_id, command.responded_id)
        elif message.is_request:
            self._answer(event, message)
        else:
            self._answered(event, message)

    def _unknown(self, event: MessageReceived) -> None:
        if overridden(type(self), "on_receive_unknown"):
            self.on_receive_unknown(event.context_id, self._command_set(), event.data_set)
            return
        raise errors.RemoteProtocolError(
            f"the peer sent a message with the unknown command field {event.command.field:04X}H",
            clause="PS3.7 E.1",
        )

    def _check_room(self, command: Command, message: Message) -> None:
        """Raise `RemoteProtocolError` for a request that the peer must not send before we have answered."""
        operations = self.link.operations
        if command.message_id in operations.owed:
            raise errors.RemoteProtocolError(
                f"the peer sent a second {message.name} with message id {command.message_id} before the "
                "first was answered", clause="PS3.7 9.1", abort_reason=0,
            )  # fmt: skip
        if not operations.can_perform:
            raise errors.RemoteProtocolError(
                f"the peer sent {message.name} {command.message_id} before {len(operations.owed)} others had "
                f"their answer: it may have {operations.performed} outstanding (asynchronous operations "
                "window, or Limits.operations where that has no limit)",
                clause="PS3.7 D.3.3.3", abort_reason=0,
            )  # fmt: skip

    def _refusal(self, context_id: int, command: Command, message: Message) -> int:
        """Return the status with which a request is refused whatever its data set and handler; 0 for none."""
        if command.missing():
            return DicomCommandStatusType.MISTYPED_ARGUMENT
        core = self.link.core
        context = core.contexts.get(context_id)
        if context is None or message not in _OF_THEIR_CONTEXT:
            return 0
        serves = context.scp if core.requestor else context.scu  # the requestor's roles
        if serves and command.value(0x0002) == context.abstract_syntax:
            return 0
        return _not_supported(message)  # F19

    def _answer(self, event: MessageReceived, message: Message) -> None:
        """A request: call its handler, or answer for it."""
        command, operations = event.command, self.link.operations
        self._check_room(command, message)
        self.link.watch.alive(operations.perform(command.message_id, message, event.context_id))
        refusal = self._refusal(event.context_id, command, message)
        if event.error is not None:
            self._reply(event, message, _status_of(event.error, message))
        elif refusal:
            self._reply(event, message, refusal)
        elif overridden(type(self), message.callback):
            try:
                getattr(self, message.callback)(event.context_id, *_arguments(event, message))
            except Exception as error:
                over = error is self.link.error or command.message_id not in operations.owed
                if over or isinstance(error, errors.ReentrancyError):
                    raise
                logger.exception("%s raised; a failure status is sent", message.callback)
                self._reply(event, message, _status_of(error, message))
        elif message is C_ECHO_RQ:
            self._reply(event, message, DicomCommandStatusType.SUCCESS)
        else:
            self._reply(event, message, _not_supported(message))

    def _reply(self, event: MessageReceived, request: Message, status: int) -> None:
        response = MESSAGES[request.command_field | 0x8000]
        asked = dict(zip(request.parameters[1:], event.command.arguments(), strict=False))
        values = {element.name: asked.get(element.name) or None for element in response.elements}
        values.update(message_id=event.command.message_id, status=int(status))
        self._send_message(response, event.context_id, values, None)

    def _answered(self, event: MessageReceived, message: Message) -> None:
        """A response: match it with its request (C07), then call its handler."""
        command, link = event.command, self.link
        status = -1 if command.status is None else command.status
        operation = link.operations.answered(command.responded_id, status, command.field)
        if operation is None:
            link.trace("response.warning", message=message.name, unknown_message_id=command.responded_id)
            return
        link.watch.alive(operation)
        getattr(self, message.callback)(event.context_id, *_arguments(event, message))

    def _show(self, kind: int, data: memoryview) -> None:
        self.on_receive(DicomExceptionCode.SUCCESS, DicomPduType(kind), bytes(data), len(data))

    def _tell_sent(self, kind: int, length: int) -> None:
        self.on_send(DicomExceptionCode.SUCCESS, DicomPduType(kind), length)


def _nothing() -> None:
    pass


def _id_of(command: Command) -> int:
    return command.message_id or command.responded_id


def _not_supported(message: Message) -> int:
    """The status "SOP class not supported", or the nearest that the service has."""
    return first_allowed(message.command_field, 0x0122, 0x0118)


def _window(request: pdu.AssociateRq, accept: pdu.AssociateAc) -> tuple[int, int]:
    window = negotiation.operations_window(request, accept)
    return window.invoked, window.performed


def _arguments(event: MessageReceived, message: Message) -> tuple[Any, ...]:
    arguments = event.command.arguments()
    return (*arguments, event.data_set) if message.has_data_set_parameter else arguments


def _status_of(error: Exception, message: Message) -> int:
    """The failure status for a handler or sink that raised (PS3.7 C; PS3.4 B.2-1)."""
    if isinstance(error, errors.StatusError):
        return error.status
    if message is C_STORE_RQ:
        full = isinstance(error, (OSError, errors.DataSetError, errors.LimitExceeded))
        return 0xA700 if full else 0xC000
    return first_allowed(message.command_field, 0x0110, 0xC001, 0x0110)  # C-ECHO allows neither
