"""How a command tells its outcome: text or one JSON object on stdout, one line on stderr where it failed."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from dicomnet import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["CommandFailed", "Report", "size_text"]

_HINTS: dict[type[Exception], str] = {
    errors.PasswordRequired: "--key-password-file FILE",
    errors.WrongPassword: "--key-password-file FILE",
    errors.CertificateUnknownCa: "--ca FILE",
    errors.CertificateSelfSigned: "--ca FILE",
    errors.CertificateRequiredByPeer: "--cert FILE --key FILE",
    errors.ProtocolMismatch: "with or without --tls",
    errors.TimeoutExpired: "--timeout SECONDS",
}
"""Which option helps; an error without a row of its own takes its base class'."""

# PS3.8 table 9-21, source 1
_REJECT_HINTS = {3: "--aet TITLE", 7: "--aec TITLE"}
_UNITS = ("B", "kB", "MB", "GB", "TB")


class CommandFailed(Exception):
    """The command did not do what it should: `message` says why, `fields` go into the JSON object."""

    def __init__(self, message: str, cause: Exception | None = None, **fields: Any) -> None:
        super().__init__(message)
        self.cause = cause
        self.fields = fields


class Report:
    """Where a command's output goes; with `as_json` nothing but the final object gets to stdout."""

    def __init__(self, command: str, *, as_json: bool) -> None:
        self.command = command
        self.as_json = as_json

    def line(self, text: str) -> None:
        """Print a line for a person on stdout."""
        if not self.as_json:
            click.echo(text)

    def notice(self, text: str) -> None:
        """Print a line on stderr."""
        click.echo(f"dicomnet: {' '.join(text.split())}", err=True)

    def run(self, work: Callable[[], dict[str, Any]]) -> NoReturn:
        """Do the work and exit: 0 with the fields that it returns, 1 with a line for what it raises."""
        try:
            fields = work()
        except CommandFailed as error:
            self._fail(str(error), error.cause, error.fields)
        except (errors.DicomException, OSError) as error:
            self._fail(_explained(error), error, {})
        except (KeyboardInterrupt, click.Abort) as error:
            self._fail("interrupted", error, {})
        except click.ClickException:
            raise
        except Exception as error:
            if os.environ.get("DICOMNET_TRACEBACK"):
                raise
            what = f"unexpected {type(error).__name__}: {error} (DICOMNET_TRACEBACK=1 shows where)"
            self._fail(what, error, {})
        self._finish({"ok": True, **fields}, 0)

    def _fail(self, message: str, error: BaseException | None, fields: dict[str, Any]) -> NoReturn:
        self.notice(message)
        failure = {"type": type(error).__name__ if error is not None else "CommandFailed", "message": message}
        self._finish({"ok": False, "error": failure, **fields}, 1)

    def _finish(self, fields: dict[str, Any], status: int) -> NoReturn:
        if self.as_json:
            click.echo(json.dumps({"command": self.command, **fields}, indent=2, default=str))
        sys.exit(status)


def _explained(error: Exception) -> str:
    """Return an error's text with the option that helps."""
    if isinstance(error, errors.AssociationRejected) and error.source == 1:
        hint = _REJECT_HINTS.get(error.reason, "")
    else:
        hint = next(_hints_of(type(error)), "")
    return f"{str(error).rstrip('.')}. On the command line: {hint}" if hint else str(error)


def _hints_of(kind: type[Exception]) -> Iterator[str]:
    return (_HINTS[base] for base in kind.__mro__ if base in _HINTS)


def size_text(size: float) -> str:
    """Return a number of bytes for a person: "512 B", "38.9 kB", "2.5 MB"."""
    power = 0
    while size >= 999.5 and power < len(_UNITS) - 1:
        size, power = size / 1000, power + 1
    return f"{size:.1f} {_UNITS[power]}" if power else f"{size:.0f} B"
