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
    "OpenReader",
    "copying_reader",
    "direct_reader",
    "expect_name",
    "open_reader",
    "set_groups",
    "verify_text",
]

RECORD = 16384  # bytes of plaintext in the largest TLS record, RFC 8446 5.1; SSL_read gives no more at a time

OpenReader = Callable[[SSL.Connection, memoryview], Callable[[int], int]]
"""`read = open_reader(connection, buffer)`; `read(offset)` reads into the buffer from there on, returns how
many bytes (one at least), and raises what `Connection.recv_into` raises."""


def copying_reader(connection: SSL.Connection, buffer: memoryview) -> Callable[[int], int]:
    """Read the public way, by `recv_into`: it copies each record once more, and takes a third longer."""

    def read(offset: int) -> int:
        return int(connection.recv_into(buffer[offset:], RECORD))

    return read


def direct_reader(connection: SSL.Connection, buffer: memoryview) -> Callable[[int], int]:
    """Let SSL_read write into the caller's buffer."""
    ssl, check, ssl_read = connection._ssl, connection._raise_ssl_error, lib.SSL_read  # noqa: SLF001
    size, start = len(buffer), ffi.from_buffer("char[]", buffer, require_writable=True)

    def read(offset: int) -> int:
        n: int = ssl_read(ssl, start + offset, size - offset)
        if n <= 0:
            check(ssl, n)
        return n

    return read


def _choose_reader() -> OpenReader:
    """Return the direct reader if it works as pyOpenSSL's own does with a connection that has no data."""
    try:
        connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD))
        connection.set_connect_state()
        direct_reader(connection, memoryview(bytearray(1)))(0)
    except SSL.WantReadError:
        return direct_reader
    except Exception:  # noqa: BLE001, S110 - whatever has changed: the public way still works
        pass
    return copying_reader


open_reader: OpenReader = _choose_reader()


def set_groups(context: SSL.Context, names: Sequence[str]) -> bool:
    """Set the key-exchange groups by OpenSSL's names, most preferred first; False where that fails."""
    setter: Any = getattr(lib, "SSL_CTX_set1_curves_list", None)
    return setter is not None and setter(context._context, ":".join(names).encode()) == 1  # noqa: SLF001


def expect_name(connection: SSL.Connection, name: bytes, address: bytes) -> None:
    """Let OpenSSL check the peer's name too: a packed IP address, or else a host name.

    Not for the check, which is ours, but for the peer: only an error of OpenSSL's own makes it send the right
    alert (bad_certificate). Nothing happens where that cannot be had.
    """
    names = ("SSL_get0_param", "X509_VERIFY_PARAM_set1_ip", "X509_VERIFY_PARAM_set1_host")
    functions: list[Any] = [getattr(lib, name, None) for name in names]
    if None not in functions:
        get_parameters, set_address, set_host = functions
        parameters = get_parameters(connection._ssl)  # noqa: SLF001
        if address:
            set_address(parameters, address, len(address))
        else:
            set_host(parameters, name, len(name))


def verify_text(code: int) -> str:
    """Return OpenSSL's words for an X509_V_ERR_... number."""
    text: Any = getattr(lib, "X509_verify_cert_error_string", None)
    return ffi.string(text(code)).decode("ascii") if text else f"X.509 verify code {code}"
