"""The command set of a DIMSE message, both ways (PS3.7 6.3 and annex E).

Always Implicit VR Little Endian, whatever the presentation context says. Encoding is strict and holds to
the message table; decoding takes what can be understood and leaves the rest alone.
"""

from __future__ import annotations

import re
import struct
from functools import partial
from typing import TYPE_CHECKING, Any

from dicomnet.enums import DicomCommandPriorityType, DicomCommandStatusType
from dicomnet.errors import LocalProtocolError, RemoteProtocolError, escape
from dicomnet.protocol.message_table import DATA_SET, DETAILS, MESSAGES
from dicomnet.protocol.status import category

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from dicomnet.protocol.message_table import DataSetRule, Element, Message
    from dicomnet.protocol.status import Category

__all__ = ["Command", "decode", "encode", "with_group_length"]

_NO_DATA_SET = 0x0101  # (0000,0800); every other value says that a data set follows
_HAS_DATA_SET = 0x0001  # the other value that we send

_HEADER = struct.Struct("<HHI")  # group, element, length of the value
_GROUP_LENGTH = struct.Struct("<HHII")
_US = struct.Struct("<HHIH")
_TAG = struct.Struct("<HH")

# --- encoding ------------------------------------------------------------------------------------

_PRINTABLE = bytes(range(0x20, 0x7F)).replace(b"\\", b"")


def _text_encoder(tag: int, longest: int, characters: bytes, pad: bytes) -> Callable[[str], bytes]:
    """Return the encoder of a UI or AE element; header and padding come out of tables by length (C10)."""
    headers = [_HEADER.pack(0, tag, length + length % 2) for length in range(longest + 1)]
    padding = b"", pad

    def put(text: str) -> bytes:
        raw = text.encode("ascii")
        length = len(raw)
        if length > longest or raw.translate(None, characters):
            raise ValueError(f"not 1 to {longest} allowed characters")
        return headers[length] + raw + padding[length % 2]

    return put


def _put_comment(tag: int, text: str) -> bytes:
    """LO of at most 64 characters: made to fit, since a comment is often the text of an exception."""
    raw = re.sub(r"[^ -~]|\\", "?", text)[:64].encode("ascii")
    raw += b" " * (len(raw) % 2)
    return _HEADER.pack(0, tag, len(raw)) + raw


def _put_tags(tag: int, tags: Iterable[int]) -> bytes:
    raw = b"".join([_TAG.pack(one >> 16, one & 0xFFFF) for one in tags])
    return _HEADER.pack(0, tag, len(raw)) + raw if raw else b""


# A UID with letters in it is wrong, but must not keep a file that has it from being sent: UI takes all
# printable characters but space and backslash.
_ENCODERS: dict[str, Callable[[int], Callable[[Any], bytes]]] = {
    "UI": lambda tag: _text_encoder(tag, 64, _PRINTABLE.replace(b" ", b""), b"\0"),
    "AE": lambda tag: _text_encoder(tag, 16, _PRINTABLE, b" "),
    "US": lambda tag: partial(_US.pack, 0, tag, 2),
    "AT": lambda tag: partial(_put_tags, tag),
    "LO": lambda tag: partial(_put_comment, tag),
}

_Step = tuple[bytes, str, bool, "Callable[[Any], bytes]"]  # constant before it, parameter, required, encoder


def _plan(message: Message, data_set_type: int) -> tuple[tuple[_Step, ...], bytes]:
    """Lay a message out in ascending order of tags (C02): the steps, and the constant after the last."""
    constants = {0x0100: message.command_field, 0x0800: data_set_type}
    elements = {element.tag: element for element in (*message.elements, *message.details)}
    steps: list[_Step] = []
    constant = b""
    for tag in sorted(constants.keys() | elements.keys()):
        if tag in constants:
            constant += _US.pack(0, tag, 2, constants[tag])
        else:
            element = elements[tag]
            steps.append((constant, element.name, element.required, _ENCODERS[element.vr](tag)))
            constant = b""
    return tuple(steps), constant


_PLANS = {  # has a data set -> command field -> plan
    has_data_set: {field: _plan(message, data_set_type) for field, message in MESSAGES.items()}
    for has_data_set, data_set_type in ((False, _NO_DATA_SET), (True, _HAS_DATA_SET))
}

_ALL: frozenset[Category] = frozenset({"success", "warning", "failure", "cancel", "pending"})
_NEVER: frozenset[Category] = frozenset()
_RULES: dict[DataSetRule, tuple[frozenset[Category], frozenset[Category]]] = {  # must have, may have
    "required": (_ALL, _ALL),
    "optional": (_NEVER, _ALL),
    "none": (_NEVER, _NEVER),
    "pending": (frozenset({"pending"}), frozenset({"pending"})),
    "incomplete": (_NEVER, frozenset({"cancel", "failure", "warning"})),
    "success": (_NEVER, frozenset({"success"})),
    "result": (frozenset({"success"}), frozenset({"success", "warning"})),
}
_ALWAYS: dict[DataSetRule, bool] = {"required": True, "none": False}


def encode(message: Message, values: Mapping[str, Any], has_data_set: bool) -> bytes:
    """Return the command set of `message`, group length and Command Data Set Type included.

    `values` maps the names of its elements to values: UI, AE and LO are `str`, US is `int`, AT is an iterable
    of tags as `int`. None and "" leave an optional element out. Raises `LocalProtocolError` where a required
    element is missing, a value does not fit its VR, or the message may not (or must) have a data set.
    """
    steps, last = _PLANS[has_data_set][message.command_field]
    parts: list[bytes] = []
    append, get = parts.append, values.get
    for constant, name, required, put in steps:
        append(constant)
        value = get(name)
        if value is not None and value != "":
            try:
                append(put(value))
            except (ValueError, TypeError, AttributeError, struct.error) as error:
                raise LocalProtocolError(
                    f"{message.name}: {name} cannot be {escape(repr(value))}: {error}", clause="PS3.7 6.3"
                ) from error
        elif required:
            raise LocalProtocolError(f"{message.name} needs {name}", clause="PS3.7 9.3, 10.3")
    if _ALWAYS.get(message.data_set) is not has_data_set:
        _check_data_set(message, get("status"), has_data_set)
    append(last)
    return with_group_length(b"".join(parts))


def _check_data_set(message: Message, status: int | None, has_data_set: bool) -> None:
    must, may = _RULES[message.data_set]
    kind = category(status)
    if kind not in may if has_data_set else kind in must:
        verb = "must not have" if has_data_set else "needs"
        when = "" if status is None else f" with status {status:04X}H"
        raise LocalProtocolError(f"{message.name}{when} {verb} a data set", clause="PS3.7 9.3, 10.3")


def with_group_length(data: bytes) -> bytes:
    """Return encoded group 0000 elements in ascending order with the right group length before them."""
    body = data[_GROUP_LENGTH.size :] if data.startswith(b"\0\0\0\0") else data
    return _GROUP_LENGTH.pack(0, 0, 4, len(body)) + body


# --- decoding ------------------------------------------------------------------------------------


def _get_text(raw: bytes) -> str | None:
    return str(raw, "latin-1").strip("\0 ") or None


def _get_comment(raw: bytes) -> str | None:
    return str(raw, "utf-8", "backslashreplace").strip("\0 ") or None


def _get_us(raw: bytes) -> int | None:
    """Return the first value: some peers send two where one is allowed."""
    return raw[0] | raw[1] << 8 if len(raw) > 1 else None


def _get_tags(raw: bytes) -> tuple[int, ...] | None:
    return None if len(raw) % 4 else tuple([group << 16 | tag for group, tag in _TAG.iter_unpack(raw)])


def _get_priority(raw: bytes) -> DicomCommandPriorityType | None:
    """Return the priority, which is medium where the number means nothing (C09)."""
    value = _get_us(raw)
    return None if value is None else DicomCommandPriorityType(value if value in (0, 1, 2) else 0)


def _get_status(raw: bytes) -> DicomCommandStatusType | None:
    value = _get_us(raw)
    return None if value is None else DicomCommandStatusType(value)


_DECODERS: dict[str, tuple[Callable[[bytes], Any], Any]] = {  # VR -> decoder, what a missing value becomes
    "UI": (_get_text, ""),
    "AE": (_get_text, ""),
    "US": (_get_us, 0),
    "AT": (_get_tags, ()),
    "LO": (_get_comment, ""),
}
_MEANINGS: dict[int, tuple[Callable[[bytes], Any], Any]] = {
    0x0700: (_get_priority, DicomCommandPriorityType.MEDIUM),
    0x0900: (_get_status, DicomCommandStatusType.PROCESSING_FAILURE),  # X28
}
_VALUES = {
    element.tag: _DECODERS[element.vr][0]
    for message in MESSAGES.values()
    for element in (*message.elements, *DETAILS, DATA_SET)
} | {0x0100: _get_us}
_ARGUMENTS = {
    field: tuple(
        (element.tag, *_MEANINGS.get(element.tag, _DECODERS[element.vr])) for element in message.elements
    )
    for field, message in MESSAGES.items()
}


class Command:
    """A received command set. It is shared between messages that are equal in bytes: do not change it.

    `raw` is all of it, and `elements` its values by tag, undecoded, unknown and private elements included
    (C14). `field` is (0000,0100) and `message` its row of the table, None for an unknown one. `message_id` is
    (0000,0110) of a request, `responded_id` (0000,0120) of a response or C-CANCEL-RQ; of an unknown command
    both are read; 0 elsewhere. `status` is None in a request, and "processing failure" in a response that
    has none (X28).
    """

    __slots__ = (
        "elements",
        "field",
        "has_data_set",
        "message",
        "message_id",
        "raw",
        "responded_id",
        "status",
    )

    raw: bytes
    elements: dict[int, bytes]
    field: int
    message: Message | None
    message_id: int
    responded_id: int
    has_data_set: bool
    status: int | None

    def __init__(self, raw: bytes, elements: dict[int, bytes]) -> None:
        self.raw = raw
        self.elements = elements
        self.field = field = self._number(0x0100)
        self.has_data_set = self._number(0x0800) != _NO_DATA_SET
        self.message = message = MESSAGES.get(field)
        self.status = None
        self.message_id = self.responded_id = 0
        if message is None:
            self.message_id = self.value(0x0110) or 0
            self.responded_id = self.value(0x0120) or 0
        elif message.elements[0].tag == 0x0110:
            self.message_id = self._number(0x0110)
        else:
            self.responded_id = self._number(0x0120)
        if field & 0x8000:
            status = self.value(0x0900)
            self.status = int(DicomCommandStatusType.PROCESSING_FAILURE) if status is None else status

    def _number(self, tag: int) -> int:
        raw = self.elements.get(tag)
        if raw is None or len(raw) < 2:
            raise _invalid(f"without (0000,{tag:04X})")
        return raw[0] | raw[1] << 8

    def __repr__(self) -> str:
        name = f"unknown command {self.field:04X}H" if self.message is None else self.message.name
        return f"<Command {name} {self.message_id or self.responded_id}>"

    def value(self, tag: int) -> Any:
        """Return an element decoded: UI, AE and LO as stripped `str`, US as `int`, AT as tuple of `int`.

        None where the element is missing, empty or does not fit its VR; the bytes of an unknown element.
        """
        raw = self.elements.get(tag)
        decode_value = _VALUES.get(tag)
        return raw if raw is None or decode_value is None else decode_value(raw)

    def arguments(self) -> tuple[Any, ...]:
        """Return what the callback gets between the presentation context id and the data set.

        A value that is missing or unusable becomes "", 0, (), medium priority or "processing failure".
        """
        get = self.elements.get
        arguments = []
        for tag, decode_value, default in _ARGUMENTS.get(self.field, ()):
            raw = get(tag)
            value = None if raw is None else decode_value(raw)
            arguments.append(default if value is None else value)
        return tuple(arguments)

    def missing(self) -> tuple[Element, ...]:
        """Return the elements that the message must have but that are missing or unusable (X28).

        The element "data_set" stands for a required data set that was not announced.
        """
        message = self.message
        if message is None:
            return ()
        found = [
            element for element in message.elements if element.required and self.value(element.tag) is None
        ]
        if message.data_set == "required" and not self.has_data_set:
            found.append(DATA_SET)
        return tuple(found)


def decode(data: bytes | memoryview) -> Command:
    """Return the command set in `data`, which is all fragments of it joined.

    The group length is not believed (C03); unknown elements of group 0000 are kept and ignored (C14).
    Raises `RemoteProtocolError` (reason 6) where the elements do not fill `data` exactly, one of them is
    in another group or there twice, or the command field, the data set type or the message id that the
    message is recognized by is missing.
    """
    raw = bytes(data)
    elements: dict[int, bytes] = {}
    unpack, end = _HEADER.unpack_from, len(raw)
    position = count = groups = 0
    try:
        while position < end:
            group, tag, length = unpack(raw, position)
            start = position + 8
            position = start + length
            elements[tag] = raw[start:position]
            groups |= group
            count += 1
    except struct.error:
        raise _invalid("that ends within an element header") from None
    if position != end:
        raise _invalid("with an element that is longer than the rest of it")
    if groups:
        raise _invalid("with an element that is not of group 0000")
    if len(elements) != count:
        raise _invalid("that has an element twice")
    return Command(raw, elements)


def _invalid(what: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"the peer sent a command set {what}", abort_reason=6, clause="PS3.7 6.3.1")
