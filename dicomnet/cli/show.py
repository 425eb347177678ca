"""What the commands draw with rich: the secure link, a progress bar, names for UIDs."""

from __future__ import annotations

import functools
import re
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from dicomnet.protocol.wire import is_valid_uid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dicomnet.security import LinkSecurity

__all__ = ["progress", "security_line", "security_panel", "uid_name"]


def security_line(security: LinkSecurity) -> str:
    """Return what secures a link, in one line."""
    if not security.secure:
        return "the link is not secured: plain TCP"
    peer = security.peer_certificate
    who = f"peer {peer.subject} {_verified(security)}" if peer is not None else "peer without certificate"
    return f"{security.version} {security.suite}, {who}"


def _verified(security: LinkSecurity) -> str:
    if not security.peer_verified:
        return "NOT verified"
    return f"verified as {security.peer_name}" if security.peer_name else "verified"


def security_panel(client: LinkSecurity, server: LinkSecurity) -> Panel:
    """Return a table of everything that secures a link, as seen from its two ends."""
    security = client
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="cyan", no_wrap=True)
    grid.add_column(overflow="fold")
    if not security.secure:
        grid.add_row("Encryption", Text("none: everything can be read on the way", "yellow"))
        grid.add_row("Identity", Text("neither end proves who it is", "yellow"))
        return Panel(grid, title="Plain link", title_align="left", border_style="yellow")
    secrecy = "forward secrecy" if security.forward_secrecy else "no forward secrecy"
    exchange = " ".join(filter(None, (security.key_exchange, security.group)))
    key = f", {security.encryption_key_length}-bit key" if security.encryption_key_length else ""
    met = [f"{verdict.section} {verdict.title}" for verdict in security.profiles_met if verdict.current]
    grid.add_row("Version", security.version)
    grid.add_row("Cipher suite", security.suite)
    grid.add_row("Key exchange", f"{exchange}, {secrecy}")
    grid.add_row("Authentication", security.authentication)
    grid.add_row("Encryption", f"{security.encryption}{key}")
    grid.add_row("Integrity", security.integrity)
    grid.add_row("PS3.15 profile", "\n".join(met) or Text("none that is current", "yellow"))
    grid.add_row("Server", _certificate(client))
    grid.add_row("Client", _certificate(server))
    return Panel(grid, title="Secure link", title_align="left", border_style="green")


def _certificate(seen: LinkSecurity) -> Text:
    """Describe the peer's certificate as one end sees it."""
    certificate = seen.peer_certificate
    if certificate is None:
        return Text("no certificate", "yellow")
    until = datetime.fromisoformat(certificate.not_after)
    details = (
        f"{certificate.key_type} {certificate.key_bits} bits, expires {until:%Y-%m-%d}, {_verified(seen)}"
    )
    return Text.assemble(certificate.subject, "\n", (details, "dim"))


@contextmanager
def progress(
    what: str, files: int, size: int, *, hidden: bool = False, console: Console | None = None
) -> Iterator[Callable[[int], None]]:
    """Show a progress bar, on stderr unless a console is given; tell the function each file's size."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[done]}/{task.fields[files]} files"),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    where = console or Console(stderr=True)
    hidden = hidden or (console is None and not where.is_terminal)
    with Progress(*columns, console=where, disable=hidden) as bar:
        task = bar.add_task(what, total=size, files=files, done=0)
        done = 0

        def advance(length: int) -> None:
            nonlocal done
            done += 1
            bar.update(task, advance=length, done=done)

        yield advance


# What the names of PS3.6 have in common, or what only tells variants apart that hardly anybody uses.
_REDUNDANT = re.compile(r" Image Compression| \(Process [^)]*\)|, Non-Hierarchical.*|( Image)? Storage$")


def uid_name(uid: str) -> str:
    """Return the name that PS3.6 gives to a UID, shortened, or the UID; a peer may send what is none."""
    return _name(uid) if is_valid_uid(uid) else uid


@functools.lru_cache(maxsize=256)
def _name(uid: str) -> str:
    from pydicom.uid import UID  # noqa: PLC0415 - takes a fifth of a second

    return _REDUNDANT.sub("", UID(uid).name)
