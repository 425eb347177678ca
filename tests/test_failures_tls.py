"""What goes wrong with TLS, as a user of the SDK sees it: against ourselves, DCMTK, OpenSSL's programs.

Each failure has its own exception class and a message that names the peer and says what to do next; it comes
at once, or by its own time-out: all others are longer than a test may take. Nothing is left open.
"""

from __future__ import annotations

import select
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from authority import PASSWORD
from failing import WatchedStore, at, failure, only, scu
from net_ends import Peer, played, raw_client
from peers import LOCAL, LONG, PORT, client, free_port, listening, needs, secure, serve

from dicomnet import (
    DicomNet,
    DicomNetSecurityMode,
    DicomOpenSslContextCreationSettings,
    DicomOpenSslOptionsFlags,
    DicomTlsCertificateType,
    DicomTlsCipherSuiteType,
    errors,
)
from dicomnet.tls.cipher_suites import by_type
from dicomnet.tls.stream import TlsStream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dicomnet.scu import StoreScu

pytestmark = pytest.mark.usefixtures("leak_check")

Suite = DicomTlsCipherSuiteType
TLS12, TLS13 = "TLS 1.2", "TLS 1.3"
BOTH = pytest.mark.parametrize("version", [TLS12, TLS13])
ECHO = [("1.2.840.10008.1.1", ("1.2.840.10008.1.2",))]


def pin(net: DicomNet, certs: Path, name: str | None, version: str, **options: Any) -> None:
    """Set one end up for one TLS version."""
    if version == TLS13:
        options["options"] = DicomOpenSslOptionsFlags.NO_TLS_V12
    secure(net, certs, name, **options)
    if version == TLS12:
        suites(net, Suite.ECDHE_RSA_WITH_AES_128_GCM_SHA256, Suite.ECDHE_RSA_WITH_AES_256_GCM_SHA384)


def suites(net: DicomNet, *wanted: Suite) -> None:
    net.set_tls_cipher_suite_by_index(0, Suite.NONE)
    for index, suite in enumerate(wanted):
        net.set_tls_cipher_suite_by_index(index, suite)


@contextmanager
def server(
    folder: Path, certs: Path, name: str = "server", version: str = "", **options: Any
) -> Iterator[Any]:
    made = WatchedStore(folder)
    pin(made, certs, name, version, **options)
    with listening(made):
        yield made


def tls_scu(
    certs: Path, port: int, name: str | None = "client", version: str = "", **options: Any
) -> StoreScu:
    made = scu(port, timeouts=options.pop("timeouts", only()))
    pin(made, certs, name, version, **options)
    return made


# --- something else than TLS -----------------------------------------------------------------------


def test_silent_peer(certs: Path) -> None:
    words = ("within 0.2 s (Timeouts.handshake)", "may speak plain DICOM")
    with played(Peer.at_end) as port, failure(errors.HandshakeTimeout, *words, peer=at(port)):
        tls_scu(certs, port, timeouts=only("handshake")).open(ECHO)


def test_silent_peer_at_our_server(certs: Path, tmp_path: Path) -> None:
    made = WatchedStore(tmp_path, timeouts=only("handshake"))
    secure(made, certs, "server")
    with listening(made), raw_client(made.host_port) as peer:
        assert peer.at_end()
        made.failures.expect(errors.HandshakeTimeout, at(peer.sock.getsockname()[1]), "has not sent anything")


def test_plain_client_at_our_server(certs: Path, tmp_path: Path) -> None:
    with server(tmp_path, certs) as made:
        with failure(errors.ConnectionLost, "may want TLS", peer=at(made.host_port)):
            scu(made.host_port).open(ECHO)
        made.failures.expect(errors.ProtocolMismatch, LOCAL, "plain DICOM", "Switch TLS on there")


def test_tls_client_at_our_plain_server(certs: Path, tmp_path: Path) -> None:
    with listening(WatchedStore(tmp_path)) as made:
        words = ("plain DICOM", "no TLS on this port", "DicomNetSecurityMode.NONE")
        with failure(errors.ProtocolMismatch, *words, peer=at(made.host_port)):
            tls_scu(certs, made.host_port).open(ECHO)
        made.failures.expect(errors.ProtocolMismatch, LOCAL, "TLS", "DicomNetSecurityMode.TLS")


@pytest.mark.parametrize(
    ("answer", "seen"),
    [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP"), (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH")],
    ids=["HTTP", "SSH"],
)
def test_another_protocol_at_the_server(certs: Path, answer: bytes, seen: str) -> None:
    def answers(peer: Peer) -> None:
        peer.send(answer)
        peer.at_end()

    with played(answers) as port, failure(errors.ProtocolMismatch, seen, "port", peer=at(port)) as raised:
        tls_scu(certs, port).open(ECHO)
    assert raised.value.seen == seen


def test_an_answer_that_comes_while_we_write_is_seen(certs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fast peer answers before OpenSSL begins to read, which then takes what has come and drops it."""
    peek, calls = TlsStream._peek, []

    def too_early(stream: TlsStream) -> bytes:
        calls.append(stream)
        if len(calls) > 1:
            return peek(stream)
        select.select([stream.fileno()], [], [], LONG)
        return b""

    def answers(peer: Peer) -> None:
        peer.send(b"SSH-2.0-OpenSSH_9.2\r\n")
        peer.at_end()

    monkeypatch.setattr(TlsStream, "_peek", too_early)
    with played(answers) as port, failure(errors.ProtocolMismatch, "SSH", peer=at(port)):
        tls_scu(certs, port).open(ECHO)


@pytest.mark.parametrize(
    ("first", "seen"),
    [(b"GET / HTTP/1.1\r\nHost: pacs\r\n\r\n", "HTTP"), (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH")],
    ids=["HTTP", "SSH"],
)
def test_another_protocol_at_our_server(certs: Path, tmp_path: Path, first: bytes, seen: str) -> None:
    with server(tmp_path, certs) as made, raw_client(made.host_port) as peer:
        peer.send(first)
        peer.at_end()
        made.failures.expect(errors.ProtocolMismatch, at(peer.sock.getsockname()[1]), seen, "port")


def test_peer_that_closes_at_once(certs: Path) -> None:
    with (
        played(lambda _: None) as port,
        failure(errors.ConnectionLost, "may speak plain DICOM", peer=at(port)),
    ):
        tls_scu(certs, port).open(ECHO)


# --- the server's certificate ----------------------------------------------------------------------

BAD = {
    "stranger": (errors.CertificateUnknownCa, "Stranger CA", "add its certificate to"),
    "self_signed": (errors.CertificateSelfSigned, "signed by itself", "Have one issued by a CA"),
    "expired": (errors.CertificateExpired, "expired at", "renewed"),
    "not_yet_valid": (errors.CertificateNotYetValid, "not valid before", "clocks"),
}
BAD_SERVERS = {
    **BAD,
    "wrong_name": (errors.CertificateNameMismatch, "'127.0.0.1'", "elsewhere.example", "by a name it lists"),
}


@BOTH
@pytest.mark.parametrize("name", BAD_SERVERS)
def test_servers_certificate(certs: Path, tmp_path: Path, name: str, version: str) -> None:
    kind, *words = BAD_SERVERS[name]
    with server(tmp_path, certs, name, version) as made:
        with failure(kind, *words, peer=at(made.host_port)) as raised:
            tls_scu(certs, made.host_port).open(ECHO)
        refusal = made.failures.expect(errors.CertificateRefusedByPeer, LOCAL, "our certificate", "alert")
    assert raised.value.refused_by == "us"
    assert f"CN={name}" in refusal


def test_servers_certificate_revoked(certs: Path, tmp_path: Path) -> None:
    with (
        server(tmp_path, certs, "revoked") as made,
        failure(errors.CertificateRevoked, "revoked", "new certificate", peer=at(made.host_port)),
    ):
        tls_scu(certs, made.host_port, revocation_list_file_name=certs / "crl.pem").open(ECHO)


def test_servers_certificate_for_clients_only(certs: Path, tmp_path: Path) -> None:
    with server(tmp_path, certs, "client_only") as made:
        words = ("must not be used by a TLS server", "issued anew")
        with failure(errors.CertificateVerificationError, *words, peer=at(made.host_port)):
            tls_scu(certs, made.host_port).open(ECHO)


def storescp(certs: Path, name: str, version: str, *more: object) -> list[object]:
    """Return the arguments of a storescp with TLS; its extended BCP 195 profile ends with TLS 1.2."""
    files = ["+tls", certs / f"{name}.key", certs / f"{name}.pem", "+cf", certs / "ca.pem"]
    return ["storescp", "-v", "-dhl", "--ignore", *files, *(["+pz"] if version == TLS12 else []), *more, PORT]


@pytest.mark.interop
@needs("storescp")
@BOTH
@pytest.mark.parametrize("name", BAD_SERVERS)
def test_storescps_certificate(certs: Path, tmp_path: Path, name: str, version: str) -> None:
    kind, *words = BAD_SERVERS[name]
    with (
        serve(tmp_path, *storescp(certs, name, version)) as peer,
        failure(kind, *words, peer=at(peer.port)),
    ):
        tls_scu(certs, peer.port).open(ECHO)


# --- the client's certificate ----------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("name", BAD)
def test_clients_certificate(certs: Path, tmp_path: Path, name: str, version: str) -> None:
    kind, *words = BAD[name]
    with server(tmp_path, certs, version=version) as made:
        seen = (f"CN={name}", "alert")
        with failure(errors.CertificateRefusedByPeer, *seen, peer=at(made.host_port)) as raised:
            tls_scu(certs, made.host_port, name).open(ECHO)
        made.failures.expect(kind, LOCAL, *words)
    assert raised.value.refused_by == "peer"


@BOTH
def test_client_without_certificate(certs: Path, tmp_path: Path, version: str) -> None:
    with server(tmp_path, certs, version=version) as made:
        words = ("demands a client certificate", "set_tls_client_certificate")
        with failure(errors.CertificateRequiredByPeer, *words, peer=at(made.host_port)):
            tls_scu(certs, made.host_port, None).open(ECHO)
        made.failures.expect(errors.PeerCertificateMissing, LOCAL, "FAIL_IF_NO_PEER_CERTIFICATE")


@pytest.mark.interop
@needs("storescp")
@BOTH
@pytest.mark.parametrize("name", BAD)
def test_storescp_refuses_our_certificate(certs: Path, tmp_path: Path, name: str, version: str) -> None:
    """In TLS 1.3 its reset may overtake its alert: then all that can be said is what is likely."""
    with (
        serve(tmp_path, *storescp(certs, "server", version, "-rc")) as peer,
        pytest.raises((errors.CertificateRefusedByPeer, errors.ConnectionLost)) as raised,
    ):
        tls_scu(certs, peer.port, name).open(ECHO)
    text = str(raised.value)
    assert "our certificate" in text
    assert f"CN={name}" in text
    assert at(peer.port) in text
    assert version == TLS13 or type(raised.value) is errors.CertificateRefusedByPeer


@pytest.mark.interop
@needs("storescp")
@BOTH
def test_storescp_demands_a_certificate(certs: Path, tmp_path: Path, version: str) -> None:
    words = ("client certificate", "set_tls_client_certificate")
    with (
        serve(tmp_path, *storescp(certs, "server", version, "-rc")) as peer,
        failure(errors.CertificateRequiredByPeer, *words, peer=at(peer.port)),
    ):
        tls_scu(certs, peer.port, None).open(ECHO)


# --- DCMTK's clients at our server -----------------------------------------------------------------


def echoscu(certs: Path, port: int, name: str, version: str, ca: str = "ca.pem") -> None:
    """Run an echoscu that must fail."""
    options = ["+tls", certs / f"{name}.key", certs / f"{name}.pem"] if name else ["+tla"]
    options += ["+cf", certs / ca, *(["+pz"] if version == TLS12 else [])]
    assert client("echoscu", *options, LOCAL, port).returncode != 0


@pytest.mark.interop
@needs("echoscu")
@BOTH
@pytest.mark.parametrize("name", BAD)
def test_echoscus_certificate(certs: Path, tmp_path: Path, name: str, version: str) -> None:
    kind, *words = BAD[name]
    with server(tmp_path, certs) as made:
        echoscu(certs, made.host_port, name, version)
        made.failures.expect(kind, LOCAL, *words)


@pytest.mark.interop
@needs("echoscu")
@BOTH
def test_echoscu_without_certificate(certs: Path, tmp_path: Path, version: str) -> None:
    with server(tmp_path, certs) as made:
        echoscu(certs, made.host_port, "", version)
        made.failures.expect(errors.PeerCertificateMissing, LOCAL, "FAIL_IF_NO_PEER_CERTIFICATE")


@pytest.mark.interop
@needs("echoscu")
@BOTH
def test_echoscu_does_not_trust_our_ca(certs: Path, tmp_path: Path, version: str) -> None:
    with server(tmp_path, certs) as made:
        echoscu(certs, made.host_port, "client", version, "stranger_ca.pem")
        words = ("unknown_ca (48)", "CN=Test Root CA", "Add the issuer")
        made.failures.expect(errors.CertificateRefusedByPeer, LOCAL, *words)


@pytest.mark.interop
@needs("echoscu", "storescp")
def test_plain_and_tls_mixed_up_with_dcmtk(certs: Path, tmp_path: Path) -> None:
    with server(tmp_path / "a", certs) as made:
        assert client("echoscu", LOCAL, made.host_port).returncode != 0
        made.failures.expect(errors.ProtocolMismatch, LOCAL, "plain DICOM", "Switch TLS on there")
    with listening(WatchedStore(tmp_path / "b")) as made:
        echoscu(certs, made.host_port, "client", TLS13)
        made.failures.expect(errors.ProtocolMismatch, LOCAL, "TLS", "DicomNetSecurityMode.TLS")
    with (
        serve(tmp_path, *storescp(certs, "server", TLS13)) as peer,
        failure(errors.ConnectionLost, "may want TLS", peer=at(peer.port)),
    ):
        scu(peer.port).open(ECHO)
    with (
        serve(tmp_path, "storescp", "-dhl", PORT) as peer,
        failure(errors.ConnectionLost, "may speak plain DICOM", peer=at(peer.port)),
    ):
        tls_scu(certs, peer.port).open(ECHO)


# --- suites and versions ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Suite.ECDHE_RSA_WITH_AES_128_GCM_SHA256, Suite.ECDHE_RSA_WITH_AES_256_GCM_SHA384),
        (Suite.AES_128_GCM_SHA256, Suite.AES_256_GCM_SHA384),
    ],
    ids=[TLS12, TLS13],
)
def test_no_common_suite(certs: Path, tmp_path: Path, ours: Suite, theirs: Suite) -> None:
    made = WatchedStore(tmp_path)
    secure(made, certs, "server")
    suites(made, theirs)
    with listening(made):
        client_ = tls_scu(certs, made.host_port)
        suites(client_, ours)
        words = (by_type(ours).iana_name, "set_tls_cipher_suite_by_index")
        with failure(errors.NoCommonCipherSuite, *words, peer=at(made.host_port)):
            client_.open(ECHO)
        words = (by_type(ours).iana_name, by_type(theirs).iana_name, "set_tls_cipher_suite_by_index")
        made.failures.expect(errors.NoCommonCipherSuite, LOCAL, *words)


@pytest.mark.parametrize(("ours", "theirs"), [(TLS12, TLS13), (TLS13, TLS12)])
def test_no_common_version(certs: Path, tmp_path: Path, ours: str, theirs: str) -> None:
    with server(tmp_path, certs, version=theirs) as made:
        with failure(errors.NoCommonVersion, f"We offer {ours}", peer=at(made.host_port)):
            tls_scu(certs, made.host_port, version=ours).open(ECHO)
        made.failures.expect(errors.NoCommonVersion, LOCAL, ours, theirs)


OLD = ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]


def s_server(certs: Path, *options: object) -> list[object]:
    """Return the arguments of OpenSSL's server; with -www it does not end with its input."""
    files = ["-key", certs / "server.key", "-cert", certs / "server.pem"]
    return ["openssl", "s_server", "-www", "-accept", PORT, *files, *options]


@pytest.mark.interop
@needs("openssl")
def test_server_with_an_old_version(certs: Path, tmp_path: Path) -> None:
    with serve(tmp_path, *s_server(certs, *OLD)) as peer:
        words = ("We offer TLS 1.2 to TLS 1.3", "Switch on TLS 1.2 or 1.3 there")
        with failure(errors.NoCommonVersion, *words, peer=at(peer.port)):
            tls_scu(certs, peer.port).open(ECHO)


@pytest.mark.interop
@needs("openssl")
def test_client_with_an_old_version(certs: Path, tmp_path: Path) -> None:
    with server(tmp_path, certs) as made:
        assert client("openssl", "s_client", "-connect", at(made.host_port), *OLD).returncode != 0
        made.failures.expect(errors.NoCommonVersion, LOCAL, "TLS 1.1", "Switch on TLS 1.2 or 1.3 there")


@pytest.mark.interop
@needs("openssl")
def test_server_with_other_suites(certs: Path, tmp_path: Path) -> None:
    with (
        serve(tmp_path, *s_server(certs, "-tls1_2", "-cipher", "CAMELLIA256-SHA")) as peer,
        failure(errors.NoCommonCipherSuite, "We offer TLS 1.2", peer=at(peer.port)),
    ):
        tls_scu(certs, peer.port).open(ECHO)


@pytest.mark.interop
@needs("openssl")
def test_client_with_other_suites(certs: Path, tmp_path: Path) -> None:
    options = ["-tls1_2", "-cipher", "CAMELLIA256-SHA"]
    with server(tmp_path, certs) as made:
        assert client("openssl", "s_client", "-connect", at(made.host_port), *options).returncode != 0
        made.failures.expect(errors.NoCommonCipherSuite, LOCAL, "CAMELLIA_256_CBC_SHA")


UNAVAILABLE = (Suite.DHE_RSA_WITH_DES_CBC_SHA, Suite.RSA_WITH_3DES_EDE_CBC_SHA)
"""LEADTOOLS' old ones, which OpenSSL no longer has."""


def test_only_unavailable_suites(certs: Path) -> None:
    made = tls_scu(certs, free_port())  # nothing listens there: it fails before it connects
    suites(made, *UNAVAILABLE)
    with failure(errors.CipherSuitesUnavailable, "DES", "OpenSSL does not have it", "for example") as raised:
        made.open(ECHO)
    assert raised.value.suites == tuple(by_type(suite).iana_name for suite in UNAVAILABLE)
    assert not made.is_activated()


def test_server_with_only_unavailable_suites(certs: Path, tmp_path: Path) -> None:
    made = WatchedStore(tmp_path)
    secure(made, certs, "server")
    suites(made, *UNAVAILABLE)
    with failure(errors.CipherSuitesUnavailable, "DES", "OpenSSL does not have it", "for example"):
        made.listen(LOCAL, 0)
    assert not made.is_activated()


# --- DICOM within TLS ------------------------------------------------------------------------------


@pytest.mark.interop
@needs("openssl")
@BOTH
def test_tls_with_something_else_within(certs: Path, tmp_path: Path, version: str) -> None:
    files = {"-key": "client.key", "-cert": "client.pem", "-CAfile": "ca.pem"}
    options = ["-quiet", *(word for option, name in files.items() for word in (option, certs / name))]
    with server(tmp_path, certs, version=version) as made:
        client("openssl", "s_client", "-connect", at(made.host_port), *options, text="GET / HTTP/1.1\r\n\r\n")
        made.failures.expect(errors.ProtocolMismatch, LOCAL, "HTTP", "wrong port")


# --- certificate, key and password -----------------------------------------------------------------


class Asked(DicomNet):
    """Answers with one password after the other, and keeps what it was asked for."""

    def __init__(self, *answers: str | None) -> None:
        super().__init__()
        self.answers = list(answers)
        self.requests: list[Any] = []

    def on_private_key_password_for(self, request: Any) -> str | None:
        self.requests.append(request)
        return self.answers.pop(0) if self.answers else None


def take(net: DicomNet, certificate: Path, key: Path | None, **options: Any) -> None:
    net.set_tls_client_certificate(certificate, DicomTlsCertificateType.PEM, key, **options)


def test_key_of_another_certificate(certs: Path) -> None:
    with failure(errors.KeyMismatch, str(certs / "server.pem"), str(certs / "client.key")):
        take(DicomNet(), certs / "server.pem", certs / "client.key")


def test_no_password(certs: Path) -> None:
    key = certs / "server_pkcs8.key"
    with failure(errors.PasswordRequired, str(key), "on_private_key_password"):
        take(DicomNet(), certs / "server.pem", key)


def test_wrong_password(certs: Path) -> None:
    net, key = Asked(*["guess"] * 9), certs / "server_pkcs8.key"
    with failure(errors.WrongPassword, str(key), "check the password") as raised:
        take(net, certs / "server.pem", key)
    assert raised.value.attempts == len(net.requests) == 3
    assert "guess" not in str(raised.value)


@pytest.mark.parametrize("key", ["server_pkcs1", "server_pkcs8"])
def test_retried_password(certs: Path, tmp_path: Path, key: str) -> None:
    class Server(Asked, WatchedStore):
        def __init__(self) -> None:
            WatchedStore.__init__(self, tmp_path)
            self.answers, self.requests = ["guess", PASSWORD], []

    made = Server()
    secure(made, certs, None)
    take(made, certs / "server.pem", certs / f"{key}.key")
    assert [request.attempt for request in made.requests] == [1, 2]
    with listening(made):
        client_ = tls_scu(certs, made.host_port)
        client_.open(ECHO)
        assert client_.echo() == 0
        client_.release()


def test_password_for_a_plain_key(certs: Path) -> None:
    key = certs / "server.key"
    with failure(errors.PasswordNotNeeded, str(key), "not encrypted", "leave the password out"):
        take(DicomNet(), certs / "server.pem", key, password=PASSWORD)


@pytest.mark.parametrize("damaged", ["certificate", "key"])
def test_damaged_file(certs: Path, tmp_path: Path, damaged: str) -> None:
    files = {"certificate": tmp_path / "server.pem", "key": tmp_path / "server.key"}
    for path in files.values():
        shutil.copy(certs / path.name, path)
    text = files[damaged].read_text()
    files[damaged].write_text(text[: len(text) // 2] + "!" + text[len(text) // 2 + 40 :])
    with failure(errors.CertificateFileError, str(files[damaged]), "damaged") as raised:
        take(DicomNet(), files["certificate"], files["key"])
    assert raised.value.path == str(files[damaged])


def test_missing_file(certs: Path, tmp_path: Path) -> None:
    with failure(errors.CertificateFileError, str(tmp_path / "none.pem")):
        take(DicomNet(), tmp_path / "none.pem", certs / "server.key")


@pytest.mark.parametrize("content", [b"", b"not a certificate", None], ids=["empty", "text", "missing"])
def test_damaged_ca_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with failure(errors.CertificateFileError, str(path)):
        DicomNet().initialize(
            None,
            DicomNetSecurityMode.TLS,
            DicomOpenSslContextCreationSettings(certification_authorities_file_name=path),
        )


def test_no_ca() -> None:
    words = ("no CA certificate is given", "certification_authorities_file_name")
    made = scu(free_port(), security_mode=DicomNetSecurityMode.TLS)
    with failure(errors.TlsConfigurationError, *words):
        made.open(ECHO)


def test_server_without_certificate(certs: Path, tmp_path: Path) -> None:
    made = WatchedStore(tmp_path)
    secure(made, certs, None)
    with failure(errors.TlsConfigurationError, "needs a certificate", "set_tls_server_certificate"):
        made.listen(LOCAL, 0)
