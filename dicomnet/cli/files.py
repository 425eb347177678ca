"""Which files there are to send."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dicomnet import errors
from dicomnet.dataset.part10 import read_header

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Found", "find", "is_instance"]

_MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"


@dataclass
class Found:
    """The files that the arguments lead to, with their sizes; `skipped` counts what is no instance."""

    files: dict[str, int] = field(default_factory=dict)
    skipped: int = 0


def find(paths: Iterable[str]) -> Found:
    """Return the files among `paths`, and the DICOM instances in the folders among them."""
    found = Found()
    for path in paths:
        inside = os.path.isdir(path)  # noqa: PTH112 - paths as the user gave them
        for file in _walk(path) if inside else [path]:
            if inside and not is_instance(file):
                found.skipped += 1
            else:
                found.files[file] = os.stat(file).st_size  # noqa: PTH116
    return found


def _walk(folder: str) -> Iterator[str]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            yield os.path.join(parent, name)  # noqa: PTH118


def is_instance(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file can be stored; a DICOMDIR is the index of its medium and cannot."""
    if not os.path.isfile(path):  # noqa: PTH113 - opening a FIFO would block
        return False
    try:
        header = read_header(path)
    except errors.DataSetError:
        return False
    return bool(header.sop_instance) and header.sop_class not in ("", _MEDIA_DIRECTORY)
