"""The TLS side of `DicomNet`: suite list by index, certificate, getters, and the report on the link."""

from __future__ import annotations

import json
import logging
import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from authority import PASSWORD

from dicomnet import security
from dicomnet.enums import (
    DicomExceptionCode,
    DicomNetSecurityMode,
    DicomOpenSslVerificationFlags,
    DicomTlsCertificateType,
    DicomTlsCipherSuiteType,
)
from dicomnet.enums import DicomTlsAuthenticationMethodType as Authentication
from dicomnet.enums import DicomTlsEncryptionMethodType as Encryption
from dicomnet.enums import DicomTlsExchangeMethodType as Exchange
from dicomnet.enums import DicomTlsMacMethodType as Mac
from dicomnet.errors import (
    DicomException,
    KeyMismatch,
    PasswordRequired,
    TlsConfigurationError,
    WrongPassword,
)
from dicomnet.security import MAX_CIPHER_SUITES, LinkSecurity, Security
from dicomnet.tls.certificates import load_ca_certificates, load_credentials
from dicomnet.tls.context import context_for
from dicomnet.tls.profiles import PROFILES
from dicomnet.tls.settings import DicomOpenSslContextCreationSettings
from dicomnet.transport.deadline import Deadline
from dicomnet.transport.tcp import TcpStream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cryptography import x509

    from dicomnet.tls.passwords import PasswordRequest
    from dicomnet.tls.stream import TlsStream

T = DicomTlsCipherSuiteType
PEER = DicomOpenSslVerificationFlags.PEER


@dataclass
class Link:
    """What `Security` reads of a TLS stream."""

    cipher_name: str = "TLS_AES_256_GCM_SHA384"
    version: int = 0x0304
    group: str | None = "x25519"
    peer_certificate: x509.Certificate | None = None
    own_certificate: x509.Certificate | None = None
    server_side: bool = False
    overruled: str = ""


class Net(Security):
    def __init__(self, link: Link | TlsStream | None = None) -> None:
        self.link = link
        self.passwords: list[str | None] = []
        self.asked: list[PasswordRequest] = []

    def _tls_stream(self):
        return self.link

    def on_private_key_password_for(self, request: PasswordRequest) -> str | bytes | None:
        self.asked.append(request)
        return self.passwords.pop(0) if self.passwords else None


class LeadtoolsNet(Net):
    _checks_names = False


def suites(net: Security) -> list[DicomTlsCipherSuiteType]:
    return [net.get_tls_cipher_suite_by_index(index) for index in range(MAX_CIPHER_SUITES)]


@pytest.fixture
def configured(certs: Path) -> Net:
    net = Net()
    net._configure_tls(creation(certs))
    net.set_tls_client_certificate(certs / "client.pem", DicomTlsCertificateType.PEM, certs / "client.key")
    return net


def creation(certs: Path, **fields) -> DicomOpenSslContextCreationSettings:
    return DicomOpenSslContextCreationSettings(
        certification_authorities_file_name=str(certs / "ca.pem"), **fields
    )


# --- the mode ------------------------------------------------------------------------------------


def test_the_mode_is_kept_and_taken_as_a_number():
    net = Net()
    assert net.security_mode is DicomNetSecurityMode.NONE
    net._set_security_mode(0xABCD0002)
    assert net.security_mode is DicomNetSecurityMode.TLS


def test_iscl_is_refused_with_the_reason():
    net = Net()
    with pytest.raises(DicomException, match="retired it in 2018"):
        net._set_security_mode(DicomNetSecurityMode.ISCL)
    assert net.security_mode is DicomNetSecurityMode.NONE


# --- the suite list ------------------------------------------------------------------------------


def test_there_are_sixteen_entries_and_they_start_with_the_profile():
    listed = suites(Net())
    assert len(listed) == 16
    assert listed[0] is T.AES_256_GCM_SHA384
    assert T.ECDHE_RSA_WITH_AES256_GCM_SHA384 in listed
    assert listed[len(PROFILES["B.12"].suites) :] == [T.NONE] * 9


def test_none_at_index_0_empties_the_list():
    net = Net()
    net.set_tls_cipher_suite_by_index(0, T.NONE)
    assert suites(net) == [T.NONE] * 16
    net.set_tls_cipher_suite_by_index(0, T.ECDHE_RSA_WITH_AES128_GCM_SHA256)
    net.set_tls_cipher_suite_by_index(1, T.DHE_RSA_AES256_SHA)
    assert suites(net)[:3] == [T.ECDHE_RSA_WITH_AES128_GCM_SHA256, T.DHE_RSA_AES256_SHA, T.NONE]


def test_none_elsewhere_empties_that_entry_only(configured: Net):
    configured.set_tls_cipher_suite_by_index(0, T.NONE)
    for index, suite in enumerate((T.AES_128_GCM_SHA256, T.DHE_RSA_AES256_SHA, T.AES_256_GCM_SHA384)):
        configured.set_tls_cipher_suite_by_index(index, suite)
    configured.set_tls_cipher_suite_by_index(1, T.NONE)
    assert suites(configured)[:3] == [T.AES_128_GCM_SHA256, T.NONE, T.AES_256_GCM_SHA384]
    assert configured._tls_settings(False, "host").suites == (0x1301, 0x1302)


def test_an_entry_can_be_replaced_without_emptying_the_list():
    net = Net()
    before = suites(net)
    net.set_tls_cipher_suite_by_index(1, T.AES_128_CCM_SHA256)
    assert suites(net) == [before[0], T.AES_128_CCM_SHA256, *before[2:]]


def test_each_object_has_its_own_list():
    first, second = Net(), Net()
    first.set_tls_cipher_suite_by_index(0, T.NONE)
    assert suites(second)[0] is not T.NONE


def test_plain_numbers_are_taken():
    net = Net()
    net.set_tls_cipher_suite_by_index(15, 0x15)
    assert net.get_tls_cipher_suite_by_index(15) is T.RSA_WITH_AES128_CBC_SHA
    net.set_tls_cipher_suite_by_index(0, 0)
    assert suites(net) == [T.NONE] * 16


@pytest.mark.parametrize("index", [-1, 16, 99])
def test_an_index_outside_the_list_is_refused(index: int):
    net = Net()
    for call in (
        lambda: net.set_tls_cipher_suite_by_index(index, T.AES_128_GCM_SHA256),
        lambda: net.get_tls_cipher_suite_by_index(index),
    ):
        with pytest.raises(DicomException, match="0 to 15") as e:
            call()
        assert e.value.code is DicomExceptionCode.PARAMETER


def test_a_number_that_is_no_suite_leaves_the_list_as_it_was():
    net = Net()
    before = suites(net)
    with pytest.raises(DicomException):
        net.set_tls_cipher_suite_by_index(0, 0x1302)
    assert suites(net) == before


def test_suites_that_openssl_lacks_stay_in_the_list(configured: Net):
    configured.set_tls_cipher_suite_by_index(0, T.NONE)
    wanted = [T.DHE_RSA_WITH_DES_CBC_SHA, T.RSA_WITH_3DES_EDE_CBC_SHA, T.ECDHE_RSA_WITH_AES256_GCM_SHA384]
    for index, suite in enumerate(wanted):
        configured.set_tls_cipher_suite_by_index(index, suite)
    context = context_for(configured._tls_settings(False, "host"), server_side=False)
    assert suites(configured)[:3] == wanted
    assert [suite.leadtools for suite, _ in context.offer.skipped] == wanted[:2]
    assert [suite.leadtools for suite in context.offer.suites] == wanted[2:]


def test_duplicates_are_offered_once(configured: Net):
    configured.set_tls_cipher_suite_by_index(0, T.NONE)
    for index in range(3):
        configured.set_tls_cipher_suite_by_index(index, T.AES_128_GCM_SHA256)
    assert configured._tls_settings(False, "host").suites == (0x1301,)


def test_without_a_list_the_profile_decides(certs: Path):
    net = Net()
    net._configure_tls(creation(certs, profile="B.13"))
    settings = net._tls_settings(False, "host")
    assert settings.suites is None
    assert settings.profile == "B.13"
    assert [suite.code for suite in settings.wanted] == list(PROFILES["B.13"].suites)
    assert suites(net)[3] is T.AES_128_CCM_SHA256


# --- settings for a link -------------------------------------------------------------------------


def test_a_client_checks_the_name_that_it_connects_to(configured: Net):
    settings = configured._tls_settings(False, "pacs.example")
    assert settings.name_to_check == "pacs.example"
    assert settings.credentials is not None


def test_a_server_checks_no_name_unless_given(configured: Net, certs: Path):
    assert configured._tls_settings(True, "192.0.2.7").name_to_check == ""
    configured._configure_tls(creation(certs, peer_name="modality.example"))
    assert configured._tls_settings(True, "192.0.2.7").name_to_check == "modality.example"
    assert configured._tls_settings(False, "192.0.2.7").name_to_check == "modality.example"


def test_the_server_certificate_is_the_servers_only(certs: Path):
    net = Net()
    net._configure_tls(creation(certs))
    net.set_tls_server_certificate(certs / "server.pem", DicomTlsCertificateType.PEM, certs / "server.key")
    assert net._tls_settings(True, "").credentials is not None
    assert net._tls_settings(False, "host").credentials is None
    net.set_tls_client_certificate(certs / "client.pem", DicomTlsCertificateType.PEM, certs / "client.key")
    paths = [net._tls_settings(side, "").credentials.path for side in (True, False)]
    assert [path.rpartition("/")[2] for path in paths] == ["server.pem", "client.pem"]


def test_the_client_certificate_serves_both_ends(configured: Net):
    assert configured._tls_settings(True, "").credentials is configured._tls_settings(False, "").credentials


def test_tls_without_any_settings_asks_for_a_ca():
    with pytest.raises(TlsConfigurationError, match=r"ca\.pem"):
        Net()._tls_settings(False, "host")


def test_leadtools_spelling_does_not_check_the_name_and_says_so_once(
    certs: Path, caplog: pytest.LogCaptureFixture
):
    security._say_that_names_go_unchecked.cache_clear()
    net = LeadtoolsNet()
    net._configure_tls(creation(certs))
    with caplog.at_level(logging.WARNING, "dicomnet"):
        for _ in range(3):
            settings = net._tls_settings(False, "host")
    assert settings.name_to_check == ""
    assert settings.verify & PEER
    assert [record.getMessage().count("check_name=True") for record in caplog.records] == [1]


@pytest.mark.parametrize("fields", [{"check_name": True}, {"peer_name": "host"}])
def test_leadtools_spelling_checks_a_name_that_is_asked_for(fields, certs: Path):
    net = LeadtoolsNet()
    net._configure_tls(creation(certs, **fields))
    assert net._tls_settings(False, "host").name_to_check == "host"


def test_leadtools_none_means_none(certs: Path):
    net = LeadtoolsNet()
    net._configure_tls(
        DicomOpenSslContextCreationSettings(verification_flags=DicomOpenSslVerificationFlags.NONE)
    )
    assert net._tls_settings(False, "host").verify == DicomOpenSslVerificationFlags.NONE


def test_leadtools_default_of_no_verification_is_not_copied():
    with pytest.raises(TlsConfigurationError):
        LeadtoolsNet()._tls_settings(False, "host")


# --- certificate ---------------------------------------------------------------------------------


def test_the_password_is_asked_for_inside_the_call_with_role_and_attempt(certs: Path):
    net = Net()
    net.passwords = ["wrong", PASSWORD]
    net.set_tls_client_certificate(
        str(certs / "server.pem"), DicomTlsCertificateType.PEM, str(certs / "server_pkcs8.key")
    )
    assert [(request.role, request.attempt) for request in net.asked] == [("client", 1), ("client", 2)]
    net.passwords = [PASSWORD]
    net.set_tls_server_certificate(
        str(certs / "server.pem"), DicomTlsCertificateType.PEM, str(certs / "server_pkcs8.key")
    )
    assert net.asked[-1].role == "server"


def test_a_password_can_be_given_with_the_files(certs: Path):
    net = Net()
    net.set_tls_client_certificate(
        certs / "server.pem",
        DicomTlsCertificateType.PEM,
        certs / "server_pkcs8.key",
        password=PASSWORD,
    )
    assert net.asked == []


def test_a_failed_call_leaves_the_certificate_as_it_was(configured: Net, certs: Path):
    before = configured._tls_settings(False, "host").credentials
    with pytest.raises(PasswordRequired):
        configured.set_tls_client_certificate(
            certs / "server.pem", DicomTlsCertificateType.PEM, certs / "server_pkcs8.key"
        )
    configured.passwords = ["no", "no", "no"]
    with pytest.raises(WrongPassword):
        configured.set_tls_client_certificate(
            certs / "server.pem", DicomTlsCertificateType.PEM, certs / "server_pkcs8.key"
        )
    with pytest.raises(KeyMismatch):
        configured.set_tls_client_certificate(
            certs / "server.pem", DicomTlsCertificateType.PEM, certs / "client.key"
        )
    assert configured._tls_settings(False, "host").credentials is before


# --- getters -------------------------------------------------------------------------------------


def six(net: Security, *args) -> tuple:
    return (
        net.get_tls_key_exchange_algorithm(*args),
        net.get_tls_authentication_algorithm(*args),
        net.get_tls_encryption_algorithm(*args),
        net.get_tls_integrity_algorithm(*args),
        net.get_tls_encryption_key_length(*args),
        net.get_tls_mutual_authentication_key_length(*args),
    )


NOTHING = (Exchange.NONE, Authentication.NONE, Encryption.NONE, Mac.NONE, 0, 0)


@pytest.mark.parametrize("net", [Net(), Net(Link(cipher_name=""))], ids=["no link", "before the handshake"])
def test_without_a_secure_link_everything_is_none(net: Net):
    assert net.get_tls_cipher_suite() is T.NONE
    assert six(net) == NOTHING
    assert six(net, T.NONE) == NOTHING
    assert net.link_security() == LinkSecurity()
    assert str(net.link_security()) == "no secure link"


@pytest.mark.parametrize(
    ("suite", "parts"),
    [
        (T.DHE_RSA_WITH_DES_CBC_SHA, "RSA_SIGNED_DHE RSA DES SHA1 56"),
        (T.DHE_RSA_WITH_3DES_EDE_CBC_SHA, "RSA_SIGNED_DHE RSA THREE_DES SHA1 168"),
        (T.RSA_WITH_AES128_CBC_SHA, "RSA RSA AES SHA1 128"),
        (T.ECDHE_RSA_WITH_AES256_GCM_SHA384, "ECDHE RSA AES AEAD 256"),
        (T.ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE ECDSA CHACHA20 AEAD 256"),
        (T.AES_128_GCM_SHA256, "ANY ANY AES AEAD 128"),
        (0x16, "RSA RSA THREE_DES SHA1 168"),
    ],
)
def test_a_suite_given_by_number_is_answered_from_its_definition(suite, parts, authority):
    certificate = authority.issue("peer", key="ec").certificate
    for net in (Net(), Net(Link(peer_certificate=certificate))):  # the link uses another suite
        assert " ".join(map(str, six(net, suite))) == f"{parts} 0"


def test_tls_13_is_answered_from_the_link(authority):
    rsa, ec = (authority.issue("peer", key=key).certificate for key in ("rsa3072", "ec"))
    net = Net(Link(peer_certificate=ec, own_certificate=rsa))
    expected = (Exchange.ECDHE, Authentication.ECDSA, Encryption.AES, Mac.AEAD, 256, 256)
    assert net.get_tls_cipher_suite() is T.AES_256_GCM_SHA384
    assert six(net) == expected
    assert six(net, T.AES_256_GCM_SHA384) == expected
    assert six(net, T.AES_128_GCM_SHA256)[:2] == (Exchange.ANY, Authentication.ANY)


def test_the_servers_certificate_tells_the_authentication_on_either_end(authority):
    rsa, ec = (authority.issue("peer", key=key).certificate for key in ("rsa3072", "ec"))
    server = Net(Link(peer_certificate=ec, own_certificate=rsa, server_side=True))
    assert server.get_tls_authentication_algorithm() is Authentication.RSA
    assert server.get_tls_mutual_authentication_key_length() == 256
    alone = Net(Link(own_certificate=rsa, server_side=True))
    assert alone.get_tls_mutual_authentication_key_length() == 3072


@pytest.mark.parametrize(
    ("key", "group", "exchange", "authentication"),
    [
        ("rsa", "X25519MLKEM768", Exchange.ECDHE, Authentication.RSA),
        ("rsa", "ffdhe2048", Exchange.RSA_SIGNED_DHE, Authentication.RSA),
        ("ec", "ffdhe2048", Exchange.ANY, Authentication.ECDSA),
        ("ed25519", "secp256r1", Exchange.ECDHE, Authentication.ECDSA),
        ("rsa", None, Exchange.ANY, Authentication.RSA),
    ],
)
def test_group_and_key_of_a_tls_13_link(key, group, exchange, authentication, authority):
    net = Net(Link(group=group, peer_certificate=authority.issue("peer", key=key).certificate))
    assert net.get_tls_key_exchange_algorithm() is exchange
    assert net.get_tls_authentication_algorithm() is authentication
    if group == "ffdhe2048":
        assert net.link_security().key_exchange == "DHE"


# --- the report ----------------------------------------------------------------------------------


def test_the_report_of_a_tls_12_link_without_forward_secrecy(configured, certs, authority):
    configured._configure_tls(creation(certs))
    configured._tls_settings(False, "localhost")
    configured.link = Link("AES128-SHA", 0x0303, None, authority.issue("peer").certificate)
    text = str(configured.link_security())
    assert "TLS_RSA_WITH_AES_128_CBC_SHA (OpenSSL: AES128-SHA)" in text
    assert "RSA key transport, no forward secrecy" in text
    assert "own certificate:  none" in text
    assert "PS3.15 B.12 BCP 195 RFC 8996, 9325 TLS (discouraged: no forward secrecy, CBC mode)" in text
    assert (
        "PS3.15 B.13 Modified BCP 195 RFC 8996, 9325 TLS: TLS_RSA_WITH_AES_128_CBC_SHA is not among" in text
    )


def test_the_report_says_when_nothing_is_encrypted(authority):
    report = Net(Link("NULL-SHA256", 0x0303, None, authority.issue("peer").certificate)).link_security()
    assert (report.encryption, report.encryption_key_length) == ("none", 0)
    assert "encryption:       none\n" in str(report)
    assert "does not encrypt" in str(report)


@pytest.mark.parametrize(
    ("verify", "shown", "text"),
    [
        (PEER, True, "peer verified:    chain, no name"),
        (PEER, False, "peer verified:    no, it has shown no certificate"),
        (DicomOpenSslVerificationFlags.NONE, True, "peer verified:    no, verification is switched off"),
    ],
)
def test_a_server_reports_whether_its_client_was_verified(verify, shown, text, configured, certs, authority):
    configured._configure_tls(creation(certs, verification_flags=verify))
    configured._tls_settings(True)
    configured.link = Link(server_side=True, own_certificate=authority.issue("me").certificate)
    if shown:
        configured.link.peer_certificate = authority.issue("peer").certificate
    report = configured.link_security()
    assert text in str(report)
    assert report.peer_verified == (verify is PEER and shown)


def test_a_peer_that_on_verify_let_in_is_not_verified_and_its_link_meets_no_profile(
    configured, certs, authority
):
    configured._configure_tls(creation(certs))
    configured._tls_settings(False, "localhost")
    configured.link = Link(peer_certificate=authority.issue("peer").certificate)
    assert configured.link_security().profiles_met
    configured.link.overruled = "it expired at noon"
    report = configured.link_security()
    assert "peer verified:    no: on_verify let it in although it expired at noon\n" in str(report)
    assert (report.peer_verified, report.profiles_met) == (False, ())
    assert all("certificate was not verified" in verdict.reasons[-1] for verdict in report.profiles_missed)


def test_the_report_escapes_what_the_peer_wrote(authority):
    report = Net(Link(peer_certificate=authority.issue("evil\x1b[2J\npeer").certificate)).link_security()
    assert r"CN=evil\x1b[2J\npeer," in str(report)


# --- a real link ---------------------------------------------------------------------------------


@pytest.fixture
def pair(certs: Path, leak_check) -> Iterator[tuple[Net, Net]]:
    """A client and a server with certificates of their own over a real TLS link."""
    client, server = Net(), Net()
    for net, name in ((client, "client_ec"), (server, "server")):
        net._configure_tls(creation(certs))
        net.set_tls_client_certificate(certs / f"{name}.pem", path_to_key_file=certs / f"{name}.key")
    yield client, server
    for net in (client, server):
        if net.link is not None:
            net.link.kill()


def connect(client: Net, server: Net) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    settings = client._tls_settings(False, "localhost"), server._tls_settings(True, "")
    for net, sock, chosen, server_side in zip(
        (client, server), (near, far), settings, (False, True), strict=True
    ):
        net.link = context_for(chosen, server_side=server_side).stream(
            TcpStream(sock), expected_name=chosen.name_to_check or None, on_verify=None
        )
    thread = threading.Thread(target=server.link.handshake, args=(Deadline.after(20),))
    thread.start()
    try:
        client.link.handshake(Deadline.after(20))
    finally:
        thread.join()


def test_both_ends_of_a_real_link_tell_the_same(pair: tuple[Net, Net]):
    client, server = pair
    connect(client, server)
    for net in pair:
        assert net.get_tls_cipher_suite() is T.AES_256_GCM_SHA384
        assert six(net)[:5] == (Exchange.ECDHE, Authentication.RSA, Encryption.AES, Mac.AEAD, 256)
    assert client.get_tls_mutual_authentication_key_length() == 2048
    assert server.get_tls_mutual_authentication_key_length() == 256
    near, far = client.link_security(), server.link_security()
    assert near.secure
    assert near.version == far.version == "TLS 1.3"
    assert near.group == far.group != ""
    assert near.own_certificate == far.peer_certificate
    assert near.peer_certificate == far.own_certificate
    assert near.peer_verified
    assert (near.peer_name, far.peer_name) == ("localhost", "")
    assert [verdict.section for verdict in near.profiles_met] == ["B.12", "B.13", "B.10", "B.9"]


def test_the_report_can_be_read_by_a_person_and_by_a_program(pair: tuple[Net, Net], certs: Path):
    client, server = pair
    connect(client, server)
    report = client.link_security()
    text = str(report)
    subject = load_credentials(certs / "server.pem", key_path=certs / "server.key").certificate.subject
    issuer = load_ca_certificates(certs / "ca.pem")[0].subject
    for part in (
        "TLS 1.3",
        "TLS_AES_256_GCM_SHA384 (OpenSSL: TLS_AES_256_GCM_SHA384)",
        f"ECDHE, group {report.group}",
        "AES-256-GCM, key of 256 bits",
        "AEAD (128-bit tag)",
        f"{subject.rfc4514_string()}, issued by {issuer.rfc4514_string()}, expires ",
        "RSA 2048 bits",
        "EC 256 bits",
        "chain and name localhost",
        "PS3.15 B.12",
        "PS3.15 B.11 Extended BCP 195 TLS Profile (retired): TLS 1.3 is not TLS 1.2",
    ):
        assert part in text
    data = json.loads(json.dumps(report.as_dict()))
    assert data["suite_code"] == 0x1302
    assert data["peer_certificate"]["key_bits"] == 2048
    assert data["profiles_missed"][0]["reasons"]


def test_a_list_of_leadtools_suites_is_negotiated_in_tls_12(pair: tuple[Net, Net], certs: Path):
    client, server = pair
    wanted = [T.DHE_RSA_WITH_3DES_EDE_CBC_SHA, T.DHE_RSA_WITH_AES256_GCM_SHA384, T.RSA_WITH_AES128_CBC_SHA]
    # A client without an ECDHE suite cannot show a certificate with an elliptic key.
    client.set_tls_client_certificate(certs / "client.pem", path_to_key_file=certs / "client.key")
    client.set_tls_cipher_suite_by_index(0, T.NONE)
    for index, suite in enumerate(wanted):
        client.set_tls_cipher_suite_by_index(index, suite)
        server.set_tls_cipher_suite_by_index(index + 7, suite)  # behind the profile's
    connect(client, server)
    assert client.get_tls_cipher_suite() is server.get_tls_cipher_suite() is wanted[1]
    assert client.get_tls_key_exchange_algorithm() is Exchange.RSA_SIGNED_DHE
    report = client.link_security()
    assert (report.version, report.key_exchange, report.forward_secrecy) == ("TLS 1.2", "DHE", True)


def test_the_openssl_version_is_told():
    version = Security.get_openssl_version()
    assert version.is_available
    assert version.installed_version.startswith("OpenSSL ")
