"""The secure link as an application of `DicomNet` sees it: both ends ours, every callback and getter."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from authority import PASSWORD
from dialogue import CT, EXPLICIT, VERIFICATION
from net_ends import (
    LONG,
    PATIENT,
    Client,
    Server,
    Storage,
    associate,
    associated,
    connected,
    event,
    in_thread,
    played,
    raw_client,
    serving,
)

from dicomnet import DicomDataSet, DicomNet, DicomOpenSslContextCreationSettings, Timeouts, errors
from dicomnet.enums import (
    DicomExceptionCode,
    DicomNetSecurityMode,
    DicomOpenSslOptionsFlags,
    DicomOpenSslVerificationFlags,
    DicomSslMethodType,
    DicomTlsAuthenticationMethodType,
    DicomTlsCertificateType,
    DicomTlsCipherSuiteType,
    DicomTlsEncryptionMethodType,
    DicomTlsExchangeMethodType,
    DicomTlsMacMethodType,
)
from dicomnet.tls import certificates, context

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("leak_check")

T = DicomTlsCipherSuiteType
TLS = DicomNetSecurityMode.TLS
PEM = DicomTlsCertificateType.PEM
SUCCESS = DicomExceptionCode.SUCCESS
LARGE = bytes(range(256)) * 16384 * 8  # 32 MiB


def secure(net: Any, certs: Path, name: str = "client", *, ca: str = "ca.pem", **options: Any) -> Any:
    """Set up an end of a secure link; options are those of the creation settings."""
    net.initialize(
        None,
        TLS,
        DicomOpenSslContextCreationSettings(certification_authorities_file_name=certs / ca, **options),
    )
    if name:
        net.set_tls_client_certificate(certs / f"{name}.pem", PEM, certs / f"{name}.key")
    return net


@contextmanager
def secure_server(certs: Path, make: Any = Storage) -> Iterator[Server]:
    """Run a server whose links take over its settings."""
    server = secure(Server(lambda: make(None, TLS)), certs, "server")
    server.listen("127.0.0.1", 0)
    server.start()
    with server:
        yield server


def getters(net: DicomNet) -> tuple[Any, ...]:
    return (
        net.get_tls_cipher_suite(),
        net.get_tls_key_exchange_algorithm(),
        net.get_tls_authentication_algorithm(),
        net.get_tls_encryption_algorithm(),
        net.get_tls_encryption_key_length(),
        net.get_tls_integrity_algorithm(),
        net.get_tls_mutual_authentication_key_length(),
    )


class Telling:
    """Notes the callbacks of the making of a link, and what the getters say then."""

    events: list[Any]

    def on_connect(self, error):
        self.events.append(("connect", error, self.get_tls_cipher_suite()))

    def on_secure_link_ready(self, error):
        self.events.append(("secure", error, *getters(self)))
        if error is SUCCESS:
            assert self.is_connected()
            assert str(self.link_security())


class TellingClient(Telling, Client):
    pass


class TellingLink(Telling, Storage):
    pass


NEGOTIATED = {
    "default": (
        None,
        (
            T(0x11302),
            DicomTlsExchangeMethodType.ECDHE,
            DicomTlsAuthenticationMethodType.RSA,
            DicomTlsEncryptionMethodType.AES,
            256,
            DicomTlsMacMethodType.AEAD,
            2048,
        ),
    ),
    "ECDHE": (
        [T.ECDHE_RSA_WITH_AES_256_GCM_SHA384, T.DHE_RSA_WITH_AES_256_GCM_SHA384],
        (
            T.ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            DicomTlsExchangeMethodType.ECDHE,
            DicomTlsAuthenticationMethodType.RSA,
            DicomTlsEncryptionMethodType.AES,
            256,
            DicomTlsMacMethodType.AEAD,
            2048,
        ),
    ),
    "DHE": (
        [T.DHE_RSA_WITH_AES_128_GCM_SHA256],
        (
            T.DHE_RSA_WITH_AES_128_GCM_SHA256,
            DicomTlsExchangeMethodType.RSA_SIGNED_DHE,
            DicomTlsAuthenticationMethodType.RSA,
            DicomTlsEncryptionMethodType.AES,
            128,
            DicomTlsMacMethodType.AEAD,
            2048,
        ),
    ),
    "CBC": (
        [T.RSA_WITH_AES_128_CBC_SHA],
        (
            T.RSA_WITH_AES_128_CBC_SHA,
            DicomTlsExchangeMethodType.RSA,
            DicomTlsAuthenticationMethodType.RSA,
            DicomTlsEncryptionMethodType.AES,
            128,
            DicomTlsMacMethodType.SHA1,
            2048,
        ),
    ),
}


@pytest.mark.parametrize("which", NEGOTIATED)
def test_order_of_callbacks_and_what_the_getters_say_in_them(which, certs):
    """The suites are set by index, as in LEADTOOLS: NONE at 0, then in order of preference (scenario 10)."""
    suites, expected = NEGOTIATED[which]

    def ordered(net: Any) -> Any:
        if suites is not None:
            net.set_tls_cipher_suite_by_index(0, T.NONE)
            for index, suite in enumerate(suites):
                net.set_tls_cipher_suite_by_index(index, suite)
        return net

    class Ordered(Server):
        def on_accept(self, error):
            ordered(self)
            super().on_accept(error)

    server = secure(Ordered(lambda: TellingLink(None, TLS)), certs, "server")
    server.listen("127.0.0.1", 0)
    server.start()
    client = ordered(secure(TellingClient(), certs))
    assert client.get_tls_cipher_suite() is T.NONE
    with associated(server.host_port, client):
        assert client.events == [("connect", SUCCESS, T.NONE), ("secure", SUCCESS, *expected)]
        assert getters(client) == expected
        assert client.echo() == 0
        security = client.link_security()
        assert security.version == ("TLS 1.3" if which == "default" else "TLS 1.2")
        client.release()
    link = server.closed.get(timeout=LONG)[1]
    server.close()
    # the server's peer has shown an RSA certificate too
    assert link.events == [("secure", SUCCESS, *expected), ("close", SUCCESS)]
    assert client.events[-1] == ("close", SUCCESS)
    assert client.get_tls_cipher_suite() is expected[0]  # it is kept after the end


def test_a_study_crosses_a_mutually_authenticated_link_unchanged(certs):
    with secure_server(certs) as server, associated(server.host_port, secure(Client(), certs)) as client:
        for size in (0, 2, 16_000, 200_000, len(LARGE)):
            assert client.status_of(client.store(DicomDataSet(LARGE[:size], EXPLICIT))) == 0
        client.release()
        link = server.closed.get(timeout=LONG)[1]
        assert [len(stored) for stored in link.stored] == [0, 2, 16_000, 200_000, len(LARGE)]
        assert link.stored[-1] == LARGE


@pytest.mark.parametrize("method", [DicomSslMethodType.SSL_V2, DicomSslMethodType.TLS_V1])
def test_no_method_type_of_leadtools_lowers_the_floor(method, certs):
    """A demo of theirs asks for SSLv2."""
    client = secure(Client(), certs, method_type=method)
    with secure_server(certs) as server, associated(server.host_port, client):
        assert client.link_security().version == "TLS 1.3"


def test_options_switch_tls_1_2_off(certs):
    client = secure(Client(), certs, options=DicomOpenSslOptionsFlags.NO_TLS_V12)
    with secure_server(certs) as server, associated(server.host_port, client):
        assert client.link_security().version == "TLS 1.3"


# --- scenarios of LEADTOOLS' programs --------------------------------------------------------------


class WithPassword(Client):
    """Scenario 8: one PEM with certificate and encrypted key, and a password from the callback."""

    asked = 0

    def on_private_key_password(self, encryption):
        self.asked += 1
        return PASSWORD.decode() if isinstance(PASSWORD, bytes) else PASSWORD


def test_scenario_8_password_protected_key_in_the_certificates_file(certs, tmp_path):
    both = tmp_path / "both.pem"
    both.write_bytes((certs / "server.pem").read_bytes() + (certs / "server_pkcs1.key").read_bytes())
    client = WithPassword()
    client.initialize(
        None, TLS, DicomOpenSslContextCreationSettings(DicomSslMethodType.TLS, certs / "ca.pem")
    )
    client.set_tls_cipher_suite_by_index(0, T.ECDHE_RSA_WITH_AES_128_GCM_SHA256)
    client.set_tls_client_certificate(both, PEM, None)
    assert client.asked == 1
    with secure_server(certs) as server, associated(server.host_port, client):
        assert client.echo() == 0
    assert client.asked == 1


def test_a_wrong_password_fails_before_anything_is_connected(certs):
    class Wrong(WithPassword):
        def on_private_key_password(self, encryption):
            super().on_private_key_password(encryption)
            return "wrong"

    client = Wrong(None, TLS)
    with pytest.raises(errors.WrongPassword) as caught:
        client.set_tls_client_certificate(certs / "server.pem", PEM, certs / "server_pkcs8.key")
    assert client.asked == caught.value.attempts == 3


def test_scenario_9_a_plain_listener_whose_links_are_set_up_in_on_accept(certs):
    """Initialize with CA file, Peer|FailIfNoPeerCertificate and depth 2, nine suites, certificate, Accept."""
    nine = [suite for suite in T if 0x11 <= suite <= 0x1A][:9]

    class Leadtools(Server):
        def on_accept(self, error):
            link = TellingLink()
            link.initialize(
                None,
                TLS,
                DicomOpenSslContextCreationSettings(
                    DicomSslMethodType.SSL_V2,
                    certs / "ca.pem",
                    DicomOpenSslVerificationFlags.PEER
                    | DicomOpenSslVerificationFlags.FAIL_IF_NO_PEER_CERTIFICATE,
                    2,
                    DicomOpenSslOptionsFlags.NONE,
                ),
            )
            for index, suite in enumerate(nine):
                link.set_tls_cipher_suite_by_index(index, suite)
            link.set_tls_client_certificate(certs / "server.pem", PEM, certs / "server.key")
            self.accept(link)
            assert link.peer_port
            self.links.put(link)

    server = Leadtools(Storage)
    assert server.security_mode is DicomNetSecurityMode.NONE
    server.listen("127.0.0.1", 0)
    server.start()
    for _ in range(2):
        client = secure(Client(), certs)
        client.set_tls_cipher_suite_by_index(0, T.NONE)
        client.set_tls_cipher_suite_by_index(0, T.ECDHE_RSA_WITH_AES_128_GCM_SHA256)
        with associated(server.host_port, client):
            assert client.echo() == 0
            client.release()
        assert server.closed.get(timeout=LONG)[0] is SUCCESS
    anonymous = secure(Client(), certs, "")
    with pytest.raises(errors.TlsError), associated(server.host_port, anonymous):
        pass
    assert server.closed.get(timeout=LONG)[0] is not SUCCESS
    server.close()


# --- contexts and keys -----------------------------------------------------------------------------


def test_a_key_is_parsed_once_and_a_context_made_once_for_all_links(certs, monkeypatch):
    """A link costs milliseconds less, and a session that a peer resumes keeps working."""
    context._context_for.cache_clear()
    parsed = []
    load = certificates.load_credentials
    monkeypatch.setattr(
        "dicomnet.security.load_credentials", lambda *a, **o: parsed.append(a) or load(*a, **o)
    )
    client = secure(Client(), certs)
    with secure_server(certs) as server:
        loaded = len(parsed)
        keys = set()
        for _ in range(20):
            with associated(server.host_port, client):
                assert client.echo() == 0
                client.release()
            link = server.closed.get(timeout=LONG)[1]
            keys.add(id(link._tls_in_use.credentials.key))
    assert len(parsed) == loaded == 2
    assert len(keys) == 1
    assert context._context_for.cache_info().misses == 2


# --- verification ----------------------------------------------------------------------------------


class Verifying:
    """Has the last word on each certificate; `verdict` None takes OpenSSL's."""

    verdict: int | None = None

    def on_verify(self, ok, certificate_string, error):
        self.seen = [*getattr(self, "seen", []), (ok, certificate_string, error.code)]
        return ok if self.verdict is None else self.verdict


class VerifyingClient(Verifying, TellingClient):
    pass


class VerifyingLink(Verifying, TellingLink):
    pass


def test_on_verify_is_asked_about_each_certificate_on_both_sides(certs):
    client = secure(VerifyingClient(), certs)
    with secure_server(certs, VerifyingLink) as server, associated(server.host_port, client):
        link = server.links.get(timeout=LONG)
        assert link.wait(link.is_associated, LONG)
        for net, name in ((client, "server"), (link, "client")):
            assert [ok for ok, _, _ in net.seen] == [1, 1]
            assert "Test Root CA" in net.seen[0][1]
            assert name in net.seen[1][1]
            assert {int(code) for _, _, code in net.seen} == {0}


def test_on_verify_can_accept_what_openssl_does_not_and_the_reverse(certs):
    client = secure(VerifyingClient(), certs, ca="stranger_ca.pem")
    client.verdict = 1
    with secure_server(certs) as server:
        with associated(server.host_port, client):
            assert client.echo() == 0
        assert 0 in [ok for ok, _, _ in client.seen]
        server.closed.get(timeout=LONG)
        client = secure(VerifyingClient(), certs)
        client.verdict = 0
        with pytest.raises(errors.CertificateVerificationError):
            connected(client, server.host_port)
        assert server.closed.get(timeout=LONG)[0] is not SUCCESS


@pytest.mark.parametrize("side", ["client", "server"])
def test_an_exception_in_on_verify_ends_the_link_and_comes_out_or_is_logged(side, certs, caplog):
    def raising(self, ok, certificate_string, error):
        raise KeyError("in on_verify")

    client_class = type("C", (TellingClient,), {"on_verify": raising} if side == "client" else {})
    link_class = type("L", (TellingLink,), {"on_verify": raising} if side == "server" else {})
    client = secure(client_class(), certs)
    with secure_server(certs, link_class) as server:
        kind = KeyError if side == "client" else errors.DicomException
        with pytest.raises(kind), associated(server.host_port, client):
            pass
        error, link, _ = server.closed.get(timeout=LONG)
        assert error is not SUCCESS
        failing = client if side == "client" else link
        assert [entry[:2] for entry in failing.events if entry[0] != "connect"] == [
            ("secure", DicomExceptionCode.NET_FAILURE),
            ("close", DicomExceptionCode.NET_FAILURE),
        ]
        assert not failing.is_activated()
    assert ("in on_verify" in caplog.text) == (side == "server")


# --- failures --------------------------------------------------------------------------------------


def test_a_failed_handshake_tells_the_callbacks_in_order_raises_and_the_object_can_be_used_again(certs):
    client = secure(TellingClient(), certs, ca="stranger_ca.pem")
    with secure_server(certs, TellingLink) as server:
        with pytest.raises(errors.CertificateUnknownCa) as caught:
            connected(client, server.host_port)
        code = caught.value.code
        assert [entry[:2] for entry in client.events] == [
            ("connect", SUCCESS),
            ("secure", code),
            ("close", code),
        ]
        assert client.events[1][2] is T.NONE
        assert not client.is_activated()
        client.close()
        assert len(client.events) == 3
        error, link, _ = server.closed.get(timeout=LONG)
        assert [entry[:2] for entry in link.events] == [("secure", error), ("close", error)]
        assert error not in (SUCCESS, DicomExceptionCode.NET_FAILURE)
        client.events.clear()
        secure(client, certs)
        with associated(server.host_port, client):
            assert client.echo() == 0


def test_a_server_without_a_certificate_tells_its_callback_and_goes_on(certs):
    server = Server(lambda: secure(TellingLink(), certs, ""))
    server.listen("127.0.0.1", 0)
    server.start()
    for _ in range(2):
        with raw_client(server.host_port) as peer:
            assert peer.at_end()
        error, link, _ = server.closed.get(timeout=LONG)
        assert error is DicomExceptionCode.CERTIFICATE_LOAD_FAILED
        assert [entry[:2] for entry in link.events] == [("secure", error), ("close", error)]
    server.close()


def test_a_client_without_a_ca_fails_before_anything_is_connected():
    client = TellingClient(None, TLS)
    with pytest.raises(errors.TlsConfigurationError, match="certification_authorities_file_name"):
        client.connect(None, 0, "127.0.0.1", 1)
    assert client.events == []
    assert not client.is_activated()


def test_only_suites_that_cannot_be_had(certs):
    client = secure(TellingClient(), certs)
    client.set_tls_cipher_suite_by_index(0, T.NONE)
    client.set_tls_cipher_suite_by_index(0, T.RSA_WITH_3DES_EDE_CBC_SHA)
    with secure_server(certs) as server, pytest.raises(errors.CipherSuitesUnavailable, match="3DES"):
        connected(client, server.host_port)
    assert client.events == []
    assert not client.is_activated()


def test_S15_plain_dicom_on_a_secure_port_and_the_reverse_are_named(certs):
    with secure_server(certs) as server:
        plain = connected(Client(), server.host_port)
        with pytest.raises((errors.ConnectionLost, errors.ProtocolMismatch)):
            associate(plain)
        assert server.closed.get(timeout=LONG)[0] is DicomExceptionCode.NET_PROTOCOL_TYPE
    with serving() as server:
        client = secure(TellingClient(), certs)
        with pytest.raises(errors.TlsHandshakeError):
            connected(client, server.host_port)
        assert server.closed.get(timeout=LONG)[0] is DicomExceptionCode.NET_PROTOCOL_TYPE


SHORT = 0.3


def test_T1_T2_a_silent_peer_ends_at_the_handshake_limit_and_holds_up_nobody(certs):
    class Impatient(TellingLink):
        def __init__(self, *arguments):
            super().__init__(*arguments, timeouts=Timeouts(handshake=SHORT))

    with secure_server(certs, Impatient) as server:
        silent = [socket.create_connection(("127.0.0.1", server.host_port)) for _ in range(5)]
        silent[0].sendall(b"\x16\x03\x01\x02\x00")
        with associated(server.host_port, secure(Client(), certs)) as client:
            assert client.echo() == 0
            closed = [server.closed.get(timeout=LONG) for _ in silent]
            assert client.echo() == 0
        assert {error for error, _, _ in closed} == {DicomExceptionCode.NET_TIMEOUT}
        for _, link, _ in closed:
            assert [entry[:2] for entry in link.events] == [
                ("secure", DicomExceptionCode.NET_TIMEOUT),
                ("close", DicomExceptionCode.NET_TIMEOUT),
            ]
        for sock in silent:
            sock.close()

    client = secure(TellingClient(timeouts=Timeouts(handshake=SHORT)), certs)
    done = event()
    with played(lambda peer: done.wait()) as port:
        with pytest.raises(errors.HandshakeTimeout) as caught:
            connected(client, port)
        done.set()
    assert (caught.value.limit, caught.value.peer) == (SHORT, f"127.0.0.1:{port}")
    assert caught.value.elapsed >= SHORT
    assert [entry[:2] for entry in client.events] == [
        ("connect", SUCCESS),
        ("secure", DicomExceptionCode.NET_TIMEOUT),
        ("close", DicomExceptionCode.NET_TIMEOUT),
    ]


@pytest.mark.parametrize("how", ["close", "close_forced"])
def test_close_while_another_thread_makes_the_handshake(how, certs):
    inside, done = event(), event()

    def play(peer):
        peer.take(5)
        inside.set()
        done.wait()

    client = secure(TellingClient(timeouts=PATIENT), certs)
    with played(play) as port:
        connecting = in_thread(lambda: connected(client, port))
        inside.wait()
        assert client.is_connected()
        getattr(client, how)()
        with pytest.raises(errors.LinkClosed):
            connecting()
        done.set()
    code = DicomExceptionCode.NET_CONNECTION_ABORTED
    assert [entry[:2] for entry in client.events] == [("connect", SUCCESS), ("secure", code), ("close", code)]
    assert not client.is_activated()


def test_a_server_that_closes_while_its_links_make_the_handshake(certs):
    with secure_server(certs) as server:
        peers = [socket.create_connection(("127.0.0.1", server.host_port)) for _ in range(3)]
        for _ in peers:
            server.links.get(timeout=LONG)
        server.close()
        assert {server.closed.get(timeout=LONG)[1] for _ in peers}
        for peer in peers:
            peer.close()


# --- callbacks of the secure link ------------------------------------------------------------------


def test_the_association_can_be_made_in_on_secure_link_ready(certs):
    class Eager(Client):
        def on_secure_link_ready(self, error):
            associate(self)
            self.events.append(("associated", self.echo()))

    with secure_server(certs) as server:
        client = connected(secure(Eager(), certs), server.host_port)
        assert ("associated", 0) in client.events
        client.release()


@pytest.mark.parametrize("what", ["close", "raise"])
@pytest.mark.parametrize("where", ["on_connect", "on_secure_link_ready"])
def test_M2_closing_and_raising_while_the_link_is_made(what, where, certs):
    def act(self, error):
        self.events.append((where, error))
        if where == "on_connect" or error is SUCCESS:
            if what == "raise":
                raise KeyError("mine")
            self.close()

    client = secure(type("C", (Client,), {where: act})(), certs)
    with secure_server(certs) as server:
        if what == "raise":
            with pytest.raises(KeyError):
                connected(client, server.host_port)
        elif where == "on_connect":
            with pytest.raises(errors.LinkClosed):
                connected(client, server.host_port)
        else:
            connected(client, server.host_port)
        assert not client.is_activated()
        assert client.names().count("close") == 1
        assert client.names()[-1] == "close"
        server.closed.get(timeout=LONG)


@pytest.mark.parametrize("what", ["close", "raise"])
def test_M2_closing_and_raising_in_on_secure_link_ready_of_a_server(what, certs, caplog):
    class Acting(Storage):
        def on_secure_link_ready(self, error):
            if what == "raise":
                raise KeyError("mine")
            self.close()

    with secure_server(certs, Acting) as server:
        client = secure(Client(), certs)
        with pytest.raises(errors.DicomException), associated(server.host_port, client):
            pass
        error, link, _ = server.closed.get(timeout=LONG)
        assert (error is SUCCESS) == (what == "close")
        assert link.events == [("close", error)]
    assert ("mine" in caplog.text) == (what == "raise")


# --- the link in use -------------------------------------------------------------------------------


def store_and_wait(client: Any) -> None:
    client.store(DicomDataSet(LARGE * 2, EXPLICIT))
    client.wait(lambda: False, LONG)


@pytest.mark.parametrize("threaded", [False, True], ids=["alone", "with a reader"])
def test_T4_the_peer_aborts_while_we_send(threaded, certs):
    class Aborting(Storage):
        def on_data_set(self, presentation_id, command):
            self.send_abort(2, 6)
            self.close()

    client = secure(Client(), certs)
    with secure_server(certs, Aborting) as server, associated(server.host_port, client):
        thread = client.start() if threaded else None
        with pytest.raises(errors.AssociationAborted) as caught:
            store_and_wait(client)
        assert (caught.value.by, caught.value.source, caught.value.reason) == ("peer", 2, 6)
        if thread:
            thread.join(LONG)
        assert client.events == [("abort", 2, 6), ("close", DicomExceptionCode.NET_CONNECTION_ABORTED)]


@pytest.mark.parametrize("threaded", [False, True], ids=["alone", "with a reader"])
def test_T13_an_end_without_close_notify_is_a_loss(threaded, certs):
    class Vanishing(Storage):
        def on_data_set(self, presentation_id, command):
            self.close_forced()

    client = secure(Client(), certs)
    with secure_server(certs, Vanishing) as server, associated(server.host_port, client):
        thread = client.start() if threaded else None
        with pytest.raises((errors.ConnectionLost, errors.TlsError)):
            store_and_wait(client)
        if thread:
            thread.join(LONG)
        assert client.names() == ["close"]
        assert client.events[0][1] is not SUCCESS


@pytest.mark.parametrize("threaded", [False, True], ids=["alone", "with a reader"])
def test_T5_a_peer_that_stops_reading_within_a_record(threaded, certs):
    """Nothing more can be sent, not even the alert that would end the link: TCP is closed."""
    done = event()

    class Stopping(Storage):
        def on_data_set(self, presentation_id, command):
            done.wait()

    client = secure(Client(timeouts=Timeouts(write=SHORT)), certs)
    with secure_server(certs, Stopping) as server, associated(server.host_port, client):
        thread = client.start() if threaded else None
        with pytest.raises(errors.WriteTimeout) as caught:
            client.store(DicomDataSet(LARGE * 2, EXPLICIT))
        assert caught.value.elapsed >= SHORT
        done.set()
        if thread:
            thread.join(LONG)
        assert client.events == [("close", DicomExceptionCode.NET_TIMEOUT)]


@pytest.mark.parametrize("threaded", [False, True], ids=["alone", "with readers"])
def test_two_ends_that_both_send_do_not_lock_each_other_up(threaded, certs):
    together = threading.Barrier(2)
    body = LARGE[:3_000_000]

    class Both(Storage):
        def on_receive_c_echo_request(self, presentation_id, message_id, affected_class):
            self.send_c_echo_response(presentation_id, message_id, affected_class, 0)
            self.sender = in_thread(self.both) if threaded else None
            if not threaded:
                self.both()

        def both(self):
            together.wait(LONG)
            self.send_c_store_request(3, 1, CT, "1.2.3", 0, "", 0, DicomDataSet(body, EXPLICIT))

        def on_receive_c_store_response(self, *arguments):
            self.events.append(("store", int(arguments[4])))

    class Taking(Client):
        stored = None

        def on_receive_c_store_request(self, presentation_id, message_id, affected_class, instance, *rest):
            self.stored = rest[-1].encoded
            self.send_c_store_response(presentation_id, message_id, affected_class, instance, 0)

    client = secure(Taking(), certs)
    with secure_server(certs, Both) as server, associated(server.host_port, client):
        if threaded:
            client.start()
        client.send_c_echo_request(1, 1, VERIFICATION)
        together.wait(LONG)
        assert client.status_of(client.store(DicomDataSet(body, EXPLICIT), 2)) == 0
        assert client.wait(lambda: client.stored, LONG)
        assert client.stored == body
        link = server.links.get(timeout=LONG)
        assert link.wait(lambda: link.stored and link.events, LONG)
        assert link.stored == [body]
        if threaded:
            link.sender()


def test_several_threads_send_while_one_reads(certs):
    client = secure(Client(), certs)
    with secure_server(certs) as server, associated(server.host_port, client):
        client.start()

        def go():
            return [client.status_of(client.store(DicomDataSet(LARGE[:500_000], EXPLICIT))) for _ in range(5)]

        assert [done() for done in [in_thread(go) for _ in range(4)]] == [[0] * 5] * 4
        client.release()
        stored = server.closed.get(timeout=LONG)[1].stored
    assert len(stored) == 20
    assert set(stored) == {LARGE[:500_000]}
