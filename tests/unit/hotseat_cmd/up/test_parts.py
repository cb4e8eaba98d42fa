"""A part that dies is started again; one that cannot stay up stops everything and shows its log."""

import asyncio
import contextlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from hotseat.up import parts
from hotseat.up.parts import Part, PartFailedError, Parts


class Script:
    """Stands for a process: ends with the given statuses, one after the other, then runs for ever."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        self.starts = 0
        self.stopped = False

    def start(self) -> SimpleNamespace:
        self.starts += 1
        code = self.codes.pop(0) if self.codes else None
        return SimpleNamespace(
            process=SimpleNamespace(poll=lambda: code), log_tail=lambda: "port is taken", stop=self.stop
        )

    def stop(self, *, timeout_s: float) -> None:
        assert timeout_s > 0
        self.stopped = True


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "WATCH_INTERVAL_S", 0.0)
    monkeypatch.setattr(parts, "FIRST_PAUSE_S", 0.0)


def watched(script: Script, *, final_codes: frozenset[int] = frozenset(), until_starts: int = 99) -> list[str]:
    said: list[str] = []
    group = Parts(say=said.append)
    group.add(Part(name="broker", start=script.start, stop_timeout_s=1, final_codes=final_codes))

    async def go() -> None:
        watching = asyncio.create_task(group.watch())
        while script.starts < until_starts and not watching.done():  # noqa: ASYNC110 - the double has no event
            await asyncio.sleep(0)
        watching.cancel()
        await watching

    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(go())
    return said


def test_a_killed_part_is_started_again() -> None:
    script = Script(-9)
    assert watched(script, until_starts=2) == ["the broker was killed by signal 9; starting it again"]


def test_a_part_that_never_stays_up_is_given_up_with_its_log() -> None:
    with pytest.raises(PartFailedError, match=r"ended with status 1 and cannot be kept up:\nport is taken"):
        watched(Script(*[1] * 50))


def test_a_wrong_configuration_is_not_tried_again() -> None:
    script = Script(2)
    with pytest.raises(PartFailedError):
        watched(script, final_codes=frozenset({2}))
    assert script.starts == 1


def test_parts_stop_in_reverse_order(tmp_path: Path) -> None:
    order: list[str] = []
    group = Parts(say=order.append)
    for name in ("store", "broker"):
        child = SimpleNamespace(stop=lambda *, timeout_s, name=name: order.append(name))
        group.add(Part(name=name, start=lambda child=child: child, stop_timeout_s=1))
    group.stop()
    assert order == ["broker", "store"]
