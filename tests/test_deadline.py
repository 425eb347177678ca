"""The clock object: every limit below the public API goes through it."""

from __future__ import annotations

import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dicomnet.transport import deadline as deadline_module
from dicomnet.transport import waiting
from dicomnet.transport.deadline import NEVER, Deadline, DeadlineExpired
from dicomnet.transport.waiting import READ, WRITE, Waker, wait

pytestmark = pytest.mark.usefixtures("leak_check")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(deadline_module, "monotonic", clock)
    return clock


def test_counts_down(clock: Clock) -> None:
    deadline = Deadline.after(10)
    assert (deadline.limit, deadline.remaining(), deadline.elapsed(), deadline.expired) == (10, 10, 0, False)
    clock.now += 4
    assert (deadline.limit, deadline.remaining(), deadline.elapsed(), deadline.expired) == (10, 6, 4, False)
    clock.now += 7
    assert (deadline.limit, deadline.remaining(), deadline.elapsed(), deadline.expired) == (10, 0, 11, True)


def test_has_come_at_its_very_moment(clock: Clock) -> None:
    deadline = Deadline.after(10)
    clock.now += 10
    assert deadline.expired
    assert deadline.poll_ms() == 0


@pytest.mark.parametrize("seconds", [None, math.inf])
def test_never(clock: Clock, seconds: float | None) -> None:
    for deadline in (NEVER, Deadline.after(seconds)):
        clock.now += 1e9
        assert (deadline.limit, deadline.remaining(), deadline.expired) == (None, None, False)
        assert deadline.poll_ms() == -1


@pytest.mark.parametrize("seconds", [0, 0.0, -1])
def test_nothing_left_is_expired_from_the_start(clock: Clock, seconds: float) -> None:
    deadline = Deadline.after(seconds)
    assert (deadline.expired, deadline.remaining(), deadline.poll_ms()) == (True, 0, 0)


@pytest.mark.parametrize(
    ("seconds", "milliseconds"),
    [
        (0.0000001, 1),
        (0.0004, 1),
        (0.001, 1),
        (0.0011, 2),
        (1, 1000),
        (2_147_483.0, 2_147_483_000),
        (1e9, 2**31 - 1),
    ],
)
def test_poll_never_ends_before_the_deadline_nor_overflows(
    clock: Clock, seconds: float, milliseconds: int
) -> None:
    clock.now = 0.0
    assert Deadline.after(seconds).poll_ms() == milliseconds


def test_the_sooner_of_two(clock: Clock) -> None:
    first, second = Deadline.after(5), Deadline.after(6)
    assert first.sooner(second) is first
    assert second.sooner(first) is first
    assert first.sooner(NEVER) is first
    assert NEVER.sooner(first) is first
    assert first.sooner(None) is first
    assert NEVER.sooner(None).limit is None


def test_sooner_in_seconds_counts_from_now(clock: Clock) -> None:
    outer = Deadline.after(5)
    clock.now += 3
    assert outer.sooner(3) is outer
    inner = outer.sooner(1)
    assert (inner.limit, inner.remaining()) == (1, 1)
    assert outer.remaining() == 2


def test_cannot_be_moved() -> None:
    deadline = Deadline.after(5)
    with pytest.raises(AttributeError):
        deadline.anything = 1  # type: ignore[attr-defined]
    assert "of 5 s" in repr(deadline)
    assert "never" in repr(NEVER)


# --- waiting -------------------------------------------------------------------------------------


@pytest.fixture(params=["poll", "select"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_ready", getattr(waiting, f"_{request.param}"))


@pytest.fixture
def pipe() -> object:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


@pytest.mark.usefixtures("either_way")
class TestWait:
    def test_says_which_descriptor_is_ready_for_what(self, pipe: tuple[int, int]) -> None:
        reader, writer = pipe
        assert wait(NEVER, (reader, READ), (writer, WRITE)) == {writer: WRITE}
        os.write(writer, b"x")
        assert wait(NEVER, (reader, READ)) == {reader: READ}
        assert wait(NEVER, (reader, READ), (writer, WRITE)) == {reader: READ, writer: WRITE}

    def test_expires(self, pipe: tuple[int, int]) -> None:
        with pytest.raises(DeadlineExpired):
            wait(Deadline.after(0.01), (pipe[0], READ))

    def test_does_not_wait_at_all_after_the_deadline(self, pipe: tuple[int, int]) -> None:
        with pytest.raises(DeadlineExpired):
            wait(Deadline.after(0), (pipe[0], READ))

    def test_waits_again_after_a_poll_that_was_cut_short(
        self, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        polls = []
        real = waiting._ready

        def ready(interests: object, milliseconds: int) -> list[tuple[int, int]]:
            polls.append(milliseconds)
            if len(polls) == 3:
                os.write(pipe[1], b"x")
            return real(interests, 1)

        monkeypatch.setattr(waiting, "_ready", ready)
        assert wait(Deadline.after(1e9), (pipe[0], READ)) == {pipe[0]: READ}
        assert polls == [2**31 - 1] * 3


class TestWaker:
    def test_wakes_a_waiting_thread(self) -> None:
        waker = Waker()
        with ThreadPoolExecutor(1) as pool:
            waiting_thread = pool.submit(wait, Deadline.after(60), (waker.fileno(), READ))
            waker.wake()
            assert waiting_thread.result() == {waker.fileno(): READ}
        waker.close()

    def test_stays_ready_until_cleared_however_often_it_was_woken(self) -> None:
        waker = Waker()
        for _ in range(3):
            waker.wake()
        assert waker.woken
        wait(Deadline.after(60), (waker.fileno(), READ))
        waker.clear()
        waker.clear()
        assert not waker.woken
        with pytest.raises(DeadlineExpired):
            wait(Deadline.after(0.01), (waker.fileno(), READ))
        waker.wake()
        wait(Deadline.after(60), (waker.fileno(), READ))
        waker.close()

    def test_wake_after_close_touches_no_descriptor(self) -> None:
        waker = Waker()
        waker.close()
        waker.wake()
        assert waker.fileno() == -1

    def test_no_wake_is_lost_to_a_clear_at_the_same_time(self) -> None:
        waker, told, seen = Waker(), [0], 0

        def tell() -> None:
            for number in range(1, 5001):
                told[0] = number
                waker.wake()

        thread = threading.Thread(target=tell)
        thread.start()
        while seen < 5000:
            wait(Deadline.after(60), (waker.fileno(), READ))
            waker.clear()
            seen = told[0]
        thread.join()
        waker.close()
