"""What goes wrong in a chaos run, when, and for how long: all drawn from one seed."""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from harness.cluster.cluster import Cluster
from harness.cluster.parts import wait_for
from harness.cluster.processes import Process, guardians, servers
from harness.cluster.proxy import Weather
from harness.cluster.witness import Witness

VICTIM_TIMEOUT_S = 8.0
"""A model server or guardian to hurt turns up within this, or the fault falls flat and is drawn again."""
PHASE_TIMEOUT_S = 4.0
POLL_S = 0.02


class Kind(StrEnum):
    """What is done to the victim."""

    KILL = "kill"
    PAUSE = "pause"
    DROP = "drop"
    HALF_OPEN = "half_open"
    LOST_REPLY = "lost_reply"
    DELAY = "delay"


WEATHER = {
    Kind.DROP: Weather.DROP,
    Kind.HALF_OPEN: Weather.HALF_OPEN,
    Kind.LOST_REPLY: Weather.LOST_REPLY,
    Kind.DELAY: Weather.DELAY,
}
PARTS = ("broker-1", "broker-2", "worker", "valkey")
SERVANTS = ("guardian", "server")
LINKS = ("worker-store", "broker-1-store", "broker-2-store", "client-broker-1", "client-broker-2")
MOMENTS = ("", "granted", "loading", "loading", "ready", "unloading", "unloading", "absent", "ended", "queued")
"""Events a fault may wait for, so that it hits a transition and not the calm between two; twice: twice as often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong."""

    kind: Kind
    victim: str
    moment: str
    """Injected just after this event; empty: at once."""
    after_s: float
    """… and so long after it."""
    lasts_s: float
    delay_s: float = 0.0

    def __str__(self) -> str:
        """As the progress line shows it."""
        when = f" after {self.moment}+{self.after_s:.2f} s" if self.moment else ""
        return f"{self.kind} {self.victim} {self.lasts_s:.1f} s{when}"


def draw(rng: random.Random, *, longest_pause_s: float) -> Iterator[Fault]:
    """Faults without end: every pair of kind and victim comes once before any comes again; kills and pauses twice."""
    harm = [(kind, victim) for kind in (Kind.KILL, Kind.PAUSE) for victim in (*PARTS, *SERVANTS)]
    cuts = [(kind, victim) for kind in WEATHER for victim in LINKS]
    while True:
        bag = [*harm, *harm, *cuts]
        rng.shuffle(bag)
        for kind, victim in bag:
            yield Fault(
                kind=kind,
                victim=victim,
                moment=rng.choice(MOMENTS),
                after_s=rng.choice((0.0, rng.uniform(0.0, 0.05), rng.uniform(0.0, 0.6))),
                lasts_s=_length_s(rng, kind, longest_pause_s),
                delay_s=rng.uniform(0.02, 0.4),
            )


def _length_s(rng: random.Random, kind: Kind, longest_pause_s: float) -> float:
    """Of a kill: how long nobody starts the victim again."""
    if kind is Kind.KILL:
        return rng.choice((0.0, rng.uniform(0.0, 2.0)))
    if kind is Kind.PAUSE:
        return rng.uniform(1.0, longest_pause_s)
    return rng.uniform(0.3, longest_pause_s / 2)


class Nemesis:
    """Carries faults out."""

    def __init__(self, cluster: Cluster, witness: Witness) -> None:
        self._cluster = cluster
        self._witness = witness

    async def strike(self, fault: Fault) -> str:
        """Wait for the moment, do harm, undo it; answers the phase that was hit, empty when there was no victim."""
        if fault.moment:
            await self._witness.next_event(fault.moment, PHASE_TIMEOUT_S)
        await asyncio.sleep(fault.after_s)
        if fault.kind in WEATHER:
            return await self._cut(fault)
        if fault.victim in PARTS:
            return await self._hurt_part(fault)
        return await self._hurt_servant(fault)

    async def _cut(self, fault: Fault) -> str:
        phase = self._witness.phase()
        proxy = self._cluster.proxies[fault.victim]
        proxy.change(WEATHER[fault.kind], delay_s=fault.delay_s)
        await asyncio.sleep(fault.lasts_s)
        proxy.clear()
        return phase

    async def _hurt_part(self, fault: Fault) -> str:
        part = self._cluster.parts[fault.victim]
        if not await wait_for(lambda: part.pid != 0, VICTIM_TIMEOUT_S):
            return ""
        phase = self._witness.phase()
        if fault.kind is Kind.KILL:
            part.kill(down_s=fault.lasts_s)
            await asyncio.sleep(fault.lasts_s)
        else:
            await _pause(part.pid, fault.lasts_s)
        return phase

    async def _hurt_servant(self, fault: Fault) -> str:
        deadline_s = time.monotonic() + VICTIM_TIMEOUT_S
        while not (victims := self._servants(fault.victim)):
            if time.monotonic() > deadline_s:
                return ""
            await asyncio.sleep(POLL_S)
        phase = self._witness.phase()
        if fault.kind is Kind.KILL:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victims[0].pid, signal.SIGKILL)
        else:
            await _pause(victims[0].pid, fault.lasts_s)
        return phase

    def _servants(self, kind: str) -> list[Process]:
        return guardians(self._cluster.folder) if kind == "guardian" else servers(self._cluster.folder)


async def _pause(pid: int, lasts_s: float) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(lasts_s)
        os.kill(pid, signal.SIGCONT)
