"""Ready-made service users, for scripts: blocking calls on a `DicomNet`, after LEADTOOLS' classes of these names.

with StoreScu(DicomScp("127.0.0.1", "ANY-SCP", 11112)) as scu:
    for result in scu.store(paths):
        print(result)
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dicomnet import errors
from dicomnet.association import DicomAssociate
from dicomnet.dataset import DicomDataSet, as_data_set
from dicomnet.enums import DicomCommandPriorityType, DicomCommandStatusType
from dicomnet.net import DicomNet
from dicomnet.protocol import negotiation
from dicomnet.protocol.status import category

if TYPE_CHECKING:
    from dicomnet.messages import DataSetLike

__all__ = ["DicomConnection", "DicomScp", "PresentationContext", "StoreResult", "StoreScu", "plan_contexts"]

VERIFICATION = "1.2.840.10008.1.1"
MOST_CONTEXTS = 128

PresentationContext = tuple[str, Sequence[str]]
"""An abstract syntax and the transfer syntaxes proposed for it."""


@dataclass(frozen=True)
class DicomScp:
    """The provider to talk to (LEADTOOLS `DicomScp`): address, AE title and port."""

    peer_address: str
    ae_title: str = "ANY-SCP"
    port: int = 104


class DicomConnection(DicomNet):
    """A requestor that connects, associates, and then does one operation after the other.

    Entering the `with` block opens the connection with what `get_presentation_contexts` proposes; leaving it
    releases. Each operation waits for its final response and raises when there will be none.
    """

    def __init__(self, scp: DicomScp, *args: Any, ae_title: str = "DICOMNET", **options: Any) -> None:
        super().__init__(*args, **options)
        self.scp = scp
        self.ae_title = ae_title
        self._statuses: dict[int, int] = {}

    def __enter__(self) -> DicomConnection:
        if not self.is_connected():
            self.open()
        return self

    def get_presentation_contexts(self) -> Sequence[PresentationContext]:
        """What `open` proposes by default: Verification."""
        return [(VERIFICATION, ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2"))]

    def build_association(self, contexts: Sequence[PresentationContext]) -> DicomAssociate:
        """Make the association request; override to add roles, extended negotiation, user identity."""
        associate = DicomAssociate(True)
        associate.called, associate.calling = self.scp.ae_title, self.ae_title
        associate.max_length = self.limits.max_pdu
        for context in negotiation.propose(contexts):
            associate.add_presentation_context(context.id, 0, context.abstract_syntax)
            for syntax in context.transfer_syntaxes:
                associate.add_transfer(context.id, syntax)
        return associate

    def open(self, contexts: Sequence[PresentationContext] | None = None) -> None:
        """Connect and associate. Raises what `connect` raises, `AssociationRejected`, `AssociationTimeout`."""
        proposed = self.get_presentation_contexts() if contexts is None else contexts
        request = self.build_association(proposed)
        self.connect(None, 0, self.scp.peer_address, self.scp.port)
        try:
            self.send_associate_request(request)
            self.wait(self.is_associated)
        except BaseException:
            self.close_forced(True)
            raise

    def find_context(self, abstract_syntax: str, transfer_syntax: str = "") -> int:
        """Return the id of the accepted context for these syntaxes; raise `NoAcceptedContext`."""
        contexts = self.link.core.contexts.values()
        for context in contexts:
            if context.abstract_syntax == abstract_syntax and transfer_syntax in (
                "",
                context.transfer_syntax,
            ):
                return context.id
        answered = tuple(c.transfer_syntax for c in contexts if c.abstract_syntax == abstract_syntax)
        what = f"only in transfer syntax {', '.join(answered)}" if answered else "not at all"
        raise errors.NoAcceptedContext(
            f"{self.link.peer} accepts SOP class {abstract_syntax} {what}, and this needs "
            f"{transfer_syntax or 'any'}: the peer has to be set up for it, or the object converted first",
            proposed=(transfer_syntax,), answered=answered, peer=self.link.peer, state="data transfer",
        )  # fmt: skip

    def echo(self) -> DicomCommandStatusType:
        """Do a C-ECHO (PS3.7 9.1.5); return its status. Raises `NoAcceptedContext`, `ResponseTimeout`."""
        context_id = self.find_context(VERIFICATION)
        message_id = self.next_message_id()
        self.send_c_echo_request(context_id, message_id, VERIFICATION)
        return self._final_status(message_id)

    def _final_status(self, message_id: int) -> DicomCommandStatusType:
        self.wait(lambda: message_id in self._statuses)
        return DicomCommandStatusType(self._statuses.pop(message_id))

    def on_receive_c_echo_response(
        self, presentation_id: int, message_id: int, affected_class: str, status: DicomCommandStatusType
    ) -> None:
        """Keep the status for `echo`."""
        self._statuses[message_id] = status

    def on_receive_c_store_response(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        instance: str,
        status: DicomCommandStatusType,
    ) -> None:
        """Keep the status for `store`."""
        self._statuses[message_id] = status


@dataclass(frozen=True)
class StoreResult:
    """What became of one instance: `status` of its response, or the `error` for which there is none."""

    source: str
    sop_class: str = ""
    sop_instance: str = ""
    transfer_syntax: str = ""
    size: int = 0
    status: DicomCommandStatusType | None = None
    error: errors.DicomException | None = None

    @property
    def stored(self) -> bool:
        """True if the peer has it: success, or a warning such as "data elements coerced"."""
        return self.status is not None and category(self.status) in ("success", "warning")


def plan_contexts(wanted: Iterable[tuple[str, str]]) -> list[list[PresentationContext]]:
    """Plan contexts for pairs of SOP class and transfer syntax: one list for each association needed.

    Each pair gets a context of its own, so that the peer answers for each syntax by itself, and nothing has
    to be converted.
    """
    pairs: list[PresentationContext] = [(pair[0], (pair[1],)) for pair in dict.fromkeys(wanted)]
    return [pairs[at : at + MOST_CONTEXTS] for at in range(0, len(pairs), MOST_CONTEXTS)]


class StoreScu(DicomConnection):
    """Stores instances, byte for byte, in the transfer syntax that each of them has (LEADTOOLS `StoreScu`)."""

    def __enter__(self) -> StoreScu:
        return self  # `store` opens the associations that the files need

    def store(self, sources: Iterable[DataSetLike]) -> Iterator[StoreResult]:
        """Store files and data sets; yield a result for each as it is done.

        The contexts are planned from the files' headers; where 128 do not suffice, several associations
        follow each other. A file that cannot be read, or that the peer takes in no context, gives a result
        with its error, and the next one follows; an error of the link is raised.
        """
        plans: dict[tuple[str, str], list[DataSetLike]] = {}
        for source in sources:
            try:
                with as_data_set(source) as data_set:
                    plans.setdefault((data_set.sop_class, data_set.transfer_syntax), []).append(source)
            except errors.DicomException as error:
                yield StoreResult(_name(source), error=error)
        for contexts in plan_contexts(plans):
            self.open(contexts)
            try:
                for sop_class, syntaxes in contexts:
                    for source in plans[sop_class, syntaxes[0]]:
                        yield self._store_one(source)
            except GeneratorExit:
                self.close()
                raise
            except BaseException:
                self.close_forced(True)
                raise
            self.release()

    def _store_one(self, source: DataSetLike) -> StoreResult:
        fields: dict[str, Any] = {"source": _name(source)}
        try:
            with as_data_set(source) as data_set:
                fields.update(
                    sop_class=data_set.sop_class,
                    sop_instance=data_set.sop_instance,
                    transfer_syntax=data_set.transfer_syntax,
                    size=data_set.size,
                )
                context_id = self.find_context(data_set.sop_class, data_set.transfer_syntax)
                fields["status"] = self._send(context_id, data_set)
        except (errors.NoAcceptedContext, errors.DataSetError) as error:
            if self.link.ended or self.link.error is not None:
                raise
            fields["error"] = error
        return StoreResult(**fields)

    def _send(self, context_id: int, data_set: DicomDataSet) -> DicomCommandStatusType:
        message_id = self.next_message_id()
        self.send_c_store_request(
            context_id,
            message_id,
            data_set.sop_class,
            data_set.sop_instance,
            DicomCommandPriorityType.MEDIUM,
            "",
            0,
            data_set,
        )
        return self._final_status(message_id)


def _name(source: DataSetLike) -> str:
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else repr(source)
