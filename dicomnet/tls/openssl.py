"""What pyOpenSSL does not offer in public and we use all the same: in one place, each with a fallback.

cryptography drops bindings that pyOpenSSL does not use without notice, so a missing one must cost
comfort or speed and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from OpenSSL import SSL

if TYPE_CHECKING:
    from collections.abc import Sequence

try:
    from OpenSSL._util import ffi, lib
except ImportError:
    ffi = lib = None

__all__ = [
    "Fill",
    "expect_name",
    "fill",
    "fill_by_copying",
    "fill_directly",
    "set_groups",
    "verify_text",
]

RECORD = 16384  # bytes of plaintext in the largest TLS record, RFC 8446 5.1; SSL_read gives no more at a time

Fill = Callable[[SSL.Connection, memoryview], "tuple[int, SSL.Error | None]"]
"""Reads as many records as are there into a buffer. Returns how many bytes, and what ended it: the exception
that `Connection.recv_into` raises, `None` when the buffer is full."""


def fill_by_copying(connection: SSL.Connection, buffer: memoryview) -> tuple[int, SSL.Error | None]:
    """Read the public way, by `recv_into`: it copies each record once more, and takes a third longer."""
    filled, size = 0, len(buffer)
    try:
        while filled < size:
            filled += int(connection.recv_into(buffer[filled:], RECORD))
    except SSL.Error as error:
        return filled, error
    return filled, None


def fill_directly(connection: SSL.Connection, buffer: memoryview) -> tuple[int, SSL.Error | None]:
    """Let SSL_read write into the caller's buffer.

    cffi's hold on the buffer ends with the call: Python 3.11 crashes when it finds a memoryview that is still
    held in a reference cycle, and a traceback makes one.
    """
    ssl, ssl_read = connection._ssl, lib.SSL_read
    filled, size = 0, len(buffer)
    with ffi.from_buffer("char[]", buffer, require_writable=True) as start:
        while filled < size:
            n: int = ssl_read(ssl, start + filled, size - filled)
            if n <= 0:
                try:
                    connection._raise_ssl_error(ssl, n)
                except SSL.Error as error:
                    return filled, error
            filled += n
    return filled, None


def _choose_fill() -> Fill:
    """Return the direct way if it works as pyOpenSSL's own does with a connection that has no data."""
    try:
        connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD))
        connection.set_connect_state()
        if isinstance(fill_directly(connection, memoryview(bytearray(1)))[1], SSL.WantReadError):
            return fill_directly
    except Exception:  # noqa: S110 - whatever has changed: the public way still works
        pass
    return fill_by_copying


fill: Fill = _choose_fill()


def set_groups(context: SSL.Context, names: Sequence[str]) -> bool:
    """Set the key-exchange groups by OpenSSL's names, most preferred first; False where that fails."""
    setter: Any = getattr(lib, "SSL_CTX_set1_curves_list", None)
    return setter is not None and setter(context._context, ":".join(names).encode()) == 1


def expect_name(connection: SSL.Connection, name: bytes, address: bytes) -> None:
    """Let OpenSSL check the peer's name too: a packed IP address, or else a host name.

    Not for the check, which is ours, but for the peer: only an error of OpenSSL's own makes it send the right
    alert (bad_certificate). Nothing happens where that cannot be had.
    """
    names = ("SSL_get0_param", "X509_VERIFY_PARAM_set1_ip", "X509_VERIFY_PARAM_set1_host")
    functions: list[Any] = [getattr(lib, name, None) for name in names]
    if None not in functions:
        get_parameters, set_address, set_host = functions
        parameters = get_parameters(connection._ssl)
        if address:
            set_address(parameters, address, len(address))
        else:
            set_host(parameters, name, len(name))


def verify_text(code: int) -> str:
    """Return OpenSSL's words for an X509_V_ERR_... number."""
    text: Any = getattr(lib, "X509_verify_cert_error_string", None)
    return ffi.string(text(code)).decode("ascii") if text else f"X.509 verify code {code}"
