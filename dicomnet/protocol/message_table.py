"""The 23 DIMSE messages as one table (PS3.7 9.3 and 10.3).

`send_*`, dispatch to the callbacks, the command codec, its checks and the dump all read this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "BY_NAME",
    "C_CANCEL_RQ",
    "C_ECHO_RQ",
    "C_ECHO_RSP",
    "C_FIND_RQ",
    "C_FIND_RSP",
    "C_GET_RQ",
    "C_GET_RSP",
    "C_MOVE_RQ",
    "C_MOVE_RSP",
    "C_STORE_RQ",
    "C_STORE_RSP",
    "DATA_SET",
    "DETAILS",
    "MESSAGES",
    "N_ACTION_RQ",
    "N_ACTION_RSP",
    "N_CREATE_RQ",
    "N_CREATE_RSP",
    "N_DELETE_RQ",
    "N_DELETE_RSP",
    "N_EVENT_REPORT_RQ",
    "N_EVENT_REPORT_RSP",
    "N_GET_RQ",
    "N_GET_RSP",
    "N_SET_RQ",
    "N_SET_RSP",
    "DataSetRule",
    "Element",
    "Message",
]

DataSetRule = Literal["required", "optional", "none", "pending", "incomplete", "success", "result"]
"""When a message carries a data set: always, by choice, never; exactly with a pending status; possibly
with cancel, failure and warning ("incomplete": the failed instances); possibly with success; always with
success and possibly with a warning ("result")."""


@dataclass(frozen=True, eq=False)
class Element:
    """One command element as a parameter: LEADTOOLS' name, tag, VR, and whether the message must have it."""

    name: str
    tag: int
    vr: str
    required: bool


@dataclass(frozen=True, eq=False)
class Message:
    """One DIMSE message.

    `elements` are the parameters in LEADTOOLS' order, without the presentation context id before them and
    the data set after them; the elements that the codec adds itself are not among them: (0000,0000),
    (0000,0100) and (0000,0800). `details` are the optional elements of a response for which LEADTOOLS has
    no parameter. `send` and `callback` are the names of the two methods.
    """

    name: str
    command_field: int
    elements: tuple[Element, ...]
    details: tuple[Element, ...]
    data_set: DataSetRule
    send: str
    callback: str

    @cached_property
    def is_request(self) -> bool:
        """True for the requests, C-CANCEL-RQ among them; it is the one that gets no response."""
        return not self.command_field & 0x8000

    @property
    def response(self) -> Message | None:
        """The message that answers this one: None for C-CANCEL-RQ and for a response."""
        return MESSAGES.get(self.command_field | 0x8000) if self.is_request else None

    @cached_property
    def cancellable(self) -> bool:
        """True for the requests that have pending responses and can be cancelled (PS3.7 7.5-2)."""
        return self.command_field in (0x0010, 0x0020, 0x0021)

    @cached_property
    def has_data_set_parameter(self) -> bool:
        """True if `data_set` is the last parameter of both methods."""
        return self.data_set != "none"

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """The parameters of both methods in LEADTOOLS' order (`send_n_get_request` has `count` too)."""
        names = ("presentation_id", *(element.name for element in self.elements))
        return (*names, "data_set") if self.has_data_set_parameter else names


_ELEMENTS = {  # tag: name and VR (PS3.7 E.1-1); a service uses one of the tags that share a name
    0x0002: ("affected_class", "UI"),
    0x0003: ("affected_class", "UI"),  # Requested SOP Class UID
    0x0110: ("message_id", "US"),
    0x0120: ("message_id", "US"),  # Message ID Being Responded To
    0x0600: ("move_ae", "AE"),  # Move Destination
    0x0700: ("priority", "US"),
    0x0800: ("data_set", "US"),  # Command Data Set Type
    0x0900: ("status", "US"),
    0x0901: ("offending_elements", "AT"),
    0x0902: ("error_comment", "LO"),
    0x0903: ("error_id", "US"),
    0x1000: ("instance", "UI"),
    0x1001: ("instance", "UI"),  # Requested SOP Instance UID
    0x1002: ("dicom_event", "US"),
    0x1005: ("attributes", "AT"),
    0x1008: ("action", "US"),
    0x1020: ("remaining", "US"),
    0x1021: ("completed", "US"),
    0x1022: ("failed", "US"),
    0x1023: ("warning", "US"),
    0x1030: ("move_ae", "AE"),  # Move Originator
    0x1031: ("move_message_id", "US"),
}


def _elements(tags: str) -> tuple[Element, ...]:
    """Make the elements of "0120 0900 1000?"; the question mark stands for optional or conditional."""
    pairs = ((int(tag.rstrip("?"), 16), not tag.endswith("?")) for tag in tags.split())
    return tuple(Element(_ELEMENTS[tag][0], tag, _ELEMENTS[tag][1], required) for tag, required in pairs)


DETAILS = _elements("0901? 0902? 0903? 1005?")
"""What a response may say about its status (PS3.7 C): offending elements, comment, error id, attributes."""

(DATA_SET,) = _elements("0800")
"""Stands for the data set itself where it is missing."""


_messages: dict[int, Message] = {}


def _message(name: str, command_field: int, tags: str, data_set: DataSetRule) -> Message:
    method = name.lower().replace("event-report", "report").replace("-", "_")
    method = method.removesuffix("_rq") + "_request" if method.endswith("_rq") else f"{method[:-4]}_response"
    details = DETAILS if command_field & 0x8000 else ()
    names = f"send_{method}", f"on_receive_{method}"
    _messages[command_field] = Message(name, command_field, _elements(tags), details, data_set, *names)
    return _messages[command_field]


C_STORE_RQ = _message("C-STORE-RQ", 0x0001, "0110 0002 1000 0700 1030? 1031?", "required")
C_STORE_RSP = _message("C-STORE-RSP", 0x8001, "0120 0002? 1000? 0900", "none")
C_GET_RQ = _message("C-GET-RQ", 0x0010, "0110 0002 0700", "required")
C_GET_RSP = _message("C-GET-RSP", 0x8010, "0120 0002? 0900 1020? 1021? 1022? 1023?", "incomplete")
C_FIND_RQ = _message("C-FIND-RQ", 0x0020, "0110 0002 0700", "required")
C_FIND_RSP = _message("C-FIND-RSP", 0x8020, "0120 0002? 0900", "pending")
C_MOVE_RQ = _message("C-MOVE-RQ", 0x0021, "0110 0002 0700 0600", "required")
C_MOVE_RSP = _message("C-MOVE-RSP", 0x8021, "0120 0002? 0900 1020? 1021? 1022? 1023?", "incomplete")
C_ECHO_RQ = _message("C-ECHO-RQ", 0x0030, "0110 0002", "none")
C_ECHO_RSP = _message("C-ECHO-RSP", 0x8030, "0120 0002? 0900", "none")
C_CANCEL_RQ = _message("C-CANCEL-RQ", 0x0FFF, "0120", "none")
N_EVENT_REPORT_RQ = _message("N-EVENT-REPORT-RQ", 0x0100, "0110 0002 1000 1002", "optional")
N_EVENT_REPORT_RSP = _message("N-EVENT-REPORT-RSP", 0x8100, "0120 0002? 1000? 0900 1002?", "success")
N_GET_RQ = _message("N-GET-RQ", 0x0110, "0110 0003 1001 1005?", "none")
N_GET_RSP = _message("N-GET-RSP", 0x8110, "0120 0002? 1000? 0900", "result")
N_SET_RQ = _message("N-SET-RQ", 0x0120, "0110 0003 1001", "required")
N_SET_RSP = _message("N-SET-RSP", 0x8120, "0120 0002? 1000? 0900", "optional")
N_ACTION_RQ = _message("N-ACTION-RQ", 0x0130, "0110 0003 1001 1008", "optional")
N_ACTION_RSP = _message("N-ACTION-RSP", 0x8130, "0120 0002? 1000? 0900 1008?", "success")
N_CREATE_RQ = _message("N-CREATE-RQ", 0x0140, "0110 0002 1000?", "optional")
N_CREATE_RSP = _message("N-CREATE-RSP", 0x8140, "0120 0002? 1000? 0900", "optional")
N_DELETE_RQ = _message("N-DELETE-RQ", 0x0150, "0110 0003 1001", "none")
N_DELETE_RSP = _message("N-DELETE-RSP", 0x8150, "0120 0002? 1000? 0900", "none")

MESSAGES: Mapping[int, Message] = MappingProxyType(_messages)
"""The messages by command field (0000,0100)."""

BY_NAME: Mapping[str, Message] = MappingProxyType({message.name: message for message in _messages.values()})
"""The messages by name: "C-STORE-RQ", ..."""
