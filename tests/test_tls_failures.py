"""Every way in which a TLS link fails, provoked on loopback: what each end is told, and that it helps."""

from __future__ import annotations

import copy
import pickle
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from authority import NOW, Authority
from OpenSSL import SSL
from tls_peers import (
    LONG,
    TLS12,
    TLS13,
    Pair,
    bare,
    bare_context,
    error_of,
    identity_settings,
    in_thread,
    pair,
    settings,
    tcp_pair,
    tell_waiting,
)

from dicomnet import errors
from dicomnet.enums import DicomExceptionCode
from dicomnet.tls.client_hello import ClientHello, parse
from dicomnet.tls.context import context_for
from dicomnet.tls.evidence import ALERTS
from dicomnet.transport.deadline import Deadline
from dicomnet.transport.tcp import TcpStream

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from dicomnet.tls.stream import TlsStream

pytestmark = pytest.mark.usefixtures("leak_check")

RESET = struct.pack("ii", 1, 0)
VERSIONS = pytest.mark.parametrize("version", [TLS12, TLS13], ids=["TLS1.2", "TLS1.3"])

RSA_ONLY, ECDSA_ONLY = (0xC02F,), (0xC02B,)
AES128, CHACHA = (0x1301,), (0x1303,)


def later() -> Deadline:
    return Deadline.after(LONG)


def check(
    error: BaseException | None,
    kind: type[errors.DicomException],
    *,
    alert: int | None = None,
    refused_by: str = "",
    says: tuple[str, ...] = (),
    **fields: object,
) -> None:
    """Check an error's exact class, its fields, and that its message says each of `says`."""
    assert type(error) is kind, repr(error)
    if isinstance(error, errors.TlsError):
        fields |= {"alert": alert, "refused_by": refused_by}
    assert {name: getattr(error, name) for name in fields} == fields
    assert error.peer
    assert error.state
    text = str(error)
    assert error.peer in text
    for words in says:
        assert words in text
    assert text.endswith((".", ")"))
    for unfilled in ("{", "}", "None"):
        assert unfilled not in text
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.code) == (kind, text, error.code)


def first_read(stream: TlsStream) -> BaseException | None:
    """Return what a client that sends and then reads is told, as it does after every handshake."""
    buffer = memoryview(bytearray(100))
    return error_of(lambda: stream.write([b"A-ASSOCIATE-RQ"], later()) or stream.read_into(buffer, later()))


def refused(both: Pair, version: int) -> tuple[BaseException | None, BaseException | None]:
    """Return what both ends are told where the server refuses the client: in TLS 1.3 it learns that late."""
    late: list[BaseException | None] = []

    def go_on() -> None:
        assert version == TLS13, "a TLS 1.2 client learns it in the handshake"
        late.extend((first_read(both.client), first_read(both.client)))
        raise late[0]

    client, server = both.handshake(go_on)
    if late:
        assert (type(late[1]), str(late[1])) == (type(client), str(client)), "the first error stays"
    return client, server


# --- certificates ---------------------------------------------------------------------------------------

SERVER_CERTIFICATES: dict[
    str, tuple[type[errors.DicomException], int, int, tuple[str, ...], tuple[str, ...]]
] = {
    "stranger": (
        errors.CertificateUnknownCa,
        20,
        48,
        ("Stranger CA", "add its certificate to", "ca.pem"),
        ("Add the issuer", "Stranger CA", "stranger.pem"),
    ),
    "self_signed": (
        errors.CertificateSelfSigned,
        18,
        48,
        ("signed by itself", "ca.pem"),
        ("unknown_ca (48)",),
    ),
    "expired": (errors.CertificateExpired, 10, 45, ("expired at", "clocks"), ("renew it", "clocks")),
    "not_yet_valid": (
        errors.CertificateNotYetValid,
        9,
        42,
        ("not valid before", "clocks"),
        ("its log should",),
    ),
    "wrong_name": (
        errors.CertificateNameMismatch,
        62,
        42,
        ("'localhost'", "elsewhere.example", "set the name to expect"),
        ("bad_certificate (42)",),
    ),
    "client_only": (
        errors.CertificateVerificationError,
        26,
        43,
        ("TLS server", "issued anew"),
        ("extended key usage",),
    ),
}


@VERSIONS
@pytest.mark.parametrize("name", SERVER_CERTIFICATES)
def test_a_server_certificate_that_we_refuse(certs: Path, name: str, version: int) -> None:
    kind, code, alert, says, server_says = SERVER_CERTIFICATES[name]
    with pair(
        settings(certs, "client", version=version),
        settings(certs, name, version=version),
        expected_name="localhost",
    ) as both:
        client, server = both.handshake()
    check(client, kind, alert=alert, refused_by="us", says=says, verify_code=code, depth=0)
    assert name in client.subject
    assert client.findings
    assert client.openssl == "certificate verify failed"
    check(server, errors.CertificateRefusedByPeer, alert=alert, refused_by="peer", says=(name, *server_says))


@VERSIONS
@pytest.mark.parametrize("name", ["stranger", "self_signed", "expired", "not_yet_valid", "server_only"])
def test_a_client_certificate_that_the_server_refuses(certs: Path, name: str, version: int) -> None:
    kind, code, alert, says, client_says = SERVER_CERTIFICATES.get(
        name,
        (errors.CertificateVerificationError, 26, 43, ("TLS client",), ("extended key usage (TLS client)",)),
    )
    with pair(settings(certs, name, version=version), settings(certs, version=version)) as both:
        client, server = refused(both, version)
    check(server, kind, alert=alert, refused_by="us", says=says, verify_code=code)
    check(client, errors.CertificateRefusedByPeer, alert=alert, refused_by="peer", says=(name, *client_says))
    assert client.code == DicomExceptionCode[f"TLS_{ALERTS[alert].upper()}"]


@VERSIONS
def test_a_client_without_the_certificate_that_the_server_demands(certs: Path, version: int) -> None:
    with pair(settings(certs, None, version=version), settings(certs, version=version)) as both:
        client, server = refused(both, version)
    alert = {TLS12: 40, TLS13: 116}[version]
    check(
        server,
        errors.PeerCertificateMissing,
        alert=alert,
        refused_by="us",
        says=("shows no certificate", "FAIL_IF_NO_PEER_CERTIFICATE"),
    )
    check(
        client,
        errors.CertificateRequiredByPeer,
        alert=alert,
        refused_by="peer",
        says=("none to show", "set_tls_client_certificate"),
    )


@VERSIONS
def test_a_revoked_certificate(certs: Path, authority: Authority, version: int) -> None:
    revoked = authority.issue("withdrawn", dns=("localhost",))
    options = {"crls": (authority.crl(revoked.certificate),), "version": version}
    with pair(settings(certs, "client", **options), identity_settings(certs, revoked)) as both:
        client, server = both.handshake()
    check(
        client,
        errors.CertificateRevoked,
        alert=44,
        refused_by="us",
        says=("Test Root CA", "has revoked it"),
        verify_code=23,
        code=DicomExceptionCode.TLS_CERT_REVOKED,
    )
    check(server, errors.CertificateRefusedByPeer, alert=44, refused_by="peer", says=("revoked",))


def test_everything_that_is_wrong_with_a_certificate_is_told_at_once(certs: Path) -> None:
    other = Authority("Nobody's CA")
    bad = other.issue(
        "bad", dns=("elsewhere.example",), not_before=NOW.replace(year=2001), not_after=NOW.replace(year=2002)
    )
    with pair(settings(certs, "client"), identity_settings(certs, bad), expected_name="localhost") as both:
        client, _ = both.handshake()
    check(
        client,
        errors.CertificateUnknownCa,
        alert=48,
        refused_by="us",
        says=("Nobody's CA", "expired at 2002", "elsewhere.example"),
    )
    assert len(client.findings) == 3


def test_a_missing_intermediate_certificate(certs: Path) -> None:
    bare_leaf = settings(certs, "chained")
    credentials = copy.copy(bare_leaf.credentials)
    object.__setattr__(credentials, "chain", ())
    with pair(settings(certs, "client"), settings(certs, None, credentials=credentials)) as both:
        client, _ = both.handshake()
    check(
        client,
        errors.CertificateUnknownCa,
        alert=48,
        refused_by="us",
        says=("Test Intermediate CA", "send that CA's"),
    )


def test_a_fault_further_up_the_chain_names_the_certificate_concerned(
    certs: Path, authority: Authority
) -> None:
    old = authority.intermediate(
        "Old CA", not_before=NOW.replace(year=2001), not_after=NOW.replace(year=2002)
    )
    with pair(settings(certs, "client"), identity_settings(certs, old.issue("young"))) as both:
        client, _ = both.handshake()
    check(
        client,
        errors.CertificateExpired,
        alert=45,
        refused_by="us",
        says=("CN=Old CA", "depth 1"),
        depth=1,
        verify_code=10,
    )
    assert "Old CA" in client.subject


# --- nothing in common ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client_options", "server_options", "server_says"),
    [
        pytest.param(
            {"suites": RSA_ONLY}, {"suites": (0xC030,)}, "ECDHE_RSA_WITH_AES_128_GCM_SHA256", id="TLS1.2"
        ),
        pytest.param({"suites": AES128}, {"suites": CHACHA}, "TLS_AES_128_GCM_SHA256", id="TLS1.3"),
        pytest.param({"suites": ECDSA_ONLY}, {"suites": (*ECDSA_ONLY, *RSA_ONLY)}, "RSA key", id="RSA key"),
    ],
)
def test_no_cipher_suite_in_common(
    certs: Path, client_options: dict[str, Any], server_options: dict[str, Any], server_says: str
) -> None:
    with pair(settings(certs, "client", **client_options), settings(certs, **server_options)) as both:
        client, server = both.handshake()
    check(
        client,
        errors.NoCommonCipherSuite,
        alert=40,
        refused_by="peer",
        says=("We offer TLS 1.", "set_tls_cipher_suite_by_index"),
    )
    check(
        server,
        errors.NoCommonCipherSuite,
        alert=40,
        refused_by="us",
        says=(server_says, "it offers TLS 1.", "we allow TLS 1.", "set_tls_cipher_suite_by_index"),
    )


def test_no_key_exchange_group_in_common(certs: Path) -> None:
    with pair(
        settings(certs, "client", version=TLS13, groups=("X25519",)), settings(certs, groups=("P-384",))
    ) as both:
        client, server = both.handshake()
    check(client, errors.NoCommonCipherSuite, alert=40, refused_by="peer", says=("group",))
    check(server, errors.NoCommonCipherSuite, alert=40, refused_by="us", says=("group", "P-256"))


@pytest.mark.parametrize(("one", "other"), [(TLS12, TLS13), (TLS13, TLS12)], ids=["old client", "old server"])
def test_no_version_in_common(certs: Path, one: int, other: int) -> None:
    with pair(settings(certs, "client", version=one), settings(certs, version=other)) as both:
        client, server = both.handshake()
    check(client, errors.NoCommonVersion, alert=70, refused_by="peer", says=("We offer TLS 1.", "gateway"))
    name = {TLS12: "TLS 1.2", TLS13: "TLS 1.3"}
    check(
        server,
        errors.NoCommonVersion,
        alert=70,
        refused_by="us",
        says=(f"it offers {name[one]} with", f"we allow {name[other]} with"),
    )


def test_a_server_that_answers_with_an_old_version(certs: Path, waiting: threading.Event) -> None:
    hello = bytes.fromhex("0303") + bytes(32) + b"\x00" + bytes.fromhex("c02f00")
    hello = hello.replace(b"\x03\x03", b"\x03\x01", 1)  # TLS 1.0
    body = b"\x02" + len(hello).to_bytes(3, "big") + hello
    error = answered(certs, waiting, b"\x16\x03\x01" + len(body).to_bytes(2, "big") + body)
    check(
        error,
        errors.NoCommonVersion,
        alert=70,
        refused_by="us",
        says=("we allow TLS 1.2 to TLS 1.3", "gateway"),
    )


# --- not TLS at all -----------------------------------------------------------------------------------------

ASSOCIATE_RQ = b"\x01\x00\x00\x00\x00\xc8\x00\x01\x00\x00STORESCP        ECHOSCU         " + bytes(160)
A_ABORT = b"\x07\x00\x00\x00\x00\x04\x00\x00\x02\x01"


def asked(certs: Path, data: bytes, *, then_close: bool = False) -> BaseException | None:
    """Return what our server is told about a client that sends `data`."""
    near, far = tcp_pair()
    with near:
        near.sendall(data)
        if then_close:
            near.shutdown(socket.SHUT_WR)
        ours = context_for(settings(certs), server_side=True).stream(TcpStream(far))
        shaking = in_thread(lambda: error_of(lambda: ours.handshake(later())))
        near.settimeout(LONG)
        assert near.recv(1) == b"" or then_close, "nothing is answered to what is not TLS"
        near.close()
        return shaking()


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    return tell_waiting(monkeypatch)


def answered(
    certs: Path, waiting: threading.Event, data: bytes, *, reset: bool = False
) -> BaseException | None:
    """Return what our client is told about a server that answers its ClientHello with `data` and closes."""
    near, far = tcp_pair()
    ours = context_for(settings(certs, "client"), server_side=False).stream(TcpStream(near))
    shaking = in_thread(lambda: error_of(lambda: ours.handshake(later())))
    with far:
        assert parse(far.recv(65536)) is not None
        assert waiting.wait(LONG)
        far.sendall(data)
        if reset:
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    return shaking()


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        pytest.param(ASSOCIATE_RQ, "plain DICOM", id="DICOM"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: pacs\r\n\r\n", "HTTP", id="HTTP"),
        pytest.param(b"CONNECT pacs:2762 HTTP/1.1\r\n\r\n", "HTTP", id="HTTP proxy"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", "SSH", id="SSH"),
        pytest.param(b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(40), "SSL 2.0", id="SSLv2"),
        pytest.param(b"\xde\xad\xbe\xef" * 8, "unknown data", id="junk"),
    ],
)
def test_a_client_that_does_not_speak_tls(certs: Path, data: bytes, seen: str) -> None:
    error = asked(certs, data)
    check(
        error,
        errors.ProtocolMismatch,
        refused_by="us",
        says=(seen, "to our TLS port", "Switch TLS on there"),
        seen=seen,
        code=DicomExceptionCode.NET_PROTOCOL_TYPE,
    )


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        pytest.param(A_ABORT, "plain DICOM", id="DICOM A-ABORT"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP", id="HTTP"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", "SSH", id="SSH"),
        pytest.param(b"220 mail.example ESMTP\r\n", "unknown data", id="SMTP"),
    ],
)
def test_a_server_that_does_not_speak_tls(
    certs: Path, waiting: threading.Event, data: bytes, seen: str
) -> None:
    error = answered(certs, waiting, data)
    check(
        error,
        errors.ProtocolMismatch,
        refused_by="us",
        alert=getattr(error, "alert", None),
        says=(seen, "2762", "DicomNetSecurityMode.NONE"),
        seen=seen,
    )


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "reset"])
def test_a_server_that_closes_on_seeing_tls_may_be_a_plain_one(
    certs: Path, waiting: threading.Event, reset: bool
) -> None:
    error = answered(certs, waiting, b"", reset=reset)
    check(error, errors.ConnectionLost, says=("plain DICOM on this port", "reset" if reset else "closed"))
    assert bool(error.errno) is reset


def test_a_port_scan(certs: Path) -> None:
    check(
        asked(certs, b"", then_close=True),
        errors.ConnectionLost,
        says=("without sending anything", "port scan"),
    )


def test_a_client_that_gives_up_in_the_middle(certs: Path) -> None:
    near, far = tcp_pair()
    ours = context_for(settings(certs), server_side=True).stream(TcpStream(far))
    shaking = in_thread(lambda: error_of(lambda: ours.handshake(later())))
    with near:
        near.sendall(client_hello(certs))
        near.recv(1)
    check(shaking(), errors.ConnectionLost, says=("in the middle of the TLS handshake", "CN=server"))


# --- alerts ---------------------------------------------------------------------------------------------


def client_hello(certs: Path, version: int | None = None) -> bytes:
    """Return the first flight of a bare client."""
    connection = SSL.Connection(bare_context(certs, server_side=False, version=version), None)
    connection.set_connect_state()
    assert isinstance(error_of(connection.do_handshake), SSL.WantReadError)
    return connection.bio_read(65536)


KINDS = {
    40: errors.NoCommonCipherSuite,
    70: errors.NoCommonVersion,
    71: errors.NoCommonCipherSuite,
    116: errors.CertificateRequiredByPeer,
}


@pytest.mark.parametrize("alert", [number for number in [*ALERTS, 200] if number not in (0, 90, 100)])
def test_an_alert_in_answer_to_our_hello(certs: Path, waiting: threading.Event, alert: int) -> None:
    error = answered(certs, waiting, bytes((0x15, 3, 3, 0, 2, 2, alert)))
    name = ALERTS.get(alert, "unknown")
    check(
        error,
        KINDS.get(alert, errors.TlsHandshakeError),
        alert=alert,
        refused_by="peer",
        says=(f"alert {name} ({alert})",),
    )
    code = getattr(DicomExceptionCode, f"TLS_{name.upper()}", None)
    assert error.code == (code or type(error).default_code)


@pytest.mark.parametrize("alert", [0, 90], ids=["close_notify", "user_canceled"])
def test_a_peer_that_changes_its_mind(certs: Path, waiting: threading.Event, alert: int) -> None:
    error = answered(certs, waiting, bytes((0x15, 3, 3, 0, 2, 1, alert)))
    check(error, errors.ConnectionLost, says=("in the middle of the TLS handshake",))


@pytest.mark.parametrize("alert", [42, 46, 48, 49, 113])
def test_an_alert_about_our_servers_certificate(certs: Path, alert: int) -> None:
    near, far = tcp_pair()
    ours = context_for(settings(certs, version=TLS12), server_side=True).stream(TcpStream(far))
    shaking = in_thread(lambda: error_of(lambda: ours.handshake(later())))
    with near:
        near.sendall(client_hello(certs, TLS12))
        near.recv(1)
        near.sendall(bytes((0x15, 3, 3, 0, 2, 2, alert)))
        near.shutdown(socket.SHUT_WR)
        while near.recv(65536):
            pass
    check(
        shaking(),
        errors.CertificateRefusedByPeer,
        alert=alert,
        refused_by="peer",
        says=("our certificate (CN=server", ALERTS[alert]),
    )


def test_a_name_that_the_server_does_not_serve(certs: Path) -> None:
    near, far = tcp_pair()
    with far:
        ours = context_for(settings(certs, "client"), server_side=False).stream(
            TcpStream(near), expected_name="pacs.example"
        )
        shaking = in_thread(lambda: error_of(lambda: ours.handshake(later())))
        assert parse(far.recv(4096)) is not None
        far.sendall(bytes((0x15, 3, 3, 0, 2, 2, 112)))
        far.shutdown(socket.SHUT_WR)
        check(
            shaking(),
            errors.TlsHandshakeError,
            alert=112,
            refused_by="peer",
            says=("'pacs.example'", "another name"),
        )


# --- TLS 1.3: refused after the handshake -------------------------------------------------------------------


class Refusing:
    """A bare TLS 1.3 server over memory buffers that demands a certificate, whose alert may be held back."""

    def __init__(self, certs: Path) -> None:
        near, self.socket = tcp_pair()
        self.near = near
        context = bare_context(certs, server_side=True, name="server", version=TLS13)
        self.connection = SSL.Connection(context, None)
        self.connection.set_accept_state()

    def serve(self, *, alert: bool, reset: bool, read_first: int = 0) -> None:
        """Run the handshake until it fails, then send the alert or not, and close."""
        connection, sock = self.connection, self.socket
        sock.settimeout(LONG)
        while True:
            error = error_of(connection.do_handshake)
            if not isinstance(error, SSL.WantReadError):
                break
            self.flush()
            connection.bio_write(sock.recv(65536))
        assert isinstance(error, SSL.Error), "the client's certificate must not be accepted"
        if read_first:
            sock.recv(read_first)
        if alert:
            self.flush()
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        sock.close()

    def flush(self) -> None:
        with suppress(SSL.WantReadError):
            while True:
                self.socket.sendall(self.connection.bio_read(65536))


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "reset"])
@pytest.mark.parametrize("name", [None, "stranger"])
def test_a_late_refusal_without_a_word(certs: Path, name: str | None, reset: bool) -> None:
    """The alert may be lost, when the reset overtakes it: then the message can say only what is likely."""
    server = Refusing(certs)
    ours = context_for(settings(certs, name), server_side=False).stream(TcpStream(server.near))
    serving = in_thread(lambda: server.serve(alert=False, reset=reset))
    ours.handshake(later())
    serving()
    error = first_read(ours)
    ours.kill()
    if name is None:
        check(
            error,
            errors.CertificateRequiredByPeer,
            refused_by="peer",
            says=(
                "asked for a client certificate",
                "none to show",
                "Most likely",
                "set_tls_client_certificate",
            ),
        )
    else:
        check(
            error,
            errors.ConnectionLost,
            says=("right after the TLS handshake", "may have refused our certificate"),
        )
        assert name in str(error)


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "reset"])
@pytest.mark.parametrize("first", ["write", "read"])
def test_a_late_refusal_is_named_whatever_comes_first(certs: Path, reset: bool, first: str) -> None:
    """The alert is there, and then a reset: a failed write would make it unreadable."""
    server = Refusing(certs)
    ours = context_for(settings(certs, "stranger"), server_side=False).stream(TcpStream(server.near))
    serving = in_thread(lambda: server.serve(alert=True, reset=reset))
    ours.handshake(later())
    serving()
    if first == "write":
        error = error_of(lambda: ours.write([bytes(100)], later()))
    else:
        error = error_of(lambda: ours.read_into(memoryview(bytearray(10)), later()))
    ours.kill()
    check(
        error,
        errors.CertificateRefusedByPeer,
        alert=48,
        refused_by="peer",
        says=("unknown_ca (48)", "stranger"),
    )


def test_an_end_right_after_the_handshake_where_no_certificate_was_asked_for(certs: Path) -> None:
    near, far = tcp_pair()
    peer = bare(
        bare_context(certs, server_side=True, name="server", version=TLS13, verify=False),
        far,
        server_side=True,
    )
    ours = context_for(settings(certs, "client"), server_side=False).stream(TcpStream(near))
    done = in_thread(peer.do_handshake)
    ours.handshake(later())
    done()
    far.close()
    error = error_of(lambda: ours.read_into(memoryview(bytearray(10)), later()))
    ours.kill()
    check(error, errors.ConnectionLost, says=("right after the TLS handshake",))
    assert "certificate" not in str(error)


def test_a_loss_after_the_first_answer_says_nothing_of_certificates(certs: Path) -> None:
    near, far = tcp_pair()
    peer = bare(bare_context(certs, server_side=True, name="server", version=TLS13), far, server_side=True)
    ours = context_for(settings(certs, "client"), server_side=False).stream(TcpStream(near))
    done = in_thread(peer.do_handshake)
    ours.handshake(later())
    done()
    peer.sendall(b"answer")
    far.close()
    buffer = memoryview(bytearray(10))
    assert ours.read_into(buffer, later()) == 6
    error = error_of(lambda: ours.read_into(buffer, later()))
    ours.kill()
    check(error, errors.ConnectionLost, says=("close_notify",))
    assert "certificate" not in str(error)


# --- hostile content -------------------------------------------------------------------------------------


def test_what_a_peer_writes_into_its_certificate_is_escaped(certs: Path) -> None:
    evil = Authority("CA\n\x1b[31mred").issue("leaf\r\nINFO forged", dns=("localhost",))
    with pair(settings(certs, "client"), identity_settings(certs, evil)) as both:
        client, server = both.handshake()
    for error in (client, server):
        assert str(error).isprintable()
    assert isinstance(client, errors.CertificateUnknownCa)


def test_no_message_holds_a_secret(certs: Path) -> None:
    key = (certs / "server.key").read_text().splitlines()[1]
    with pair(settings(certs, None), settings(certs)) as both:
        for error in both.handshake():
            assert key[:20] not in repr(error)
        assert key[:20] not in repr(both.server._evidence)


def test_a_client_hello_tells_versions_and_suites(certs: Path) -> None:
    hello = parse(client_hello(certs))
    assert hello is not None
    assert hello.versions == (TLS13, TLS12)
    assert {0x1301, 0xC02F} <= set(hello.suites)
    assert parse(client_hello(certs, TLS12)).versions == (TLS12,)
    assert str(ClientHello((TLS12,), (0xC02F, 0xFFAA))) == (
        "TLS 1.2 with TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, 0xFFAA"
    )
    assert str(ClientHello((TLS12,), tuple(range(0x2F, 0x39)))).endswith("and 2 more")
    assert "no suite" in str(ClientHello((TLS12,), ()))


def test_a_client_hello_that_is_cut_or_garbled_is_none_and_never_an_error(certs: Path) -> None:
    hello = client_hello(certs)
    for end in range(0, len(hello), 3):
        parse(hello[:end])
    assert parse(hello[:60]) is None
    assert parse(b"\x15" + hello[1:]) is None
    assert parse(hello[:5] + b"\x02" + hello[6:]) is None
    for index in range(min(200, len(hello))):
        parse(hello[:index] + bytes([hello[index] ^ 0xFF]) + hello[index + 1 :])
