"""Large bodies are looked through by turns."""

import asyncio
import threading

import pytest

from broker.gateway.requests.inspection import THREAD_BYTES, InspectionThreads
from broker.routing.text.work import SLICE, TooCostlyError, Work
from tests.fakes.broker_scene import until

LARGE = THREAD_BYTES + 1


class Job:
    """So many slices of work; tells when each begins."""

    def __init__(self, inspection_threads: InspectionThreads, name: str, slices: int, told: list[str]) -> None:
        self.work = inspection_threads.work(LARGE)
        self.gate = threading.Event()
        self.begun = threading.Event()
        self._name, self._slices, self._told = name, slices, told

    def run(self) -> int:
        self.begun.set()
        self.gate.wait(10)
        for _ in range(self._slices):
            self._told.append(self._name)
            self.work.spend(SLICE)
        return self.work.spent


async def begun(job: Job) -> None:
    await until(job.begun.is_set)


async def in_line(inspection_threads: InspectionThreads, count: int) -> None:
    await until(lambda: len(inspection_threads._turns._waiting) == count)


async def test_whoever_comes_gets_a_turn_after_a_slice_of_each_before_him():
    told: list[str] = []
    inspection_threads = InspectionThreads(8 * 1024 * 1024)
    large, other, small = (
        Job(inspection_threads, name, slices, told) for name, slices in (("L", 9), ("O", 9), ("s", 2))
    )
    other.gate.set()
    small.gate.set()
    tasks = []
    for count, job in enumerate((large, other, small)):
        tasks.append(asyncio.create_task(inspection_threads.by_turns(job.work, job.run)))
        await (in_line(inspection_threads, count) if count else begun(large))
    large.gate.set()
    assert await asyncio.gather(*tasks) == [9 * SLICE, 9 * SLICE, 2 * SLICE]
    assert "".join(told) == "LOsLOs" + "LO" * 7
    inspection_threads.close()


async def test_only_one_works_at_a_time():
    inspection_threads, inside, most = InspectionThreads(8 * 1024 * 1024), [0], [0]

    def work_on(work: Work) -> None:
        for _ in range(20):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            inside[0] -= 1
            work.spend(SLICE)

    works = [inspection_threads.work(LARGE) for _ in range(20)]
    await asyncio.gather(*(inspection_threads.by_turns(work, work_on, work) for work in works))
    assert most == [1]
    inspection_threads.close()


async def test_what_nobody_waits_for_any_more_ends_with_its_next_step():
    told: list[str] = []
    inspection_threads = InspectionThreads(8 * 1024 * 1024)
    job, never = Job(inspection_threads, "j", 100, told), Job(inspection_threads, "n", 100, told)
    task = asyncio.create_task(inspection_threads.by_turns(job.work, job.run))
    await begun(job)
    waiting = asyncio.create_task(inspection_threads.by_turns(never.work, never.run))
    await in_line(inspection_threads, 1)
    for one in (task, waiting):
        one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await one
    job.gate.set()
    never.gate.set()
    assert await inspection_threads.by_turns(inspection_threads.work(0), lambda: "next") == "next"
    assert len(told) <= 2
    inspection_threads.close()


def test_when_the_process_ends_nothing_is_looked_through_any_more():
    inspection_threads = InspectionThreads(8 * 1024 * 1024)
    work = inspection_threads.work(LARGE)
    inspection_threads._under_way.add(work)
    inspection_threads.close()
    with pytest.raises(TooCostlyError):
        work.spend(1)
