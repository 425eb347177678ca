"""Nobody holds on to a receive buffer after a TLS read, whatever came of it.

Python 3.11 crashes when the garbage collector finds a memoryview that is still held (an export) in a cycle,
and the traceback of a failed read is one: so a peer that resets its connection could end the process.
"""

from __future__ import annotations

import pytest
from OpenSSL import SSL

from dicomnet.tls import openssl


@pytest.mark.parametrize("fill", [openssl.fill_directly, openssl.fill_by_copying])
@pytest.mark.parametrize("sent", [b"", b"this is no TLS record"])
def test_a_buffer_is_free_after_a_read_that_failed(fill: openssl.Fill, sent: bytes) -> None:
    connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD))
    connection.set_connect_state()
    if sent:
        connection.bio_write(sent)
    buffer = memoryview(bytearray(100))
    filled, error = fill(connection, buffer)
    assert filled == 0
    assert isinstance(error, SSL.Error)  # and its traceback is alive
    assert isinstance(error, SSL.WantReadError) is not bool(sent)
    buffer.release()  # BufferError where something holds it
