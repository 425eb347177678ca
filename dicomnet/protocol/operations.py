"""Which operations are under way on an association, in both directions (PS3.7 7.5 and D.3.3.3).

Plain bookkeeping without locks: the link calls it under its own.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from dicomnet.errors import LocalProtocolError
from dicomnet.protocol.status import is_pending

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dicomnet.protocol.message_table import Message

__all__ = ["Operation", "Operations"]

_LAST_ID = 0xFFFF


class Operation:
    """One request that has no final response yet.

    `message` is the request's row of the table. `cancelled` becomes True with a C-CANCEL-RQ, ours or the
    peer's. `extra` belongs to the caller.
    """

    __slots__ = ("cancelled", "context_id", "extra", "message", "message_id")

    def __init__(self, message_id: int, message: Message, context_id: int) -> None:
        self.message_id = message_id
        self.message = message
        self.context_id = context_id
        self.cancelled = False
        self.extra: Any = None

    def __repr__(self) -> str:
        return f"<Operation {self.message.name} {self.message_id} on context {self.context_id}>"

    def ends_with(self, status: int) -> bool:
        """True unless another response follows: pending, in a service that has pending responses (X26)."""
        return not (self.message.cancellable and is_pending(status))


class Operations:
    """The operations that we invoked (`outstanding`) and those that the peer invoked (`owed`), by message id.

    The ids of the two directions are independent (F03). `invoked` and `performed` are the asynchronous
    operations window as it holds for us: how many operations each side may have open; 0 is unlimited.
    """

    def __init__(self, invoked: int = 1, performed: int = 1) -> None:
        self.invoked = invoked
        self.performed = performed
        self._outstanding: dict[int, Operation] = {}
        self._owed: dict[int, Operation] = {}
        self._last_id = 0
        self.outstanding: Mapping[int, Operation] = MappingProxyType(self._outstanding)
        """Our requests that have no final response yet, oldest first."""
        self.owed: Mapping[int, Operation] = MappingProxyType(self._owed)
        """The peer's requests to which we owe the final response, oldest first."""

    @property
    def can_invoke(self) -> bool:
        """True if the window has room for another request of ours."""
        return not self.invoked or len(self._outstanding) < self.invoked

    @property
    def can_perform(self) -> bool:
        """True if the peer may send another request."""
        return not self.performed or len(self._owed) < self.performed

    def next_message_id(self) -> int:
        """Return the next of 1, 2, ... 65535, 1, ... that no outstanding operation has (C06)."""
        for _ in range(_LAST_ID):
            self._last_id = self._last_id % _LAST_ID + 1
            if self._last_id not in self._outstanding:
                return self._last_id
        raise LocalProtocolError("every message id belongs to an outstanding operation", clause="PS3.7 9.1")

    def invoke(self, message_id: int, message: Message, context_id: int) -> Operation:
        """Enter a request that we are about to send.

        Raises `LocalProtocolError` if the id is in use (C06) or the window has no room (D.3.3.3).
        """
        if message_id in self._outstanding:
            raise LocalProtocolError(
                f"message id {message_id} belongs to {self._outstanding[message_id]!r}, which has no final "
                "response yet; take another id",
                clause="PS3.7 9.1",
            )
        if not self.can_invoke:
            raise LocalProtocolError(
                f"{len(self._outstanding)} operations are outstanding, and no more were negotiated: "
                "wait for a response",
                clause="PS3.7 D.3.3.3",
            )
        return _enter(self._outstanding, message_id, message, context_id)

    def awaiting(self, responded_id: int, command_field: int) -> Operation | None:
        """Return the operation that a response belongs to.

        None if it answers nothing: no such request is outstanding, or not one of that kind (C05, C07).
        """
        operation = self._outstanding.get(responded_id)
        if operation is None or operation.message.command_field | 0x8000 != command_field:
            return None
        return operation

    def answered(self, responded_id: int, status: int, command_field: int) -> Operation | None:
        """Note a response; return its operation, if any, which ends unless the status is pending (X26)."""
        operation = self.awaiting(responded_id, command_field)
        if operation is not None and operation.ends_with(status):
            del self._outstanding[responded_id]
        return operation

    def cancel(self, message_id: int, context_id: int) -> Operation | None:
        """Note that we cancel a request; return it, or None if it has ended and nothing is to be sent.

        Raises `LocalProtocolError` if it cannot be cancelled, or was sent on another context (F12).
        """
        operation = self._outstanding.get(message_id)
        if operation is None:
            return None
        if not operation.message.cancellable or operation.context_id != context_id:
            raise LocalProtocolError(
                f"{operation!r} cannot be cancelled on context {context_id}: C-FIND, C-GET and C-MOVE can, "
                "on their own context",
                clause="PS3.7 7.5-2",
            )
        operation.cancelled = True
        return operation

    def perform(self, message_id: int, message: Message, context_id: int) -> Operation | None:
        """Enter a request that came in; None if its id is already in use ("duplicate invocation", 0210H)."""
        if message_id in self._owed:
            return None
        return _enter(self._owed, message_id, message, context_id)

    def replied(self, message_id: int, status: int) -> bool:
        """Note a response of ours; False if that id is owed none: never asked, or already answered (X26)."""
        operation = self._owed.get(message_id)
        if operation is None:
            return False
        if operation.ends_with(status):
            del self._owed[message_id]
        return True

    def cancelled(self, message_id: int, context_id: int) -> Operation | None:
        """Note a C-CANCEL-RQ that came in; return what it cancels, None if it is to be ignored (F12, F14)."""
        operation = self._owed.get(message_id)
        if operation is None or not operation.message.cancellable or operation.context_id != context_id:
            return None
        operation.cancelled = True
        return operation

    def clear(self) -> None:
        """Forget all operations: the association has ended."""
        self._outstanding.clear()
        self._owed.clear()


def _enter(operations: dict[int, Operation], message_id: int, message: Message, context_id: int) -> Operation:
    operation = operations[message_id] = Operation(message_id, message, context_id)
    return operation
