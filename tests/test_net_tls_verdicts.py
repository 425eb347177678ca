"""What must not weaken a secure link: a resumed session, a plain object behind a TLS listener, a default."""

from __future__ import annotations

import socket
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from dialogue import VERIFICATION
from net_ends import Client, Server, Storage, associated
from test_net_tls import TLS, secure, secure_server

from dicomnet import DicomNet, DicomOpenSslContextCreationSettings, errors
from dicomnet.enums import DicomNetSecurityMode, DicomTlsCipherSuiteType
from dicomnet.protocol import negotiation, pdu

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("leak_check")

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
REQUEST = pdu.AssociateRq(
    "X",
    "Y",
    negotiation.APPLICATION_CONTEXT,
    negotiation.propose([(VERIFICATION, ["1.2.840.10008.1.2"])]),
    negotiation.user_information(16384),
).encode()


class Lenient(Storage):
    """Lets everybody in."""

    def on_verify(self, ok: int, certificate_string: str, error: Any) -> int:
        return 1


def answer(
    port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[int, bool, Any]:
    """Ask for an association; return the PDU type of the answer, if the session was resumed, and it."""
    with (
        socket.create_connection(("127.0.0.1", port), 10) as sock,
        context.wrap_socket(sock, server_hostname="localhost", session=session) as link,
    ):
        link.sendall(REQUEST)
        return link.recv(1)[0], bool(link.session_reused), link.session


def python_client(certs: Path, name: str, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certs / "ca.pem"))
    context.load_cert_chain(certs / f"{name}.pem", certs / f"{name}.key")
    context.check_hostname = False
    context.minimum_version = context.maximum_version = version
    return context


@pytest.mark.parametrize("version", VERSIONS, ids=str)
def test_a_verdict_of_on_verify_is_not_resumed_anywhere(certs: Path, version: ssl.TLSVersion) -> None:
    context = python_client(certs, "stranger", version)
    with secure_server(certs, Lenient) as lenient, secure_server(certs) as strict:
        kind, _, session = answer(lenient.host_port, context)
        assert kind == 2
        assert not answer(lenient.host_port, context, session)[1]
        with pytest.raises(OSError, match=r"(?i)unknown ca|alert|reset|eof"):
            answer(strict.host_port, context, session)


@pytest.mark.parametrize("version", VERSIONS, ids=str)
def test_a_verified_peer_resumes_with_its_certificate(certs: Path, version: ssl.TLSVersion) -> None:
    context = python_client(certs, "client", version)
    with secure_server(certs) as server:
        kind, _, session = answer(server.host_port, context)
        assert kind == 2
        assert answer(server.host_port, context, session)[:2] == (2, True)


def test_what_listens_in_tls_mode_makes_no_plain_link(certs: Path) -> None:
    """The accepted object was made without a mode, as `Connection()`."""
    with secure_server(certs, lambda *_: Storage()) as server:
        with associated(server.host_port, secure(Client(), certs)) as client:
            assert client.echo() == 0
            assert server.get_client(0).security_mode is TLS
        with pytest.raises(errors.DicomException), associated(server.host_port, Client()):
            pass


def test_on_verify_of_the_listening_object_judges_its_links(certs: Path) -> None:
    class Refusing(Server):
        def on_verify(self, ok: int, certificate_string: str, error: Any) -> int:
            return 0

    @contextmanager
    def listening() -> Iterator[Server]:
        server = secure(Refusing(Storage), certs, "server")
        server.listen("127.0.0.1", 0)
        server.start()
        with server:
            yield server

    with (
        listening() as server,
        pytest.raises(errors.DicomException),
        associated(server.host_port, secure(Client(), certs)),
    ):
        pass


def test_initialize_keeps_the_mode_and_never_drops_it_silently(certs: Path) -> None:
    creation = DicomOpenSslContextCreationSettings(certification_authorities_file_name=certs / "ca.pem")
    net = DicomNet(None, TLS)
    net.initialize(None, open_ssl_context_creation_settings=creation)
    assert net.security_mode is TLS
    with pytest.raises(errors.TlsConfigurationError, match=r"DicomNetSecurityMode\.TLS"):
        DicomNet().initialize(None, open_ssl_context_creation_settings=creation)
    DicomNet().initialize(None, DicomNetSecurityMode.NONE, creation)  # insecure by name


def test_a_listener_that_cannot_work_says_so_at_once(certs: Path) -> None:
    server = secure(DicomNet(), certs, "")  # a CA, but no certificate
    with pytest.raises(errors.TlsConfigurationError):
        server.listen("127.0.0.1", 0)


def test_the_servers_list_of_suites_is_in_order_of_preference(certs: Path) -> None:
    strong = DicomTlsCipherSuiteType.ECDHE_RSA_WITH_AES256_GCM_SHA384
    fast = DicomTlsCipherSuiteType.ECDHE_RSA_WITH_AES128_GCM_SHA256
    server, client = secure(Server(Storage), certs, "server"), secure(Client(), certs)
    for net, suites in ((server, (strong, fast)), (client, (fast, strong))):
        net.set_tls_cipher_suite_by_index(0, DicomTlsCipherSuiteType.NONE)
        for index, suite in enumerate(suites):
            net.set_tls_cipher_suite_by_index(index, suite)
    server.listen("127.0.0.1", 0)
    server.start()
    with server, associated(server.host_port, client):
        assert client.get_tls_cipher_suite() is strong
