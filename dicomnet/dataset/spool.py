"""Files in the making: the spool for received data sets, and the names that files get.

A `PendingFile` is removed unless it is kept: when it is given up, when the last reference to it goes, at
the end of the interpreter. What a killed process leaves behind is recognised by its name and by the lock
that nobody holds any more, and `sweep` removes it. The lock is the judge, not the process id in the name:
processes in different containers can share a folder and have the same id.

Spool files are in a folder of mode 0700, one for each process, so they themselves can have the permissions
that the umask asks for, and keeping one is a rename.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import os
import re
import secrets
import shutil
import stat
import tempfile
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Literal

from dicomnet.errors import DataSetError, LimitExceeded
from dicomnet.settings import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import FileIO

__all__ = ["IfExists", "PendingFile", "Spool", "failing", "instance_file_name", "new_file", "sweep"]

IfExists = Literal["raise", "next", "overwrite"]
"""Where a file of that name is there already: raise `DataSetError`, take the next free name (`x_1.dcm`), or
replace it."""

_PREFIX = ".dicomnet-"
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_FILE_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*")


def instance_file_name(sop_instance: str, suffix: str = ".dcm") -> str:
    """Return a file name for a SOP instance that is safe whatever the peer sent as its UID.

    Digits and dots, at most 64 characters, no empty component: the name is the UID. Any other text gets a
    generated name, always the same for the same text; no text at all, a new one each time.
    """
    if len(sop_instance) <= 64 and _FILE_UID.fullmatch(sop_instance):
        return sop_instance + suffix
    if not sop_instance:
        return f"no-uid-{secrets.token_hex(8)}{suffix}"
    digest = hashlib.sha256(sop_instance.encode("utf-8", "surrogatepass")).hexdigest()
    return f"bad-uid-{digest[:32]}{suffix}"


@contextlib.contextmanager
def failing(path: str, what: str) -> Iterator[None]:
    """Turn the system's errors about a file into `DataSetError`; `what` completes "cannot be ..."."""
    try:
        yield
    except OSError as error:
        raise _failure(path, what, error) from error


def _failure(path: str, what: str, error: OSError) -> DataSetError:
    hint = "; choose with exists= what to do then" if error.errno == errno.EEXIST else ""
    return DataSetError(f"{path} cannot be {what}: {error.strerror}{hint}", path=path)


# --- files that are removed unless they are kept ---------------------------------------------------


class PendingFile:
    """A new file being written. `path` is where it is now, `target` the name for error messages.

    A file that cannot be written is removed at once: `DataSetError` names the target, and nothing is left.
    """

    __slots__ = ("__weakref__", "_file", "_finalizer", "_removed", "path", "target")

    def __init__(
        self, path: str, target: str, file: FileIO, removed: Callable[[], object] | None = None
    ) -> None:
        self.path = path
        self.target = target
        self._file = file
        self._removed = removed
        self._finalizer = weakref.finalize(self, _remove, os.getpid(), path, file, removed)

    def write(self, data: bytes | memoryview) -> None:
        """Append all of `data`. Raises `DataSetError`, for example when the disk is full."""
        try:
            written = self._file.write(data)
            while written < len(data):
                data = memoryview(data)[written:]
                written = self._file.write(data)
        except OSError as error:
            self.remove()
            raise _failure(self.target, "written", error) from error

    def status(self) -> os.stat_result:
        """Return the status of the file, all that was written included."""
        return os.fstat(self._file.fileno())

    def close(self) -> None:
        """Close the file and leave it pending."""
        try:
            self._file.close()
        except OSError as error:
            self.remove()
            raise _failure(self.target, "written", error) from error

    def keep(self, path: str, exists: IfExists = "raise", *, sync: bool = False) -> str:
        """Give the file its name, by a rename, and return it (with "next" it may differ from `path`).

        `sync` waits until bytes and name are on the disk. Raises `OSError`; the file is then still pending.
        EXDEV means that `path` is on another file system. A file that is still open is closed after the
        rename: its lock protects it from a sweep until then.
        """
        if sync:
            _sync(self.path)
        name = _rename(self.path, path, exists)
        try:
            self._file.close()
        except OSError:  # a full disk can show here first (NFS, quota)
            os.unlink(name)  # noqa: PTH108
            raise
        if self._finalizer.detach() and self._removed is not None:
            self._removed()
        self.path = name
        if sync:
            _sync(os.path.dirname(name) or ".")  # noqa: PTH120
        return name

    def remove(self) -> None:
        """Remove the file; nothing happens where it was kept or removed before."""
        self._finalizer()


def _remove(process: int, path: str, file: FileIO, removed: Callable[[], object] | None) -> None:
    with contextlib.suppress(OSError):  # close may report what write could not (NFS, quota)
        file.close()
    if process != os.getpid():  # a forked child has the object too, but not the file
        return
    with contextlib.suppress(OSError):
        os.unlink(path)  # noqa: PTH108
    if removed is not None:
        removed()


def _rename(source: str, target: str, exists: IfExists) -> str:
    if exists == "overwrite":
        os.replace(source, target)  # noqa: PTH105
        return target
    for name in _names(target) if exists == "next" else (target,):
        with contextlib.suppress(FileExistsError):
            _rename_to_new(source, name)
            return name
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def _rename_to_new(source: str, target: str) -> None:
    """Rename without ever replacing: a link, or where the file system has none, a name reserved before."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        try:
            os.replace(source, target)  # noqa: PTH105
        except OSError:
            os.unlink(target)  # noqa: PTH108
            raise
    else:
        os.unlink(source)  # noqa: PTH108


def _names(target: str) -> Iterator[str]:
    """Yield `target`, some numbered names, and one that nobody has: a peer may send one UID for ever."""
    stem, suffix = os.path.splitext(target)  # noqa: PTH122
    yield target
    yield from (f"{stem}_{number}{suffix}" for number in range(1, 100))
    yield f"{stem}_{secrets.token_hex(8)}{suffix}"


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def new_file(target: str) -> PendingFile:
    """Create a pending file in the folder of `target`, hidden and locked while it is open."""
    folder = os.path.dirname(target) or "."  # noqa: PTH120
    with failing(target, "created"):
        while True:
            path = f"{folder}/{_PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
            file = open(path, "xb", buffering=0)  # noqa: PTH123, SIM115 - the pending file closes it
            _lock(file.fileno())
            if os.path.exists(path):  # noqa: PTH110 - else a sweep was faster than our lock
                return PendingFile(path, target, file)
            file.close()


# --- leftovers -----------------------------------------------------------------------------------


def sweep(folder: str | os.PathLike[str]) -> int:
    """Remove from a folder what killed processes left there, and return how many things that were.

    Files and spool folders of living processes, of this one too, and of other users are not touched. Where
    the file system has no locks, nothing is removed. Run it when a server starts, on each folder it stores
    into; a `Spool` does it by itself. Raises `DataSetError` where the folder cannot be read.
    """
    folder = os.fspath(folder)
    with failing(folder, "swept"), os.scandir(folder) as entries:
        leftovers = [entry.path for entry in entries if entry.name.startswith(_PREFIX)]
    return sum(map(_remove_leftover, leftovers))


def _remove_leftover(path: str) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid():
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISDIR(status.st_mode):
            shutil.rmtree(path)
        else:
            os.unlink(path)  # noqa: PTH108
        return True
    except OSError:  # locked: its process lives
        return False
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # not every file system has locks
        fcntl.flock(descriptor, fcntl.LOCK_EX)


# --- the spool -----------------------------------------------------------------------------------


class Spool:
    """Where one link puts received data sets that are too long for memory.

    `folder` is any folder, by default TMPDIR or /var/tmp, because /tmp is often memory. `limit` is what all
    spool files of this object may hold at a time, in bytes (`Limits.spool`).
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, limit: int = Limits.spool) -> None:
        self.folder = os.fspath(folder) if folder is not None else _default_folder()
        self.limit = limit
        self._lock = threading.Lock()
        self._held = 0
        self._freed: deque[int] = deque()  # a finalizer may run anywhere, so it must not take the lock

    @property
    def held(self) -> int:
        """Bytes in spool files now."""
        return self._reserve(0)

    def new_file(self) -> SpoolFile:
        """Create a spool file. Raises `DataSetError` where that fails."""
        with failing(self.folder, "used as spool"):
            folder = _private_folder(self.folder)
            path = f"{folder.path}/{next(_numbers)}.dcm"
            file = open(path, "xb", buffering=0)  # noqa: PTH123, SIM115 - the spool file closes it
        return SpoolFile(path, file, self, folder)

    def _reserve(self, size: int) -> int:
        with self._lock:
            while self._freed:
                self._held -= self._freed.popleft()
            held = self._held + size
            if held > self.limit:
                raise LimitExceeded(
                    f"the spool {self.folder} would hold {held} bytes; Limits.spool allows {self.limit}",
                    limit="spool",
                    allowed=self.limit,
                    seen=held,
                )
            self._held = held
            return held


class SpoolFile(PendingFile):
    """A pending file that counts against the limit of its spool and keeps its folder alive."""

    __slots__ = ("_folder", "_size", "_spool")

    def __init__(self, path: str, file: FileIO, spool: Spool, folder: _Folder) -> None:
        self._spool = spool
        self._folder = folder
        self._size = size = [0]
        freed = spool._freed
        super().__init__(path, path, file, lambda: freed.append(size[0]))

    def write(self, data: bytes | memoryview) -> None:
        """Append all of `data`. Raises `LimitExceeded` where the spool's limit does not allow it."""
        self._spool._reserve(len(data))
        self._size[0] += len(data)
        super().write(data)


class _Folder:
    """A folder of this process alone, locked as long as it is there; it goes with the last file in it."""

    __slots__ = ("__weakref__", "path")

    def __init__(self, parent: str) -> None:
        while True:
            self.path = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent)
            descriptor = os.open(self.path, os.O_RDONLY)
            _lock(descriptor)
            if os.path.exists(self.path):  # noqa: PTH110 - else a sweep was faster than our lock
                break
            os.close(descriptor)
        weakref.finalize(self, _remove_folder, os.getpid(), self.path, descriptor)


def _remove_folder(process: int, path: str, descriptor: int) -> None:
    if process == os.getpid():
        shutil.rmtree(path, ignore_errors=True)
    os.close(descriptor)


_numbers = itertools.count()
_folders: weakref.WeakValueDictionary[tuple[int, str], _Folder] = weakref.WeakValueDictionary()
_folders_lock = threading.Lock()


def _private_folder(parent: str) -> _Folder:
    """Return this process' own folder within `parent`, which is swept before it is made."""
    key = os.getpid(), os.path.abspath(parent)  # noqa: PTH100
    with _folders_lock:
        folder = _folders.get(key)
        if folder is None or not os.path.isdir(folder.path):  # noqa: PTH112 - a cleaner may have been at it
            sweep(parent)
            folder = _folders[key] = _Folder(key[1])
        return folder


def _default_folder() -> str:
    given = os.environ.get("TMPDIR")
    return given or ("/var/tmp" if os.access("/var/tmp", os.W_OK | os.X_OK) else tempfile.gettempdir())  # noqa: S108
