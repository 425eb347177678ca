"""The options that echo, store and serve have in common, and what they mean for a `DicomNet`."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dicomnet import errors
from dicomnet.enums import DicomNetSecurityMode, DicomOpenSslVerificationFlags, DicomTlsCertificateType
from dicomnet.protocol.wire import encode_title
from dicomnet.settings import Timeouts
from dicomnet.tls.settings import DicomOpenSslContextCreationSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from dicomnet.net import DicomNet
    from dicomnet.tls.passwords import PasswordRequest

__all__ = ["AsksPassword", "LinkOptions", "link_options", "set_up"]

_PEM = DicomTlsCertificateType.PEM
_FILE = click.Path(exists=True, dir_okay=False, readable=True)


@dataclass(frozen=True)
class LinkOptions:
    """What the common options say."""

    aet: str
    aec: str
    tls: bool
    cert: str | None
    key: str | None
    key_password_file: str | None
    ca: str | None
    no_verify: bool
    timeout: float | None
    as_json: bool

    def check(self, *, server: bool) -> None:
        """Raise `click.UsageError` where they contradict each other or something is missing."""
        tls_only = self.cert or self.key or self.key_password_file or self.ca or self.no_verify
        needs_cert = self.key or self.key_password_file
        trusting = self.ca or self.no_verify
        for wrong, message in (
            (tls_only and not self.tls, "certificates are for a TLS link: add --tls."),
            (self.ca and self.no_verify, "--ca and --no-verify contradict each other: give one of them."),
            (self.tls and not trusting, "--tls needs --ca FILE to verify the peer with, or --no-verify."),
            (server and self.tls and not self.cert, "a TLS server needs --cert FILE and its --key FILE."),
            (needs_cert and not self.cert, "a key belongs to a certificate: add --cert FILE."),
        ):
            if wrong:
                raise click.UsageError(message)

    @property
    def timeouts(self) -> Timeouts:
        """The time limits: the defaults, or `timeout` for each wait for the peer."""
        t = self.timeout
        if t is None:
            return Timeouts()
        waits = ("connect", "handshake", "artim", "association", "read", "write", "response", "release")
        return Timeouts(**dict.fromkeys(waits, t))

    @property
    def security_mode(self) -> DicomNetSecurityMode:
        """TLS or none."""
        return DicomNetSecurityMode.TLS if self.tls else DicomNetSecurityMode.NONE


class AsksPassword:
    """Mixin for a `DicomNet` that asks for its key's password on the terminal, where there is one."""

    def on_private_key_password_for(self, request: PasswordRequest) -> str | None:
        """Ask without an echo; without a terminal there is no password to give."""
        if not sys.stdin.isatty():
            return None
        again = "Wrong. " if request.attempt > 1 else ""
        prompt = f"{again}Password of {request.path}"
        return str(click.prompt(prompt, hide_input=True, err=True, default="", show_default=False))


def set_up(net: DicomNet, options: LinkOptions) -> None:
    """Give an object what the TLS options say. Raises `errors.TlsConfigurationError` and its subclasses."""
    if not options.tls:
        return
    flags = DicomOpenSslVerificationFlags
    verify = flags.NONE if options.no_verify else flags.PEER | flags.FAIL_IF_NO_PEER_CERTIFICATE
    creation = DicomOpenSslContextCreationSettings(
        certification_authorities_file_name=options.ca, verification_flags=verify
    )
    net.initialize(None, options.security_mode, creation)
    if options.cert:
        password = _read_password(options.key_password_file) if options.key_password_file else None
        net.set_tls_client_certificate(options.cert, _PEM, options.key, password=password)


def _read_password(path: str) -> bytes:
    """Return the first line of a file, without its line end."""
    first, _, _ = Path(path).read_bytes().partition(b"\n")
    password = first.removesuffix(b"\r")
    if not password:
        problem = f"{path} has no password in its first line."
        raise click.BadParameter(problem, param_hint="--key-password-file")
    return password


def _title(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str:
    """Check an AE title; a server needs none."""
    if value is None:
        return ""
    try:
        encode_title(value)
    except errors.LocalProtocolError:
        problem = "an AE title has 1 to 16 printable ASCII characters and no backslash."
        raise click.BadParameter(problem) from None
    return value


_CLIENT_TITLES = (
    click.option("--aet", metavar="TITLE", default="DICOMNET", show_default=True, callback=_title,
                 help="Our AE title (calling)."),
    click.option("--aec", metavar="TITLE", default="ANY-SCP", show_default=True, callback=_title,
                 help="The peer's AE title (called)."),
)  # fmt: skip
_SERVER_TITLES = (
    click.option("--aet", "--aec", "aet", metavar="TITLE", callback=_title,
                 help="Our AE title; who calls another one is rejected.  [default: any will do]"),
)  # fmt: skip
_COMMON = (
    click.option("--tls", is_flag=True, help="Make a secure link."),
    click.option("--cert", type=_FILE, metavar="FILE", help="Our certificate and its chain, PEM."),
    click.option("--key", type=_FILE, metavar="FILE", help="Its private key, if not in the same file."),
    click.option("--key-password-file", type=_FILE, metavar="FILE",
                 help="File whose first line is the key's password; else it is asked for on the terminal."),
    click.option("--ca", type=_FILE, metavar="FILE", help="Certificates of the CAs to trust, PEM."),
    click.option("--no-verify", is_flag=True, help="Trust any peer, without a look at its certificate."),
    click.option("--timeout", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
                 help="Longest wait for the peer, at each step.  [default: 10 to 60, by step]"),
    click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object."),
)  # fmt: skip


def link_options(*, server: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the common options to a command, which gets them as one `LinkOptions`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**values: Any) -> None:
            common = {name: values.pop(name, "") for name in LinkOptions.__dataclass_fields__}
            options = LinkOptions(**common)
            options.check(server=server)
            command(options=options, **values)

        for option in reversed((*(_SERVER_TITLES if server else _CLIENT_TITLES), *_COMMON)):
            run = option(run)
        return run

    return decorate
