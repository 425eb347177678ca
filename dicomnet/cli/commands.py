"""The command line: what there is to say. What each command does is in a module of its own, imported late."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dicomnet._version import __version__
from dicomnet.cli.options import link_options
from dicomnet.cli.report import Report

if TYPE_CHECKING:
    from dicomnet.cli.options import LinkOptions

__all__ = ["dicomnet"]

_PORT = click.IntRange(1, 65535)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="dicomnet")
def dicomnet() -> None:
    """DICOM over TCP and TLS.

    `dicomnet COMMAND --help` explains a command. Exit status: 0 done, 1 failed, 2 wrong usage.
    """


@dicomnet.command()
@click.argument("host")
@click.argument("port", type=_PORT)
@link_options()
def echo(host: str, port: int, options: LinkOptions) -> None:
    """Ask a DICOM node whether it is there (C-ECHO)."""
    from dicomnet.cli.client import echo as work  # noqa: PLC0415

    report = Report("echo", as_json=options.as_json)
    report.run(lambda: work(report, options, host, port))


@dicomnet.command()
@click.argument("host")
@click.argument("port", type=_PORT)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(exists=True))
@link_options()
def store(host: str, port: int, paths: tuple[str, ...], options: LinkOptions) -> None:
    """Send DICOM files to a node (C-STORE), each byte for byte as it is.

    A PATH is a file or a folder, which is searched with all its subfolders; files in it that are no DICOM
    instances are left out.
    """
    from dicomnet.cli.client import store as work  # noqa: PLC0415

    report = Report("store", as_json=options.as_json)
    report.run(lambda: work(report, options, host, port, paths))


@dicomnet.command()
@click.argument("port", type=click.IntRange(0, 65535))
@click.option("--dir", "folder", required=True, metavar="DIR", type=click.Path(file_okay=False),
              help="Where the files go; it is made if it is not there.")  # fmt: skip
@click.option("--bind", metavar="ADDRESS", default="*", help="Listen on this address only.")
@link_options(server=True)
def serve(port: int, folder: str, bind: str, options: LinkOptions) -> None:
    """Store what DICOM nodes send (C-STORE), as DICOM files, until interrupted.

    PORT 0 takes a free port and tells which. Files are named after their SOP Instance UID; none is ever
    overwritten. A folder that is made is its owner's alone (mode 0700); one that is there keeps its mode.
    """
    from dicomnet.cli.server import serve as work  # noqa: PLC0415

    report = Report("serve", as_json=options.as_json)
    report.run(lambda: work(report, options, bind, port, folder))


@dicomnet.command()
@click.option("--keep", metavar="DIR", type=click.Path(file_okay=False, path_type=Path),
              help="Keep certificates, keys and received files in this new or empty folder.")  # fmt: skip
@click.option("--plain", is_flag=True, help="Without TLS, for comparison.")
@click.option("--files", "each", is_flag=True, help="List every file.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def demo(keep: Path | None, plain: bool, each: bool, as_json: bool) -> None:
    """Send real DICOM files across a mutually authenticated TLS link, and compare every byte.

    The files are those that pydicom ships. A CA and two certificates are made for the occasion, and the
    server runs in this process, on the loopback interface: nothing leaves this machine.
    """
    from dicomnet.cli.demo import demo as work  # noqa: PLC0415

    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise click.BadParameter(f"{keep} is not empty: give a new folder.", param_hint="--keep")
    report = Report("demo", as_json=as_json)
    report.run(lambda: work(report, keep=keep, plain=plain, each=each))
