"""`dicomnet serve`: a storage server, with a table that is kept up to date or a line for each instance."""

from __future__ import annotations

import logging
import os
import signal
from collections import deque
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dicomnet.cli.options import AsksPassword, set_up
from dicomnet.cli.report import size_text
from dicomnet.cli.show import uid_name
from dicomnet.enums import reject_text
from dicomnet.errors import escape
from dicomnet.scp import StorageScp, StoredInstance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from dicomnet.cli.options import LinkOptions
    from dicomnet.cli.report import Report

__all__ = ["serve"]

_SIGNALS = {signal.SIGINT, signal.SIGTERM}
_DRAIN = 3.0  # seconds that associations get to end after the signal
_ROWS = 12
_TROUBLE: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "link.failed": lambda fields: str(fields["message"]),
    "accept.failed": lambda fields: f"no connections for {fields['pause']} s: {fields['error']}",
    "association.refused": lambda fields: (
        f"association with {fields['peer']} "
        f"{reject_text(fields['result'], fields['source'], fields['reason'])}"
    ),
}
"""The trace events that the operator should know of, and what to say."""


class _Server(AsksPassword, StorageScp):
    """A storage server that shows what it stores."""

    display: _Display

    def on_instance(self, instance: StoredInstance) -> None:
        """Show it. The instance is stored, whether the console still takes it or not (`serve | head`)."""
        with suppress(OSError):
            self.display.instance(instance)


class _Display:
    """Lines of text; nothing for instances where the report is JSON."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def running(self) -> Any:
        """Return the context in which instances are shown."""
        return nullcontext()

    def instance(self, instance: StoredInstance) -> None:
        """An instance was stored."""
        self._report.line(
            f"stored {uid_name(escape(instance.sop_class))}, {size_text(instance.size)}, from "
            f"{escape(instance.calling)} at {instance.peer} as {os.path.basename(instance.path)}"  # noqa: PTH119
        )

    def trouble(self, text: str) -> None:
        """Something went wrong on a link; the server goes on."""
        self._report.notice(text)

    def end(self, server: StorageScp) -> None:
        """The server has ended."""
        self._report.line(_totals(server))


class _Table(_Display):
    """The last instances and the totals, redrawn a few times a second."""

    def __init__(self, report: Report, console: Console, server: StorageScp) -> None:
        super().__init__(report)
        self._console = console
        self._server = server
        self._last: deque[tuple[datetime, StoredInstance]] = deque(maxlen=_ROWS)

    def running(self) -> Any:
        """Return the context in which the table is on the screen."""
        return Live(console=self._console, get_renderable=self._render, refresh_per_second=4)

    def instance(self, instance: StoredInstance) -> None:
        """An instance was stored."""
        self._last.append((datetime.now().astimezone(), instance))

    def trouble(self, text: str) -> None:
        """Print it above the table."""
        self._console.print(Text(" ".join(text.split()), "yellow"))

    def end(self, server: StorageScp) -> None:
        """The last table says it all."""

    def _render(self) -> Group:
        table = Table(box=None, expand=True, header_style="cyan", padding=(0, 1))
        table.add_column("Time", no_wrap=True)
        table.add_column("From", no_wrap=True)
        table.add_column("SOP class", no_wrap=True, ratio=2)
        table.add_column("Size", no_wrap=True, justify="right")
        table.add_column("File", no_wrap=True, ratio=3)
        for time, instance in list(self._last):
            table.add_row(
                f"{time:%H:%M:%S}",
                Text(escape(instance.calling)),
                Text(uid_name(escape(instance.sop_class))),
                size_text(instance.size),
                Text(os.path.basename(instance.path)),  # noqa: PTH119
            )
        server = self._server
        totals = Text(f"{_totals(server)}, {server.get_client_count()} links open", "bold")
        return Group(table, totals) if self._last else Group(totals)


def _totals(server: StorageScp) -> str:
    text = f"{server.stored} instances stored, {size_text(server.stored_bytes)}"
    return f"{text}, {server.failed} failed" if server.failed else text


def serve(report: Report, options: LinkOptions, address: str, port: int, folder: str) -> dict[str, Any]:
    """Store what comes until SIGINT or SIGTERM; then let associations end for a moment."""

    def trace(event: str, fields: Mapping[str, Any]) -> None:
        if event in _TROUBLE:
            display.trouble(_TROUBLE[event](fields))

    server = _Server(
        folder, None, options.security_mode, ae_title=options.aet, timeouts=options.timeouts, trace=trace
    )
    set_up(server, options)
    console = Console()
    live = console.is_terminal and not report.as_json
    server.display = display = _Table(report, console, server) if live else _Display(report)
    with server, _signals_held(), _log_to(display):
        server.listen(address, port)
        server.start()
        announcement = _announcement(server, options)
        report.notice(announcement) if report.as_json else report.line(announcement)
        with display.running():
            signal.sigwait(_SIGNALS)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # a second Ctrl-C waits for nothing
            server.drain(_DRAIN)
            port = server.host_port
            server.close()
    display.end(server)
    return {
        "port": port,
        "folder": server.folder,
        "stored": server.stored,
        "bytes": server.stored_bytes,
        "failed": server.failed,
    }


def _announcement(server: StorageScp, options: LinkOptions) -> str:
    how = "plain TCP"
    if options.tls:
        how = "TLS, any client" if options.no_verify else "TLS, clients need a certificate"
    title = f", AE title {options.aet}" if options.aet else ""
    return f"listening on port {server.host_port} ({how}{title}), storing in {server.folder}; Ctrl-C ends it"


@contextmanager
def _signals_held() -> Iterator[None]:
    """Hold the signals for `sigwait`; the threads started meanwhile inherit that."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _log_to(display: _Display) -> Iterator[None]:
    """Show what the library logs as warning or error, without tracebacks."""
    logger = logging.getLogger("dicomnet")
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: display.trouble(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
