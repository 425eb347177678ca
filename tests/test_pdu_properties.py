"""Properties of the PDU codec: what we send is understood, and nothing that arrives breaks it."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dicomnet.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from dicomnet.protocol import items, pdu, wire
from dicomnet.settings import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

LIMITS = Limits()

uids = (
    st.lists(st.integers(0, 10**20), min_size=1, max_size=10)
    .map(lambda numbers: ".".join(map(str, numbers)))
    .filter(wire.is_valid_uid)
)
printable = [chr(code) for code in range(0x20, 0x7F)]
titles = (
    st.text(st.sampled_from([c for c in printable if c != "\\"]), min_size=1, max_size=16)
    .filter(lambda title: title.strip())
    .map(lambda title: title.strip())
)
names = st.text(st.sampled_from(printable), min_size=1, max_size=16).filter(
    lambda name: not name.endswith(" ")
)
u8, u16, u32 = st.integers(0, 0xFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
roles = st.integers(0, 1)
blobs = st.binary(max_size=40)

identities = st.one_of(
    st.builds(items.UserIdentityRequest, st.sampled_from([1, 3, 4, 5]), st.booleans(), blobs),
    st.builds(items.UserIdentityRequest, st.just(2), st.booleans(), blobs, blobs),
)
sub_items = st.one_of(
    st.builds(items.MaximumLength, u32),
    st.builds(items.ImplementationClassUid, uids),
    st.builds(items.AsynchronousOperationsWindow, u16, u16),
    st.builds(items.RoleSelection, uids, roles, roles),
    st.builds(items.ImplementationVersionName, names),
    st.builds(items.SopClassExtendedNegotiation, uids, blobs),
    st.builds(items.SopClassCommonExtendedNegotiation, uids, uids, st.lists(uids, max_size=4).map(tuple)),
    identities,
    st.builds(items.UserIdentityResponse, blobs),
    st.builds(items.UnknownItem, st.integers(0x5A, 0xFF), blobs),
)
information = st.lists(sub_items, max_size=6).map(lambda found: items.UserInformation(tuple(found)))
context_ids = st.integers(0, 127).map(lambda n: 2 * n + 1)


def contexts(one: st.SearchStrategy, least: int) -> st.SearchStrategy:
    found = st.lists(one, min_size=least, max_size=6, unique_by=lambda context: context.id)
    return found.map(tuple)


requested = st.builds(
    items.PresentationContextRq, context_ids, uids, st.lists(uids, min_size=1, max_size=4).map(tuple)
)
answered = st.one_of(
    st.builds(items.PresentationContextAc, context_ids, st.just(0), uids),
    st.builds(items.PresentationContextAc, context_ids, st.integers(1, 4), st.one_of(st.just(""), uids)),
)
requests = st.builds(
    pdu.AssociateRq,
    titles,
    titles,
    uids,
    contexts(requested, 1),
    information,
    u16,
    st.binary(min_size=32, max_size=32),
)
raw_title = st.binary(min_size=16, max_size=16)
answers = st.builds(
    pdu.AssociateAc,
    raw_title,
    raw_title,
    uids,
    contexts(answered, 0),
    information,
    u16,
    st.binary(min_size=32, max_size=32),
)
pdvs = st.builds(pdu.Pdv, u8, st.booleans(), st.booleans(), blobs)
values = st.one_of(
    requests,
    answers,
    st.builds(pdu.AssociateRj, u8, u8, u8),
    st.just(pdu.ReleaseRq()),
    st.just(pdu.ReleaseRp()),
    st.builds(pdu.Abort, u8, u8),
    st.builds(pdu.PDataTf, st.lists(pdvs, min_size=1, max_size=4).map(tuple)),
)


def attempt(call: Callable[[], Any], allowed: type[ProtocolError]) -> Any:
    """Return what the call returns, or the one kind of error that it may raise."""
    try:
        return call()
    except allowed as error:
        return error


def understood_or_refused(kind: int, body: bytes) -> None:
    """Decode anything: a protocol error of the peer, or a value that is stable from then on."""
    value = attempt(lambda: pdu.decode(kind, body, LIMITS), RemoteProtocolError)
    if isinstance(value, RemoteProtocolError):
        assert (value.abort_source, value.abort_reason) == (2, 6 if kind in range(1, 8) else 1)
        assert str(value).isprintable()
        return
    again = attempt(value.encode, LocalProtocolError)
    if isinstance(again, LocalProtocolError):  # strict in what we send
        assert str(again).isprintable()
        return
    assert again[0] == kind
    assert pdu.decode(kind, again[6:], LIMITS) == value


@settings(deadline=None)
@given(values)
def test_what_is_encoded_is_decoded_equal(value):
    data = value.encode()
    assert (data[0], int.from_bytes(data[2:6], "big")) == (value.kind, len(data) - 6)
    decoded = pdu.decode(data[0], memoryview(data)[6:], LIMITS)
    assert decoded == value
    assert decoded.encode() == data


@settings(deadline=None)
@given(st.integers(0, 255) | st.integers(1, 7), st.binary(max_size=300))
def test_any_bytes_are_understood_or_refused(kind, body):
    understood_or_refused(kind, body)


@settings(deadline=None, max_examples=300)
@given(values, st.data())
def test_damaged_pdus_are_understood_or_refused(value, data):
    body = bytearray(value.encode()[6:])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body)))
        cut = data.draw(st.integers(0, 3))
        body[at : at + cut] = data.draw(st.binary(max_size=3))
    understood_or_refused(value.kind, bytes(body))


# An A-ASSOCIATE body is a tree of items; this makes such trees without regard for what may be in what.
trees = st.recursive(
    st.binary(max_size=12),
    lambda inner: st.lists(
        st.tuples(
            st.sampled_from([0x10, 0x20, 0x21, 0x30, 0x40, *range(0x50, 0x5B)]), st.binary(max_size=4), inner
        ),
        max_size=5,
    ).map(lambda found: b"".join(wire.item(kind, head + body) for kind, head, body in found)),
    max_leaves=12,
)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from([1, 2]), trees)
def test_trees_of_items_are_understood_or_refused(kind, tree):
    understood_or_refused(kind, b"\0\1\0\0" + b" " * 32 + bytes(32) + wire.item(0x10, b"1.2") + tree)


@settings(deadline=None, max_examples=30)
@given(st.sampled_from([1, 2, 4]), st.binary(min_size=1, max_size=64), st.integers(1, 400))
def test_allocation_is_bounded_by_what_was_received(kind, pattern, repeats):
    body = b"\0\1\0\0" + b"A" * 32 + bytes(32) + pattern * repeats
    tracemalloc.start()
    try:
        with suppress(RemoteProtocolError):
            pdu.decode(kind, body, LIMITS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 32 * len(body) + 65536
