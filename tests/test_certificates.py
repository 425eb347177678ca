"""Certificate files in every format and order, damaged ones, and what a certificate says."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pickle
import subprocess
import tempfile
import warnings
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from authority import NOW, PASSWORD, Authority, key_bytes, make_key, pem, write
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomnet.enums import DicomExceptionCode, DicomTlsCertificateType
from dicomnet.errors import (
    CertificateFileError,
    CertificateNameMismatch,
    KeyMismatch,
    PasswordNotNeeded,
    PasswordRequired,
    WrongPassword,
)
from dicomnet.tls import passwords
from dicomnet.tls.certificates import (
    alternative_names,
    certificate_text,
    describe,
    load_ca_certificates,
    load_credentials,
)
from dicomnet.tls.identity import check_name
from dicomnet.tls.passwords import PasswordRequest

pytestmark = pytest.mark.usefixtures("leak_check")

PEM, ASN1 = DicomTlsCertificateType.PEM, DicomTlsCertificateType.ASN1


def fail(request):
    pytest.fail("asked for a password")


def certificate(path):
    return x509.load_pem_x509_certificates(path.read_bytes())[0]


# --- certificate and key ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("certificate_name", "kind", "key_name"),
    [
        ("server.pem", PEM, "server.key"),
        ("server_ec.pem", PEM, "server_ec.key"),
        ("server.der", ASN1, "server_key.der"),
        ("server.der", ASN1, "server.key"),
        ("server.pem", PEM, "server_key.der"),
        ("server.der", PEM, "server_key.der"),
        ("server.pem", ASN1, "server.key"),
        ("server.pem", 1, "server.key"),
    ],
)
def test_plain_key_in_its_own_file(certs, certificate_name, kind, key_name):
    credentials = load_credentials(certs / certificate_name, kind, str(certs / key_name), fail)
    assert credentials.certificate == certificate(certs / certificate_name.replace(".der", ".pem"))
    assert credentials.certificate.public_key() == credentials.key.public_key()
    assert credentials.chain == ()
    assert (credentials.path, credentials.key_path) == (str(certs / certificate_name), str(certs / key_name))


@pytest.mark.parametrize("key_path", [None, ""])
@pytest.mark.parametrize("key_first", [True, False])
@pytest.mark.parametrize("kind", ["rsa", "ec", "dsa", "ed25519"])
def test_plain_key_in_the_certificate_file(authority, tmp_path, kind, key_first, key_path):
    issued = authority.issue("both", key=kind)
    parts = [issued.certificate, issued.key]
    path = write(tmp_path / "both.pem", pem(*parts[:: -1 if key_first else 1]))
    assert load_credentials(path, PEM, key_path, fail).certificate == issued.certificate


@pytest.mark.parametrize(
    ("certificate_name", "key_name"),
    [
        ("server.pem", "server_pkcs1.key"),
        ("server.pem", "server_pkcs8.key"),
        ("server.pem", "server_pkcs8.der"),
        ("server.der", "server_pkcs8.der"),
        ("server_ec.pem", "server_ec_sec1.key"),
        ("server_ec.pem", "server_ec_pkcs8.key"),
    ],
)
def test_encrypted_key_in_its_own_file(certs, certificate_name, key_name):
    asked = []
    path = str(certs / key_name)
    load_credentials(certs / certificate_name, PEM, path, lambda r: asked.append(r) or PASSWORD, "client")
    assert asked == [PasswordRequest(path, "client", 1)]


@pytest.mark.parametrize("name", ["server_pkcs1.key", "server_pkcs8.key"])
def test_encrypted_key_in_the_certificate_file(certs, tmp_path, name):
    text = b"".join((certs / part).read_bytes() for part in (name, "server.pem", "ca.pem"))
    path = write(tmp_path / "both.pem", text)
    answers = iter(["wrong", PASSWORD])
    credentials = load_credentials(path, PEM, None, lambda _: next(answers), "server")
    assert credentials.certificate == certificate(certs / "server.pem")
    assert (credentials.path, credentials.key_path) == (str(path), str(path))


@pytest.mark.parametrize(
    ("key_name", "options", "error"),
    [
        ("server_pkcs8.key", {}, PasswordRequired),
        ("server_pkcs8.key", {"ask": lambda _: ""}, PasswordRequired),
        ("server_pkcs8.key", {"ask": lambda _: "wrong"}, WrongPassword),
        ("server_pkcs8.key", {"password": "wrong"}, WrongPassword),
        ("server.key", {"password": "any"}, PasswordNotNeeded),
    ],
)
def test_password_errors_name_the_key_file(certs, key_name, options, error):
    with pytest.raises(error) as caught:
        load_credentials(certs / "server.pem", PEM, certs / key_name, **options)
    assert caught.value.path == str(certs / key_name)
    assert str(certs / key_name) in str(caught.value)


def test_explicit_password(certs):
    load_credentials(certs / "server.pem", PEM, certs / "server_pkcs8.key", fail, password=PASSWORD)


def test_certificate_type_must_be_one():
    with pytest.raises(ValueError, match="7"):
        load_credentials("server.pem", 7, None)


# --- several certificates --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def deep(authority):
    """Return root -> A -> B -> leaf."""
    below = authority.intermediate("A").intermediate("B")
    return below.issue("leaf", key="ec", slot="deep")


@pytest.mark.parametrize("order", ["leaf A B", "leaf B A", "B A leaf", "A B leaf root", "root A leaf B"])
def test_chain_in_any_order(authority, deep, tmp_path, order):
    b, a = deep.chain
    named = {"leaf": deep.certificate, "A": a, "B": b, "root": authority.certificate}
    path = write(tmp_path / "chain.pem", pem(*(named[n] for n in order.split()), deep.key))
    credentials = load_credentials(path)
    assert credentials.certificate == deep.certificate
    assert credentials.chain == (b, a)


def test_chain_ends_at_a_gap_and_leaves_strangers_out(deep, tmp_path):
    b, a = deep.chain
    stranger = Authority("Stranger CA").intermediate("Other")
    path = write(tmp_path / "gap.pem", pem(stranger.certificate, a, deep.certificate, deep.key))
    assert load_credentials(path).chain == ()
    path = write(tmp_path / "gap.pem", pem(stranger.certificate, b, deep.certificate, b, deep.key))
    assert load_credentials(path).chain == (b,)


@pytest.mark.parametrize("old_first", [True, False])
def test_chain_takes_the_ca_that_signed_of_two_with_one_name(authority, tmp_path, old_first):
    old, new = (authority.intermediate("Renewed", slot=slot) for slot in ("old", "new"))
    leaf = new.issue("leaf", key="ec")
    pool = [old.certificate, new.certificate][:: 1 if old_first else -1]
    path = write(tmp_path / "renewed.pem", pem(leaf.certificate, *pool, leaf.key))
    assert load_credentials(path).chain[0] == new.certificate


def test_two_cas_that_certify_each_other_make_no_endless_chain(tmp_path):
    x, y = (Authority(name, "ec", slot=name) for name in ("X", "Y"))
    x_by_y = Authority("X", "ec", slot="X", parent=y).certificate
    y_by_x = Authority("Y", "ec", slot="Y", parent=x).certificate
    leaf = x.issue("leaf", key="ec", slot="crossed")
    path = write(tmp_path / "cross.pem", pem(y_by_x, leaf.certificate, x_by_y, leaf.key))
    assert load_credentials(path).chain == (x_by_y, y_by_x)
    path = write(tmp_path / "cross.pem", pem(y_by_x, x_by_y, x.key))
    assert load_credentials(path).chain == (y_by_x,)


def test_self_signed_certificate_has_no_chain(certs):
    assert load_credentials(certs / "self_signed.pem", PEM, certs / "self_signed.key").chain == ()


def test_other_blocks_and_text_around_are_skipped(certs, tmp_path):
    """As `openssl pkcs12`, `openssl ecparam -genkey` and `openssl x509 -text` write them."""
    issued = certificate(certs / "server_ec.pem")
    text = b"\xef\xbb\xbfBag Attributes\n    friendlyName: pacs\n" + pem(issued)
    text += b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    text += (certs / "server_ec.key").read_bytes() + b"end\n"
    path = write(tmp_path / "mixed.pem", text.replace(b"\n", b"\r\n"))
    assert load_credentials(path).certificate == issued


# --- the same again --------------------------------------------------------------------------------


def test_same_files_give_the_same_object_and_parse_the_key_once(certs, monkeypatch):
    """A listening object loads its certificate anew for each client, and an RSA key takes long."""
    monkeypatch.setattr(passwords, "_parsed", {})
    opened = []
    load = serialization.load_pem_private_key

    def counting(data, password):
        opened.append(load(data, password))
        return opened[-1]

    monkeypatch.setattr(serialization, "load_pem_private_key", counting)
    asked = []
    files = (str(certs / "server.pem"), PEM, str(certs / "server_pkcs1.key"))
    first, *others = [load_credentials(*files, lambda r: asked.append(r) or PASSWORD) for _ in range(5)]
    assert all(other is first for other in others)
    assert len({first, *others}) == 1
    assert (len(opened), len(asked)) == (1, 5)


def test_changed_files_are_loaded_anew(authority, tmp_path):
    path = tmp_path / "own.pem"
    first, second = (authority.issue(name, key="ec") for name in ("first", "second"))
    loaded = []
    for issued in (first, second, first):
        write(path, pem(issued.certificate, issued.key))
        loaded.append(load_credentials(path).certificate)
    assert loaded == [first.certificate, second.certificate, first.certificate]


def test_credentials_show_no_key(certs):
    credentials = load_credentials(certs / "server.pem", PEM, certs / "server.key")
    assert "rivate" not in repr(credentials)
    with pytest.raises(dataclasses.FrozenInstanceError):
        credentials.key = None  # type: ignore[misc]


# --- the wrong key ---------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["client.key", "server_ec.key"])
def test_key_of_another_certificate_names_both_files(certs, key):
    with pytest.raises(KeyMismatch) as caught:
        load_credentials(certs / "server.pem", PEM, certs / key)
    assert str(certs / "server.pem") in str(caught.value)
    assert str(certs / key) in str(caught.value)
    assert "CN=server" in str(caught.value)
    assert caught.value.code == DicomExceptionCode.KEYS_MISMATCH
    assert pickle.loads(pickle.dumps(caught.value)).path == str(certs / key)


def test_explicit_key_file_wins_over_a_key_in_the_certificate_file(certs, tmp_path):
    both = write(
        tmp_path / "both.pem", (certs / "server.pem").read_bytes() + (certs / "server.key").read_bytes()
    )
    with pytest.raises(KeyMismatch):
        load_credentials(both, PEM, certs / "client.key")
    load_credentials(certs / "server.pem", PEM, both)


# --- files that do not hold what they should -------------------------------------------------------


def credentials_error(*arguments):
    with pytest.raises(CertificateFileError) as caught:
        load_credentials(*arguments, ask=fail)
    assert type(caught.value) is CertificateFileError
    assert caught.value.path in str(caught.value)
    return caught.value


def ca_error(path):
    with pytest.raises(CertificateFileError) as caught:
        load_ca_certificates(path)
    assert caught.value.path == str(path)
    assert caught.value.code == DicomExceptionCode.CERTIFICATE_LOAD_FAILED
    return caught.value


@pytest.mark.parametrize("missing", ["certificate", "key"])
def test_missing_file(certs, missing):
    paths = {"certificate": certs / "server.pem", "key": certs / "server.key", missing: certs / "nowhere.pem"}
    error = credentials_error(paths["certificate"], PEM, paths["key"])
    assert error.path == str(certs / "nowhere.pem")
    assert "No such file" in str(error)
    assert isinstance(error.__cause__, FileNotFoundError)


def test_directory(certs):
    assert "directory" in str(credentials_error(certs)).lower()
    assert "directory" in str(ca_error(certs)).lower()


def test_path_with_nul(certs):
    assert isinstance(credentials_error("a\0b").__cause__, ValueError)


@pytest.mark.parametrize("name", ["server.pem", "server.key"])
def test_file_without_permission(certs, name):
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        for part in ("server.pem", "server.key"):
            write(Path(folder, part), (certs / part).read_bytes()).chmod(0 if part == name else 0o644)
        try:
            if user == 0:  # root may read everything, so be somebody else
                os.seteuid(65534)
            error = credentials_error(Path(folder, "server.pem"), PEM, Path(folder, "server.key"))
        finally:
            os.seteuid(user)
        assert error.path == str(Path(folder, name))
        assert isinstance(error.__cause__, PermissionError)


def test_empty_file(certs, tmp_path):
    empty = write(tmp_path / "empty", b"")
    assert "empty" in str(credentials_error(empty))
    assert "empty" in str(credentials_error(certs / "server.pem", PEM, empty))
    assert "empty" in str(ca_error(empty))


def test_file_too_large(tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert "larger" in str(ca_error(path))


@pytest.mark.parametrize("kind", [PEM, ASN1])
@pytest.mark.parametrize("data", [b"\n", b"junk", b"\x30\x82", b"\0" * 200, "Ünïcode".encode("utf-16")])
def test_what_is_no_certificate_at_all(tmp_path, data, kind):
    path = write(tmp_path / "junk", data)
    assert "neither PEM nor a DER certificate" in str(credentials_error(path, kind))
    assert "neither PEM nor a DER certificate" in str(ca_error(path))


@pytest.mark.parametrize("cut", [40, 400, -30])
def test_truncated_pem(certs, tmp_path, cut):
    path = write(tmp_path / "cut.pem", (certs / "server.pem").read_bytes()[:cut])
    assert "damaged" in str(credentials_error(path, PEM, certs / "server.key"))
    assert "damaged" in str(ca_error(path))


def test_truncated_certificate_before_a_whole_one(certs, tmp_path):
    data = (certs / "ca.pem").read_bytes()
    assert "damaged" in str(ca_error(write(tmp_path / "cut.pem", data[:400] + b"\n" + data)))


def test_damaged_certificate_is_named_by_number(certs, tmp_path):
    data = (certs / "ca.pem").read_bytes()
    path = write(tmp_path / "damaged.pem", data + data[:300] + b"!!!!" + data[304:])
    assert "certificate 2 is damaged" in str(ca_error(path))


def test_der_with_trailing_data(certs, tmp_path):
    path = write(tmp_path / "trailing.der", (certs / "server.der").read_bytes() + b"\0")
    assert "DER" in str(ca_error(path))


def test_key_without_certificate(certs):
    error = credentials_error(certs / "server.key")
    assert "holds no certificate, only PRIVATE KEY" in str(error)
    assert "holds no certificate" in str(credentials_error(certs / "server.key", PEM, certs / "server.pem"))
    assert "holds no certificate" in str(ca_error(certs / "server.key"))
    assert "DER" in str(ca_error(certs / "server_key.der"))


@pytest.mark.parametrize("name", ["server.pem", "server.der"])
@pytest.mark.parametrize("key_name", ["", "ca.pem"])
def test_certificate_without_key(certs, name, key_name):
    error = credentials_error(certs / name, PEM, certs / key_name if key_name else None)
    assert "holds no private key" in str(error)
    assert error.path == str(certs / (key_name or name))
    assert error.code == DicomExceptionCode.PRIVATE_KEY_LOAD_FAILED


def test_public_key_is_no_key(certs, tmp_path):
    public = make_key("rsa", "server").public_key()
    data = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    error = credentials_error(certs / "server.pem", PEM, write(tmp_path / "public.key", data))
    assert "holds no private key" in str(error)


def test_key_in_the_format_of_ssh(certs, tmp_path):
    path = write(tmp_path / "ssh.key", key_bytes(make_key("rsa", "server"), layout="OpenSSH"))
    assert "PKCS#8" in str(credentials_error(certs / "server.pem", PEM, path))


def test_pkcs12_says_how_to_convert_it(authority, tmp_path):
    from cryptography.hazmat.primitives.serialization import pkcs12

    issued = authority.issue("pfx")
    protection = serialization.BestAvailableEncryption(b"x")
    data = pkcs12.serialize_key_and_certificates(b"pfx", issued.key, issued.certificate, None, protection)
    path = write(tmp_path / "own.pfx", data)
    assert f"openssl pkcs12 -in {path}" in str(credentials_error(path))
    assert "PKCS#12" in str(ca_error(path))


# --- CA files --------------------------------------------------------------------------------------


def test_ca_file_with_several_certificates(authority, certs, tmp_path):
    stranger = certificate(certs / "stranger_ca.pem")
    path = write(tmp_path / "cas.pem", pem(authority.certificate, stranger, authority.certificate))
    assert load_ca_certificates(path) == (authority.certificate, stranger)
    assert load_ca_certificates(str(path)) == (authority.certificate, stranger)


def test_ca_file_in_der(authority, tmp_path):
    path = write(tmp_path / "ca.der", authority.certificate.public_bytes(serialization.Encoding.DER))
    assert load_ca_certificates(path) == (authority.certificate,)


@pytest.mark.skipif(not os.path.exists("/etc/ssl/certs/ca-certificates.crt"), reason="no CA bundle here")
def test_ca_bundle_of_the_system():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about details of other people's certificates
        assert len(load_ca_certificates("/etc/ssl/certs/ca-certificates.crt")) > 50


# --- descriptions ----------------------------------------------------------------------------------


def test_describe(authority):
    issued = authority.issue(
        "pacs",
        dns=["pacs.example", "*.imaging.example"],
        ips=["10.0.0.5", "2001:db8::5"],
        key="ec384",
        serial=0xABC,
    )
    info = describe(issued.certificate)
    assert info.subject == "CN=pacs,O=Test Hospital"
    assert info.issuer == "CN=Test Root CA,O=Test Hospital"
    assert datetime.fromisoformat(info.not_before) == NOW - timedelta(days=1)
    assert datetime.fromisoformat(info.not_after) == NOW + timedelta(days=90)
    assert (info.serial, info.is_ca, info.signature_hash) == ("ABC", False, "sha256")
    assert (info.key_type, info.key_bits, info.curve) == ("EC", 384, "secp384r1")
    assert info.names == ("DNS:pacs.example", "DNS:*.imaging.example", "IP:10.0.0.5", "IP:2001:db8::5")
    assert info.sha256.replace(":", "") == issued.certificate.fingerprint(hashes.SHA256()).hex().upper()
    assert json.loads(json.dumps(dataclasses.asdict(info)))["subject"] == info.subject


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("rsa", ("RSA", 2048)),
        ("rsa1024", ("RSA", 1024)),
        ("ec", ("EC", 256)),
        ("dsa", ("DSA", 2048)),
        ("ed25519", ("Ed25519", 256)),
    ],
)
def test_describe_key(authority, kind, expected):
    info = describe(authority.issue("key", key=kind).certificate)
    assert (info.key_type, info.key_bits) == expected


def test_describe_without_extensions_or_signature_hash():
    signer = Authority("Edwards", "ed25519")
    info = describe(signer.certificate)
    assert (info.signature_hash, info.names, info.is_ca) == ("", (), True)


def test_describe_agrees_with_openssl(certs):
    command = [
        "openssl",
        "x509",
        "-in",
        str(certs / "server.pem"),
        "-noout",
        "-fingerprint",
        "-sha256",
        "-serial",
    ]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("no openssl command")
    info = describe(certificate(certs / "server.pem"))
    assert f"={info.sha256}" in said
    assert f"serial={info.serial.zfill(len(info.serial) + len(info.serial) % 2)}" in said


def test_certificate_text_is_what_leadtools_gives_to_on_verify(authority):
    text = certificate_text(authority.issue("pacs", dns=["pacs.example"], serial=255).certificate)
    lines = dict(line.split(": ", 1) for line in text.splitlines())
    assert lines["Subject"] == "CN=pacs,O=Test Hospital"
    assert lines["Serial number"] == "FF"
    assert lines["Basic constraints"] == "not a CA"
    assert lines["Purposes"] == "TLS server, TLS client"
    assert lines["Alternative names"] == "DNS:pacs.example"


def test_certificate_text_of_a_ca():
    text = certificate_text(Authority("Limited", "ec", path_length=0).certificate)
    assert "Basic constraints: CA, path length 0\n" in text
    assert "Purposes: any\n" in text
    assert "CA, path" not in certificate_text(Authority("Unlimited", "ec").certificate)


def test_every_kind_of_alternative_name_and_purpose_is_shown(authority):
    names = x509.SubjectAlternativeName(
        [
            x509.UniformResourceIdentifier("dicom://pacs.example"),
            x509.RFC822Name("pacs@example.org"),
            x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dir")])),
            x509.RegisteredID(x509.ObjectIdentifier("1.2.840.10008.1")),
            x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x02hi"),
        ]
    )
    issued = authority.issue("kinds", client=False, server=False, extensions=[names])
    assert describe(issued.certificate).names == (
        "URI:dicom://pacs.example",
        "email:pacs@example.org",
        "name:CN=dir",
        "other:1.2.840.10008.1",
        "other:1.3.6.1.4.1.311.20.2.3",
    )
    own = x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE, own])
    issued = authority.issue("usage", client=False, server=False, extensions=[usage])
    assert "Purposes: any, 1.3.6.1.4.1.99999.1\n" in certificate_text(issued.certificate)


def test_what_a_certificate_says_is_escaped(authority):
    issued = authority.issue("evil\nSubject: CN=good\x1b[2J\u202e\x7f", dns=["a\nIssuer: good"])
    for text in (
        certificate_text(issued.certificate),
        json.dumps(dataclasses.asdict(describe(issued.certificate))),
    ):
        assert not set(text) & set("\x1b\u202e\x7f")
    assert certificate_text(issued.certificate).count("\n") == 7
    assert "\n" not in "".join(describe(issued.certificate).names)


def test_certificate_with_malformed_extensions(authority):
    """The rest is still described; no name can be read, so none matches."""
    broken = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\x30\x05junk")
    issued = authority.issue("broken", extensions=[broken])
    info = describe(issued.certificate)
    assert (info.subject, info.names) == ("CN=broken,O=Test Hospital", ())
    assert "Alternative names: none" in certificate_text(issued.certificate)
    assert alternative_names(issued.certificate) == ()
    with pytest.raises(CertificateNameMismatch):
        check_name(issued.certificate, "pacs.example")


SAMPLES = [
    Authority("Fuzz", "ec").issue("fuzz", dns=["pacs.example"], ips=["10.0.0.5"], key=kind).der
    for kind in ("ec", "ed25519", "rsa")
]


@settings(max_examples=400, deadline=None)
@given(
    sample=st.sampled_from(SAMPLES),
    changes=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4
    ),
)
def test_no_certificate_from_a_peer_breaks_the_description(sample, changes):
    data = bytearray(sample)
    for where, value in changes:
        data[int(where * len(data))] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            mutated = x509.load_der_x509_certificate(bytes(data))
        except ValueError:
            return
        assert json.dumps(dataclasses.asdict(describe(mutated)))
        assert certificate_text(mutated).isascii()
        with contextlib.suppress(CertificateNameMismatch):
            check_name(mutated, "pacs.example")
            assert "DNS:pacs.example" in describe(mutated).names


def test_moments_are_utc(authority):
    info = describe(authority.certificate)
    assert datetime.fromisoformat(info.not_after).tzinfo == timezone.utc
