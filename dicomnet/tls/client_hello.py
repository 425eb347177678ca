"""What a TLS client asked for, read from its first record: for the message when nothing can be agreed on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dicomnet.errors import ProtocolError
from dicomnet.protocol.wire import Reader
from dicomnet.tls.cipher_suites import SUITES, version_name

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ClientHello", "parse"]

_HANDSHAKE, _CLIENT_HELLO = 22, 1
_SUPPORTED_VERSIONS = 43
_MARKERS = frozenset({0x00FF, 0x5600})  # signalling values that stand in the list without being suites


@dataclass(frozen=True)
class ClientHello:
    """Versions and cipher suites that a client offers, most preferred first (RFC 8446 4.1.2)."""

    versions: tuple[int, ...]
    """0x0303 = TLS 1.2."""

    suites: tuple[int, ...]
    """IANA codes, without GREASE and signalling values."""

    def __str__(self) -> str:
        known = [SUITES[code].iana_name if code in SUITES else f"0x{code:04X}" for code in self.suites]
        more = f" and {len(known) - 8} more" if len(known) > 8 else ""
        return (
            f"{', '.join(map(version_name, self.versions))} with {', '.join(known[:8]) or 'no suite'}{more}"
        )


def parse(first_bytes: bytes) -> ClientHello | None:
    """Return the ClientHello at the start of a connection, `None` for anything else or one cut short."""
    try:
        record = Reader(first_bytes, "TLS record")
        if record.u8() != _HANDSHAKE:
            return None
        record.take(4)
        if record.u8() != _CLIENT_HELLO:
            return None
        record.take(3)
        legacy = record.u16()
        record.take(32)
        record.take(record.u8())
        suites = tuple(_numbers(record.sub(record.u16(), "cipher suites")))
        record.take(record.u8())
        versions = _supported_versions(record) if record.remaining else ()
    except ProtocolError:
        return None
    return ClientHello(versions or (legacy,), tuple(code for code in suites if code not in _MARKERS))


def _supported_versions(record: Reader) -> tuple[int, ...]:
    extensions = record.sub(record.u16(), "extensions")
    while extensions.remaining:
        kind = extensions.u16()
        body = extensions.sub(extensions.u16(), "extension")
        if kind == _SUPPORTED_VERSIONS:
            return tuple(_numbers(body.sub(body.u8(), "versions")))
    return ()


def _numbers(reader: Reader) -> Iterator[int]:
    while reader.remaining:
        number = reader.u16()
        if number & 0x0F0F != 0x0A0A:  # RFC 8701: GREASE
            yield number
