"""Each sample is run as a user runs it, as a program of its own, against a counterpart."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from authority import PASSWORD
from pydicom.data import get_testdata_file

from dicomnet import DicomAssociate, DicomNet, DicomNetSecurityMode, DicomOpenSslContextCreationSettings
from dicomnet.scp import StorageScp
from dicomnet.scu import DicomScp, StoreScu

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "samples"
LIMIT = 60  # seconds no sample should need

pytestmark = pytest.mark.usefixtures("leak_check")


def arguments(sample: str, *given: object) -> list[str]:
    return [sys.executable, "-W", "error", str(SAMPLES / sample), *map(str, given)]


def environment(**extra: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **extra}


def run(sample: str, *given: object, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments(sample, *given),
        env=environment(**extra),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def secure(net: DicomNet, certs: Path, name: str, **options: Any) -> None:
    creation = DicomOpenSslContextCreationSettings(
        certification_authorities_file_name=certs / "ca.pem", **options
    )
    net.initialize(None, DicomNetSecurityMode.TLS, creation)
    net.set_tls_client_certificate(certs / f"{name}.pem", path_to_key_file=certs / f"{name}.key")


@contextmanager
def storage(folder: Path, certs: Path | None = None) -> Iterator[StorageScp]:
    """A storage server of this package on a free port, with TLS where it gets certificates."""
    server = StorageScp(folder)
    if certs is not None:
        secure(server, certs, "server")
    server.listen("127.0.0.1", 0)
    server.start()
    try:
        yield server
    finally:
        server.close()


@contextmanager
def tls_storage_server(*given: object, **extra: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """The storage server sample on a free port; ended by Ctrl-C, as a person does."""
    process = subprocess.Popen(
        arguments("tls_storage_server.py", "127.0.0.1", 0, *given),
        env=environment(**extra),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    guard = threading.Timer(LIMIT, process.kill)
    guard.start()
    try:
        assert process.stdout is not None
        announced = re.fullmatch(r"listening on port (\d+)\n", process.stdout.readline())
        assert announced, process.communicate()
        yield int(announced[1]), process
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate()
        guard.cancel()
        guard.join()


def file_of(name: str) -> Path:
    return Path(get_testdata_file(name, download=False))


def stored_bytes(path: Path) -> bytes:
    from dicomnet.dataset import DicomDataSet

    with DicomDataSet(path) as data_set:
        return data_set.encoded


def test_echo_client(tmp_path: Path) -> None:
    with storage(tmp_path) as server:
        done = run("echo_client.py", "127.0.0.1", server.host_port)
    assert (done.returncode, done.stderr) == (0, "")
    assert "PDUs of up to 131072 bytes" in done.stdout
    assert "SUCCESS" in done.stdout


def test_echo_client_says_in_one_line_that_it_was_rejected() -> None:
    class Rejects(DicomNet):
        def on_receive_associate_request(self, association: DicomAssociate) -> None:
            self.send_associate_reject(1, 1, 7)

    class Server(DicomNet):
        def on_accept(self, error: object) -> None:
            self.accept(Rejects())

    with Server() as server:
        server.listen("127.0.0.1", 0)
        server.start()
        done = run("echo_client.py", "127.0.0.1", server.host_port, "NOBODY")
    assert done.returncode == 1
    assert re.fullmatch(r"AssociationRejected: .*\n", done.stderr), done.stderr


def test_tls_store_client(tmp_path: Path, certs: Path) -> None:
    files = [file_of("CT_small.dcm"), file_of("JPEG2000.dcm")]
    with storage(tmp_path, certs) as server:
        done = run(
            "tls_store_client.py", "localhost", server.host_port,
            certs / "ca.pem", certs / "server.pem", certs / "server_pkcs8.key", *files,
            KEY_PASSWORD=PASSWORD,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    ready, *stored = done.stdout.splitlines()
    assert ready == "secure link ready: AES_256_GCM_SHA384, key of 256 bits"
    assert [line.partition(": ")[0] for line in stored] == [str(file) for file in files]
    assert {stored_bytes(path) for path in tmp_path.iterdir()} == {stored_bytes(file) for file in files}


def test_tls_store_client_with_a_wrong_password(tmp_path: Path, certs: Path) -> None:
    with storage(tmp_path, certs) as server:
        done = run(
            "tls_store_client.py", "localhost", server.host_port,
            certs / "ca.pem", certs / "server.pem", certs / "server_pkcs8.key", file_of("CT_small.dcm"),
            KEY_PASSWORD="wrong",
        )  # fmt: skip
    assert done.returncode == 1
    assert re.fullmatch(r"WrongPassword: .*\n", done.stderr), done.stderr
    assert not list(tmp_path.iterdir())


def test_tls_storage_server(tmp_path: Path, certs: Path) -> None:
    folder = tmp_path / "received"
    given = (certs / "ca.pem", certs / "server.pem", certs / "server_pkcs8.key", folder)
    file = file_of("CT_small.dcm")
    with tls_storage_server(*given, KEY_PASSWORD=PASSWORD) as (port, process):
        client = StoreScu(DicomScp("127.0.0.1", port=port))
        secure(client, certs, "client")
        with client:
            assert [result.stored for result in client.store([file, file])] == [True, True]
        assert process.stdout is not None
        told = {process.stdout.readline() for _ in range(2)}
    first, second = sorted(folder.iterdir())
    assert told == {f"127.0.0.1 sent {first}\n", f"127.0.0.1 sent {second}\n"}
    assert {stored_bytes(first), stored_bytes(second)} == {stored_bytes(file)}
    assert process.returncode == 0


def test_tls_storage_server_lets_no_stranger_in(tmp_path: Path, certs: Path) -> None:
    from dicomnet.errors import CertificateRefusedByPeer, ConnectionLost

    given = (certs / "ca.pem", certs / "server.pem", certs / "server.key", tmp_path)
    with tls_storage_server(*given) as (port, process):
        client = StoreScu(DicomScp("127.0.0.1", port=port))
        secure(client, certs, "stranger")
        # TLS 1.3: the refusal follows the handshake, and the reset may overtake its alert
        with client, pytest.raises((CertificateRefusedByPeer, ConnectionLost)):
            list(client.store([file_of("CT_small.dcm")]))
    assert not list(tmp_path.iterdir())
    assert process.returncode == 0


def test_tls_callbacks(tmp_path: Path, certs: Path) -> None:
    with storage(tmp_path, certs) as server:
        done = run(
            "tls_callbacks.py", "127.0.0.1", server.host_port,
            certs / "ca.pem", certs / "server.pem", certs / "server_pkcs8.key",
            KEY_PASSWORD=PASSWORD,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    order = re.findall(r"^on_\w+", done.stdout, re.MULTILINE)
    assert list(dict.fromkeys(order)) == [
        "on_private_key_password_for",
        "on_private_key_password",
        "on_connect",
        "on_verify",
        "on_secure_link_ready",
    ]
    assert order.count("on_verify") >= 2, "once for the CA and once for the server"
    assert re.search(r"^version: +TLS 1\.3$", done.stdout, re.MULTILINE)
    assert done.stdout.rstrip().endswith("SUCCESS: 0>")


@pytest.mark.parametrize("sample", sorted(path.name for path in SAMPLES.glob("*.py")))
def test_every_sample_is_short_and_says_what_it_shows(sample: str) -> None:
    text = (SAMPLES / sample).read_text(encoding="utf-8")
    assert len(text.splitlines()) < 80
    assert text.startswith('"""')
    assert f"python samples/{sample} HOST PORT" in text


def test_every_sample_is_run_here() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    missing = [path.name for path in SAMPLES.glob("*.py") if f'"{path.name}"' not in here]
    assert not missing


# --- README ----------------------------------------------------------------------------------------


def readme(heading: str) -> str:
    """The first Python example under a heading."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {heading}\n.*?^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def test_readme_client(tmp_path: Path, certs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = readme("A client")
    assert len(code.splitlines()) <= 10
    for file in ("ca.pem", "client.pem", "client.key"):
        code = code.replace(f'"{file}"', repr(str(certs / file)))
    code = code.replace('"image.dcm"', repr(str(file_of("CT_small.dcm"))))
    with storage(tmp_path, certs) as server:
        exec(code.replace("2762", str(server.host_port)), {})
    printed = capsys.readouterr().out
    for part in ("SUCCESS", "version: ", "cipher suite: ", "chain and name localhost", "PS3.15 B.12"):
        assert part in printed
    assert [stored_bytes(path) for path in tmp_path.iterdir()] == [stored_bytes(file_of("CT_small.dcm"))]


def test_readme_server(certs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = readme("A server").replace("2762", "0").replace("server.run()", "server.start(); use(server)")
    for file in ("ca.pem", "server.pem", "server.key"):
        code = code.replace(f'"{file}"', repr(str(certs / file)))
    trust = DicomOpenSslContextCreationSettings(certification_authorities_file_name=certs / "ca.pem")

    def use(server: DicomNet) -> None:
        client = StoreScu(DicomScp("127.0.0.1", port=server.host_port), ae_title="VISITOR")
        client.initialize(None, DicomNetSecurityMode.TLS, trust)
        client.set_tls_client_certificate(certs / "client.pem", path_to_key_file=certs / "client.key")
        results.extend(client.store([file_of("CT_small.dcm")]))

    results: list[Any] = []
    exec(code, {"use": use})
    assert [result.stored for result in results] == [True]
    assert capsys.readouterr().out == "VISITOR sends an image of CompressedSamples^CT1\n"
