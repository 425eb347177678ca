"""`DicomDataSet`: bytes pass through as they are, and pydicom shows through when it is asked."""

from __future__ import annotations

import copy
import errno
import gc
import os
import pickle
import resource
import warnings
import weakref
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)
from test_part10 import DATA, ELEMENTS, what_pydicom_says

from dicomnet.dataset import DicomDataSet, as_data_set, part10
from dicomnet.dataset.sources import BytesSource, FileSource, open_file, stored
from dicomnet.errors import DataSetError, WrongStateError

pytestmark = pytest.mark.usefixtures("leak_check")

CT = DATA / "test_files" / "CT_small.dcm"
JPEG = DATA / "test_files" / "JPEG2000.dcm"
DEFLATED = DATA / "test_files" / "image_dfl.dcm"
TRUNCATED = DATA / "test_files" / "rtplan_truncated.dcm"
NATIVE = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian]


def bytes_of(path):
    return path.read_bytes()[what_pydicom_says(path)[3] :]


def drain(source, step=1000, at_once=7):
    """Read a source as the link does: many views at a time."""
    whole = source.view()
    if whole is not None:
        return bytes(whole)
    parts = []
    left = source.size
    while left:
        views = []
        while left and len(views) < at_once:
            n = min(step, left)
            views.append(memoryview(bytearray(b"\xaa" * n)))
            left -= n
        source.read_into(views)
        parts += views
    return b"".join(parts)


def sent(data_set, syntax=None):
    source = data_set.source(syntax or data_set.transfer_syntax)
    try:
        return drain(source)
    finally:
        source.close()


def patient():
    dataset = Dataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.SOPInstanceUID = "1.2.3.4"
    dataset.PatientName = "Doe^Jane"
    dataset.PatientID = "77"
    return dataset


# --- bytes pass through ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", [CT, JPEG, DEFLATED, TRUNCATED], ids=lambda path: path.name)
def test_save_as_keeps_the_bytes(path, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data_set = DicomDataSet(path)
        assert data_set.dataset.SOPInstanceUID  # having looked at it changes nothing
        name = data_set.save_as(tmp_path / "copy.dcm")
    assert name == str(tmp_path / "copy.dcm")
    copied = DicomDataSet(name)
    assert copied.encoded == bytes_of(path)
    assert copied.transfer_syntax == data_set.transfer_syntax
    assert copied.sop_instance == data_set.sop_instance
    assert os.listdir(tmp_path) == ["copy.dcm"]


def test_nothing_is_decoded_on_the_way(tmp_path, monkeypatch):
    monkeypatch.setattr(DicomDataSet, "_decode", None)
    data_set = DicomDataSet(CT)
    assert sent(data_set) == bytes_of(CT)
    data_set.save_as(tmp_path / "copy.dcm")
    again = DicomDataSet(data_set.encoded, data_set.transfer_syntax, sop_class=data_set.sop_class)
    assert again.sop_class == data_set.sop_class
    assert sent(again) == bytes_of(CT)
    assert repr(again)


def test_bytes_of_a_whole_file():
    data_set = DicomDataSet(memoryview(CT.read_bytes()))
    assert data_set.encoded == bytes_of(CT)
    assert data_set.transfer_syntax == ExplicitVRLittleEndian


def test_bytes_are_no_view_of_the_callers_buffer():
    buffer = bytearray(ELEMENTS)
    data_set = DicomDataSet(memoryview(buffer), ExplicitVRLittleEndian)
    buffer[:] = bytes(len(buffer))
    assert data_set.encoded == ELEMENTS


def test_given_syntax_overrides_where_a_file_says_nothing(tmp_path):
    path = tmp_path / "unmarked.dcm"
    path.write_bytes(b"\1\0\1\0" + b"\2\0\0\0ab" + ELEMENTS)
    with pytest.raises(DataSetError, match="transfer_syntax"):
        DicomDataSet(path)
    assert DicomDataSet(path, ImplicitVRLittleEndian).size == len(path.read_bytes())


def test_wrong_syntax_is_an_error_not_a_conversion():
    data_set = DicomDataSet(CT)
    with pytest.raises(DataSetError, match=ImplicitVRLittleEndian) as caught:
        data_set.source(ImplicitVRLittleEndian)
    assert caught.value.path == str(CT)
    assert data_set.dataset.PatientID
    with pytest.raises(DataSetError, match=ImplicitVRLittleEndian):
        data_set.source(ImplicitVRLittleEndian)
    converted = sent(DicomDataSet(data_set.dataset), ImplicitVRLittleEndian)
    assert DicomDataSet(converted, ImplicitVRLittleEndian).PatientID == data_set.PatientID


def test_as_data_set_takes_all_three_kinds():
    data_set = DicomDataSet(CT)
    assert as_data_set(data_set) is data_set
    assert as_data_set(str(CT)).sop_instance == as_data_set(CT).sop_instance
    assert as_data_set(data_set.dataset).sop_instance == data_set.sop_instance
    with pytest.raises(TypeError, match="path, bytes or a pydicom"):
        as_data_set(42)


# --- files that change or are none -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["nowhere.dcm", "", "pipe"])
def test_what_cannot_be_opened_names_the_path_and_does_not_block(name, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataSetError) as caught:
        DicomDataSet(tmp_path / name)
    assert caught.value.path == str(tmp_path / name)


def big_file(tmp_path, size=500_000):
    path = tmp_path / "big.dcm"
    pixels = b"\xe0\x7f\x10\0OW\0\0" + size.to_bytes(4, "little") + os.urandom(size)
    path.write_bytes(part10.header("1.2.3", "1.2.3", ExplicitVRLittleEndian) + ELEMENTS + pixels)
    return path


def test_file_that_gets_shorter_while_it_is_sent(tmp_path):
    path = big_file(tmp_path)
    source = DicomDataSet(path).source(ExplicitVRLittleEndian)
    buffer = bytearray(100_000)
    source.read_into([memoryview(buffer)])
    os.truncate(path, 150_000)
    with pytest.raises(DataSetError, match="shorter") as caught:
        source.read_into([memoryview(buffer)])
    assert caught.value.path == str(path)
    source.close()
    source.close()


@pytest.mark.parametrize("change", ["shorter", "longer", "replaced", "gone"])
def test_file_that_changes_after_its_header_was_read(change, tmp_path):
    path = big_file(tmp_path)
    data_set = DicomDataSet(path)
    if change == "shorter":
        os.truncate(path, 1000)
    elif change == "longer":
        os.truncate(path, 600_000)
    else:
        path.unlink()
    if change == "replaced":
        big_file(tmp_path)
    for use in (lambda: data_set.source(ExplicitVRLittleEndian), lambda: data_set.dataset):
        with pytest.raises(DataSetError) as caught:
            use()
        assert caught.value.path == str(path)


def test_d08_odd_file_is_padded_once_even_if_it_grows(tmp_path):
    path = big_file(tmp_path, 499_999)
    data_set = DicomDataSet(path)
    expected = data_set.encoded
    source = data_set.source(ExplicitVRLittleEndian)
    with path.open("ab") as file:
        file.write(b"xyz")
    assert source.size == len(expected) + 1
    assert drain(source, step=1 << 17, at_once=3) == expected + b"\0"
    with pytest.raises(DataSetError, match="only"):
        source.read_into([memoryview(bytearray(1))])
    source.close()


def test_d08_odd_bytes_are_padded_but_not_changed():
    data_set = DicomDataSet(ELEMENTS + b"x", ExplicitVRLittleEndian)
    assert data_set.encoded == ELEMENTS + b"x"
    assert sent(data_set) == ELEMENTS + b"x\0"


@pytest.mark.parametrize(("step", "at_once"), [(1, 3000), (7, 2000), (100_000, 1), (131_000, 4)])
def test_file_source_fills_many_views(step, at_once, tmp_path):
    path = tmp_path / "some"
    path.write_bytes(os.urandom(20_001))
    descriptor, status = open_file(str(path))
    os.close(descriptor)
    source = FileSource(stored(str(path), 100, status))
    assert drain(source, step, at_once) == path.read_bytes()[100:] + b"\0"
    source.close()


def test_file_source_goes_on_after_short_reads(tmp_path, monkeypatch):
    path = big_file(tmp_path)
    data_set = DicomDataSet(path)
    expected = data_set.encoded
    preadv = os.preadv

    def short(descriptor, views, at):
        got = preadv(descriptor, [bytearray(min(1234, sum(map(len, views))))], at)
        data = os.pread(descriptor, got, at)
        for view in views:
            n = min(len(view), len(data))
            view[:n], data = data[:n], data[n:]
        return got

    monkeypatch.setattr(os, "preadv", short)
    assert sent(data_set) == expected


def test_a_disk_that_fails_names_the_path(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    path = big_file(tmp_path)
    data_set = DicomDataSet(path)
    monkeypatch.setattr(os, "preadv", broken)
    with pytest.raises(DataSetError, match="Input/output error") as caught:
        sent(data_set)
    assert caught.value.path == str(path)


def test_bytes_source_reads_like_a_file():
    source = BytesSource(b"abcde")
    views = [memoryview(bytearray(4)), memoryview(bytearray(2))]
    source.read_into(views)
    assert b"".join(views) == b"abcde\0"
    with pytest.raises(DataSetError):
        source.read_into([memoryview(bytearray(1))])
    source.close()


# --- pydicom ---------------------------------------------------------------------------------------


def test_decoded_once_and_element_access_goes_there():
    data_set = DicomDataSet(CT)
    dataset = data_set.dataset
    assert data_set.dataset is dataset
    assert data_set.PatientID == dataset.PatientID
    assert data_set[0x0010, 0x0020] == dataset["PatientID"]
    assert "PatientID" in data_set
    assert [element.tag for element in data_set][:2] == sorted(dataset.keys())[:2]
    assert data_set.get("NoSuchThing", 5) == 5
    with pytest.raises(AttributeError):
        data_set.NoSuchThing  # noqa: B018
    assert dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert dataset.pixel_array.shape == (128, 128) if has_numpy() else True


def has_numpy():
    try:
        import numpy  # noqa: F401, ICN001
    except ImportError:
        return False
    return True


def test_an_edited_data_set_is_encoded_anew(tmp_path):
    for edit in (
        lambda data_set: setattr(data_set, "PatientID", "changed"),
        lambda data_set: setattr(data_set.dataset["PatientID"], "value", "changed"),
        lambda data_set: data_set.dataset.add_new(0x00104000, "LT", "a new element"),
        lambda data_set: delattr(data_set, "PatientID"),
        lambda data_set: data_set.__delitem__("PatientID"),
        lambda data_set: data_set.__setitem__(0x00100020, pydicom.DataElement(0x00100020, "LO", "changed")),
    ):
        data_set = DicomDataSet(CT)
        edit(data_set)
        data = sent(data_set)
        assert data != bytes_of(CT)
        assert data_set.encoded == data
        assert DicomDataSet(data, ExplicitVRLittleEndian).dataset == data_set.dataset
        saved = data_set.save_as(tmp_path / "edited.dcm", exists="overwrite")
        assert DicomDataSet(saved).encoded == data


def test_an_edit_within_a_sequence_is_seen():
    inner = Dataset()
    inner.CodeValue = "1"
    dataset = patient()
    dataset.ProcedureCodeSequence = [inner]
    data_set = DicomDataSet(sent(DicomDataSet(dataset), ExplicitVRLittleEndian), ExplicitVRLittleEndian)
    before = data_set.encoded
    assert data_set.ProcedureCodeSequence[0].CodeValue == "1"
    assert data_set.encoded is before
    data_set.ProcedureCodeSequence[0].CodeValue = "2"
    assert DicomDataSet(data_set.encoded, ExplicitVRLittleEndian).ProcedureCodeSequence[0].CodeValue == "2"


def test_an_element_that_cannot_be_decoded_does_no_harm(tmp_path):
    bad = b"\x28\0\x10\0US\3\0abc"  # US of three bytes
    data_set = DicomDataSet(ELEMENTS + bad, ExplicitVRLittleEndian)
    assert data_set.SOPInstanceUID == "1.2.3"
    assert sent(data_set) == ELEMENTS + bad + b"\0"
    assert DicomDataSet(data_set.save_as(tmp_path / "bad.dcm")).encoded == ELEMENTS + bad


def test_decompressed_pixels_are_not_sent_as_compressed_ones():
    data_set = DicomDataSet(JPEG)
    data_set.PixelData = bytes(2 * data_set.Rows * data_set.Columns)
    data_set.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    assert data_set.transfer_syntax == ExplicitVRLittleEndian
    with pytest.raises(DataSetError):
        data_set.source(JPEG2000Lossless)
    assert DicomDataSet(sent(data_set), ExplicitVRLittleEndian).PixelData == data_set.PixelData


@pytest.mark.parametrize("syntax", NATIVE, ids=lambda uid: uid.name)
def test_a_pydicom_data_set_is_encoded_in_any_native_syntax(syntax):
    dataset = patient()
    data = sent(DicomDataSet(dataset), syntax)
    assert len(data) % 2 == 0
    assert DicomDataSet(data, syntax).dataset == dataset


def test_native_pixels_of_pydicom_change_syntax_but_not_byte_order():
    dataset = pydicom.dcmread(CT)
    implicit = sent(DicomDataSet(dataset), ImplicitVRLittleEndian)
    assert DicomDataSet(implicit, ImplicitVRLittleEndian).PixelData == dataset.PixelData
    with pytest.raises(DataSetError, match="swapped"):
        DicomDataSet(dataset).source(ExplicitVRBigEndian)
    with pytest.raises(DataSetError, match="compress"):
        DicomDataSet(dataset).source(JPEG2000Lossless)


def test_compressed_pixels_of_pydicom_keep_their_syntax():
    dataset = pydicom.dcmread(JPEG)
    syntax = dataset.file_meta.TransferSyntaxUID
    assert DicomDataSet(sent(DicomDataSet(dataset)), syntax).PixelData == dataset.PixelData
    with pytest.raises(DataSetError, match="decompress"):
        DicomDataSet(dataset).source(ExplicitVRLittleEndian)


def test_compressed_pixels_built_by_hand_get_an_undefined_length():
    dataset = patient()
    dataset.add_new(0x7FE00010, "OB", pydicom.encaps.encapsulate([b"1234"]))
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    assert b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff" in sent(DicomDataSet(dataset))


def test_command_and_meta_groups_are_not_sent():
    dataset = patient()
    dataset.add_new(0x00000110, "US", 1)
    dataset.add_new(0x00020010, "UI", "1.2.3")
    data = sent(DicomDataSet(dataset), ImplicitVRLittleEndian)
    assert DicomDataSet(data, ImplicitVRLittleEndian).dataset == patient()


def test_a_command_set_is_not_left_out_of_itself():
    """`on_before_send_command_set` edits one (LEADTOOLS)."""
    data_set = DicomDataSet(b"\0\0\0\1\2\0\0\0\x30\0", ImplicitVRLittleEndian)
    data_set.MessageID = 7
    assert data_set.encoded == b"\0\0\0\1\2\0\0\0\x30\0" + b"\0\0\x10\1\2\0\0\0\7\0"


def test_what_pydicom_cannot_write_is_a_data_set_error():
    dataset = patient()
    with pytest.warns(UserWarning, match="VR US"):
        dataset.Rows = 70_000
    with pytest.raises(DataSetError, match="cannot be encoded"):
        DicomDataSet(dataset).source(ExplicitVRLittleEndian)


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_what_pydicom_cannot_read_is_a_data_set_error(syntax):
    data_set = DicomDataSet(b"\x08\0\x05\0SQ\0\0\xff\xff\xff\xff" + b"garbage!" * 3, syntax)
    with pytest.raises(DataSetError, match="cannot be decoded"):
        data_set.PatientID  # noqa: B018
    assert data_set.size == 36


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_what_pydicom_cannot_read_from_a_file_is_a_data_set_error(syntax, tmp_path):
    path = tmp_path / "x.dcm"
    garbage = b"\x08\0\x05\0SQ\0\0\xff\xff\xff\xff" + b"garbage!" * 1000
    path.write_bytes(part10.header("1.2.3", "1.2.4", syntax) + garbage)
    data_set = DicomDataSet(path)
    with pytest.raises(DataSetError, match="cannot be decoded"):
        data_set.PatientID  # noqa: B018
    assert (data_set.sop_class, data_set.sop_instance) == ("1.2.3", "1.2.4")
    assert sent(data_set) == garbage
    data_set.save_as(tmp_path / "y.dcm")


def test_deflated_data_cannot_inflate_without_bound(monkeypatch):
    from dicomnet.dataset import codec

    monkeypatch.setattr(codec, "_INFLATED", 1000)
    dataset = patient()
    dataset.ImageComments = "a" * 5000
    data_set = DicomDataSet(sent(DicomDataSet(dataset), DeflatedExplicitVRLittleEndian), part10.DEFLATED)
    with pytest.raises(DataSetError, match="inflates"):
        data_set.dataset  # noqa: B018


def test_an_empty_one_can_be_filled(tmp_path):
    data_set = DicomDataSet()
    data_set.PatientName = "Doe^Jane"
    data_set[0x00100020] = pydicom.DataElement(0x00100020, "LO", "7")
    assert data_set.transfer_syntax == ""
    assert data_set.sop_class == ""
    assert data_set.size == len(data_set.encoded) == len(sent(data_set, ExplicitVRLittleEndian))
    saved = DicomDataSet(data_set.save_as(tmp_path / "query.dcm"))
    assert saved.PatientID == "7"
    assert saved.transfer_syntax == ExplicitVRLittleEndian


def test_pydicom_data_sets_are_read_again_for_each_use():
    dataset = patient()
    data_set = DicomDataSet(dataset)
    first = sent(data_set, ImplicitVRLittleEndian)
    dataset.PatientID = "78"
    assert sent(data_set, ImplicitVRLittleEndian) != first
    dataset.SOPInstanceUID = "1.2.3.5"
    assert data_set.sop_instance == "1.2.3.5"


# --- life ------------------------------------------------------------------------------------------


def test_closed_is_closed():
    with DicomDataSet(CT) as data_set:
        assert data_set.size
    for use in (
        lambda: data_set.dataset,
        lambda: data_set.encoded,
        lambda: data_set.size,
        lambda: data_set.source(ExplicitVRLittleEndian),
        lambda: data_set.save_as("/nowhere"),
    ):
        with pytest.raises(WrongStateError):
            use()
    assert "closed" in repr(data_set)
    data_set.close()


def test_it_is_freed_without_the_garbage_collector():
    gc.disable()
    try:
        data_set = DicomDataSet(ELEMENTS, ExplicitVRLittleEndian)
        assert data_set.SOPInstanceUID
        alive = weakref.ref(data_set)
        del data_set
        assert alive() is None
    finally:
        gc.enable()


def test_copies_and_pickles_of_what_is_in_memory():
    data_set = DicomDataSet(ELEMENTS, ExplicitVRLittleEndian, sop_class="1.2.840.10008.5.1.4.1.1.2")
    for twin in (copy.copy(data_set), copy.deepcopy(data_set), pickle.loads(pickle.dumps(data_set))):
        assert twin.encoded == ELEMENTS
        assert twin.SOPInstanceUID == "1.2.3"


def test_path_is_where_it_is(tmp_path):
    assert DicomDataSet(CT).path == str(CT)
    assert DicomDataSet(DATA / "test_files" / "rtplan.dcm").path.endswith("rtplan.dcm")
    data_set = DicomDataSet(ELEMENTS, ExplicitVRLittleEndian)
    data_set.save_as(tmp_path / "x.dcm")
    assert data_set.path == ""


def test_p2_repr_escapes_what_a_peer_said():
    data_set = DicomDataSet(ELEMENTS, ExplicitVRLittleEndian, sop_instance="1.2\n\x1b[31m")
    assert "\n" not in repr(data_set)
    assert "\x1b" not in repr(data_set)


# --- saving ----------------------------------------------------------------------------------------


def test_save_as_does_not_overwrite_unless_told(tmp_path):
    path = tmp_path / "x.dcm"
    path.write_text("precious")
    data_set = DicomDataSet(CT)
    with pytest.raises(DataSetError, match="File exists") as caught:
        data_set.save_as(path)
    assert caught.value.path == str(path)
    assert path.read_text() == "precious"
    assert [data_set.save_as(path, exists="next") for _ in range(2)] == [
        str(tmp_path / "x_1.dcm"),
        str(tmp_path / "x_2.dcm"),
    ]
    assert path.read_text() == "precious"
    assert data_set.save_as(path, exists="overwrite", sync=True) == str(path)
    assert DicomDataSet(path).encoded == bytes_of(CT)
    assert sorted(os.listdir(tmp_path)) == ["x.dcm", "x_1.dcm", "x_2.dcm"]


def test_save_as_over_itself(tmp_path):
    path = big_file(tmp_path)
    data_set = DicomDataSet(path)
    before = data_set.encoded
    data_set.save_as(path, exists="overwrite")
    assert sent(data_set) == before


def test_save_as_does_not_follow_a_link_in_the_way(tmp_path):
    (tmp_path / "target").write_text("precious")
    (tmp_path / "link.dcm").symlink_to(tmp_path / "target")
    data_set = DicomDataSet(CT)
    with pytest.raises(DataSetError):
        data_set.save_as(tmp_path / "link.dcm")
    data_set.save_as(tmp_path / "link.dcm", exists="overwrite")
    assert (tmp_path / "target").read_text() == "precious"


def test_saved_files_have_the_permissions_of_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        name = DicomDataSet(CT).save_as(tmp_path / "x.dcm")
    finally:
        os.umask(old)
    assert Path(name).stat().st_mode & 0o777 == 0o640


@contextmanager
def files_of_at_most(size):
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_save_as_that_fails_leaves_nothing(tmp_path):
    data_set = DicomDataSet(CT)
    with files_of_at_most(8192), pytest.raises(DataSetError, match=r"x\.dcm cannot be written") as caught:
        data_set.save_as(tmp_path / "x.dcm")
    assert caught.value.path == str(tmp_path / "x.dcm")
    assert os.listdir(tmp_path) == []
    with pytest.raises(DataSetError):
        data_set.save_as(tmp_path / "no such folder" / "x.dcm")
    assert DicomDataSet(data_set.save_as(tmp_path / "x.dcm")).encoded == bytes_of(CT)
