"""Private keys in every encrypted form, and every way in which a password can be missing or wrong."""

from __future__ import annotations

import base64
import os
import pickle
import pty
import select
import subprocess
import sys
import threading
import traceback
from pathlib import Path

import pytest
from authority import PASSWORD, key_bytes, make_key
from cryptography.hazmat.primitives import serialization

from dicomnet.enums import DicomExceptionCode
from dicomnet.errors import CertificateFileError, PasswordNotNeeded, PasswordRequired, WrongPassword
from dicomnet.tls import passwords
from dicomnet.tls.passwords import MAX_ATTEMPTS, PasswordRequest, load_private_key

OLD = "TraditionalOpenSSL"


def openssl(data: bytes, *arguments: str) -> bytes:
    """Convert a key with the openssl command; skip the test where that command can't."""
    command = ["openssl", *arguments, "-passout", f"pass:{PASSWORD}"]
    try:
        done = subprocess.run(command, input=data, capture_output=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the openssl command here cannot write this kind of key: {error}")
    return done.stdout


def der(data: bytes) -> bytes:
    """Return a PEM block without headers in DER."""
    return base64.b64decode(b"".join(data.splitlines()[1:-1]))


LEGACY = ("-provider", "legacy", "-provider", "default")
ENCRYPTED = {
    "PKCS#1 AES-256 PEM": lambda: key_bytes(make_key("rsa"), layout=OLD, password=PASSWORD),
    "PKCS#1 AES-128 PEM": lambda: openssl(key_bytes(make_key("rsa")), "rsa", "-traditional", "-aes128"),
    "PKCS#1 3DES PEM": lambda: openssl(key_bytes(make_key("rsa")), "rsa", "-traditional", "-des3"),
    "PKCS#8 AES-256 PEM": lambda: key_bytes(make_key("rsa"), password=PASSWORD),
    "PKCS#8 AES-256 DER": lambda: key_bytes(make_key("rsa"), encoding="DER", password=PASSWORD),
    "PKCS#8 3DES PEM": lambda: openssl(key_bytes(make_key("rsa")), "pkcs8", "-topk8", "-v2", "des3"),
    "PKCS#8 3DES DER": lambda: der(openssl(key_bytes(make_key("rsa")), "pkcs8", "-topk8", "-v2", "des3")),
    "PKCS#8 PBE-SHA1-3DES PEM": lambda: openssl(
        key_bytes(make_key("rsa")), "pkcs8", "-topk8", "-v1", "PBE-SHA1-3DES"
    ),
    "PKCS#8 PBE-SHA1-3DES DER": lambda: der(
        openssl(key_bytes(make_key("rsa")), "pkcs8", "-topk8", "-v1", "PBE-SHA1-3DES")
    ),
    "PKCS#8 scrypt PEM": lambda: openssl(key_bytes(make_key("rsa")), "pkcs8", "-topk8", "-scrypt"),
    "SEC1 AES-256 PEM": lambda: key_bytes(make_key("ec"), layout=OLD, password=PASSWORD),
    "SEC1 3DES PEM": lambda: openssl(key_bytes(make_key("ec")), "ec", "-des3"),
    "EC PKCS#8 AES-256 PEM": lambda: key_bytes(make_key("ec"), password=PASSWORD),
    "EC PKCS#8 AES-256 DER": lambda: key_bytes(make_key("ec"), encoding="DER", password=PASSWORD),
    "Ed25519 PKCS#8 AES-256 PEM": lambda: key_bytes(make_key("ed25519"), password=PASSWORD),
    "DSA PKCS#8 AES-256 PEM": lambda: key_bytes(make_key("dsa"), password=PASSWORD),
}
PLAIN = {
    f"{kind} {layout} {encoding}": (kind, layout, encoding)
    for kind in ("rsa", "ec", "dsa", "ed25519")
    for layout in ("PKCS8", OLD)
    for encoding in ("PEM", "DER")
    if not (kind == "ed25519" and layout == OLD)
}


class Asked:
    """A password callback that gives the answers in turn and keeps the requests."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.requests: list[PasswordRequest] = []

    def __call__(self, request: PasswordRequest):
        self.requests.append(request)
        return self.answers.pop(0)


@pytest.fixture(autouse=True)
def _nothing_parsed_before(monkeypatch):
    monkeypatch.setattr(passwords, "_parsed", {})


@pytest.fixture
def parses(monkeypatch):
    """Count the keys that the loaders of cryptography have parsed."""
    parsed = []

    def counting(load):
        def counted(data, password):
            parsed.append(load(data, password))
            return parsed[-1]

        return counted

    for name in ("load_pem_private_key", "load_der_private_key"):
        monkeypatch.setattr(serialization, name, counting(getattr(serialization, name)))
    return parsed


@pytest.fixture(params=ENCRYPTED)
def encrypted(request) -> bytes:
    return ENCRYPTED[request.param]()


@pytest.fixture
def pkcs8() -> bytes:
    return key_bytes(make_key("ec"), password=PASSWORD)


def numbers(key):
    """Return the public half, by which two keys are compared."""
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


# --- the right password ----------------------------------------------------------------------------


def test_right_password_at_once(encrypted):
    ask = Asked(PASSWORD)
    key = load_private_key(encrypted, "a.key", ask, role="server")
    assert numbers(key) in {numbers(make_key(kind)) for kind in ("rsa", "ec", "ed25519", "dsa")}
    assert ask.requests == [PasswordRequest("a.key", "server", 1)]


@pytest.mark.parametrize("attempt", range(2, MAX_ATTEMPTS + 1))
def test_right_password_later(encrypted, attempt):
    ask = Asked(*["wrong"] * (attempt - 1), PASSWORD)
    load_private_key(encrypted, "a.key", ask)
    assert [request.attempt for request in ask.requests] == list(range(1, attempt + 1))


def test_explicit_password_is_not_asked_for(encrypted):
    ask = Asked()
    load_private_key(encrypted, "a.key", ask, password=PASSWORD)
    assert not ask.requests


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_key_is_not_asked_for(kind):
    name, layout, encoding = PLAIN[kind]
    ask = Asked()
    key = load_private_key(key_bytes(make_key(name), layout=layout, encoding=encoding), "a.key", ask)
    assert numbers(key) == numbers(make_key(name))
    assert not ask.requests


def test_windows_line_ends():
    data = key_bytes(make_key("rsa"), layout=OLD, password=PASSWORD).replace(b"\n", b"\r\n")
    load_private_key(data, "a.key", password=PASSWORD)


@pytest.mark.parametrize(
    ("made_with", "given"),
    [
        ("pässwörd 日本", "pässwörd 日本"),
        ("pässwörd".encode(), "pässwörd"),
        ("pässwörd".encode("latin-1"), "pässwörd".encode("latin-1")),
        (b"\x00\xff", b"\x00\xff"),
        (" spaces count ", " spaces count "),
    ],
)
def test_passwords_are_utf8_or_bytes(made_with, given):
    load_private_key(key_bytes(make_key("ec"), password=made_with), "a.key", Asked(given))


# --- no password, wrong password -------------------------------------------------------------------


@pytest.mark.parametrize("answer", [None, "", b""])
def test_callback_without_a_password(encrypted, answer):
    ask = Asked(answer)
    with pytest.raises(PasswordRequired) as caught:
        load_private_key(encrypted, "/keys/a.key", ask)
    assert (caught.value.path, caught.value.attempts) == ("/keys/a.key", 0)
    assert caught.value.code == DicomExceptionCode.PRIVATE_KEY_LOAD_FAILED
    assert len(ask.requests) == 1


@pytest.mark.parametrize("password", [None, "", b""])
def test_no_callback_and_no_password(pkcs8, password):
    with pytest.raises(PasswordRequired, match="on_private_key_password"):
        load_private_key(pkcs8, "a.key", password=password)


def test_wrong_password_is_bounded(encrypted):
    ask = Asked(*["wrong"] * 99)
    with pytest.raises(WrongPassword) as caught:
        load_private_key(encrypted, "a.key", ask)
    assert caught.value.attempts == MAX_ATTEMPTS == 3
    assert [request.attempt for request in ask.requests] == [1, 2, 3]
    assert caught.value.__cause__ is not None


def test_callback_gives_up_after_a_wrong_password(pkcs8):
    with pytest.raises(WrongPassword) as caught:
        load_private_key(pkcs8, "a.key", Asked("wrong", None))
    assert caught.value.attempts == 1


def test_explicit_wrong_password_is_tried_once(encrypted):
    ask = Asked()
    with pytest.raises(WrongPassword) as caught:
        load_private_key(encrypted, "a.key", ask, password="wrong")
    assert caught.value.attempts == 1
    assert not ask.requests


@pytest.mark.parametrize("kind", ["PKCS#1 AES-256 PEM", "PKCS#8 AES-256 DER", "SEC1 AES-256 PEM"])
def test_wrong_password_that_leaves_good_padding(kind):
    """About one in 256: the loader then complains about the data, and still it is a wrong password."""
    data = ENCRYPTED[kind]()
    load = serialization.load_pem_private_key if b"BEGIN" in data else serialization.load_der_private_key
    for number in range(20000):
        unlucky = b"%d" % number
        with pytest.raises(ValueError) as caught:
            load(data, unlucky)
        if "password" not in str(caught.value):
            break
    else:
        pytest.fail("no such password found")
    load_private_key(data, "a.key", Asked(unlucky, PASSWORD))
    with pytest.raises(WrongPassword):
        load_private_key(data, "a.key", Asked(unlucky, unlucky, unlucky))


def test_explicit_password_for_a_plain_key():
    with pytest.raises(PasswordNotNeeded) as caught:
        load_private_key(key_bytes(make_key("ec")), "a.key", password=PASSWORD)
    assert caught.value.path == "a.key"


@pytest.mark.parametrize("password", ["", b"", None])
def test_explicit_empty_password_for_a_plain_key_is_none(password):
    load_private_key(key_bytes(make_key("ec")), "a.key", password=password)


def test_password_of_a_wrong_type_names_the_type_only(pkcs8):
    with pytest.raises(TypeError, match="int") as caught:
        load_private_key(pkcs8, "a.key", Asked(12345678))
    assert "12345678" not in str(caught.value)


def test_what_the_callback_raises_comes_through(pkcs8):
    def ask(request):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_private_key(pkcs8, "a.key", ask)


# --- keys that cannot be read ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("rsa", "-traditional", "-des"),
        ("pkcs8", "-topk8", "-v2", "des"),
        ("rsa", "-traditional", "-camellia256"),
    ],
    ids=["PKCS#1 DES", "PKCS#8 DES", "PKCS#1 Camellia"],
)
def test_cipher_that_is_gone_says_encrypt_anew(arguments):
    data = openssl(key_bytes(make_key("rsa")), *arguments, *LEGACY)
    ask = Asked(PASSWORD)
    with pytest.raises(CertificateFileError, match="encrypt it anew: openssl pkey") as caught:
        load_private_key(data, "old.key", ask)
    assert not isinstance(caught.value, WrongPassword)
    assert len(ask.requests) == 1


def test_the_advice_for_a_cipher_that_is_gone_works(tmp_path):
    old, new = tmp_path / "old.key", tmp_path / "new.key"
    old.write_bytes(openssl(key_bytes(make_key("rsa")), "rsa", "-traditional", "-des", *LEGACY))
    with pytest.raises(CertificateFileError) as caught:
        load_private_key(old.read_bytes(), str(old), password=PASSWORD)
    advice = str(caught.value).partition("anew: ")[2].replace("NEW.key", str(new)).split()
    subprocess.run(
        [*advice, "-passin", f"pass:{PASSWORD}", "-passout", f"pass:{PASSWORD}"],
        check=True,
        capture_output=True,
    )
    assert numbers(load_private_key(new.read_bytes(), str(new), password=PASSWORD)) == numbers(
        make_key("rsa")
    )


def damage(data: bytes) -> bytes:
    """Zero a stretch in the middle (of the base64 text, where it is PEM)."""
    half = len(data) // 2
    return data[:half] + b"A" * 8 + data[half + 8 :]


@pytest.mark.parametrize("encoding", ["PEM", "DER"])
def test_damaged_plain_key(encoding):
    ask = Asked()
    with pytest.raises(CertificateFileError, match="damaged") as caught:
        load_private_key(damage(key_bytes(make_key("rsa"), encoding=encoding)), "a.key", ask)
    assert caught.value.code == DicomExceptionCode.PRIVATE_KEY_LOAD_FAILED
    assert not ask.requests


@pytest.mark.parametrize("kind", [kind for kind in ENCRYPTED if kind.startswith("PKCS#")])
def test_damaged_encrypted_key_is_not_told_apart_from_a_wrong_password(kind):
    """RSA only: it is the one kind whose numbers are all checked against each other."""
    with pytest.raises(CertificateFileError, match="damaged"):
        load_private_key(damage(ENCRYPTED[kind]()), "a.key", Asked(*[PASSWORD] * 3))


@pytest.mark.parametrize(
    "data", [b"", b"\x30", b"junk", b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----"]
)
def test_what_is_no_key(data):
    with pytest.raises(CertificateFileError):
        load_private_key(data, "a.key", Asked())


def test_key_that_no_certificate_can_have():
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    with pytest.raises(CertificateFileError, match="cannot be used"):
        load_private_key(key_bytes(X25519PrivateKey.generate()), "a.key")


# --- parsed once -----------------------------------------------------------------------------------


def test_plain_key_is_parsed_once(parses):
    data = key_bytes(make_key("rsa"))
    assert load_private_key(data, "a.key") is load_private_key(data, "a.key")
    assert len(parses) == 1


def test_encrypted_key_is_parsed_once_and_asked_for_each_time(parses):
    data = key_bytes(make_key("rsa"), password=PASSWORD)
    ask = Asked(PASSWORD, "wrong", PASSWORD)
    assert load_private_key(data, "a.key", ask) is load_private_key(data, "a.key", ask)
    assert len(ask.requests) == 3
    assert len(parses) == 1


def test_a_parsed_key_still_needs_its_password(encrypted):
    load_private_key(encrypted, "a.key", password=PASSWORD)
    with pytest.raises(WrongPassword):
        load_private_key(encrypted, "a.key", password="wrong")
    with pytest.raises(PasswordRequired):
        load_private_key(encrypted, "a.key", Asked(None))


def test_a_password_that_continues_the_data_does_not_match(pkcs8):
    load_private_key(pkcs8, "a.key", password=PASSWORD)
    with pytest.raises((WrongPassword, CertificateFileError)):
        load_private_key(pkcs8 + PASSWORD[:1].encode(), "a.key", password=PASSWORD[1:])


def test_threads_parse_a_key_once(parses):
    data = key_bytes(make_key("rsa"), password=PASSWORD)
    start = threading.Barrier(8)

    def load():
        start.wait()
        load_private_key(data, "a.key", password=PASSWORD)

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(parses) == 1


def test_parsed_keys_are_bounded(parses, monkeypatch):
    monkeypatch.setattr(passwords, "_KEPT", 2)
    data = [key_bytes(make_key("ec", slot)) for slot in "abc"]
    for each in data:
        load_private_key(each, "a.key")
    assert len(passwords._parsed) == 2
    load_private_key(data[2], "a.key")
    assert len(parses) == 3
    load_private_key(data[0], "a.key")
    assert len(parses) == 4


# --- secrets, terminals ----------------------------------------------------------------------------

SECRET = "s3cr3t-passphrase"


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (lambda: key_bytes(make_key("ec"), password=PASSWORD), {"password": SECRET}),
        (lambda: key_bytes(make_key("ec"), password=PASSWORD), {"ask": lambda _: SECRET}),
        (lambda: key_bytes(make_key("ec"), password=PASSWORD), {"ask": lambda _: SECRET + "\ud800"}),
        (lambda: key_bytes(make_key("ec")), {"password": SECRET}),
        (lambda: ENCRYPTED["PKCS#1 AES-256 PEM"]().replace(b"AES-256", b"DES"), {"password": SECRET}),
        (lambda: key_bytes(make_key("ec"), password=PASSWORD), {"ask": lambda _: [SECRET]}),
    ],
    ids=["explicit", "asked", "not encodable", "not needed", "cipher", "type"],
)
def test_password_is_nowhere_in_an_error(data, options):
    with pytest.raises((CertificateFileError, TypeError)) as caught:
        load_private_key(data(), "a.key", **options)
    error: BaseException | None = caught.value
    text = "".join(traceback.format_exception(error))
    while error is not None:
        text += repr(error) + repr(getattr(error, "__dict__", "")) + repr(error.args)
        error = error.__cause__ or error.__context__
    assert "s3cr3t" not in text


def test_password_is_not_kept_in_memory_with_the_key(pkcs8):
    load_private_key(pkcs8, "a.key", password=PASSWORD)
    assert PASSWORD.encode() not in b"".join(passwords._parsed)


@pytest.mark.parametrize("error", [PasswordRequired, WrongPassword, PasswordNotNeeded])
def test_errors_can_be_pickled(error):
    copy = pickle.loads(pickle.dumps(error("text", path="a.key", attempts=2)))
    assert (type(copy), str(copy), copy.path, copy.attempts) == (error, "text", "a.key", 2)


SCRIPT = """
import os, sys
terminal = os.open(sys.argv[1], os.O_RDWR)  # the first one that a session leader opens is its terminal
os.close(os.open("/dev/tty", os.O_RDWR))
from dicomnet.errors import PasswordRequired
from dicomnet.tls.passwords import load_private_key
try:
    load_private_key(open(sys.argv[2], "rb").read(), sys.argv[2])
except PasswordRequired:
    print("required")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a pseudo terminal as controlling terminal")
@pytest.mark.parametrize(
    "name", ["server_pkcs1.key", "server_pkcs8.key", "server_pkcs8.der", "server_ec_sec1.key"]
)
def test_nothing_is_asked_on_the_terminal(certs, name):
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, os.ttyname(theirs), str(certs / name)],
            check=False,
            cwd=Path(passwords.__file__).parents[2],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            start_new_session=True,
            timeout=60,
        )
        assert (done.stdout, done.stderr) == ("required\n", "")
        assert select.select([ours], [], [], 0)[0] == []
    finally:
        os.close(ours)
        os.close(theirs)
