"""The reader and writer of Part 10 headers, against pydicom and against hostile bytes."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
from pathlib import Path

import pydicom
import pydicom.data
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.uid import UID

from dicomnet.dataset import DicomDataSet, part10
from dicomnet.errors import DataSetError

DATA = Path(pydicom.data.__file__).parent
NOT_DICOM = {".py", ".pyc", ".json", ".txt", ".dump", ".gz", ".icc", ".md"}
FILES = sorted(
    path
    for path in DATA.rglob("*")
    if path.is_file() and path.suffix not in NOT_DICOM and path.name != "README"
)
# One begins with a stray byte, the other has private elements only; neither has a transfer syntax.
UNKNOWN = ("no_meta.dcm", "meta_missing_tsyntax.dcm")
KNOWN = [path for path in FILES if path.name not in UNKNOWN]


def what_pydicom_says(path):
    """Header and offset of the data set of a file."""
    with path.open("rb") as file:
        read_preamble(file, force=True)
        meta = _read_file_meta_info(file)
        offset = file.tell()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    syntax = meta.get("TransferSyntaxUID")
    if syntax is None:
        syntax = {
            (True, True): part10.IMPLICIT_LITTLE,
            (False, True): part10.EXPLICIT_LITTLE,
            (False, False): part10.EXPLICIT_BIG,
        }[dataset.original_encoding]
    return dataset, meta, syntax, offset


@pytest.mark.parametrize("path", KNOWN, ids=lambda path: str(path.relative_to(DATA)))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_d08_pydicoms_files_are_read_and_sent_as_pydicom_sees_them(path):
    dataset, meta, syntax, offset = what_pydicom_says(path)
    header = part10.read_header(path)
    assert (header.transfer_syntax, header.offset) == (syntax, offset)
    sop_class = dataset.get("SOPClassUID", meta.get("MediaStorageSOPClassUID", ""))
    sop_instance = dataset.get("SOPInstanceUID", meta.get("MediaStorageSOPInstanceUID", ""))
    assert (header.sop_class, header.sop_instance) == (sop_class, sop_instance)

    encoded = path.read_bytes()[offset:]
    from_file, from_bytes = DicomDataSet(path), DicomDataSet(encoded, syntax)
    source = from_file.source(syntax)
    data = bytearray(source.size)
    source.read_into([memoryview(data)])
    source.close()
    assert data == encoded + bytes(len(encoded) % 2)
    for data_set in (from_file, from_bytes):
        assert data_set.dataset == pydicom.dcmread(path, force=True)
        assert data_set.encoded == encoded  # having been decoded changes nothing
        assert data_set.size == len(encoded)


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_file_without_known_syntax_is_refused_with_advice(name):
    with pytest.raises(DataSetError, match=r"DicomDataSet\(path, transfer_syntax\)"):
        part10.read_header(DATA / "test_files" / name)


def test_pydicoms_files_are_there_and_all_kinds_of_them():
    assert len(FILES) > 150
    assert {UID(part10.read_header(DATA / "test_files" / name).transfer_syntax).name for name in SNIFFED} == {
        "Implicit VR Little Endian",
        "Explicit VR Little Endian",
        "Explicit VR Big Endian",
    }


SNIFFED = ("rtstruct.dcm", "ExplVR_LitEndNoMeta.dcm", "ExplVR_BigEndNoMeta.dcm")
CT = DATA / "test_files" / "CT_small.dcm"


# --- sloppy files ----------------------------------------------------------------------------------

ELEMENTS = b"\x08\0\x16\0UI\x1a\0" + b"1.2.840.10008.5.1.4.1.1.2\0" + b"\x08\0\x18\0UI\x06\0" + b"1.2.3\0"


def meta(syntax=b"1.2.840.10008.1.2.1\0", group_length=0):
    length = b"\2\0\0\0UL\4\0" + group_length.to_bytes(4, "little")
    return length + b"\2\0\x10\0UI" + len(syntax).to_bytes(2, "little") + syntax


def test_prefix_without_preamble():
    header = part10.read_header(io.BytesIO(b"DICM" + meta() + ELEMENTS))
    assert (header.sop_class, header.sop_instance) == ("1.2.840.10008.5.1.4.1.1.2", "1.2.3")
    assert header.offset == 4 + len(meta())


def test_meta_without_preamble_and_prefix():
    assert part10.read_header(io.BytesIO(meta() + ELEMENTS)).offset == len(meta())


@pytest.mark.parametrize("length", [0, 5, 100_000, 0xFFFFFFFF])
def test_wrong_group_length_is_not_believed(length):
    data = bytes(128) + b"DICM" + meta(group_length=length) + ELEMENTS
    assert part10.read_header(io.BytesIO(data)).offset == len(data) - len(ELEMENTS)


def test_meta_in_implicit_vr():
    value = b"1.2.840.10008.1.2.1\0"
    data = bytes(128) + b"DICM" + b"\2\0\x10\0" + len(value).to_bytes(4, "little") + value + ELEMENTS
    assert part10.read_header(io.BytesIO(data)).transfer_syntax == part10.EXPLICIT_LITTLE


def test_meta_longer_than_the_first_page():
    private = b"\2\0\2\1OB\0\0" + (300_000).to_bytes(4, "little") + bytes(300_000)
    data = bytes(128) + b"DICM" + meta() + private + ELEMENTS
    header = part10.read_header(io.BytesIO(data))
    assert header.offset == len(data) - len(ELEMENTS)
    assert header.sop_instance == "1.2.3"
    assert len(header.meta[0x00020102]) == 300_000


def test_meta_that_fills_the_first_page_exactly():
    size = 4096 - 132 - len(meta()) - 12
    data = bytes(128) + b"DICM" + meta() + b"\2\0\2\1OB\0\0" + size.to_bytes(4, "little") + bytes(size)
    header = part10.read_header(io.BytesIO(data + ELEMENTS))
    assert (header.offset, header.sop_instance) == (4096, "1.2.3")


def test_the_data_sets_own_uids_win_over_the_meta_header():
    data = part10.header("1.2.840.10008.5.1.4.1.1.4", "9.9.9", part10.EXPLICIT_LITTLE) + ELEMENTS
    assert part10.read_header(io.BytesIO(data)).sop_instance == "1.2.3"


def test_uids_out_of_reach_come_from_the_meta_header():
    sequence = b"\x08\0\x06\0SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    data = part10.header("1.2.840.10008.5.1.4.1.1.4", "9.9.9", part10.EXPLICIT_LITTLE) + sequence + ELEMENTS
    assert part10.read_header(io.BytesIO(data)).sop_instance == "9.9.9"


def test_empty_data_set():
    data = part10.header("1.2.3", "1.2.4", part10.EXPLICIT_LITTLE)
    assert part10.read_header(io.BytesIO(data)).offset == len(data)


# --- no DICOM at all -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"hello, this is a text file that somebody dropped into the folder",
        b"%PDF-1.7" + bytes(500),
        b"\xff\xd8\xff\xe0" * 100,
        bytes(5000),
        bytes(128) + b"DICM",
        bytes(128) + b"DICM" + meta()[:-3],
        bytes(128) + b"DICM" + b"\2\0\x10\0UN\0\0\xff\xff\xff\xff" + bytes(5000),
        b"\x08\0\x05\0\xff\xff\xff\x7f" + bytes(100),  # implicit VR, but 2 GB long
    ],
)
def test_what_is_no_dicom_file_says_so(data):
    with pytest.raises(DataSetError, match=r"thing\.dcm"):
        part10.scan(lambda size: data[:size], "thing.dcm")


def test_missing_file_names_the_path(tmp_path):
    with pytest.raises(DataSetError, match="No such file") as caught:
        part10.read_header(tmp_path / "nowhere.dcm")
    assert caught.value.path == str(tmp_path / "nowhere.dcm")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_header_or_a_data_set_error(data):
    for start in (b"", bytes(128) + b"DICM", bytes(128) + b"DICM" + meta()):
        try:
            header = part10.read_header(io.BytesIO(start + data))
        except DataSetError:
            continue
        assert 0 <= header.offset <= len(start + data)


@given(st.integers(0, 700), st.binary(min_size=1, max_size=4))
def test_a_damaged_header_never_raises_anything_else(at, damage):
    data = bytearray(CT.read_bytes()[:1000])
    data[at : at + len(damage)] = damage
    try:
        header = part10.read_header(io.BytesIO(bytes(data)))
    except DataSetError:
        return
    assert header.offset <= len(data)


# --- writing ---------------------------------------------------------------------------------------


def test_header_is_what_ps3_10_wants():
    written = part10.header("1.2.840.10008.5.1.4.1.1.2", "1.2.33", part10.IMPLICIT_LITTLE, "STORE_SCU")
    dataset = pydicom.dcmread(io.BytesIO(written))
    meta_information = dataset.file_meta
    assert written[:128] == bytes(128)
    assert meta_information.FileMetaInformationGroupLength == len(written) - 132 - 12
    assert meta_information.FileMetaInformationVersion == b"\0\1"
    assert meta_information.MediaStorageSOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
    assert meta_information.MediaStorageSOPInstanceUID == "1.2.33"
    assert meta_information.TransferSyntaxUID == part10.IMPLICIT_LITTLE
    assert UID(meta_information.ImplementationClassUID).is_valid
    assert len(meta_information.ImplementationVersionName) <= 16
    assert meta_information.SourceApplicationEntityTitle == "STORE_SCU"
    assert list(meta_information.keys()) == sorted(meta_information.keys())


@pytest.mark.parametrize("text", ["1.2\n3", "\x1b[31m", "x" * 65, "1.2\0", "ä", "a\\b", ""], ids=ascii)
def test_p1_what_is_no_value_is_written_empty(text):
    written = part10.header("1.2.3", text, part10.IMPLICIT_LITTLE, text)
    header = part10.read_header(io.BytesIO(written))
    assert header.meta[0x00020003] == b""
    assert header.meta.get(0x00020016, b"") == b""
    assert header.transfer_syntax == part10.IMPLICIT_LITTLE


@given(st.text(max_size=80), st.text(max_size=20))
def test_written_headers_are_even_and_can_be_read(instance, title):
    written = part10.header("1.2.3", instance, part10.EXPLICIT_LITTLE, title)
    header = part10.read_header(io.BytesIO(written))
    assert len(written) % 2 == 0
    assert header.offset == len(written)
    assert header.sop_instance in (instance.strip(), "")


def test_reading_a_header_does_not_import_pydicom():
    code = (
        "import sys; from dicomnet.dataset import DicomDataSet; "
        f"data_set = DicomDataSet({str(CT)!r}); data_set.source(data_set.transfer_syntax).close(); "
        "sys.exit('pydicom' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
