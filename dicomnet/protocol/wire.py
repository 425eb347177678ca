"""The bytes beneath PDUs and items (PS3.8 9.3): a checked reading cursor, field types and writers.

All integers are big endian (PS3.8 9.3.1). Reading compares every length with what has really arrived before
anything is cut out, so that a decode allocates no more than a small multiple of the bytes received; it raises
`RemoteProtocolError` for structure and leaves content to its users. Writing is strict and raises
`LocalProtocolError` before a byte goes out.
"""

from __future__ import annotations

import re
from functools import partial
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple

from dicomnet.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError, escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "BYTES",
    "FLAG",
    "NAME",
    "REST",
    "ROLE",
    "U8",
    "U16",
    "U32",
    "UID",
    "UIDS",
    "WHOLE_UID",
    "Budget",
    "FieldType",
    "Reader",
    "counted",
    "decode_text",
    "decode_title",
    "encode_name",
    "encode_title",
    "encode_uid",
    "is_valid_uid",
    "item",
    "number",
    "pdu",
]

_INVALID_PARAMETER_VALUE = 6
"""Reason of the provider's A-ABORT for a length or value that cannot be (PS3.8 table 9-26)."""

_ITEM_HEADER = Struct(">BxH")
_PDU_HEADER = Struct(">BxL")

# PS3.5 9.1: components without leading zeros, joined by dots, 64 characters in all.
_VALID_UID = re.compile(r"(?!.{65})(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))*")
# PS3.8 table 9-11: ISO 646 without control characters and backslash, not all spaces.
_VALID_TITLE = re.compile(r"(?! *$)[ -\[\]-~]{1,16}")
# PS3.7 D.3.3.2.3: 1 to 16 characters of ISO 646.
_VALID_NAME = re.compile(r"[ -~]{1,16}")


# --- reading -------------------------------------------------------------------------------------


class Budget:
    """Counts things of one PDU, such as its items, against one of `Limits`, each before it is cut out."""

    __slots__ = ("_allowed", "_limit", "_seen")

    def __init__(self, limit: str, allowed: int) -> None:
        self._limit = limit
        self._allowed = allowed
        self._seen = 0

    def spend(self) -> None:
        """Count one more; raises `LimitExceeded` beyond the limit."""
        self._seen += 1
        if self._seen > self._allowed:
            raise LimitExceeded(
                f"the A-ASSOCIATE PDU has more than {self._allowed} {self._limit} (Limits.{self._limit})",
                limit=self._limit,
                allowed=self._allowed,
                seen=self._seen,
                abort_reason=_INVALID_PARAMETER_VALUE,
            )


class Reader:
    """A cursor over the bytes of one PDU or item that refuses to read past their end.

    `what` names the structure in error messages, `clause` is where the standard defines it. Every method
    raises `RemoteProtocolError` (abort source 2, reason 6) when fewer bytes are left than asked for.
    """

    __slots__ = ("_at", "_data", "clause", "what")

    def __init__(self, data: bytes | memoryview, what: str, clause: str = "PS3.8 9.3") -> None:
        self._data = bytes(data)
        self._at = 0
        self.what = what
        self.clause = clause

    @property
    def remaining(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self._at

    def fault(self, problem: str) -> RemoteProtocolError:
        """Return (not raise) the error for a problem found in this structure."""
        return RemoteProtocolError(
            f"{self.what}: {problem}", clause=self.clause, abort_reason=_INVALID_PARAMETER_VALUE
        )

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        start = self._at
        end = start + count
        if end > len(self._data):
            raise self.fault(f"{count} bytes announced where {self.remaining} are left")
        self._at = end
        return self._data[start:end]

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(self.remaining)

    def u8(self) -> int:
        """Return the next byte as a number."""
        return self.take(1)[0]

    def u16(self) -> int:
        """Return the next two bytes as a number."""
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        """Return the next four bytes as a number."""
        return int.from_bytes(self.take(4), "big")

    def counted(self) -> bytes:
        """Return the bytes of a field that follows its two-byte length."""
        return self.take(self.u16())

    def sub(self, count: int, what: str) -> Reader:
        """Return a cursor of its own over the next `count` bytes."""
        return Reader(self.take(count), what, self.clause)

    def items(self, budget: Budget) -> Iterator[tuple[int, bytes]]:
        """Yield kind and body of each item (type, reserved byte, two-byte length, body) to the end."""
        while self._at < len(self._data):
            budget.spend()
            kind, length = _ITEM_HEADER.unpack(self.take(4))
            yield kind, self.take(length)

    def finish(self) -> None:
        """Raise where bytes are left behind the last field."""
        if self.remaining:
            raise self.fault(f"{self.remaining} bytes behind the last field")


def decode_text(data: bytes) -> str:
    """Return a UID or name; padding, which the standard forbids here and peers send, is cut off."""
    return data.decode("latin-1").rstrip("\0 ")


def decode_title(data: bytes) -> str:
    """Return an AE title without its padding; blank is allowed on receipt (PS3.8 table 9-11)."""
    return data.decode("latin-1").strip("\0 ")


# --- writing -------------------------------------------------------------------------------------


def is_valid_uid(uid: str) -> bool:
    """True where `uid` may be sent: PS3.5 9.1, at most 64 characters, no leading zeros, no padding."""
    return _VALID_UID.fullmatch(uid) is not None


def encode_uid(uid: str) -> bytes:
    """Return the bytes of a UID, without padding (PS3.8 annex F)."""
    return _checked(_VALID_UID, uid, "a valid UID", "PS3.5 9.1")


def encode_title(title: str) -> bytes:
    """Return the 16 bytes of an AE title, padded with spaces (PS3.8 table 9-11)."""
    return _checked(_VALID_TITLE, title, "a valid AE title", "PS3.8 9.3.2").ljust(16)


def encode_name(name: str) -> bytes:
    """Return the bytes of an implementation version name (PS3.7 D.3.3.2.3)."""
    return _checked(_VALID_NAME, name, "a valid implementation version name", "PS3.7 D.3.3.2.3")


def number(value: int, size: int, what: str = "the value") -> bytes:
    """Return an unsigned number of `size` bytes."""
    if not 0 <= value < 1 << 8 * size:
        raise LocalProtocolError(
            f"{what} {value:d} does not fit its field of {size} bytes", clause="PS3.8 9.3.1"
        )
    return value.to_bytes(size, "big")


def counted(body: bytes) -> bytes:
    """Return a field behind its two-byte length."""
    return number(len(body), 2, "the length") + body


def item(kind: int, body: bytes) -> bytes:
    """Return an item or sub-item: type, reserved byte, two-byte length, body."""
    return number(kind, 1, "the item type") + b"\0" + counted(body)


def pdu(kind: int, body: bytes) -> bytes:
    """Return a whole PDU: type, reserved byte, four-byte length, body (PS3.8 9.3.1)."""
    return _PDU_HEADER.pack(kind, len(body)) + body


def _checked(pattern: re.Pattern[str], text: str, what: str, clause: str) -> bytes:
    if not pattern.fullmatch(text):
        raise LocalProtocolError(f"'{escape(text)}' is not {what}", clause=clause)
    return text.encode("ascii")


# --- field types of the user information sub-items -----------------------------------------------


class FieldType(NamedTuple):
    """How one field of an item is read and written."""

    read: Callable[[Reader], Any]
    write: Callable[[Any], bytes]


def _write_role(value: int) -> bytes:
    if value not in (0, 1):
        raise LocalProtocolError(f"{value} is not a role: 0 or 1", clause="PS3.7 D.3.3.4")
    return number(value, 1)


def _read_uids(reader: Reader) -> tuple[str, ...]:
    uids = reader.sub(reader.u16(), f"list of UIDs in {reader.what}")
    found = []
    while uids.remaining:
        found.append(decode_text(uids.counted()))
    reader.rest()  # PS3.7 table D.3-12: room for fields of later versions
    return tuple(found)


def _write_uids(uids: tuple[str, ...]) -> bytes:
    return counted(b"".join(counted(encode_uid(uid)) for uid in uids))


U8 = FieldType(Reader.u8, partial(number, size=1))
U16 = FieldType(Reader.u16, partial(number, size=2))
U32 = FieldType(Reader.u32, partial(number, size=4))
FLAG = FieldType(lambda reader: bool(reader.u8()), lambda value: number(bool(value), 1))
ROLE = FieldType(Reader.u8, _write_role)
# Behind a two-byte length: bytes, a UID, a list of UIDs each behind its own.
BYTES = FieldType(Reader.counted, counted)
UID = FieldType(lambda reader: decode_text(reader.counted()), lambda uid: counted(encode_uid(uid)))
UIDS = FieldType(_read_uids, _write_uids)
# All that is left of the item.
REST = FieldType(Reader.rest, bytes)
WHOLE_UID = FieldType(lambda reader: decode_text(reader.rest()), encode_uid)
NAME = FieldType(lambda reader: decode_text(reader.rest()), encode_name)
