"""The programs that are compared: how each is started, and what one run of it costs."""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PEERS", "Holder", "Peer", "Run", "Server", "measure", "missing"]

_HERE = Path(__file__).parent
_DCMTK = ("storescu", "storescp")
_READY = 20.0  # seconds that a server gets to start
_LIMIT = 300.0  # seconds that a client gets


@dataclass(frozen=True)
class Peer:
    """Command lines of a server and a client, with {placeholders}, and what has to be there for them.

    {secure}, {paths} and {more} stand for any number of arguments. With a `module` it is one of our own
    programs: its server prints its port, and its client what it has measured.
    """

    serve: str
    store: str
    tls: str
    module: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


def _python(module: str, options: str = "") -> Peer:
    program = f"{{python}} {{here}}/{module}_peer.py"
    client = "--port {port} --pdu {pdu} --files {files} --count {count}"
    return Peer(
        f"{program} serve --pdu {{pdu}} {{secure}} {{more}}",
        f"{program} store {client} {options} {{secure}} {{more}}",
        "--tls {tls} --key {key} --cert {cert} --ca {ca}",
        module,
    )


def _dcmtk(**environment: str) -> Peer:
    return Peer(
        "{storescp} --ignore -dhl -pdu {pdu} {secure} {port}",
        "{storescu} -R -xe -pdu {pdu} {secure} 127.0.0.1 {port} {paths}",
        "+tls {key} {cert} +cf {ca} +cs TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        environment=environment,
    )


PEERS = {
    "dicomnet": _python("dicomnet"),
    "dicomnet by hand": _python("dicomnet", "--plain"),
    "pynetdicom": _python("pynetdicom"),
    "DCMTK": _dcmtk(),
    "DCMTK nodelay": _dcmtk(TCP_NODELAY="1"),
}


def _find(name: str) -> str | None:
    """Return the path of a program of DCMTK's; pynetdicom installs others under the same names."""
    for folder in os.get_exec_path():
        path = shutil.which(name, path=folder)
        if path is not None:
            shown = subprocess.run([path, "--version"], capture_output=True, check=False)
            if b"dcmtk" in shown.stdout:
                return path
    return None


_PROGRAMS = {"python": sys.executable, "here": str(_HERE), **{name: _find(name) for name in _DCMTK}}


def missing(name: str) -> str:
    """Return why a peer cannot take part, or "" if it can."""
    module = PEERS[name].module
    if not module:
        absent = [program for program in _DCMTK if _PROGRAMS[program] is None]
        return f"no {' and '.join(absent)} of DCMTK in the PATH" if absent else ""
    there = module == "dicomnet" or importlib.util.find_spec(module) is not None
    return "" if there else f"the Python package {module} is not installed"


def _command(peer: Peer, template: str, side: str, **values: Any) -> tuple[list[str], dict[str, str]]:
    """Return arguments and environment; `values["tls"]` and `["certificates"]` make it a secure one."""
    lists = {"{secure}": "", "{paths}": values.get("paths", ()), "{more}": values.get("more", ())}
    if values.get("tls"):
        folder = values["certificates"]
        values |= {"key": f"{folder}/{side}.key", "cert": f"{folder}/{side}.crt", "ca": f"{folder}/ca.crt"}
        lists["{secure}"] = peer.tls.split()
    values |= _PROGRAMS
    words = [inner for word in template.split() for inner in lists.get(word, [word])]
    path = os.pathsep.join(filter(None, (str(_HERE.parent), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, **peer.environment}
    return [str(word).format(**values) for word in words], environment


class Server:
    """A running server process, ended by `stop`."""

    def __init__(self, name: str, **values: Any) -> None:
        peer = PEERS[name]
        self.port = 0
        if not peer.module:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        arguments, environment = _command(peer, peer.serve, "server", port=self.port, **values)
        self._process = subprocess.Popen(
            arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.pid = self._process.pid
        if peer.module:
            assert self._process.stdout is not None
            self.port = int(self._process.stdout.readline() or 0)
        self._wait(" ".join(arguments))

    def _wait(self, command: str) -> None:
        until = time.monotonic() + _READY
        while time.monotonic() < until and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        self.stop()
        raise RuntimeError(f"the server does not answer: {command}")

    def cpu(self) -> float:
        """Return the CPU seconds that the process has used."""
        return time.clock_gettime(~self.pid << 3 | 2)  # its CPU clock, as clock_getcpuclockid(3) makes it

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


class Holder:
    """A client process that holds idle associations while the `with` block runs."""

    def __init__(self, name: str, server: Server, count: int, **values: Any) -> None:
        peer = PEERS[name]
        template = peer.store.replace(" store ", " hold ")
        arguments, environment = _command(
            peer, template, "client", port=server.port, pdu=131072, files=".", count=count, **values
        )
        self._process = subprocess.Popen(
            arguments, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> None:
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise RuntimeError("the associations could not be made")

    def __exit__(self, *_error: object) -> None:
        self._process.communicate("")


@dataclass(frozen=True)
class Run:
    """What storing `count` files cost."""

    seconds: float
    cpu: float
    """CPU seconds of client and server together."""
    count: int = 0
    bytes: int = 0
    grown: int = 0
    """Bytes by which the client's resident set grew at most, where it tells."""


def _call(peer: Peer, **values: Any) -> Run:
    """Run a client to its end: what it says itself, or what the whole process took."""
    arguments, environment = _command(peer, peer.store, "client", **values)
    started, used = time.perf_counter(), _children_cpu()
    done = subprocess.run(
        arguments, env=environment, capture_output=True, text=True, timeout=_LIMIT, check=False
    )
    seconds, cpu = time.perf_counter() - started, _children_cpu() - used
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)[:300]} failed:\n{done.stderr[-1000:]}")
    if peer.module:
        return Run(**json.loads(done.stdout.splitlines()[-1]))
    return Run(seconds, cpu)


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(name: str, server: Server, files: Path, count: int, **values: Any) -> Run:
    """Store the first `count` files of a folder with a client at a server.

    A program that does not measure itself is also run with one file, which is then left out: that takes off
    the start of its process, the association and its end.
    """
    peer = PEERS[name]
    paths = sorted(files.iterdir())[:count]
    values = {**values, "files": files, "port": server.port}
    start, done = Run(0, 0), 0
    if not peer.module:
        start, done = _call(peer, count=1, paths=paths[:1], **values), 1
    before = server.cpu()
    run = _call(peer, count=count, paths=paths, **values)
    cpu = run.cpu + server.cpu() - before - start.cpu
    size = sum(path.stat().st_size for path in paths[done:])
    return Run(max(run.seconds - start.seconds, 1e-6), cpu, len(paths) - done, size, run.grown)
