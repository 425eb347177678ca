"""What a peer speaks, told from the first bytes it sent: so that an error can say "that is HTTP"."""

from __future__ import annotations

import re

__all__ = ["recognise"]

# In order; each needs only as many bytes as it takes to tell it from the others.
_SIGNATURES = (
    # RFC 8446 5.1: record type 20 to 24, legacy version 3.x.
    ("TLS", re.compile(rb"[\x14-\x18]\x03[\x00-\x04]", re.DOTALL)),
    # RFC 5246 E.2: a two-byte length with the top bit set, client hello, version 2 or 3.x.
    ("SSLv2", re.compile(rb"[\x80-\xff].\x01(?:\x00\x02|\x03[\x00-\x04])", re.DOTALL)),
    ("HTTP", re.compile(rb"(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PRI) |HTTP/")),
    ("SSH", re.compile(rb"SSH-")),
    # PS3.8 9.3: a PDU type, any reserved byte, a length below 16 MiB (4 for all but three types).
    ("DICOM", re.compile(rb"[\x01\x02\x04].\x00|[\x03\x05-\x07].\x00\x00(?:\x00\x04|\x00?\Z)", re.DOTALL)),
)


def recognise(first_bytes: bytes) -> str:
    """Return "TLS", "SSLv2", "HTTP", "SSH", "DICOM", or "" for anything else or too few bytes.

    Eight bytes are enough for all of them, four for most.
    """
    return next((name for name, pattern in _SIGNATURES if pattern.match(first_bytes)), "")
