"""When memory is trimmed; what comes of it is shown on a real process, in `test_memory_comes_back.py`."""

import asyncio
from collections.abc import Iterable

import pytest

from broker.gateway.requests.bodies import BodyRoom
from broker.process import allocator

MUCH = allocator.MUCH


async def trimmed(monkeypatch: pytest.MonkeyPatch, changes: Iterable[int]) -> list[int]:
    """After which looks, where so many bytes come or go before each."""
    room, looks, found = BodyRoom(max_body=1, max_bytes=1, max_open=1), 0, list[int]()
    waiting = iter(changes)

    async def sleep(_seconds: float) -> None:
        nonlocal looks
        looks += 1
        change = next(waiting, None)
        if change is None:
            raise asyncio.CancelledError
        if change < 0:
            room.leave(-change)
        else:
            room.take(change)

    monkeypatch.setattr(allocator.asyncio, "sleep", sleep)
    monkeypatch.setattr(allocator, "trim", lambda: found.append(looks))
    with pytest.raises(asyncio.CancelledError):
        await allocator.forever(room)
    return found


async def test_what_is_over_is_trimmed_once_a_look_later(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await trimmed(monkeypatch, [2 * MUCH, -2 * MUCH, 0, 0, 0, 0]) == [3]


def test_a_peak_between_two_looks_is_not_missed() -> None:
    room = BodyRoom(max_body=1, max_bytes=1, max_open=1)
    room.take(MUCH)
    room.leave(MUCH)
    assert room.fallen() == MUCH


@pytest.mark.parametrize(
    "changes", [[MUCH - 1, 1 - MUCH] * 4, [MUCH] * 8, [4 * MUCH, *[1 - MUCH, MUCH - 1] * 4]], ids=["low", "up", "high"]
)
async def test_a_steady_load_is_not_trimmed(monkeypatch: pytest.MonkeyPatch, changes: list[int]) -> None:
    assert await trimmed(monkeypatch, changes) == []


async def test_each_fall_is_trimmed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await trimmed(monkeypatch, [MUCH, -MUCH, 0, MUCH, -MUCH, 0, 0]) == [3, 6]


def test_limits_can_be_set_and_memory_trimmed_on_any_system() -> None:
    allocator.settle()
    allocator.trim()
