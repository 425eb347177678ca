"""The Part 10 file header, read and written without pydicom (PS3.10 7.1).

A file is sent byte for byte, so all that has to be known of it is where its data set starts, in which
transfer syntax it is, and which SOP instance it holds. That is in the first page of nearly every file and
takes some 10 us to find; pydicom needs a millisecond, and 0.4 s for its import.

The reader is tolerant where files in the field are sloppy: no preamble, no group length or a wrong one, no
meta header at all. What it cannot know it does not guess: then `DataSetError` says what to do.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from dicomnet.errors import DataSetError
from dicomnet.protocol.negotiation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import BinaryIO

__all__ = [
    "DEFLATED",
    "EXPLICIT_BIG",
    "EXPLICIT_LITTLE",
    "IMPLICIT_LITTLE",
    "NATIVE",
    "Encoding",
    "FileHeader",
    "encoding_of",
    "header",
    "read_header",
    "scan",
]

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"


class Encoding(NamedTuple):
    """How the elements of a transfer syntax are written."""

    implicit: bool
    little: bool


_ENCAPSULATED = Encoding(implicit=False, little=True)  # PS3.5 A.4
_ENCODINGS = {
    IMPLICIT_LITTLE: Encoding(implicit=True, little=True),
    EXPLICIT_LITTLE: Encoding(implicit=False, little=True),
    DEFLATED: Encoding(implicit=False, little=True),
    EXPLICIT_BIG: Encoding(implicit=False, little=False),
}
NATIVE = frozenset(_ENCODINGS)
"""The transfer syntaxes whose pixel data is not compressed."""

_DEFLATING = frozenset({DEFLATED, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})

_PREAMBLE = bytes(128)
_PREFIX = b"DICM"
_PAGES = (4096, 65536, 4 * 1024 * 1024)  # how much is read to find the end of the meta header, one by one
_UNDEFINED = 0xFFFFFFFF
_SOP_CLASS, _SOP_INSTANCE = 0x00080016, 0x00080018
_FIRST_GROUPS = (0x0008, 0x0010)  # where the data sets of files begin
_WRITABLE = re.compile(r"[ -\[\]-~]{1,64}")  # what a UI, AE or SH value may hold, and a little more

_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_EXPLICIT = {True: Struct("<HH2sH"), False: Struct(">HH2sH")}
_IMPLICIT = Struct("<HHL")
_LENGTH = {True: Struct("<L"), False: Struct(">L")}
_META_SHORT, _META_LONG = _EXPLICIT[True], Struct("<HH2sxxL")


@dataclass(frozen=True, slots=True)
class FileHeader:
    """What a file says about its data set.

    `sop_class` and `sop_instance` are the data set's own (0008,0016) and (0008,0018) where they are within
    reach, else those of the meta header, else "". `offset` is the first byte of the data set. `meta` holds
    the undecoded values of group 0002 by tag.
    """

    sop_class: str
    sop_instance: str
    transfer_syntax: str
    offset: int
    meta: Mapping[int, bytes] = field(default_factory=dict, compare=False)


def encoding_of(transfer_syntax: str) -> Encoding:
    """Return how a transfer syntax writes elements: explicit little endian in all but a few (PS3.5 A.4)."""
    return _ENCODINGS.get(transfer_syntax, _ENCAPSULATED)


# --- writing -------------------------------------------------------------------------------------


def header(sop_class: str, sop_instance: str, transfer_syntax: str, source_ae: str = "") -> bytes:
    """Return preamble, prefix and file meta information for a data set (PS3.10 table 7.1-1).

    The preamble is always zero, so a stored file is never a program as well. `source_ae` goes into
    (0002,0016). The strings may come from a peer: what is no possible value is written as empty.
    """
    values = [
        _META_LONG.pack(0x0002, 0x0001, b"OB", 2) + b"\0\1",
        _short(0x0002, b"UI", sop_class),
        _short(0x0003, b"UI", sop_instance),
        _short(0x0010, b"UI", transfer_syntax),
        _short(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
        _short(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME, b" "),
    ]
    if source_ae:
        values.append(_short(0x0016, b"AE", source_ae, b" "))
    body = b"".join(values)
    length = _META_SHORT.pack(0x0002, 0x0000, b"UL", 4) + _LENGTH[True].pack(len(body))
    return b"".join((_PREAMBLE, _PREFIX, length, body))


def _short(element: int, vr: bytes, text: str, pad: bytes = b"\0") -> bytes:
    value = text.encode("ascii") if _WRITABLE.fullmatch(text) else b""
    value += pad[: len(value) & 1]
    return _META_SHORT.pack(0x0002, element, vr, len(value)) + value


# --- reading -------------------------------------------------------------------------------------


class _Truncated(Exception):
    """The bytes at hand end within the meta header."""


def read_header(file: str | os.PathLike[str] | BinaryIO) -> FileHeader:
    """Read the header of a file, or of an open binary file from its beginning on.

    Raises `DataSetError` where the file cannot be read, or is no DICOM file that can be recognised.
    """
    if not isinstance(file, (str, os.PathLike)):
        return scan(_reader_of(file), str(getattr(file, "name", "file")))[0]
    path = os.fspath(file)
    try:
        with open(path, "rb", buffering=0) as opened:  # noqa: PTH123 - pathlib adds 3 us
            return scan(_reader_of(opened), path)[0]
    except OSError as error:
        raise DataSetError(f"cannot read {path}: {error.strerror}", path=path) from error


def _reader_of(file: BinaryIO) -> Callable[[int], bytes]:
    def read(size: int) -> bytes:
        file.seek(0)
        return file.read(size)

    return read


def scan(read: Callable[[int], bytes], name: str, assumed: str = "") -> tuple[FileHeader, bytes]:
    """Return the header of what `read(size)` gives the first `size` bytes of, and the bytes read for it.

    `assumed` is the transfer syntax to believe whatever the file says, or "". `name` is for messages.
    """
    for size in _PAGES:
        data = read(size)
        try:
            return _parse(data, len(data) < size, name, assumed), data
        except _Truncated:
            if len(data) < size:
                break
    raise DataSetError(f"{name} ends within its meta header, or the meta header is damaged", path=name)


def _parse(data: bytes, whole: bool, name: str, assumed: str) -> FileHeader:
    start = len(_PREAMBLE) + 4 if data[128:132] == _PREFIX else 4 if data[:4] == _PREFIX else 0
    meta, offset = _read_meta(data, start)
    if offset >= len(data) and not whole:
        raise _Truncated
    syntax = assumed or _text(meta.get(0x00020010, b"")) or _sniff(data, offset)
    if not syntax:
        raise DataSetError(
            f"{name} does not say its transfer syntax, and its first bytes don't show one: it is no DICOM "
            "file, or it is damaged. If you know the syntax, give it: DicomDataSet(path, transfer_syntax)",
            path=name,
        )
    found = {} if syntax in _DEFLATING else _identify(data, offset, encoding_of(syntax))
    return FileHeader(
        _text(found.get(_SOP_CLASS) or meta.get(0x00020002, b"")),
        _text(found.get(_SOP_INSTANCE) or meta.get(0x00020003, b"")),
        syntax,
        offset,
        meta,
    )


def _read_meta(data: bytes, at: int) -> tuple[dict[int, bytes], int]:
    """Return the elements of group 0002 and where they end; their own group decides, not the group length."""
    meta: dict[int, bytes] = {}
    while data[at : at + 2] == b"\2\0":
        vr = data[at + 4 : at + 6]
        implicit = vr not in _SHORT_VRS and vr not in _LONG_VRS  # not allowed, but there are such files
        element = _element(data, at, _ENCODINGS[IMPLICIT_LITTLE if implicit else EXPLICIT_LITTLE])
        if element is None or element[2] > len(data):
            raise _Truncated
        tag, start, at = element
        meta[tag] = data[start:at]
    return meta, at


def _sniff(data: bytes, at: int) -> str:
    """Return the syntax in which the first element of a data set makes sense, or ""."""
    for syntax in (EXPLICIT_LITTLE, EXPLICIT_BIG, IMPLICIT_LITTLE):
        element = _element(data, at, _ENCODINGS[syntax])
        if element is not None and element[0] >> 16 in _FIRST_GROUPS and element[2] <= len(data):
            return syntax
    return ""


def _identify(data: bytes, at: int, encoding: Encoding) -> dict[int, bytes]:
    """Return (0008,0016) and (0008,0018) as far as they can be reached within `data`."""
    found: dict[int, bytes] = {}
    while (element := _element(data, at, encoding)) is not None and element[0] <= _SOP_INSTANCE:
        tag, start, at = element
        if at > len(data):  # an undefined length, too: nothing before (0008,0016) has one as a rule
            break
        found[tag] = data[start:at]
    return found


def _element(data: bytes, at: int, encoding: Encoding) -> tuple[int, int, int] | None:
    """Return tag, start and end of the value of the element that begins at `at`.

    None where its header does not fit or has no known VR.
    """
    implicit, little = encoding
    if at + 8 > len(data):
        return None
    if implicit:
        group, number, length = _IMPLICIT.unpack_from(data, at)
        return group << 16 | number, at + 8, at + 8 + length
    group, number, vr, length = _EXPLICIT[little].unpack_from(data, at)
    if vr in _SHORT_VRS:
        return group << 16 | number, at + 8, at + 8 + length
    if vr in _LONG_VRS and at + 12 <= len(data):
        (length,) = _LENGTH[little].unpack_from(data, at + 8)
        return group << 16 | number, at + 12, at + 12 + length
    return None


def _text(value: bytes) -> str:
    return value.decode("latin-1").strip("\0 ")
