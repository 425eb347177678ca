"""What A-ASSOCIATE-RQ and -AC are made of: presentation contexts and user information sub-items.

Each field of a user information sub-item is annotated with the `FieldType` that it has on the wire, and one
loop over those encodes and decodes all of them. Decoding is lenient where a peer's sloppiness does no harm:
reserved bytes are not looked at (P03), UIDs and names may be odd, unknown items are kept or skipped (P06),
sub-items come in any order (P07). Encoding keeps the order given, writes reserved bytes as 0 and raises
`LocalProtocolError` for what the standard does not allow.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, TypeVar, get_type_hints

from dicomnet.errors import LocalProtocolError
from dicomnet.protocol import wire

__all__ = [
    "AsynchronousOperationsWindow",
    "ImplementationClassUid",
    "ImplementationVersionName",
    "MaximumLength",
    "PresentationContextAc",
    "PresentationContextRq",
    "RoleSelection",
    "SopClassCommonExtendedNegotiation",
    "SopClassExtendedNegotiation",
    "UnknownItem",
    "UserIdentityRequest",
    "UserIdentityResponse",
    "UserInformation",
    "UserItem",
]

_ABSTRACT_SYNTAX = 0x30
_TRANSFER_SYNTAX = 0x40

_Item = TypeVar("_Item", bound="UserItem")


# --- presentation contexts -----------------------------------------------------------------------


def _context_body(context_id: int, result: int) -> bytes:
    if not 1 <= context_id <= 255 or context_id % 2 == 0:
        raise LocalProtocolError(
            f"{context_id} is not a presentation context id: odd, 1 to 255", clause="PS3.8 9.3.2.2"
        )
    return bytes((context_id, 0, result, 0))


@dataclass(frozen=True, slots=True)
class PresentationContextRq:
    """A proposed presentation context (PS3.8 9.3.2.2): one abstract syntax, one or more transfer syntaxes.

    `id` is odd, 1 to 255.
    """

    kind: ClassVar[int] = 0x20

    id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]

    def encode(self) -> bytes:
        """Return the item; raises `LocalProtocolError` for a bad id or UID, or no transfer syntax."""
        if not self.transfer_syntaxes:
            raise LocalProtocolError(
                f"presentation context {self.id} proposes no transfer syntax", clause="PS3.8 9.3.2.2"
            )
        syntaxes = (wire.item(_TRANSFER_SYNTAX, wire.encode_uid(uid)) for uid in self.transfer_syntaxes)
        abstract = wire.item(_ABSTRACT_SYNTAX, wire.encode_uid(self.abstract_syntax))
        return wire.item(self.kind, b"".join((_context_body(self.id, 0), abstract, *syntaxes)))

    @classmethod
    def decode(cls, data: bytes, budget: wire.Budget) -> PresentationContextRq:
        """Read the body of an item; raises `RemoteProtocolError` for an even id or missing syntaxes."""
        reader = wire.Reader(data, "presentation context of the A-ASSOCIATE-RQ", "PS3.8 9.3.2.2")
        context_id = reader.take(4)[0]
        abstract: list[str] = []
        transfer: list[str] = []
        found = {_ABSTRACT_SYNTAX: abstract, _TRANSFER_SYNTAX: transfer}
        for kind, body in reader.items(budget):
            if kind in found:
                found[kind].append(wire.decode_text(body))
        if context_id % 2 == 0:
            raise reader.fault(f"the id {context_id} is even")
        if len(abstract) != 1 or not transfer:
            raise reader.fault(
                f"context {context_id} has {len(abstract)} abstract and {len(transfer)} transfer syntaxes, "
                "not one and one or more"
            )
        return cls(context_id, abstract[0], tuple(transfer))


@dataclass(frozen=True, slots=True)
class PresentationContextAc:
    """The answer to a proposed context (PS3.8 9.3.3.2).

    `result` is 0 acceptance, 1 user rejection, 2 no reason, 3 abstract syntax not supported, 4 transfer
    syntaxes not supported. `transfer_syntax` means something with result 0 only; it is "" where the peer did
    not name exactly one, which makes an accepted context unusable (A17), but not a rejected one wrong (A18).
    """

    kind: ClassVar[int] = 0x21

    id: int
    result: int
    transfer_syntax: str

    def encode(self) -> bytes:
        """Return the item; raises `LocalProtocolError` for a bad id, result or UID.

        A rejected context may have no transfer syntax: the sub-item is then sent empty.
        """
        if not 0 <= self.result <= 4:
            raise LocalProtocolError(
                f"{self.result} is not a result of a presentation context: 0 to 4", clause="PS3.8 9.3.3.2"
            )
        uid = b"" if self.result and not self.transfer_syntax else wire.encode_uid(self.transfer_syntax)
        return wire.item(self.kind, _context_body(self.id, self.result) + wire.item(_TRANSFER_SYNTAX, uid))

    @classmethod
    def decode(cls, data: bytes, budget: wire.Budget) -> PresentationContextAc:
        """Read the body of an item; ids and results are whatever the peer sent (A16, A20)."""
        reader = wire.Reader(data, "presentation context of the A-ASSOCIATE-AC", "PS3.8 9.3.3.2")
        context_id, _, result, _ = reader.take(4)
        syntaxes = [wire.decode_text(body) for kind, body in reader.items(budget) if kind == _TRANSFER_SYNTAX]
        return cls(context_id, result, syntaxes[0] if len(syntaxes) == 1 else "")


# --- user information ----------------------------------------------------------------------------


class UserItem:
    """Base of the user information sub-items (PS3.8 D.1, PS3.7 D.3.3)."""

    __slots__ = ()

    def encode(self) -> bytes:
        """Return the sub-item; raises `LocalProtocolError` for a value that may not be sent."""
        raise NotImplementedError


class _Structured(UserItem):
    """A sub-item that the standard defines: its fields, in order, are what is on the wire."""

    __slots__ = ()

    kind: ClassVar[int]
    clause: ClassVar[str]

    def encode(self) -> bytes:
        fields = _SUB_ITEMS[self.kind][1]
        return wire.item(self.kind, b"".join(form.write(getattr(self, name)) for name, form in fields))


@dataclass(frozen=True, slots=True)
class MaximumLength(_Structured):
    """The longest P-DATA-TF that its author accepts, in bytes behind the PDU header; 0 is no limit."""

    kind: ClassVar[int] = 0x51
    clause: ClassVar[str] = "PS3.8 D.1"

    value: Annotated[int, wire.U32]


@dataclass(frozen=True, slots=True)
class ImplementationClassUid(_Structured):
    """The UID of the implementation; required in what is sent, its absence is tolerated (U01, U03)."""

    kind: ClassVar[int] = 0x52
    clause: ClassVar[str] = "PS3.7 D.3.3.2.1"

    uid: Annotated[str, wire.WHOLE_UID]


@dataclass(frozen=True, slots=True)
class AsynchronousOperationsWindow(_Structured):
    """How many operations the requestor may have outstanding (`invoked`) and accepts (`performed`).

    0 is no limit; without this sub-item both are 1. The answer keeps the requestor's viewpoint (U06).
    """

    kind: ClassVar[int] = 0x53
    clause: ClassVar[str] = "PS3.7 D.3.3.3"

    invoked: Annotated[int, wire.U16]
    performed: Annotated[int, wire.U16]


@dataclass(frozen=True, slots=True)
class RoleSelection(_Structured):
    """The roles that the requestor proposes for a SOP class, or that the acceptor grants: 0 or 1 each."""

    kind: ClassVar[int] = 0x54
    clause: ClassVar[str] = "PS3.7 D.3.3.4"

    sop_class: Annotated[str, wire.UID]
    scu_role: Annotated[int, wire.ROLE]
    scp_role: Annotated[int, wire.ROLE]


@dataclass(frozen=True, slots=True)
class ImplementationVersionName(_Structured):
    """The version of the implementation, 1 to 16 characters; received, it may be anything (U03)."""

    kind: ClassVar[int] = 0x55
    clause: ClassVar[str] = "PS3.7 D.3.3.2.3"

    name: Annotated[str, wire.NAME]


@dataclass(frozen=True, slots=True)
class SopClassExtendedNegotiation(_Structured):
    """Application information of a SOP class, whose service class defines what is in `info`."""

    kind: ClassVar[int] = 0x56
    clause: ClassVar[str] = "PS3.7 D.3.3.5"

    sop_class: Annotated[str, wire.UID]
    info: Annotated[bytes, wire.REST]


@dataclass(frozen=True, slots=True)
class SopClassCommonExtendedNegotiation(_Structured):
    """The service class and the related general SOP classes of a SOP class; in requests only."""

    kind: ClassVar[int] = 0x57
    clause: ClassVar[str] = "PS3.7 D.3.3.6"

    sop_class: Annotated[str, wire.UID]
    service_class: Annotated[str, wire.UID]
    related: Annotated[tuple[str, ...], wire.UIDS]


@dataclass(frozen=True, slots=True)
class UserIdentityRequest(_Structured):
    """Who the requestor is: `type` 1 user name, 2 user name and passcode, 3 Kerberos, 4 SAML, 5 JWT.

    `secondary` is the passcode of type 2 and empty otherwise. Neither field is ever shown (U19).
    """

    kind: ClassVar[int] = 0x58
    clause: ClassVar[str] = "PS3.7 D.3.3.7"

    type: Annotated[int, wire.U8]
    response_requested: Annotated[bool, wire.FLAG]
    primary: Annotated[bytes, wire.BYTES] = field(repr=False)
    secondary: Annotated[bytes, wire.BYTES] = field(default=b"", repr=False)

    def encode(self) -> bytes:
        """Return the sub-item; raises `LocalProtocolError` for a passcode with another type than 2."""
        if self.secondary and self.type != 2:
            raise LocalProtocolError(
                f"a user identity of type {self.type} has no passcode; only type 2 has", clause=self.clause
            )
        return _Structured.encode(self)


@dataclass(frozen=True, slots=True)
class UserIdentityResponse(_Structured):
    """The acceptor's answer to a user identity: a Kerberos or SAML response, empty for the other types."""

    kind: ClassVar[int] = 0x59
    clause: ClassVar[str] = "PS3.7 D.3.3.7.2"

    response: Annotated[bytes, wire.BYTES] = field(repr=False)


@dataclass(frozen=True, slots=True)
class UnknownItem(UserItem):
    """A sub-item of a type not defined here, kept as it came (P06)."""

    kind: int
    data: bytes

    def encode(self) -> bytes:
        """Return the sub-item as it is."""
        return wire.item(self.kind, self.data)


def _fields(cls: type[_Structured]) -> tuple[tuple[str, wire.FieldType], ...]:
    hints = get_type_hints(cls, include_extras=True)
    return tuple(
        (name, hint.__metadata__[0]) for name, hint in hints.items() if hasattr(hint, "__metadata__")
    )


_SUB_ITEMS: dict[int, tuple[type[_Structured], tuple[tuple[str, wire.FieldType], ...]]] = {
    cls.kind: (cls, _fields(cls))
    for cls in (
        MaximumLength,
        ImplementationClassUid,
        AsynchronousOperationsWindow,
        RoleSelection,
        ImplementationVersionName,
        SopClassExtendedNegotiation,
        SopClassCommonExtendedNegotiation,
        UserIdentityRequest,
        UserIdentityResponse,
    )
}


def _decode_sub_item(kind: int, data: bytes) -> UserItem:
    if kind not in _SUB_ITEMS:
        return UnknownItem(kind, data)
    cls, fields = _SUB_ITEMS[kind]
    reader = wire.Reader(data, f"user information sub-item {kind:02X}H", cls.clause)
    values: list[Any] = [form.read(reader) for _, form in fields]
    reader.finish()
    return cls(*values)


@dataclass(frozen=True, slots=True)
class UserInformation:
    """The user information item (PS3.8 9.3.2.3): sub-items in the order in which they stand."""

    kind: ClassVar[int] = 0x50

    items: tuple[UserItem, ...] = ()

    def first(self, cls: type[_Item]) -> _Item | None:
        """Return the first sub-item of this class, or None."""
        return next(iter(self.all(cls)), None)

    def all(self, cls: type[_Item]) -> tuple[_Item, ...]:
        """Return all sub-items of this class."""
        return tuple(item for item in self.items if isinstance(item, cls))

    def encode(self) -> bytes:
        """Return the item; raises `LocalProtocolError` for a value that may not be sent."""
        return wire.item(self.kind, b"".join(item.encode() for item in self.items))

    @classmethod
    def decode(cls, data: bytes, budget: wire.Budget) -> UserInformation:
        """Read the body of an item; raises `RemoteProtocolError` for lengths that do not fit."""
        reader = wire.Reader(data, "user information", "PS3.8 9.3.2.3")
        return cls(tuple(_decode_sub_item(kind, body) for kind, body in reader.items(budget)))
