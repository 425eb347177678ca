"""The storage server: what it accepts, what ends up in its folder, and what happens when it cannot store."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dialogue
import pydicom
import pytest
from peers import LOCAL, SHIPPED, contents, listening, on_wire, secure, store
from pydicom.uid import UID_dictionary

from dicomnet import DicomDataSet, errors
from dicomnet.dataset.part10 import read_header
from dicomnet.scp import StorageLink, StorageScp, is_storage_class
from dicomnet.scu import DicomConnection, DicomScp, StoreScu

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dicomnet.scp import StoredInstance

pytestmark = pytest.mark.usefixtures("leak_check")

CT = "1.2.840.10008.5.1.4.1.1.2"
FIND = "1.2.840.10008.5.1.4.1.2.1.1"
IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
PATIENT = b"\x10\x00\x10\x00PN\x04\x00A^B "
CT_FILE = next(path for path in SHIPPED if path.endswith("CT_small.dcm"))


def instance(uid: str, data: bytes = PATIENT, syntax: str = EXPLICIT, sop_class: str = CT) -> DicomDataSet:
    return DicomDataSet(data, syntax, sop_class=sop_class, sop_instance=uid)


def scu(server: StorageScp, title: str = "PACS", **options: Any) -> StoreScu:
    return StoreScu(DicomScp(LOCAL, title, server.host_port), **options)


def opened(server: StorageScp, contexts: Any) -> DicomConnection:
    connection = DicomConnection(DicomScp(LOCAL, "X", server.host_port))
    connection.open(contexts)
    return connection


def send(server: StorageScp, *data_sets: Any) -> list[Any]:
    with scu(server) as client:
        return client.store(data_sets)


def files(server: StorageScp) -> list[str]:
    return sorted(os.listdir(server.folder))


# --- what it accepts ---------------------------------------------------------------------------------


def test_the_storage_classes_are_those_that_ps3_6_names_so() -> None:
    no_instances = ("Storage Commitment", "Media Storage Directory", "Storage Management")
    named = {
        uid
        for uid, (name, kind, *_) in UID_dictionary.items()
        if kind == "SOP Class" and "torage" in name and not name.startswith(no_instances)
    }
    nameless = {uid for uid, (name, *_) in UID_dictionary.items() if not name}  # retired and struck out
    assert len(named) > 150
    assert {uid for uid in UID_dictionary if is_storage_class(uid)} - nameless == named


@pytest.mark.parametrize("uid", ["1.2.3", "1.3.12.2.1107.5.9.1", "2.25.1", "1.2.840.113619.4.27"])
def test_private_classes_are_storage_classes(uid: str) -> None:
    assert is_storage_class(uid)


def test_other_classes_are_refused_unless_every_class_is_asked_for(tmp_path: Path) -> None:
    with store(tmp_path) as server, opened(server, [(CT, (EXPLICIT,)), (FIND, (EXPLICIT,))]) as client:
        assert [context.abstract_syntax for context in client.link.core.contexts.values()] == [CT]
    with store(tmp_path, any_class=True) as server:
        assert [result.stored for result in send(server, instance("1.2.3", sop_class=FIND))] == [True]


def test_an_association_without_any_usable_context_is_rejected(tmp_path: Path) -> None:
    with store(tmp_path) as server:
        client = DicomConnection(DicomScp(LOCAL, "X", server.host_port))
        with pytest.raises(errors.AssociationRejected) as caught:
            client.open([(FIND, (EXPLICIT,))])
    assert (caught.value.result, caught.value.source, caught.value.reason) == (1, 1, 1)


def test_each_context_is_accepted_in_the_syntax_that_the_peer_names_first(tmp_path: Path) -> None:
    jpeg, private = "1.2.840.10008.1.2.4.50", "1.2.840.113619.5.2"
    contexts = [(CT, (jpeg, IMPLICIT)), (CT, (IMPLICIT, jpeg)), (CT, (private,))]
    with store(tmp_path) as server, opened(server, contexts) as client:
        accepted = [context.transfer_syntax for context in client.link.core.contexts.values()]
    assert accepted == [jpeg, IMPLICIT, private]


def test_the_called_title_is_checked_where_the_server_has_one(tmp_path: Path) -> None:
    with store(tmp_path, ae_title="PACS") as server:
        with DicomConnection(DicomScp(LOCAL, "PACS", server.host_port)) as client:
            assert client.echo() == 0
        other = DicomConnection(DicomScp(LOCAL, "OTHER", server.host_port))
        with pytest.raises(errors.AssociationRejected) as caught:
            other.open()
    assert (caught.value.result, caught.value.source, caught.value.reason) == (1, 1, 7)


# --- what it stores ----------------------------------------------------------------------------------


def test_every_file_of_pydicom_arrives_byte_for_byte(tmp_path: Path) -> None:
    with store(tmp_path) as server:
        assert all(result.stored for result in send(server, *SHIPPED))
        assert server.stored == len(SHIPPED)
        assert server.stored_bytes == sum(len(on_wire(path)[1]) for path in SHIPPED)
        assert server.failed == 0
        stored = [tmp_path / name for name in files(server)]
        assert contents(stored) == contents(SHIPPED)
        assert all(header_of(path) == header_of(Path(instance.path)) for path, instance in zip(
            sorted(stored), sorted(server.instances, key=lambda item: item.path), strict=True))  # fmt: skip


def header_of(path: Path) -> tuple[str, str]:
    header = read_header(path)
    return header.sop_instance, header.transfer_syntax


def test_a_stored_file_is_one_for_pydicom_too(tmp_path: Path) -> None:
    with store(tmp_path) as server:
        send(server, CT_FILE)
        (stored,) = server.instances
    ours, theirs = pydicom.dcmread(stored.path), pydicom.dcmread(CT_FILE)
    assert ours == theirs
    meta = ours.file_meta
    assert meta.MediaStorageSOPInstanceUID == theirs.SOPInstanceUID
    assert meta.TransferSyntaxUID == EXPLICIT
    assert meta.SourceApplicationEntityTitle == "DICOMNET"


def test_what_on_instance_is_told(tmp_path: Path) -> None:
    with store(tmp_path) as server:
        send(server, instance("1.2.3"))
        (stored,) = server.instances
        assert (stored.sop_class, stored.sop_instance, stored.transfer_syntax) == (CT, "1.2.3", EXPLICIT)
        assert (stored.path, stored.size) == (str(tmp_path / "1.2.3.dcm"), len(PATIENT))
        assert stored.calling == "DICOMNET"
        assert stored.peer.startswith("127.0.0.1:")


def test_the_same_uid_again_is_a_further_file_whatever_its_content_and_syntax(tmp_path: Path) -> None:
    implicit = b"\x10\x00\x10\x00\x04\x00\x00\x00A^B "
    sent = [
        (PATIENT, EXPLICIT),
        (PATIENT.replace(b"A", b"C"), EXPLICIT),
        (implicit, IMPLICIT),
        (PATIENT, EXPLICIT),
    ]
    with store(tmp_path) as server:
        assert all(result.stored for result in send(server, *(instance("1.2.3", *pair) for pair in sent)))
        assert files(server) == ["1.2.3.dcm", "1.2.3_1.dcm", "1.2.3_2.dcm", "1.2.3_3.dcm"]
        stored = [on_wire(str(tmp_path / name)) for name in files(server)]
    assert stored == [(syntax, data) for data, syntax in sent]


def test_the_same_uid_from_many_links_at_a_time_is_never_lost(tmp_path: Path) -> None:
    links, each = 6, 10
    start = threading.Barrier(links)

    def work(server: StorageScp, number: int) -> None:
        start.wait()
        for index in range(each):
            send(
                server,
                instance("1.2.3", PATIENT + PATIENT * number + b"\x10\x00\x20\x00LO\x02\x00%02d" % index),
            )

    with store(tmp_path) as server:
        threads = [threading.Thread(target=work, args=(server, number)) for number in range(links)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert server.stored == links * each
        bodies = Counter(on_wire(str(tmp_path / name))[1] for name in files(server))
    assert len(bodies) == links * each


@pytest.mark.parametrize(
    "uid", ["../../escaped", "/etc/passwd", "a/b", "..", ".hidden", "1..2", "con:", "x" * 64]
)
def test_a_uid_that_is_none_never_becomes_a_path(tmp_path: Path, uid: str) -> None:
    folder = tmp_path / "deep" / "folder"
    with store(folder) as server:
        for result in send(server, instance(uid)):
            assert result.stored, result
        (name,) = files(server)
        assert name.startswith("bad-uid-")
        assert server.instances[0].sop_instance == uid
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [folder / name]


def test_success_is_sent_only_when_the_file_is_complete_under_its_name(tmp_path: Path) -> None:
    seen: list[bytes] = []

    class Looking(StorageScp):
        def on_instance(self, instance: StoredInstance) -> None:
            assert client.responses == 0
            seen.append(on_wire(instance.path)[1])
            assert files(self) == ["1.2.3.dcm"]

    class Counting(StoreScu):
        responses = 0

        def on_receive_c_store_response(self, *arguments: Any) -> None:
            self.responses += 1
            super().on_receive_c_store_response(*arguments)

    with listening(Looking(tmp_path)) as server:
        client = Counting(DicomScp(LOCAL, "X", server.host_port))
        assert client.store(instance("1.2.3"))[0].stored
    assert seen == [PATIENT]


def test_what_on_instance_raises_becomes_the_status(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Refusing(StorageScp):
        errors = iter([errors.StatusError("no", status=0xA900), ValueError("broken")])

        def on_instance(self, instance: StoredInstance) -> None:
            error = next(self.errors, None)
            if error is not None:
                raise error

    caplog.set_level(logging.CRITICAL, "dicomnet")
    with listening(Refusing(tmp_path)) as server:
        results = send(server, *(instance(f"1.2.{number}") for number in range(3)))
    assert [result.status for result in results] == [0xA900, 0xC000, 0]


def test_a_link_class_of_ones_own_can_do_more(tmp_path: Path) -> None:
    class Link(StorageLink):
        def on_receive_c_echo_request(
            self, presentation_id: int, message_id: int, affected_class: str
        ) -> None:
            self.scp.echoes += 1
            self.send_c_echo_response(presentation_id, message_id, affected_class, 0)

    class Server(StorageScp):
        link_class = Link
        echoes = 0

    with listening(Server(tmp_path)) as server:
        with DicomConnection(DicomScp(LOCAL, "X", server.host_port)) as client:
            client.echo()
        assert server.echoes == 1


def test_links_have_the_tls_settings_of_their_server(tmp_path: Path, certs: Path) -> None:
    with store(tmp_path, certs) as server:
        client = scu(server)
        secure(client, certs, "client")
        assert all(result.stored for result in client.store(SHIPPED))
        (security,) = server.secured
        stranger = scu(server)
        secure(stranger, certs, None)
        with pytest.raises(errors.CertificateRequiredByPeer):
            stranger.store([CT_FILE])
    assert security.peer_verified
    assert security.peer_certificate is not None
    assert "CN=client" in security.peer_certificate.subject
    assert contents(tmp_path.iterdir()) == contents(SHIPPED)


# --- when it cannot store ------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_answers_a700_and_the_association_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "in"
    with store(folder) as server, scu(server) as client:
        results = client.store_each(instance(f"1.2.{number}") for number in range(3))
        assert next(results).stored
        shutil.rmtree(folder)
        folder.write_bytes(b"")  # not even root can write into a file as a folder
        lost = next(results)
        folder.unlink()
        folder.mkdir()
        assert next(results).stored
        assert [lost.stored, lost.status] == [False, 0xA700]
        assert (server.stored, server.failed) == (2, 1)
        assert files(server) == ["1.2.2.dcm"]
        assert list(results) == []
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert str(folder / "1.2.1.dcm") in record.getMessage()
    assert "\n" not in record.getMessage()


_LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
from dicomnet.scp import StorageScp
with StorageScp(sys.argv[1]) as server:
    server.listen("127.0.0.1", 0)
    server.start()
    print(server.host_port, flush=True)
    sys.stdin.read()
    print(server.stored, server.failed)
"""


def test_a_disk_that_is_full_in_the_middle_answers_a700_and_leaves_nothing(tmp_path: Path) -> None:
    big = instance("1.2.3", b"\xe0\x7f\x10\x00OB\0\0" + (300_000).to_bytes(4, "little") + bytes(300_000))
    process = subprocess.Popen(
        [sys.executable, "-c", _LIMITED, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with StoreScu(DicomScp(LOCAL, "X", port)) as client:
            results = client.store([big, instance("1.2.4")])
        output, _ = process.communicate()
    assert [result.status for result in results] == [0xA700, 0]
    assert output.split() == ["1", "1"]
    assert os.listdir(tmp_path) == ["1.2.4.dcm"]


def request(field: int = 1, message_id: int = 1, context: int = 3, *, complete: bool = True) -> bytes:
    """A P-DATA-TF with a request for CT that announces a data set."""
    extra = dialogue.element(0x0700, b"\0\0") + dialogue.element(0x1000, b"1.2\0") if complete else b""
    return dialogue.p_data(dialogue.pdv(dialogue.command(field, 1, message_id, extra), 3, context))


@contextmanager
def raw_peer(server: StorageScp) -> Iterator[socket.socket]:
    with socket.create_connection((LOCAL, server.host_port)) as peer:
        peer.sendall(dialogue.RQ)
        assert peer.recv(65536)[0] == 2
        yield peer


@pytest.mark.parametrize("ending", ["closed", "aborted"])
def test_a_peer_that_goes_in_the_middle_of_a_data_set_leaves_nothing(tmp_path: Path, ending: str) -> None:
    closed = threading.Event()

    class Server(StorageScp):
        def on_close(self, *_arguments: Any) -> None:
            closed.set()

    with listening(Server(tmp_path)) as server:
        with raw_peer(server) as peer:
            peer.sendall(request() + dialogue.p_data(dialogue.pdv(PATIENT * 5000, 0, 3)))
            if ending == "aborted":
                peer.sendall(dialogue.abort(0, 0))
        assert closed.wait(30)
        assert (server.stored, server.failed) == (0, 1)
        assert files(server) == []


def test_leftovers_of_a_crash_are_swept_at_the_start_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".dicomnet-1-abc").write_bytes(b"half a file")
    (tmp_path / "kept.dcm").write_bytes(b"")
    with store(tmp_path) as server:
        assert files(server) == ["kept.dcm"]


def test_a_new_folder_is_its_owners_alone_and_one_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    there.chmod(0o755)
    modes = []
    for folder in (tmp_path / "new", there):
        with store(folder):
            modes.append(folder.stat().st_mode & 0o777)
    assert modes == [0o700, 0o755]


def test_listening_makes_the_folder_or_says_why_not(tmp_path: Path) -> None:
    with store(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(errors.DataSetError, match="file/in cannot be made"):
        StorageScp(tmp_path / "file" / "in").listen(LOCAL, 0)


# --- ending --------------------------------------------------------------------------------------------


def test_drain_waits_for_links_and_takes_no_more(tmp_path: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(store(tmp_path))
        port = server.host_port
        client = scu(server)
        results = client.store_each([instance("1.2.3"), instance("1.2.4")])
        assert next(results).stored
        assert server.drain(0.01) is False
        with pytest.raises(errors.ConnectionRefused):
            StoreScu(DicomScp(LOCAL, "X", port)).store(CT_FILE)
        assert [result.stored for result in results] == [True]
        assert server.drain(30) is True


# --- what becomes no file ------------------------------------------------------------------------------


class _Finding(StorageLink):
    """Serves another request that has a data set, too."""

    def on_receive_c_find_request(self, presentation_id: int, message_id: int, *rest: Any) -> None:
        self.scp.found.append(rest[-1].encoded)
        self.send_c_find_response(presentation_id, message_id, rest[0], 0, None)


class _Watching(StorageScp):
    """Keeps for which requests a file was begun."""

    link_class = _Finding

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.begun: list[str] = []
        self.found: list[bytes] = []

    def open_sink_for(self, link: StorageLink, presentation_id: int, command: Any) -> Any:
        self.begun.append(command.message.name)
        return super().open_sink_for(link, presentation_id, command)


STATUS = {  # field, context, complete: the status
    "C-STORE": (0x0001, 3, True, 0x0000),
    "C-FIND": (0x0020, 3, True, 0x0000),
    "N-CREATE, not served": (0x0140, 3, True, 0x0118),
    "C-STORE without instance": (0x0001, 3, False, 0x0212),
    "F19 C-STORE on Verification": (0x0001, 1, True, 0x0122),
    "F19 C-FIND on Verification": (0x0020, 1, True, 0x0122),
}


@pytest.mark.parametrize("case", STATUS)
def test_only_a_c_store_that_is_not_refused_becomes_a_file(tmp_path: Path, case: str) -> None:
    field, context, complete, expected = STATUS[case]
    with listening(_Watching(tmp_path)) as server, raw_peer(server) as peer:
        peer.sendall(request(field, 1, context, complete=complete))
        peer.sendall(dialogue.p_data(dialogue.pdv(PATIENT, 2, context)))
        answer = peer.recv(65536)
        status = answer.index(b"\0\0\0\x09\2\0\0\0") + 8
        assert int.from_bytes(answer[status : status + 2], "little") == expected
        assert server.begun == (["C-STORE-RQ"] if case == "C-STORE" else [])
        assert server.found == ([PATIENT] if case == "C-FIND" else [])
        assert files(server) == (["1.2.dcm"] if case == "C-STORE" else [])


def test_a_response_to_nothing_becomes_no_file(tmp_path: Path) -> None:
    class Link(StorageLink):
        def on_data_set(self, *arguments: Any) -> Any:
            raise AssertionError("asked for a data set that nobody waits for")

        def on_receive_c_find_response(self, *arguments: Any) -> None:
            raise AssertionError("called for a response to nothing")

    class Server(StorageScp):
        link_class = Link

    extra = dialogue.element(0x0120, b"\7\0") + dialogue.element(0x0900, b"\0\xff")
    command = dialogue.command(0x8020, 1, 1, extra)
    with listening(Server(tmp_path)) as server, raw_peer(server) as peer:
        peer.sendall(dialogue.p_data(dialogue.pdv(command, 3, 3), dialogue.pdv(PATIENT, 2, 3)))
        peer.sendall(dialogue.ECHO_PDU)
        assert peer.recv(65536)[0] == 4
        assert files(server) == []
