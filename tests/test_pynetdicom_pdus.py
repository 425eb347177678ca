"""PDUs and items that pynetdicom's own tests are made of: decoded, encoded again, and equal byte for byte.

They are read from the installed package. Each deliberate difference is named with its reason.
"""

from __future__ import annotations

from struct import pack
from typing import TYPE_CHECKING

import pytest

from dicomnet.errors import LocalProtocolError
from dicomnet.protocol import items, pdu
from dicomnet.settings import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

encoded = pytest.importorskip("pynetdicom.tests.encoded_pdu_items")

LIMITS = Limits()
DATA = {name: value for name, value in vars(encoded).items() if isinstance(value, bytes)}
PDUS = [name for name in DATA if name.startswith(("a_", "p_data_tf"))]
ITEMS = [name for name in DATA if name not in PDUS]

# Understood, but we do not send the like.
REFUSED = {
    "a_associate_rq_called": "blank called AE title (A04)",
    "a_associate_rq_calling": "blank calling AE title (A04)",
    "application_context_empty": "empty UID (P15)",
    "implementation_class_uid_empty": "empty UID (P15)",
    "implementation_version_name_empty": "empty name (U02)",
    "presentation_context_rq_utf8": "UID with zero-width spaces in UTF-8 (P15)",
}
# Understood and sent again with what the standard wants in the place of what was there.
CHANGED = {
    "a_associate_ac_no_ts": "a rejected context without transfer syntax gets an empty one (A18)",
    "a_associate_ac_user": "its PDU length is too short for what follows (P02)",
    "a_associate_rq_user_id_user_pass": "a reserved byte of a context is FFH (P03)",
}

FIXED = bytes.fromhex("0001 0000") + b"A".ljust(16) + b"B".ljust(16) + bytes(32)


def sub(kind: int, body: bytes) -> bytes:
    return pack(">BBH", kind, 0, len(body)) + body


def decode(name: str) -> pdu.Pdu:
    return pdu.decode(DATA[name][0], DATA[name][6:], LIMITS)


def frame(item: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield kind and body of a PDU that has this item, or PDV, at its place and is otherwise sound."""
    application, uid = sub(0x10, b"1.2.3"), b"1.2.840.10008.1.2"
    abstract, transfer = sub(0x30, uid), sub(0x40, uid)
    context, user = sub(0x20, bytes([1, 0, 0, 0]) + abstract + transfer), sub(0x50, b"")
    kind = item[0]
    if kind in (0x00, 0x03):  # a PDV, with and without its length and context id
        yield 0x04, item if kind == 0x00 else pack(">LB", len(item) + 1, 1) + item
        return
    if kind == 0x10:
        application = item
    elif kind in (0x20, 0x21):
        context = item
    elif kind == 0x30:
        context = sub(0x20, bytes([1, 0, 0, 0]) + item + transfer)
    elif kind == 0x40:
        context = sub(0x20, bytes([1, 0, 0, 0]) + abstract + item)
    else:
        user = item if kind == 0x50 else sub(0x50, item)
    yield 0x02 if kind == 0x21 else 0x01, FIXED + application + context + user


def test_all_of_them_are_there_and_every_exception_is_used():
    assert len(DATA) == 43
    assert set(REFUSED) | set(CHANGED) <= set(DATA)
    assert not set(REFUSED) & set(CHANGED)


@pytest.mark.parametrize("name", PDUS)
def test_pdu(name):
    decoded = decode(name)
    if name in REFUSED:
        with pytest.raises(LocalProtocolError):
            decoded.encode()
        return
    again = decoded.encode()
    assert (again == DATA[name]) == (name not in CHANGED)
    assert pdu.decode(again[0], again[6:], LIMITS) == decoded


@pytest.mark.parametrize("name", ITEMS)
def test_item_or_pdv(name):
    for kind, body in frame(DATA[name]):
        decoded = pdu.decode(kind, body, LIMITS)
        if name in REFUSED:
            with pytest.raises(LocalProtocolError):
                decoded.encode()
            continue
        assert decoded.encode()[6:] == body


def test_changed_where_and_how():
    original, again = (
        DATA["a_associate_rq_user_id_user_pass"],
        decode("a_associate_rq_user_id_user_pass").encode(),
    )
    assert [(a, b) for a, b in zip(original, again, strict=True) if a != b] == [(0xFF, 0)]
    original, again = DATA["a_associate_ac_user"], decode("a_associate_ac_user").encode()
    assert original[6:] == again[6:]
    original, again = DATA["a_associate_ac_no_ts"], decode("a_associate_ac_no_ts").encode()
    assert len(again) == len(original) + 4


def test_what_the_values_are():
    request = decode("a_associate_rq_user_id_ext_neg")
    assert isinstance(request, pdu.AssociateRq)
    assert (request.called, request.calling) == ("ANY-SCP", "ECHOSCU")
    assert [context.id for context in request.contexts] == [1, 3, 5]
    information = request.user_information
    assert information.first(items.MaximumLength) == items.MaximumLength(16382)
    assert information.first(items.AsynchronousOperationsWindow) == items.AsynchronousOperationsWindow(5, 5)
    assert information.first(items.UserIdentityRequest) == items.UserIdentityRequest(1, True, b"pynetdicom")
    assert [item.info for item in information.all(items.SopClassExtendedNegotiation)] == [b"\2\0\3\0\1\0"] * 2

    answer = decode("a_associate_ac_zero_ts")
    assert isinstance(answer, pdu.AssociateAc)
    assert answer.contexts == (
        items.PresentationContextAc(1, 0, "1.2.840.10008.1.2.1"),
        items.PresentationContextAc(3, 3, ""),
    )
    common = decode("a_associate_rq_com_ext_neg")
    assert isinstance(common, pdu.AssociateAc)
    assert common.user_information.first(items.SopClassCommonExtendedNegotiation) == (
        items.SopClassCommonExtendedNegotiation(
            "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.4.2", ("1.2.840.10008.5.1.4.1.1.88.22",)
        )
    )
    assert decode("a_p_abort") == pdu.Abort(2, 4)
    assert decode("a_associate_rj") == pdu.AssociateRj(1, 1, 1)
