"""The PDUs of PS3.8 9.3 and their items: what is sent, and what is made of what arrives."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from dataclasses import replace
from struct import pack

import pytest

from dicomnet.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from dicomnet.protocol import items, pdu
from dicomnet.settings import Limits

LIMITS = Limits()
DICOM = "1.2.840.10008.3.1.1.1"
VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"

INFORMATION = items.UserInformation(
    (
        items.MaximumLength(16384),
        items.ImplementationClassUid("1.2.3.4"),
        items.ImplementationVersionName("V1"),
    )
)
RQ = pdu.AssociateRq(
    "PACS",
    "SCU",
    DICOM,
    (
        items.PresentationContextRq(1, VERIFICATION, (IMPLICIT,)),
        items.PresentationContextRq(3, CT, (IMPLICIT, EXPLICIT)),
    ),
    INFORMATION,
)
AC = pdu.AssociateAc(
    b"PACS".ljust(16),
    b"SCU".ljust(16),
    DICOM,
    (items.PresentationContextAc(1, 0, IMPLICIT), items.PresentationContextAc(3, 4, IMPLICIT)),
    INFORMATION,
)


def sub(kind: int, *bodies: bytes | str) -> bytes:
    """An item, written by the test itself."""
    body = b"".join(b.encode() if isinstance(b, str) else b for b in bodies)
    return pack(">BBH", kind, 0, len(body)) + body


def context_rq(number: int, *bodies: bytes) -> bytes:
    return sub(0x20, bytes([number, 0, 0, 0]), *bodies)


def context_ac(number: int, result: int, *bodies: bytes) -> bytes:
    return sub(0x21, bytes([number, 0, result, 0]), *bodies)


FIXED = bytes.fromhex("0001 0000") + b"PACS".ljust(16) + b"SCU".ljust(16) + bytes(32)
APPLICATION = sub(0x10, DICOM)
CONTEXT = context_rq(1, sub(0x30, VERIFICATION), sub(0x40, IMPLICIT))
USER = sub(0x50, sub(0x51, bytes.fromhex("00004000")))


def decode(data: bytes, limits: Limits = LIMITS) -> pdu.Pdu:
    """Decode a whole PDU."""
    return pdu.decode(data[0], memoryview(data)[6:], limits)


def decode_rq(*parts: bytes) -> pdu.AssociateRq:
    decoded = pdu.decode(1, b"".join((FIXED, *parts)), LIMITS)
    assert isinstance(decoded, pdu.AssociateRq)
    return decoded


def decode_ac(*parts: bytes) -> pdu.AssociateAc:
    decoded = pdu.decode(2, b"".join((FIXED, APPLICATION, *parts, USER)), LIMITS)
    assert isinstance(decoded, pdu.AssociateAc)
    return decoded


def decode_user(*sub_items: bytes) -> tuple[items.UserItem, ...]:
    return decode_rq(APPLICATION, CONTEXT, sub(0x50, *sub_items)).user_information.items


def refused(kind: int, body: bytes, limits: Limits = LIMITS) -> RemoteProtocolError:
    """Decode, which must fail with what leads to A-ABORT source 2 reason 6."""
    with pytest.raises(RemoteProtocolError) as caught:
        pdu.decode(kind, body, limits)
    assert (caught.value.abort_source, caught.value.abort_reason) == (2, 6)
    assert caught.value.clause
    return caught.value


def refused_rq(*parts: bytes) -> RemoteProtocolError:
    return refused(1, b"".join((FIXED, *parts)))


# --- PDU basics ----------------------------------------------------------------------------------

SIMPLE = [
    (pdu.AssociateRj(1, 2, 2), "03 00 00000004 00 01 02 02"),
    (pdu.ReleaseRq(), "05 00 00000004 00000000"),
    (pdu.ReleaseRp(), "06 00 00000004 00000000"),
    (pdu.Abort(2, 6), "07 00 00000004 0000 02 06"),
    (pdu.Abort(0, 0), "07 00 00000004 0000 00 00"),
    (
        pdu.PDataTf((pdu.Pdv(1, True, False, b"\1\2"), pdu.Pdv(1, False, True, b""))),
        "04 00 0000000E 00000004 01 01 0102 00000002 01 02",
    ),
]


@pytest.mark.parametrize(("value", "encoded"), SIMPLE)
def test_p01_simple_pdus(value, encoded):
    assert value.encode() == bytes.fromhex(encoded)
    assert decode(bytes.fromhex(encoded)) == value


def test_p01_associate_rq_byte_for_byte():
    expected = FIXED + APPLICATION + CONTEXT
    expected += context_rq(3, sub(0x30, CT), sub(0x40, IMPLICIT), sub(0x40, EXPLICIT))
    expected += sub(0x50, sub(0x51, bytes.fromhex("00004000")), sub(0x52, "1.2.3.4"), sub(0x55, "V1"))
    assert RQ.encode() == pack(">BBL", 1, 0, len(expected)) + expected
    assert decode(RQ.encode()) == RQ


def test_p01_associate_ac_byte_for_byte():
    expected = (
        FIXED + APPLICATION + context_ac(1, 0, sub(0x40, IMPLICIT)) + context_ac(3, 4, sub(0x40, IMPLICIT))
    )
    expected += sub(0x50, sub(0x51, bytes.fromhex("00004000")), sub(0x52, "1.2.3.4"), sub(0x55, "V1"))
    assert AC.encode() == pack(">BBL", 2, 0, len(expected)) + expected
    assert decode(AC.encode()) == AC


@pytest.mark.parametrize("value", [RQ, AC, *(value for value, _ in SIMPLE)])
def test_p02_length_counts_what_follows_the_header(value):
    data = value.encode()
    assert int.from_bytes(data[2:6], "big") == len(data) - 6
    assert data[0] == value.kind


def reserved_offsets(data: bytes) -> list[int]:
    """Offsets in an A-ASSOCIATE body of all bytes that the standard reserves, but for bytes 43-74."""
    found = [2, 3]

    def walk(start: int, end: int) -> None:
        while start < end:
            kind, length = data[start], int.from_bytes(data[start + 2 : start + 4], "big")
            if kind != 0x57:  # its second byte is a version
                found.append(start + 1)
            body = start + 4
            if kind in (0x20, 0x21):
                found.extend([body + 1, body + 3] if kind == 0x21 else [body + 1, body + 2, body + 3])
                walk(body + 4, body + length)
            elif kind == 0x50:
                walk(body, body + length)
            start = body + length

    walk(68, len(data))
    return found


@pytest.mark.parametrize("value", [RQ, AC])
def test_p03_reserved_bytes_are_sent_as_0_and_not_looked_at(value):
    body = bytearray(value.encode()[6:])
    offsets = reserved_offsets(bytes(body))
    assert len(offsets) >= 15
    assert not any(body[offset] for offset in offsets)
    for offset in offsets:
        body[offset] = 0xA5
        assert pdu.decode(value.kind, body, LIMITS) == value


@pytest.mark.parametrize(
    ("garbage", "value"),
    [
        ("03 FF 00000004 FF 01 02 02", pdu.AssociateRj(1, 2, 2)),
        ("05 FF 00000004 FFFFFFFF", pdu.ReleaseRq()),
        ("06 FF 00000004 FFFFFFFF", pdu.ReleaseRp()),
        ("07 FF 00000004 FFFF 02 06", pdu.Abort(2, 6)),
    ],
)
def test_p03_reserved_bytes_of_short_pdus(garbage, value):
    assert decode(bytes.fromhex(garbage)) == value


@pytest.mark.parametrize("kind", [0, *range(8, 256)])
def test_p04_p05_unknown_pdu_type(kind):
    with pytest.raises(RemoteProtocolError) as caught:
        pdu.decode(kind, bytes(4), LIMITS)
    assert (caught.value.abort_source, caught.value.abort_reason) == (2, 1)


def test_p06_unknown_items_are_skipped_at_every_level():
    odd = [sub(kind, b"?") for kind in (0x00, 0x11, 0x22, 0x31, 0x41, 0xFF)]
    context = context_rq(1, odd[0], sub(0x30, VERIFICATION), odd[1], sub(0x40, IMPLICIT), odd[5])
    decoded = decode_rq(*odd, APPLICATION, *odd, context, USER, *odd)
    assert decoded == decode_rq(APPLICATION, CONTEXT, USER)


@pytest.mark.parametrize("kind", [0x00, 0x50, 0x5A, 0xFF])
def test_p06_unknown_sub_items_are_kept_and_disturb_nothing(kind):
    found = decode_user(sub(kind, b"?!"), sub(0x51, bytes(4)))
    assert found == (items.UnknownItem(kind, b"?!"), items.MaximumLength(0))
    assert found[0].encode() == sub(kind, b"?!")


def test_p07_items_are_sent_in_order_of_their_type():
    kinds = []
    data, at = RQ.encode(), 6 + 68
    while at < len(data):
        kinds.append(data[at])
        at += 4 + int.from_bytes(data[at + 2 : at + 4], "big")
    assert kinds == [0x10, 0x20, 0x20, 0x50]


def test_p07_any_order_is_understood():
    assert decode_rq(USER, CONTEXT, APPLICATION) == decode_rq(APPLICATION, CONTEXT, USER)
    one, other = sub(0x55, "V1"), sub(0x51, bytes(4))
    assert decode_user(one, other) == tuple(reversed(decode_user(other, one)))


@pytest.mark.parametrize("kind", [3, 5, 6, 7])
@pytest.mark.parametrize("length", [0, 1, 3, 5, 6, 100])
def test_p08_short_pdus_have_four_bytes(kind, length):
    refused(kind, bytes(length))


def test_p09_p_data_without_a_pdv():
    refused(4, b"")
    with pytest.raises(RemoteProtocolError):
        pdu.decode_p_data(b"")


@pytest.mark.parametrize("kind", [1, 2])
@pytest.mark.parametrize("length", [0, 1, 2, 67, 68])
def test_p10_associate_without_its_fixed_part_or_items(kind, length):
    refused(kind, FIXED[:length])


@pytest.mark.parametrize("kind", [1, 2])
def test_p12_every_truncation_and_every_trailing_byte_is_refused(kind):
    body = (RQ if kind == 1 else AC).encode()[6:]
    for end in range(len(body)):
        refused(kind, body[:end])
    for extra in range(1, 4):
        refused(kind, body + bytes(extra))


@pytest.mark.parametrize(
    "body",
    [
        APPLICATION + CONTEXT + USER + bytes.fromhex("50 00 FFFF 00"),
        APPLICATION + context_rq(1, sub(0x30, VERIFICATION), bytes.fromhex("40 00 FFFF 31322E33")) + USER,
        APPLICATION + context_rq(1, sub(0x30, VERIFICATION), sub(0x40, IMPLICIT), b"\x40\0\0") + USER,
        APPLICATION + sub(0x20, b"\1\0\0") + USER,
        APPLICATION + sub(0x20) + USER,
        APPLICATION + CONTEXT + sub(0x50, bytes.fromhex("51 00 0005 00004000")),
        APPLICATION + CONTEXT + sub(0x50, b"\x51"),
    ],
)
def test_p12_lengths_past_the_parent(body):
    refused_rq(body)


@pytest.mark.parametrize(
    "body",
    [
        sub(0x51, bytes(3)),
        sub(0x51, bytes(5)),
        sub(0x51),
        sub(0x53, bytes(3)),
        sub(0x53, bytes(5)),
        sub(0x53, bytes.fromhex("0000000400010001")),
        sub(0x54),
        sub(0x54, bytes.fromhex("00FF 312E32 00 01")),
        sub(0x54, bytes.fromhex("0003 312E32 00")),
        sub(0x54, bytes.fromhex("0003 312E32 00 01 00")),
        sub(0x56, bytes.fromhex("00FF 312E32")),
        sub(0x56, b"\0"),
        sub(0x57, bytes.fromhex("0003 312E32 FFFF 31")),
        sub(0x57, bytes.fromhex("0003 312E32 0001 31")),
        sub(0x57, bytes.fromhex("0003 312E32 0001 31 0002 00FF")),
        sub(0x57, bytes.fromhex("0003 312E32 0001 31 0006 0003 312E32")),
        sub(0x58),
        sub(0x58, bytes.fromhex("02 00 00FF 6162 0000")),
        sub(0x58, bytes.fromhex("02 00 0001 61 0002 62")),
        sub(0x58, bytes.fromhex("02 00 0001 61 0001 62 00")),
        sub(0x58, bytes.fromhex("01 00 0001 61")),
        sub(0x59, bytes.fromhex("00FF")),
        sub(0x59, bytes.fromhex("0000 00")),
        sub(0x59),
    ],
    ids=lambda body: body.hex(),
)
def test_p12_sub_items_whose_lengths_contradict(body):
    refused_rq(APPLICATION, CONTEXT, sub(0x50, body))


@pytest.mark.parametrize("padding", ["\0", " "])
def test_p15_padded_uids_are_understood(padding):
    context = context_rq(1, sub(0x30, VERIFICATION, padding), sub(0x40, IMPLICIT, padding))
    user = sub(0x50, sub(0x51, bytes.fromhex("00004000")), sub(0x52, "1.2", padding))
    decoded = decode_rq(sub(0x10, DICOM, padding), context, user)
    assert decoded.application_context == DICOM
    assert decoded.contexts[0] == items.PresentationContextRq(1, VERIFICATION, (IMPLICIT,))
    assert decoded.user_information.items[1] == items.ImplementationClassUid("1.2")


def test_p15_odd_uids_are_read_but_not_sent():
    odd = decode_rq(
        sub(0x10, "nonsense"), context_rq(1, sub(0x30, "1.02"), sub(0x40, b"1.\xff" + b"9" * 70)), USER
    )
    assert odd.application_context == "nonsense"
    assert odd.contexts[0].abstract_syntax == "1.02"
    with pytest.raises(LocalProtocolError):
        odd.encode()


@pytest.mark.parametrize(
    "change",
    [
        {"application_context": ""},
        {"contexts": (items.PresentationContextRq(1, "1.02", (IMPLICIT,)),)},
        {"contexts": (items.PresentationContextRq(1, CT, (IMPLICIT + " ",)),)},
        {"user_information": items.UserInformation((items.ImplementationClassUid(""),))},
        {"user_information": items.UserInformation((items.RoleSelection("1.2\0", 1, 1),))},
        {"user_information": items.UserInformation((items.SopClassExtendedNegotiation("", b""),))},
        {
            "user_information": items.UserInformation(
                (items.SopClassCommonExtendedNegotiation(CT, CT, ("",)),)
            )
        },
    ],
)
def test_p15_invalid_uids_are_not_sent(change):
    with pytest.raises(LocalProtocolError, match="not a valid UID"):
        replace(RQ, **change).encode()


# --- A-ASSOCIATE ---------------------------------------------------------------------------------


def test_a01_a02_version_is_sent_as_1_and_received_as_it_is():
    assert RQ.encode()[6:8] == b"\0\1"
    for version in (0x0000, 0x0002, 0xFFFF):
        decoded = pdu.decode(1, pack(">H", version) + RQ.encode()[8:], LIMITS)
        assert isinstance(decoded, pdu.AssociateRq)
        assert decoded.protocol_version == version


def test_a03_a05_titles_are_trimmed():
    body = (
        FIXED[:4] + b"  PACS one \0\0\0\0\0" + b"\0scu            " + bytes(32) + APPLICATION + CONTEXT + USER
    )
    decoded = pdu.decode(1, body, LIMITS)
    assert isinstance(decoded, pdu.AssociateRq)
    assert (decoded.called, decoded.calling) == ("PACS one", "scu")


@pytest.mark.parametrize(
    "change", [{"called": ""}, {"calling": "   "}, {"called": "A\\B"}, {"calling": "x" * 17}]
)
def test_a03_a04_bad_titles_are_not_sent(change):
    with pytest.raises(LocalProtocolError, match="AE title"):
        replace(RQ, **change).encode()


def test_a04_blank_titles_are_understood():
    body = FIXED[:4] + b" " * 32 + bytes(32) + APPLICATION + CONTEXT + USER
    decoded = pdu.decode(1, body, LIMITS)
    assert isinstance(decoded, pdu.AssociateRq)
    assert (decoded.called, decoded.calling) == ("", "")


@pytest.mark.parametrize("count", [0, 2])
def test_a08_exactly_one_application_context(count):
    refused_rq(APPLICATION * count, CONTEXT, USER)


@pytest.mark.parametrize("count", [0, 2])
def test_a10_exactly_one_user_information(count):
    refused_rq(APPLICATION, CONTEXT, USER * count)


def test_a10_at_least_one_context():
    refused_rq(APPLICATION, USER)
    with pytest.raises(LocalProtocolError):
        replace(RQ, contexts=()).encode()


@pytest.mark.parametrize(
    "parts",
    [
        (),
        (sub(0x30, CT),),
        (sub(0x40, IMPLICIT),),
        (sub(0x30, CT), sub(0x30, VERIFICATION), sub(0x40, IMPLICIT)),
    ],
    ids=["empty", "no transfer syntax", "no abstract syntax", "two abstract syntaxes"],
)
def test_a11_one_abstract_syntax_and_some_transfer_syntaxes(parts):
    refused_rq(APPLICATION, context_rq(1, *parts), USER)


def test_a11_a_context_without_transfer_syntax_is_not_sent():
    with pytest.raises(LocalProtocolError):
        replace(RQ, contexts=(items.PresentationContextRq(1, CT, ()),)).encode()


@pytest.mark.parametrize("number", [0, 2, 254])
def test_a12_even_ids_are_refused(number):
    refused_rq(APPLICATION, context_rq(number, sub(0x30, CT), sub(0x40, IMPLICIT)), USER)


def test_a12_repeated_ids_are_refused():
    refused_rq(APPLICATION, CONTEXT, CONTEXT, USER)
    with pytest.raises(LocalProtocolError):
        replace(RQ, contexts=RQ.contexts[:1] * 2).encode()


@pytest.mark.parametrize("number", [0, 2, 256, 257, -1])
def test_a12_bad_ids_are_not_sent(number):
    with pytest.raises(LocalProtocolError):
        replace(RQ, contexts=(items.PresentationContextRq(number, CT, (IMPLICIT,)),)).encode()
    with pytest.raises(LocalProtocolError):
        replace(AC, contexts=(items.PresentationContextAc(number, 0, IMPLICIT),)).encode()


def test_a12_all_128_ids_in_any_order():
    ids = [*range(255, 0, -2)]
    value = replace(RQ, contexts=tuple(items.PresentationContextRq(i, CT, (IMPLICIT,)) for i in ids))
    assert decode(value.encode()) == value


def test_a13_one_abstract_syntax_may_have_several_ids():
    value = replace(RQ, contexts=tuple(items.PresentationContextRq(i, CT, (IMPLICIT,)) for i in (1, 3)))
    assert decode(value.encode()) == value


def test_a14_answers_keep_their_order_and_their_ids():
    decoded = decode_ac(context_ac(5, 0, sub(0x40, EXPLICIT)), context_ac(1, 3, sub(0x40, IMPLICIT)))
    assert [context.id for context in decoded.contexts] == [5, 1]


def test_a15_answer_repeats_titles_and_reserved_bytes_as_received():
    titles, reserved = b" PACS\0          " + b"\xe4" * 16, bytes(range(32))
    request = pdu.decode(1, b"\0\1\0\0" + titles + reserved + APPLICATION + CONTEXT + USER, LIMITS)
    assert isinstance(request, pdu.AssociateRq)
    answer = replace(
        AC, called_raw=request.called_raw, calling_raw=request.calling_raw, reserved=request.reserved
    )
    assert answer.encode()[10:74] == titles + reserved
    assert decode(answer.encode()) == answer


def test_a15_titles_of_a_request_that_we_made():
    assert (RQ.called_raw, RQ.calling_raw) == (b"PACS".ljust(16), b"SCU".ljust(16))


@pytest.mark.parametrize("change", [{"called_raw": b"PACS"}, {"calling_raw": b"x" * 17}, {"reserved": b""}])
def test_a15_fields_of_another_length_are_not_sent(change):
    with pytest.raises(LocalProtocolError):
        replace(AC, **change).encode()


@pytest.mark.parametrize("result", range(5))
def test_a16_results(result):
    decoded = decode_ac(context_ac(1, result, sub(0x40, IMPLICIT)))
    assert decoded.contexts == (items.PresentationContextAc(1, result, IMPLICIT),)
    assert decode(decoded.encode()) == decoded


@pytest.mark.parametrize("result", [5, 77, 255])
def test_a16_reserved_results_are_kept_and_not_sent(result):
    decoded = decode_ac(context_ac(1, result, sub(0x40, IMPLICIT)))
    assert decoded.contexts[0].result == result
    with pytest.raises(LocalProtocolError):
        decoded.encode()


@pytest.mark.parametrize("parts", [(), (sub(0x40, IMPLICIT), sub(0x40, EXPLICIT)), (sub(0x40),)])
def test_a17_accepted_context_without_exactly_one_syntax_names_none(parts):
    decoded = decode_ac(context_ac(1, 0, *parts))
    assert decoded.contexts == (items.PresentationContextAc(1, 0, ""),)
    with pytest.raises(LocalProtocolError):
        decoded.encode()


@pytest.mark.parametrize("parts", [(), (sub(0x40),), (sub(0x40, b"\xff\0?"),), (sub(0x40), sub(0x40, CT))])
def test_a18_syntax_of_a_rejected_context_does_not_matter(parts):
    decoded = decode_ac(context_ac(1, 4, *parts), context_ac(3, 0, sub(0x40, IMPLICIT)))
    assert decoded.contexts[0].result == 4
    assert decoded.contexts[1] == items.PresentationContextAc(3, 0, IMPLICIT)


def test_a18_rejected_context_is_sent_with_an_empty_syntax():
    context = items.PresentationContextAc(1, 3, "")
    assert context.encode() == context_ac(1, 3, sub(0x40))
    assert decode(replace(AC, contexts=(context,)).encode()) == replace(AC, contexts=(context,))


def test_a19_a20_answers_need_not_accept_or_name_anything():
    assert decode_ac(context_ac(1, 3)).contexts[0].result == 3
    assert decode_ac().contexts == ()
    assert decode_ac(context_ac(44, 0, sub(0x40, IMPLICIT))).contexts[0].id == 44


# --- A-ASSOCIATE-RJ, A-ABORT ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "source", "reason"),
    [(1, 1, 1), (1, 1, 2), (1, 1, 3), (1, 1, 7), (1, 2, 1), (1, 2, 2), (2, 3, 1), (2, 3, 2)],
)
def test_r01_r02_rejections(result, source, reason):
    value = pdu.AssociateRj(result, source, reason)
    assert value.encode()[6:] == bytes([0, result, source, reason])
    assert decode(value.encode()) == value


def test_r05_reserved_rejections_keep_their_numbers():
    assert pdu.decode(3, bytes([0, 0, 9, 255]), LIMITS) == pdu.AssociateRj(0, 9, 255)


def test_r10_an_abort_of_the_user_has_no_reason():
    assert pdu.Abort(0, 5).encode() == bytes.fromhex("07 00 00000004 0000 00 00")
    assert pdu.decode(7, bytes([0, 0, 0, 5]), LIMITS) == pdu.Abort(0, 0)


@pytest.mark.parametrize("reason", [0, 1, 2, 4, 5, 6, 3, 255])
def test_r11_aborts_of_the_provider(reason):
    assert pdu.decode(7, bytes([0, 0, 2, reason]), LIMITS) == pdu.Abort(2, reason)
    assert pdu.Abort(2, reason).encode()[8:] == bytes([2, reason])


def test_numbers_above_a_byte_are_not_sent():
    for value in (
        pdu.AssociateRj(1, 256, 1),
        pdu.Abort(2, 256),
        pdu.Abort(-1, 0),
        replace(RQ, protocol_version=65536),
    ):
        with pytest.raises(LocalProtocolError):
            value.encode()


# --- P-DATA-TF -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("control", "is_command", "is_last"),
    [(0, False, False), (1, True, False), (2, False, True), (3, True, True)],
)
@pytest.mark.parametrize("ignored", [0x00, 0xFC])
def test_d02_message_control_header(control, is_command, is_last, ignored):
    pdv = pdu.Pdv(5, is_command, is_last, b"ab")
    assert pdu.decode_p_data(pack(">LBB", 4, 5, control | ignored) + b"ab") == [pdv]
    assert pdu.encode_p_data([pdv])[6:] == pack(">LBB", 4, 5, control) + b"ab"


def test_d10_d11_d13_several_pdvs_and_empty_ones():
    pdvs = [pdu.Pdv(1, True, True, b"cd"), pdu.Pdv(1, False, False, b"x"), pdu.Pdv(1, False, True, b"")]
    assert pdu.decode_p_data(pdu.encode_p_data(pdvs)[6:]) == pdvs


@pytest.mark.parametrize("length", [0, 1, 5, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_d14_pdv_lengths_that_cannot_be(length):
    refused(4, pack(">LBB", length, 1, 3) + b"ab")


@pytest.mark.parametrize("tail", [b"\0", b"\0\0\0", b"\0\0\0\4"])
def test_d14_bytes_after_the_last_pdv(tail):
    refused(4, pack(">LBB", 4, 1, 3) + b"ab" + tail)


# --- user information ----------------------------------------------------------------------------

SUB_ITEMS = [
    pytest.param(items.MaximumLength(0x01020304), "51 00 0004 01020304", id="L01"),
    pytest.param(items.MaximumLength(0), "51 00 0004 00000000", id="L03"),
    pytest.param(items.ImplementationClassUid("1.2.3"), "52 00 0005 312E322E33", id="U01"),
    pytest.param(items.ImplementationVersionName("A 1"), "55 00 0003 412031", id="U02"),
    pytest.param(items.AsynchronousOperationsWindow(1, 0x102), "53 00 0004 0001 0102", id="U04"),
    pytest.param(items.RoleSelection("1.2", 0, 1), "54 00 0007 0003 312E32 00 01", id="U08"),
    pytest.param(
        items.SopClassExtendedNegotiation("1.2", b"\1\2\3"), "56 00 0008 0003 312E32 010203", id="U13"
    ),
    pytest.param(items.SopClassExtendedNegotiation("1.2", b""), "56 00 0005 0003 312E32", id="U13 empty"),
    pytest.param(
        items.SopClassCommonExtendedNegotiation("1.2", "1", ("3", "4.5")),
        "57 00 0012 0003 312E32 0001 31 0008 0001 33 0003 342E35",
        id="U14",
    ),
    pytest.param(
        items.SopClassCommonExtendedNegotiation("1.2", "1", ()),
        "57 00 000A 0003 312E32 0001 31 0000",
        id="U14 empty",
    ),
    pytest.param(items.UserIdentityRequest(1, True, b"me"), "58 00 0008 01 01 0002 6D65 0000", id="U15 name"),
    pytest.param(
        items.UserIdentityRequest(2, False, b"me", b"pw"),
        "58 00 000A 02 00 0002 6D65 0002 7077",
        id="U15 passcode",
    ),
    pytest.param(items.UserIdentityRequest(5, False, b"\xff"), "58 00 0007 05 00 0001 FF 0000", id="U15 JWT"),
    pytest.param(items.UserIdentityResponse(b"tk"), "59 00 0004 0002 746B", id="U16"),
    pytest.param(items.UserIdentityResponse(b""), "59 00 0002 0000", id="U16 empty"),
]


@pytest.mark.parametrize(("value", "encoded"), SUB_ITEMS)
def test_sub_items_byte_for_byte(value, encoded):
    data = bytes.fromhex(encoded)
    assert value.encode() == data
    assert decode_user(data) == (value,)


@pytest.mark.parametrize(
    "value",
    [
        items.MaximumLength(1 << 32),
        items.MaximumLength(-1),
        items.AsynchronousOperationsWindow(65536, 0),
        items.ImplementationVersionName(""),
        items.ImplementationVersionName("x" * 17),
        items.RoleSelection(CT, 2, 0),
        items.SopClassExtendedNegotiation(CT, bytes(65536)),
        items.UserIdentityRequest(2, False, bytes(65536), b""),
        items.UserIdentityRequest(256, False, b""),
        items.UserIdentityRequest(1, False, b"me", b"pw"),
        items.UnknownItem(0x60, bytes(65536)),
        items.UnknownItem(0x160, b""),
    ],
    ids=repr,
)
def test_sub_items_that_may_not_be_sent(value):
    with pytest.raises(LocalProtocolError):
        items.UserInformation((value,)).encode()


def test_more_sub_items_than_the_item_can_hold_are_not_sent():
    roles = tuple(items.RoleSelection(f"1.2.{i}", 1, 1) for i in range(6000))
    with pytest.raises(LocalProtocolError, match="length"):
        items.UserInformation(roles).encode()


def test_u03_odd_implementation_names_are_understood():
    assert decode_user(sub(0x55)) == (items.ImplementationVersionName(""),)
    assert decode_user(sub(0x55, "x" * 40)) == (items.ImplementationVersionName("x" * 40),)
    assert decode_user(sub(0x52)) == (items.ImplementationClassUid(""),)
    assert decode_user() == ()


def test_u08_role_bytes_are_kept_as_received():
    assert decode_user(sub(0x54, b"\0\x031.2\2\xff")) == (items.RoleSelection("1.2", 2, 255),)


def test_u14_later_versions_of_the_common_extended_negotiation():
    body = bytes.fromhex("0003 312E32 0001 31 0003 0001 33")
    later = b"\x57\x07" + pack(">H", len(body) + 5) + body + b"later"
    assert decode_user(later) == (items.SopClassCommonExtendedNegotiation("1.2", "1", ("3",)),)


@pytest.mark.parametrize("flag", [1, 2, 255])
def test_u15_any_flag_but_0_asks_for_a_response(flag):
    (identity,) = decode_user(sub(0x58, bytes([1, flag]), b"\0\2me\0\0"))
    assert identity == items.UserIdentityRequest(1, True, b"me")


def test_u19_identities_show_no_secrets():
    identity = items.UserIdentityRequest(2, True, b"user@site", b"p4ssw0rd")
    shown = repr(replace(RQ, user_information=items.UserInformation((identity,))))
    shown += repr(items.UserIdentityResponse(b"t1cket"))
    assert not any(secret in shown for secret in ("user@site", "p4ssw0rd", "t1cket"))
    assert "UserIdentityRequest(type=2" in shown
    with pytest.raises(LocalProtocolError) as caught:
        items.UserIdentityRequest(3, True, b"t1cket", b"p4ssw0rd").encode()
    assert "p4ssw0rd" not in str(caught.value)
    error = refused_rq(APPLICATION, CONTEXT, sub(0x50, sub(0x58, b"\2\1\0\x08p4ssw0rd\0\xff?")))
    assert "p4ssw0rd" not in str(error)


def test_first_and_all_select_by_class():
    roles = items.RoleSelection(CT, 1, 0), items.RoleSelection(VERIFICATION, 0, 1)
    information = items.UserInformation((roles[0], items.MaximumLength(5), roles[1]))
    assert information.first(items.RoleSelection) is roles[0]
    assert information.first(items.UserIdentityRequest) is None
    assert information.all(items.RoleSelection) == roles
    assert information.all(items.UnknownItem) == ()


# --- limits --------------------------------------------------------------------------------------


def test_p11_more_items_than_the_limit():
    limits = Limits(items=7)
    assert decode(RQ.encode(), Limits(items=12)) == RQ  # 4 items, 5 syntaxes, 3 sub-items
    for allowed in range(12):
        with pytest.raises(LimitExceeded) as caught:
            decode(RQ.encode(), Limits(items=allowed))
        assert (caught.value.limit, caught.value.allowed, caught.value.seen) == (
            "items",
            allowed,
            allowed + 1,
        )
        assert caught.value.abort_reason == 6
    with pytest.raises(LimitExceeded):
        pdu.decode(2, FIXED + sub(0x99) * 8, limits)


def test_p11_more_contexts_than_the_limit():
    assert decode(RQ.encode(), Limits(contexts=2)) == RQ
    for value in (RQ, AC):
        with pytest.raises(LimitExceeded) as caught:
            decode(value.encode(), Limits(contexts=1))
        assert (caught.value.limit, caught.value.allowed, caught.value.abort_reason) == ("contexts", 1, 6)


def hostile() -> list[tuple[str, int, bytes]]:
    """PDUs of the longest association length that ask for as much as they can."""
    room = Limits().association_pdu - len(FIXED)
    short = bytes.fromhex("40 00 FFFF 00")
    related = b"\0\0" * 32_000
    common = sub(0x57, b"\0\0\0\0", pack(">H", len(related)), related)
    return [
        ("16 000 cut items", 1, FIXED + short * (room // len(short))),
        ("empty items", 1, FIXED + sub(0x99) * (room // 4)),
        ("empty contexts", 1, FIXED + context_rq(1) * (room // 8)),
        ("empty transfer syntaxes", 1, FIXED + APPLICATION + USER + context_rq(1, sub(0x40) * 16_000)),
        ("empty sub-items", 2, FIXED + APPLICATION + sub(0x50, sub(0x60) * 16_000)),
        ("empty related classes", 2, FIXED + APPLICATION + sub(0x50, common)),
        ("long unknown items", 2, FIXED + sub(0x99, bytes(65_000)) * 4),
    ]


@pytest.mark.parametrize(("kind", "body"), [c[1:] for c in hostile()], ids=[c[0] for c in hostile()])
def test_allocation_is_bounded_by_what_was_received(kind, body):
    tracemalloc.start()
    try:
        with suppress(RemoteProtocolError):
            pdu.decode(kind, body, LIMITS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * len(body)
