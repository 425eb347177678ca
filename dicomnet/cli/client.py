"""`dicomnet echo` and `dicomnet store`."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from dicomnet import errors
from dicomnet.cli.files import find
from dicomnet.cli.options import AsksPassword, set_up
from dicomnet.cli.report import CommandFailed, size_text
from dicomnet.cli.show import progress, security_line
from dicomnet.protocol.status import describe
from dicomnet.scu import DicomConnection, DicomScp, StoreResult, StoreScu

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dicomnet.cli.files import Found
    from dicomnet.cli.options import LinkOptions
    from dicomnet.cli.report import Report

__all__ = ["echo", "store"]

_FAILURES_SHOWN = 20


class _EchoScu(AsksPassword, DicomConnection):
    """Verification with a password prompt."""


class _StoreScu(AsksPassword, StoreScu):
    """Storage with a password prompt; it remembers what secured its link."""

    security: dict[str, Any] | None = None

    def on_secure_link_ready(self, error: int) -> None:
        """Take down the link's security while there is a link."""
        if not error:
            self.security = self.link_security().as_dict()


_Scu = TypeVar("_Scu", _EchoScu, _StoreScu)


def _made(kind: type[_Scu], options: LinkOptions, host: str, port: int) -> _Scu:
    """Make a service user for a peer as the options say."""
    scp = DicomScp(host, options.aec, port)
    scu = kind(scp, None, options.security_mode, ae_title=options.aet, timeouts=options.timeouts)
    set_up(scu, options)
    return scu


def echo(report: Report, options: LinkOptions, host: str, port: int) -> dict[str, Any]:
    """Do a C-ECHO and tell how it went."""
    scu = _made(_EchoScu, options, host, port)
    start = perf_counter()
    with scu:
        connected = perf_counter()
        status = scu.echo()
        answered = perf_counter()
        security = scu.link_security()
    fields: dict[str, Any] = {
        "host": host,
        "port": port,
        "called": options.aec,
        "calling": options.aet,
        "status": int(status),
        "connect_seconds": round(connected - start, 6),
        "echo_seconds": round(answered - connected, 6),
        "security": security.as_dict() if security.secure else None,
    }
    where = f"{options.aec} at {host}:{port}"
    if status:
        raise CommandFailed(f"{where} answered C-ECHO with {describe(status)}", **fields)
    report.line(
        f"{where} answered in {(answered - connected) * 1000:.1f} ms "
        f"(association open after {(connected - start) * 1000:.0f} ms)"
    )
    report.line(security_line(security))
    return fields


def store(report: Report, options: LinkOptions, host: str, port: int, paths: Iterable[str]) -> dict[str, Any]:
    """Store files and tell what became of them."""
    found = find(paths)
    if not found.files:
        skipped = found.skipped
        raise CommandFailed(f"no DICOM file found, and {skipped} other files left out", skipped=skipped)
    scu = _made(_StoreScu, options, host, port)
    results: list[StoreResult] = []
    start = perf_counter()
    cause: errors.DicomException | None = None
    size = sum(found.files.values())
    with progress("Sending", len(found.files), size, hidden=report.as_json) as advance, scu:
        try:
            for result in scu.store_each(found.files):
                results.append(result)
                advance(found.files[result.source])
        except errors.DicomException as error:
            if not results:
                raise
            cause = error
    return _tell(report, found, results, perf_counter() - start, scu.security, cause)


def _tell(
    report: Report,
    found: Found,
    results: list[StoreResult],
    seconds: float,
    security: dict[str, Any] | None,
    cause: errors.DicomException | None,
) -> dict[str, Any]:
    """Print the totals and what failed; `cause` is what ended the link early."""
    stored = [result for result in results if result.stored]
    failed = [result for result in results if not result.stored]
    done = {result.source for result in results}
    size = sum(result.size for result in stored)
    fields: dict[str, Any] = {
        "files": len(found.files),
        "stored": len(stored),
        "failed": len(found.files) - len(stored),
        "skipped": found.skipped,
        "bytes": size,
        "seconds": round(seconds, 6),
        "security": security,
        "results": [
            *(_as_dict(result) for result in results),
            *(_as_dict(StoreResult(path)) for path in found.files if path not in done),
        ],
    }
    for result in failed[:_FAILURES_SHOWN]:
        report.line(f"not stored: {result}")
    if len(failed) > _FAILURES_SHOWN:
        report.line(f"not stored: {len(failed) - _FAILURES_SHOWN} more")
    left_out = f"; {found.skipped} other files left out" if found.skipped else ""
    report.line(
        f"stored {len(stored)} of {len(found.files)} files, {size_text(size)} in {seconds:.2f} s "
        f"({size_text(size / seconds)}/s){left_out}"
    )
    total = len(found.files)
    if cause is not None:
        raise CommandFailed(f"{len(stored)} of {total} files were stored, then: {cause}", cause, **fields)
    if failed:
        first = "first" if len(failed) > 1 else "namely"
        raise CommandFailed(f"{len(failed)} of {total} files were not stored, {first} {failed[0]}", **fields)
    return fields


def _as_dict(result: StoreResult) -> dict[str, Any]:
    return {
        "path": result.source,
        "sop_class": result.sop_class,
        "sop_instance": result.sop_instance,
        "transfer_syntax": result.transfer_syntax,
        "bytes": result.size,
        "stored": result.stored,
        "status": None if result.status is None else int(result.status),
        "outcome": result.outcome,
    }
