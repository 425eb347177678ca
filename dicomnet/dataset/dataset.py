"""`DicomDataSet`: a data set as it is on the wire or in a file, and as pydicom shows it."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, Union

from dicomnet.dataset import part10
from dicomnet.dataset.sources import BytesSource, FileSource, Stored, open_file, open_stored, stored
from dicomnet.dataset.spool import IfExists, PendingFile, failing, new_file
from dicomnet.errors import DataSetError, WrongStateError, escape

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset
    from typing_extensions import Self

    from dicomnet.protocol.assembler import Source

__all__ = ["DataSetLike", "DicomDataSet", "as_data_set"]

DataSetLike = Union["DicomDataSet", "Dataset", str, "os.PathLike[str]"]
"""What a message can carry: a `DicomDataSet`, a pydicom data set, or the path of a file."""

_CHUNK = 1024 * 1024
_decoding = threading.Lock()


class DicomDataSet:
    """A data set that a callback got, or that is to be sent (LEADTOOLS `DicomDataSet`).

    It is made from the path of a DICOM file, from encoded bytes, from a pydicom data set, or empty. Bytes and
    files pass through as they are: they are decoded once, when `dataset`, an element's keyword
    (`data_set.PatientID`) or an item (`data_set[0x0010, 0x0020]`) is used first. Editing is pydicom's: set
    keywords and items here, or work on `dataset`. A data set that was edited is encoded anew when it is sent
    or saved; one that was only read is not.

    A file is read when it is sent, so it has to stay as it was. A received data set holds its own bytes or
    its spool file as long as it lives, also beyond the callback. `close` frees them at once, as does leaving
    the object's `with` block.

    `transfer_syntax` is needed with bytes that are not a whole Part 10 file, and overrides what a file says.
    `sop_class` and `sop_instance` can be given where they are known already.

    Raises `DataSetError` where a file or bytes cannot be recognised. Not for use by two threads at a time.
    """

    __slots__ = (
        "__weakref__",
        "_body",
        "_closed",
        "_dataset",
        "_path",
        "_sop_class",
        "_sop_instance",
        "_syntax",
    )

    _body: bytes | Stored | None
    _dataset: Dataset | None

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes | bytearray | memoryview | Dataset | Stored | None = None,
        transfer_syntax: str = "",
        *,
        sop_class: str = "",
        sop_instance: str = "",
    ) -> None:
        self._closed = False
        self._body = self._dataset = None
        self._path = ""
        self._syntax = transfer_syntax
        self._sop_class = sop_class
        self._sop_instance = sop_instance
        if isinstance(source, Stored):
            self._body = source
            self._path = source.path if source.pending is None else ""
        elif isinstance(source, (bytes, bytearray, memoryview)):
            self._body = data = bytes(source)
            if not transfer_syntax:
                header = self._take(part10.scan(lambda size: data[:size], "the data")[0])
                self._body = data[header.offset :]
        elif isinstance(source, (str, os.PathLike)):
            self._open(os.path.abspath(source))  # noqa: PTH100
        elif source is not None:
            self._dataset = _checked(source)

    def _open(self, path: str) -> None:
        self._path = path
        descriptor, status = open_file(path)
        try:
            with failing(path, "read"):
                header, data = part10.scan(lambda size: os.pread(descriptor, size, 0), path, self._syntax)
        finally:
            os.close(descriptor)
        self._take(header)
        whole = len(data) == status.st_size
        self._body = data[header.offset :] if whole else stored(path, header.offset, status)

    def _take(self, header: part10.FileHeader) -> part10.FileHeader:
        self._syntax = header.transfer_syntax
        self._sop_class = self._sop_class or header.sop_class
        self._sop_instance = self._sop_instance or header.sop_instance
        return header

    # --- what it is ------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """Absolute path of the file that it came from or was moved to; "" for all else, the spool too."""
        return self._path

    @property
    def transfer_syntax(self) -> str:
        """UID of the transfer syntax; "" for a pydicom data set that does not say one and fits any."""
        meta = getattr(self._dataset, "file_meta", None)
        return str(meta.get("TransferSyntaxUID", "")) or self._syntax if meta else self._syntax

    @property
    def sop_class(self) -> str:
        """(0008,0016); as long as nothing is decoded, what the message or the file header said."""
        return self._uid("SOPClassUID", self._sop_class)

    @property
    def sop_instance(self) -> str:
        """(0008,0018); as long as nothing is decoded, what the message or the file header said."""
        return self._uid("SOPInstanceUID", self._sop_instance)

    def _uid(self, keyword: str, known: str) -> str:
        if known and self._dataset is None:
            return known
        return str(self.dataset.get(keyword, "")) or known

    @property
    def size(self) -> int:
        """Bytes of the encoded data set."""
        body = self._current()
        return body.size if isinstance(body, Stored) else len(body)

    @property
    def encoded(self) -> bytes:
        """The encoded data set, in `transfer_syntax`, where that is "" in explicit VR little endian."""
        body = self._current()
        if not isinstance(body, Stored):
            return body
        with open(open_stored(body), "rb") as file:  # noqa: PTH123
            file.seek(body.offset)
            return file.read()

    @property
    def dataset(self) -> Dataset:
        """The pydicom data set: decoded the first time, then always the same object.

        It can be used after this object is gone. Long values of a file stay there until they are asked for.
        Raises `DataSetError` where the bytes cannot be decoded.
        """
        with _decoding:
            if self._dataset is None:
                self._check_open()
                self._dataset = self._decode()
            return self._dataset

    def _decode(self) -> Dataset:
        from dicomnet.dataset import codec  # noqa: PLC0415 - it imports pydicom

        body = self._body
        if body is None:
            return codec.Dataset()
        if not isinstance(body, Stored):
            return codec.decode(body, self._syntax)
        dataset = codec.decode_file(open_stored(body), body.path, body.offset, self._syntax)
        if body.pending is not None:  # the spool file must live as long as what is read from it
            weakref.finalize(dataset, id, body.pending).atexit = False
        return dataset

    def _encode(self, transfer_syntax: str) -> bytes:
        from dicomnet.dataset import codec  # noqa: PLC0415

        return codec.encode(self.dataset, transfer_syntax, self.transfer_syntax)

    def _changed(self) -> bool:
        if self._dataset is None:
            return False
        from dicomnet.dataset import codec  # noqa: PLC0415

        return codec.differ(self._dataset, self._decode())

    def _current(self) -> bytes | Stored:
        """Return the bytes that stand for the data set now, changes made with pydicom included."""
        self._check_open()
        if self._body is None:
            return self._encode(self.transfer_syntax or part10.EXPLICIT_LITTLE)
        if self._changed():
            self._syntax = self.transfer_syntax
            self._body = self._encode(self._syntax)
        return self._body

    # --- where it goes ---------------------------------------------------------------------------

    def source(self, transfer_syntax: str) -> Source:
        """Return the bytes to send in a transfer syntax; the caller closes the source.

        A pydicom data set is encoded in it. A file or a received data set is sent as it is, or not at all:
        `DataSetError` where it is in another transfer syntax.
        """
        if self._body is None:
            self._check_open()
            return BytesSource(self._encode(transfer_syntax))
        body = self._current()
        if transfer_syntax != self._syntax:
            raise DataSetError(
                f"{self!r} cannot be sent in transfer syntax {escape(transfer_syntax)}: propose its own, or "
                "send its `dataset`, which is encoded anew",
                path=self._path,
            )
        return FileSource(body) if isinstance(body, Stored) else BytesSource(body)

    def save_as(self, path: str | os.PathLike[str], *, exists: IfExists = "raise", sync: bool = False) -> str:
        """Write a Part 10 file with exactly these bytes as data set, and return its path.

        The file has its name only when it is complete. `exists` says what to do where a file has that name:
        "raise", "next" (`x_1.dcm`) or "overwrite". `sync` waits until the file is on the disk. A spool file
        is renamed where that is possible, and then is no longer removed. Raises `DataSetError`; the data set
        itself stays usable, and no file is left.
        """
        target = os.path.abspath(path)  # noqa: PTH100
        body = self._current()
        with failing(target, "saved"):
            if isinstance(body, Stored) and body.pending is not None:
                try:
                    name = body.pending.keep(target, exists, sync=sync)
                except OSError as error:
                    if error.errno != errno.EXDEV:
                        raise
                else:
                    self._moved(body, name)
                    return name
            return self._copy(body, target, exists, sync)

    def _moved(self, body: Stored, name: str) -> None:
        self._body = body._replace(path=name, pending=None)
        self._path = name
        if self._dataset is not None:
            self._dataset.filename = name  # where pydicom looks for long values

    def _copy(self, body: bytes | Stored, target: str, exists: IfExists, sync: bool) -> str:
        header = self._header()
        file = new_file(target)
        try:
            file.write(header)
            _pour(body, file)
            status = file.status()
            name = file.keep(target, exists, sync=sync)
        except BaseException:
            file.remove()
            raise
        if isinstance(body, Stored) and body.path == name:
            self._body = stored(name, len(header), status)
        return name

    def _header(self) -> bytes:
        sop_class, sop_instance = self._sop_class, self._sop_instance
        with contextlib.suppress(DataSetError):  # what cannot be decoded can be saved nevertheless
            sop_class, sop_instance = self.sop_class, self.sop_instance
        return part10.header(sop_class, sop_instance, self.transfer_syntax or part10.EXPLICIT_LITTLE)

    def close(self) -> None:
        """Free the bytes and remove the spool file. The object cannot be used any more."""
        body, self._body, self._dataset, self._closed = self._body, None, None, True
        if isinstance(body, Stored) and body.pending is not None:
            body.pending.remove()

    def _check_open(self) -> None:
        if self._closed:
            raise WrongStateError("this data set was closed; its bytes are gone")

    # --- pydicom shows through -------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(type(self), name):
            object.__setattr__(self, name, value)
        else:
            setattr(self.dataset, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self.dataset, name)

    def __getitem__(self, key: Any) -> DataElement:
        element: DataElement = self.dataset[key]
        return element

    def __setitem__(self, key: Any, value: DataElement) -> None:
        self.dataset[key] = value

    def __delitem__(self, key: Any) -> None:
        del self.dataset[key]

    def __contains__(self, key: Any) -> bool:
        return key in self.dataset

    def __iter__(self) -> Iterator[DataElement]:
        return iter(self.dataset)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        body = self._body
        if isinstance(body, Stored):
            where = f"{body.size} bytes in {body.path}"
        else:
            where = f"{len(body)} bytes" if body is not None else "closed" if self._closed else "pydicom"
        names = (self._sop_class, self._sop_instance, self._syntax)
        return f"<DicomDataSet {escape(' '.join(filter(None, (*names, where))))}>"


def as_data_set(data_set: DataSetLike) -> DicomDataSet:
    """Return what a `send_*` method was given as a `DicomDataSet`. Raises `DataSetError`."""
    return data_set if isinstance(data_set, DicomDataSet) else DicomDataSet(data_set)


def _checked(source: Any) -> Dataset:
    from dicomnet.dataset import codec  # noqa: PLC0415

    if not isinstance(source, codec.Dataset):
        raise TypeError(f"a data set is made from a path, bytes or a pydicom Dataset, not from {source!r}")
    return source


def _pour(body: bytes | Stored, file: PendingFile) -> None:
    if not isinstance(body, Stored):
        file.write(body)
        return
    source = FileSource(body)
    try:
        left = body.size
        buffer = memoryview(bytearray(min(left, _CHUNK)))
        while left:
            part = buffer[: min(left, _CHUNK)]
            source.read_into((part,))
            file.write(part)
            left -= len(part)
    finally:
        source.close()
