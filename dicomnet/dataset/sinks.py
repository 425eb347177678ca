"""Where the data sets of received messages go: memory and spool, a file, nowhere, or a function.

A sink is chosen before the first fragment (`on_data_set`); the rules for its three methods are those of
`dicomnet.protocol.assembler.Sink`. An error of a sink makes its message fail, never the association, and
leaves no file.
"""

from __future__ import annotations

import os
from io import BytesIO
from typing import TYPE_CHECKING, Any

from dicomnet.dataset import part10
from dicomnet.dataset.dataset import DicomDataSet
from dicomnet.dataset.sources import stored
from dicomnet.dataset.spool import IfExists, PendingFile, Spool, failing, new_file
from dicomnet.errors import LimitExceeded

if TYPE_CHECKING:
    from collections.abc import Callable

    from dicomnet.dataset.sources import Stored
    from dicomnet.protocol.command_set import Command
    from dicomnet.protocol.negotiation import Context
    from dicomnet.settings import Limits

__all__ = ["CallableSink", "DiscardSink", "FileSink", "MemorySink"]


class _Origin:
    """What a command and its presentation context say about the data set that follows."""

    __slots__ = ("_command", "_context")

    def __init__(self, context: Context, command: Command) -> None:
        self._context = context
        self._command = command

    def _names(self) -> tuple[str, str]:
        value = self._command.value
        sop_class = value(0x0002) or value(0x0003) or self._context.abstract_syntax
        return sop_class, value(0x1000) or value(0x1001) or ""

    def header(self, source_ae: str) -> bytes:
        return part10.header(*self._names(), self._context.transfer_syntax, source_ae)

    def data_set(self, body: bytes | Stored) -> DicomDataSet:
        sop_class, sop_instance = self._names()
        return DicomDataSet(
            body, self._context.transfer_syntax, sop_class=sop_class, sop_instance=sop_instance
        )


class MemorySink:
    """The default: up to `Limits.memory` bytes in memory, beyond that a file of the link's spool.

    `write` raises `LimitExceeded` beyond `Limits.data_set` or the limit of the spool, and `DataSetError`
    where the spool cannot be written.
    """

    __slots__ = ("_file", "_limits", "_memory", "_offset", "_origin", "_size", "_source_ae", "_spool")

    def __init__(
        self, context: Context, command: Command, limits: Limits, spool: Spool, *, source_ae: str = ""
    ) -> None:
        self._origin = _Origin(context, command)
        self._limits = limits
        self._spool = spool
        self._source_ae = source_ae
        self._memory = BytesIO()
        self._file: PendingFile | None = None
        self._offset = 0
        self._size = 0

    def write(self, fragment: memoryview, /) -> None:
        """Take the next bytes."""
        self._size += len(fragment)
        if self._size > self._limits.data_set:
            raise LimitExceeded(
                f"a data set is longer than {self._limits.data_set} bytes (Limits.data_set)",
                limit="data_set",
                allowed=self._limits.data_set,
                seen=self._size,
            )
        if self._file is None:
            if self._size <= self._limits.memory:
                self._memory.write(fragment)
                return
            self._file = self._spool.new_file()
            self._spill(self._file)
        self._file.write(fragment)

    def _spill(self, file: PendingFile) -> None:
        header = self._origin.header(self._source_ae)
        self._offset = len(header)
        file.write(header)
        file.write(self._memory.getvalue())
        self._memory = BytesIO()

    def finish(self) -> DicomDataSet:
        """Return the data set."""
        if self._file is None:
            return self._origin.data_set(self._memory.getvalue())
        status = self._file.status()
        self._file.close()
        return self._origin.data_set(stored(self._file.path, self._offset, status, self._file))

    def abandon(self) -> None:
        """Free the memory and remove the spool file."""
        self._memory = BytesIO()
        if self._file is not None:
            self._file.remove()


class FileSink:
    """Writes a Part 10 file, which has its name only when it is complete.

    Until then it is in the same folder under a hidden name, which `sweep` recognises after a crash. `exists`
    says what to do where a file of that name is there when the data set is complete: "raise"
    (`DataSetError`), "next" (`x_1.dcm`) or "overwrite". `sync` waits until the file is on the disk. `path` is
    the application's: never put a peer's string into one, but `instance_file_name` of it.

    Raises `DataSetError` where the file cannot be created, written or named; nothing is left then.
    """

    __slots__ = ("_exists", "_file", "_offset", "_origin", "_path", "_sync")

    def __init__(
        self,
        path: str | os.PathLike[str],
        context: Context,
        command: Command,
        *,
        exists: IfExists = "raise",
        sync: bool = False,
        source_ae: str = "",
    ) -> None:
        self._path = os.path.abspath(path)  # noqa: PTH100 - 5 us faster than pathlib
        self._origin = _Origin(context, command)
        self._exists: IfExists = exists
        self._sync = sync
        self._file = new_file(self._path)
        header = self._origin.header(source_ae)
        self._offset = len(header)
        self._file.write(header)

    def write(self, fragment: memoryview, /) -> None:
        """Take the next bytes."""
        self._file.write(fragment)

    def finish(self) -> DicomDataSet:
        """Give the file its name and return it as data set."""
        try:
            status = self._file.status()
            with failing(self._path, "saved"):
                name = self._file.keep(self._path, self._exists, sync=self._sync)
        except BaseException:
            self.abandon()
            raise
        return self._origin.data_set(stored(name, self._offset, status))

    def abandon(self) -> None:
        """Remove what was written."""
        self._file.remove()


class DiscardSink:
    """Drops the data set; the callback gets None."""

    __slots__ = ()

    def write(self, fragment: memoryview, /) -> None:
        """Drop the next bytes."""

    def finish(self) -> None:
        """Return None."""

    def abandon(self) -> None:
        """Do nothing."""


class CallableSink:
    """Gives each fragment to a function, as a `memoryview` that is valid during the call only.

    `finish` is called without arguments when all came, and what it returns is the callback's data set (None
    without it); `abandon` is called where the rest will not come.
    """

    __slots__ = ("_abandon", "_finish", "write")

    def __init__(
        self,
        write: Callable[[memoryview], object],
        finish: Callable[[], Any] | None = None,
        abandon: Callable[[], object] | None = None,
    ) -> None:
        self.write = write
        self._finish = finish
        self._abandon = abandon

    def finish(self) -> Any:
        """Return what the given function returns."""
        return None if self._finish is None else self._finish()

    def abandon(self) -> None:
        """Tell the given function."""
        if self._abandon is not None:
            self._abandon()
