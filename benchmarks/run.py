"""Compares dicomnet with pynetdicom and DCMTK on this machine, over loopback, and prints tables.

A comparison is made of rounds. Each runs all of its programs once, one after the other, and ratios are taken
within a round, so that what else the machine does is the same for all.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import memory
import workload
from peers import Holder, Run, Server, measure, missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

FULL, SMALL = 131072, 16384  # maximum PDU lengths
SLOW, FEW, BLOCKED = 100, 40, 10  # files for pynetdicom, with DCMTK at one end, and with DCMTK at both
LARGE_ROUNDS = 3
MB, MIB, KIB = 1e6, 1 << 20, 1 << 10
MEMORY = Path("/dev/shm")


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
            (_PLAIN[FULL], Case("pynetdicom", count=SLOW), 15),
            (_PLAIN[FULL], Case("DCMTK nodelay"), 1),
            (_PLAIN[SMALL], Case("DCMTK nodelay", pdu=SMALL), 1),
            (Case("dicomnet by hand"), _PLAIN[FULL], 0),
        ),
    ),
    "tls": Group(
        "CT images of 512 KiB, mutual TLS",
        (
            *((case, Case("pynetdicom", tls=version, count=SLOW), 15) for version, case in _TLS.items()),
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
        machine = f"{platform.machine()}, {os.cpu_count()} processors"
        self.results: dict[str, Any] = {"machine": f"{machine}, Python {platform.python_version()}"}

    def speed(self, name: str) -> None:
        """Run a group of cases in rounds; print their rates and ratios."""
        group, count = GROUPS[name], self.options.images
        images = self.folder / "images"
        if not images.exists():
            workload.make_images(images, count)
        cases = [case for case in group.cases if not (missing(case.client) or missing(case.peer))]
        runs: dict[Case, list[Run]] = {case: [] for case in cases}
        with ExitStack() as stack:
            servers = {key: self._server(*key) for key in {(case.peer, case.pdu, case.tls) for case in cases}}
            for server in servers.values():
                stack.callback(server.stop)
            for number in range(self.options.rounds):
                for case in cases[:: -1 if number % 2 else 1]:
                    server = servers[case.peer, case.pdu, case.tls]
                    runs[case].append(self._store(case, server, images, min(case.count or count, count)))
        self.results[name] = {case.title: [asdict(run) for run in runs[case]] for case in cases}
        self._print_rates(group, runs)
        self._print_ratios(group, runs)
        self._print_pdu_costs(runs)

    def _server(self, peer: str, pdu: int, tls: str, *more: str) -> Server:
        return Server(peer, pdu=pdu, tls=tls, certificates=self.certificates, more=more)

    def _store(self, case: Case, server: Server, files: Path, count: int, *more: str) -> Run:
        secure = {"tls": case.tls, "certificates": self.certificates}
        return measure(case.client, server, files, count, pdu=case.pdu, more=more, **secure)

    def _print_rates(self, group: Group, runs: dict[Case, list[Run]]) -> None:
        rows = []
        for case, ran in runs.items():
            cpu = statistics.median(run.cpu / run.count for run in ran) * 1e6
            rate = spread([run.bytes / run.seconds / MB for run in ran], "{:.0f}")
            rows.append((case.title, ran[0].count, rate, f"{cpu:.0f}"))
        heads = ("client and server", "files", "MB/s (least-most)", "CPU of both, us per file")
        table(f"{group.title}, {self.options.rounds} rounds", heads, rows)

    @staticmethod
    def _print_ratios(group: Group, runs: dict[Case, list[Run]]) -> None:
        rows = []
        for case, other, wanted in group.comparisons:
            pairs = zip(runs.get(case, ()), runs.get(other, ()), strict=False)
            ratios = [a.bytes / a.seconds / (b.bytes / b.seconds) for a, b in pairs]
            if ratios:
                rows.append((f"{case.title} / {other.title}", spread(ratios, "{:.2f}"), wanted or ""))
        table("How many times as fast", ("one / other", "median (least-most)", "wanted"), rows)

    @staticmethod
    def _print_pdu_costs(runs: dict[Case, list[Run]]) -> None:
        rows = []
        for case, ran in runs.items():
            full = runs.get(replace(case, pdu=FULL))
            if case.client == "dicomnet" and case.pdu == SMALL and full:
                pairs = list(zip(ran, full, strict=True))
                time = spread([(a.seconds - b.seconds) / extra_pdus(a) * 1e6 for a, b in pairs], "{:.1f}")
                cpu = spread([(a.cpu - b.cpu) / extra_pdus(a) * 1e6 for a, b in pairs], "{:.1f}")
                rows.append((case.title, time, cpu, 6))
        heads = ("client and server", "time, us (least-most)", "CPU of both, us (least-most)", "at most")
        table(f"Cost of an extra PDU (PDU {SMALL} against {FULL})", heads, rows)

    def idle(self) -> None:
        """Print what an association costs a server that has nothing to do."""
        rows, count = [], self.options.idle
        for tls, limit in (("", 64), ("1.2", ""), ("1.3", "")):
            server = self._server("dicomnet", FULL, tls)
            try:
                self._hold(server, tls, count // 10)  # the first ones fill pools and caches
                cost = self._hold(server, tls, count)
            finally:
                server.stop()
            self.results[f"idle {tls}".strip()] = cost
            rows.append((f"TLS {tls}" if tls else "plain", f"{cost / KIB:.1f}", limit))
        table(f"An idle association, of {count}", ("link", "KiB of the server's memory", "at most"), rows)

    def _hold(self, server: Server, tls: str, count: int) -> float:
        before = memory.resident(server.pid)
        with Holder("dicomnet", server, count, tls=tls, certificates=self.certificates):
            return (memory.resident(server.pid) - before) / count

    def large(self) -> None:
        """Print how fast one large object goes from file to file, and by how much the processes grow."""
        size, rows = self.options.mebibytes, []
        files = workload.make_large_object(self.folder / "large", size)
        for tls in ("", "1.2", "1.3"):
            runs = self._store_large(tls, files)
            self.results[f"large {tls}".strip()] = [
                {**asdict(run), "server_grown": grown} for run, grown in runs
            ]
            rate = spread([run.bytes / run.seconds / MB for run, _ in runs], "{:.0f}")
            client = f"{max(run.grown for run, _ in runs) / MIB:.1f}"
            server = f"{max(grown for _, grown in runs) / MIB:.1f}"
            rows.append((f"TLS {tls}" if tls else "plain", rate, client, server, 64))
        heads = ("link", "MB/s (least-most)", "the client grows by MiB", "the server by MiB", "at most")
        table(f"One object of {size} MiB, from file to file, {LARGE_ROUNDS} times", heads, rows)

    def _store_large(self, tls: str, files: Path) -> list[tuple[Run, int]]:
        """Return the runs, each with the bytes by which the server grew."""
        out = self.folder / f"out{tls}"
        out.mkdir()
        server, runs = self._server("dicomnet", FULL, tls, "--out", str(out)), []
        try:
            for _ in range(LARGE_ROUNDS):
                before = memory.resident(server.pid)
                memory.reset_peak(server.pid)
                run = self._store(Case("dicomnet", tls=tls), server, files, 1, "--sop-class", workload.LARGE)
                runs.append((run, memory.peak(server.pid) - before))
                (stored,) = out.iterdir()
                if stored.stat().st_size < self.options.mebibytes * MIB:
                    raise RuntimeError("the object did not arrive")
                stored.unlink()
        finally:
            server.stop()
        return runs


def extra_pdus(run: Run) -> int:
    """Return how many more PDUs the files of a run take with the small maximum than with the full one."""
    size = run.bytes // run.count
    return run.count * (math.ceil(size / (SMALL - 6)) - math.ceil(size / (FULL - 6)))


def spread(values: Sequence[float], form: str) -> str:
    """Return median, least and most."""
    return f"{form} ({form}-{form})".format(statistics.median(values), min(values), max(values))


def table(title: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table, unless it has no rows."""
    lines = [heads, *([str(cell) for cell in row] for row in rows)]
    if len(lines) == 1:
        return
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    print(f"\n{title}\n")
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print(f"| {' | '.join(cells)} |", flush=True)


def folder_for(mebibytes: int) -> Path | None:
    """Return where the files are made: in memory where there is room, so that no disk is measured."""
    room = 3 * mebibytes * MIB
    return MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > room else None


def main() -> None:
    parts = (*GROUPS, "idle", "large")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"what to measure, all by default: {', '.join(parts)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=300, help="CT images to store (300)")
    parser.add_argument("--idle", type=int, default=200, help="idle associations (200)")
    parser.add_argument("--mebibytes", type=int, default=1024, help="size of the large object (1024)")
    parser.add_argument("--folder", type=Path, help="where the files are made (and removed again)")
    parser.add_argument("--json", type=Path, help="also write every single measurement to this file")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(parts):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    cases = [case for group in GROUPS.values() for case in group.cases]
    for name in dict.fromkeys(name for case in cases for name in (case.client, case.peer)):
        if why := missing(name):
            print(f"without {name}: {why}")
    folder = options.folder or folder_for(options.mebibytes)
    with tempfile.TemporaryDirectory(prefix="dicomnet-bench-", dir=folder) as work:
        benchmark = Benchmark(Path(work), options)
        print(benchmark.results["machine"])
        actions: dict[str, Callable[[], None]] = {name: partial(benchmark.speed, name) for name in GROUPS}
        actions |= {"idle": benchmark.idle, "large": benchmark.large}
        for part in options.parts or parts:
            actions[part]()
    if options.json:
        options.json.write_text(json.dumps(benchmark.results, indent=1))


if __name__ == "__main__":
    main()
