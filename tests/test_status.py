"""Status codes against PS3.7 annex C: rules S01 to S03, and S04 to S06 of PS3.4."""

from __future__ import annotations

import pytest

from dicomnet.enums import DicomCommandStatusType
from dicomnet.protocol.message_table import MESSAGES
from dicomnet.protocol.status import ALLOWED, allowed, category, describe, first_allowed, is_pending


@pytest.mark.parametrize(
    ("kind", "codes"),
    {
        "success": [0x0000],
        "warning": [0x0001, 0x0107, 0x0116, 0xB000, 0xB006, 0xB007, 0xBFFF],
        "failure": [
            0x0100,
            0x0110,
            0x0122,
            0x01FF,
            0x0211,
            0x02FF,
            0xA000,
            0xA700,
            0xA900,
            0xAFFF,
            0xC000,
            0xCFFF,
        ],
        "cancel": [0xFE00],
        "pending": [0xFF00, 0xFF01],
    }.items(),
)
def test_classes(kind, codes):
    """S01: each class of the table, with the borders of its ranges."""
    assert {category(code) for code in codes} == {kind}


@pytest.mark.parametrize("code", [0x0002, 0x00FF, 0x0300, 0x9FFF, 0xD000, 0xFDFF, 0xFE01, 0xFF02, 0xFFFF])
def test_codes_outside_the_table(code):
    """S01: an unknown code counts as failure, and its number is kept."""
    assert category(code) == "failure"
    assert int(DicomCommandStatusType(code)) == code
    assert describe(code).startswith(f"{code:04X}H ")


def test_every_code_has_one_class():
    """S01: no number is without a class, and no number but FF00 and FF01 keeps an operation open (X26)."""
    kinds = [category(code) for code in range(0x10000)]
    assert kinds.count("success") == 1
    assert kinds.count("cancel") == 1
    assert kinds.count("warning") == 3 + 0x1000
    assert [code for code in range(0x10000) if is_pending(code)] == [0xFF00, 0xFF01]
    assert kinds.count("pending") == 2
    assert category(None) == "failure"


@pytest.mark.parametrize(
    ("code", "text"),
    {
        0x0105: "no such attribute",
        0x0106: "invalid attribute value",
        0x0107: "attribute list error (warning)",
        0x0110: "processing failure",
        0x0111: "duplicate SOP instance",
        0x0112: "no such SOP instance",
        0x0113: "no such event type",
        0x0114: "no such argument",
        0x0115: "invalid argument value",
        0x0116: "attribute value out of range (warning)",
        0x0117: "invalid SOP instance UID",
        0x0118: "no such SOP class",
        0x0119: "class-instance conflict",
        0x0120: "missing attribute (failure)",
        0x0121: "missing attribute value",
        0x0122: "SOP class not supported",
        0x0123: "no such action type",
        0x0124: "not authorized",
        0x0210: "duplicate invocation",
        0x0211: "unrecognized operation",
        0x0212: "mistyped argument",
        0x0213: "resource limitation",
    }.items(),
)
def test_general_codes(code, text):
    """S02: what the general codes mean; an enumeration member says the same as its number."""
    assert describe(code).startswith(f"{code:04X}H {text}")
    assert describe(DicomCommandStatusType(code)) == describe(code)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0x0000, "0000H success"),
        (0xFF00, "FF00H pending"),
        (0xFE00, "FE00H cancel"),
        (0xA7F1, "A7F1H out of resources (failure)"),
        (0xA9AA, "A9AAH data set or identifier does not match the SOP class (failure)"),
        (0xA801, "A801H move destination unknown (failure)"),
        (0xC123, "C123H unable to process (failure)"),
        (0xB007, "B007H data set does not match the SOP class (warning)"),
        (0x0300, "0300H unknown status (failure)"),
    ],
)
def test_service_class_codes(code, text):
    """S04-S06: what PS3.4 adds, ranges included; the class is said once."""
    assert describe(code) == text


# Written out service by service, as annex C and the service descriptions of the 2020 edition have them.
SERVICES = {
    0x0001: "0122 0210 0117 0212 0211 0124",
    0x0020: "0122 FE00 FF00 FF01",
    0x0010: "0122 0210 0212 0211 0124 FE00 FF00 FF01",
    0x0021: "0122 0210 0212 0211 0124 FE00 FF00 FF01",
    0x0030: "0122 0210 0212 0211",
    0x0100: "0119 0210 0115 0117 0212 0114 0113 0118 0112 0110 0213 0211",
    0x0110: "0107 0119 0210 0117 0212 0118 0112 0110 0213 0211 0124",
    0x0120: "0119 0210 0106 0116 0212 0117 0121 0105 0107 0118 0112 0110 0213 0211 0124",
    0x0130: "0119 0210 0115 0117 0212 0123 0114 0118 0112 0110 0213 0211 0124",
    0x0140: "0210 0111 0106 0116 0117 0120 0121 0212 0105 0107 0118 0110 0213 0211 0124",
    0x0150: "0119 0210 0117 0212 0118 0112 0110 0213 0211 0124",
}


@pytest.mark.parametrize("field", SERVICES, ids=lambda field: MESSAGES[field].name)
def test_codes_of_each_service(field):
    """S03: the general codes that each service may answer with."""
    expected = {0x0000} | {int(code, 16) for code in SERVICES[field].split()}
    assert ALLOWED[field] == expected
    general = [code for code in range(0x10000) if code >> 12 not in (0xA, 0xB, 0xC)]
    assert {code for code in general if allowed(field, code)} == expected


def test_service_class_codes_are_allowed():
    """S03: Axxx, Bxxx and Cxxx belong to the service class; C-ECHO has none."""
    for field in SERVICES:
        assert allowed(field, 0xC000) is (field != 0x0030)
        assert allowed(field, 0xA700) is (field != 0x0030)
    assert not allowed(0x8001, 0x0000)


def test_every_request_is_listed():
    """S03: all services but C-CANCEL, which has no status."""
    requests = {message.command_field for message in MESSAGES.values() if message.response is not None}
    assert ALLOWED.keys() == requests == SERVICES.keys()


def test_first_allowed():
    """S03: "SOP class not supported" is 0122H in the C services and 0118H in the N services."""
    assert first_allowed(0x0001, 0x0122, 0x0118) == 0x0122
    assert first_allowed(0x0130, 0x0122, 0x0118) == 0x0118
    assert first_allowed(0x0001, 0x0110, 0xC001) == 0xC001
    assert first_allowed(0x0030, 0x0110, 0xC001, 0x0110) == 0x0110
