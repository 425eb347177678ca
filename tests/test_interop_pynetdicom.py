"""pynetdicom with our client and our server, plain and TLS, every transfer syntax."""

from __future__ import annotations

import hashlib
import ssl
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pydicom
import pytest
from peers import LOCAL, SHIPPED, contents, digest, secure, store

from dicomnet import Limits
from dicomnet.dataset.part10 import read_header
from dicomnet.scu import DicomScp, StoreScu, plan_contexts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pynetdicom = pytest.importorskip("pynetdicom")

pytestmark = [pytest.mark.interop, pytest.mark.usefixtures("leak_check")]


def is_whole(path: str) -> bool:
    """Tell whether pynetdicom can send the file: it has a preamble, and file meta elements with a length."""
    with open(path, "rb") as file:
        return file.read(144)[128:140] == b"DICM\2\0\0\0UL\4\0"


VERIFICATION = "1.2.840.10008.1.1"
VERSIONS = {"plain": None, "TLS 1.2": ssl.TLSVersion.TLSv1_2, "TLS 1.3": ssl.TLSVersion.TLSv1_3}
CASES = [
    ("plain", 4096),
    ("plain", 16382),  # pynetdicom's default
    ("plain", 131072),
    ("plain", 0),  # no limit
    ("TLS 1.2", 16382),
    ("TLS 1.3", 4096),
    ("TLS 1.3", 131072),
]
PLANS = plan_contexts((read_header(path).sop_class, digest(path)[0]) for path in SHIPPED)
WITH_HEADER = [path for path in SHIPPED if is_whole(path)]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pynetdicom send files as they are, as we do, and say nothing of UIDs and lengths."""
    monkeypatch.setattr(pynetdicom._config, "STORE_SEND_CHUNKED_DATASET", True)
    monkeypatch.setattr(pynetdicom._config, "LOG_HANDLER_LEVEL", "none")


def context(certs: Path, security: str, *, server_side: bool) -> ssl.SSLContext | None:
    """Return a context of Python's own ssl module."""
    if security == "plain":
        return None
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = made.maximum_version = VERSIONS[security]
    made.verify_mode = ssl.CERT_REQUIRED
    name = "server" if server_side else "client"
    made.load_cert_chain(certs / f"{name}.pem", certs / f"{name}.key")
    made.load_verify_locations(certs / "ca.pem")
    return made


class Provider:
    """A storage server of pynetdicom; it keeps a digest of what it gets."""

    def __init__(self, max_pdu: int = 16382) -> None:
        self.got: Counter[tuple[str, str]] = Counter()
        self.echoes = 0
        self.ae = pynetdicom.AE("STORESCP")
        self.ae.maximum_pdu_size = max_pdu
        self.ae.add_supported_context(VERIFICATION)
        for plan in PLANS:
            for sop_class, syntaxes in plan:
                self.ae.add_supported_context(sop_class, list(syntaxes))

    def echo(self, event: Any) -> int:
        self.echoes += 1
        return 0x0000

    def keep(self, event: Any) -> int:
        data = event.request.DataSet.getvalue()
        self.got[str(event.context.transfer_syntax), hashlib.sha256(data).hexdigest()] += 1
        return 0x0000

    @contextmanager
    def running(self, ssl_context: ssl.SSLContext | None) -> Iterator[int]:
        """Serve, and yield the port."""
        handlers = [(pynetdicom.evt.EVT_C_STORE, self.keep), (pynetdicom.evt.EVT_C_ECHO, self.echo)]
        server = self.ae.start_server((LOCAL, 0), block=False, evt_handlers=handlers, ssl_context=ssl_context)
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            for association in self.ae.active_associations:
                association.join(10)


# --- pynetdicom's server, our client ---------------------------------------------------------------


@pytest.mark.parametrize(("security", "limit"), CASES)
def test_our_client(certs: Path, security: str, limit: int) -> None:
    provider = Provider(limit)
    with provider.running(context(certs, security, server_side=True)) as port:
        scu = StoreScu(DicomScp("localhost", "STORESCP", port), limits=Limits(max_pdu=limit))
        if security != "plain":
            secure(scu, certs, "client")
        scu.open([(VERIFICATION, ("1.2.840.10008.1.2",))])
        assert [scu.echo() for _ in range(3)] == [0, 0, 0]
        version = scu.link_security().version
        scu.release()
        results = scu.store(SHIPPED)
    assert provider.echoes == 3
    assert version == ("" if security == "plain" else security)
    assert [str(result) for result in results if not result.stored] == []
    assert provider.got == contents(SHIPPED)


# --- pynetdicom's client, our server ---------------------------------------------------------------


@contextmanager
def associated(ae: Any, certs: Path, security: str, port: int) -> Iterator[Any]:
    tls = context(certs, security, server_side=False)
    association = ae.associate(LOCAL, port, tls_args=None if tls is None else (tls, "localhost"))
    try:
        assert association.is_established
        yield association
        association.release()
        assert association.is_released
    finally:
        association.abort()
        association.join(10)


def stopped(association: Any) -> Any:
    """Return the association with its reactor thread at a stop.

    Each send_... stops it, but can take it for stopped while it just passes the check; then the reactor takes
    the response of a fast peer for a request, and the call waits for it in vain.
    """
    checkpoint = association._reactor_checkpoint
    checkpoint.clear()
    while not checkpoint._cond._waiters and association.is_alive():
        time.sleep(0.0005)
    return association


@pytest.mark.parametrize(("security", "limit"), CASES)
def test_our_server(certs: Path, tmp_path: Path, security: str, limit: int) -> None:
    ae = pynetdicom.AE("STORESCU")
    ae.maximum_pdu_size = limit
    ae.requested_contexts = [pynetdicom.build_context(uid, list(syntaxes)) for uid, syntaxes in PLANS[0]]
    ae.add_requested_context(VERIFICATION)
    secured = None if security == "plain" else certs
    with (
        store(tmp_path, secured, limits=Limits(max_pdu=limit)) as server,
        associated(ae, certs, security, server.host_port) as association,
    ):
        assert [stopped(association).send_c_echo().Status for _ in range(3)] == [0, 0, 0]
        assert {stopped(association).send_c_store(path).Status for path in WITH_HEADER} == {0}
    assert server.contents == contents(WITH_HEADER)
    assert [link.version for link in server.secured] == ([] if security == "plain" else [security])


def test_our_server_gets_what_pynetdicom_encodes(tmp_path: Path) -> None:
    """Sent as a pydicom data set, not as a file: explicit VR written by pydicom arrives as it was written."""
    path = next(path for path in SHIPPED if path.endswith("CT_small.dcm"))
    data_set = pydicom.dcmread(path)
    ae = pynetdicom.AE("STORESCU")
    ae.add_requested_context(data_set.SOPClassUID, data_set.file_meta.TransferSyntaxUID)
    with store(tmp_path) as server, associated(ae, tmp_path, "plain", server.host_port) as association:
        assert stopped(association).send_c_store(data_set).Status == 0x0000
    assert pydicom.dcmread(server.instances[0].path) == data_set
