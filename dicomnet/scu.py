"""Ready-made service users for scripts: blocking calls on a `DicomNet`.

    with StoreScu(DicomScp("127.0.0.1", "ANY-SCP", 11112)) as scu:
        for result in scu.store(paths):
            print(result)

`DicomScp`, `DicomConnection` and `StoreScu` are named after LEADTOOLS' classes that do the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from dicomnet import errors
from dicomnet.association import DicomAssociate
from dicomnet.dataset import DicomDataSet, as_data_set
from dicomnet.dataset.part10 import EXPLICIT_LITTLE, IMPLICIT_LITTLE, NATIVE
from dicomnet.enums import (
    DicomAssociateAcceptResultType,
    DicomCommandPriorityType,
    DicomCommandStatusType,
)
from dicomnet.net import DicomNet
from dicomnet.protocol import negotiation
from dicomnet.protocol.message_table import C_ECHO_RSP, C_STORE_RSP
from dicomnet.protocol.status import category, describe
from dicomnet.protocol.wire import is_valid_uid

if TYPE_CHECKING:
    from typing_extensions import Self

    from dicomnet.messages import DataSetLike
    from dicomnet.protocol.assembler import MessageReceived
    from dicomnet.protocol.message_table import Message

__all__ = ["DicomConnection", "DicomScp", "PresentationContext", "StoreResult", "StoreScu", "plan_contexts"]

VERIFICATION = "1.2.840.10008.1.1"
MOST_CONTEXTS = 128
_ERROR_COMMENT = 0x0902
_KEPT = (C_ECHO_RSP, C_STORE_RSP)

PresentationContext = tuple[str, Sequence[str]]
"""An abstract syntax and the transfer syntaxes proposed for it."""


@dataclass(frozen=True)
class DicomScp:
    """The provider to talk to (LEADTOOLS `DicomScp`): host name or address, AE title and port."""

    peer_address: str
    ae_title: str = "ANY-SCP"
    port: int = 104


class _Response(NamedTuple):
    status: int
    comment: str


class DicomConnection(DicomNet):
    """A requestor that connects, associates, and then does one operation after the other.

    Entering the `with` block opens the connection with what `get_presentation_contexts` proposes; leaving it
    releases. Each operation waits for its final response and raises when there will be none.

    `ae_title` is the calling AE title. The other arguments are those of `DicomNet`; for TLS pass
    `security_mode`, and set CA and certificate as on any `DicomNet`.
    """

    def __init__(self, scp: DicomScp, *args: Any, ae_title: str = "DICOMNET", **options: Any) -> None:
        super().__init__(*args, **options)
        self.scp = scp
        self.ae_title = ae_title
        self._responses: dict[int, _Response] = {}

    def __enter__(self) -> Self:
        if not self.is_connected():
            self.open()
        return self

    def get_presentation_contexts(self) -> Sequence[PresentationContext]:
        """Return what `open` proposes by default: Verification. Override to propose something else."""
        return [(VERIFICATION, (EXPLICIT_LITTLE, IMPLICIT_LITTLE))]

    def build_association(self, contexts: Sequence[PresentationContext]) -> DicomAssociate:
        """Make the association request; override to add roles, extended negotiation, user identity.

        Raises `LocalProtocolError` for more than 128 contexts, or for a UID that is none.
        """
        associate = DicomAssociate(True)
        associate.called, associate.calling = self.scp.ae_title, self.ae_title
        associate.max_length = self.limits.max_pdu
        for context in negotiation.propose(contexts):
            associate.add_presentation_context(context.id, 0, context.abstract_syntax)
            for syntax in context.transfer_syntaxes:
                associate.add_transfer(context.id, syntax)
        return associate

    def open(self, contexts: Sequence[PresentationContext] | None = None) -> None:
        """Connect and associate, proposing `contexts` or what `get_presentation_contexts` returns.

        Raises what `connect` raises, `AssociationRejected`, `AssociationAborted`, `AssociationTimeout`. An
        association in which the peer accepts no context is open all the same.
        """
        proposed = self.get_presentation_contexts() if contexts is None else contexts
        request = self.build_association(proposed)
        request.to_request().encode()  # what is wrong with it shows before anything is connected
        self._responses.clear()
        self.connect(None, 0, self.scp.peer_address, self.scp.port)
        try:
            self.send_associate_request(request)
            self.wait(self.is_associated)
        except BaseException:
            self.close_forced(True)
            raise

    def find_context(self, abstract_syntax: str, *transfer_syntaxes: str) -> int:
        """Return the id of the accepted context for an abstract syntax, in one of the transfer syntaxes.

        The first syntax that was accepted wins; without any given, every one will do. Raises
        `NoAcceptedContext`.
        """
        contexts = self.link.core.contexts.values()
        usable = [c for c in contexts if c.abstract_syntax == abstract_syntax and c.scu]
        for syntax in transfer_syntaxes or ("",):
            for context in usable:
                if syntax in ("", context.transfer_syntax):
                    return context.id
        answered = tuple(context.transfer_syntax for context in usable)
        raise self._no_context(abstract_syntax, transfer_syntaxes, answered)

    def _no_context(
        self, abstract_syntax: str, wanted: tuple[str, ...], answered: tuple[str, ...]
    ) -> errors.NoAcceptedContext:
        peer, advice = self.link.peer, "Convert the object first, or have the peer set up for it"
        syntaxes = f"in transfer syntax {' or '.join(wanted)}" if wanted else "in what was proposed"
        problem = f"{peer} does not accept SOP class {abstract_syntax}"
        if answered:
            problem += f" {syntaxes}, only in {', '.join(answered)}. {advice}"
        elif self._knows(abstract_syntax):
            problem += f" {syntaxes}, though in others. {advice}"
        else:
            problem += ". Have the peer set up for it, or check that this is the right peer"
        return errors.NoAcceptedContext(
            problem, proposed=wanted, answered=answered, peer=peer, state="data transfer"
        )

    def _knows(self, abstract_syntax: str) -> bool:
        """Tell whether the peer said that it is the transfer syntaxes only that it does not support."""
        association = self.association
        return association is not None and any(
            association.get_abstract(context_id) == abstract_syntax
            and association.get_result(context_id) == DicomAssociateAcceptResultType.TRANSFER_SYNTAX
            for context_id in map(
                association.get_presentation_context_id, range(association.presentation_context_count)
            )
        )

    def echo(self) -> DicomCommandStatusType:
        """Do a C-ECHO (PS3.7 9.1.5); return its status. Raises `NoAcceptedContext`, `ResponseTimeout`."""
        context_id = self.find_context(VERIFICATION)
        message_id = self.next_message_id()
        self.send_c_echo_request(context_id, message_id, VERIFICATION)
        return DicomCommandStatusType(self._response(message_id).status)

    def _response(self, message_id: int) -> _Response:
        """Wait for the response to a request that was sent."""
        self.wait(lambda: message_id in self._responses)
        return self._responses.pop(message_id)

    def _answered(self, event: MessageReceived, message: Message) -> None:
        """Keep the status of a response that is waited for, whatever its callback, then run that."""
        command = event.command
        if self.link.operations.awaiting(command.responded_id, command.field) and message in _KEPT:
            status = command.status or 0
            comment = command.value(_ERROR_COMMENT) if status else None
            self._responses[command.responded_id] = _Response(status, errors.escape(comment or ""))
        super()._answered(event, message)


@dataclass(frozen=True)
class StoreResult:
    """What became of one instance; `str()` of it is a line for a person."""

    source: str
    """Path of the file, or a description of the data set."""

    sop_class: str = ""
    sop_instance: str = ""
    transfer_syntax: str = ""

    size: int = 0
    """Bytes of the data set."""

    status: DicomCommandStatusType | None = None
    """Status of the response, None where there was none."""

    comment: str = ""
    """Error comment (0000,0902) of the response, escaped."""

    error: errors.DicomException | None = None
    """Why it was not sent."""

    @property
    def stored(self) -> bool:
        """True if the peer has it: success, or a warning such as "data elements coerced"."""
        return self.status is not None and category(self.status) in ("success", "warning")

    @property
    def outcome(self) -> str:
        """The status in words with the peer's comment, or the error."""
        if self.status is None:
            return str(self.error or "not sent")
        text = describe(self.status)
        return f"{text}: {self.comment}" if self.comment else text

    def __str__(self) -> str:
        outcome = self.outcome
        return outcome if self.source in outcome else f"{self.source}: {outcome}"


def plan_contexts(wanted: Iterable[tuple[str, str]]) -> list[list[PresentationContext]]:
    """Plan contexts for pairs of SOP class and transfer syntax: one list for each association needed.

    Each pair gets a context of its own, so that the peer answers for each syntax by itself and nothing has
    to be converted; a class with an uncompressed syntax gets one for the default transfer syntax as well, as
    PS3.5 10.1 demands. "" stands for an instance that has no syntax yet: it is encoded in what is accepted.
    """
    syntaxes: dict[str, dict[str, None]] = {}
    for sop_class, syntax in wanted:
        syntaxes.setdefault(sop_class, {})[syntax or EXPLICIT_LITTLE] = None
    plans: list[list[PresentationContext]] = []
    for sop_class, own in syntaxes.items():
        if not NATIVE.isdisjoint(own):
            own[IMPLICIT_LITTLE] = None
        group: list[PresentationContext] = [(sop_class, (syntax,)) for syntax in own]
        if not plans or len(plans[-1]) + len(group) > MOST_CONTEXTS:
            plans.append([])
        plans[-1] += group
    return plans


class StoreScu(DicomConnection):
    """Stores instances, byte for byte, in the transfer syntax that each of them has (LEADTOOLS `StoreScu`).

    It opens its associations itself, and releases them: entering the `with` block does not connect.
    """

    def __enter__(self) -> Self:
        return self

    def store(self, sources: DataSetLike | Iterable[DataSetLike]) -> list[StoreResult]:
        """Store one or several files and data sets, and return a result for each.

        As `store_each`, but done when it returns. Where the link breaks, `DicomException.results` of the
        error that is raised holds the results until then.
        """
        results: list[StoreResult] = []
        try:
            results.extend(self.store_each(sources))
        except errors.DicomException as error:
            error.results = tuple(results)
            raise
        return results

    def store_each(self, sources: DataSetLike | Iterable[DataSetLike]) -> Iterator[StoreResult]:
        """Store one or several files and data sets; yield a result for each as it is done.

        The contexts are planned from the files' headers, which are read first; where 128 do not suffice,
        several associations follow each other. A file that cannot be read, or that the peer takes in no
        context, gives a result with its error, and the next one follows; an error of the link is raised.
        Nothing is sent unless the results are asked for.
        """
        items: list[_Item] = []
        for source in _several(sources):
            try:
                items.append(_planned(source))
            except errors.DicomException as error:
                yield StoreResult(_name(source), error=error)
        for contexts in plan_contexts(item.kind for item in items):
            classes = {sop_class for sop_class, _ in contexts}
            yield from self._associate(contexts, [item for item in items if item.kind[0] in classes])

    def _associate(
        self, contexts: Sequence[PresentationContext], items: Sequence[_Item]
    ) -> Iterator[StoreResult]:
        """Store what fits into one association."""
        self.open(contexts)
        try:
            for item in items:
                yield self._store_one(item)
        except BaseException:
            self.close()
            raise
        self.release()

    def _store_one(self, item: _Item) -> StoreResult:
        fields: dict[str, Any] = {"source": _name(item.source)}
        try:
            data_set = as_data_set(item.data_set)
        except errors.DataSetError as error:  # it has gone since
            return StoreResult(**fields, error=error)
        try:
            syntax = data_set.transfer_syntax
            fields.update(sop_class=data_set.sop_class, sop_instance=data_set.sop_instance)
            fields["transfer_syntax"] = syntax
            accepted = [syntax] if syntax else [EXPLICIT_LITTLE, IMPLICIT_LITTLE]
            context_id = self.find_context(data_set.sop_class, *accepted)
            fields["size"] = data_set.size
            response = self._send(context_id, data_set)
            fields.update(status=DicomCommandStatusType(response.status), comment=response.comment)
        except (errors.NoAcceptedContext, errors.DataSetError, errors.LocalProtocolError) as error:
            if not self.is_associated():
                raise
            fields["error"] = error
        finally:
            if data_set is not item.source:
                data_set.close()
        return StoreResult(**fields)

    def _send(self, context_id: int, data_set: DicomDataSet) -> _Response:
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
        return self._response(message_id)


def _several(sources: Any) -> Iterable[DataSetLike]:
    """Return one thing to send as a list; a pydicom data set is one, though it can be iterated over."""
    if isinstance(sources, (str, os.PathLike, DicomDataSet)) or hasattr(sources, "to_json_dict"):
        return [sources]
    several: Iterable[DataSetLike] = sources
    return several


class _Item(NamedTuple):
    """What is to be stored: SOP class and transfer syntax, what was given, and what is sent of it."""

    kind: tuple[str, str]
    source: DataSetLike
    data_set: DataSetLike


def _planned(source: DataSetLike) -> _Item:
    """Look at what is to be stored; raise `DataSetError` where it cannot be proposed or sent.

    A small file, which is in memory now, is given up again and read a second time when its turn comes.
    """
    data_set = as_data_set(source)
    in_file = data_set.path != ""
    try:
        kind = data_set.sop_class, data_set.transfer_syntax
        if not is_valid_uid(kind[0]) or not data_set.sop_instance:
            raise errors.DataSetError(
                f"{_name(source)} has no SOP class or instance UID, so it cannot be stored",
                path=data_set.path,
            )
        return _Item(kind, source, data_set if in_file else source)
    finally:
        if data_set is not source and not in_file:
            data_set.close()


def _name(source: DataSetLike) -> str:
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    return repr(source) if isinstance(source, DicomDataSet) else f"<{type(source).__name__}>"
