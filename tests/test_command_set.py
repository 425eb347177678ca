"""The command set codec against PS3.7 6.3 and annex E: rules C01 to C14.

Bytes are written out by hand here, by `element`, and never by the code under test.
"""

from __future__ import annotations

import struct

import pytest

from dicomnet.enums import DicomCommandPriorityType, DicomCommandStatusType
from dicomnet.errors import LocalProtocolError, RemoteProtocolError
from dicomnet.protocol.command_set import decode, encode, with_group_length
from dicomnet.protocol.message_table import (
    BY_NAME,
    C_CANCEL_RQ,
    C_ECHO_RQ,
    C_ECHO_RSP,
    C_FIND_RQ,
    C_FIND_RSP,
    C_GET_RSP,
    C_STORE_RQ,
    C_STORE_RSP,
    MESSAGES,
    N_CREATE_RQ,
    N_GET_RQ,
    N_GET_RSP,
    N_SET_RSP,
)

CT = "1.2.840.10008.5.1.4.1.1.2"
VERIFICATION = "1.2.840.10008.1.1"
NONE = 0x0101


def element(tag: int, value: bytes, group: int = 0) -> bytes:
    return struct.pack("<HHI", group, tag, len(value)) + value


def us(tag: int, number: int) -> bytes:
    return element(tag, struct.pack("<H", number))


def echo_rq(*extra: bytes, data_set_type: int = NONE, message_id: int = 7) -> bytes:
    """A C-ECHO-RQ without group length, and with `extra` elements at its end."""
    parts = (element(0x0002, b"1.2.840.10008.1.1\0"), us(0x0100, 0x0030), us(0x0110, message_id))
    return b"".join((*parts, us(0x0800, data_set_type), *extra))


def tags(data: bytes) -> list[int]:
    """The tags of a command set in the order they come, walked by lengths; fails if they don't fit."""
    found, position = [], 0
    while position < len(data):
        group, tag, length = struct.unpack_from("<HHI", data, position)
        found.append(group << 16 | tag)
        position += 8 + length
    assert position == len(data)
    return found


def values_for(message, **changes):
    """A value for every element of a message, details included."""
    samples = {
        "affected_class": CT,
        "instance": "1.2.3",
        "move_ae": "STORE_SCP",
        "error_comment": "no",
        "offending_elements": (0x00100010,),
        "attributes": (0x00100010, 0x7FE00010),
        "status": {"pending": 0xFF00, "incomplete": 0xB000}.get(message.data_set, 0x0000),
    }
    elements = (*message.elements, *message.details)
    return {one.name: samples.get(one.name, 3) for one in elements} | changes


def may_have_data_set(message) -> bool:
    return message.data_set != "none"


every_message = pytest.mark.parametrize("message", MESSAGES.values(), ids=lambda message: message.name)


# --- C01, C02, C03, C04: form ----------------------------------------------------------------------


def test_implicit_little_endian():
    """C01: Implicit VR Little Endian, byte for byte."""
    expected = element(0x0000, struct.pack("<I", 56)) + echo_rq()
    assert encode(C_ECHO_RQ, {"message_id": 7, "affected_class": VERIFICATION}, False) == expected


def test_explicit_vr_is_refused():
    """C01: an Explicit VR command set is not taken for something else."""
    explicit = b"\0\0\0\0UL\4\0\x38\0\0\0" + b"\0\0\2\0UI\x12\0" + b"1.2.840.10008.1.1\0"
    with pytest.raises(RemoteProtocolError) as caught:
        decode(explicit)
    assert (caught.value.abort_source, caught.value.abort_reason) == (2, 6)


@every_message
def test_ascending_once_even(message):
    """C02: ascending tags, group 0000 only, each once, even length."""
    for has_data_set in {False, may_have_data_set(message)} - (
        {False} if message.data_set == "required" else set()
    ):
        status = {} if message.is_request else {"status": status_with(message, has_data_set)}
        data = encode(message, values_for(message, **status), has_data_set)
        found = tags(data)
        assert found == sorted(set(found))
        assert max(found) <= 0xFFFF
        assert len(data) % 2 == 0


def status_with(message, has_data_set: bool) -> int:
    """A status with which the response may be sent with or without a data set."""
    if message.data_set == "pending":
        return 0xFF00 if has_data_set else 0x0000
    if message.data_set == "incomplete":
        return 0xB000
    return 0x0000 if has_data_set or message.data_set != "result" else 0x0110


@pytest.mark.parametrize("group", [0x0001, 0x0008, 0xFFFE])
def test_other_group_is_refused(group):
    """C02: an element of another group in the command set."""
    with pytest.raises(RemoteProtocolError, match="group 0000"):
        decode(echo_rq(element(0x0016, b"1.2\0", group)))


def test_repeated_element_is_refused():
    """C02: each element at most once; two values would be read differently by different ends."""
    with pytest.raises(RemoteProtocolError, match="twice"):
        decode(echo_rq(us(0x0110, 8)))


def test_odd_length_is_taken():
    """C02: an odd length is wrong, but what it says is clear."""
    command = decode(element(0x0002, b"1.2.3") + us(0x0100, 0x0030) + us(0x0110, 7) + us(0x0800, NONE))
    assert command.arguments() == (7, "1.2.3")


def test_order_does_not_matter():
    """C02: descending order is wrong, but what it says is clear."""
    command = decode(us(0x0800, NONE) + us(0x0110, 7) + us(0x0100, 0x0030) + element(0x0002, b"1.2.3\0"))
    assert command.arguments() == (7, "1.2.3")


@every_message
def test_group_length_counts_what_follows(message):
    """C03: (0000,0000) is the number of bytes after its own value."""
    status = {} if message.is_request else {"status": status_with(message, False)}
    data = encode(message, values_for(message, **status), message.data_set == "required")
    assert data[:8] == b"\0\0\0\0\4\0\0\0"
    assert int.from_bytes(data[8:12], "little") == len(data) - 12


@pytest.mark.parametrize(
    "group_length", [b"", element(0, b"\xff\xff\xff\xff"), element(0, b""), element(0, b"\0\0\0\0")]
)
def test_group_length_is_not_believed(group_length):
    """C03: a wrong, empty or missing group length does no harm."""
    assert decode(group_length + echo_rq()).message_id == 7


@pytest.mark.parametrize("old", [b"", element(0, b"\xff\xff\0\0")])
def test_group_length_of_a_hand_made_command_set(old):
    """C03: `with_group_length` puts in the right one, whatever was there."""
    assert with_group_length(old + echo_rq()) == element(0, b"\x38\0\0\0") + echo_rq()


@every_message
def test_retired_elements_are_not_sent(message):
    """C04: length to end (0000,0001) and the other retired elements are not in any message."""
    retired = {0x0001, 0x0010, 0x0200, 0x0300, 0x0400, 0x0850, 0x0860, 0x4000, 0x4010, 0x5010, 0x5180}
    status = {} if message.is_request else {"status": status_with(message, False)}
    sent = encode(message, values_for(message, **status), message.data_set == "required")
    assert not retired & set(tags(sent))


def test_retired_elements_are_not_relied_upon():
    """C04: a received length to end is not looked at."""
    assert decode(element(0x0001, b"\xff\xff\xff\xff") + echo_rq()).arguments() == (7, VERIFICATION)


# --- C05, C06, C07: what, and which one --------------------------------------------------------------


def test_command_field_of_a_response():
    """C05: response = request | 8000H; cancel = 0FFFH."""
    for message in MESSAGES.values():
        if message.is_request and message is not C_CANCEL_RQ:
            assert message.response is MESSAGES[message.command_field | 0x8000]
    assert C_CANCEL_RQ.command_field == 0x0FFF
    assert C_CANCEL_RQ.response is None


@pytest.mark.parametrize("field", [0x0000, 0x0002, 0x7FFF, 0x8FFF, 0xFFFF])
def test_unknown_command_field(field):
    """C05: an unknown command is told as such, with its message id where it has one."""
    command = decode(us(0x0100, field) + us(0x0110, 300) + us(0x0800, NONE))
    assert command.message is None
    assert (command.field, command.message_id, command.responded_id) == (field, 300, 0)
    assert (command.arguments(), command.missing()) == ((), ())
    assert decode(us(0x0100, field) + us(0x0800, NONE)).message_id == 0


def test_missing_command_field():
    """C05: without (0000,0100) nothing can be said about the message."""
    for data in (b"", us(0x0110, 7) + us(0x0800, NONE), element(0x0100, b"") + us(0x0800, NONE)):
        with pytest.raises(RemoteProtocolError, match=r"0000,0100"):
            decode(data)


@pytest.mark.parametrize("message_id", [0, 1, 255, 256, 0x7FFF, 0x8000, 0xFFFF])
def test_message_id_of_16_bits(message_id):
    """C06: the message id is one unsigned 16-bit number, low byte first."""
    data = encode(C_ECHO_RQ, {"message_id": message_id, "affected_class": CT}, False)
    assert us(0x0110, message_id) in data
    command = decode(data)
    assert (command.message_id, command.responded_id) == (message_id, 0)


@pytest.mark.parametrize("message_id", [-1, 0x10000, 1.5, "1"])
def test_message_id_out_of_range(message_id):
    """C06: what is not a 16-bit number is refused before anything is sent."""
    with pytest.raises(LocalProtocolError, match="message_id"):
        encode(C_ECHO_RQ, {"message_id": message_id, "affected_class": CT}, False)


def test_request_without_message_id():
    """C06: a request that cannot be answered."""
    with pytest.raises(RemoteProtocolError, match=r"0000,0110"):
        decode(us(0x0100, 0x0030) + us(0x0120, 7) + us(0x0800, NONE))


def test_response_names_the_request():
    """C07: (0000,0120) holds the request's id, and is what a response and a cancel are known by."""
    response = encode(C_ECHO_RSP, {"message_id": 7, "status": 0}, False)
    assert us(0x0120, 7) in response
    assert (decode(response).responded_id, decode(response).message_id) == (7, 0)
    cancel = decode(encode(C_CANCEL_RQ, {"message_id": 9}, False))
    assert (cancel.responded_id, cancel.message_id, cancel.arguments()) == (9, 0, (9,))


def test_response_without_the_request_id():
    """C07: a response that answers nothing."""
    with pytest.raises(RemoteProtocolError, match=r"0000,0120"):
        decode(us(0x0100, 0x8030) + us(0x0110, 7) + us(0x0800, NONE) + us(0x0900, 0))


# --- C08, C09, C10, C11, C12 ------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0x0000, 0x0001, 0x0100, 0x0102, 0x1010, 0xFFFF])
def test_any_other_data_set_type_announces_one(number):
    """C08: every value but 0101H says that a data set follows."""
    assert decode(echo_rq(data_set_type=number)).has_data_set


def test_0101_announces_none():
    """C08: 0101H says that no data set follows, on both sides."""
    assert not decode(echo_rq(data_set_type=0x0101)).has_data_set
    sent = {"message_id": 1, "affected_class": CT, "priority": 0}
    assert us(0x0800, 0x0101) in encode(C_ECHO_RQ, sent, False)
    assert us(0x0800, 0x0101) not in encode(C_FIND_RQ, sent, True)
    assert decode(encode(C_FIND_RQ, sent, True)).has_data_set


def test_missing_data_set_type():
    """C08: nobody can know what comes next."""
    with pytest.raises(RemoteProtocolError, match=r"0000,0800"):
        decode(us(0x0100, 0x0030) + us(0x0110, 7))


@pytest.mark.parametrize(
    ("number", "name"), [(0, "MEDIUM"), (1, "HIGH"), (2, "LOW"), (3, "MEDIUM"), (0xFFFF, "MEDIUM")]
)
def test_priority(number, name):
    """C09: 0 medium, 1 high, 2 low; another number received counts as medium."""
    command = decode(us(0x0100, 0x0020) + us(0x0110, 7) + us(0x0700, number) + us(0x0800, 1))
    assert command.arguments()[2] is DicomCommandPriorityType[name]
    assert command.value(0x0700) == number


def test_priority_is_sent_as_its_number():
    """C09: an enumeration and its plain number are the same on the wire."""
    sent = [
        encode(C_FIND_RQ, {"message_id": 1, "affected_class": CT, "priority": priority}, True)
        for priority in (DicomCommandPriorityType.LOW, 2)
    ]
    assert sent[0] == sent[1]
    assert us(0x0700, 2) in sent[0]


@pytest.mark.parametrize(
    ("uid", "value"), [("1.2.3", b"1.2.3\0"), ("1.2.34", b"1.2.34"), ("1." * 31 + "10", b"1." * 31 + b"10")]
)
def test_uid_padding(uid, value):
    """C10: a UID is padded with one NUL to even length."""
    assert element(0x0002, value) in encode(C_ECHO_RQ, {"message_id": 1, "affected_class": uid}, False)


@pytest.mark.parametrize(("title", "value"), [("ABC", b"ABC "), ("A B C ", b"A B C "), ("A" * 16, b"A" * 16)])
def test_ae_title_padding(title, value):
    """C10: an AE title is padded with a space."""
    data = encode(C_STORE_RQ, values_for(C_STORE_RQ, move_ae=title), True)
    assert element(0x1030, value) in data


@pytest.mark.parametrize("value", [b"1.2.3", b"1.2.3\0", b"1.2.3\0\0\0", b"1.2.3 ", b" 1.2.3\0"])
def test_padding_is_stripped(value):
    """C10: padding of any kind is no part of the value."""
    assert decode(echo_rq(element(0x1000, value))).value(0x1000) == "1.2.3"


@pytest.mark.parametrize("uid", ["1" * 65, "1.2\0", "1.2 ", "1\\2", "1.2.\u00e4", "1.2\n", 12, b"1.2"])
def test_wrong_uid_is_not_sent(uid):
    """C10: what is no UID value is refused before anything is sent."""
    with pytest.raises(LocalProtocolError, match="affected_class"):
        encode(C_ECHO_RQ, {"message_id": 1, "affected_class": uid}, False)


@pytest.mark.parametrize("title", ["A" * 17, "A\\B", "A\tB", "\u00c4"])
def test_wrong_ae_title_is_not_sent(title):
    """C10: what is no AE title is refused before anything is sent."""
    with pytest.raises(LocalProtocolError, match="move_ae"):
        encode(C_STORE_RQ, values_for(C_STORE_RQ, move_ae=title), True)


def test_status_in_responses_only():
    """C11: (0000,0900) is in every response and in no request."""
    for message in MESSAGES.values():
        has = any(one.tag == 0x0900 and one.required for one in message.elements)
        assert has is not message.is_request
    assert decode(echo_rq(us(0x0900, 0))).status is None


def test_response_needs_a_status():
    """C11: a response without status is not sent."""
    with pytest.raises(LocalProtocolError, match="status"):
        encode(C_ECHO_RSP, {"message_id": 1}, False)


def test_status_of_a_response():
    """C11: any number is a status, named or not."""
    for number in (0x0000, 0xB007, 0xFF01, 0x1234):
        command = decode(encode(C_STORE_RSP, {"message_id": 1, "status": number}, False))
        assert command.status == number
        assert command.arguments()[-1] == DicomCommandStatusType(number)
        assert isinstance(command.arguments()[-1], DicomCommandStatusType)


def test_missing_status_is_a_failure():
    """C11: as for a peer, a response without status counts as failure (X28)."""
    command = decode(us(0x0100, 0x8030) + us(0x0120, 7) + us(0x0800, NONE))
    assert command.status == DicomCommandStatusType.PROCESSING_FAILURE
    assert command.arguments()[-1] is DicomCommandStatusType.PROCESSING_FAILURE


@pytest.mark.parametrize("request_name", ["C-STORE-RQ", "N-GET-RQ", "N-SET-RQ", "N-ACTION-RQ", "N-DELETE-RQ"])
def test_uids_repeated_in_the_response(request_name):
    """C12: the response repeats the request's UIDs: as Affected ones also where they were Requested ones."""
    request = BY_NAME[request_name]
    asked = decode(encode(request, values_for(request), request.data_set in ("required", "optional")))
    uids = dict(zip(request.parameters[1:], asked.arguments(), strict=False))
    response = request.response
    sent = {
        "message_id": asked.message_id,
        "status": 0x0110,
        **{k: uids[k] for k in ("affected_class", "instance")},
    }
    answer = decode(encode(response, sent, False))
    assert (answer.value(0x0002), answer.value(0x1000)) == (CT, "1.2.3")
    assert not {0x0003, 0x1001} & answer.elements.keys()


def test_uids_left_out_of_the_response():
    """C12: a response need not repeat them; the callback then gets "" for each."""
    for nothing in (None, ""):
        sent = {"message_id": 1, "affected_class": nothing, "instance": nothing, "status": 0}
        command = decode(encode(C_STORE_RSP, sent, False))
        assert not {0x0002, 0x1000} & command.elements.keys()
        assert command.arguments() == (1, "", "", 0)


# --- C13, C14 -----------------------------------------------------------------------------------------


def test_every_operation_has_a_response():
    """C13: every operation and notification is confirmed; C-CANCEL is neither."""
    unanswered = [
        message.name for message in MESSAGES.values() if message.is_request and message.response is None
    ]
    assert unanswered == ["C-CANCEL-RQ"]


@pytest.mark.parametrize("tag", [0x0003, 0x0042, 0x1111, 0x5150, 0xFFFF])
def test_unknown_elements_are_ignored(tag):
    """C14: unknown and private elements change nothing; their bytes are kept."""
    command = decode(echo_rq(element(tag, b"\xff\0\xfe\x80")))
    assert command.arguments() == (7, VERIFICATION)
    assert command.elements[tag] == b"\xff\0\xfe\x80"
    if tag != 0x0003:  # known, but not an element of this message
        assert command.value(tag) == b"\xff\0\xfe\x80"


# --- values, and what goes wrong with them ------------------------------------------------------------


def test_values_of_each_kind():
    command = decode(
        echo_rq(
            element(0x0600, b"STORE_SCP "),
            element(0x0901, b"\x10\0\x20\0\xe0\x7f\x10\0"),
            element(0x0902, "nicht m\u00f6glich".encode() + b" "),
            us(0x1020, 65535),
        )
    )
    assert command.value(0x0600) == "STORE_SCP"
    assert command.value(0x0901) == (0x00100020, 0x7FE00010)
    assert command.value(0x0902) == "nicht m\u00f6glich"
    assert command.value(0x1020) == 65535
    assert command.value(0x1021) is None


def test_two_numbers_where_one_belongs():
    """Some peers send US elements of 4 bytes; the first value is meant."""
    command = decode(
        us(0x0100, 0x8021) + us(0x0120, 7) + us(0x0800, 1) + us(0x0900, 0xFF00) + element(0x1020, b"\3\0\0\0")
    )
    assert command.arguments()[3:] == (3, 0, 0, 0)


@pytest.mark.parametrize("value", [b"", b"\1"])
def test_unusable_number_counts_as_missing(value):
    """X28: never an exception from a value that does not fit."""
    data = (
        us(0x0100, 0x0020)
        + us(0x0110, 7)
        + element(0x0002, b"1.2\0")
        + element(0x0700, value)
        + us(0x0800, 1)
    )
    command = decode(data)
    assert command.value(0x0700) is None
    assert command.arguments() == (7, "1.2", DicomCommandPriorityType.MEDIUM)
    assert [one.name for one in command.missing()] == ["priority"]


def test_unusable_tag_list_counts_as_missing():
    values = {"message_id": 1, "affected_class": CT, "instance": "1.2", "attributes": None}
    data = encode(N_GET_RQ, values, False) + element(0x1005, b"\x10\0\x20\0\1\0")
    assert decode(data).arguments()[-1] == ()


@pytest.mark.parametrize("cut", range(1, len(echo_rq())))
def test_truncated_anywhere(cut):
    """A command set cut at any place is refused, or lacks what it is known by."""
    with pytest.raises(RemoteProtocolError) as caught:
        decode(echo_rq()[:cut])
    assert caught.value.abort_reason == 6


@pytest.mark.parametrize("length", [3, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF])
def test_length_beyond_the_end(length):
    """A length is never believed; FFFFFFFF (undefined) has no meaning here."""
    with pytest.raises(RemoteProtocolError, match="longer"):
        decode(echo_rq() + struct.pack("<HHI", 0, 0x1000, length) + b"12")


def test_many_elements_are_linear():
    """A command set full of empty elements, as large as `Limits.command_set` lets it be."""
    filler = b"".join(element(tag, b"") for tag in range(0x2000, 0x2000 + 8000))
    assert len(decode(echo_rq(filler)).elements) == 8004


def test_memoryview_is_copied():
    """The receive buffer is used again after `decode`."""
    buffer = bytearray(echo_rq())
    command = decode(memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    assert command.arguments() == (7, VERIFICATION)
    assert command.raw == echo_rq()


def test_missing_elements_are_named():
    """X28: what a request lacks, the data set included."""
    command = decode(us(0x0100, 0x0001) + us(0x0110, 7) + element(0x1000, b"\0\0") + us(0x0800, NONE))
    assert [one.name for one in command.missing()] == ["affected_class", "instance", "priority", "data_set"]
    assert command.arguments() == (7, "", "", DicomCommandPriorityType.MEDIUM, "", 0)
    assert decode(echo_rq()).missing() == ()


def test_repr_names_the_message():
    assert repr(decode(echo_rq())) == "<Command C-ECHO-RQ 7>"
    assert repr(decode(us(0x0100, 0x0002) + us(0x0800, NONE))) == "<Command unknown command 0002H 0>"


@pytest.mark.parametrize("name", ["message_id", "affected_class", "instance", "priority"])
@pytest.mark.parametrize("nothing", [None, ""])
def test_required_value_missing(name, nothing):
    with pytest.raises(LocalProtocolError, match=f"C-STORE-RQ needs {name}"):
        encode(C_STORE_RQ, values_for(C_STORE_RQ, **{name: nothing}), True)


def test_zero_is_a_value():
    """A count of 0 is sent; only None and "" leave an element out."""
    sent = {"message_id": 1, "status": 0xFF00, "remaining": 0, "completed": 0, "failed": None, "warning": 2}
    assert tags(encode(C_GET_RSP, sent, False)) == [0, 0x0100, 0x0120, 0x0800, 0x0900, 0x1020, 0x1021, 0x1023]


def test_empty_tag_list_is_left_out():
    """N-GET without attributes asks for all of them: (0000,1005) is absent, not empty."""
    sent = {"message_id": 1, "affected_class": CT, "instance": "1.2", "attributes": []}
    assert 0x1005 not in tags(encode(N_GET_RQ, sent, False))


@pytest.mark.parametrize("attributes", [(0x100000000,), (-1,), ("PatientID",), 0x00100010])
def test_wrong_tag_list_is_not_sent(attributes):
    sent = {"message_id": 1, "affected_class": CT, "instance": "1.2", "attributes": attributes}
    with pytest.raises(LocalProtocolError, match="attributes"):
        encode(N_GET_RQ, sent, False)


def test_error_text_is_escaped():
    with pytest.raises(LocalProtocolError) as caught:
        encode(C_ECHO_RQ, {"message_id": 1, "affected_class": "1\n\x1b[2J\u202e"}, False)
    assert str(caught.value).isprintable()
    assert str(caught.value).isascii()


def test_error_comment_is_made_to_fit():
    """S07: (0000,0902) is LO, at most 64 characters, one value."""
    sent = {"message_id": 1, "status": 0x0110, "error_comment": "disk\\f\u00fcll\n" + "x" * 100}
    command = decode(encode(C_STORE_RSP, sent, False))
    assert command.elements[0x0902] == b"disk?f?ll?" + b"x" * 54


def test_status_details():
    """S07: offending elements, comment, error id and attributes go with a response, in their places."""
    details = {
        "offending_elements": [0x00100010],
        "error_comment": "odd",
        "error_id": 5,
        "attributes": (0x00080018,),
    }
    data = encode(N_SET_RSP, {"message_id": 1, "status": 0x0107, **details}, False)
    expected = element(0x0901, b"\x10\0\x10\0") + element(0x0902, b"odd ") + us(0x0903, 5)
    assert data.endswith(us(0x0900, 0x0107) + expected + element(0x1005, b"\x08\0\x18\0"))


@pytest.mark.parametrize(
    ("message", "status", "has_data_set", "allowed"),
    [
        (C_STORE_RQ, None, False, False),
        (C_ECHO_RQ, None, True, False),
        (N_CREATE_RQ, None, True, True),
        (N_CREATE_RQ, None, False, True),
        (C_STORE_RSP, 0x0000, True, False),
        (C_FIND_RSP, 0xFF00, False, False),
        (C_FIND_RSP, 0xFF01, True, True),
        (C_FIND_RSP, 0x0000, True, False),
        (C_FIND_RSP, 0xFE00, False, True),
        (C_GET_RSP, 0xFF00, True, False),
        (C_GET_RSP, 0x0000, True, False),
        (C_GET_RSP, 0xB000, True, True),
        (C_GET_RSP, 0xA702, True, True),
        (C_GET_RSP, 0xFE00, True, True),
        (C_GET_RSP, 0xFE00, False, True),
        (N_GET_RSP, 0x0000, False, False),
        (N_GET_RSP, 0x0000, True, True),
        (N_GET_RSP, 0x0107, True, True),
        (N_GET_RSP, 0x0112, True, False),
        (BY_NAME["N-ACTION-RSP"], 0x0000, True, True),
        (BY_NAME["N-ACTION-RSP"], 0x0110, True, False),
    ],
    ids=lambda value: getattr(value, "name", value),
)  # fmt: skip
def test_data_set_where_it_belongs(message, status, has_data_set, allowed):
    values = values_for(message) | ({} if status is None else {"status": status})
    if allowed:
        assert decode(encode(message, values, has_data_set)).has_data_set is has_data_set
    else:
        with pytest.raises(LocalProtocolError, match="data set"):
            encode(message, values, has_data_set)
