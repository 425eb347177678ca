"""TLS contexts: one OpenSSL context for each distinct `TlsSettings` and role, shared by all its links.

Nothing is left to OpenSSL's defaults that its configuration file could change: versions, suites and
security level are always set. A TLS 1.2 list without suites cannot be given to OpenSSL, so a link with
TLS 1.3 suites only is made by its lowest version.
"""

from __future__ import annotations

import functools
import ipaddress
import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from OpenSSL import SSL, crypto

from dicomnet.enums import DicomOpenSslVerificationFlags
from dicomnet.errors import TlsConfigurationError
from dicomnet.tls import openssl
from dicomnet.tls.cipher_suites import SUITES, TLS_1_3
from dicomnet.tls.evidence import Evidence
from dicomnet.tls.stream import TlsStream
from dicomnet.tls.verification import OnVerify, Verification
from dicomnet.trace import log_trace

if TYPE_CHECKING:
    from dicomnet.tls.settings import Offer, TlsSettings
    from dicomnet.transport.tcp import TcpStream

__all__ = ["TlsContext", "available_suites", "context_for", "openssl_version"]

CONTEXTS = 64  # kept at a time; one holds a private key and its CAs, and takes milliseconds to make again

PARTIAL_WRITE = 0x1  # SSL_MODE_ENABLE_PARTIAL_WRITE: one record per call, costs the sender a fifth
SESSION_ID = b"dicomnet"  # without one, a resumed handshake fails where client certificates are asked for
ALPN = b"dicom"  # IANA; RFC 9325 3.7, and so PS3.15 B.12, wants it offered

# RFC 7919 A.1, ffdhe2048: for DHE with peers that do not send groups (OpenSSL before 3.0).
FFDHE2048 = b"""-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
"""


def openssl_version() -> str:
    """Return the version of the linked OpenSSL, for example "OpenSSL 4.0.3 29 Sep 2026"."""
    return SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode("ascii")


@functools.cache
def available_suites() -> frozenset[str]:
    """Return OpenSSL's names of all the suites that the linked library has, the weak ones too."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_cipher_list(b"ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    newest = (suite.openssl_name for suite in SUITES.values() if suite.min_version >= TLS_1_3)
    context.set_tls13_ciphersuites(":".join(filter(None, newest)).encode("ascii"))
    return frozenset(SSL.Connection(context).get_cipher_list())


def context_for(settings: TlsSettings, *, server_side: bool, resumable: bool = True) -> TlsContext:
    """Return the context for these settings and role, made when it is first asked for.

    A server's sessions can be resumed unless `resumable` is False: where `on_verify` judges the peers, its
    verdict on one link must not count on the next one, so OpenSSL must not remember it.

    Raises `TlsConfigurationError` where the settings cannot work, `CipherSuitesUnavailable` where the linked
    OpenSSL has none of the suites. Suites that have to be left out are named in a warning.
    """
    return _context_for(settings, server_side, resumable)


@functools.lru_cache(maxsize=CONTEXTS)
def _context_for(settings: TlsSettings, server_side: bool, resumable: bool) -> TlsContext:
    settings.check(server_side=server_side)
    offer = settings.offer(available_suites())
    for suite, why in offer.skipped:
        log_trace(
            "tls.suite.warning", {"left_out": suite.iana_name, "why": why, "openssl": openssl_version()}
        )
    try:
        return TlsContext(
            settings,
            server_side,
            offer,
            _build(settings, offer, server_side=server_side, resumable=resumable),
        )
    except SSL.Error as error:
        reasons = "; ".join(reason for *_, reason in error.args[0]) if error.args else ""
        raise TlsConfigurationError(
            f"OpenSSL does not take the TLS settings: {reasons or error!r}. Look at the certificate and "
            "its chain, and at the list of suites",
            openssl=reasons,
        ) from error


@dataclass(frozen=True, eq=False)
class TlsContext:
    """What all links with the same settings and role share."""

    settings: TlsSettings
    """What was asked for."""

    server_side: bool
    """True for the TLS server's side."""

    offer: Offer
    """Suites and versions that came of it."""

    context: SSL.Context = field(repr=False)
    """OpenSSL's object; it can't be changed any more once it was used."""

    def stream(
        self, tcp: TcpStream, *, expected_name: str | None = None, on_verify: OnVerify | None = None
    ) -> TlsStream:
        """Return a TLS stream over a connection; its `handshake` comes next.

        `expected_name` is the host name or address that the peer's certificate must be for (where
        `TlsSettings.check_name` is set); a client also tells a host name to the server (SNI). `on_verify` has
        the last word on each certificate of the peer's chain.
        """
        verification = Verification(
            self.settings,
            server_side=self.server_side,
            security_level=self.offer.security_level,
            expected_name=expected_name or "",
            on_verify=on_verify,
        )
        evidence = Evidence(
            tcp.peer, self.server_side, self.settings, self.offer, verification, expected_name or ""
        )
        connection = SSL.Connection(self.context, tcp)  # type: ignore[arg-type] # whatever has a fileno()
        connection.set_app_data(evidence)
        host, address = _host_or_address(expected_name or "")
        if verification.expects_name and (host or address):
            openssl.expect_name(connection, host, address)
        if self.server_side:
            connection.set_accept_state()
        else:
            connection.set_connect_state()
            if host:
                connection.set_tlsext_host_name(host)
        return TlsStream(tcp, connection, evidence)


def _build(settings: TlsSettings, offer: Offer, *, server_side: bool, resumable: bool) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD if server_side else SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(offer.min_version)
    context.set_max_proto_version(offer.max_version)
    context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
    context.clear_mode(PARTIAL_WRITE)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # an idle link holds none: 13 KiB less, in TLS 1.3 35
    context.set_cipher_list(offer.cipher_list)  # before the certificate: it sets the security level
    context.set_tls13_ciphersuites(offer.tls13_list)
    if settings.groups and not openssl.set_groups(context, settings.groups):
        raise TlsConfigurationError(
            f"OpenSSL does not know one of the key-exchange groups {', '.join(settings.groups)}. "
            'Give names such as "X25519" and "P-256", or none',
        )
    if settings.credentials is not None:
        context.use_certificate(settings.credentials.certificate)
        for certificate in settings.credentials.chain:
            context.add_extra_chain_cert(certificate)
        context.use_privatekey(settings.credentials.key)
        context.check_privatekey()
    _trust(context, settings)
    if server_side:
        context.set_session_id(SESSION_ID)
        context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)  # our list is in order of preference
        if not resumable:
            context.set_options(SSL.OP_NO_TICKET)
            context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_alpn_select_callback(_choose_protocol)
        if settings.verify:
            for certificate in settings.ca_certificates:
                context.add_client_ca(certificate)
        if any(suite.finite_field_dhe for suite in offer.suites):
            _set_dhe_group(context)
    else:
        context.set_alpn_protos([ALPN])
    context.set_info_callback(_note)
    return context


def _trust(context: SSL.Context, settings: TlsSettings) -> None:
    """Set whom we trust, and how the peer's chain is verified."""
    store = context.get_cert_store()  # borrows the pointer: no use of it may outlive the context
    assert store is not None
    for certificate in settings.ca_certificates:
        store.add_cert(crypto.X509.from_cryptography(certificate))
    flags = 0
    if any(certificate.subject != certificate.issuer for certificate in settings.ca_certificates):
        flags |= crypto.X509StoreFlags.PARTIAL_CHAIN  # what is named as trusted is trusted, root or not
    for crl in settings.crls:
        store.add_crl(crl)
        flags |= crypto.X509StoreFlags.CRL_CHECK
    if flags:
        store.set_flags(flags)
    context.set_verify_depth(settings.depth)
    context.set_verify(int(DicomOpenSslVerificationFlags(settings.verify)), _judge)


def _set_dhe_group(context: SSL.Context) -> None:
    with tempfile.NamedTemporaryFile() as file:  # pyOpenSSL takes a file only
        file.write(FFDHE2048)
        file.flush()
        context.load_tmp_dh(file.name)


def _judge(connection: SSL.Connection, certificate: crypto.X509, code: int, depth: int, ok: int) -> bool:
    evidence: Evidence = connection.get_app_data()
    return evidence.verification.judge(certificate, code, depth, ok)


def _note(connection: SSL.Connection, where: int, value: int) -> None:
    evidence: Evidence = connection.get_app_data()
    evidence.note(where, value, connection.get_state_string())


def _choose_protocol(_connection: SSL.Connection, offered: list[bytes]) -> Any:
    return ALPN if ALPN in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def _host_or_address(name: str) -> tuple[bytes, bytes]:
    """Return a host name as SNI has it (RFC 6066 3), or else a packed address, which must not go there."""
    name = name.strip().strip("[]").removesuffix(".")
    try:
        return b"", ipaddress.ip_address(name.partition("%")[0]).packed
    except ValueError:
        pass
    try:
        return name.encode("idna"), b""
    except UnicodeError:  # no host name either: the check of the name says so
        return b"", b""
