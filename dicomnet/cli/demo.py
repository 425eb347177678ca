"""`dicomnet demo`: a study crosses a mutually authenticated link, and every byte of it is compared.

Server and client are in this process, and speak to each other over the loopback interface as two machines
would: certificates, passwords and DICOM are all real.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import secrets
import shlex
import tempfile
from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dicomnet.cli.authority import make_identities, write_secret
from dicomnet.cli.files import is_instance
from dicomnet.cli.report import CommandFailed, size_text
from dicomnet.cli.show import progress, security_panel, uid_name
from dicomnet.dataset.part10 import read_header
from dicomnet.enums import DicomNetSecurityMode, DicomTlsCertificateType
from dicomnet.scp import StorageScp, StoredInstance
from dicomnet.scu import DicomScp, StoreScu
from dicomnet.tls.settings import DicomOpenSslContextCreationSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dicomnet.association import DicomAssociate
    from dicomnet.cli.report import Report
    from dicomnet.scu import StoreResult
    from dicomnet.security import LinkSecurity

__all__ = ["demo"]

_HOST = "127.0.0.1"
_TITLE = "DEMO-SCP"
_RECEIVED = "received"
_PASSWORD_FILE = "key-password.txt"  # noqa: S105 - its name, not its content


@dataclass(frozen=True)
class _Transfer:
    """A file, and what came of it."""

    path: str
    sop_class: str
    sop_instance: str
    transfer_syntax: str
    size: int
    sent_sha256: str
    received_sha256: str
    stored_as: str
    outcome: str

    @property
    def equal(self) -> bool:
        """True where both ends have the same data set."""
        return self.sent_sha256 == self.received_sha256


class _KeyPassword:
    """Mixin: gives the password of the demo's keys when it is asked for."""

    password = ""

    def on_private_key_password(self, encryption: bool) -> str:  # noqa: ARG002
        """Give it."""
        return self.password


class _Server(_KeyPassword, StorageScp):
    """A storage server that remembers what it stored, in order."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.arrived: deque[StoredInstance] = deque()

    def on_instance(self, instance: StoredInstance) -> None:
        """Remember it."""
        self.arrived.append(instance)


class _Client(_KeyPassword, StoreScu):
    """A storage user that counts its associations and tells of the first one."""

    associations = 0
    security: LinkSecurity
    on_first: Callable[[], object]

    def on_receive_associate_accept(self, association: DicomAssociate) -> None:  # noqa: ARG002
        """Count, and take down what secures the link."""
        self.associations += 1
        self.security = self.link_security()
        if self.associations == 1:
            self.on_first()


def demo(report: Report, *, keep: Path | None, plain: bool, each: bool) -> dict[str, Any]:
    """Send pydicom's files, compare, and tell; raises `CommandFailed` unless all data sets are equal."""
    start = perf_counter()
    console = Console(quiet=report.as_json, highlight=False)
    root, files = _find_files()
    if not files:
        raise CommandFailed(f"there are no DICOM files in {root}: this pydicom was installed without them")
    sizes = {str(path): path.stat().st_size for path in files}
    how = "a plain link" if plain else "a mutually authenticated TLS link"
    console.print(f"[bold]{len(files)} DICOM files cross {how}[/]")
    transfers: list[_Transfer] = []
    with _folder(keep) as folder, _server(folder, plain=plain) as server, _client(folder, server) as client:
        client.on_first = lambda: console.print(
            security_panel(client.link_security(), server.get_client(0).link_security())
        )
        total = sum(sizes.values())
        with progress("Sending", len(files), total, hidden=report.as_json, console=console) as advance:
            for result in client.store_each(files):
                transfers.append(_compare(root, result, server.arrived))
                advance(sizes[result.source])
        security, associations = client.security, client.associations
    seconds = perf_counter() - start
    marks = {True: "✓", False: "✗"} if console.encoding.startswith("utf") else {True: "yes", False: "no"}
    console.print("", (_each_file if each else _by_syntax)(transfers, marks), "", sep="\n")
    different = [transfer for transfer in transfers if not transfer.equal]
    for transfer in different:
        console.print(Text(f"different: {transfer.path}: {transfer.outcome}", "red"))
    _print_totals(console, transfers, associations, seconds)
    if keep is not None:
        _print_kept(console, keep, plain=plain)
    fields: dict[str, Any] = {
        "files": len(transfers),
        "equal": len(transfers) - len(different),
        "associations": associations,
        "seconds": round(seconds, 3),
        "security": security.as_dict() if security.secure else None,
        "results": [{**asdict(transfer), "equal": transfer.equal} for transfer in transfers],
    }
    if different:
        problem = f"{len(different)} of {len(transfers)} data sets did not arrive as they were"
        raise CommandFailed(problem, **fields)
    return fields


def _find_files() -> tuple[Path, list[Path]]:
    """Return pydicom's data folder and the DICOM instances in it; pydicom itself is not imported for that."""
    spec = importlib.util.find_spec("pydicom")
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent / "data"
    return root, [path for path in sorted(root.rglob("*")) if path.is_file() and is_instance(path)]


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Give the folder for certificates and received files: a temporary one, or the one to keep."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="dicomnet-demo-") as folder:
        yield Path(folder)


@contextmanager
def _server(folder: Path, *, plain: bool) -> Iterator[_Server]:
    """Run a storage server on a free port of the loopback interface."""
    mode = DicomNetSecurityMode.NONE if plain else DicomNetSecurityMode.TLS
    with _Server(folder / _RECEIVED, None, mode, ae_title=_TITLE) as server:
        if not plain:
            password = secrets.token_urlsafe(12)
            make_identities(folder, password.encode())
            write_secret(folder / _PASSWORD_FILE, password.encode() + b"\n")
            _secure(server, folder, "server")
        server.listen(_HOST, 0)
        server.start()
        yield server


def _client(folder: Path, server: _Server) -> _Client:
    """Make the client for it."""
    scp = DicomScp(_HOST, _TITLE, server.host_port)
    client = _Client(scp, None, server.security_mode, ae_title="DEMO-SCU")
    if server.security_mode is DicomNetSecurityMode.TLS:
        _secure(client, folder, "client")
    return client


def _secure(net: _Server | _Client, folder: Path, role: str) -> None:
    """Give an end its certificate and the CA that the other end's certificate must come from."""
    certificate, key = folder / f"{role}.pem", folder / f"{role}.key"
    net.password = (folder / _PASSWORD_FILE).read_text().strip()
    creation = DicomOpenSslContextCreationSettings(certification_authorities_file_name=folder / "ca.pem")
    net.initialize(None, DicomNetSecurityMode.TLS, creation)
    net.set_tls_client_certificate(certificate, DicomTlsCertificateType.PEM, key)


def _compare(root: Path, result: StoreResult, arrived: deque[StoredInstance]) -> _Transfer:
    """Compare what was sent with what the server has stored of it: one association, so one at a time."""
    instance = arrived.popleft() if result.stored else None
    sent, received = _digest(result.source), _digest(instance.path) if instance is not None else ""
    return _Transfer(
        str(Path(result.source).relative_to(root)),
        result.sop_class,
        result.sop_instance,
        result.transfer_syntax,
        result.size,
        sent,
        received,
        os.path.basename(instance.path) if instance is not None else "",  # noqa: PTH119
        "the server has stored other bytes" if received not in ("", sent) else result.outcome,
    )


def _digest(path: str) -> str:
    """Return the SHA-256 of a file's data set; one of odd length counts with the NUL that makes it even.

    Fragments have even lengths (PS3.8 E.1), so such a data set gets that NUL on its way, as PS3.5 A.5
    demands of deflated ones.
    """
    data_set = Path(path).read_bytes()[read_header(path).offset :]
    return hashlib.sha256(data_set + bytes(len(data_set) % 2)).hexdigest()


def _by_syntax(transfers: list[_Transfer], marks: dict[bool, str]) -> Table:
    """Return a table with a row for each transfer syntax."""
    groups: dict[str, list[_Transfer]] = {}
    for transfer in transfers:
        groups.setdefault(transfer.transfer_syntax, []).append(transfer)
    table = _table("Transfer syntax", "SOP classes", "Files", "Size", "Equal")
    for syntax, group in sorted(groups.items(), key=lambda item: -len(item[1])):
        equal = sum(transfer.equal for transfer in group)
        (most, _), *others = Counter(uid_name(transfer.sop_class) for transfer in group).most_common()
        table.add_row(
            _syntax_name(syntax),
            f"{most} +{len(others)}" if others else most,
            str(len(group)),
            size_text(sum(transfer.size for transfer in group)),
            _verdict(equal == len(group), f"{equal} {marks[equal == len(group)]}"),
        )
    return table


def _each_file(transfers: list[_Transfer], marks: dict[bool, str]) -> Table:
    """Return a table with a row for each file."""
    table = _table("File", "Transfer syntax", "SHA-256", "Size", "Equal")
    table.columns[0].no_wrap, table.columns[0].overflow = False, "fold"  # its end tells files apart
    table.columns[1].max_width = 16
    for transfer in transfers:
        table.add_row(
            transfer.path.removeprefix("test_files/"),
            _syntax_name(transfer.transfer_syntax),
            transfer.sent_sha256[:8],
            size_text(transfer.size),
            _verdict(transfer.equal, marks[transfer.equal]),
        )
    return table


def _syntax_name(uid: str) -> str:
    return uid_name(uid).replace("Little Endian", "LE").replace("Big Endian", "BE")


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="cyan", show_edge=False, pad_edge=False, expand=True)
    for name in columns:
        number = name in ("Files", "Size", "Equal")
        flexible = 1 if name in ("File", "SOP classes") else None
        table.add_column(name, justify="right" if number else "left", no_wrap=True, ratio=flexible)
    return table


def _verdict(equal: bool, text: str) -> Text:
    return Text(text, "green" if equal else "red")


def _print_totals(console: Console, transfers: list[_Transfer], associations: int, seconds: float) -> None:
    equal = sum(transfer.equal for transfer in transfers)
    size = size_text(sum(transfer.size for transfer in transfers))
    uids = len({transfer.sop_instance for transfer in transfers})
    style = "bold green" if equal == len(transfers) else "bold red"
    console.print(f"[{style}]{equal} of {len(transfers)} data sets are equal on both sides (SHA-256).[/]")
    console.print(
        f"{len(transfers)} files with {uids} SOP instance UIDs, {size}, {associations} "
        f"association{'s' * (associations != 1)}, {seconds:.1f} s in all."
    )


def _print_kept(console: Console, folder: Path, *, plain: bool) -> None:
    """Say what can be done with the folder that was kept."""
    console.print(f"\nThe received files are in {folder / _RECEIVED}.", soft_wrap=True)
    if not plain:
        ca, certificate, key, password = (
            shlex.quote(str(folder / name)) for name in ("ca.pem", "server.pem", "server.key", _PASSWORD_FILE)
        )
        console.print("The certificates serve a server of your own, too:")
        line = f"dicomnet serve 11112 --dir in --tls --ca {ca} --cert {certificate} --key {key}"
        console.print(Text(f"{line} --key-password-file {password}", "cyan"), soft_wrap=True)
