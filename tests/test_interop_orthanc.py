"""Orthanc as server and as client, plain and mutual TLS; one of each is started for all tests."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pydicom
import pytest
from peers import LOCAL, PORT, SHIPPED, contents, digest, free_port, launch, needs, secure, store

from dicomnet.scu import DicomScp, StoreScu

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from peers import Served

pytestmark = [pytest.mark.interop, needs("Orthanc"), pytest.mark.usefixtures("leak_check")]

VERIFICATION, IMPLICIT = "1.2.840.10008.1.1", "1.2.840.10008.1.2"
PLAIN, TLS = "plain", "TLS"

# Orthanc decodes what it gets and encodes it anew. These come out as they went in:
UNCHANGED = (
    "rtplan.dcm",
    "6154",
    "ExplVR_BigEnd.dcm",
    "SC_rgb_dcmtk_+eb+cr.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
    "J2K_pixelrep_mismatch.dcm",
    "examples_overlay.dcm",
)
# These do not, the lengths of their sequences for instance.
CHANGED = (
    "image_dfl.dcm",
    "JPGExtended.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "JPEG2000.dcm",
    "waveform_ecg.dcm",
)


def files(names: tuple[str, ...]) -> list[str]:
    found = [path for path in SHIPPED if path.rpartition("/")[2] in names]
    assert len(found) == len(names)
    return found


class Orthanc:
    """An Orthanc that is running, by its REST interface."""

    def __init__(self, folder: Path, certs: Path, security: str) -> None:
        self.security = security
        self.http = free_port()
        settings = {
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "index"),
            "HttpPort": self.http,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "Plugins": [],
            "SyncStorageArea": False,
            "DicomAet": "ORTHANC",
            "DicomPort": PORT,
            "DicomCheckCalledAet": False,
            "MaximumPduLength": 131072,
            "DicomTlsEnabled": security == TLS,
            "DicomTlsCertificate": str(certs / "server.pem"),
            "DicomTlsPrivateKey": str(certs / "server.key"),
            "DicomTlsTrustedCertificates": str(certs / "ca.pem"),
        }
        configuration = folder / "orthanc.json"
        configuration.write_text(json.dumps(settings))
        self.served: Served = launch(folder, "Orthanc", configuration, fill_in=configuration)

    def call(self, path: str, body: object = None, method: str | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{LOCAL}:{self.http}/{path}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    def introduce(self, port: int) -> None:
        """Tell it where our server is."""
        us = {"AET": "US", "Host": LOCAL, "Port": port, "UseDicomTls": self.security == TLS}
        self.call("modalities/us", us, "PUT")

    def download(self, folder: Path) -> dict[str, Path]:
        """Return the files that it holds by its ids for them."""
        held = {}
        for number in json.loads(self.call("instances")):
            held[number] = folder / number
            held[number].write_bytes(self.call(f"instances/{number}/file"))
        return held


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, certs: Path) -> Iterator[dict[str, Orthanc]]:
    running = {
        security: Orthanc(tmp_path_factory.mktemp(f"orthanc-{security}"), certs, security)
        for security in (PLAIN, TLS)
    }
    yield running
    for orthanc in running.values():
        orthanc.served.stop()
    for orthanc in running.values():
        orthanc.served.join()


@pytest.fixture(params=[PLAIN, TLS])
def orthanc(both: dict[str, Orthanc], request: pytest.FixtureRequest) -> Orthanc:
    return both[request.param]


def our_client(orthanc: Orthanc, certs: Path) -> StoreScu:
    scu = StoreScu(DicomScp(LOCAL, "ORTHANC", orthanc.served.port))
    if orthanc.security == TLS:
        secure(scu, certs, "client")
    return scu


def test_echo_to_orthanc(orthanc: Orthanc, certs: Path) -> None:
    with our_client(orthanc, certs) as scu:
        scu.open([(VERIFICATION, (IMPLICIT,))])
        assert scu.echo() == 0


def test_echo_from_orthanc(orthanc: Orthanc, certs: Path, tmp_path: Path) -> None:
    with store(tmp_path, certs if orthanc.security == TLS else None) as server:
        orthanc.introduce(server.host_port)
        orthanc.call("modalities/us/echo", {})
    assert len(server.secured) == (orthanc.security == TLS)


def test_orthanc_does_not_get_in_with_a_certificate_that_we_do_not_trust(
    both: dict[str, Orthanc], certs: Path, tmp_path: Path
) -> None:
    orthanc = both[TLS]
    server = store(tmp_path, certs, ca="stranger_ca.pem")
    with server as listening:
        orthanc.introduce(listening.host_port)
        with pytest.raises(urllib.error.HTTPError) as refused:
            orthanc.call("modalities/us/echo", {})
        refused.value.close()
    assert listening.secured == []


def test_store_to_orthanc_and_back(orthanc: Orthanc, certs: Path, tmp_path: Path) -> None:
    sent = files(UNCHANGED + CHANGED)
    results = our_client(orthanc, certs).store(sent)
    assert [str(result) for result in results if not result.stored] == []

    (tmp_path / "held").mkdir()
    held = orthanc.download(tmp_path / "held")
    digests = set(map(digest, held.values()))
    assert [path for path in files(UNCHANGED) if digest(path) not in digests] == []
    assert sorted(digest(path)[0] for path in held.values()) == sorted(digest(path)[0] for path in sent)

    with store(tmp_path / "back", certs if orthanc.security == TLS else None) as server:
        orthanc.introduce(server.host_port)
        orthanc.call("modalities/us/store", list(held))
    assert contents(files(UNCHANGED)) <= server.contents
    back = {stored.sop_instance: stored for stored in server.instances}
    assert len(back) == len(held)
    for path in held.values():  # Orthanc encodes some of them once more, and leaves out trailing padding
        data_set = pydicom.dcmread(path)
        data_set.pop(0xFFFC_FFFC, None)
        stored = back[data_set.SOPInstanceUID]
        assert stored.transfer_syntax == data_set.file_meta.TransferSyntaxUID
        assert pydicom.dcmread(stored.path) == data_set
