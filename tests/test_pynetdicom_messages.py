"""Command sets that another implementation encoded: those of pynetdicom's own test suite.

They are read out of the installed package, decoded here and by pydicom, compared element by element, and
encoded again.
"""

from __future__ import annotations

from io import BytesIO

import pytest
from pydicom.filereader import read_dataset
from pynetdicom.tests import encoded_dimse_msg, encoded_dimse_n_msg

from dicomnet.errors import LocalProtocolError
from dicomnet.protocol.command_set import decode, encode

ENCODED = {
    name: value
    for module in (encoded_dimse_msg, encoded_dimse_n_msg)
    for name, value in vars(module).items()
    if isinstance(value, bytes)
}
# Each begins with the message control header of its PDV (PS3.8 E.2): bit 0 tells a command set.
COMMANDS = {name: value[1:] for name, value in ENCODED.items() if value[0] & 1}
DATA_SETS = {name: value[1:] for name, value in ENCODED.items() if not value[0] & 1}

# What `encode` does not make, on purpose; everything else comes back byte for byte.
REFUSED = {
    "c_get_rsp_cmd": "pending with a data set: PS3.4 C.4.3.1.3.2 has none in pending responses",
    "c_move_rsp_cmd": "pending with a data set",
    "c_move_rsp_cmd_with_dup": "pending with a data set; two values in each count; a wrong group length",
    "n_set_rq_cmd_empty": "Requested SOP Class and Instance UID are empty, and there is no data set",
}
DIFFERENT = {
    "n_create_rq_cmd_empty": "the empty Affected SOP Instance UID is left out instead of sent empty",
}
# Where pydicom returns a list because the element has more values than it may have.
FIRST_OF_SEVERAL = {"c_move_rsp_cmd_with_dup"}

each_command = pytest.mark.parametrize("name", COMMANDS)


def test_all_of_them_are_there():
    assert len(ENCODED) == 43
    assert (len(COMMANDS), len(DATA_SETS)) == (26, 17)
    assert REFUSED.keys() | DIFFERENT.keys() <= COMMANDS.keys()


def as_here(value):
    """A value of pydicom's in the form that `Command.value` gives it."""
    if value is None or value == "":
        return None
    return tuple(map(int, value)) if isinstance(value, list) or hasattr(value, "append") else value


@each_command
def test_same_as_pydicom(name):
    """Each element has the value that pydicom's Implicit VR Little Endian reader finds."""
    expected = read_dataset(BytesIO(COMMANDS[name]), True, True)
    command = decode(COMMANDS[name])
    assert command.message.command_field == expected.CommandField
    assert command.elements.keys() == {int(element.tag) for element in expected}
    for element in expected:
        tag, there = int(element.tag), as_here(element.value)
        if tag == 0x0000:
            assert int.from_bytes(command.elements[tag], "little") == there
            continue
        here = command.value(tag)
        if element.VR == "AT":
            here = here if len(here) > 1 else here[0]
        elif name in FIRST_OF_SEVERAL and isinstance(there, tuple):
            there = there[0]
        assert here == there, element
    assert command.has_data_set is (expected.CommandDataSetType != 0x0101)
    assert command.status == expected.get("Status")
    assert command.message_id == expected.get("MessageID", 0)
    assert command.responded_id == expected.get("MessageIDBeingRespondedTo", 0)


@each_command
def test_encoded_again(name):
    """What was decoded is encoded to the same bytes, but for the exceptions named above."""
    command = decode(COMMANDS[name])
    elements = (*command.message.elements, *command.message.details)
    values = {one.name: command.value(one.tag) for one in elements}
    if name in REFUSED:
        with pytest.raises(LocalProtocolError):
            encode(command.message, values, command.has_data_set)
        return
    again = encode(command.message, values, command.has_data_set)
    if name in DIFFERENT:
        assert again != COMMANDS[name]
        assert decode(again).arguments() == command.arguments()
    else:
        assert again == COMMANDS[name]


@pytest.mark.parametrize("name", set(COMMANDS) - {"n_set_rq_cmd_empty"})
def test_nothing_is_missing(name):
    assert decode(COMMANDS[name]).missing() == ()


def test_what_the_empty_one_lacks():
    """X28: the empty N-SET request is recognized, and what it lacks is named."""
    missing = [element.name for element in decode(COMMANDS["n_set_rq_cmd_empty"]).missing()]
    assert missing == ["affected_class", "instance", "data_set"]


@pytest.mark.parametrize("name", DATA_SETS)
def test_data_set_was_announced(name):
    """C08: each data set among them belongs to a command set that says it follows."""
    command = "c_store_rq_cmd" if name == "c_store_ds" else name.replace("_ds", "_cmd")
    assert decode(COMMANDS[command]).has_data_set
