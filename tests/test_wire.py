"""The reading cursor and the writers beneath PDUs."""

from __future__ import annotations

import pytest

from dicomnet.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from dicomnet.protocol import wire

LONGEST_UID = "1." + "2" * 62


def test_p01_numbers_are_big_endian():
    reader = wire.Reader(bytes.fromhex("01 0203 04050607 08"), "test")
    assert (reader.u8(), reader.u16(), reader.u32(), reader.remaining) == (1, 0x0203, 0x04050607, 1)
    assert wire.item(0x51, b"abc") == bytes.fromhex("51 00 0003 616263")
    assert wire.pdu(0x05, bytes(4)) == bytes.fromhex("05 00 00000004 00000000")


@pytest.mark.parametrize("method", ["u8", "u16", "u32", "counted"])
def test_reading_past_the_end_is_the_peers_fault(method):
    reader = wire.Reader(b"", "an item", "PS3.8 9.3.2")
    with pytest.raises(RemoteProtocolError, match=r"^an item: ") as caught:
        getattr(reader, method)()
    assert (caught.value.abort_source, caught.value.abort_reason) == (2, 6)
    assert caught.value.clause == "PS3.8 9.3.2"


def test_a_failed_read_moves_nothing():
    reader = wire.Reader(b"abc", "test")
    with pytest.raises(RemoteProtocolError, match="4 bytes announced where 3 are left"):
        reader.take(4)
    assert reader.rest() == b"abc"
    assert reader.rest() == b""


def test_a_memoryview_is_copied_so_that_its_buffer_can_be_reused():
    buffer = bytearray(b"\0\3abc")
    reader = wire.Reader(memoryview(buffer), "test")
    buffer[:] = bytes(5)
    assert reader.counted() == b"abc"


def test_sub_reader_stops_at_its_own_end():
    reader = wire.Reader(b"abcd", "outer")
    inner = reader.sub(2, "inner")
    assert inner.take(2) == b"ab"
    with pytest.raises(RemoteProtocolError, match=r"^inner: "):
        inner.u8()
    assert reader.rest() == b"cd"


def test_finish_wants_everything_read():
    reader = wire.Reader(b"ab", "test")
    reader.u8()
    with pytest.raises(RemoteProtocolError, match="1 bytes behind"):
        reader.finish()
    reader.u8()
    reader.finish()


def test_items_yields_kind_and_body_and_ignores_the_reserved_byte():
    reader = wire.Reader(bytes.fromhex("51 FF 0001 AA  52 00 0000"), "test")
    assert list(reader.items(wire.Budget("items", 2))) == [(0x51, b"\xaa"), (0x52, b"")]


@pytest.mark.parametrize("tail", ["51", "51 00", "51 00 00", "51 00 0001", "51 00 FFFF 00"])
def test_p12_item_cut_short(tail):
    reader = wire.Reader(bytes.fromhex("50 00 0000" + tail), "test")
    items = reader.items(wire.Budget("items", 9))
    assert next(items) == (0x50, b"")
    with pytest.raises(RemoteProtocolError):
        next(items)


def test_budget_names_the_limit():
    budget = wire.Budget("items", 2)
    budget.spend()
    budget.spend()
    with pytest.raises(LimitExceeded) as caught:
        budget.spend()
    error = caught.value
    assert (error.limit, error.allowed, error.seen, error.abort_reason) == ("items", 2, 3, 6)


@pytest.mark.parametrize(
    "uid", ["1.2.840.10008.1.1", "0", "1.0.2", "2.25.340282366920938463463374607431768211455", LONGEST_UID]
)
def test_p15_valid_uid_is_sent_without_padding(uid):
    assert wire.is_valid_uid(uid)
    assert wire.encode_uid(uid) == uid.encode("ascii")


@pytest.mark.parametrize(
    "uid",
    [
        "",
        ".",
        "1.",
        ".1",
        "1..2",
        "1.02",
        "01.2",
        "1.2 ",
        "1.2\0",
        "1.2\n",
        "1.a",
        "1,2",
        "-1",
        "1.\u0662",
        "*",
        LONGEST_UID + "2",
    ],
)
def test_p15_invalid_uid_is_not_sent(uid):
    assert not wire.is_valid_uid(uid)
    with pytest.raises(LocalProtocolError):
        wire.encode_uid(uid)


@pytest.mark.parametrize("padding", [b"", b"\0", b" ", b" \0", b"\0\0"])
def test_p15_padding_on_a_received_uid_is_cut_off(padding):
    assert wire.decode_text(b"1.2.3" + padding) == "1.2.3"


@pytest.mark.parametrize(
    ("title", "encoded"),
    [
        ("A", b"A" + b" " * 15),
        ("SIXTEEN_LETTERS_", b"SIXTEEN_LETTERS_"),
        ("a b", b"a b" + b" " * 13),
        ("~!\"#$%&'()*+,-./", b"~!\"#$%&'()*+,-./"),
    ],
)
def test_a03_title_is_padded_with_spaces(title, encoded):
    assert wire.encode_title(title) == encoded
    assert wire.decode_title(encoded) == title


@pytest.mark.parametrize(
    "title", ["", " ", " " * 16, "SEVENTEEN_LETTERS", "A\\B", "A\n", "\x1b[31m", "A\0", "\xc4", "\x7f"]
)
def test_a03_a04_title_that_may_not_be_sent(title):
    with pytest.raises(LocalProtocolError) as caught:
        wire.encode_title(title)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("raw", "title"),
    [
        (b"  PACS          ", "PACS"),
        (b"PACS" + bytes(12), "PACS"),
        (b"PACS\0           ", "PACS"),
        (b" " * 16, ""),
        (bytes(16), ""),
        (b"pacs One        ", "pacs One"),
        (b"P\xc4CS            ", "P\xc4CS"),
    ],
)
def test_a03_a05_received_title_is_trimmed_and_otherwise_kept(raw, title):
    assert wire.decode_title(raw) == title


@pytest.mark.parametrize("name", ["", "x" * 17, "\u00fc", "a\nb"])
def test_u02_version_name_that_may_not_be_sent(name):
    with pytest.raises(LocalProtocolError):
        wire.encode_name(name)


@pytest.mark.parametrize(
    "call",
    [
        lambda: wire.number(256, 1),
        lambda: wire.number(-1, 4),
        lambda: wire.number(1 << 16, 2),
        lambda: wire.counted(bytes(0x10000)),
        lambda: wire.item(0x50, bytes(0x10000)),
        lambda: wire.item(0x150, b""),
    ],
)
def test_what_does_not_fit_its_field_is_our_fault(call):
    with pytest.raises(LocalProtocolError, match="does not fit"):
        call()


def test_the_longest_item_is_sent():
    assert wire.item(0x50, bytes(0xFFFF))[:4] == bytes.fromhex("50 00 FFFF")
