"""Where large bodies are looked through: beside the event loop, one at a time, by turns.

Rule: one works and the others wait, for on one interpreter more of them would only take the processor from the loop.
After a slice of work whoever works makes way for whoever has waited longest, so a small body never waits for a large
one, only for a slice of it. What nobody waits for any more ends with its next step.
"""

import asyncio
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

from broker.routing.text.work import Work

THREAD_BYTES = 16 * 1024
"""A larger body is looked through in a thread: it would hold up everybody else for more than three milliseconds."""
AT_ONCE = 64
"""How many bodies take turns; more of them wait for one of these to be done."""
SWITCH_S = 0.001
"""After this a thread makes way for the loop, seconds; Python's own 5 ms are long beside a chunk of a stream."""
WORK_PER_BYTE = 4
"""Units of work that a body of the largest size may cost, by its bytes: twice what a plain text of that size does."""
WORK_AT_LEAST = 1024 * 1024

Result = TypeVar("Result")
_Given = TypeVarTuple("_Given")


class InspectionTurns:
    """Lets one thread work at a time, in the order in which they asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy = False
        self._waiting: deque[threading.Lock] = deque()

    def enter(self) -> None:
        """Wait until it is the calling thread's turn; blocks."""
        with self._lock:
            if not self._busy:
                self._busy = True
                return
            gate = self._gate()
        gate.acquire()

    def leave(self) -> None:
        """End the calling thread's turn, and begin the next one's."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._busy = False

    def give_way(self) -> None:
        """Let everybody who waits have a turn first."""
        with self._lock:
            if not self._waiting:
                return
            gate = self._gate()
            self._waiting.popleft().release()
        gate.acquire()

    def _gate(self) -> threading.Lock:
        """Make a lock for the end of the queue; it opens when its turn comes. The caller holds ``_lock``."""
        gate = threading.Lock()
        gate.acquire()
        self._waiting.append(gate)
        return gate


class InspectionThreads:
    """The threads of one process that look through bodies; they start with the first large body."""

    def __init__(self, look_through_bytes: int) -> None:
        """Allow bodies up to this size."""
        self._limit = WORK_PER_BYTE * look_through_bytes + WORK_AT_LEAST
        self._turns = InspectionTurns()
        self._under_way: set[Work] = set()
        self._threads = ThreadPoolExecutor(
            AT_ONCE, "inspection", initializer=sys.setswitchinterval, initargs=(SWITCH_S,)
        )

    def work(self, size: int) -> Work:
        """Return what looking through a body of so many bytes may cost."""
        return Work(self._limit, self._turns.give_way) if size > THREAD_BYTES else Work(self._limit)

    async def by_turns(self, work: Work, function: Callable[[*_Given], Result], *given: *_Given) -> Result:
        """Call a function that counts its work; whoever is cancelled meanwhile leaves no work behind."""
        self._under_way.add(work)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._in_turn, function, *given)
        except asyncio.CancelledError:
            work.stop()
            raise
        finally:
            self._under_way.discard(work)

    def _in_turn(self, function: Callable[[*_Given], Result], *given: *_Given) -> Result:
        self._turns.enter()
        try:
            return function(*given)
        finally:
            self._turns.leave()

    def close(self) -> None:
        """Stop all work because the process ends; threads that still run are not waited for."""
        for work in self._under_way:
            work.stop()
        self._threads.shutdown(wait=False, cancel_futures=True)
