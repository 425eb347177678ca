"""P-DATA both ways: fragments that make messages, and messages cut into fragments (PS3.8 9.3.5, D.1, E)."""

from __future__ import annotations

from collections import deque
from io import BytesIO
from itertools import pairwise
from struct import pack

import pytest
from dialogue import (
    ECHO,
    ECHO_PDU,
    EXPLICIT,
    LIMITS,
    STORE,
    Recorder,
    abort,
    command,
    element,
    end_in,
    message,
    p_data,
    pdv,
)
from pydicom import Dataset, dcmread
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID

from dicomnet.errors import DataSetError, LimitExceeded, LocalProtocolError
from dicomnet.protocol import assembler, pdu
from dicomnet.protocol.assembler import BATCH, BATCH_PDUS, Assembler, MessageReceived, batches, lease, restore
from dicomnet.protocol.state_machine import State
from dicomnet.protocol.upper_layer import Fault
from dicomnet.settings import Limits


def up(**options):
    """An acceptor in data transfer; contexts 1 and 3 were accepted."""
    return end_in(State.STA6, requestor=False, **options)


def refused(end, reason: int) -> object:
    """The peer's P-DATA broke a rule: A-ABORT of the provider with this reason."""
    assert end.sent == abort(2, reason)
    assert end.core.state is State.STA13
    assert isinstance(end.events[-1], Fault)
    return end.events[-1].error


# --- receiving: PDVs, fragments, messages --------------------------------------------------------


def test_d01_several_pdvs_in_one_pdu():
    end = up()
    end.feed(p_data(pdv(ECHO[:10], 1), pdv(ECHO[10:30], 1), pdv(ECHO[30:], 3)))
    (event,) = end.events
    assert event == MessageReceived(1, event.command)
    assert event.command.raw == ECHO


@pytest.mark.parametrize("bits", [0x00, 0x04, 0x80, 0xFC])
def test_d02_bits_2_to_7_are_ignored(bits):
    end = up()
    parts = [(STORE[:7], 1), (STORE[7:], 3), (b"abc", 0), (b"def", 2)]
    end.feed(b"".join(p_data(pdv(data, control | bits, 3)) for data, control in parts))
    assert end.events[0].data_set == b"abcdef"


def test_d03_a_fragment_is_of_one_kind():
    """D03: a data set fragment within a command, before the command is complete."""
    end = up()
    end.feed(p_data(pdv(STORE[:10], 1, 3), pdv(b"data", 2, 3)))
    assert refused(end, 5).clause == "PS3.8 E.1"


@pytest.mark.parametrize("before", [[(STORE[:8], 1)], [(STORE, 3)], [(STORE, 3), (b"data", 0)]])
@pytest.mark.parametrize("joined", [True, False])
def test_d04_the_context_does_not_change_within_a_message(before, joined):
    parts = [pdv(data, control, 3) for data, control in before]
    parts.append(pdv(b"more", 2, 1))
    end = up()
    end.feed(p_data(*parts) if joined else b"".join(map(p_data, parts)))
    refused(end, 5)


def test_d05_two_messages_in_one_pdu_are_understood():
    """D05 binds the sender; a peer that mixes them is not misunderstood."""
    end = up()
    end.feed(p_data(pdv(ECHO, 3), pdv(STORE, 3, 3), pdv(b"data", 2, 3), pdv(ECHO, 3)))
    assert [(event.context_id, event.data_set) for event in end.events] == [
        (1, None),
        (3, b"data"),
        (1, None),
    ]


def test_d06_a_second_message_within_the_first():
    end = up()
    end.feed(p_data(pdv(STORE, 3, 3)) + ECHO_PDU)
    refused(end, 5)
    assert [sink.ended for sink in end.sinks] == [["abandoned"]]


@pytest.mark.parametrize("control", [0, 2])
def test_d07_data_set_first(control):
    end = up()
    end.feed(p_data(pdv(b"data", control, 3)))
    assert "data set fragment where one of the command" in str(refused(end, 5))
    assert end.sinks == []


@pytest.mark.parametrize("control", [1, 3])
@pytest.mark.parametrize("before", [[], [pdv(b"data", 0, 3)]])
def test_d07_command_within_a_data_set(before, control):
    end = up()
    end.feed(p_data(pdv(STORE, 3, 3), *before) + p_data(pdv(STORE, control, 3)))
    assert "command fragment where one of the data set" in str(refused(end, 5))


@pytest.mark.parametrize("step", [1, 3, 7, 99])
def test_d08_odd_fragments_are_taken(step):
    end = up()
    end.feed(message(b"0123456789" * 10, step=step))
    assert end.events[0].data_set == b"0123456789" * 10


def test_d09_a_pdv_does_not_go_on_in_the_next_pdu():
    end = up()
    first = p_data(pdv(ECHO[:20], 3))
    end.feed(first[:6] + pack(">IBB", len(ECHO) + 2, 1, 3) + first[12:])
    assert refused(end, 6).clause == "PS3.8 9.3.5.1"


def test_d10_empty_fragments():
    """D10: of the command and of the data set, in the middle and as the last one."""
    end = up()
    empty = (
        pdv(b"", 1, 3),
        pdv(STORE, 1, 3),
        pdv(b"", 3, 3),
        pdv(b"", 0, 3),
        pdv(b"data", 0, 3),
        pdv(b"", 2, 3),
    )
    end.feed(p_data(*empty))
    end.feed(b"".join(map(p_data, empty)))
    assert [event.data_set for event in end.events] == [b"data"] * 2
    assert len(end.sinks) == 2


def test_an_empty_data_set():
    end = up()
    end.feed(p_data(pdv(STORE, 3, 3), pdv(b"", 2, 3)))
    assert end.events[0].data_set == b""
    assert end.sinks[0].ended == ["finished"]


def test_d11_adjacent_fragments_of_one_kind_in_one_pdu():
    end = up()
    end.feed(
        p_data(
            pdv(STORE[:4], 1, 3),
            pdv(STORE[4:], 3, 3),
            *(pdv(bytes([n]), 0, 3) for n in range(99)),
            pdv(b"", 2, 3),
        )
    )
    assert end.events[0].data_set == bytes(range(99))


def encoded() -> bytes:
    """A small explicit VR data set with short and long lengths, a sequence and an odd value."""
    data_set, inner = Dataset(), Dataset()
    inner.CodeValue = "ABC"
    data_set.PatientName = "Doe^Jane"
    data_set.Rows = 4
    data_set.ConceptNameCodeSequence = [inner]
    data_set.add_new(0x00420011, "OB", b"%PDF")
    buffer = BytesIO()
    dcmwrite(buffer, data_set, implicit_vr=False, little_endian=True)
    return buffer.getvalue()


def decoded(data: bytes) -> Dataset:
    found = dcmread(BytesIO(data), force=True)
    found.file_meta.TransferSyntaxUID = UID(EXPLICIT)
    return found


def test_d12_boundaries_within_tag_vr_length_and_value():
    """D12: two fragments, cut at every byte of the data set; and fragments of one byte."""
    data = encoded()
    for cut in range(len(data) + 1):
        end = up()
        end.feed(p_data(pdv(STORE, 3, 3), pdv(data[:cut], 0, 3), pdv(data[cut:], 2, 3)))
        assert end.events[0].data_set == data
    end = up()
    end.feed(message(data, step=1), 5)
    assert decoded(end.events[0].data_set) == decoded(data)
    assert decoded(data).ConceptNameCodeSequence[0].CodeValue == "ABC"


def test_d12_boundaries_within_the_command():
    for cut in range(len(STORE) + 1):
        end = up()
        end.feed(p_data(pdv(STORE[:cut], 1, 3), pdv(STORE[cut:], 3, 3), pdv(b"data", 2, 3)))
        assert end.events[0].command.raw == STORE


def test_d13_a_whole_message_in_one_pdu():
    end = up()
    end.feed(p_data(pdv(STORE, 3, 3), pdv(b"data", 2, 3)))
    assert end.events[0].data_set == b"data"


@pytest.mark.parametrize("length", [0, 1])
def test_d14_a_pdv_without_its_two_bytes(length):
    end = up()
    end.feed(p_data(pack(">I", length) + bytes(6)))
    refused(end, 6)


@pytest.mark.parametrize("context", [0, 2, 5, 7, 255])
def test_d15_context_that_was_not_accepted(context):
    """D15: even, rejected or never proposed."""
    end = up()
    end.feed(p_data(pdv(ECHO, 3, context)))
    assert str(context) in str(refused(end, 6))


def test_d16_data_set_that_was_not_announced():
    end = up()
    end.feed(ECHO_PDU + p_data(pdv(b"data", 2)))
    assert isinstance(end.events[0], MessageReceived)
    refused(end, 5)


def test_d16_next_command_where_a_data_set_was_announced():
    end = up()
    end.feed(p_data(pdv(STORE, 3, 3)) + p_data(pdv(STORE, 3, 3)))
    refused(end, 5)


@pytest.mark.parametrize("value", [0x0000, 0x0001, 0x0102, 0x0100, 0xFEFE, 0xFFFF])
def test_c08_every_other_value_announces_a_data_set(value):
    end = up()
    end.feed(p_data(pdv(command(0x0001, value), 3, 3)))
    assert end.events == []
    end.feed(p_data(pdv(b"data", 2, 3)))
    assert end.events[0].data_set == b"data"


def test_c08_only_0101_announces_none():
    end = up()
    end.feed(p_data(pdv(command(0x0001, 0x0101), 3, 3)))
    assert (end.events[0].data_set, end.sinks) == (None, [])


@pytest.mark.parametrize("raw", [b"", bytes(8), STORE[:-1], element(0x0100, b"\1\0")])
def test_a_command_set_that_cannot_be_read(raw):
    end = up()
    end.feed(p_data(pdv(raw, 3, 3)))
    refused(end, 6)


def test_a_command_equal_to_the_last_is_not_decoded_again():
    end = up()
    other = command(0x0030, message_id=2)
    end.feed(p_data(pdv(ECHO, 3)) * 2 + p_data(pdv(other, 3)) + p_data(pdv(ECHO, 3)))
    first, second, third, fourth = (event.command for event in end.events)
    assert first is second
    assert (third.message_id, fourth.message_id) == (2, 1)


# --- receiving: limits ---------------------------------------------------------------------------


def test_l8_command_set_without_end():
    """The cap is the command's, whatever its fragments are; what came is given up."""
    end = up()
    fragment = p_data(pdv(bytes(1000), 1))
    end.feed(fragment * 65 + p_data(pdv(bytes(536), 1)))
    assert end.events == []
    end.feed(p_data(pdv(b"", 1)))
    end.feed(p_data(pdv(b"\0", 1)))
    error = refused(end, 0)
    assert isinstance(error, LimitExceeded)
    assert (error.limit, error.allowed, error.seen) == ("command_set", 65536, 65537)


def test_command_set_at_the_limit():
    filler = element(0x9999, bytes(65536 - len(command(0x0030, extra=element(0x9999, b"")))))
    raw = command(0x0030, extra=filler)
    assert len(raw) == LIMITS.command_set
    end = up()
    end.feed(p_data(pdv(raw, 3)), 5000)
    assert end.events[0].command.raw == raw


def test_l9_data_set_over_the_limit():
    end = up(limits=Limits(data_set=1000))
    end.feed(message(bytes(1000), step=300))
    end.feed(p_data(pdv(STORE, 3, 3)) + p_data(pdv(bytes(999), 0, 3)))
    assert [len(event.data_set) for event in end.events] == [1000]
    end.feed(p_data(pdv(b"\0\0", 0, 3)))
    error = refused(end, 0)
    assert (error.limit, error.allowed, error.seen) == ("data_set", 1000, 1001)
    assert [sink.ended for sink in end.sinks] == [["finished"], ["abandoned"]]


def test_l9_holds_for_what_is_discarded():
    end = up(limits=Limits(data_set=1000), make_sink=lambda: None)
    end.feed(message(bytes(1001)))
    assert refused(end, 0).limit == "data_set"


# --- receiving: sinks ----------------------------------------------------------------------------


def test_no_sink_discards():
    end = up(make_sink=lambda: None)
    end.feed(message(bytes(5000), step=1000) + ECHO_PDU)
    first, second = end.events
    assert (first.data_set, first.error) == (None, None)
    assert second.command.field == 0x0030


class Failing(Recorder):
    """A sink that raises where it is told to."""

    def __init__(self, *places: str) -> None:
        super().__init__()
        self.places = places
        self.calls: list[str] = []

    def _call(self, place: str) -> None:
        self.calls.append(place)
        if place in self.places:
            raise OSError(f"{place} failed")

    def write(self, fragment: memoryview) -> None:
        self._call("write")
        super().write(fragment)

    def finish(self) -> bytes:
        self._call("finish")
        return super().finish()

    def abandon(self) -> None:
        self._call("abandon")
        super().abandon()


@pytest.mark.parametrize("step", [None, 1, 100])
def test_a_sink_that_fails_in_write(step):
    """The message fails and is drained, the association goes on; the sink is told once, and left alone."""
    end = up(make_sink=lambda: Failing("write"))
    end.feed(message(bytes(5000), step=700) + ECHO_PDU, step)
    failed, echo = end.events
    assert str(failed.error) == "write failed"
    assert failed.data_set is None
    assert echo.error is None
    assert end.sent == b""
    assert end.sinks[0].calls == ["write", "abandon"]


def test_a_sink_that_fails_in_write_and_in_abandon():
    """The first error is the one that counts; the second is kept with it."""
    end = up(make_sink=lambda: Failing("write", "abandon"))
    end.feed(message(bytes(5000), step=700))
    (failed,) = end.events
    assert str(failed.error) == "write failed"
    assert str(failed.error.__context__) == "abandon failed"


def test_a_sink_that_fails_in_finish():
    end = up(make_sink=lambda: Failing("finish"))
    end.feed(message(b"data") + message(b"data"))
    assert [str(event.error) for event in end.events] == ["finish failed"] * 2
    assert [event.data_set for event in end.events] == [None] * 2
    assert end.sinks[0].calls == ["write", "finish"]


def test_a_sink_that_fails_in_abandon_does_not_stop_the_abort():
    end = up(make_sink=lambda: Failing("abandon"))
    end.feed(p_data(pdv(STORE, 3, 3), pdv(b"data", 0, 3)) + abort(0, 0))
    assert end.core.state is State.STA1
    assert end.sinks[0].calls == ["write", "abandon"]


def test_a_sink_that_cannot_be_opened():
    def fail() -> None:
        raise PermissionError("no place")

    end = up(make_sink=fail)
    end.feed(message(bytes(5000), step=700) + ECHO_PDU)
    failed, echo = end.events
    assert str(failed.error) == "no place"
    assert echo.error is None


def test_the_next_message_does_not_inherit_an_error():
    places = ["write"], []
    sinks = iter([Failing(*place) for place in places])
    end = up(make_sink=lambda: next(sinks))
    end.feed(message(b"bad") + message(b"good"))
    assert [(str(event.error), event.data_set) for event in end.events] == [
        ("write failed", None),
        ("None", b"good"),
    ]


def test_open_sink_is_told_context_and_command():
    asked = []
    assembler_ = Assembler(LIMITS, lambda context_id, found: asked.append((context_id, found.field)))
    assembler_.contexts = (9,)
    assembler_.begin(9, 3)
    assembler_.write(memoryview(STORE))
    assert assembler_.busy
    assert assembler_.end() is None
    assert asked == [(9, 1)]
    assembler_.abandon()
    assert not assembler_.busy


def test_a_sink_gets_views_of_the_buffer_and_they_are_not_joined():
    """What arrives in one piece is written in one piece, without a copy."""
    seen = []

    class Watching(Recorder):
        def write(self, fragment: memoryview) -> None:
            seen.append((type(fragment), fragment.obj, len(fragment)))
            super().write(fragment)

    end = up(make_sink=Watching)
    end.feed(message(bytes(3000)))
    ((kind, owner, length),) = seen
    assert (kind, type(owner), length) == (memoryview, bytearray, 3000)


# --- sending -------------------------------------------------------------------------------------

PEER_MAXIMA = [8, 9, 12, 128, 1018, 4096, 16384, 131072, 1 << 20]


class Memory:
    """A source in memory, or one that is read."""

    def __init__(self, data: bytes, *, streamed: bool) -> None:
        self.data = data
        self.size = len(data)
        self.at = 0
        self.streamed = streamed
        self.reads: list[int] = []

    def view(self) -> memoryview | None:
        return None if self.streamed else memoryview(self.data)

    def read_into(self, views) -> None:
        self.reads.append(sum(map(len, views)))
        for view in views:
            if len(view) > len(self.data) - self.at:
                raise DataSetError("short")
            view[:] = self.data[self.at : self.at + len(view)]
            self.at += len(view)

    def close(self) -> None:
        """Nothing to free."""


def written(source: Memory | None, maximum: int, *, raw: bytes = STORE, context: int = 3) -> list[bytes]:
    """The PDUs that go out; each batch is consistent with itself and bounded."""
    found = []
    for number, batch in enumerate(batches(context, raw, source, maximum)):
        data = b"".join(batch.buffers)
        commands = len(raw) // (maximum - 7) + 2 if not number else 0
        assert len(batch.pdus) <= BATCH_PDUS + commands + 1
        assert len(data) <= max(BATCH, maximum + 6) + maximum + 6 + commands * 20 + len(raw)
        for length in batch.pdus:
            found.append(data[:length])
            data = data[length:]
        assert data == b""
    return found


def check_pdus(pdus: list[bytes], maximum: int, raw: bytes, data_set: bytes | None, context: int = 3) -> None:
    fragments = []
    for one in pdus:
        assert one[:2] == b"\4\0"
        assert len(one) - 6 == int.from_bytes(one[2:6], "big") <= maximum  # L02
        (found,) = pdu.decode_p_data(one[6:])  # one PDV each: D09, D11
        assert found.context_id == context  # D04
        assert one[11] in (0, 1, 2, 3)  # D02
        fragments.append(found)
    for found in fragments[:-1]:
        assert len(found.data) % 2 == 0  # D08
    commands = [found for found in fragments if found.is_command]
    others = [found for found in fragments if not found.is_command]
    assert fragments == commands + others  # D07
    for kind, expected in (commands, raw), (others, data_set):
        assert b"".join(found.data for found in kind) == (expected or b"")
        assert [found.is_last for found in kind] == [False] * (len(kind) - 1) + [True] * bool(kind)
        largest = (maximum - 6) // 2 * 2  # L05
        assert all(len(found.data) == largest for found in kind[:-1])
        assert all(found.data for found in kind) or expected == b""  # D10
    assert bool(others) == (data_set is not None)


@pytest.mark.parametrize("maximum", PEER_MAXIMA)
@pytest.mark.parametrize("streamed", [False, True], ids=["memory", "streamed"])
@pytest.mark.parametrize("size", [0, 1, 2, 3, 999, 1000, 5000, 70001])
def test_l05_l06_fragments(maximum, streamed, size):
    """L02, L05, L06, D01-D13 of what we send, for every maximum a peer may announce."""
    data = bytes(n * n % 251 for n in range(min(size, 2000 if maximum < 128 else size)))
    source = Memory(data, streamed=streamed)
    check_pdus(written(source, maximum), maximum, STORE, data)


@pytest.mark.parametrize("maximum", [4096, 16384, 131072, BATCH - 6, BATCH - 5, BATCH, 1 << 20])
@pytest.mark.parametrize("streamed", [False, True], ids=["memory", "streamed"])
def test_large_data_sets(maximum, streamed):
    """More than one batch; and PDUs as large as a batch, or larger."""
    data = bytes(range(256)) * (BATCH // 64)
    source = Memory(data, streamed=streamed)
    check_pdus(written(source, maximum), maximum, STORE, data)
    if streamed:
        assert max(source.reads) <= max(BATCH, maximum)


@pytest.mark.parametrize("maximum", PEER_MAXIMA)
def test_command_without_data_set(maximum):
    pdus = written(None, maximum, raw=ECHO, context=1)
    check_pdus(pdus, maximum, ECHO, None, context=1)
    if maximum > 128:
        assert pdus == [p_data(pdv(ECHO, 3))]


@pytest.mark.parametrize("maximum", [0, 1, 5, 6, 7])
@pytest.mark.parametrize("streamed", [False, True])
def test_l06_no_fragment_fits(maximum, streamed):
    """L06: refused cleanly, before anything goes out."""
    with pytest.raises(LocalProtocolError, match=f"at most {maximum} bytes") as caught:
        next(batches(3, STORE, Memory(b"data", streamed=streamed), maximum))
    assert caught.value.clause == "PS3.8 D.1"


def test_l06_the_smallest_maximum_takes_two_bytes_at_a_time():
    pdus = written(Memory(b"abcdef", streamed=False), 8, raw=b"12")
    assert pdus == [
        p_data(pdv(part, control, 3)) for part, control in ((b"12", 3), (b"ab", 0), (b"cd", 0), (b"ef", 2))
    ]


def test_d10_an_empty_data_set_that_was_announced():
    for streamed in False, True:
        pdus = written(Memory(b"", streamed=streamed), 16384)
        assert pdus[1:] == [p_data(pdv(b"", 2, 3))]


@pytest.mark.parametrize("streamed", [False, True])
def test_command_and_small_data_set_are_one_write(streamed):
    assert len(list(batches(3, STORE, Memory(bytes(2000), streamed=streamed), 16384))) == 1


def test_in_memory_nothing_is_copied():
    data = bytes(100000)
    for batch in batches(3, STORE, Memory(data, streamed=False), 16384):
        views = [part for part in batch.buffers if isinstance(part, memoryview)]
        assert {id(view.obj) for view in views} <= {id(data), id(STORE)}


def test_streamed_pdus_are_contiguous():
    """A batch is one buffer, the command included, filled by one call of the source."""
    source = Memory(bytes(3 * BATCH), streamed=True)
    found = [len(batch.buffers) for batch in batches(3, STORE, source, 16384)]
    assert found == [1] * len(found)
    assert len(source.reads) == len(found)


@pytest.mark.parametrize("maximum", [16384, 1 << 20])
def test_staging_is_given_back(monkeypatch, maximum):
    pool: deque[bytearray] = deque(maxlen=16)
    monkeypatch.setattr(assembler, "_pool", pool)
    list(batches(3, STORE, Memory(bytes(3 * BATCH), streamed=True), maximum))
    assert len(pool) == (maximum < BATCH)
    pool.clear()
    given_up = batches(3, STORE, Memory(bytes(3 * BATCH), streamed=True), maximum)
    next(given_up)
    assert not pool
    given_up.close()
    assert len(pool) == (maximum < BATCH)


def test_a_source_that_is_short():
    """Its error comes through; where it comes before the first write, nothing has gone out."""
    source = Memory(bytes(2 * BATCH), streamed=True)
    source.size += 2
    sent = []
    with pytest.raises(DataSetError):
        sent.extend(batches(3, STORE, source, 16384))
    source = Memory(b"", streamed=True)
    source.size = 2
    with pytest.raises(DataSetError):
        next(batches(3, STORE, source, 16384))


def test_what_we_send_is_what_we_receive():
    data = bytes(range(256)) * 5000
    for maximum in (12, 128, 16384, 131072):
        part = data[: 5000 if maximum < 128 else None]
        end = up()
        for streamed in False, True:
            end.feed(b"".join(written(Memory(part, streamed=streamed), maximum)))
        assert [event.data_set for event in end.events] == [part] * 2


# --- the pool ------------------------------------------------------------------------------------


def test_pool(monkeypatch):
    """It keeps a few buffers of one size and no others."""
    pool: deque[bytearray] = deque(maxlen=2)
    monkeypatch.setattr(assembler, "_pool", pool)
    first, second, third = lease(), lease(), lease()
    assert [len(buffer) for buffer in (first, second, third)] == [BATCH] * 3
    for buffer in (first, bytearray(8192), second, bytearray(2 * BATCH), third):
        restore(buffer)
    assert [any(buffer is kept for kept in pool) for buffer in (first, second, third)] == [False, True, True]
    assert lease() is third
    assert all(a is not b for a, b in pairwise(pool))
