#!/usr/bin/env python3
"""Compares dicomnet with pynetdicom and DCMTK on this machine, over loopback, and prints tables.

A comparison is made of rounds. Each runs all of its programs once, one after the other, and ratios are taken
within a round, so that what else the machine does is the same for all.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import memory
import workload
from peers import Holder, Run, Server, measure, missing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FULL, SMALL = 131072, 16384  # maximum PDU lengths
FEW, BLOCKED = 40, 10  # files for a slow program, and for one that waits 88 ms for each
MB, MIB, KIB = 1e6, 1 << 20, 1 << 10


@dataclass(frozen=True)
class Case:
    """A client that stores CT images at a server."""

    client: str
    server: str = ""
    pdu: int = FULL
    tls: str = ""
    count: int | None = None
    """How many of the files; None is all of them."""

    @property
    def peer(self) -> str:
        """The server's program: the client's own, unless there is another one."""
        return self.server or self.client.removesuffix(" by hand")

    @property
    def title(self) -> str:
        """What the tables call it."""
        to = f" to {self.server}" if self.server else ""
        return f"{self.client}{to}, PDU {self.pdu}" + (f", TLS {self.tls}" if self.tls else "")


@dataclass(frozen=True)
class Group:
    """Cases that are run in the same rounds, and which of them are compared: case, other, ratio wanted."""

    title: str
    comparisons: tuple[tuple[Case, Case, float], ...]

    @property
    def cases(self) -> list[Case]:
        """All cases."""
        return list(dict.fromkeys(case for pair in self.comparisons for case in pair[:2]))


_PLAIN = {pdu: Case("dicomnet", pdu=pdu) for pdu in (FULL, SMALL)}
_TLS = {version: Case("dicomnet", tls=version) for version in ("1.2", "1.3")}
_INSTALLED = Case("DCMTK", count=BLOCKED)
GROUPS = {
    "plain": Group(
        "CT images of 512 KiB, plain",
        (
            (_PLAIN[FULL], Case("pynetdicom", count=FEW), 15),
            (_PLAIN[FULL], Case("DCMTK nodelay"), 1),
            (_PLAIN[SMALL], Case("DCMTK nodelay", pdu=SMALL), 1),
            (Case("dicomnet by hand"), _PLAIN[FULL], 0),
        ),
    ),
    "tls": Group(
        "CT images of 512 KiB, mutual TLS",
        (
            *((case, Case("pynetdicom", tls=version, count=FEW), 15) for version, case in _TLS.items()),
            *((case, Case("dicomnet", pdu=SMALL, tls=version), 0) for version, case in _TLS.items()),
            (_TLS["1.2"], Case("DCMTK nodelay", tls="1.2"), 0),
        ),
    ),
    "installed": Group(
        "CT images of 512 KiB, DCMTK as installed (without TCP_NODELAY)",
        (
            (Case("dicomnet", "DCMTK", count=FEW), _INSTALLED, 20),
            (Case("DCMTK", "dicomnet", count=FEW), _INSTALLED, 20),
        ),
    ),
}


class Benchmark:
    """The workload, the rounds, and what came out so far."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder = folder
        self.options = options
        self.certificates = workload.make_certificates(folder / "certificates")
        self.results: dict[str, Any] = {"machine": f"{platform.machine()}, Python {platform.python_version()}"}

    def speed(self, name: str) -> None:
        """Run a group of cases and print their rates and ratios."""
        group = GROUPS[name]
        images = self.folder / "images"
        if not images.exists():
            workload.make_images(images, self.options.images)
        cases = [case for case in group.cases if not (missing(case.client) or missing(case.peer))]
        runs: dict[Case, list[Run]] = {case: [] for case in cases}
        with ExitStack() as stack:
            servers = {}
            for case in cases:
                key = case.peer, case.pdu, case.tls
                if key not in servers:
                    servers[key] = self._server(*key)
                    stack.callback(servers[key].stop)
            for _ in range(self.options.rounds):
                for case in cases:
                    server = servers[case.peer, case.pdu, case.tls]
                    count = min(case.count or self.options.images, self.options.images)
                    runs[case].append(self._store(case, server, images, count))
        self.results[name] = {case.title: [asdict(run) for run in runs[case]] for case in cases}
        self._print_rates(group, runs)
        self._print_ratios(name, group, runs)

    def _server(self, peer: str, pdu: int, tls: str, out: str = "") -> Server:
        return Server(peer, pdu=pdu, tls=tls, certificates=self.certificates, out=out)

    def _store(self, case: Case, server: Server, files: Path, count: int, more: str = "") -> Run:
        return measure(
            case.client, server, files, count, pdu=case.pdu, tls=case.tls, certificates=self.certificates, more=more
        )

    def _print_rates(self, group: Group, runs: dict[Case, list[Run]]) -> None:
        rows = []
        for case, ran in runs.items():
            rates = [run.bytes / run.seconds / MB for run in ran]
            cpu = statistics.median(run.cpu / run.count for run in ran)
            rows.append((case.title, ran[0].count, _spread(rates, "{:.0f}"), f"{cpu * 1e6:.0f}"))
        table(f"{group.title}, {self.options.rounds} rounds", rows,
              ("case", "files", "MB/s (least-most)", "CPU of both, us per file"))  # fmt: skip

    def _print_ratios(self, name: str, group: Group, runs: dict[Case, list[Run]]) -> None:
        rows = []
        for case, other, wanted in group.comparisons:
            if case in runs and other in runs:
                pairs = zip(runs[case], runs[other], strict=True)
                ratios = [a.bytes / a.seconds / (b.bytes / b.seconds) for a, b in pairs]
                rows.append((f"{case.title} / {other.title}", *self._judged(ratios, wanted, "{:.2f}")))
        table("Ratios", rows, ("rate of one / rate of the other", "median (least-most)", "wanted"))
        rows = []
        for case in runs:
            full = Case(case.client, case.server, FULL, case.tls)
            if case.client == "dicomnet" and case.pdu == SMALL and full in runs:
                costs = [_pdu_cost(a, b) for a, b in zip(runs[case], runs[full], strict=True)]
                rows.append((case.title, *self._judged(costs, 6 if name == "plain" else 0, "{:.1f}")))
        table(f"Cost of each extra PDU ({SMALL} instead of {FULL})", rows, ("case", "us (least-most)", "at most"))

    @staticmethod
    def _judged(values: Sequence[float], wanted: float, form: str) -> tuple[str, str]:
        return _spread(values, form), f"{wanted:g}" if wanted else ""

    def idle(self) -> None:
        """Print what an association costs a server that has nothing to do."""
        rows, count = [], self.options.idle
        for tls in ("", "1.2"):
            server = self._server("dicomnet", FULL, tls)
            try:
                costs = []
                for number in (count // 10, count):  # the first ones fill pools and caches
                    before = memory.resident(server.pid)
                    with Holder("dicomnet", server, number, tls=tls, certificates=self.certificates):
                        costs.append((memory.resident(server.pid) - before) / number / KIB)
            finally:
                server.stop()
            rows.append((f"{count} associations, TLS {tls}" if tls else f"{count} associations", f"{costs[-1]:.1f}", "64"))
            self.results[f"idle {tls}".strip()] = costs[-1]
        table("An idle association", rows, ("case", "KiB of the server's memory for each", "at most"))

    def large(self) -> None:
        """Print the speed of one large object, from file to file, and by how much the processes grew."""
        size = self.options.mebibytes
        files = workload.make_large_object(self.folder / "large", size)
        rows = []
        for tls in ("", "1.2", "1.3"):
            out = self.folder / f"out{tls}"
            out.mkdir()
            server = self._server("dicomnet", FULL, tls, f"--out {out}")
            try:
                before = memory.resident(server.pid)
                memory.reset_peak(server.pid)
                run = self._store(Case("dicomnet", tls=tls), server, files, 1, f"--sop-class {workload.LARGE}")
                grown = memory.peak(server.pid) - before
                same = next(out.iterdir()).stat().st_size >= size * MIB
            finally:
                server.stop()
            next(out.iterdir()).unlink()
            if not same:
                raise RuntimeError("the object did not arrive")
            name = f"dicomnet, TLS {tls}" if tls else "dicomnet"
            rows.append((name, f"{run.bytes / run.seconds / MB:.0f}", f"{run.grown / MIB:.1f}", f"{grown / MIB:.1f}", "64"))
            self.results[f"large {tls}".strip()] = {**asdict(run), "server_grown": grown}
        table(f"One object of {size} MiB, file to file", rows,
              ("case", "MB/s", "client grew by MiB", "server grew by MiB", "at most"))  # fmt: skip


def _pdu_cost(small: Run, full: Run) -> float:
    """Return the microseconds that each PDU more has cost."""
    size = small.bytes // small.count
    extra = sum(sign * -(-size // (pdu - 6)) for sign, pdu in ((1, SMALL), (-1, FULL)))
    return (small.seconds - full.seconds) / small.count / extra * 1e6


def _spread(values: Sequence[float], form: str) -> str:
    return f"{form} ({form}-{form})".format(statistics.median(values), min(values), max(values))


def table(title: str, rows: Sequence[Sequence[Any]], heads: Sequence[str]) -> None:
    """Print a table, if it has rows."""
    if not rows:
        return
    lines = [heads, *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    print(f"\n{title}\n")
    for line in lines:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |", flush=True)


def _folder() -> Path | None:
    memory_file_system = Path("/dev/shm")
    return memory_file_system if memory_file_system.is_dir() else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parts = (*GROUPS, "idle", "large")
    parser.add_argument("parts", nargs="*", help=f"what to measure: {', '.join(parts)}; all by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=300, help="CT images to store")
    parser.add_argument("--idle", type=int, default=200, help="idle associations")
    parser.add_argument("--mebibytes", type=int, default=1024, help="size of the large object")
    parser.add_argument("--folder", type=Path, default=_folder(), help="where the files are made, and removed")
    parser.add_argument("--json", type=Path, help="also write every single measurement to this file")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(parts):
        parser.error(f"there is no part {', '.join(unknown)}")
    names = dict.fromkeys(case for group in GROUPS.values() for one in group.cases for case in (one.client, one.peer))
    for name in names:
        if why := missing(name):
            print(f"without {name}: {why}")
    with tempfile.TemporaryDirectory(prefix="dicomnet-bench-", dir=options.folder) as folder:
        benchmark = Benchmark(Path(folder), options)
        actions: dict[str, Callable[[], None]] = {"idle": benchmark.idle, "large": benchmark.large}
        for part in options.parts or parts:
            actions.get(part, lambda part=part: benchmark.speed(part))()
    if options.json:
        options.json.write_text(json.dumps(benchmark.results, indent=1))


if __name__ == "__main__":
    sys.exit(main())
