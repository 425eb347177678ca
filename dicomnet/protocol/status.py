"""Status (0000,0900) of a response: its class, its meaning, and where it may be used (PS3.7 annex C)."""

from __future__ import annotations

from typing import Literal

__all__ = ["ALLOWED", "Category", "allowed", "category", "describe", "first_allowed", "is_pending"]

Category = Literal["success", "warning", "failure", "cancel", "pending"]

_CATEGORIES: dict[int, Category] = {
    0x0000: "success",
    0x0001: "warning",
    0x0107: "warning",
    0x0116: "warning",
    0xFE00: "cancel",
    0xFF00: "pending",
    0xFF01: "pending",
}

_TEXTS = {
    0x0000: "success",
    0x0001: "warning",
    0x0105: "no such attribute",
    0x0106: "invalid attribute value",
    0x0107: "attribute list error",
    0x0110: "processing failure",
    0x0111: "duplicate SOP instance",
    0x0112: "no such SOP instance",
    0x0113: "no such event type",
    0x0114: "no such argument",
    0x0115: "invalid argument value",
    0x0116: "attribute value out of range",
    0x0117: "invalid SOP instance UID",
    0x0118: "no such SOP class",
    0x0119: "class-instance conflict",
    0x0120: "missing attribute",
    0x0121: "missing attribute value",
    0x0122: "SOP class not supported",
    0x0123: "no such action type",
    0x0124: "not authorized",
    0x0131: "duplicate transaction UID",
    0x0210: "duplicate invocation",
    0x0211: "unrecognized operation",
    0x0212: "mistyped argument",
    0x0213: "resource limitation",
    0xA701: "out of resources, unable to calculate the number of matches",
    0xA702: "out of resources, unable to perform sub-operations",
    0xA801: "move destination unknown",
    0xB000: "coercion of data elements, or sub-operations complete with failures",
    0xB006: "elements discarded",
    0xB007: "data set does not match the SOP class",
    0xFE00: "cancel",
    0xFF00: "pending",
    0xFF01: "pending, optional keys are not supported",
}

# PS3.4 B.2-1, C.4-1 to C.4-3: what a service class says with whole ranges of codes.
_RANGES = {0xA7: "out of resources", 0xA9: "data set or identifier does not match the SOP class"}

_RETRIEVE = {0x0122, 0x0124, 0x0210, 0x0211, 0x0212, 0xFE00, 0xFF00, 0xFF01}
_NORMALIZED = {0x0110, 0x0117, 0x0118, 0x0210, 0x0211, 0x0212, 0x0213}
_INSTANCE = _NORMALIZED | {0x0112, 0x0119}
_ATTRIBUTES = {0x0105, 0x0106, 0x0107, 0x0116, 0x0121}

ALLOWED: dict[int, frozenset[int]] = {
    field: frozenset({0x0000} | codes)
    for field, codes in {
        0x0001: {0x0117, 0x0122, 0x0124, 0x0210, 0x0211, 0x0212},
        0x0010: _RETRIEVE,
        0x0020: {0x0122, 0xFE00, 0xFF00, 0xFF01},
        0x0021: _RETRIEVE,
        0x0030: {0x0122, 0x0210, 0x0211, 0x0212},
        0x0100: _INSTANCE | {0x0113, 0x0114, 0x0115},
        0x0110: _INSTANCE | {0x0107, 0x0124},
        0x0120: _INSTANCE | _ATTRIBUTES | {0x0124},
        0x0130: _INSTANCE | {0x0114, 0x0115, 0x0123, 0x0124},
        0x0140: _NORMALIZED | _ATTRIBUTES | {0x0111, 0x0120, 0x0124},
        0x0150: _INSTANCE | {0x0124},
    }.items()
}
"""Command field of the request -> the general status codes that PS3.7 9.1 and 10.1 list for its service.

The Axxx, Bxxx and Cxxx codes come on top: PS3.4 defines them, service class by service class.
"""

_C_ECHO = 0x0030


def category(status: int | None) -> Category:
    """Return the class of a status (PS3.7 C); a code that the table does not have counts as failure."""
    known = _CATEGORIES.get(status)  # type: ignore[arg-type]
    if known is not None:
        return known
    return "warning" if status is not None and status >> 12 == 0xB else "failure"


def is_pending(status: int) -> bool:
    """True for FF00 and FF01: another response to the same request follows (PS3.7 9.3.2.4)."""
    return status & ~1 == 0xFF00


def describe(status: int) -> str:
    """Return a status as text: "0122H SOP class not supported (failure)"."""
    text = _TEXTS.get(status) or _RANGES.get(status >> 8)
    kind = category(status)
    if text is None:
        text = "unable to process" if status >> 12 == 0xC else "unknown status"
    return f"{status:04X}H {text}" if text == kind else f"{status:04X}H {text} ({kind})"


def allowed(command_field: int, status: int) -> bool:
    """True if PS3.7 lets this service answer with this status, or leaves it to the service class.

    `command_field` is the request's. C-ECHO has no service class codes.
    """
    if status >> 12 in (0xA, 0xB, 0xC):
        return command_field != _C_ECHO
    return status in ALLOWED.get(command_field, ())


def first_allowed(command_field: int, *candidates: int) -> int:
    """Return the first candidate that the service may answer with, or the last one if none fits."""
    return next((status for status in candidates if allowed(command_field, status)), candidates[-1])
