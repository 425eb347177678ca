"""What the files around the package say: README, changelog, packaging, and the script that checks it all."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dicomnet

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("dicomnet", "tests", "samples", "benchmarks", "docs")
README = (ROOT / "README.md").read_text(encoding="utf-8")
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
VERSIONS = [f"3.{minor}" for minor in range(10, 14)]

DISTRIBUTION = {"OpenSSL": "pyopenssl"}  # else it is called as its module
FIRST_SCREEN = 30  # lines


def written() -> list[Path]:
    """Every file of the project that somebody wrote."""
    found = [path for path in ROOT.iterdir() if path.suffix in {".md", ".toml", ".cfg", ".in"}]
    found += [ROOT / "LICENSE", ROOT / ".gitignore", ROOT / ".ci" / "run"]
    for room in ROOMS:
        found += [path for path in (ROOT / room).rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return sorted(found)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def requirements(lines: list[str]) -> set[str]:
    """Names of the distributions that are required, as they are compared."""
    return {re.split(r"[^\w.-]", line, maxsplit=1)[0].lower().replace("_", "-") for line in lines}


# --- README ----------------------------------------------------------------------------------------


def test_readme_has_two_commands_on_its_first_screen() -> None:
    lines = README.splitlines()
    commands = [line for line in lines[:FIRST_SCREEN] if line.startswith("python3 -m venv .venv && ")]
    assert [command.split()[-1] for command in commands] == ["demo", "pytest"]
    assert commands == [line for line in lines if "-m venv" in line], "there are two, and nothing beside them"
    extras = [re.search(r" install (?:-e )?'\.\[(\w+)\]'", command) for command in commands]
    assert [extra and extra[1] for extra in extras] == ["cli", "test"]


@pytest.mark.parametrize("last", ["demo", "pytest"])
def test_ci_runs_the_commands_of_readme(last: str) -> None:
    function = re.search(r"^readme_command\(\) \{.*\}$", CI, re.MULTILINE)
    assert function, "the function that reads them is one line"
    assert f"$(readme_command {last})" in CI
    done = subprocess.run(
        ["bash", "-c", f"{function[0]}; readme_command {last}"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.count("\n") == 1
    assert done.stdout.strip() in README.splitlines()


@pytest.mark.parametrize(
    "page", [path for path in written() if path.suffix == ".md"], ids=lambda path: path.name
)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in anchors
        elif "://" not in target:
            assert (page.parent / target).exists(), target


def test_readme_links_to_what_a_newcomer_needs() -> None:
    targets = set(re.findall(r"\]\(([^)#]+)\)", README))
    assert {"samples", "docs/index.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"} <= targets


# --- versions --------------------------------------------------------------------------------------


def test_changelog_begins_with_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+)", changelog, re.MULTILINE)
    assert newest
    assert newest[1] == dicomnet.__version__


def test_every_place_names_the_same_pythons() -> None:
    project = PROJECT["project"]
    assert project["requires-python"] == f">={VERSIONS[0]}"
    classifiers = [c.rpartition(" ")[2] for c in project["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert classifiers == VERSIONS
    assert f'pythons="{" ".join(VERSIONS)}"' in CI
    assert f"Python {VERSIONS[0]} to {VERSIONS[-1]}" in README
    assert f"Python {VERSIONS[0]} or newer" in README
    assert PROJECT["tool"]["ruff"]["target-version"] == "py" + VERSIONS[0].replace(".", "")


# --- packaging -------------------------------------------------------------------------------------


def test_the_extras_are_those_that_readme_names() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    assert set(extras) == {"cli", "test"}
    assert requirements(extras["cli"]) == {"click", "rich"}
    assert "dicomnet[cli]" in extras["test"]


def imported(folder: Path) -> set[str]:
    """Top-level names that the modules of a folder import when they run."""
    found = set()
    for path in folder.rglob("*.py"):
        waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
        while waiting:
            node = waiting.pop()
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                continue
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
            waiting += ast.iter_child_nodes(node)
    return found - set(sys.stdlib_module_names)


def test_what_the_package_imports_is_what_it_requires() -> None:
    modules = imported(ROOT / "dicomnet") - {"dicomnet"}
    needed = {DISTRIBUTION.get(module, module.replace("_", "-")) for module in modules}
    project = PROJECT["project"]
    wanted = requirements(project["dependencies"]) | requirements(project["optional-dependencies"]["cli"])
    assert needed == wanted


def test_every_requirement_has_a_lower_bound() -> None:
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["cli"], *extras["test"]]
    assert [line for line in lines if not re.search(r"[>~]=", line)] == ["dicomnet[cli]"]


def test_the_command_is_there() -> None:
    module, _, function = PROJECT["project"]["scripts"]["dicomnet"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_type_checkers_are_told_of_the_types() -> None:
    assert (ROOT / "dicomnet" / "py.typed").is_file()
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"]["dicomnet"]


# --- the script that checks a change ---------------------------------------------------------------


def test_ci_stops_at_the_first_failure_and_ends_nothing_by_name() -> None:
    assert re.search(r"^set -euo pipefail$", CI, re.MULTILINE)
    assert not re.search(r"\b(pkill|killall)\b", CI)
    subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=True)


# --- what is nobody's business ---------------------------------------------------------------------

PRIVATE = {
    "a path of one machine": r"(?<![\w.~-])/(?:home|root|Users|[w]ork)(?![\w-])",
    "a ticket of a tracker": r"(?i)\b(?:issue|ticket)\s+#?\d|\bissues?\s+#",
    "a section of a page that is not here": r"(?i)\b(?:design|facts|baseline|checklist)(?:\.md)?,?\s+§",
    "a host of a package registry": r"(?i)\b(?:pypi|pythonhosted|npmjs|deb\.debian)\.(?:org|com)\b",
}


@pytest.mark.parametrize("what", PRIVATE)
def test_no_file_names(what: str) -> None:
    pattern = re.compile(PRIVATE[what])
    found = [
        f"{name(path)}: {match[0]}"
        for path in written()
        for match in [pattern.search(path.read_text(encoding="utf-8", errors="replace"))]
        if match
    ]
    assert found == []


def test_every_page_that_is_named_is_here() -> None:
    pages = {path.name for path in written()}
    found = [
        f"{name(path)}: {page}"
        for path in written()
        for page in re.findall(r"\b[\w-]+\.md\b", path.read_text(encoding="utf-8", errors="replace"))
        if page not in pages
    ]
    assert found == []


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("a path of one machine", "see /" + "work/notes"),
        ("a path of one machine", "open('/" + "root/x.pem')"),
        ("a ticket of a tracker", "as iss" + "ue 2 wants"),
        ("a section of a page that is not here", "trap 8 of facts" + " §D"),
        ("a host of a package registry", "https://py" + "pi.org/simple"),
    ],
)
def test_finds_what_is_private(what: str, text: str) -> None:
    assert re.search(PRIVATE[what], text)
