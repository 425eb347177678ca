"""Fixtures for every test: certificates of all kinds, and a check that nothing is left open."""

from __future__ import annotations

import gc
import os
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from authority import NOW, PASSWORD, Authority, key_bytes, pem, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOST = {"dns": ("localhost", "pacs.example"), "ips": ("127.0.0.1", "::1")}


@pytest.fixture(scope="session")
def authority() -> Authority:
    """Return the root CA that signed the good certificates of `certs`."""
    return Authority()


@pytest.fixture(scope="session")
def certs(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of certificate files; do not change it, write beside it into `tmp_path`.

    Each name stands for `name`.pem and `name`.key (PKCS#8, not encrypted), all for localhost,
    pacs.example, 127.0.0.1 and ::1 unless the name says otherwise:

    server, client (RSA 2048), server_ec, client_ec (P-256); expired, not_yet_valid, wrong_name,
    self_signed; stranger (signed by stranger_ca.pem); revoked (listed in crl.pem); server_only and
    client_only (the one extended key usage); chained (its .pem holds the certificate and
    intermediate.pem, which ca.pem signed).

    ca.pem is the CA to trust. Encrypted keys of server.pem and server_ec.pem, password
    `authority.PASSWORD`: server_pkcs1.key, server_pkcs8.key, server_ec_sec1.key, server_ec_pkcs8.key (AES,
    PEM), server_pkcs8.der. server.der and server_key.der are the plain ones in DER.
    """
    folder = tmp_path_factory.mktemp("certs")
    write(folder / "ca.pem", authority.pem)
    day = timedelta(days=1)
    specials: dict[str, dict[str, object]] = {
        "server": {"slot": "server"},
        "client": {"slot": "client"},
        "server_ec": {"key": "ec", "slot": "server"},
        "client_ec": {"key": "ec", "slot": "client"},
        "expired": {"not_before": NOW - 9 * day, "not_after": NOW - day},
        "not_yet_valid": {"not_before": NOW + day, "not_after": NOW + 9 * day},
        "wrong_name": {"dns": ("elsewhere.example",), "ips": ("192.0.2.1",)},
        "self_signed": {"self_signed": True},
        "revoked": {},
        "server_only": {"client": False},
        "client_only": {"server": False},
    }
    issued = {}
    for name, options in specials.items():
        issued[name] = authority.issue(name, **{**HOST, **options})  # type: ignore[arg-type]
        issued[name].write(folder, name)
    write(folder / "crl.pem", pem(authority.crl(issued["revoked"].certificate)))

    stranger = Authority("Stranger CA")
    write(folder / "stranger_ca.pem", stranger.pem)
    stranger.issue("stranger", **HOST).write(folder, "stranger")
    intermediate = authority.intermediate()
    write(folder / "intermediate.pem", intermediate.pem)
    intermediate.issue("chained", **HOST).write(folder, "chained")

    rsa, ec = issued["server"].key, issued["server_ec"].key
    write(folder / "server.der", issued["server"].der)
    write(folder / "server_key.der", key_bytes(rsa, encoding="DER"))
    old = "TraditionalOpenSSL"
    write(folder / "server_pkcs1.key", key_bytes(rsa, layout=old, password=PASSWORD))
    write(folder / "server_pkcs8.key", key_bytes(rsa, password=PASSWORD))
    write(folder / "server_pkcs8.der", key_bytes(rsa, encoding="DER", password=PASSWORD))
    write(folder / "server_ec_sec1.key", key_bytes(ec, layout=old, password=PASSWORD))
    write(folder / "server_ec_pkcs8.key", key_bytes(ec, password=PASSWORD))
    return folder


@pytest.fixture(scope="session", autouse=True)
def _quick_collections() -> None:
    """Keep what is there before the first test, such as the tests themselves, out of every `gc.collect`."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def leak_check() -> Iterator[None]:
    """Fail the test if it leaves a thread or an open descriptor behind.

    Ask for it with `pytestmark = pytest.mark.usefixtures("leak_check")`, so that it is set up first and
    looks last. A thread that is ending is given two seconds.
    """
    gc.collect()
    threads, files = set(threading.enumerate()), _open_files()
    yield
    for thread in set(threading.enumerate()) - threads:
        thread.join(2)
    gc.collect()
    left = [thread.name for thread in threading.enumerate() if thread not in threads and thread.is_alive()]
    assert not left, f"threads left running: {left}"
    opened = {fd: target for fd, target in _open_files().items() if files.get(fd) != target}
    assert not opened, f"descriptors left open: {opened}"


def _open_files() -> dict[str, str]:
    """Return descriptor -> what it is open on; empty where the system has no /proc."""
    found = {}
    if os.path.isdir("/proc/self/fd"):
        for fd in os.listdir("/proc/self/fd"):
            try:
                found[fd] = os.readlink(f"/proc/self/fd/{fd}")
            except FileNotFoundError:  # the descriptor of the listing itself
                continue
    return found
