"""Both ends of an association without a network: PDUs as bytes, and cores brought into any state by them."""

from __future__ import annotations

from struct import pack
from typing import TYPE_CHECKING, Any

import pytest

from dicomnet.protocol import items, pdu
from dicomnet.protocol.state_machine import State
from dicomnet.protocol.upper_layer import CONTROL, NEED_DATA, Fault, UpperLayer
from dicomnet.settings import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dicomnet.protocol.command_set import Command

DICOM = "1.2.840.10008.3.1.1.1"
VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
LIMITS = Limits()

INFORMATION = items.UserInformation((items.MaximumLength(16384), items.ImplementationClassUid("1.2.3")))
REQUEST = pdu.AssociateRq(
    "PACS",
    "SCU",
    DICOM,
    (
        items.PresentationContextRq(1, VERIFICATION, (IMPLICIT,)),
        items.PresentationContextRq(3, CT, (EXPLICIT, IMPLICIT)),
        items.PresentationContextRq(5, "1.2.3.4", (IMPLICIT,)),
    ),
    INFORMATION,
)
ACCEPT = pdu.AssociateAc(
    b"PACS".ljust(16),
    b"SCU".ljust(16),
    DICOM,
    (
        items.PresentationContextAc(5, 3, IMPLICIT),
        items.PresentationContextAc(3, 0, EXPLICIT),
        items.PresentationContextAc(1, 0, IMPLICIT),
    ),
    INFORMATION,
)
REJECT = pdu.AssociateRj(1, 1, 7)


def head(kind: int, length: int) -> bytes:
    return pack(">BBI", kind, 0, length)


def short(kind: int, *body: int) -> bytes:
    """A PDU with a body of four bytes."""
    return head(kind, 4) + bytes(4 - len(body)) + bytes(body)


def abort(source: int, reason: int) -> bytes:
    return short(7, source, reason)


RQ, AC = REQUEST.encode(), ACCEPT.encode()
RJ = short(3, 1, 1, 7)
RELEASE_RQ, RELEASE_RP = short(5), short(6)


def pdv(data: bytes, control: int, context: int = 1) -> bytes:
    return pack(">IBB", len(data) + 2, context, control) + data


def p_data(*pdvs: bytes) -> bytes:
    body = b"".join(pdvs)
    return head(4, len(body)) + body


def element(tag: int, value: bytes) -> bytes:
    return pack("<HHI", 0, tag, len(value)) + value


def command(
    field: int,
    data_set_type: int = 0x0101,
    message_id: int = 1,
    extra: bytes = b"",
    *,
    before_type: bytes = b"",
) -> bytes:
    """A command set, written by the test itself; elements go before (0000,0800) or to the end."""
    body = b"".join(
        (
            element(0x0002, CT.encode() + b"\0"),
            element(0x0100, pack("<H", field)),
            element(0x0110, pack("<H", message_id)),
            before_type,
            element(0x0800, pack("<H", data_set_type)),
            extra,
        )
    )
    return element(0, pack("<I", len(body))) + body


ECHO = command(0x0030)
STORE = command(
    0x0001, 0x0001, extra=element(0x1000, b"1.2.3.4\0"), before_type=element(0x0700, pack("<H", 0))
)
ECHO_PDU = p_data(pdv(ECHO, 3))


def message(data_set: bytes, *, context: int = 3, step: int = 1 << 20) -> bytes:
    """A C-STORE-RQ and its data set in fragments of `step` bytes, each in a PDU of its own."""
    cuts = range(0, len(data_set), step) or [0]
    fragments = [data_set[at : at + step] for at in cuts]
    pdus = [p_data(pdv(STORE, 3, context))]
    pdus += [
        p_data(pdv(part, 2 if number == len(fragments) else 0, context))
        for number, part in enumerate(fragments, 1)
    ]
    return b"".join(pdus)


class Recorder:
    """A sink that keeps the bytes, and how it ended."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended: list[str] = []

    def write(self, fragment: memoryview) -> None:
        assert not self.ended
        self.data += fragment

    def finish(self) -> bytes:
        self.ended.append("finished")
        return bytes(self.data)

    def abandon(self) -> None:
        self.ended.append("abandoned")


class End:
    """A core, what it gave out (`events`, `sent`) and the sinks that it opened."""

    def __init__(
        self,
        *,
        requestor: bool,
        limits: Limits = LIMITS,
        tap: Callable[[int, memoryview], object] | None = None,
        make_sink: Callable[[], Any] = Recorder,
    ) -> None:
        self.core = UpperLayer(limits, self._open, requestor=requestor, tap=tap)
        self.events: list[Any] = []
        self.sent = b""
        self.sinks: list[Any] = []
        self._make_sink = make_sink

    def _open(self, _context: int, _command: Command) -> Any:
        self.sinks.append(self._make_sink())
        return self.sinks[-1]

    def feed(self, data: bytes, step: int | None = None) -> list[Any]:
        """Receive `data`, at most `step` bytes at a time; return the events."""
        return self.feed_pieces([data] if step is None else pieces(data, step))

    def feed_pieces(self, parts: Iterable[bytes]) -> list[Any]:
        before = len(self.events)
        for part in parts:
            rest = memoryview(part)
            while rest:
                buffer = self.core.buffer()
                n = min(len(buffer), len(rest))
                assert n
                buffer[:n] = rest[:n]
                self.core.received(n)
                rest = rest[n:]
                self.handle()
        return self.events[before:]

    def handle(self) -> None:
        """Handle what is in the buffer."""
        while (event := self.core.next_event()) is not NEED_DATA:
            if event is CONTROL:
                event, reply = self.core.control()
                self.sent += reply
            if event is not None:
                self.events.append(event)

    def call(self, name: str, *arguments: object) -> Any:
        """Make a local event; what it sends is taken down."""
        result = getattr(self.core, name)(*arguments)
        if isinstance(result, bytes):
            self.sent += result
        return result

    def fault(self) -> Any:
        """The error of the last event, which must be the only fault."""
        assert [event for event in self.events if isinstance(event, Fault)] == [self.events[-1]]
        return self.events[-1].error


def split(data: bytes) -> list[bytes]:
    """Cut a stream into its PDUs."""
    found = []
    while data:
        length = 6 + int.from_bytes(data[2:6], "big")
        assert len(data) >= length
        found.append(data[:length])
        data = data[length:]
    return found


def pieces(data: bytes, step: int) -> Iterator[bytes]:
    return (data[at : at + step] for at in range(0, len(data), step))


# How to get into each state: bytes are received, the others are local events.
_UP: dict[bool, tuple[Any, ...]] = {
    True: (("associate_request", REQUEST), AC),
    False: (RQ, ("associate_accept", ACCEPT)),
}
_RELEASE, _ANSWER = ("release_request",), ("release_response",)
PATHS: dict[tuple[bool, State], tuple[Any, ...]] = {
    (True, State.STA4): (),
    (True, State.STA5): _UP[True][:1],
    (True, State.STA9): (*_UP[True], _RELEASE, RELEASE_RQ),
    (True, State.STA11): (*_UP[True], _RELEASE, RELEASE_RQ, _ANSWER),
    (False, State.STA2): (),
    (False, State.STA3): _UP[False][:1],
    (False, State.STA10): (*_UP[False], _RELEASE, RELEASE_RQ),
    (False, State.STA12): (*_UP[False], _RELEASE, RELEASE_RQ, RELEASE_RP),
}
for _role, _up in _UP.items():
    PATHS |= {
        (_role, State.STA1): (*_up, abort(0, 0)),
        (_role, State.STA6): _up,
        (_role, State.STA7): (*_up, _RELEASE),
        (_role, State.STA8): (*_up, RELEASE_RQ),
        (_role, State.STA13): (*_up, ("abort", 0, 0)),
    }


def end_in(state: State, *, requestor: bool, **options: Any) -> End:
    """Return an end in `state`; what it sent and indicated on the way there is forgotten."""
    end = End(requestor=requestor, **options)
    for step in PATHS[requestor, state]:
        if isinstance(step, bytes):
            end.feed(step)
        else:
            end.call(*step)
    assert end.core.state is state
    end.events.clear()
    end.sent = b""
    return end


def states(*wanted: State) -> pytest.MarkDecorator:
    """Parametrize over every way to be in one of the states: `requestor`, `state`."""
    return pytest.mark.parametrize(
        ("requestor", "state"),
        [
            pytest.param(requestor, state, id=f"{state.name}-{'requestor' if requestor else 'acceptor'}")
            for requestor, state in PATHS
            if state in wanted
        ],
    )


ROLES = pytest.mark.parametrize("requestor", [True, False], ids=["requestor", "acceptor"])
STEPS = pytest.mark.parametrize("step", [None, 1, 7], ids=["whole", "bytes", "sevens"])
