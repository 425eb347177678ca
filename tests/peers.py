"""Programs of other makers as peers: started on a free port, stopped by their own handle, their logs kept.

`serve` starts a server and waits until it listens without connecting to it, `client` runs a program to its
end. `SHIPPED` are the DICOM files that come with pydicom, `on_wire` what of a file has to cross a link.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydicom
import pytest

from dicomnet import DicomNet, DicomNetSecurityMode, DicomOpenSslContextCreationSettings
from dicomnet.cli.files import find
from dicomnet.dataset import DicomDataSet
from dicomnet.scp import StorageLink, StorageScp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dicomnet import LinkSecurity
    from dicomnet.scp import StoredInstance

LOCAL = "127.0.0.1"
PORT = "{port}"
"""Among the arguments of a server: the port that was found for it."""

LONG = 60.0  # seconds that nothing here should need
_LISTENING = "0A"
_ATTEMPTS = 3  # a free port can be taken by somebody else before the program takes it
_NO_DELAY = {"TCP_NODELAY": "1"}  # without it DCMTK and Orthanc wait 40 ms and more for each message


def path_of(program: str) -> str | None:
    """Return where a program is, None where it is not.

    An environment's own folder does not count: pynetdicom has programs of the same names there.
    """
    own = os.path.dirname(sys.executable)
    return shutil.which(program, path=os.pathsep.join(place for place in os.get_exec_path() if place != own))


def needs(*programs: str) -> pytest.MarkDecorator:
    """Return the mark that skips a test where one of these programs is missing, and says which."""
    missing = [program for program in programs if path_of(program) is None]
    if not os.path.exists("/proc/net/tcp"):
        missing.append("/proc/net/tcp")
    return pytest.mark.skipif(bool(missing), reason=f"not on this machine: {', '.join(missing)}")


# --- programs --------------------------------------------------------------------------------------


@dataclass
class Served:
    """A server that is running: its port and its log."""

    port: int
    process: subprocess.Popen[bytes]
    log_file: Path

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self.log_file.read_text(errors="replace")

    def stop(self) -> None:
        """End it with SIGTERM."""
        self.process.terminate()

    def join(self) -> None:
        """Wait until it has ended."""
        try:
            self.process.wait(LONG)
        finally:
            self.process.kill()
            self.process.wait()


def free_port() -> int:
    """Return a loopback port that is free now."""
    with socket.create_server((LOCAL, 0)) as probe:
        return probe.getsockname()[1]


def launch(
    folder: Path, program: str, *arguments: object, no_delay: bool = True, fill_in: Path | None = None
) -> Served:
    """Start a server in `folder` and return when it listens on the port put in place of `PORT`.

    The port is put into the configuration file `fill_in`, too. The log is in `folder`. The caller ends the
    server with `stop` and `join`.
    """
    template = fill_in.read_text() if fill_in else ""
    for attempt in range(_ATTEMPTS):
        port = free_port()
        if fill_in:
            fill_in.write_text(template.replace(f'"{PORT}"', str(port)))
        log_file = folder / f"{os.path.basename(program)}-{port}.log"
        command = [
            path_of(program) or program,
            *(str(argument).replace(PORT, str(port)) for argument in arguments),
        ]
        with open(log_file, "wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(no_delay),
                cwd=folder,
            )
        served = Served(port, process, log_file)
        if _listens(process, port):
            return served
        served.stop()
        served.join()
        if attempt == _ATTEMPTS - 1:
            pytest.fail(f"{' '.join(command)} does not listen:\n{served.log}")
    raise AssertionError


@contextmanager
def serve(folder: Path, program: str, *arguments: object, no_delay: bool = True) -> Iterator[Served]:
    """Run a server for the length of the block; its log is shown when the block fails."""
    served = launch(folder, program, *arguments, no_delay=no_delay)
    try:
        yield served
    except BaseException:
        sys.stderr.write(f"--- log of {program} ---\n{served.log}")
        raise
    finally:
        served.stop()
        served.join()


def client(
    program: str, *arguments: object, no_delay: bool = True, text: str = "", limit: float = LONG
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; `stdout` of the result holds its error output as well."""
    return subprocess.run(
        [path_of(program) or program, *map(str, arguments)],
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        timeout=limit,
        check=False,
        env=_environment(no_delay),
    )


def succeed(program: str, *arguments: object, **options: Any) -> str:
    """Run a program that has to end with 0, and return its output."""
    done = client(program, *arguments, **options)
    assert done.returncode == 0, f"{program} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def _environment(no_delay: bool) -> dict[str, str]:
    bare = {name: value for name, value in os.environ.items() if name not in _NO_DELAY}
    return {**bare, **_NO_DELAY} if no_delay else bare


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until the process listens; False if it ends before."""
    until = time.monotonic() + LONG
    while process.poll() is None and time.monotonic() < until:
        if _listening_sockets(port) & _sockets_of(process.pid):
            return True
        time.sleep(0.005)
    return False


def _listening_sockets(port: int) -> set[str]:
    """Return the inodes of the sockets that listen on a port."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if os.path.exists(table):
            rows = [line.split() for line in Path(table).read_text().splitlines()[1:]]
            found |= {
                row[9] for row in rows if row[3] == _LISTENING and int(row[1].rpartition(":")[2], 16) == port
            }
    return found


def _sockets_of(process: int) -> set[str]:
    found = set()
    try:
        for descriptor in os.listdir(f"/proc/{process}/fd"):
            target = os.readlink(f"/proc/{process}/fd/{descriptor}")
            if target.startswith("socket:["):
                found.add(target[8:-1])
    except FileNotFoundError:  # closed or ended while we looked
        pass
    return found


# --- our side --------------------------------------------------------------------------------------


def secure(net: DicomNet, certs: Path, name: str | None, *, ca: str = "ca.pem", **options: Any) -> None:
    """Switch TLS on, with the certificate `name` of the `certs` folder and a CA file of it."""
    creation = DicomOpenSslContextCreationSettings(certification_authorities_file_name=certs / ca, **options)
    net.initialize(None, DicomNetSecurityMode.TLS, creation)
    if name is not None:
        net.set_tls_client_certificate(certs / f"{name}.pem", path_to_key_file=certs / f"{name}.key")


class StoreLink(StorageLink):
    """A link that tells its server how it was secured."""

    def on_secure_link_ready(self, error: int) -> None:
        if not error:
            self.scp.secured.append(self.link_security())


class Store(StorageScp):
    """A storage server that remembers what it stored, and how its links were secured."""

    link_class = StoreLink

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.instances: list[StoredInstance] = []
        self.secured: list[LinkSecurity] = []

    def on_instance(self, instance: StoredInstance) -> None:
        self.instances.append(instance)

    @property
    def contents(self) -> Counter[tuple[str, str]]:
        """What was stored, as `contents` counts it."""
        assert all(digest(stored.path)[0] == stored.transfer_syntax for stored in self.instances)
        return contents(stored.path for stored in self.instances)


@contextmanager
def listening(server: DicomNet) -> Iterator[DicomNet]:
    """Let a server of ours accept on a free port for the length of the block."""
    server.listen(LOCAL, 0)
    server.start()
    try:
        yield server
    finally:
        server.close()


@contextmanager
def store(
    folder: Path, certs: Path | None = None, name: str = "server", *, ca: str = "ca.pem", **options: Any
) -> Iterator[Store]:
    """Run a storage server of ours, with TLS where it gets certificates."""
    server = Store(folder, **options)
    if certs is not None:
        secure(server, certs, name, ca=ca)
    with listening(server):
        yield server


# --- files -----------------------------------------------------------------------------------------


SHIPPED = tuple(find([str(Path(pydicom.__file__).parent / "data")]).files)
"""The DICOM instances that come with pydicom, in twelve transfer syntaxes."""


def on_wire(path: str | Path) -> tuple[str, bytes]:
    """Return transfer syntax and data set of a file; a NUL makes the latter even (PS3.8 E.1)."""
    with DicomDataSet(path) as data_set:
        encoded = data_set.encoded
        return data_set.transfer_syntax, encoded + bytes(len(encoded) % 2)


@functools.cache
def digest(path: str | Path) -> tuple[str, str]:
    """Return transfer syntax and SHA-256 of what `on_wire` returns; a path must not be used twice."""
    syntax, data = on_wire(path)
    return syntax, hashlib.sha256(data).hexdigest()


def contents(paths: Iterable[str | Path]) -> Counter[tuple[str, str]]:
    """Count the digests of files: where the counts are equal, the same bytes are in them, as often."""
    return Counter(map(digest, paths))


def by_syntax() -> dict[str, list[str]]:
    """Return the shipped files by their transfer syntax."""
    found: dict[str, list[str]] = {}
    for path in SHIPPED:
        found.setdefault(digest(path)[0], []).append(path)
    return found
