"""Sinks, spool files, names of files, and that nothing of them is left behind."""

from __future__ import annotations

import errno
import fcntl
import gc
import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRLittleEndian
from test_dataset import files_of_at_most, sent
from test_part10 import ELEMENTS

from dicomnet.dataset import DicomDataSet, part10, spool
from dicomnet.dataset.sinks import CallableSink, DiscardSink, FileSink, MemorySink
from dicomnet.dataset.spool import PendingFile, Spool, instance_file_name, new_file, sweep
from dicomnet.errors import DataSetError, LimitExceeded
from dicomnet.protocol.command_set import decode, encode
from dicomnet.protocol.message_table import MESSAGES
from dicomnet.protocol.negotiation import Context
from dicomnet.settings import Limits

pytestmark = pytest.mark.usefixtures("leak_check")

CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"
CONTEXT = Context(1, CT_CLASS, ExplicitVRLittleEndian)
PIXELS = b"\xe0\x7f\x10\0OW\0\0" + (100_000).to_bytes(4, "little") + bytes(range(250)) * 400
DATA = ELEMENTS + PIXELS
EVIL = [
    "../x",
    "..",
    ".",
    "/abs",
    "a/b",
    "C:\\x",
    "1.2\0",
    "1" * 65,
    "",
    "$(id)",
    "1.2\n",
    "1..2",
    ".1",
    "1.",
    "٣.٤",
]


def store(instance="1.2.3"):
    values = {"message_id": 1, "affected_class": CT_CLASS, "instance": instance, "priority": 0}
    return decode(encode(MESSAGES[0x0001], values, has_data_set=True))


class Command:
    """A command whose instance UID is anything, also what our encoder would refuse to send."""

    def __init__(self, instance):
        self.instance = instance

    def value(self, tag):
        return {0x0002: CT_CLASS, 0x1000: self.instance}.get(tag)


def memory_sink(folder, memory=1000, command=None, limit=1 << 30, **limits):
    limits = Limits(memory=memory, **limits)
    return MemorySink(CONTEXT, command or store(), limits, Spool(folder, limit))


def feed(sink, data=DATA, step=4096):
    buffer = bytearray(step)
    for at in range(0, len(data), step):
        part = memoryview(buffer)[: len(data[at : at + step])]
        part[:] = data[at : at + step]
        sink.write(part)
        part[:] = bytes(len(part))  # the receive buffer is used again
    return sink


def everything_in(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*"))


# --- memory ----------------------------------------------------------------------------------------


def test_short_data_sets_stay_in_memory(tmp_path):
    data_set = feed(memory_sink(tmp_path, memory=len(DATA))).finish()
    assert everything_in(tmp_path) == []
    assert data_set.encoded == DATA
    assert (data_set.sop_class, data_set.sop_instance) == (CT_CLASS, "1.2.3")
    assert data_set.transfer_syntax == ExplicitVRLittleEndian
    assert sent(data_set) == DATA


def test_d10_empty_data_set(tmp_path):
    sink = memory_sink(tmp_path, memory=0)
    sink.write(memoryview(b""))
    assert sink.finish().encoded == b""


def test_uids_of_other_messages_come_from_their_elements(tmp_path):
    values = {"message_id": 1, "affected_class": CT_CLASS, "instance": "1.2.9"}
    request = decode(encode(MESSAGES[0x0120], values, has_data_set=True))  # N-SET-RQ
    assert request.value(0x0002) is None
    data_set = memory_sink(tmp_path, command=request).finish()
    assert (data_set.sop_class, data_set.sop_instance) == (CT_CLASS, "1.2.9")


def test_abandoned_memory(tmp_path):
    sink = feed(memory_sink(tmp_path, memory=len(DATA)))
    sink.abandon()
    assert everything_in(tmp_path) == []


# --- spool -----------------------------------------------------------------------------------------


def test_long_data_sets_go_to_a_part_10_file(tmp_path):
    data_set = feed(memory_sink(tmp_path)).finish()
    (path,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    header = part10.read_header(path)
    assert (header.sop_class, header.sop_instance) == (CT_CLASS, "1.2.3")
    assert header.transfer_syntax == ExplicitVRLittleEndian
    assert path.read_bytes()[header.offset :] == DATA
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert data_set.encoded == DATA
    assert data_set.size == len(DATA)
    assert data_set.path == ""
    assert sent(data_set) == DATA
    assert data_set.PixelData == PIXELS[12:]


def test_spool_file_lives_as_long_as_its_data_set(tmp_path):
    data_set = feed(memory_sink(tmp_path)).finish()
    assert len(everything_in(tmp_path)) == 2
    data_set.close()
    del data_set
    assert everything_in(tmp_path) == []


def test_spool_file_lives_as_long_as_the_pydicom_data_set(tmp_path, monkeypatch):
    from dicomnet.dataset import codec

    monkeypatch.setattr(codec, "_DEFERRED", 1000)
    dataset = feed(memory_sink(tmp_path)).finish().dataset
    gc.collect()
    assert dataset.PixelData == PIXELS[12:]
    del dataset
    gc.collect()
    assert everything_in(tmp_path) == []


def test_long_values_are_found_after_a_move(tmp_path, monkeypatch):
    from dicomnet.dataset import codec

    monkeypatch.setattr(codec, "_DEFERRED", 1000)
    data_set = feed(memory_sink(tmp_path)).finish()
    assert data_set.SOPInstanceUID == "1.2.3"
    data_set.save_as(tmp_path / "kept.dcm")
    assert data_set.PixelData == PIXELS[12:]
    assert data_set.encoded == DATA


def test_save_as_of_a_spool_file_is_a_rename(tmp_path):
    data_set = feed(memory_sink(tmp_path)).finish()
    (path,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    inode = path.stat().st_ino
    name = data_set.save_as(tmp_path / "kept.dcm", sync=True)
    assert data_set.path == name
    assert os.stat(name).st_ino == inode
    assert os.stat(name).st_nlink == 1
    assert sent(data_set) == DATA
    second = data_set.save_as(tmp_path / "second.dcm")
    data_set.close()
    del data_set
    gc.collect()
    assert everything_in(tmp_path) == ["kept.dcm", "second.dcm"]
    assert DicomDataSet(second).encoded == DicomDataSet(name).encoded == DATA


def test_save_as_on_another_file_system_is_a_copy(tmp_path, monkeypatch):
    def other(*_):
        raise OSError(errno.EXDEV, "other file system")

    data_set = feed(memory_sink(tmp_path)).finish()
    real = os.link
    monkeypatch.setattr(os, "link", lambda a, b: other() if str(a).endswith(".dcm") else real(a, b))
    name = data_set.save_as(tmp_path / "kept.dcm")
    assert DicomDataSet(name).encoded == DATA
    assert data_set.encoded == DATA
    data_set.close()
    del data_set
    assert everything_in(tmp_path) == ["kept.dcm"]


def test_a_name_that_is_taken_does_not_cost_the_data_set(tmp_path):
    (tmp_path / "taken.dcm").write_text("precious")
    data_set = feed(memory_sink(tmp_path)).finish()
    with pytest.raises(DataSetError, match="File exists"):
        data_set.save_as(tmp_path / "taken.dcm")
    assert data_set.encoded == DATA
    assert data_set.save_as(tmp_path / "taken.dcm", exists="next") == str(tmp_path / "taken_1.dcm")
    assert (tmp_path / "taken.dcm").read_text() == "precious"


@pytest.mark.parametrize("exists", ["raise", "next", "overwrite"])
def test_file_systems_without_hard_links(exists, tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    (tmp_path / "taken.dcm").write_text("precious")
    data_set = feed(memory_sink(tmp_path)).finish()
    if exists == "raise":
        with pytest.raises(DataSetError, match="File exists"):
            data_set.save_as(tmp_path / "taken.dcm")
        name = data_set.save_as(tmp_path / "free.dcm")
    else:
        name = data_set.save_as(tmp_path / "taken.dcm", exists=exists)
    assert DicomDataSet(name).encoded == DATA
    assert exists == "overwrite" or (tmp_path / "taken.dcm").read_text() == "precious"


def test_a_reserved_name_is_given_up_where_the_rename_fails(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    data_set = feed(memory_sink(tmp_path)).finish()
    monkeypatch.setattr(os, "link", refused)
    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(DataSetError, match="not permitted"):
        data_set.save_as(tmp_path / "x.dcm")
    assert not (tmp_path / "x.dcm").exists()
    assert data_set.encoded == DATA


def test_abandoned_spool_file(tmp_path):
    sink = feed(memory_sink(tmp_path))
    assert len(everything_in(tmp_path)) == 2
    sink.abandon()
    del sink
    assert everything_in(tmp_path) == []


def test_l9_a_sink_that_is_dropped_removes_its_file(tmp_path):
    feed(memory_sink(tmp_path))
    assert everything_in(tmp_path) == []


def test_two_links_share_the_folder_and_threads_do_not_disturb(tmp_path):
    found = []

    def receive(number):
        data = DATA + b"\xfc\xff\xfc\xffOB\0\0\2\0\0\0" + bytes([number, number])
        found.append((data, feed(memory_sink(tmp_path), data).finish()))

    threads = [threading.Thread(target=receive, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(data_set.encoded == data for data, data_set in found)
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1


def test_spool_folder_that_is_not_there(tmp_path):
    sink = memory_sink(tmp_path / "nowhere")
    with pytest.raises(DataSetError, match="nowhere"):
        feed(sink)
    sink.abandon()


def test_a_cleaner_took_the_folder_away(tmp_path):
    first = feed(memory_sink(tmp_path)).finish()
    for path in tmp_path.iterdir():
        shutil.rmtree(path)
    second = feed(memory_sink(tmp_path)).finish()
    assert second.encoded == DATA
    with pytest.raises(DataSetError):
        sent(first)


def test_default_spool_folder_is_on_disk(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert Spool().folder == str(tmp_path)
    monkeypatch.delenv("TMPDIR")
    assert Spool().folder in ("/var/tmp", "/tmp")


def test_spooling_costs_no_memory(tmp_path):
    sink = memory_sink(tmp_path, memory=1 << 20)
    fragment = memoryview(bytes(1 << 17))
    tracemalloc.start()
    try:
        for _ in range(256):  # 32 MiB
            sink.write(fragment)
        data_set = sink.finish()
        source = data_set.source(ExplicitVRLittleEndian)
        views = [memoryview(bytearray(1 << 16))]
        for _ in range(source.size >> 16):
            source.read_into(views)
        data_set.save_as(tmp_path / "kept.dcm")
        data_set.save_as(tmp_path / "copied.dcm")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    source.close()
    assert peak < 4 << 20


# --- limits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [1000, 1 << 20])
def test_l9_longer_than_the_limit(memory, tmp_path):
    sink = memory_sink(tmp_path, memory=memory, data_set=50_000)
    with pytest.raises(LimitExceeded) as caught:
        feed(sink)
    assert (caught.value.limit, caught.value.allowed) == ("data_set", 50_000)
    assert 50_000 < caught.value.seen <= 50_000 + 4096
    sink.abandon()
    del sink, caught
    assert everything_in(tmp_path) == []


def test_spool_limit_counts_all_files_of_a_link(tmp_path):
    limits = Limits(memory=1000)
    link = Spool(tmp_path, 250_000)
    first = feed(MemorySink(CONTEXT, store(), limits, link)).finish()
    second = feed(MemorySink(CONTEXT, store(), limits, link)).finish()
    held = link.held
    assert 2 * len(DATA) < held < 2 * len(DATA) + 1000
    third = MemorySink(CONTEXT, store(), limits, link)
    with pytest.raises(LimitExceeded) as caught:
        feed(third)
    assert caught.value.limit == "spool"
    assert caught.value.allowed == 250_000
    third.abandon()
    assert link.held == held
    first.save_as(tmp_path / "kept.dcm")  # no longer in the spool
    fourth = feed(MemorySink(CONTEXT, store(), limits, link)).finish()
    assert link.held == held
    second.close()
    fourth.close()
    assert link.held == 0
    assert first.encoded == DATA


# --- files -----------------------------------------------------------------------------------------


def test_file_sink_writes_a_part_10_file(tmp_path):
    path = tmp_path / "x.dcm"
    sink = feed(FileSink(path, CONTEXT, store(), source_ae="PEER", sync=True))
    assert not path.exists()
    data_set = sink.finish()
    assert everything_in(tmp_path) == ["x.dcm"]
    header = part10.read_header(path)
    assert path.read_bytes()[header.offset :] == DATA
    assert (header.sop_class, header.sop_instance) == (CT_CLASS, "1.2.3")
    assert header.meta[0x00020016] == b"PEER"
    assert data_set.encoded == DATA
    assert sent(data_set) == DATA
    assert data_set.path == str(path)
    assert "x.dcm" in repr(data_set)


def test_file_sink_abandoned_or_dropped(tmp_path):
    sink = feed(FileSink(tmp_path / "x.dcm", CONTEXT, store()))
    sink.abandon()
    assert everything_in(tmp_path) == []
    feed(FileSink(tmp_path / "y.dcm", CONTEXT, store()))
    assert everything_in(tmp_path) == []


def test_file_sink_when_the_name_is_taken(tmp_path):
    path = tmp_path / "x.dcm"
    path.write_text("precious")
    with pytest.raises(DataSetError, match="File exists") as caught:
        feed(FileSink(path, CONTEXT, store())).finish()
    assert caught.value.path == str(path)
    assert everything_in(tmp_path) == ["x.dcm"]
    data_set = feed(FileSink(path, CONTEXT, store(), exists="next")).finish()
    assert data_set.encoded == DATA
    assert path.read_text() == "precious"
    assert everything_in(tmp_path) == ["x.dcm", "x_1.dcm"]
    feed(FileSink(path, CONTEXT, store(), exists="overwrite")).finish()
    assert DicomDataSet(path).encoded == DATA


def test_the_same_uid_for_ever_still_gets_names(tmp_path):
    names = {
        feed(FileSink(tmp_path / "x.dcm", CONTEXT, store(), exists="next"), ELEMENTS).finish()
        for _ in range(103)
    }
    assert len(names) == len(everything_in(tmp_path)) == 103


@pytest.mark.parametrize("where", ["no/such/folder/x.dcm", "file/x.dcm"])
def test_file_sink_that_cannot_be_created(where, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataSetError, match="created") as caught:
        FileSink(tmp_path / where, CONTEXT, store())
    assert caught.value.path == str(tmp_path / where)
    assert everything_in(tmp_path) == ["file"]


@pytest.mark.parametrize("kind", ["file", "spool"])
def test_a_full_disk_names_the_path_and_leaves_nothing(kind, tmp_path):
    sink = FileSink(tmp_path / "x.dcm", CONTEXT, store()) if kind == "file" else memory_sink(tmp_path)
    with files_of_at_most(40_000), pytest.raises(DataSetError, match="cannot be written") as caught:
        feed(sink)
    assert caught.value.path.endswith(".dcm")
    assert str(tmp_path) in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    sink.abandon()
    del sink, caught
    assert everything_in(tmp_path) == []


def test_an_error_of_the_last_close_is_not_lost(tmp_path, monkeypatch):
    """Over NFS, and with quotas, a full disk can show at close first."""

    class Reluctant(io.FileIO):
        def close(self):
            wanted = not self.closed
            super().close()
            if wanted:
                raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(spool, "open", lambda path, *_, **__: Reluctant(path, "xb"), raising=False)
    for sink in (FileSink(tmp_path / "x.dcm", CONTEXT, store()), memory_sink(tmp_path)):
        feed(sink)
        with pytest.raises(DataSetError, match="quota"):
            sink.finish()
    del sink
    gc.collect()
    assert everything_in(tmp_path) == []


def test_a_sweep_before_the_rename_finds_the_file_locked(tmp_path, monkeypatch):
    link = os.link
    swept = []

    def late(source, target):
        swept.append(sweep(tmp_path))
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    assert feed(FileSink(tmp_path / "x.dcm", CONTEXT, store())).finish().encoded == DATA
    assert swept == [0]


def test_no_space_left_on_device(tmp_path):
    victim = tmp_path / "victim"
    victim.touch()
    file = PendingFile(str(victim), "the target", open("/dev/full", "wb", buffering=0))  # noqa: SIM115
    with pytest.raises(DataSetError, match="the target cannot be written: No space left"):
        file.write(b"abc")
    assert not victim.exists()


def test_a_tiny_file_system(tmp_path):
    """The whole way with a real ENOSPC, where we may mount."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if (
        os.geteuid()
        or not shutil.which("mount")
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("cannot mount here")
    try:
        with pytest.raises(DataSetError, match="No space left"):
            feed(FileSink(folder / "x.dcm", CONTEXT, store()))
        assert everything_in(folder) == []
        data_set = feed(memory_sink(tmp_path)).finish()
        with pytest.raises(DataSetError, match="No space left"):  # another file system, and full
            data_set.save_as(folder / "x.dcm")
        assert everything_in(folder) == []
        data_set.save_as(tmp_path / "x.dcm")
        assert data_set.encoded == DATA
    finally:
        subprocess.run(["umount", str(folder)], check=True)


# --- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.1", "2.25.0", "0", "1.02.3", "9" * 64])
def test_uids_are_file_names(uid):
    assert instance_file_name(uid) == uid + ".dcm"
    assert instance_file_name(uid, "") == uid


@pytest.mark.parametrize("uid", EVIL, ids=ascii)
def test_p1_no_peers_string_is_ever_part_of_a_path(uid, tmp_path):
    name = instance_file_name(uid)
    assert name.isascii()
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")
    assert not name.startswith(".")
    assert len(name) < 64
    data_set = feed(FileSink(tmp_path / name, CONTEXT, Command(uid)), ELEMENTS).finish()
    assert everything_in(tmp_path) == [name]
    assert data_set.encoded == ELEMENTS
    spooled = feed(memory_sink(tmp_path, memory=1, command=Command(uid)), ELEMENTS).finish()
    assert spooled.encoded == ELEMENTS


def test_generated_names_follow_the_text():
    assert instance_file_name("../x") == instance_file_name("../x") != instance_file_name("../y")
    assert instance_file_name("") != instance_file_name("")


@given(st.text(max_size=100))
def test_p1_any_text_gives_a_plain_name(uid):
    name = instance_file_name(uid, "")
    assert name == os.path.basename(name) not in ("", ".", "..")
    assert name == uid or name.startswith(("bad-uid-", "no-uid-"))


# --- leftovers -------------------------------------------------------------------------------------

HOLDER = """
import sys
sys.path[:0] = {path!r}
from test_spool import *
folder = Path({folder!r})
spooled = feed(memory_sink(folder)).finish()
unfinished = feed(memory_sink(folder))
sink = feed(FileSink(folder / "x.dcm", CONTEXT, store()))
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Run another process that spools and writes into `tmp_path`."""
    code = HOLDER.format(path=[path for path in sys.path if path], folder=str(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_sweep_removes_what_a_killed_process_left_and_nothing_else(tmp_path, holder):
    (tmp_path / "x.dcm").write_text("somebody's")
    (tmp_path / ".hidden").write_text("somebody's")
    theirs = everything_in(tmp_path)
    assert len(theirs) == 6  # folder with two spool files, file being written, the two above
    assert sweep(tmp_path) == 0  # its process lives
    assert everything_in(tmp_path) == theirs
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    ours = feed(FileSink(tmp_path / "ours.dcm", CONTEXT, store()))
    spooled = feed(memory_sink(tmp_path)).finish()  # sweeps, since a spool is opened
    names = everything_in(tmp_path)
    assert not set(theirs) - {"x.dcm", ".hidden"} & set(names)
    assert sweep(tmp_path) == 0
    assert everything_in(tmp_path) == names
    assert ours.finish().encoded == spooled.encoded == DATA


def test_a_process_that_ends_in_order_leaves_nothing(tmp_path, holder):
    holder.stdin.close()
    assert holder.wait() == 0
    assert everything_in(tmp_path) == []


def test_sweep_does_not_follow_links_and_survives_oddities(tmp_path):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "precious").touch()
    (tmp_path / ".dicomnet-1-link").symlink_to(victim)
    os.mkfifo(tmp_path / ".dicomnet-2-pipe")
    (tmp_path / ".dicomnet-3-old").write_text("left")
    assert sweep(tmp_path) == 2
    assert (victim / "precious").exists()
    assert not (tmp_path / ".dicomnet-3-old").exists()
    with pytest.raises(DataSetError, match="nowhere"):
        sweep(tmp_path / "nowhere")


def test_sweep_leaves_other_users_files_alone(tmp_path, monkeypatch):
    (tmp_path / ".dicomnet-3-old").touch()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert sweep(tmp_path) == 0


def test_a_sweep_between_creation_and_lock_is_noticed(tmp_path, monkeypatch):
    """Another process that starts just then must not take our new file or folder away from under us."""
    swept = []

    def late(descriptor):
        if len(swept) < 2:
            swept.append(sweep(tmp_path))
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    monkeypatch.setattr(spool, "_lock", late)
    file = new_file(str(tmp_path / "x"))
    assert swept == [1, 0] or swept == [1, 1]
    assert os.path.exists(file.path)
    file.remove()
    swept.clear()
    data_set = feed(memory_sink(tmp_path)).finish()
    assert data_set.encoded == DATA


def test_a_forked_child_does_not_remove_its_parents_files(tmp_path):
    data_set = feed(memory_sink(tmp_path)).finish()
    sink = feed(FileSink(tmp_path / "x.dcm", CONTEXT, store()))
    child = os.fork()
    if not child:
        try:
            data_set.close()
            sink.abandon()
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert data_set.encoded == DATA
    assert sink.finish().encoded == DATA


# --- other sinks -----------------------------------------------------------------------------------


def test_discard_sink():
    sink = feed(DiscardSink())
    assert sink.finish() is None
    sink.abandon()


def test_callable_sink():
    parts, ends = [], []
    sink = feed(CallableSink(lambda view: parts.append(bytes(view)), lambda: "done", lambda: ends.append(1)))
    assert b"".join(parts) == DATA
    assert sink.finish() == "done"
    sink.abandon()
    assert ends == [1]
    bare = CallableSink(len)
    bare.abandon()
    assert bare.finish() is None
