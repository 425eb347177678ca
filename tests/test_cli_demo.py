"""`dicomnet demo`: every file of pydicom crosses a secure link, and what a person gets to see of it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pydicom
import pytest
from peers import SHIPPED
from pydicom.filereader import read_file_meta_info

from dicomnet.cli import demo as demo_module
from dicomnet.cli.commands import dicomnet
from dicomnet.dataset.part10 import read_header
from dicomnet.scp import StorageScp
from dicomnet.tls.certificates import load_ca_certificates, load_credentials

pytestmark = pytest.mark.usefixtures("leak_check")

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(pydicom.__file__).parent / "data"
PREAMBLE = 128 + 4


def demo(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        dicomnet(args=["demo", *map(str, arguments)], prog_name="dicomnet")
    assert isinstance(ended.value.code, int)
    return ended.value.code, *capsys.readouterr()


def readable_by_pydicom() -> list[Path]:
    """The files that pydicom reads without being forced to and finds a SOP class and instance in."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in DATA.rglob("*"):
            if path.is_file():
                try:
                    dataset = pydicom.dcmread(path)
                except Exception:
                    continue
                if "SOPClassUID" in dataset and "SOPInstanceUID" in dataset:
                    found.append(path)
    return found


def data_set(path: Path) -> bytes:
    """The bytes after the meta header, whose length pydicom tells; a NUL makes an odd number even."""
    length = read_file_meta_info(path).FileMetaInformationGroupLength
    data = path.read_bytes()[PREAMBLE + 12 + length :]
    return data + bytes(len(data) % 2)


def test_all_files_arrive_and_none_of_the_same_uid_is_lost(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, out, err = demo(capsys, "--json", "--keep", tmp_path / "kept")
    result = json.loads(out)
    assert (status, err, result["ok"]) == (0, "", True)
    assert result["files"] == result["equal"] == len(SHIPPED)
    assert result["associations"] == 1
    sent = readable_by_pydicom()
    assert len(sent) >= 170
    assert {str(path.relative_to(DATA)) for path in sent} <= {one["path"] for one in result["results"]}
    received = list((tmp_path / "kept" / "received").iterdir())
    assert len(received) == len(SHIPPED)
    hashes = Counter(hashlib.sha256(data_set(path)).hexdigest() for path in received)
    assert hashes == Counter(one["sent_sha256"] for one in result["results"])
    assert all(hashes[hashlib.sha256(data_set(path)).hexdigest()] for path in sent if has_length(path))
    syntaxes = {one["transfer_syntax"] for one in result["results"]}
    assert len(syntaxes) == 12


def has_length(path: Path) -> bool:
    is_file = path.read_bytes()[128:132] == b"DICM"
    return is_file and "FileMetaInformationGroupLength" in read_file_meta_info(path)


def test_the_link_is_mutually_authenticated(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, out, _ = demo(capsys, "--json", "--keep", tmp_path)
    security = json.loads(out)["security"]
    assert status == 0
    assert security["version"] == "TLS 1.3"
    assert security["peer_verified"] is True
    assert security["peer_name"] == "127.0.0.1"
    assert security["own_certificate"]["subject"] != security["peer_certificate"]["subject"]
    assert security["profiles_met"][0]["section"] == "B.12"
    password = (tmp_path / "key-password.txt").read_text().strip()
    (ca,) = load_ca_certificates(tmp_path / "ca.pem")
    for role in ("server", "client"):
        assert (tmp_path / f"{role}.key").read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
        assert (tmp_path / f"{role}.key").stat().st_mode & 0o077 == 0
        credentials = load_credentials(
            tmp_path / f"{role}.pem", 1, tmp_path / f"{role}.key", password=password
        )
        credentials.certificate.verify_directly_issued_by(ca)
    assert (tmp_path / "key-password.txt").stat().st_mode & 0o077 == 0


WANTED = [
    "TLS 1.3", "TLS_AES_", "ECDHE", "forward secrecy", "ECDSA", "AES-256-GCM, 256-bit key",
    "AEAD (128-bit tag)", "B.12", "CN=demo server", "CN=demo client", "EC 256 bits, expires 20",
    "verified as 127.0.0.1",
    f"{len(SHIPPED)}/{len(SHIPPED)} files", "RLE Lossless", "JPEG 2000", "Deflated", "CT",
    f"{len(SHIPPED)} of {len(SHIPPED)} data sets are equal on both sides (SHA-256).",
]  # fmt: skip


def test_what_a_person_sees_fits_80_columns_when_piped(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "TMPDIR")}
    done = subprocess.run(
        [sys.executable, "-m", "dicomnet.cli", "demo"],
        capture_output=True, text=True, timeout=60, check=False, cwd=ROOT,
        env={**environment, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    missing = [text for text in WANTED if text not in done.stdout]
    assert not missing, done.stdout
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 48  # one screen
    assert "\x1b" not in done.stdout
    assert list(tmp_path.iterdir()) == []  # nothing is left of the temporary folder


def test_a_terminal_that_knows_ascii_only_gets_ascii() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    line = [sys.executable, "-m", "dicomnet.cli", "demo", "--plain"]
    done = subprocess.run(line, capture_output=True, timeout=60, check=False, cwd=ROOT, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.isascii()
    assert b"data sets are equal" in done.stdout


def test_plain_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = demo(capsys, "--plain")
    assert status == 0
    assert "Plain link" in out
    assert "everything can be read on the way" in out
    assert "TLS" not in out


def test_files_lists_every_file_with_its_hash(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = demo(capsys, "--plain", "--files")
    assert status == 0
    assert len(re.findall(r" [0-9a-f]{8} .* [✓]", out)) == len(SHIPPED)
    assert "MR_small_RLE.dcm" in out
    assert max(map(len, out.splitlines())) <= 80


def test_keep_shows_a_command_that_uses_the_certificates(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    kept = tmp_path / "with space"
    _, out, _ = demo(capsys, "--keep", kept)
    line = next(line for line in out.splitlines() if line.startswith("dicomnet serve"))
    assert f"--cert '{kept}/server.pem'" in line
    assert f"--key-password-file '{kept}/key-password.txt'" in line
    _, out, _ = demo(capsys, "--plain", "--keep", tmp_path / "plain")
    assert "dicomnet serve" not in out
    assert os.listdir(tmp_path / "plain") == ["received"]


class Changing(demo_module._Server):
    """Spoils one file after it was stored, and refuses another."""

    def on_instance(self, instance: Any) -> None:
        super().on_instance(instance)
        if self.stored == 3:
            with open(instance.path, "r+b") as file:
                file.seek(-1, os.SEEK_END)
                last = file.read(1)
                file.seek(-1, os.SEEK_END)
                file.write(bytes([last[0] ^ 1]))


class Refusing(demo_module._Server):
    """Takes no CT."""

    def accepts(self, abstract_syntax: str) -> bool:
        return not abstract_syntax.endswith("1.1.2") and StorageScp.accepts(self, abstract_syntax)


CT_FILES = sum(read_header(path).sop_class == "1.2.840.10008.5.1.4.1.1.2" for path in SHIPPED)


@pytest.mark.parametrize(("server", "wrong"), [(Changing, 1), (Refusing, CT_FILES)])
def test_what_does_not_arrive_as_it_was_is_a_failure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, server: type, wrong: int
) -> None:
    monkeypatch.setattr(demo_module, "_Server", server)
    status, out, err = demo(capsys, "--plain")
    assert status == 1
    assert out.count("different: ") == wrong
    assert ("other bytes" in out) is (server is Changing)
    assert err == f"dicomnet: {wrong} of {len(SHIPPED)} data sets did not arrive as they were\n"


def test_a_pydicom_without_its_files_is_a_failure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(demo_module, "_find_files", lambda: (tmp_path, []))
    status, _, err = demo(capsys)
    assert (status, err.count(str(tmp_path))) == (1, 1)
