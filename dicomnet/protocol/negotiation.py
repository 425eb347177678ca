"""The rules by which two ends agree on an association (PS3.8 7.1.1, PS3.7 D.3.3).

The acceptor answers with `answer_contexts` and `accept`; both ends then read what was agreed with
`accepted_contexts`, `agreed_information`, `operations_window` and `peer_max_pdu`. What an answer may say is
stated once, in `agreed_items`: it cuts our own answers down before they are sent and a peer's after they have
arrived, so that neither grants what was not proposed.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, TypeVar

from dicomnet._version import __version__
from dicomnet.errors import LocalProtocolError, RemoteProtocolError, escape
from dicomnet.protocol.items import (
    AsynchronousOperationsWindow,
    ImplementationClassUid,
    ImplementationVersionName,
    MaximumLength,
    PresentationContextAc,
    PresentationContextRq,
    RoleSelection,
    SopClassCommonExtendedNegotiation,
    SopClassExtendedNegotiation,
    UnknownItem,
    UserIdentityRequest,
    UserIdentityResponse,
    UserInformation,
    UserItem,
)
from dicomnet.protocol.pdu import AssociateAc, AssociateRj, AssociateRq
from dicomnet.protocol.wire import is_valid_uid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = [
    "ANY",
    "APPLICATION_CONTEXT",
    "DEFAULT_PEER_MAX_PDU",
    "IMPLEMENTATION_CLASS_UID",
    "IMPLEMENTATION_VERSION_NAME",
    "IMPLICIT_VR_LITTLE_ENDIAN",
    "REJECT_APPLICATION_CONTEXT",
    "REJECT_CALLED_TITLE",
    "REJECT_CALLING_TITLE",
    "REJECT_CONGESTION",
    "REJECT_LIMIT",
    "REJECT_NO_REASON",
    "REJECT_USER_IDENTITY",
    "REJECT_VERSION",
    "Context",
    "accept",
    "accepted_contexts",
    "agreed_information",
    "agreed_items",
    "answer_contexts",
    "check_accept",
    "check_request",
    "operations_window",
    "peer_max_pdu",
    "propose",
    "rejected",
    "user_information",
    "with_default_syntax",
]

APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
"""The DICOM application context name (PS3.7 A.2.1)."""

IMPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2"
UNCOMPRESSED: Final = frozenset(
    {IMPLICIT_VR_LITTLE_ENDIAN, "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"}
)
"""Implicit and explicit VR little endian, explicit VR big endian, deflated: no pixel data is compressed."""

IMPLEMENTATION_CLASS_UID: Final = "2.25.277286540214195892433674287533565045038"
IMPLEMENTATION_VERSION_NAME: Final = f"DICOMNET_{__version__}"[:16]

DEFAULT_PEER_MAX_PDU: Final = 16384
"""What we send at most to a peer that does not say what it takes (L07)."""

ANY: Final = "*"
"""In a table of supported contexts: any abstract syntax, or any transfer syntax."""

# PS3.8 table 9-21
REJECT_NO_REASON: Final = AssociateRj(1, 1, 1)
REJECT_APPLICATION_CONTEXT: Final = AssociateRj(1, 1, 2)
REJECT_CALLING_TITLE: Final = AssociateRj(1, 1, 3)
REJECT_CALLED_TITLE: Final = AssociateRj(1, 1, 7)
REJECT_USER_IDENTITY: Final = AssociateRj(1, 2, 1)  # PS3.7 D.3.3.7.3
REJECT_VERSION: Final = AssociateRj(1, 2, 2)
REJECT_CONGESTION: Final = AssociateRj(2, 3, 1)
REJECT_LIMIT: Final = AssociateRj(2, 3, 2)

_Row = TypeVar("_Row")
_ACCEPTANCE, _ABSTRACT_SYNTAX_REFUSED, _TRANSFER_SYNTAXES_REFUSED = 0, 3, 4
_MOST_CONTEXTS = 128


@dataclass(frozen=True, slots=True)
class Context:
    """A presentation context that was agreed on.

    `scu` and `scp` are the roles of the association requestor for this abstract syntax; the acceptor has
    the opposite ones. At least one is true; without role selection the requestor is the SCU (PS3.7 D.3.3.4).
    """

    id: int
    abstract_syntax: str
    transfer_syntax: str
    scu: bool = True
    scp: bool = False


# --- proposing -----------------------------------------------------------------------------------


def with_default_syntax(syntaxes: Iterable[str]) -> tuple[str, ...]:
    """Return the transfer syntaxes, Implicit VR Little Endian added last if one of them is uncompressed.

    It is the default that every implementation knows (PS3.5 10.1); with compressed ones only it is of no use.
    """
    given = tuple(syntaxes)
    if IMPLICIT_VR_LITTLE_ENDIAN in given or UNCOMPRESSED.isdisjoint(given):
        return given
    return (*given, IMPLICIT_VR_LITTLE_ENDIAN)


def propose(wanted: Iterable[tuple[str, Sequence[str]]]) -> tuple[PresentationContextRq, ...]:
    """Return presentation contexts 1, 3, 5, ... for pairs of abstract syntax and transfer syntaxes.

    The same abstract syntax may occur again. Where none of its contexts has the default transfer syntax, it
    is added by `with_default_syntax`.
    Raises `LocalProtocolError` for more than the 128 that there are ids for (PS3.8 9.3.2.2).
    """
    pairs = list(wanted)
    if len(pairs) > _MOST_CONTEXTS:
        raise LocalProtocolError(
            f"{len(pairs)} presentation contexts are wanted and an association has at most {_MOST_CONTEXTS}: "
            "propose fewer, or use several associations",
            clause="PS3.8 9.3.2.2",
        )
    offered = {abstract for abstract, syntaxes in pairs if IMPLICIT_VR_LITTLE_ENDIAN in syntaxes}
    return tuple(
        PresentationContextRq(
            2 * index + 1, abstract, tuple(syntaxes) if abstract in offered else with_default_syntax(syntaxes)
        )
        for index, (abstract, syntaxes) in enumerate(pairs)
    )


def user_information(
    max_pdu: int,
    *,
    roles: Iterable[RoleSelection] = (),
    async_window: AsynchronousOperationsWindow | None = None,
    others: Iterable[UserItem] = (),
    implementation_class: str = IMPLEMENTATION_CLASS_UID,
    implementation_version: str = IMPLEMENTATION_VERSION_NAME,
) -> UserInformation:
    """Return the user information of an A-ASSOCIATE-RQ or -AC, its sub-items in ascending order.

    `max_pdu` is the longest P-DATA-TF that we take, 0 for no limit; an empty `implementation_version` is
    left out. Raises `LocalProtocolError` where a sub-item, or one about the same SOP class, occurs twice.
    """
    items: list[UserItem] = [MaximumLength(max_pdu), ImplementationClassUid(implementation_class)]
    if async_window is not None:
        items.append(async_window)
    if implementation_version:
        items.append(ImplementationVersionName(implementation_version))
    items += [*roles, *others]
    _check_single(items)
    return UserInformation(tuple(sorted(items, key=attrgetter("kind"))))  # P07: old peers want them sorted


def _check_single(items: Iterable[UserItem]) -> None:
    seen = set()
    for item in items:
        if _subject(item) in seen:
            raise LocalProtocolError(f"the user information has more than one {item}", clause="PS3.7 D.3.3")
        seen.add(_subject(item))


def _subject(item: UserItem) -> object:
    """Return what a sub-item is about: there is one for each kind or, where it names one, SOP class."""
    return object() if isinstance(item, UnknownItem) else (type(item), getattr(item, "sop_class", ""))


# --- answering -----------------------------------------------------------------------------------


def check_request(request: AssociateRq) -> AssociateRj | None:
    """Return the rejection that the request itself deserves, or None where it can be considered.

    Rejected are a clear bit 0 of the protocol version and any application context but DICOM's (PS3.8 9.3.2).
    """
    if not request.protocol_version & 1:
        return REJECT_VERSION
    if request.application_context != APPLICATION_CONTEXT:
        return REJECT_APPLICATION_CONTEXT
    return None


def answer_contexts(
    request: AssociateRq, supported: Mapping[str, Sequence[str]]
) -> tuple[PresentationContextAc, ...]:
    """Answer each proposed context out of a table from abstract to transfer syntaxes; `ANY` stands for all.

    Of the supported transfer syntaxes the one that the requestor names first is chosen. An abstract syntax
    with a row of its own is not looked up under `ANY`. An uncompressed syntax brings the default one with it.
    """
    return tuple(_answer_context(context, supported) for context in request.contexts)


def _answer_context(
    context: PresentationContextRq, supported: Mapping[str, Sequence[str]]
) -> PresentationContextAc:
    row = _supported(context.abstract_syntax, supported)
    if row is None:
        return rejected(context.id, _ABSTRACT_SYNTAX_REFUSED)
    syntaxes = dict.fromkeys(with_default_syntax(row), True)
    for proposed in context.transfer_syntaxes:
        if _supported(proposed, syntaxes):
            return PresentationContextAc(context.id, _ACCEPTANCE, proposed)
    return rejected(context.id, _TRANSFER_SYNTAXES_REFUSED)


def _supported(uid: str, table: Mapping[str, _Row]) -> _Row | None:
    """Look up a UID of the peer's; an invalid one is never supported, since no answer can repeat it."""
    return table.get(uid, table.get(ANY)) if is_valid_uid(uid) else None


def rejected(context_id: int, result: int) -> PresentationContextAc:
    """Return the answer that rejects a context; its transfer syntax must be there and says nothing."""
    return PresentationContextAc(context_id, result, IMPLICIT_VR_LITTLE_ENDIAN)


def accept(
    request: AssociateRq, contexts: tuple[PresentationContextAc, ...], information: UserInformation
) -> AssociateAc:
    """Return the A-ASSOCIATE-AC; of `information` goes out what may answer this request (`agreed_items`).

    Titles and reserved bytes repeat the request's (PS3.8 table 9-17).
    """
    return AssociateAc(
        request.called_raw,
        request.calling_raw,
        APPLICATION_CONTEXT,
        contexts,
        UserInformation(agreed_items(request.user_information, information.items)),
        reserved=request.reserved,
    )


# --- what was agreed -----------------------------------------------------------------------------


def agreed_items(proposed: UserInformation, answered: Iterable[UserItem]) -> tuple[UserItem, ...]:
    """Cut the sub-items of an answer down to what the proposal allows (PS3.7 D.3.3).

    - operations window: only if proposed, and no higher; 0 is without limit;
    - role selection: only for SOP classes asked about, and no role that was not proposed;
    - SOP class extended negotiation: only for SOP classes asked about;
    - common extended negotiation and user identity request: never, they belong in requests;
    - user identity response: only if asked for, and empty except for Kerberos and SAML.

    Everything else is kept. Of several answers about the same subject the first counts.
    """
    kept: dict[object, UserItem] = {}
    for item in answered:
        allowed = _RULES.get(type(item), _anything)(proposed, item)
        if allowed is not None:
            kept.setdefault(_subject(item), allowed)
    return tuple(kept.values())


def _anything(_proposed: UserInformation, item: UserItem) -> UserItem:
    return item


def _nothing(_proposed: UserInformation, _item: UserItem) -> None:
    return None


def _window(proposed: UserInformation, item: AsynchronousOperationsWindow) -> UserItem | None:
    asked = proposed.first(AsynchronousOperationsWindow)
    if asked is None:
        return None
    return AsynchronousOperationsWindow(
        _at_most(asked.invoked, item.invoked), _at_most(asked.performed, item.performed)
    )


def _at_most(asked: int, answered: int) -> int:
    return min(asked, answered) if asked and answered else asked or answered


def _role(proposed: UserInformation, item: RoleSelection) -> UserItem | None:
    asked = _about(proposed, item)
    if asked is None:
        return None
    return RoleSelection(
        item.sop_class,
        int(asked.scu_role == item.scu_role == 1),
        int(asked.scp_role == item.scp_role == 1),
    )


def _if_asked(proposed: UserInformation, item: SopClassExtendedNegotiation) -> UserItem | None:
    return None if _about(proposed, item) is None else item


def _about(proposed: UserInformation, item: Any) -> Any:
    """Return the proposal of the same kind for the same SOP class, or None."""
    same = (asked for asked in proposed.all(type(item)) if asked.sop_class == item.sop_class)
    return next(same, None)


def _identity(proposed: UserInformation, item: UserIdentityResponse) -> UserItem | None:
    asked = proposed.first(UserIdentityRequest)
    if asked is None or not asked.response_requested:
        return None
    return item if asked.type in _IDENTITIES_WITH_RESPONSE else UserIdentityResponse(b"")


_IDENTITIES_WITH_RESPONSE = (3, 4)  # PS3.7 table D.3-15: Kerberos, SAML

_RULES: dict[type[UserItem], Callable[[UserInformation, Any], UserItem | None]] = {
    AsynchronousOperationsWindow: _window,
    RoleSelection: _role,
    SopClassExtendedNegotiation: _if_asked,
    SopClassCommonExtendedNegotiation: _nothing,
    UserIdentityRequest: _nothing,
    UserIdentityResponse: _identity,
}


def agreed_information(request: AssociateRq, answer: AssociateAc) -> UserInformation:
    """Return the acceptor's user information, cut down by `agreed_items` to what was proposed."""
    return UserInformation(agreed_items(request.user_information, answer.user_information.items))


def accepted_contexts(request: AssociateRq, answer: AssociateAc) -> dict[int, Context]:
    """Return the contexts that can be used, by id.

    Answers are matched by id (PS3.8 7.1.1.14); one to an id that was not proposed is ignored, a missing one
    is a rejection. A transfer syntax that was not proposed, or no role left, makes a context unusable.
    An empty result is still an association: it can be released or aborted.
    """
    roles = {role.sop_class: role for role in agreed_information(request, answer).all(RoleSelection)}
    answers: dict[int, PresentationContextAc] = {}
    for context in answer.contexts:
        answers.setdefault(context.id, context)
    found = {}
    for proposed in request.contexts:
        given, role = answers.get(proposed.id), roles.get(proposed.abstract_syntax)
        scu, scp = (True, False) if role is None else (role.scu_role == 1, role.scp_role == 1)
        if (
            given is not None
            and given.result == _ACCEPTANCE
            and given.transfer_syntax in proposed.transfer_syntaxes
            and (scu or scp)
        ):
            found[proposed.id] = Context(
                proposed.id, proposed.abstract_syntax, given.transfer_syntax, scu, scp
            )
    return found


def check_accept(answer: AssociateAc) -> None:
    """Raise `RemoteProtocolError` where the acceptor answers with an application context that is not DICOM's.

    The association would be governed by rules that we don't know: abort it (PS3.8 7.1.1.2).
    """
    if answer.application_context != APPLICATION_CONTEXT:
        raise RemoteProtocolError(
            f"the peer accepted with the application context '{escape(answer.application_context)}' "
            f"instead of DICOM's, {APPLICATION_CONTEXT}",
            abort_reason=6,
            clause="PS3.8 7.1.1.2",
        )


def operations_window(request: AssociateRq, answer: AssociateAc) -> AsynchronousOperationsWindow:
    """Return how many operations may be outstanding, as seen by the requestor; 1 and 1 without agreement.

    `invoked` are the requestor's own, `performed` those of the acceptor; 0 is without limit (PS3.7 D.3.3.3).
    """
    agreed = agreed_information(request, answer).first(AsynchronousOperationsWindow)
    return agreed or AsynchronousOperationsWindow(1, 1)


def peer_max_pdu(information: UserInformation) -> int:
    """Return the longest P-DATA-TF that the author of `information` takes; 0 is no limit (PS3.8 D.1).

    A peer that doesn't say, which it must, gets `DEFAULT_PEER_MAX_PDU`.
    """
    announced = information.first(MaximumLength)
    return DEFAULT_PEER_MAX_PDU if announced is None else announced.value
