"""`DicomAssociate`: what an association request or answer says, under LEADTOOLS' names.

The object is a plain editable description. `to_request` and `to_accept` turn it into a PDU and apply the
standard's rules; `from_pdu` shows a received PDU, `DicomAssociate.answered` what two PDUs agreed on.
"""

# ruff: noqa: A002 - LEADTOOLS' parameter names

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, TypeVar

from dicomnet.enums import (
    DicomAssociateAcceptResultType,
    DicomExceptionCode,
    DicomRoleSupport,
    DicomUserIdentityType,
)
from dicomnet.errors import LocalProtocolError, RemoteProtocolError, escape
from dicomnet.protocol import negotiation, wire
from dicomnet.protocol.items import (
    AsynchronousOperationsWindow,
    ImplementationClassUid,
    ImplementationVersionName,
    MaximumLength,
    PresentationContextAc,
    PresentationContextRq,
    RoleSelection,
    SopClassExtendedNegotiation,
    UserIdentityRequest,
    UserIdentityResponse,
    UserInformation,
    UserItem,
)
from dicomnet.protocol.pdu import AssociateAc, AssociateRq
from dicomnet.settings import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from typing_extensions import Self

__all__ = ["DicomAssociate"]

_T = TypeVar("_T")
_item_type = attrgetter("kind")


@dataclass(slots=True)
class _Presentation:
    """A presentation context."""

    id: int
    result: int = 0
    abstract: str = ""
    transfers: list[str] = field(default_factory=list)


class DicomAssociate:
    """The contents of an A-ASSOCIATE-RQ (`request` true) or -AC (LEADTOOLS `DicomAssociate`).

    A new object names DICOM's application context and this implementation; titles and presentation
    contexts are to be filled in. Presentation contexts are addressed by their id, which is odd and unique,
    1 to 255. Methods given an id or index that is not there raise `LocalProtocolError` with the code
    `DicomExceptionCode.PARAMETER`.

    Roles are those of the association requestor: `user` is its SCU role, `provider` its SCP role.
    They, and extended data, belong to a SOP class: contexts with the same abstract syntax share them.
    """

    is_request: bool
    """True for a request, false for an answer."""
    version: int
    """Protocol version, a bit mask of which only bit 0 is defined (PS3.8 9.3.2)."""
    called: str
    """AE title of the acceptor, 1 to 16 characters; received, it may be empty."""
    calling: str
    """AE title of the requestor, likewise."""
    application_context_name: str
    """UID of the application context."""
    max_length: int
    """Longest P-DATA-TF taken, in bytes. 0: none given; `Limits.max_pdu` is then announced."""
    implement_class: str
    """Implementation class UID; "" where a peer sent none."""
    implementation_version_name: str
    """Implementation version name, 1 to 16 characters; "" is left out."""

    def __init__(self, request: bool = True) -> None:
        self.reset(request)

    def reset(self, request: bool) -> None:
        """Forget everything and become an empty request or answer."""
        self.is_request = request
        self.version = 1
        self.called = self.calling = ""
        self.application_context_name = negotiation.APPLICATION_CONTEXT
        self.max_length = 0
        self.implement_class = negotiation.IMPLEMENTATION_CLASS_UID
        self.implementation_version_name = negotiation.IMPLEMENTATION_VERSION_NAME
        self._contexts: list[_Presentation] = []
        self._roles: dict[str, tuple[int, int]] = {}  # by SOP class: SCU, SCP
        self._extended: dict[str, bytes] = {}  # by SOP class
        self._window: AsynchronousOperationsWindow | None = None
        self._others: list[UserItem] = []

    def default(self) -> None:
        """Reset; a request then proposes Verification in the default transfer syntax."""
        self.reset(self.is_request)
        if self.is_request:
            self.add_presentation_context(1, DicomAssociateAcceptResultType.SUCCESS, "1.2.840.10008.1.1")
            self.add_transfer(1, negotiation.IMPLICIT_VR_LITTLE_ENDIAN)

    def dispose(self) -> None:
        """Do nothing: there is nothing to free (LEADTOOLS `IDisposable`)."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.dispose()

    # --- presentation contexts ---------------------------------------------------------------------

    @property
    def presentation_context_count(self) -> int:
        """Number of presentation contexts."""
        return len(self._contexts)

    def get_presentation_context_id(self, index: int) -> int:
        """Return the id of the context at an index."""
        return _at(self._contexts, index, "presentation context").id

    def set_presentation_context_id(self, index: int, id: int) -> None:
        """Change the id of the context at an index; raises `LocalProtocolError` unless odd and unique."""
        context = _at(self._contexts, index, "presentation context")
        if id != context.id:
            self._check_new(id)
        context.id = id

    def add_presentation_context(self, id: int, result: int, abstract_syntax: str) -> None:
        """Append a context without transfer syntaxes; in a request `result` is 0.

        Raises `LocalProtocolError` unless the id is odd, 1 to 255, and not in use (PS3.8 9.3.2.2).
        """
        self._check_new(id)
        self._contexts.append(_Presentation(id, result, abstract_syntax))

    def delete_presentation(self, id: int) -> None:
        """Remove a context."""
        self._contexts.remove(self._context(id))

    def get_result(self, id: int) -> DicomAssociateAcceptResultType:
        """Return the verdict on a context; an association's own `SUCCESS` means that it can be used."""
        return DicomAssociateAcceptResultType(self._context(id).result)

    def set_result(self, id: int, result: int) -> None:
        """Set the verdict on a context (`DicomAssociateAcceptResultType`)."""
        self._context(id).result = result

    def get_abstract(self, id: int) -> str:
        """Return the abstract syntax UID; "" in a received answer, which does not repeat it."""
        return self._context(id).abstract

    def set_abstract(self, id: int, uid: str) -> None:
        """Change the abstract syntax."""
        self._context(id).abstract = uid

    def find_abstract(self, uid: str) -> int:
        """Return the id of the first context with that abstract syntax, 0 when there is none."""
        return next(iter(self.find_abstracts(uid)), 0)

    def find_next_abstract(self, id: int, uid: str) -> int:
        """Return the id of the next context behind `id` with that abstract syntax, 0 when there is none."""
        behind = self._contexts[self._contexts.index(self._context(id)) + 1 :]
        return next((context.id for context in behind if context.abstract == uid), 0)

    def get_abstract_count(self, uid: str) -> int:
        """Return how many contexts have that abstract syntax."""
        return len(self.find_abstracts(uid))

    def find_abstracts(self, uid: str) -> list[int]:
        """Return the ids of all contexts with that abstract syntax."""
        return [context.id for context in self._contexts if context.abstract == uid]

    def _context(self, context_id: int) -> _Presentation:
        for context in self._contexts:
            if context.id == context_id:
                return context
        ids = ", ".join(str(context.id) for context in self._contexts) or "none"
        raise _mistake(f"there is no presentation context {context_id}; the ids are: {ids}")

    def _check_new(self, context_id: int) -> None:
        in_use = any(context.id == context_id for context in self._contexts)
        if in_use or not 1 <= context_id <= 255 or context_id % 2 == 0:
            raise LocalProtocolError(
                f"{context_id} is {'in use as an' if in_use else 'not a'} id of a presentation context: "
                "ids are odd, 1 to 255, and unique",
                code=DicomExceptionCode.PARAMETER,
                clause="PS3.8 9.3.2.2",
            )

    # --- transfer syntaxes -------------------------------------------------------------------------

    def get_transfer_count(self, id: int) -> int:
        """Return the number of transfer syntaxes of a context; in an association 1 where it was accepted."""
        return len(self._context(id).transfers)

    def get_transfer(self, id: int, index: int) -> str:
        """Return a transfer syntax UID; in an association index 0 is the agreed one."""
        return _at(self._context(id).transfers, index, f"transfer syntax of context {id}")

    def set_transfer(self, id: int, index: int, uid: str) -> None:
        """Replace a transfer syntax."""
        _at(self._context(id).transfers, index, f"transfer syntax of context {id}")
        self._context(id).transfers[index] = uid

    def add_transfer(self, id: int, uid: str) -> None:
        """Append a transfer syntax; the earlier ones are preferred."""
        self._context(id).transfers.append(uid)

    def delete_transfer(self, id: int, index: int) -> None:
        """Remove a transfer syntax."""
        _at(self._context(id).transfers, index, f"transfer syntax of context {id}")
        del self._context(id).transfers[index]

    # --- roles and extended negotiation ------------------------------------------------------------

    def is_role_select(self, id: int) -> bool:
        """True where roles are proposed or granted explicitly for the context's SOP class."""
        return self.get_abstract(id) in self._roles

    def get_user_role(self, id: int) -> DicomRoleSupport:
        """Return whether the requestor is SCU; without role selection it is."""
        return DicomRoleSupport(self._roles.get(self.get_abstract(id), _DEFAULT_ROLE)[0])

    def get_provider_role(self, id: int) -> DicomRoleSupport:
        """Return whether the requestor is SCP; without role selection it is not."""
        return DicomRoleSupport(self._roles.get(self.get_abstract(id), _DEFAULT_ROLE)[1])

    def set_role_select(self, id: int, enabled: bool, user: int, provider: int) -> None:
        """Propose or grant roles (PS3.7 D.3.3.4), or with `enabled` false leave it at the default ones.

        In an answer a role counts only where the request proposed it.
        """
        _set(self._roles, self.get_abstract(id), (int(user), int(provider)) if enabled else None)

    def get_extended_data(self, id: int) -> bytes:
        """Return the SOP class extended negotiation bytes, empty where there are none (PS3.7 D.3.3.5)."""
        return self._extended.get(self.get_abstract(id), b"")

    def get_extended_data_length(self, id: int) -> int:
        """Return the number of those bytes."""
        return len(self.get_extended_data(id))

    def set_extended_data(self, id: int, data: bytes | None) -> None:
        """Set the SOP class extended negotiation bytes; the service class defines them. None removes."""
        _set(self._extended, self.get_abstract(id), None if data is None else bytes(data))

    # --- asynchronous operations -------------------------------------------------------------------

    @property
    def is_asynchronous_operations(self) -> bool:
        """Whether an asynchronous operations window is proposed or granted (PS3.7 D.3.3.3)."""
        return self._window is not None

    @property
    def invoked_operations_count(self) -> int:
        """How many operations the requestor may have outstanding; 0 is no limit, 1 without a window."""
        return self._window.invoked if self._window else 1

    @property
    def performed_operations_count(self) -> int:
        """How many operations the acceptor may have outstanding; 0 is no limit, 1 without a window."""
        return self._window.performed if self._window else 1

    def set_asynchronous_operations(self, enabled: bool, invoked_count: int, performed_count: int) -> None:
        """Set or remove the window. The counts keep the requestor's viewpoint in an answer too."""
        self._window = AsynchronousOperationsWindow(invoked_count, performed_count) if enabled else None

    # --- other user information --------------------------------------------------------------------

    @property
    def user_information_count(self) -> int:
        """Number of the sub-items that no other member shows: user identity, unknown types, ..."""
        return len(self._others)

    def get_user_information_type(self, index: int) -> int:
        """Return the type of such a sub-item, for example 0x58 for a user identity."""
        return int(_item_type(_at(self._others, index, "user information")))

    def get_user_information_data(self, index: int) -> bytes:
        """Return its data; empty for a known type with values from the peer that the standard forbids."""
        item = _at(self._others, index, "user information")
        try:
            return item.encode()[4:]
        except LocalProtocolError:
            return b""

    def get_user_information_data_length(self, index: int) -> int:
        """Return the length of its data."""
        return len(self.get_user_information_data(index))

    def set_user_information(self, index: int, type: int, data: bytes) -> None:
        """Replace such a sub-item."""
        _at(self._others, index, "user information")
        self._others[index] = _item(type, data)

    def add_user_information(self, type: int, data: bytes) -> None:
        """Append a sub-item; raises `LocalProtocolError` where the data do not have the form of its type.

        Types 0x51 to 0x56 have members of their own, and are refused here.
        """
        self._others.append(_item(type, data))

    def delete_user_information(self, index: int) -> None:
        """Remove such a sub-item."""
        _at(self._others, index, "user information")
        del self._others[index]

    @property
    def user_identity(self) -> UserIdentityRequest | None:
        """Who the requestor says that it is (PS3.7 D.3.3.7), or None. Not in LEADTOOLS."""
        return UserInformation(tuple(self._others)).first(UserIdentityRequest)

    def set_user_identity(
        self,
        type: int,
        primary: str | bytes,
        secondary: str | bytes = b"",
        response_requested: bool = False,
    ) -> None:
        """Say who we are (`DicomUserIdentityType`): user name, ticket, assertion or token, and passcode.

        Replaces an identity given before; text is sent as UTF-8. Raises `LocalProtocolError` for an unknown
        type, or for a passcode with another type than USERNAME_AND_PASSCODE. Not in LEADTOOLS.
        """
        if type not in set(DicomUserIdentityType):
            raise _mistake(f"{type:d} is not a type of user identity: DicomUserIdentityType has them")
        if secondary and type != DicomUserIdentityType.USERNAME_AND_PASSCODE:
            raise _mistake("only the user identity type USERNAME_AND_PASSCODE has a passcode")
        identity = UserIdentityRequest(int(type), response_requested, _bytes(primary), _bytes(secondary))
        self._replace(UserIdentityRequest, identity)

    @property
    def user_identity_response(self) -> bytes | None:
        """The acceptor's response to the identity; None where there is none. Not in LEADTOOLS."""
        given = UserInformation(tuple(self._others)).first(UserIdentityResponse)
        return None if given is None else given.response

    @user_identity_response.setter
    def user_identity_response(self, response: bytes | None) -> None:
        self._replace(UserIdentityResponse, None if response is None else UserIdentityResponse(response))

    def _replace(self, kind: type[UserItem], item: UserItem | None) -> None:
        self._others = [other for other in self._others if not isinstance(other, kind)]
        if item is not None:
            self._others.append(item)

    # --- from and to PDUs --------------------------------------------------------------------------

    @classmethod
    def from_pdu(cls, pdu: AssociateRq | AssociateAc) -> Self:
        """Return what a PDU says; in an answer the abstract syntaxes are missing, see `answered`."""
        shown = cls(isinstance(pdu, AssociateRq))
        shown.version, shown.application_context_name = pdu.protocol_version, pdu.application_context
        if isinstance(pdu, AssociateRq):
            shown.called, shown.calling = pdu.called, pdu.calling
        else:
            shown.called, shown.calling = map(wire.decode_title, (pdu.called_raw, pdu.calling_raw))
        shown._contexts = [_presentation(context) for context in pdu.contexts]
        shown._show(pdu.user_information)
        return shown

    @classmethod
    def answered(cls, request: AssociateRq, answer: AssociateAc) -> Self:
        """Return the association that a request and its answer make.

        Contexts are the request's, each with the verdict on it and, where it can be used, the transfer syntax
        agreed on. A context without an answer, or with one that breaks the rules, shows a rejection. The
        user information is the acceptor's, without what it granted unasked.
        """
        made = cls.from_pdu(answer)
        made.called, made.calling = request.called, request.calling
        usable = negotiation.accepted_contexts(request, answer)
        verdicts = {context.id: context.result for context in reversed(answer.contexts)}
        made._contexts = [
            _Presentation(
                proposed.id,
                0 if proposed.id in usable else verdicts.get(proposed.id) or _NO_REASON,
                proposed.abstract_syntax,
                [usable[proposed.id].transfer_syntax] if proposed.id in usable else [],
            )
            for proposed in request.contexts
        ]
        made._show(negotiation.agreed_information(request, answer))
        return made

    @classmethod
    def accepting(
        cls,
        request: AssociateRq,
        answers: tuple[PresentationContextAc, ...],
        max_pdu: int = Limits.max_pdu,
    ) -> Self:
        """Return an answer to `request` with these verdicts, that grants every role proposed."""
        roles = {role.sop_class: role for role in reversed(request.user_information.all(RoleSelection))}
        information = negotiation.user_information(max_pdu, roles=roles.values())
        return cls.answered(request, negotiation.accept(request, answers, information))

    def to_request(self, max_pdu: int = Limits.max_pdu) -> AssociateRq:
        """Return the A-ASSOCIATE-RQ.

        `max_pdu` is the longest P-DATA-TF that the link takes, 0 for no limit; never more is announced.
        Raises `LocalProtocolError` for what the standard does not allow, here or when the PDU is encoded.
        """
        return AssociateRq(
            self.called,
            self.calling,
            self.application_context_name,
            tuple(
                PresentationContextRq(context.id, context.abstract, tuple(context.transfers))
                for context in self._contexts
            ),
            self._user_information(max_pdu),
            self.version,
        )

    def to_accept(self, request: AssociateRq, max_pdu: int = Limits.max_pdu) -> AssociateAc:
        """Return the A-ASSOCIATE-AC that answers `request`; titles and application context are the request's.

        A context with the result `SUCCESS` is accepted with the first of its transfer syntaxes that was
        proposed; contexts left out are rejected. What was not asked for is not sent (operations window,
        roles, extended data, identity response), nor more of it than was asked for.

        Raises `LocalProtocolError` for a context that was not proposed, or one accepted without any of the
        transfer syntaxes proposed for it.
        """
        own = {context.id: context for context in self._contexts}
        strange = own.keys() - {context.id for context in request.contexts}
        if strange:
            raise LocalProtocolError(
                f"the answer has presentation contexts that were not proposed: {sorted(strange)}",
                clause="PS3.8 7.1.1.14",
            )
        contexts = tuple(_answer(context, own.get(context.id)) for context in request.contexts)
        return negotiation.accept(request, contexts, self._user_information(max_pdu))

    def _user_information(self, max_pdu: int) -> UserInformation:
        limits = [limit for limit in (self.max_length, max_pdu) if limit]
        classes = dict.fromkeys(context.abstract for context in self._contexts if context.result == 0)
        return negotiation.user_information(
            min(limits, default=0),
            roles=[RoleSelection(uid, *self._roles[uid]) for uid in classes if uid in self._roles],
            async_window=self._window,
            others=[
                *(SopClassExtendedNegotiation(u, self._extended[u]) for u in classes if u in self._extended),
                *self._others,
            ],
            implementation_class=self.implement_class or negotiation.IMPLEMENTATION_CLASS_UID,
            implementation_version=self.implementation_version_name,
        )

    def _show(self, information: UserInformation) -> None:
        """Show this user information instead of what is there; the first of a kind counts."""
        length = information.first(MaximumLength)
        implementation = information.first(ImplementationClassUid)
        version = information.first(ImplementationVersionName)
        self.max_length = length.value if length else 0
        self.implement_class = implementation.uid if implementation else ""
        self.implementation_version_name = version.name if version else ""
        self._window = information.first(AsynchronousOperationsWindow)
        roles = reversed(information.all(RoleSelection))
        self._roles = {role.sop_class: (role.scu_role, role.scp_role) for role in roles}
        extended = reversed(information.all(SopClassExtendedNegotiation))
        self._extended = {item.sop_class: item.info for item in extended}
        self._others = [item for item in information.items if not isinstance(item, _SHOWN)]

    # --- text --------------------------------------------------------------------------------------

    def to_string(self) -> str:
        """Return all of it as text of several lines; a user identity appears without its secrets."""
        return "\n".join(self._lines())

    def __str__(self) -> str:
        return self.to_string()

    def __repr__(self) -> str:
        kind = "request" if self.is_request else "answer"
        return (
            f"<DicomAssociate {kind} '{escape(self.calling)}' -> '{escape(self.called)}', "
            f"{len(self._contexts)} presentation contexts>"
        )

    def _lines(self) -> Iterator[str]:
        yield f"{'A-ASSOCIATE-RQ' if self.is_request else 'A-ASSOCIATE-AC'} protocol version {self.version}"
        yield f"  called AE title '{escape(self.called)}', calling AE title '{escape(self.calling)}'"
        yield f"  application context {escape(self.application_context_name)}"
        yield f"  implementation {escape(self.implement_class)} '{escape(self.implementation_version_name)}'"
        yield f"  maximum length {self.max_length or 'not given'}"
        if self._window:
            yield f"  operations: {self._window.invoked} invoked, {self._window.performed} performed (0: any)"
        for context in self._contexts:
            verdict = "" if self.is_request else f" {DicomAssociateAcceptResultType(context.result)}"
            yield f"  context {context.id}{verdict}: abstract syntax {escape(context.abstract)}"
            yield from (f"    transfer syntax {escape(uid)}" for uid in context.transfers)
        for uid, (scu, scp) in self._roles.items():
            yield f"  roles of the requestor for {escape(uid)}: SCU {scu}, SCP {scp}"
        for uid, data in self._extended.items():
            yield f"  extended negotiation for {escape(uid)}: {data.hex(' ')}"
        for index, item in enumerate(self._others):
            length = self.get_user_information_data_length(index)
            yield f"  user information {_item_type(item):02X}H: {length} bytes"


_DEFAULT_ROLE = (1, 0)  # PS3.7 D.3.3.4: without role selection the requestor is SCU
_NO_REASON = DicomAssociateAcceptResultType.PROVIDER_REJECT
_SHOWN = (
    MaximumLength,
    ImplementationClassUid,
    AsynchronousOperationsWindow,
    RoleSelection,
    ImplementationVersionName,
    SopClassExtendedNegotiation,
)


def _presentation(context: PresentationContextRq | PresentationContextAc) -> _Presentation:
    if isinstance(context, PresentationContextRq):
        return _Presentation(context.id, 0, context.abstract_syntax, list(context.transfer_syntaxes))
    accepted = context.result == DicomAssociateAcceptResultType.SUCCESS
    return _Presentation(context.id, context.result, transfers=[context.transfer_syntax] if accepted else [])


def _answer(proposed: PresentationContextRq, own: _Presentation | None) -> PresentationContextAc:
    if own is None:
        return negotiation.rejected(proposed.id, DicomAssociateAcceptResultType.USER_REJECT)
    if own.result != DicomAssociateAcceptResultType.SUCCESS:
        return negotiation.rejected(proposed.id, own.result)
    for uid in own.transfers:
        if uid in proposed.transfer_syntaxes:
            return PresentationContextAc(proposed.id, own.result, uid)
    raise LocalProtocolError(
        f"presentation context {proposed.id} is accepted with {own.transfers or 'no transfer syntax'}, and "
        f"proposed were {escape(', '.join(proposed.transfer_syntaxes))}: accept one of these or reject it",
        clause="PS3.8 7.1.1.14",
    )


def _item(kind: int, data: bytes) -> UserItem:
    try:
        item = UserInformation.decode(wire.item(kind, bytes(data)), wire.Budget("items", 1)).items[0]
    except RemoteProtocolError as error:
        raise _mistake(f"not the data of a sub-item of type {kind:02X}H: {error}") from error
    if isinstance(item, _SHOWN):
        raise _mistake(f"sub-items of type {kind:02X}H are set by other members of DicomAssociate")
    return item


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else bytes(text)


def _set(table: dict[str, _T], key: str, value: _T | None) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value


def _at(sequence: Sequence[_T], index: int, what: str) -> _T:
    if not 0 <= index < len(sequence):
        raise _mistake(f"there is no {what} at index {index}; there are {len(sequence)}")
    return sequence[index]


def _mistake(message: str) -> LocalProtocolError:
    return LocalProtocolError(message, code=DicomExceptionCode.PARAMETER)
