"""One trace hook with named events: logging, dumps and counters are its consumers.

A hook is a callable `hook(event, fields)`. `event` is a dotted name such as "tcp.connected",
"tls.ready", "pdu.sent", "association.rejected", "link.closed"; `fields` is a mapping whose values are
plain data. Every event has the field `link`, a number unique in the process.

Nothing is formatted unless somebody listens: the default hook writes to the standard logger `dicomnet`
and is skipped where that logger is off.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from dicomnet.errors import escape

__all__ = ["Trace", "log_trace", "logger"]

logger = logging.getLogger("dicomnet")
logger.addHandler(logging.NullHandler())

Trace = Callable[[str, Mapping[str, Any]], None]

_LEVELS = {"failed": logging.WARNING, "warning": logging.WARNING, "refused": logging.WARNING}


def log_trace(event: str, fields: Mapping[str, Any]) -> None:
    """Write an event to the `dicomnet` logger; the last part of its name chooses the level."""
    level = _LEVELS.get(event.rpartition(".")[2], logging.DEBUG)
    if logger.isEnabledFor(level):
        logger.log(level, "%s %s", event, " ".join(f"{k}={escape(v)}" for k, v in fields.items()))
