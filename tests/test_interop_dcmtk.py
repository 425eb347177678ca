"""DCMTK's programs with our client and our server: plain and TLS, every transfer syntax, every PDU size.

storescu decodes what it sends and writes it anew, with other length encodings for instance. So what it sends
is what DCMTK's own storescp gets from it (`reference`), and that is what our server has to get, byte by byte.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

import pydicom
import pytest
from peers import (
    LOCAL,
    PORT,
    SHIPPED,
    Store,
    StoreLink,
    by_syntax,
    contents,
    listening,
    needs,
    on_wire,
    secure,
    serve,
    store,
    succeed,
)

from dicomnet import (
    DicomAssociate,
    DicomDataSet,
    DicomNet,
    DicomPduType,
    DicomTlsCipherSuiteType,
    Limits,
    errors,
)
from dicomnet.dataset.part10 import read_header
from dicomnet.scu import DicomScp, StoreScu
from dicomnet.transport.deadline import Deadline

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

pytestmark = [
    pytest.mark.interop,
    needs("storescu", "storescp", "echoscu", "dcmsend", "dcmrecv"),
    pytest.mark.usefixtures("leak_check"),
]

PLAIN, TLS12, TLS13 = "plain", "TLS 1.2", "TLS 1.3"
PDU_LIMITS = (4096, 16384, 131072)  # DCMTK's smallest, its default, its largest
LARGEST = 131072
VERIFICATION, IMPLICIT = "1.2.840.10008.1.1", "1.2.840.10008.1.2"
PALETTE = "1.2.840.10008.5.1.4.39.1"  # Color Palette Storage, which storescp does not take
MANY = 1000  # messages that take 40 s or more if each waits for a delayed acknowledgement
SOON = 20.0  # seconds

# storescu's option that proposes each transfer syntax.
PROPOSE = {
    "1.2.840.10008.1.2.1": "-xe",
    "1.2.840.10008.1.2": "-xi",
    "1.2.840.10008.1.2.1.99": "-xd",
    "1.2.840.10008.1.2.2": "-xb",
    "1.2.840.10008.1.2.4.50": "-xy",
    "1.2.840.10008.1.2.4.51": "-xx",
    "1.2.840.10008.1.2.4.70": "-xs",
    "1.2.840.10008.1.2.4.80": "-xt",
    "1.2.840.10008.1.2.4.81": "-xu",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.4.91": "-xw",
    "1.2.840.10008.1.2.5": "-xr",
}
STORESCP = ("storescp", "-v", "-dhl", "+B", "+uf")  # bits as they come, a file name for each


def tls(certs: Path, security: str, name: str) -> list[object]:
    """Return the options of a DCMTK program; its extended BCP 195 profile ends with TLS 1.2."""
    if security == PLAIN:
        return []
    options: list[object] = ["+tls", certs / f"{name}.key", certs / f"{name}.pem", "+cf", certs / "ca.pem"]
    return [*options, "-rc", *(["+pz"] if security == TLS12 else [])]


class Client(StoreScu):
    """Our client; it notes the length of every P-DATA-TF it sends, and how its links were secured."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.lengths: list[int] = []
        self.versions: set[str] = set()

    def on_send(self, error: int, pdu_type: int, length: int) -> None:
        if pdu_type == DicomPduType.DATA_TRANSFER:
            self.lengths.append(length - 6)

    def on_receive_associate_accept(self, association: object) -> None:
        self.versions.add(self.link_security().version)


def our_client(certs: Path, security: str, port: int, **options: Any) -> Client:
    scu = Client(DicomScp(LOCAL, "STORESCP", port), **options)
    if security != PLAIN:
        secure(scu, certs, "client")
    return scu


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def storescu(options: Iterable[object], port: int, **more: Any) -> None:
    """Send every shipped file in its own transfer syntax: an association for each syntax."""
    for syntax, files in by_syntax().items():
        succeed("storescu", "-R", "-nh", PROPOSE[syntax], *options, LOCAL, port, *files, **more)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """Options with which a server of DCMTK accepts all the shipped files need, each as it was proposed."""
    classes = sorted({read_header(path).sop_class for path in SHIPPED})
    syntaxes = "".join(f"TransferSyntax{n} = {uid}\n" for n, uid in enumerate(PROPOSE, 1))
    contexts = "".join(f"PresentationContext{n} = {uid}\\Any\n" for n, uid in enumerate(classes, 1))
    profile = tmp_path_factory.mktemp("profile") / "dcmtk.cfg"
    profile.write_text(
        f"[[TransferSyntaxes]]\n[Any]\n{syntaxes}[[PresentationContexts]]\n[Shipped]\n{contexts}"
        "[[Profiles]]\n[all]\nPresentationContexts = Shipped\n"
    )
    return ["-xf", profile, "all"]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, everything: list[object]) -> Counter[tuple[str, str]]:
    """What storescu sends, according to storescp."""
    folder, out = tmp_path_factory.mktemp("log"), tmp_path_factory.mktemp("out")
    with serve(folder, *STORESCP, *everything, "-od", out, PORT) as peer:
        storescu([], peer.port)
    found = contents(out.iterdir())
    assert {syntax for syntax, _ in found} == PROPOSE.keys()
    return found


# --- DCMTK's clients, our server -------------------------------------------------------------------


@pytest.mark.parametrize("security", [PLAIN, TLS12, TLS13])
def test_echoscu(certs: Path, tmp_path: Path, security: str) -> None:
    with store(tmp_path, None if security == PLAIN else certs) as server:
        succeed("echoscu", "--repeat", 5, *tls(certs, security, "client"), LOCAL, server.host_port)
    assert [link.version for link in server.secured] == ([] if security == PLAIN else [security])


@pytest.mark.parametrize("security", [PLAIN, TLS12, TLS13])
def test_storescu_every_syntax(
    certs: Path, tmp_path: Path, reference: Counter[tuple[str, str]], security: str
) -> None:
    with store(tmp_path, None if security == PLAIN else certs) as server:
        storescu(tls(certs, security, "client"), server.host_port)
    assert server.contents == reference
    assert {link.version for link in server.secured} == (set() if security == PLAIN else {security})


def test_what_storescu_does_not_write_anew_arrives_as_it_is_in_the_file(
    tmp_path: Path, reference: Counter[tuple[str, str]]
) -> None:
    untouched = [
        "MR_small_implicit.dcm",
        "6154",  # a CR image, explicit VR little endian
        "ExplVR_BigEnd.dcm",
        "SC_rgb_dcmtk_+eb+cr.dcm",
        "SC_rgb_jpeg_gdcm.dcm",
        "JPEGLSNearLossless_16.dcm",
        "J2K_pixelrep_mismatch.dcm",
        "SC_rgb_rle.dcm",
    ]
    files = [path for path in SHIPPED if path.rpartition("/")[2] in untouched]
    assert contents(files) <= reference
    with store(tmp_path) as server:
        for path in files:
            succeed("storescu", "-R", PROPOSE[on_wire(path)[0]], LOCAL, server.host_port, path)
    assert server.contents == contents(files)
    assert len(server.contents) == len(untouched)


class MeteredLink(StoreLink):
    """Notes the length of every P-DATA-TF it gets."""

    def on_receive(self, error: int, pdu_type: int, buffer: bytes, length: int) -> None:
        if pdu_type == DicomPduType.DATA_TRANSFER:
            self.scp.lengths.append(length - 6)


class MeteredStore(Store):
    link_class = MeteredLink

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.lengths: list[int] = []


@pytest.mark.parametrize("limit", PDU_LIMITS)
@pytest.mark.parametrize("whose", ["ours", "theirs"])
@pytest.mark.parametrize("security", [PLAIN, TLS13])
def test_storescu_pdu_limits(
    certs: Path, tmp_path: Path, reference: Counter[tuple[str, str]], security: str, whose: str, limit: int
) -> None:
    theirs = limit if whose == "theirs" else LARGEST
    server = MeteredStore(tmp_path, limits=Limits(max_pdu=limit if whose == "ours" else LARGEST))
    if security != PLAIN:
        secure(server, certs, "server")
    with listening(server):
        options = ["-pdu", theirs, "--max-send-pdu", theirs, *tls(certs, security, "client")]
        storescu(options, server.host_port)
    assert server.contents == reference
    assert limit - 16 < max(server.lengths) <= limit


def test_dcmsend_several_syntaxes_in_one_association(tmp_path: Path, everything: list[object]) -> None:
    options = ["-nh", "-nuc", "-dn", LOCAL]  # go on after bad files; decompress nothing
    out = folder(tmp_path / "theirs")
    # dcmsend announces two files under the class "31", on a context for RT Dose: that is refused (F19)
    whole = [path for path in SHIPPED if "rtdose_rle" not in path]
    with serve(tmp_path, *STORESCP, *everything, "-od", out, PORT) as peer:
        succeed("dcmsend", *options, peer.port, *whole)
    with store(tmp_path / "ours") as server:
        succeed("dcmsend", *options, server.host_port, *whole)
    assert server.contents == contents(out.iterdir())
    assert len({syntax for syntax, _ in server.contents}) > 8


class Keeps(DicomNet):
    """One connection of a server without `StorageScp`: it keeps the data sets in memory."""

    supported_contexts: ClassVar = {"*": ("*",)}

    def __init__(self, kept: list[tuple[str, bytes]], *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.kept = kept

    def on_receive_c_store_request(
        self, presentation_id, message_id, affected_class, instance, priority, move_ae, move_id, data_set
    ) -> None:
        self.kept.append((data_set.transfer_syntax, data_set.encoded))
        self.send_c_store_response(presentation_id, message_id, affected_class, instance, 0)


class Keeper(DicomNet):
    """The listening object."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.kept: list[tuple[str, bytes]] = []

    def on_accept(self, error: int) -> None:
        self.accept(Keeps(self.kept, None, self.security_mode, limits=self.limits))


@pytest.mark.parametrize("memory", [0, 8 << 20], ids=["spool", "memory"])
@pytest.mark.parametrize("security", [PLAIN, TLS13])
def test_storescu_to_a_dicomnet_of_ones_own(
    certs: Path, tmp_path: Path, reference: Counter[tuple[str, str]], security: str, memory: int
) -> None:
    server = Keeper(limits=Limits(memory=memory))
    if security != PLAIN:
        secure(server, certs, "server")
    with listening(server):
        storescu(tls(certs, security, "client"), server.host_port)
    found = Counter((syntax, hashlib.sha256(data).hexdigest()) for syntax, data in server.kept)
    assert found == reference


@pytest.mark.parametrize("security", [PLAIN, TLS12, TLS13])
def test_echoscu_as_installed_does_not_wait_for_acknowledgements(
    certs: Path, tmp_path: Path, security: str
) -> None:
    """Header and body are two writes with Nagle on: our quick acknowledgement lets the second one go."""
    with store(tmp_path, None if security == PLAIN else certs) as server:
        options = ["--repeat", MANY, *tls(certs, security, "client"), LOCAL, server.host_port]
        succeed("echoscu", *options, no_delay=False, limit=SOON)


@pytest.mark.parametrize("security", [PLAIN, TLS13])
def test_storescu_as_installed_does_not_wait_for_acknowledgements(
    certs: Path, tmp_path: Path, security: str
) -> None:
    file = next(path for path in SHIPPED if path.endswith("CT_small.dcm"))
    with store(tmp_path, None if security == PLAIN else certs) as server:
        options = ["-R", *tls(certs, security, "client"), LOCAL, server.host_port]
        succeed("storescu", *options, *[file] * MANY, no_delay=False, limit=SOON)
    assert server.stored == MANY


# --- our client, DCMTK's servers -------------------------------------------------------------------


def check_store(scu: StoreScu, out: Path) -> None:
    """Send every shipped file in its own transfer syntax; in `out` they must be the same."""
    results = scu.store(SHIPPED)
    assert [str(result) for result in results if not result.stored] == []
    assert contents(out.iterdir()) == contents(SHIPPED)
    assert {result.transfer_syntax for result in results} == PROPOSE.keys()


@pytest.mark.parametrize("security", [PLAIN, TLS12, TLS13])
def test_storescp(certs: Path, tmp_path: Path, everything: list[object], security: str) -> None:
    out = folder(tmp_path / "out")
    options = [*everything, "-od", out, *tls(certs, security, "server")]
    with serve(tmp_path, *STORESCP, *options, PORT) as peer:
        scu = our_client(certs, security, peer.port)
        check_store(scu, out)
    assert scu.versions == {"" if security == PLAIN else security}


@pytest.mark.parametrize("limit", PDU_LIMITS)
@pytest.mark.parametrize("whose", ["ours", "theirs"])
@pytest.mark.parametrize("security", [PLAIN, TLS13])
def test_storescp_pdu_limits(
    certs: Path, tmp_path: Path, everything: list[object], security: str, whose: str, limit: int
) -> None:
    out = folder(tmp_path / "out")
    theirs, ours = (limit, LARGEST) if whose == "theirs" else (LARGEST, limit)
    options = [*everything, "-od", out, "-pdu", theirs, *tls(certs, security, "server")]
    with serve(tmp_path, *STORESCP, *options, PORT) as peer:
        scu = our_client(certs, security, peer.port, limits=Limits(max_pdu=ours, max_pdu_send=ours))
        check_store(scu, out)
    assert limit - 16 < max(scu.lengths) <= limit


@pytest.mark.parametrize("security", [PLAIN, TLS12, TLS13])
def test_dcmrecv(certs: Path, tmp_path: Path, everything: list[object], security: str) -> None:
    out = folder(tmp_path / "out")
    options = ["+B", "+fu", *everything, "-od", out, *tls(certs, security, "server")]
    with serve(tmp_path, "dcmrecv", "-v", "-dhl", *options, PORT) as peer:
        check_store(our_client(certs, security, peer.port), out)


def test_storescp_as_most_run_it_takes_what_it_knows(tmp_path: Path) -> None:
    """Without a profile it refuses a class that it does not know, and decodes and encodes what it gets."""
    out = folder(tmp_path / "out")
    files = [path for path in SHIPPED if "dicomdirtests" in path or "palettes" in path]
    with serve(tmp_path, "storescp", "-dhl", "+uf", "+xa", "-od", out, PORT) as peer:
        results = our_client(tmp_path, PLAIN, peer.port).store(files)
    refused = [result for result in results if not result.stored]
    assert {result.sop_class for result in refused} == {PALETTE}
    assert {type(result.error) for result in refused} == {errors.NoAcceptedContext}
    assert len(list(out.iterdir())) == len(files) - len(refused)


class ByHand(DicomNet):
    """A client written on `DicomNet` itself."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.statuses: dict[int, int] = {}

    def on_receive_c_echo_response(self, presentation_id, message_id, affected_class, status) -> None:
        self.statuses[message_id] = status

    def on_receive_c_store_response(
        self, presentation_id, message_id, affected_class, instance, status
    ) -> None:
        self.statuses[message_id] = status


@pytest.mark.parametrize("security", [PLAIN, TLS13])
def test_storescp_with_a_client_written_by_hand(certs: Path, tmp_path: Path, security: str) -> None:
    """It sends a file, a data set from memory, and one of pydicom's."""
    out = folder(tmp_path / "out")
    path = next(path for path in SHIPPED if path.endswith("MR_small_implicit.dcm"))
    associate = DicomAssociate(True)
    associate.called, associate.calling = "STORESCP", "BY_HAND"
    for number, uid in ((1, VERIFICATION), (3, read_header(path).sop_class)):
        associate.add_presentation_context(number, 0, uid)
        associate.add_transfer(number, IMPLICIT)

    with serve(tmp_path, *STORESCP, "-od", out, *tls(certs, security, "server"), PORT) as peer:
        net = ByHand()
        if security != PLAIN:
            secure(net, certs, "client")
        with net, DicomDataSet(on_wire(path)[1], IMPLICIT) as in_memory:
            net.connect(None, 0, LOCAL, peer.port)
            net.send_associate_request(associate)
            net.wait(net.is_associated)
            net.send_c_echo_request(1, 1, VERIFICATION)
            net.wait(lambda: 1 in net.statuses)
            for message_id, data_set in enumerate((path, in_memory, pydicom.dcmread(path)), 2):
                with DicomDataSet(path) as known:
                    names = known.sop_class, known.sop_instance
                net.send_c_store_request(3, message_id, *names, 0, "", 0, data_set)
                net.wait(lambda id_=message_id: id_ in net.statuses)
    assert net.statuses == {1: 0, 2: 0, 3: 0, 4: 0}
    assert contents(out.iterdir()) == contents([path] * 3)


EC_SUITE = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"


@pytest.mark.parametrize(
    ("theirs", "ours", "options", "security"),
    [
        pytest.param("server_ec", "client_ec", [], TLS13, id="EC keys, TLS 1.3"),
        pytest.param("server_ec", "client_ec", ["+cs", EC_SUITE], TLS12, id="EC keys, TLS 1.2"),
        pytest.param("server", "chained", [], TLS13, id="our certificate from an intermediate CA"),
    ],
)
def test_storescp_with_other_certificates(
    certs: Path, tmp_path: Path, theirs: str, ours: str, options: list[object], security: str
) -> None:
    with serve(tmp_path, *STORESCP, *tls(certs, TLS13, theirs), *options, PORT) as peer:
        scu = our_client(certs, PLAIN, peer.port)
        secure(scu, certs, ours)
        if security == TLS12:
            scu.set_tls_cipher_suite_by_index(0, DicomTlsCipherSuiteType.NONE)
            scu.set_tls_cipher_suite_by_index(0, DicomTlsCipherSuiteType[EC_SUITE.removeprefix("TLS_")])
        scu.open([(VERIFICATION, (IMPLICIT,))])
        assert scu.echo() == 0
        scu.release()
    assert scu.versions == {security}


@pytest.mark.parametrize("name", ["server_ec", "chained"])
def test_echoscu_with_other_certificates(certs: Path, tmp_path: Path, name: str) -> None:
    with store(tmp_path, certs, name) as server:
        succeed("echoscu", *tls(certs, TLS13, "client_ec"), LOCAL, server.host_port)
    assert server.secured[0].own_certificate


@pytest.mark.parametrize("security", [PLAIN, TLS12, TLS13])
def test_storescp_as_installed_does_not_wait_for_acknowledgements(
    certs: Path, tmp_path: Path, security: str
) -> None:
    options = tls(certs, security, "server")
    with serve(tmp_path, *STORESCP, *options, PORT, no_delay=False) as peer:
        scu = our_client(certs, security, peer.port)
        scu.open([(VERIFICATION, (IMPLICIT,))])
        guard, done = Deadline.after(SOON), 0
        while done < MANY and not guard.expired:
            assert scu.echo() == 0
            done += 1
        scu.release()
    assert done == MANY
