"""The seven PDUs of PS3.8 9.3 as frozen values, each with `encode()`, and `decode` for what arrives.

P-DATA-TF is here for tests, dumps and tools; the link cuts and joins its fragments in `assembler`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from dicomnet.errors import LocalProtocolError, RemoteProtocolError
from dicomnet.protocol import wire
from dicomnet.protocol.items import PresentationContextAc, PresentationContextRq, UserInformation
from dicomnet.settings import Limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from typing_extensions import Self

__all__ = [
    "Abort",
    "AssociateAc",
    "AssociateRj",
    "AssociateRq",
    "PDataTf",
    "Pdu",
    "Pdv",
    "PresentationContextAc",
    "PresentationContextRq",
    "ReleaseRp",
    "ReleaseRq",
    "UserInformation",
    "decode",
    "decode_p_data",
    "encode_p_data",
]

_APPLICATION_CONTEXT = 0x10

# Bytes 9 to 74 of A-ASSOCIATE-RQ and -AC: called and calling AE title, 32 reserved bytes.
_TITLES = Struct(">2x16s16s32s")
_PDV = Struct(">LBB")


# --- A-ASSOCIATE ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AssociateRq:
    """A-ASSOCIATE-RQ (PS3.8 9.3.2): `calling` asks `called` for an association; AE titles of 1 to 16.

    Received, a title may also be blank or hold other characters, read as Latin-1. `reserved` is bytes 43
    to 74; `titles` is bytes 11 to 42 as received, which the answer repeats (A15).
    """

    kind: ClassVar[int] = 0x01
    name: ClassVar[str] = "A-ASSOCIATE-RQ"
    clause: ClassVar[str] = "PS3.8 9.3.2"

    called: str
    calling: str
    application_context: str
    contexts: tuple[PresentationContextRq, ...]
    user_information: UserInformation
    protocol_version: int = 1
    reserved: bytes = bytes(32)
    titles: bytes = field(default=b"", repr=False, compare=False)

    @property
    def called_raw(self) -> bytes:
        """The 16 bytes of the called AE title, as received or as they would be sent."""
        return self.titles[:16] or wire.encode_title(self.called)

    @property
    def calling_raw(self) -> bytes:
        """The 16 bytes of the calling AE title, as received or as they would be sent."""
        return self.titles[16:] or wire.encode_title(self.calling)

    def encode(self) -> bytes:
        """Return the PDU; raises `LocalProtocolError` for what may not be sent (A03, A04, A10, A12, P15)."""
        if not self.contexts:
            raise LocalProtocolError("an association needs a presentation context", clause=self.clause)
        return _encode_associate(self, wire.encode_title(self.called), wire.encode_title(self.calling))

    @classmethod
    def decode(cls, reader: wire.Reader, limits: Limits) -> AssociateRq:
        """Read what follows the PDU header; raises `RemoteProtocolError` or `LimitExceeded`."""
        parts = _Associate(reader, limits, PresentationContextRq.kind)
        contexts = tuple(PresentationContextRq.decode(data, parts.items) for data in parts.contexts)
        if not contexts or _repeated(contexts):
            raise reader.fault("presentation context ids repeat" if contexts else "no presentation context")
        return cls(
            wire.decode_title(parts.called),
            wire.decode_title(parts.calling),
            parts.application_context,
            contexts,
            UserInformation.decode(parts.user_information, parts.items),
            parts.protocol_version,
            parts.reserved,
            parts.called + parts.calling,
        )


@dataclass(frozen=True, slots=True)
class AssociateAc:
    """A-ASSOCIATE-AC (PS3.8 9.3.3): one answer for each proposed context, in any order.

    `called_raw` and `calling_raw` are 16 bytes each and repeat the request's, as `reserved` (32 bytes) does
    (A15); none of the three means anything to the receiver.
    """

    kind: ClassVar[int] = 0x02
    name: ClassVar[str] = "A-ASSOCIATE-AC"
    clause: ClassVar[str] = "PS3.8 9.3.3"

    called_raw: bytes
    calling_raw: bytes
    application_context: str
    contexts: tuple[PresentationContextAc, ...]
    user_information: UserInformation
    protocol_version: int = 1
    reserved: bytes = bytes(32)

    def encode(self) -> bytes:
        """Return the PDU; raises `LocalProtocolError` for what may not be sent."""
        return _encode_associate(self, self.called_raw, self.calling_raw)

    @classmethod
    def decode(cls, reader: wire.Reader, limits: Limits) -> AssociateAc:
        """Read what follows the PDU header; raises `RemoteProtocolError` or `LimitExceeded`."""
        parts = _Associate(reader, limits, PresentationContextAc.kind)
        return cls(
            parts.called,
            parts.calling,
            parts.application_context,
            tuple(PresentationContextAc.decode(data, parts.items) for data in parts.contexts),
            UserInformation.decode(parts.user_information, parts.items),
            parts.protocol_version,
            parts.reserved,
        )


class _Associate:
    """What A-ASSOCIATE-RQ and -AC have in common, taken apart and checked (A08, A10, P10, P12)."""

    def __init__(self, reader: wire.Reader, limits: Limits, context_kind: int) -> None:
        self.protocol_version = reader.u16()
        self.called, self.calling, self.reserved = _TITLES.unpack(reader.take(_TITLES.size))
        self.items = wire.Budget("items", limits.items)
        contexts_left = wire.Budget("contexts", limits.contexts)
        found: dict[int, list[bytes]] = {_APPLICATION_CONTEXT: [], context_kind: [], UserInformation.kind: []}
        for kind, data in reader.items(self.items):
            if kind == context_kind:
                contexts_left.spend()
            if kind in found:
                found[kind].append(data)
        for kind in (_APPLICATION_CONTEXT, UserInformation.kind):
            if len(found[kind]) != 1:
                raise reader.fault(f"{len(found[kind])} items of type {kind:02X}H, not one")
        self.application_context = wire.decode_text(found[_APPLICATION_CONTEXT][0])
        self.user_information = found[UserInformation.kind][0]
        self.contexts = found[context_kind]


def _encode_associate(pdu: AssociateRq | AssociateAc, called: bytes, calling: bytes) -> bytes:
    if (len(called), len(calling), len(pdu.reserved)) != (16, 16, 32):
        raise LocalProtocolError("raw AE titles have 16 bytes, the reserved field 32", clause=pdu.clause)
    if _repeated(pdu.contexts):
        raise LocalProtocolError("presentation context ids repeat", clause="PS3.8 9.3.2.2")
    body = (
        wire.number(pdu.protocol_version, 2),
        _TITLES.pack(called, calling, pdu.reserved),
        wire.item(_APPLICATION_CONTEXT, wire.encode_uid(pdu.application_context)),
        *(context.encode() for context in pdu.contexts),
        pdu.user_information.encode(),
    )
    return wire.pdu(pdu.kind, b"".join(body))


def _repeated(contexts: Sequence[PresentationContextRq | PresentationContextAc]) -> bool:
    return len({context.id for context in contexts}) < len(contexts)


# --- the PDUs of four bytes ----------------------------------------------------------------------


class _FourBytes:
    """A PDU whose fields are the last of four bytes, the others being reserved (P03, P08)."""

    __slots__: tuple[str, ...] = ()

    kind: ClassVar[int]
    name: ClassVar[str]
    clause: ClassVar[str]

    def encode(self) -> bytes:
        """Return the PDU; raises `LocalProtocolError` for a number that does not fit its byte."""
        values = b"".join(wire.number(getattr(self, name), 1) for name in self.__slots__)
        return wire.pdu(self.kind, values.rjust(4, b"\0"))

    @classmethod
    def decode(cls, reader: wire.Reader, _limits: Limits) -> Self:
        """Read what follows the PDU header."""
        return cls(*reader.take(4)[4 - len(cls.__slots__) :])


@dataclass(frozen=True, slots=True)
class AssociateRj(_FourBytes):
    """A-ASSOCIATE-RJ (PS3.8 9.3.4): numbers of table 9-21; what is reserved there is kept (R05)."""

    kind: ClassVar[int] = 0x03
    name: ClassVar[str] = "A-ASSOCIATE-RJ"
    clause: ClassVar[str] = "PS3.8 9.3.4"

    result: int
    source: int
    reason: int


@dataclass(frozen=True, slots=True)
class ReleaseRq(_FourBytes):
    """A-RELEASE-RQ (PS3.8 9.3.6)."""

    kind: ClassVar[int] = 0x05
    name: ClassVar[str] = "A-RELEASE-RQ"
    clause: ClassVar[str] = "PS3.8 9.3.6"


@dataclass(frozen=True, slots=True)
class ReleaseRp(_FourBytes):
    """A-RELEASE-RP (PS3.8 9.3.7)."""

    kind: ClassVar[int] = 0x06
    name: ClassVar[str] = "A-RELEASE-RP"
    clause: ClassVar[str] = "PS3.8 9.3.7"


@dataclass(frozen=True, slots=True)
class Abort(_FourBytes):
    """A-ABORT (PS3.8 9.3.8): numbers of table 9-26. Source 0, the user, has no reason: it is made 0 (R10)."""

    kind: ClassVar[int] = 0x07
    name: ClassVar[str] = "A-ABORT"
    clause: ClassVar[str] = "PS3.8 9.3.8"

    source: int
    reason: int

    def __post_init__(self) -> None:
        if self.source == 0:
            object.__setattr__(self, "reason", 0)


# --- P-DATA-TF -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pdv:
    """One presentation data value (PS3.8 9.3.5.1, E.2): a fragment of a command or of a data set."""

    context_id: int
    is_command: bool
    is_last: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class PDataTf:
    """P-DATA-TF (PS3.8 9.3.5)."""

    kind: ClassVar[int] = 0x04
    name: ClassVar[str] = "P-DATA-TF"
    clause: ClassVar[str] = "PS3.8 9.3.5"

    pdvs: tuple[Pdv, ...]

    def encode(self) -> bytes:
        """Return the PDU; what its fragments hold is the caller's business."""
        parts = []
        for pdv in self.pdvs:
            parts += [
                _PDV.pack(len(pdv.data) + 2, pdv.context_id, pdv.is_command | pdv.is_last << 1),
                pdv.data,
            ]
        return wire.pdu(self.kind, b"".join(parts))

    @classmethod
    def decode(cls, reader: wire.Reader, _limits: Limits) -> PDataTf:
        """Read what follows the PDU header; raises `RemoteProtocolError` for P09 and D14."""
        pdvs = []
        while reader.remaining:
            pdv = reader.sub(reader.u32(), "PDV of a P-DATA-TF")
            context_id, control = pdv.take(2)
            pdvs.append(Pdv(context_id, bool(control & 1), bool(control & 2), pdv.rest()))
        if not pdvs:
            raise reader.fault("no PDV")
        return cls(tuple(pdvs))


# --- any PDU -------------------------------------------------------------------------------------

Pdu: TypeAlias = AssociateRq | AssociateAc | AssociateRj | PDataTf | ReleaseRq | ReleaseRp | Abort

_PDUS: dict[int, type[Pdu]] = {
    cls.kind: cls for cls in (AssociateRq, AssociateAc, AssociateRj, PDataTf, ReleaseRq, ReleaseRp, Abort)
}


def decode(kind: int, body: bytes | memoryview, limits: Limits) -> Pdu:
    """Return the PDU of type `kind` whose header was followed by `body`.

    Raises `RemoteProtocolError` with the reason that the A-ABORT has to give: 1 for a type that does not
    exist (P04, P05), 6 for lengths and values that cannot be; `LimitExceeded` for more items or contexts
    than `limits` allows.
    """
    cls = _PDUS.get(kind)
    if cls is None:
        raise RemoteProtocolError(
            f"there is no PDU of type {kind:02X}H", abort_reason=1, clause="PS3.8 9.3.1"
        )
    reader = wire.Reader(body, cls.name, cls.clause)
    pdu = cls.decode(reader, limits)
    reader.finish()
    return pdu


def encode_p_data(pdvs: Iterable[Pdv]) -> bytes:
    """Return a P-DATA-TF with these PDVs."""
    return PDataTf(tuple(pdvs)).encode()


def decode_p_data(body: bytes | memoryview) -> list[Pdv]:
    """Return the PDVs in the body of a P-DATA-TF."""
    return list(PDataTf.decode(wire.Reader(body, PDataTf.name, PDataTf.clause), Limits()).pdvs)
