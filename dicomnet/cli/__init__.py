"""The `dicomnet` command: echo, store, serve and demo.

It needs click and rich, which come with the extra "cli": `pip install 'dicomnet[cli]'`.
"""

from __future__ import annotations

import importlib.util
import io
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command; exit status 0 for done, 1 for failed, 2 for wrong usage."""
    missing = [name for name in ("click", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"dicomnet: the command needs {' and '.join(missing)}: pip install 'dicomnet[cli]'")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without box drawing gets question marks
    from dicomnet.cli.commands import dicomnet  # noqa: PLC0415

    dicomnet(prog_name="dicomnet")
