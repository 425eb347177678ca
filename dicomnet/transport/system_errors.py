"""From the system's error numbers to exceptions that carry LEADTOOLS' codes."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, TypeVar

from dicomnet.enums import DicomExceptionCode

if TYPE_CHECKING:
    from dicomnet.errors import NetworkError

__all__ = ["network_error", "reason"]

_Error = TypeVar("_Error", bound="NetworkError")

_CODES = {
    errno.EACCES: DicomExceptionCode.NET_ACCESS,
    errno.EPERM: DicomExceptionCode.NET_ACCESS,
    errno.EADDRINUSE: DicomExceptionCode.NET_ADDRESS_IN_USE,
    errno.EADDRNOTAVAIL: DicomExceptionCode.NET_ADDRESS_NOT_AVAILABLE,
    errno.EAFNOSUPPORT: DicomExceptionCode.NET_ADDRESS_NOT_SUPPORTED,
    errno.ECONNABORTED: DicomExceptionCode.NET_CONNECTION_ABORTED,
    errno.ECONNREFUSED: DicomExceptionCode.NET_CONNECTION_REFUSED,
    errno.ECONNRESET: DicomExceptionCode.NET_CONNECTION_RESET,
    errno.EHOSTUNREACH: DicomExceptionCode.NET_HOST_UNREACHABLE,
    errno.EMFILE: DicomExceptionCode.TOO_MANY_OPEN_FILES,
    errno.ENFILE: DicomExceptionCode.TOO_MANY_OPEN_FILES,
    errno.ENETDOWN: DicomExceptionCode.NET_DOWN,
    errno.ENETUNREACH: DicomExceptionCode.NET_UN_REACH,
    errno.ENOBUFS: DicomExceptionCode.NET_NO_BUFFERS,
    errno.EPIPE: DicomExceptionCode.NET_SHUTDOWN,
    errno.ETIMEDOUT: DicomExceptionCode.NET_TIMEOUT,
}


def network_error(
    kind: type[_Error], message: str, number: int | None, *, peer: str = "", state: str = ""
) -> _Error:
    """Return a `kind` with the system's number, and with the code that goes with it or the kind's own."""
    code = _CODES.get(number or 0, kind.default_code)
    return kind(message, code=code, errno=number or 0, peer=peer, state=state)


def reason(error: Exception) -> str:
    """Return what the system says about an error, without its number."""
    number = getattr(error, "errno", None)
    return getattr(error, "strerror", None) or (os.strerror(number) if number else str(error))
