"""What the first bytes look like: taken from real speakers where Python has one at hand."""

from __future__ import annotations

import ssl

import pytest

from dicomnet.protocol import pdu
from dicomnet.protocol.items import PresentationContextRq, UserInformation
from dicomnet.protocol.sniff import recognise


def client_hello() -> bytes:
    outgoing = ssl.MemoryBIO()
    context = ssl.create_default_context()
    connection = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="pacs.example")
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


def alert() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).wrap_bio(incoming, outgoing, server_side=True)
    hello = bytearray(client_hello())
    hello[5] = 0x77  # no handshake message
    incoming.write(hello)
    with pytest.raises(ssl.SSLError):
        connection.do_handshake()
    return outgoing.read()


RQ = pdu.AssociateRq(
    "A",
    "B",
    "1.2",
    (PresentationContextRq(1, "1.2.840.10008.1.1", ("1.2.840.10008.1.2",)),),
    UserInformation(),
).encode()


@pytest.mark.parametrize(
    ("seen", "name"),
    [
        pytest.param(client_hello(), "TLS", id="TLS client hello"),
        pytest.param(alert(), "TLS", id="TLS alert"),
        pytest.param(bytes.fromhex("16 03 01 02"), "TLS", id="TLS four bytes"),
        pytest.param(bytes.fromhex("80 2E 01 00 02 00 15"), "SSLv2", id="SSLv2 client hello"),
        pytest.param(bytes.fromhex("80 46 01 03 01 00 2D"), "SSLv2", id="SSLv3 in SSLv2 client hello"),
        pytest.param(b"GET / HTTP/1.1\r\n", "HTTP", id="GET"),
        pytest.param(b"GET ", "HTTP", id="GET four bytes"),
        pytest.param(b"POST /wado HTTP/1.1", "HTTP", id="POST"),
        pytest.param(b"OPTIONS * HTTP/1.1", "HTTP", id="OPTIONS"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM", "HTTP", id="HTTP/2"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n", "HTTP", id="HTTP answer"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2p1\r\n", "SSH", id="SSH"),
        pytest.param(RQ, "DICOM", id="A-ASSOCIATE-RQ"),
        pytest.param(RQ[:4], "DICOM", id="A-ASSOCIATE-RQ four bytes"),
        pytest.param(b"\1\xff" + RQ[2:], "DICOM", id="A-ASSOCIATE-RQ with garbage reserved"),
        pytest.param(pdu.AssociateRj(1, 1, 1).encode(), "DICOM", id="A-ASSOCIATE-RJ"),
        pytest.param(pdu.Abort(2, 1).encode(), "DICOM", id="A-ABORT"),
        pytest.param(pdu.Abort(2, 1).encode()[:4], "DICOM", id="A-ABORT four bytes"),
        pytest.param(pdu.Abort(2, 1).encode()[:5], "DICOM", id="A-ABORT five bytes"),
        pytest.param(bytes.fromhex("04 00 00 01 00 00 00 00"), "DICOM", id="P-DATA-TF"),
        pytest.param(bytes.fromhex("03 00 00 13 0E E0 00 00"), "", id="RDP"),
        pytest.param(bytes.fromhex("07 00 00 00 00 05"), "", id="A-ABORT of another length"),
        pytest.param(bytes.fromhex("01 00 FF FF FF FF"), "", id="length beyond reason"),
        pytest.param(b"220 ftp.example ready\r\n", "", id="FTP"),
        pytest.param(b"GETTER", "", id="only like HTTP"),
        pytest.param(b"", "", id="nothing"),
        pytest.param(b"\x16", "", id="one byte"),
        pytest.param(bytes(16), "", id="zeros"),
    ],
)
def test_recognise(seen, name):
    assert recognise(seen) == name
    assert recognise(seen[:16]) == name


def test_every_short_beginning_is_answered():
    for first in range(256):
        for second in (0, 3, 255):
            assert recognise(bytes([first, second])) == ""
