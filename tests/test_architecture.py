"""The shape of the package: who may import whom, how long things may be, and what stays out of it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "dicomnet"
MODULES = sorted(PACKAGE.rglob("*.py"))

LEVELS: tuple[tuple[str, ...], ...] = (
    ("_version", "enums"),
    ("errors",),
    ("settings", "trace"),
    ("transport", "protocol"),
    ("tls",),
    ("link", "listener", "association", "dataset"),
    ("callbacks", "messages", "security"),
    ("dispatch",),
    ("net",),
    ("scu", "scp"),
    ("dicomnet",),  # the public names
    ("cli", "leadtools"),
)
"""From the bottom up. A room imports from lower levels only: not from above, and not from beside it."""

LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}

ONLY_IN = {
    "OpenSSL": {"tls"},
    "ssl": set(),
    "pydicom": {"dataset", "cli"},
    "click": {"cli"},
    "rich": {"cli"},
}
"""Libraries that only these rooms import; the UID tables of pydicom are open to all but `protocol`."""

IMPURE = {
    "OpenSSL", "asyncio", "concurrent", "cryptography", "datetime", "logging", "multiprocessing", "os",
    "pydicom", "queue", "select", "selectors", "signal", "socket", "ssl", "subprocess", "threading", "time",
    "dicomnet.trace", "dicomnet.transport",
}  # fmt: skip
"""What `protocol` does not import: no socket, thread, clock, logger, file, or library that has them."""

MODULE_LINES = 700
FUNCTION_LINES = 60


def room_of(path: Path) -> str:
    top = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "dicomnet" if top == "__init__" else top


def imports(source: str) -> Iterator[str]:
    """Every module that is imported anywhere, but for what only a type checker sees."""
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            if module == "dicomnet":
                yield from (
                    module if alias.name not in LEVEL else f"dicomnet.{alias.name}" for alias in node.names
                )
            else:
                yield module
        waiting += ast.iter_child_nodes(node)


def is_or_is_in(module: str, parent: str) -> bool:
    return module == parent or module.startswith(parent + ".")


def wrong_arrows(room: str, source: str) -> list[str]:
    wrong = []
    for module in imports(source):
        if module.startswith("."):
            wrong.append(f"{room}: relative import {module}")
        elif is_or_is_in(module, "dicomnet"):
            target = [*module.split("."), "dicomnet"][1]
            if target not in LEVEL or (target != room and LEVEL[target] >= LEVEL[room]):
                wrong.append(f"{room} -> {target}")
    return wrong


def wrong_libraries(room: str, source: str) -> list[str]:
    wrong = []
    for module in imports(source):
        library = module.partition(".")[0]
        tables = is_or_is_in(module, "pydicom.uid") or is_or_is_in(module, "pydicom._uid_dict")
        if library in ONLY_IN and room not in ONLY_IN[library] and not tables:
            wrong.append(f"{room} imports {module}")
        if room == "protocol" and any(is_or_is_in(module, impure) for impure in IMPURE):
            wrong.append(f"protocol is pure, but imports {module}")
    return wrong


def long_functions(source: str) -> list[tuple[str, int]]:
    """Names and lengths, without docstring and decorators, of the functions that are too long."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            first = node.body[0]
            if ast.get_docstring(node, clean=False) is not None:
                length -= (first.end_lineno or 0) - first.lineno + 1
            if length > FUNCTION_LINES:
                found.append((node.name, length))
    return found


def sleeps(source: str) -> bool:
    return any(
        (isinstance(node, ast.Attribute) and node.attr == "sleep")
        or (isinstance(node, ast.ImportFrom) and any(alias.name == "sleep" for alias in node.names))
        for node in ast.walk(ast.parse(source))
    )


def texts() -> Iterator[Path]:
    """Every text file of the project that somebody wrote."""
    for path in sorted(ROOT.rglob("*")):
        inside = path.relative_to(ROOT).parts
        built = {"build", "dist"} & set(inside)
        hidden = built or any(p.startswith((".", "__pycache__")) or p.endswith(".egg-info") for p in inside)
        if not hidden and path.suffix in {
            ".py",
            ".md",
            ".toml",
            ".cfg",
            ".txt",
            ".rst",
            ".yml",
            ".yaml",
            ".json",
            ".sh",
        }:
            yield path


# --- the package ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
class TestModule:
    def test_imports_from_lower_levels_only(self, path: Path) -> None:
        assert room_of(path) in LEVEL, "a new room: give it its place in LEVELS"
        assert wrong_arrows(room_of(path), path.read_text()) == []

    def test_imports_libraries_where_they_belong(self, path: Path) -> None:
        assert wrong_libraries(room_of(path), path.read_text()) == []

    def test_is_not_too_long(self, path: Path) -> None:
        assert len(path.read_text().splitlines()) <= MODULE_LINES
        assert long_functions(path.read_text()) == []

    def test_says_what_it_is_for(self, path: Path) -> None:
        assert ast.get_docstring(ast.parse(path.read_text()))

    def test_does_not_sleep(self, path: Path) -> None:
        assert not sleeps(path.read_text())


def test_every_room_of_the_levels_is_a_name_once() -> None:
    assert len(LEVEL) == sum(map(len, LEVELS))


def test_nothing_is_tied_to_the_machine_that_it_was_written_on() -> None:
    anywhere = (Path("/"), Path("/tmp"))
    places = [place for place in (ROOT.parent, Path.home()) if place not in anywhere]
    patterns = [re.compile(rf"(?<![\w.-]){re.escape(str(place))}(?![\w.-])") for place in places]
    found = [(path, p.pattern) for path in texts() for p in patterns if p.search(path.read_text())]
    assert found == []


@pytest.mark.parametrize("module", ["dicomnet", "dicomnet.cli"])
def test_importing_it_does_not_import_what_is_slow_or_optional(module: str) -> None:
    slow = {"pydicom", "numpy"} | (set() if module == "dicomnet.cli" else {"click", "rich"})
    code = f"import sys, {module}; print(*sorted({slow!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("", "")


# --- the rules themselves ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("room", "source", "wrong"),
    [
        ("net", "from dicomnet.link import Link", []),
        ("link", "from dicomnet.net import DicomNet", ["link -> net"]),
        ("link", "import dicomnet.net", ["link -> net"]),
        ("link", "def f():\n    from dicomnet.net import DicomNet", ["link -> net"]),
        ("link", "from dicomnet import errors, net", ["link -> net"]),
        ("link", "from dicomnet import DicomNet", ["link -> dicomnet"]),
        ("link", "import dicomnet", ["link -> dicomnet"]),
        ("link", "from dicomnet.listener import Listener", ["link -> listener"]),
        ("link", "from dicomnet.unheard_of import x", ["link -> unheard_of"]),
        ("link", "from . import net", ["link: relative import ."]),
        (
            "link",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from dicomnet.net import DicomNet",
            [],
        ),
        ("link", "if TYPE_CHECKING:\n    pass\nelse:\n    import dicomnet.net", ["link -> net"]),
        ("cli", "from dicomnet import DicomNet, errors", []),
        ("cli", "from dicomnet.leadtools import DicomNet", ["cli -> leadtools"]),
        ("tls", "from dicomnet.tls.suite import Suite", []),
        ("transport", "from dicomnet.protocol.wire import Reader", ["transport -> protocol"]),
    ],
)
def test_finds_wrong_arrows(room: str, source: str, wrong: list[str]) -> None:
    assert wrong_arrows(room, source) == wrong


@pytest.mark.parametrize(
    ("room", "source", "count"),
    [
        ("tls", "from OpenSSL import SSL", 0),
        ("net", "from OpenSSL import SSL", 1),
        ("tls", "import ssl", 1),
        ("dataset", "import pydicom", 0),
        ("scp", "import pydicom", 1),
        ("scp", "from pydicom.uid import ImplicitVRLittleEndian", 0),
        ("protocol", "from pydicom.uid import ImplicitVRLittleEndian", 1),
        ("protocol", "import struct, enum", 0),
        ("protocol", "from time import monotonic", 1),
        ("protocol", "import logging.handlers", 1),
        ("protocol", "from dicomnet.trace import logger", 1),
        ("scu", "import rich.table", 1),
    ],
)
def test_finds_libraries_out_of_place(room: str, source: str, count: int) -> None:
    assert len(wrong_libraries(room, source)) == count


def test_counts_functions_without_their_docstrings() -> None:
    body = "    x = 1\n" * (FUNCTION_LINES - 1)
    docstring = '    """First.\n\n    Last.\n    """\n'
    assert long_functions(f"@property\ndef f():\n{docstring}{body}") == []
    assert long_functions(f"def f():\n{docstring}{body}    x = 2\n") == [("f", FUNCTION_LINES + 1)]
    method = "    async def f(self):\n" + "        x = 1\n" * FUNCTION_LINES
    assert long_functions(f"class C:\n{method}") == [("f", FUNCTION_LINES + 1)]


@pytest.mark.parametrize(
    "source", ["import time\ntime.sleep(1)", "from time import sleep", "import time as t\nt.sleep(0)"]
)
def test_finds_sleeps(source: str) -> None:
    assert sleeps(source)
