"""Contexts: one for equal settings, nothing left to OpenSSL's configuration, and what a peer sees of it."""

from __future__ import annotations

import base64
import gc
import logging
import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from OpenSSL import SSL
from tls_peers import (
    LONG,
    NONE,
    TLS12,
    TLS13,
    bare,
    bare_context,
    error_of,
    identity_settings,
    in_thread,
    pair,
    read_all,
    settings,
    tcp_pair,
)

from dicomnet import errors
from dicomnet.tls import context as context_module
from dicomnet.tls import openssl
from dicomnet.tls.client_hello import ClientHello, parse
from dicomnet.tls.context import available_suites, context_for, openssl_version
from dicomnet.transport.deadline import Deadline
from dicomnet.transport.tcp import TcpStream

if TYPE_CHECKING:
    from pathlib import Path

    from authority import Authority

    from dicomnet.tls.settings import TlsSettings

pytestmark = pytest.mark.usefixtures("leak_check")

DES3, NULL_SHA256, CCM_8 = 0x000A, 0x003B, 0xC0A0


def hello_of(ours: TlsSettings, name: str | None = None) -> tuple[bytes, ClientHello]:
    """Return the ClientHello that these settings make, raw and read."""
    near, far = tcp_pair()
    with far:
        stream = context_for(ours, server_side=False).stream(TcpStream(near), expected_name=name)
        shaking = in_thread(lambda: error_of(lambda: stream.handshake(Deadline.after(LONG))))
        data = far.recv(65536)
        far.close()
        shaking()
    hello = parse(data)
    assert hello is not None
    return data, hello


# --- one context for many links -------------------------------------------------------------------------


def test_equal_settings_share_a_context_and_the_name_does_not_matter(certs: Path) -> None:
    one = context_for(settings(certs, "client"), server_side=False)
    assert context_for(settings(certs, "client"), server_side=False) is one
    assert context_for(settings(certs, "client", expected_name="pacs"), server_side=False) is one
    assert context_for(settings(certs, "client"), server_side=True) is not one
    assert context_for(settings(certs, "client", depth=3), server_side=False) is not one


def test_settings_with_revocation_lists_share_a_context_too(certs: Path, authority: Authority) -> None:
    crl, other = authority.crl(), authority.crl(authority.issue("gone").certificate)
    one = context_for(settings(certs, crls=(crl,)), server_side=True)
    assert context_for(settings(certs, crls=(crl,)), server_side=True) is one
    assert context_for(settings(certs, crls=(other,)), server_side=True) is not one
    assert context_for(settings(certs), server_side=True) is not one


def test_contexts_come_and_go_with_their_stores(certs: Path) -> None:
    for depth in range(200):
        context_for(settings(certs, depth=100 + depth), server_side=bool(depth % 2))
    gc.collect()
    with pair(settings(certs, "client", depth=300), settings(certs, depth=301)) as both:
        both.ready()


# --- suites and versions ----------------------------------------------------------------------------------


def test_the_library_tells_what_it_has() -> None:
    assert {"TLS_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384", "NULL-SHA256"} <= available_suites()
    assert openssl_version().startswith("OpenSSL ")


def test_a_client_offers_the_profiles_suites_in_order_and_no_others(certs: Path) -> None:
    _, hello = hello_of(settings(certs, "client"))
    assert hello.versions == (TLS13, TLS12)
    assert hello.suites == (0x1302, 0x1303, 0x1301, 0xC02F, 0xC02B, 0xC030, 0xC02C)


def test_the_order_of_a_list_is_the_order_on_the_wire(certs: Path) -> None:
    _, hello = hello_of(settings(certs, "client", suites=(0xC030, 0x1301, 0xC02F, 0x1302)))
    assert [code for code in hello.suites if code < 0x2000] == [0x1301, 0x1302]
    assert [code for code in hello.suites if code > 0x2000] == [0xC030, 0xC02F]


@pytest.mark.parametrize(
    ("suites", "versions"),
    [((0xC02F,), (TLS12,)), ((0x1301,), (TLS13,))],
    ids=["TLS 1.2 only", "TLS 1.3 only"],
)
def test_a_list_for_one_version_switches_the_other_off(
    certs: Path, suites: tuple[int, ...], versions: tuple[int, ...]
) -> None:
    _, hello = hello_of(settings(certs, "client", suites=suites))
    assert hello.versions == versions
    if versions == (TLS12,):
        assert hello.suites == suites


def test_a_suite_that_openssl_lacks_is_left_out_with_a_warning(
    certs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "dicomnet"):
        made = context_for(settings(certs, suites=(DES3, 0xC02F)), server_side=True)
    assert [suite.code for suite in made.offer.suites] == [0xC02F]
    (record,) = caplog.records
    assert "TLS_RSA_WITH_3DES_EDE_CBC_SHA" in record.getMessage()
    assert openssl_version() in record.getMessage()


def test_if_no_suite_is_left_the_error_names_them(certs: Path) -> None:
    for _ in range(2):
        with pytest.raises(errors.CipherSuitesUnavailable) as caught:
            context_for(settings(certs, suites=(DES3,)), server_side=True)
        assert caught.value.suites == ("TLS_RSA_WITH_3DES_EDE_CBC_SHA",)


@pytest.mark.parametrize("code", [NULL_SHA256, CCM_8], ids=["NULL-SHA256", "AES128-CCM8"])
def test_a_weak_suite_works_where_it_is_asked_for_by_name(certs: Path, code: int) -> None:
    options: dict[str, Any] = {"suites": (code,)}
    with pair(settings(certs, "client", **options), settings(certs, **options)) as both:
        both.ready()
        both.client.write([b"in the clear?"], Deadline.after(LONG))
        assert read_all(both.server, 13) == b"in the clear?"


@pytest.mark.parametrize(
    "code", sorted({0x009C, 0x002F, 0x0035, 0x003C, 0x009E, 0x0067, 0xC013, 0xC027, 0xCCA8, 0xC050})
)
def test_suites_outside_the_profile_can_be_had(certs: Path, code: int) -> None:
    with pair(settings(certs, "client", suites=(code,)), settings(certs, suites=(code,))) as both:
        both.ready()
        assert both.server.cipher_name == both.client.cipher_name


@pytest.mark.parametrize("name", ["server", "server_ec"])
@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_rsa_and_ecdsa_certificates(certs: Path, name: str, version: int) -> None:
    with pair(settings(certs, "client_ec", version=version), settings(certs, name, version=version)) as both:
        both.ready()


def test_settings_that_cannot_work_fail_before_any_link(certs: Path) -> None:
    for wrong, server_side in ((settings(certs, ca=None), False), (settings(certs, None), True)):
        with pytest.raises(errors.TlsConfigurationError):
            context_for(wrong, server_side=server_side)


def test_what_openssl_does_not_take_is_an_error_of_ours(certs: Path) -> None:
    mixed = settings(certs)
    credentials = replace(mixed.credentials, key=settings(certs, "server_ec").credentials.key)
    with pytest.raises(errors.TlsConfigurationError, match="does not take"):
        context_for(settings(certs, None, credentials=credentials), server_side=True)


# --- independence from the machine ------------------------------------------------------------------------


def test_openssls_configuration_file_changes_nothing(certs: Path, tmp_path: Path) -> None:
    conf = tmp_path / "openssl.cnf"
    conf.write_text(
        "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nCipherString = "
        "AES128-SHA:@SECLEVEL=0\nMinProtocol = TLSv1\nMaxProtocol = TLSv1.1\nCiphersuites = "
        "TLS_AES_128_CCM_SHA256\n"
    )
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from test_tls_context import hello_of, settings\n"
        "print(hello_of(settings(Path(sys.argv[2]), 'client'))[1])\n"
    )
    run = [sys.executable, "-c", program, os.path.dirname(__file__), str(certs)]
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    plain = subprocess.run(run, env=path, check=True, capture_output=True, text=True)
    bent = subprocess.run(
        run, env={**path, "OPENSSL_CONF": str(conf)}, check=True, capture_output=True, text=True
    )
    assert bent.stdout == plain.stdout
    assert "TLS 1.3, TLS 1.2 with TLS_AES_256_GCM_SHA384" in plain.stdout


# --- what a peer sees -------------------------------------------------------------------------------------


def test_a_host_name_goes_to_the_server_and_an_address_does_not(certs: Path) -> None:
    for name, sent in (("pacs.example", b"pacs.example"), ("bücher.example.", b"xn--bcher-kva.example")):
        assert sent in hello_of(settings(certs, "client"), name)[0]
    plain = hello_of(settings(certs, "client"))[0]
    for name in ("127.0.0.1", "[::1]", "fe80::1%eth0", "a" * 70):
        data = hello_of(settings(certs, "client"), name)[0]
        assert len(data) == len(plain), "no server name extension"


def test_the_groups_can_be_chosen(certs: Path) -> None:
    options: dict[str, Any] = {"groups": ("P-256", "X25519")}
    data, _ = hello_of(settings(certs, "client", **options))
    assert len(data) < 600
    with pair(settings(certs, "client", **options), settings(certs)) as both:
        both.ready()
        assert both.client.group in ("prime256v1", "secp256r1", "P-256")
    with pytest.raises(errors.TlsConfigurationError, match="no-such-group"):
        context_for(settings(certs, groups=("X25519", "no-such-group")), server_side=True)


def test_groups_that_cannot_be_set_are_an_error_and_not_ignored(
    certs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openssl, "lib", None)
    with pytest.raises(errors.TlsConfigurationError):
        context_for(settings(certs, groups=("X448",)), server_side=True)


def test_a_server_lists_the_cas_whose_clients_it_takes(certs: Path) -> None:
    near, far = tcp_pair()
    server = context_for(settings(certs), server_side=True).stream(TcpStream(far))
    peer = bare(bare_context(certs, server_side=False, name="client", version=TLS12), near, server_side=False)
    shaking = in_thread(lambda: server.handshake(Deadline.after(LONG)))
    peer.do_handshake()
    shaking()
    assert [name.get_components()[-1] for name in peer.get_client_ca_list()] == [(b"CN", b"Test Root CA")]
    near.close()
    server.kill()


@pytest.mark.parametrize(
    ("offered", "chosen"), [([b"dicom"], b"dicom"), ([b"h2", b"dicom"], b"dicom"), ([b"h2"], b"")]
)
def test_a_server_chooses_dicom_where_a_client_names_protocols(
    certs: Path, offered: list[bytes], chosen: bytes
) -> None:
    near, far = tcp_pair()
    server = context_for(settings(certs), server_side=True).stream(TcpStream(far))
    context = bare_context(certs, server_side=False, name="client")
    context.set_alpn_protos(offered)
    peer = bare(context, near, server_side=False)
    shaking = in_thread(lambda: server.handshake(Deadline.after(LONG)))
    peer.do_handshake()
    shaking()
    assert peer.get_alpn_proto_negotiated() == chosen
    near.close()
    server.kill()


def test_the_dhe_group_is_the_one_of_rfc_7919() -> None:
    der = base64.b64decode(b"".join(context_module.FFDHE2048.splitlines()[1:-1]))
    assert der[:9] == bytes.fromhex("30820108 02820101 00"), "a sequence of p, 2048 bits,"
    assert der[-3:] == bytes.fromhex("020102"), "and g = 2"
    digits = der[9:-3].hex().upper()
    assert digits.startswith("FFFFFFFFFFFFFFFFADF85458A2BB4A9AAFDC5620273D3CF1")
    assert digits.endswith("886B423861285C97FFFFFFFFFFFFFFFF")
    assert len(digits) == 512


def test_records_are_written_many_at_a_time(certs: Path) -> None:
    near, far = tcp_pair()
    client = context_for(settings(certs, "client"), server_side=False).stream(TcpStream(near))
    peer = bare(bare_context(certs, server_side=True, name="server"), far, server_side=True)
    shaking = in_thread(peer.do_handshake)
    client.handshake(Deadline.after(LONG))
    shaking()
    assert client.connection.send(bytes(40_000)) == 40_000, "partial writes are off: one call, three records"
    client.kill()
    far.close()


def test_an_intermediate_goes_along_with_the_certificate(certs: Path, authority: Authority) -> None:
    deep = authority.intermediate("Upper CA").intermediate("Lower CA")
    with pair(settings(certs, "client"), identity_settings(certs, deep.issue("deep"))) as both:
        both.ready()
        assert [len(both.client.peer_chain)] == [4]


def test_no_context_without_verification_unless_asked_for_by_name(certs: Path) -> None:
    assert context_for(settings(certs), server_side=False).context.get_verify_mode() == (
        SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
    )
    unverified = context_for(settings(certs, verify=NONE), server_side=False)
    assert unverified.context.get_verify_mode() == SSL.VERIFY_NONE
