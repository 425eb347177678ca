"""Where the bytes of a data set come from when it is sent: memory or a file.

A source gives an even number of bytes (PS3.8 E.1, D08): an odd data set gets one NUL behind it. For
deflated data sets this is what PS3.5 A.5 demands; any other odd data set is malformed, and the NUL
lets receivers take it that would abort at an odd fragment (DCMTK's does).

Files are read, never mapped: a file that is cut off while it is sent must be an error, not a SIGBUS.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from dicomnet.errors import DataSetError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dicomnet.dataset.spool import PendingFile

__all__ = ["BytesSource", "FileSource", "Stored", "open_file", "open_stored", "stored"]

_MOST_VIEWS = 1024  # IOV_MAX


class Stored(NamedTuple):
    """A data set of `size` bytes from `offset` on in a file.

    `version` recognises the file (device, inode, size, time of change), so that a file which was replaced
    after its header was read is not taken for it. `pending` keeps a file of the spool from being removed.
    """

    path: str
    offset: int
    size: int
    version: tuple[int, int, int, int]
    pending: PendingFile | None = None


def open_file(path: str) -> tuple[int, os.stat_result]:
    """Open a regular file for reading: descriptor and status. Raises `DataSetError` naming the path."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a FIFO must not block here
    except OSError as error:
        raise DataSetError(f"cannot open {path}: {error.strerror}", path=path) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise DataSetError(f"{path} is not a file", path=path)
    return descriptor, status


def open_stored(described: Stored) -> int:
    """Open the file of a stored data set, and make sure that it is still the one that was described."""
    descriptor, status = open_file(described.path)
    if _version(status) != described.version:
        os.close(descriptor)
        raise DataSetError(
            f"{described.path} was changed after its header had been read; make the data set anew",
            path=described.path,
        )
    return descriptor


def stored(path: str, offset: int, status: os.stat_result, pending: PendingFile | None = None) -> Stored:
    """Describe the data set that begins at `offset` of a file and ends with it."""
    return Stored(path, offset, status.st_size - offset, _version(status), pending)


def _version(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class BytesSource:
    """An encoded data set in memory."""

    __slots__ = ("_at", "_view")

    def __init__(self, data: bytes) -> None:
        self._view = memoryview(data + b"\0" if len(data) & 1 else data)
        self._at = 0

    @property
    def size(self) -> int:
        """Bytes to send, even."""
        return len(self._view)

    def view(self) -> memoryview | None:
        """Return the whole data set, padded."""
        return self._view

    def read_into(self, views: Sequence[memoryview], /) -> None:
        """Fill all `views` with the next bytes; raises `DataSetError` where there are not enough."""
        for view in views:
            end = self._at + len(view)
            if end > len(self._view):
                raise DataSetError(f"the data set has {len(self._view)} bytes only")
            view[:] = self._view[self._at : end]
            self._at = end

    def close(self) -> None:
        """Let go of the bytes."""
        self._view = memoryview(b"")


class FileSource:
    """An encoded data set in a file, read in order into buffers of the caller, many with one system call.

    Raises `DataSetError` where the file cannot be opened or is no longer the one that was described.
    """

    __slots__ = ("_at", "_end", "_file", "_stored", "size")

    def __init__(self, described: Stored) -> None:
        self._file = -1
        self._file = open_stored(described)
        self._stored = described
        self._at = described.offset
        self._end = described.offset + described.size
        self.size = described.size + (described.size & 1)

    def view(self) -> memoryview | None:
        """Return None: the data set is not in memory."""
        return None

    def read_into(self, views: Sequence[memoryview], /) -> None:
        """Fill all `views` with the next bytes; raises `DataSetError` where the file has become shorter."""
        wanted = sum(map(len, views))
        padded = self._at + wanted > self._end
        if padded:
            views, wanted = self._pad(views, wanted)
        while wanted:
            try:
                got = os.preadv(self._file, views[:_MOST_VIEWS], self._at)
            except OSError as error:
                raise self._error(f"cannot be read: {error.strerror}") from error
            if not got:
                raise self._error("became shorter while it was being sent")
            self._at += got
            wanted -= got
            if wanted:
                views = _rest(views, got)
        self._at += padded

    def _pad(self, views: Sequence[memoryview], wanted: int) -> tuple[Sequence[memoryview], int]:
        """Set the byte that makes the data set even, and take it out of what is to be read."""
        if self._at + wanted != self._end + 1 or not self._stored.size & 1:
            raise self._error(f"has a data set of {self._stored.size} bytes only")
        last = views[-1]
        last[-1] = 0
        return [*views[:-1], last[:-1]], wanted - 1

    def _error(self, what: str) -> DataSetError:
        return DataSetError(f"{self._stored.path} {what}", path=self._stored.path)

    def close(self) -> None:
        """Close the file; more than once is fine."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def __del__(self) -> None:
        self.close()


def _rest(views: Sequence[memoryview], filled: int) -> list[memoryview]:
    """Return what is left of `views` behind their first `filled` bytes."""
    rest = list(views)
    at = 0
    while filled >= len(rest[at]):
        filled -= len(rest[at])
        at += 1
    rest[at] = rest[at][filled:]
    return rest[at:]
