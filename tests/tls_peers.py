"""Both ends of a TLS link on loopback, for the tests of the secure link."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from OpenSSL import SSL, crypto

from dicomnet.enums import DicomOpenSslVerificationFlags
from dicomnet.tls.certificates import Credentials, load_ca_certificates, load_credentials
from dicomnet.tls.context import context_for
from dicomnet.tls.settings import TlsSettings
from dicomnet.transport import tcp
from dicomnet.transport.deadline import Deadline
from dicomnet.transport.tcp import TcpStream
from dicomnet.transport.waiting import wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pytest
    from authority import Identity

    from dicomnet.tls.stream import TlsStream

TLS12, TLS13 = 0x0303, 0x0304
NONE = DicomOpenSslVerificationFlags.NONE
PEER = DicomOpenSslVerificationFlags.PEER
FULL = PEER | DicomOpenSslVerificationFlags.FAIL_IF_NO_PEER_CERTIFICATE
LONG = 30.0  # seconds no test should need


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Return a connected client and server socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    for sock in (client, server):  # what was written is on its way, also before a reset
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client, server


def settings(
    certs: Path, name: str | None = "server", *, ca: str | None = "ca", **options: Any
) -> TlsSettings:
    """Return settings with the certificate `name` of the `certs` folder and the CA file `ca`."""
    if name is not None:
        options["credentials"] = load_credentials(certs / f"{name}.pem", 1, certs / f"{name}.key")
    if ca is not None:
        path = certs / f"{ca}.pem"
        options |= {"ca_certificates": load_ca_certificates(path), "ca_path": str(path)}
    if version := options.pop("version", None):
        options |= {"min_version": version, "max_version": version}
    return TlsSettings(**options)


def identity_settings(certs: Path, identity: Identity, **options: Any) -> TlsSettings:
    """Return settings with a certificate made for one test."""
    credentials = Credentials(identity.certificate, identity.chain, identity.key, "test.pem", "test.key")
    return settings(certs, None, credentials=credentials, **options)


def in_thread(call: Callable[[], Any]) -> Callable[[], Any]:
    """Start `call` on a thread; the function returned waits for it, and returns or raises as it did."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((call(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result() -> Any:
        thread.join(LONG)
        assert outcome, "the thread did not end"
        value, error = outcome[0]
        if error is not None:
            raise error
        return value

    return result


def error_of(call: Callable[[], Any]) -> BaseException | None:
    """Return what a call raises."""
    try:
        call()
    except BaseException as error:
        return error
    return None


class Pair:
    """A client and a server stream over one TCP connection; `handshake` runs both ends."""

    def __init__(self, client: TlsSettings, server: TlsSettings, **options: Any) -> None:
        contexts = context_for(client, server_side=False), context_for(server, server_side=True)
        near, far = tcp_pair()
        on_verify = options.pop("server_on_verify", None)
        self.client: TlsStream = contexts[0].stream(TcpStream(near), **options)
        self.server: TlsStream = contexts[1].stream(TcpStream(far), on_verify=on_verify)

    def handshake(
        self, then: Callable[[], Any] = lambda: None
    ) -> tuple[BaseException | None, BaseException | None]:
        """Return what the client's handshake, or else `then`, and what the server's handshake raised."""
        server = in_thread(lambda: self.server.handshake(Deadline.after(LONG)))
        client = error_of(lambda: self.client.handshake(Deadline.after(LONG))) or error_of(then)
        if client is not None:
            self.client.shutdown()
        return client, error_of(server)

    def ready(self) -> Pair:
        """Make the handshake, which must succeed."""
        failed = [error for error in self.handshake() if error is not None]
        if failed:
            raise failed[0]
        return self

    def kill(self) -> None:
        """Close both ends."""
        self.client.kill()
        self.server.kill()


@contextmanager
def pair(client: TlsSettings, server: TlsSettings, **options: Any) -> Iterator[Pair]:
    """Return a `Pair` that is closed in the end."""
    both = Pair(client, server, **options)
    try:
        yield both
    finally:
        both.kill()


def tell_waiting(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Return an event that is set as soon as a stream begins to wait for its peer."""
    began = threading.Event()

    def telling(deadline: Deadline, *interests: tuple[int, int]) -> dict[int, int]:
        began.set()
        return wait(deadline, *interests)

    monkeypatch.setattr(tcp, "wait", telling)
    return began


def read_all(stream: TlsStream, count: int, size: int = 65536) -> bytes:
    """Read exactly `count` bytes."""
    data = bytearray()
    buffer = memoryview(bytearray(size))
    while len(data) < count:
        n = stream.read_into(buffer[: count - len(data)], Deadline.after(LONG))
        assert n, f"the end after {len(data)} of {count} bytes"
        data += buffer[:n]
    return bytes(data)


def bare_context(
    certs: Path,
    *,
    server_side: bool,
    name: str | None = None,
    version: int | None = None,
    verify: bool = True,
) -> SSL.Context:
    """Return a context of pyOpenSSL itself, set up by hand: the peer that is not ours."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD if server_side else SSL.TLS_CLIENT_METHOD)
    if version:
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
    if name:
        credentials = load_credentials(certs / f"{name}.pem", key_path=certs / f"{name}.key")
        context.use_certificate(credentials.certificate)
        context.use_privatekey(credentials.key)
    store = context.get_cert_store()
    for certificate in load_ca_certificates(certs / "ca.pem"):
        store.add_cert(crypto.X509.from_cryptography(certificate))
    if verify:
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *a: bool(a[4]))
    return context


def bare(context: SSL.Context, sock: socket.socket, *, server_side: bool) -> SSL.Connection:
    """Return a blocking connection of pyOpenSSL itself."""
    sock.settimeout(None)
    connection = SSL.Connection(context, sock)
    (connection.set_accept_state if server_side else connection.set_connect_state)()
    return connection
