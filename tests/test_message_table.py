"""The 23 messages against PS3.7 9.3 and 10.3, and the methods against LEADTOOLS' parameter orders.

`EXPECTED` is a copy of its own: command fields, tags and data sets out of the standard, parameters out of
LEADTOOLS' signatures.
"""

from __future__ import annotations

import inspect

import pytest

from dicomnet.callbacks import Callbacks, overridden
from dicomnet.enums import DicomCommandPriorityType, DicomCommandStatusType
from dicomnet.errors import LocalProtocolError, RemoteProtocolError
from dicomnet.messages import Messages, StatusDetails
from dicomnet.protocol.command_set import decode, encode
from dicomnet.protocol.message_table import BY_NAME, MESSAGES

# id, message, field, mandatory tags, optional tags, data set, method, parameters between context and data set
EXPECTED = """
X01 C-STORE-RQ         0001 0002,0110,0700,0800,1000 1030,1031           required   c_store_request   message_id,affected_class,instance,priority,move_ae,move_message_id
X02 C-STORE-RSP        8001 0120,0800,0900           0002,1000           none       c_store_response  message_id,affected_class,instance,status
X03 C-FIND-RQ          0020 0002,0110,0700,0800      -                   required   c_find_request    message_id,affected_class,priority
X04 C-FIND-RSP         8020 0120,0800,0900           0002                pending    c_find_response   message_id,affected_class,status
X05 C-GET-RQ           0010 0002,0110,0700,0800      -                   required   c_get_request     message_id,affected_class,priority
X06 C-GET-RSP          8010 0120,0800,0900           0002,1020,1021,1022,1023 incomplete c_get_response message_id,affected_class,status,remaining,completed,failed,warning
X07 C-MOVE-RQ          0021 0002,0110,0600,0700,0800 -                   required   c_move_request    message_id,affected_class,priority,move_ae
X08 C-MOVE-RSP         8021 0120,0800,0900           0002,1020,1021,1022,1023 incomplete c_move_response message_id,affected_class,status,remaining,completed,failed,warning
X09 C-ECHO-RQ          0030 0002,0110,0800           -                   none       c_echo_request    message_id,affected_class
X10 C-ECHO-RSP         8030 0120,0800,0900           0002                none       c_echo_response   message_id,affected_class,status
X11 C-CANCEL-RQ        0FFF 0120,0800                -                   none       c_cancel_request  message_id
X12 N-EVENT-REPORT-RQ  0100 0002,0110,0800,1000,1002 -                   optional   n_report_request  message_id,affected_class,instance,dicom_event
X13 N-EVENT-REPORT-RSP 8100 0120,0800,0900           0002,1000,1002      success    n_report_response message_id,affected_class,instance,status,dicom_event
X14 N-GET-RQ           0110 0003,0110,0800,1001      1005                none       n_get_request     message_id,affected_class,instance,attributes
X15 N-GET-RSP          8110 0120,0800,0900           0002,1000           result     n_get_response    message_id,affected_class,instance,status
X16 N-SET-RQ           0120 0003,0110,0800,1001      -                   required   n_set_request     message_id,affected_class,instance
X17 N-SET-RSP          8120 0120,0800,0900           0002,1000           optional   n_set_response    message_id,affected_class,instance,status
X18 N-ACTION-RQ        0130 0003,0110,0800,1001,1008 -                   optional   n_action_request  message_id,affected_class,instance,action
X19 N-ACTION-RSP       8130 0120,0800,0900           0002,1000,1008      success    n_action_response message_id,affected_class,instance,status,action
X20 N-CREATE-RQ        0140 0002,0110,0800           1000                optional   n_create_request  message_id,affected_class,instance
X21 N-CREATE-RSP       8140 0120,0800,0900           0002,1000           optional   n_create_response message_id,affected_class,instance,status
X22 N-DELETE-RQ        0150 0003,0110,0800,1001      -                   none       n_delete_request  message_id,affected_class,instance
X23 N-DELETE-RSP       8150 0120,0800,0900           0002,1000           none       n_delete_response message_id,affected_class,instance,status
"""  # noqa: E501
ROWS = [line.split() for line in EXPECTED.strip().splitlines()]
each_row = pytest.mark.parametrize(
    ("name", "field", "mandatory", "optional", "data_set", "method", "parameters"),
    [row[1:] for row in ROWS],
    ids=[f"{row[0]}-{row[1]}" for row in ROWS],
)

VRS = {
    0x0002: "UI", 0x0003: "UI", 0x0110: "US", 0x0120: "US", 0x0600: "AE", 0x0700: "US", 0x0900: "US",
    0x0901: "AT", 0x0902: "LO", 0x0903: "US", 0x1000: "UI", 0x1001: "UI", 0x1002: "US", 0x1005: "AT",
    0x1008: "US", 0x1020: "US", 0x1021: "US", 0x1022: "US", 0x1023: "US", 0x1030: "AE", 0x1031: "US",
}  # fmt: skip


def numbers(text: str) -> set[int]:
    return set() if text == "-" else {int(tag, 16) for tag in text.split(",")}


class Recorder(Messages):
    """Takes what the `send_*` methods hand down, and encodes it."""

    def _send_message(self, message, presentation_id, values, data_set):
        self.sent = message, presentation_id, data_set
        self.command = decode(encode(message, values, data_set is not None))


SAMPLES = {
    "message_id": 7, "affected_class": "1.2.3", "instance": "1.2.3.4", "move_ae": "STORE_SCP",
    "priority": DicomCommandPriorityType.HIGH, "move_message_id": 8, "remaining": 1, "completed": 2,
    "failed": 3, "warning": 4, "dicom_event": 5, "action": 6, "attributes": (0x00100010,),
}  # fmt: skip


def status_for(data_set: str) -> int:
    """A status that goes with a data set."""
    return {"pending": 0xFF00, "incomplete": 0xFE00}.get(data_set, 0x0000)


def test_there_are_23():
    assert len(MESSAGES) == len(BY_NAME) == len(ROWS) == 23
    assert [MESSAGES[field] for field in MESSAGES] == [BY_NAME[name] for name in BY_NAME]


@each_row
def test_elements(name, field, mandatory, optional, data_set, method, parameters):
    """X01-X23: command field, mandatory and optional elements, data set."""
    message = MESSAGES[int(field, 16)]
    assert message is BY_NAME[name]
    assert {one.tag for one in message.elements if one.required} == numbers(mandatory) - {0x0800}
    assert {one.tag for one in message.elements if not one.required} == numbers(optional)
    assert message.data_set == data_set
    assert all(one.vr == VRS[one.tag] for one in (*message.elements, *message.details))


@each_row
def test_what_is_sent(name, field, mandatory, optional, data_set, method, parameters):
    """X01-X23: what is on the wire is the mandatory elements, and the optional ones that were given."""
    message = BY_NAME[name]
    with_data_set = data_set not in ("none", "success")
    everything = SAMPLES | {"status": status_for(data_set)}
    full = {one.name: everything[one.name] for one in message.elements}
    least = {one.name: full[one.name] for one in message.elements if one.required}
    base = numbers(mandatory) | {0x0000, 0x0100}
    assert decode(encode(message, least, with_data_set)).elements.keys() == base
    assert decode(encode(message, full, with_data_set)).elements.keys() == base | numbers(optional)


@each_row
def test_parameter_order(name, field, mandatory, optional, data_set, method, parameters):
    """X01-X23: LEADTOOLS' parameters in LEADTOOLS' order, in the table, the method and the callback."""
    expected = ["presentation_id", *parameters.split(","), *(["data_set"] if data_set != "none" else [])]
    message = BY_NAME[name]
    assert list(message.parameters) == expected
    assert (message.send, message.callback) == (f"send_{method}", f"on_receive_{method}")
    callback = inspect.signature(getattr(Callbacks, message.callback))
    assert list(callback.parameters) == ["self", *expected]
    send = inspect.signature(getattr(Messages, message.send))
    positional = [one.name for one in send.parameters.values() if one.kind is one.POSITIONAL_OR_KEYWORD]
    extra = ["count"] if name == "N-GET-RQ" else []
    assert positional == ["self", *expected, *extra]
    assert ("details" in send.parameters) is not message.is_request


@each_row
def test_sent_arguments_arrive(name, field, mandatory, optional, data_set, method, parameters):
    """X01-X23: what is passed to `send_*` comes out in the callback's arguments, value by value."""
    names = parameters.split(",")
    values = [(SAMPLES | {"status": DicomCommandStatusType(status_for(data_set))})[one] for one in names]
    data = [] if data_set == "none" else ["a data set"]
    recorder = Recorder()
    getattr(recorder, f"send_{method}")(5, *values, *data)
    assert recorder.sent == (BY_NAME[name], 5, data[0] if data else None)
    assert recorder.command.message is BY_NAME[name]
    assert recorder.command.arguments() == tuple(values)
    assert recorder.command.has_data_set is bool(data)
    assert recorder.command.missing() == ()


def test_no_priority_in_dimse_n():
    """X24: DIMSE-N requests carry no priority; the C requests but C-ECHO and C-CANCEL do."""
    with_priority = {
        message.name for message in MESSAGES.values() if 0x0700 in {one.tag for one in message.elements}
    }
    assert with_priority == {"C-STORE-RQ", "C-FIND-RQ", "C-GET-RQ", "C-MOVE-RQ"}


def test_requested_and_affected_uids():
    """X25: Requested UIDs in four requests, Affected ones in their responses and everywhere else."""
    requested = {m.name for m in MESSAGES.values() if {0x0003, 0x1001} & {one.tag for one in m.elements}}
    assert requested == {"N-GET-RQ", "N-SET-RQ", "N-ACTION-RQ", "N-DELETE-RQ"}
    for name in requested:
        assert {0x0002, 0x1000} <= {one.tag for one in BY_NAME[name].response.elements}


def test_pending_services():
    """X26: C-FIND, C-GET and C-MOVE alone have pending responses and can be cancelled."""
    assert {m.name for m in MESSAGES.values() if m.cancellable} == {"C-FIND-RQ", "C-GET-RQ", "C-MOVE-RQ"}


def test_message_id_in_a_response_is_ignored():
    """X27: (0000,0110) in a response was allowed once; it means nothing."""
    sent = encode(BY_NAME["C-ECHO-RSP"], {"message_id": 7, "status": 0}, False)
    old = sent[12:22] + b"\0\0\x10\1\2\0\0\0\x63\0" + sent[22:]
    command = decode(old)
    assert command.elements[0x0110] == b"\x63\0"
    assert (command.message_id, command.responded_id, command.arguments()) == (0, 7, (7, "", 0))


@pytest.mark.parametrize(
    "message", [m for m in MESSAGES.values() if m.is_request], ids=lambda message: message.name
)
def test_missing_mandatory_element(message):
    """X28: each mandatory element of a request left out: named as missing, or refused, never a crash."""
    values = {one.name: SAMPLES[one.name] for one in message.elements}
    whole = decode(encode(message, values, message.data_set == "required"))
    assert whole.missing() == ()
    for element in message.elements:
        rest = {tag: raw for tag, raw in whole.elements.items() if tag != element.tag}
        data = b"".join(
            tag.to_bytes(4, "little")[2:]
            + tag.to_bytes(4, "little")[:2]
            + len(raw).to_bytes(4, "little")
            + raw
            for tag, raw in rest.items()
        )
        if element.tag in (0x0110, 0x0120):
            with pytest.raises(RemoteProtocolError):
                decode(data)
        else:
            command = decode(data)
            assert [one.name for one in command.missing()] == ([element.name] if element.required else [])
            assert len(command.arguments()) == len(message.elements)


# --- send_* beyond the table ----------------------------------------------------------------------------


def test_plain_store_has_no_move_originator():
    """X01: (0000,1030) and (0000,1031) go together, and only as part of a C-MOVE."""
    recorder = Recorder()
    recorder.send_c_store_request(1, 2, "1.2", "1.2.3", 0, "", 0, "file.dcm")
    assert not {0x1030, 0x1031} & recorder.command.elements.keys()
    recorder.send_c_store_request(1, 2, "1.2", "1.2.3", 0, "MOVER", 0, "file.dcm")
    assert recorder.command.value(0x1031) == 0


@pytest.mark.parametrize("method", ["send_c_get_response", "send_c_move_response"])
@pytest.mark.parametrize(
    ("status", "sent"), [(0xFF00, True), (0xFE00, True), (0x0000, False), (0xB000, False), (0xA702, False)]
)
def test_remaining_sub_operations(method, status, sent):
    """F08: no (0000,1020) with success, warning and failure; F06: all four with pending."""
    recorder = Recorder()
    getattr(recorder, method)(1, 2, "1.2", status, 0, 1, 2, 3, None)
    assert (0x1020 in recorder.command.elements) is sent
    assert [recorder.command.value(tag) for tag in (0x1021, 0x1022, 0x1023)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("count", "sent"), [(None, (1, 2, 3)), (3, (1, 2, 3)), (2, (1, 2)), (0, ()), (9, (1, 2, 3))]
)
def test_count_of_attributes(count, sent):
    """LEADTOOLS passes an array and how many of it count."""
    recorder = Recorder()
    recorder.send_n_get_request(1, 2, "1.2", "1.2.3", [1, 2, 3], count)
    assert recorder.command.arguments()[-1] == sent


def test_status_details_by_keyword():
    recorder = Recorder()
    recorder.send_c_store_response(1, 2, "1.2", "1.2.3", 0xA700, error_comment="disk full", error_id=28)
    assert (recorder.command.value(0x0902), recorder.command.value(0x0903)) == ("disk full", 28)
    assert {one.name for one in BY_NAME["C-STORE-RSP"].details} == StatusDetails.__annotations__.keys()
    with pytest.raises(TypeError, match="eror_comment"):
        recorder.send_c_store_response(1, 2, "1.2", "1.2.3", 0xA700, eror_comment="disk full")


def test_plain_numbers_for_enumerations():
    recorder = Recorder()
    recorder.send_c_find_request(1, 2, "1.2", 2, "query.dcm")
    assert recorder.command.arguments()[-1] is DicomCommandPriorityType.LOW
    recorder.send_c_echo_response(1, 2, "1.2", 0xB007)
    assert recorder.command.status == 0xB007


def test_required_data_set_is_not_none():
    with pytest.raises(LocalProtocolError, match="C-FIND-RQ needs a data set"):
        Recorder().send_c_find_request(1, 2, "1.2", 0, None)


# --- callbacks ------------------------------------------------------------------------------------------

LEADTOOLS_CALLBACKS = {
    "on_connect": "error",
    "on_secure_link_ready": "error",
    "on_accept": "error",
    "on_close": "error,net",
    "on_receive": "error,pdu_type,buffer,length",
    "on_send": "error,pdu_type,length",
    "on_receive_associate_request": "association",
    "on_receive_associate_accept": "association",
    "on_receive_associate_reject": "result,source,reason",
    "on_receive_release_request": "",
    "on_receive_release_response": "",
    "on_receive_abort": "source,reason",
    "on_receive_data": "presentation_id,command_set,data_set",
    "on_receive_unknown": "presentation_id,command_set,data_set",
    "on_before_send_command_set": "command_set",
    "on_private_key_password": "encryption",
    "on_verify": "ok,certificate_string,error",
}
OWN_CALLBACKS = {"on_data_set": "presentation_id,command", "on_private_key_password_for": "request"}


def test_every_callback_is_there_and_documented():
    names = {name for name in vars(Callbacks) if name.startswith("on_")}
    messages = {message.callback for message in MESSAGES.values()}
    assert len(LEADTOOLS_CALLBACKS) + len(messages) == 40
    assert names == LEADTOOLS_CALLBACKS.keys() | OWN_CALLBACKS.keys() | messages
    for name in names:
        assert "By default" in inspect.getdoc(getattr(Callbacks, name)), name


@pytest.mark.parametrize(("name", "parameters"), (LEADTOOLS_CALLBACKS | OWN_CALLBACKS).items())
def test_callback_parameters(name, parameters):
    signature = inspect.signature(getattr(Callbacks, name))
    assert list(signature.parameters) == ["self", *filter(None, parameters.split(","))]


def test_defaults_do_nothing():
    """`super()` in an override is harmless."""
    callbacks = Callbacks()
    for name in vars(Callbacks):
        if name.startswith("on_receive"):
            method = getattr(callbacks, name)
            assert method(*[None] * len(inspect.signature(method).parameters)) is None
    assert callbacks.on_private_key_password(False) is None
    assert callbacks.on_data_set(1, None) is None
    assert [callbacks.on_verify(ok, "", None) for ok in (0, 1)] == [0, 1]


def test_second_form_asks_the_first():
    class Client(Callbacks):
        def on_private_key_password(self, encryption):
            return f"secret {encryption}"

    assert Client().on_private_key_password_for(None) == "secret False"


def test_overridden():
    class Base(Callbacks):
        def on_accept(self, error):
            """An override anywhere in the MRO counts."""

    class Server(Base):
        on_receive_c_echo_request = lambda self, *args: None  # noqa: E731

    class Mixin:
        def on_close(self, error, net):
            """So does one from a mixin."""

    class Mixed(Mixin, Server):
        pass

    assert not overridden(Callbacks, "on_accept")
    assert overridden(Base, "on_accept")
    assert not overridden(Base, "on_receive_c_echo_request")
    assert overridden(Server, "on_accept")
    assert overridden(Server, "on_receive_c_echo_request")
    assert [overridden(Mixed, name) for name in ("on_close", "on_accept", "on_connect")] == [
        True,
        True,
        False,
    ]
    assert not overridden(Server, "on_close")
