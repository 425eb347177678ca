"""Properties of the command set codec: hostile bytes are refused in one way, and encoding loses nothing."""

# ruff: noqa: PT017 - most of what is drawn raises nothing, so `pytest.raises` does not fit

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from dicomnet.errors import LocalProtocolError, RemoteProtocolError
from dicomnet.protocol.command_set import decode, encode
from dicomnet.protocol.message_table import MESSAGES
from dicomnet.protocol.status import category, describe

NUMBERS = st.integers(0, 0xFFFF)
TAGS = st.integers(0, 0xFFFFFFFF)
PRINTABLE = st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="\\")
VALUES = {
    "UI": st.text(PRINTABLE, min_size=1, max_size=64),
    "AE": st.text(PRINTABLE, min_size=1, max_size=16),
    "US": NUMBERS,
    "AT": st.lists(TAGS, min_size=1, max_size=20).map(tuple),
    "LO": st.text(PRINTABLE, min_size=1, max_size=64),
}
KNOWN = sorted(
    {one.tag for m in MESSAGES.values() for one in (*m.elements, *m.details)} | {0x0000, 0x0100, 0x0800}
)
FIELDS = st.sampled_from([*MESSAGES, 0x0000, 0x0002, 0x8FFF])


def pack(tag: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, tag, len(value)) + value


@st.composite
def messages(draw):
    """A message, values for some or all of its elements, and whether it is to have a data set."""
    message = draw(st.sampled_from(list(MESSAGES.values())))
    values = {
        one.name: draw(VALUES[one.vr])
        for one in (*message.elements, *message.details)
        if one.required or draw(st.booleans())
    }
    return message, values, draw(st.booleans())


@st.composite
def plausible(draw):
    """Elements of a real message with values of wrong form, so that decoding gets past its first checks."""
    elements = draw(st.dictionaries(st.sampled_from(KNOWN), st.binary(max_size=12)))
    frame = {0x0100: draw(FIELDS), 0x0110: draw(NUMBERS), 0x0120: draw(NUMBERS), 0x0800: draw(NUMBERS)}
    elements |= {tag: struct.pack("<H", number) for tag, number in frame.items()}
    return b"".join(pack(tag, value) for tag, value in elements.items())


def use(data: bytes) -> None:
    """Do with a command set all that the library does with it."""
    try:
        command = decode(data)
    except RemoteProtocolError as error:
        assert (error.abort_source, error.abort_reason) == (2, 6)
        assert str(error).isascii()
        return
    assert 0 <= command.field <= 0xFFFF
    arguments = command.arguments()
    message = command.message
    assert len(arguments) == (0 if message is None else len(message.elements))
    for value, element in zip(arguments, () if message is None else message.elements, strict=True):
        assert isinstance(value, {"UI": str, "AE": str, "US": int, "AT": tuple}[element.vr])
    command.missing()
    for tag in command.elements:
        command.value(tag)
    assert repr(command).isascii()
    if command.status is not None:
        category(command.status)
        describe(command.status)


@given(st.binary(max_size=300))
def test_any_bytes(data):
    """Nothing but `RemoteProtocolError` for bytes of any kind."""
    use(data)


@given(st.lists(st.tuples(st.sampled_from(KNOWN), st.binary(max_size=70)), max_size=12))
def test_any_elements(elements):
    """Nothing but `RemoteProtocolError` for well-formed elements with any values, order and repetition."""
    use(b"".join(pack(tag, value) for tag, value in elements))


@given(plausible())
def test_wrong_values(data):
    """X28: values that don't fit their VR never raise once the message is recognized."""
    use(data)
    decode(data)


@given(messages(), st.data())
def test_damaged_messages(drawn, data):
    """Nothing but `RemoteProtocolError` for a real message with a byte changed or its end cut off."""
    message, values, has_data_set = drawn
    try:
        raw = bytearray(encode(message, values, has_data_set))
    except LocalProtocolError:
        return
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] = data.draw(st.integers(0, 255))
    use(bytes(raw))
    use(bytes(raw[:place]))


@given(messages())
def test_what_is_encoded_comes_back(drawn):
    """decode(encode(x)) == x, for every message with any of its optional elements."""
    message, values, has_data_set = drawn
    try:
        raw = encode(message, values, has_data_set)
    except LocalProtocolError as error:
        assert "data set" in str(error)
        return
    command = decode(raw)
    assert command.message is message
    assert command.has_data_set is has_data_set
    decoded = {one.name: command.value(one.tag) for one in (*message.elements, *message.details)}
    assert {name: value for name, value in decoded.items() if value is not None} == values
    assert command.missing() == ()


@given(st.sampled_from(list(MESSAGES.values())), st.data())
def test_any_values_to_encode(message, data):
    """Nothing but `LocalProtocolError` for values of any kind, and what is encoded can be decoded."""
    anything = st.one_of(
        st.none(),
        st.text(max_size=70),
        st.integers(),
        st.floats(),
        st.binary(max_size=5),
        st.lists(st.integers()),
    )
    values = {one.name: data.draw(anything) for one in (*message.elements, *message.details)}
    try:
        raw = encode(message, values, data.draw(st.booleans()))
    except LocalProtocolError as error:
        assert str(error).isascii()
        return
    assert decode(raw).message is message
