"""One chaos run from first process to verdict: start, hurt, heal, drain, stop, judge."""

import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.cluster.clients import Client, Journal
from harness.cluster.cluster import Cluster, until_ready
from harness.cluster.parts import wait_for
from harness.cluster.witness import Witness, check_store, final_entries, final_leases
from harness.history.replay import Catalogue
from harness.history.trace import Entry, Violation, dump
from harness.history.trace_check import EndState, Run, judge
from tests.chaos.burial import FREE_WITHIN_S, Burial, bury
from tests.chaos.faults import Fault, Nemesis, draw
from tests.chaos.scenery import BUDGET_MIB, LEASE_LIMIT, MEMORY_MIB, SETTINGS, models_of
from tests.chaos.streamers import Endings, Streamer

CLIENTS = 8
STREAMERS = 4
START_TIMEOUT_S = 60.0
PROGRESS_TIMEOUT_S = 60.0
"""After a fault has passed somebody is granted within this, or the run has found a hang."""
DRAIN_TIMEOUT_S = 150.0
"""After the last fault everybody who waits is served within this."""
ORPHAN_TIMEOUT_S = 20.0
HEALING_S = 6.0
"""After the last fault, until everything works again: a hung server is noticed, a worker registers."""
CALM_S = 10.0
"""Then everything has to work for so long."""
TOGETHER = 0.25
"""Share of faults that come in pairs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run."""

    seed: int
    faults: int
    longest_pause_s: float = 12.0
    real_servers: bool = False
    """Mix real ``llama-server`` processes in."""
    say: Callable[[str], None] = print


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of it."""

    seed: int
    folder: Path
    violations: list[Violation] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    """By kind and victim."""
    phases: Counter[str] = field(default_factory=Counter)
    recovery_s: list[float] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    journal: Journal = field(default_factory=Journal)
    endings: Endings = field(default_factory=Endings)
    burials: list[Burial] = field(default_factory=list)
    took_s: float = 0.0


async def run(plan: Plan) -> Outcome:
    """Run and judge. The folder with traces and logs stays only when something was broken."""
    folder = Path(tempfile.mkdtemp(prefix="hotseat-chaos-"))
    models = models_of(folder, real_servers=plan.real_servers)
    cluster = Cluster(folder, models, budget_mib=BUDGET_MIB, settings=SETTINGS)
    names = [model.name for model in models]
    catalogue = Catalogue(
        memory_mib=dict.fromkeys(names, MEMORY_MIB),
        lease_limit=dict.fromkeys(names, LEASE_LIMIT),
        budget_mib={"gpu0": BUDGET_MIB},
    )
    stage = _Stage(plan, cluster, Witness(cluster.store_url, catalogue, folder), catalogue, folder)
    start_s = time.monotonic()
    try:
        await stage.play(names)
    finally:
        stage.outcome.took_s = time.monotonic() - start_s
        await stage.witness.stop()
        cluster.bury()
    if not stage.outcome.violations:
        cluster.discard()
    return stage.outcome


class _Stage:
    """The run in progress."""

    def __init__(self, plan: Plan, cluster: Cluster, witness: Witness, catalogue: Catalogue, folder: Path) -> None:
        self._plan = plan
        self._cluster = cluster
        self.witness = witness
        self._catalogue = catalogue
        self._rng = random.Random(plan.seed)
        self._nemesis = Nemesis(cluster, witness)
        self._stopping = False
        self._calm_s = float("inf")
        self._clients: list[Client] = []
        self.outcome = Outcome(seed=plan.seed, folder=folder)

    async def play(self, models: Sequence[str]) -> None:
        """All acts."""
        await self._cluster.start()
        self.witness.start()
        tasks = self._start_clients(models)
        if await self.witness.next_event("granted", START_TIMEOUT_S) is None:
            self._broken("starts", "nobody was granted anything")
        else:
            await self._hurt()
        end = await self._drain(tasks)
        self._judge(end)

    def _start_clients(self, models: Sequence[str]) -> list[asyncio.Task[None]]:
        journal, urls = self.outcome.journal, self._cluster.broker_urls
        self._clients = [
            Client(f"agent-{number}", urls, models, journal, random.Random(f"{self._plan.seed}/{number}"))
            for number in range(CLIENTS)
        ]
        streamers = [
            Streamer(
                f"stream-{number}", urls, models, self.outcome.endings, random.Random(f"{self._plan.seed}/s{number}")
            )
            for number in range(STREAMERS)
        ]
        return [asyncio.create_task(one.run(lambda: self._stopping)) for one in (*self._clients, *streamers)]

    def _broken(self, invariant: str, detail: str) -> None:
        self._plan.say(f"VIOLATION {invariant}: {detail}")
        self.outcome.violations.append(Violation(invariant=invariant, subject="run", detail=detail))

    # ------------------------------------------------------------------------------------------------------- hurt

    async def _hurt(self) -> None:
        faults = draw(self._rng, longest_pause_s=self._plan.longest_pause_s)
        done = 0
        while done < self._plan.faults:
            together = [next(faults)]
            if self._rng.random() < TOGETHER and done + 1 < self._plan.faults:
                together.append(next(faults))
            phases = await asyncio.gather(*(self._nemesis.strike(fault) for fault in together))
            for fault, phase in zip(together, phases, strict=True):
                if phase:
                    done += 1
                    self._count(fault, phase)
            if not await self._recovered(done, list(zip(together, phases, strict=True))):
                return
            await asyncio.sleep(self._rng.uniform(0.2, 1.5))

    def _count(self, fault: Fault, phase: str) -> None:
        self.outcome.faults[f"{fault.kind} {fault.victim}"] += 1
        self.outcome.phases[phase] += 1

    async def _recovered(self, done: int, struck: Sequence[tuple[Fault, str]]) -> bool:
        """Somebody is granted again, or the run ends here."""
        start_s = time.monotonic()
        granted = await self.witness.next_event("granted", PROGRESS_TIMEOUT_S)
        took_s = time.monotonic() - start_s
        self.outcome.recovery_s.append(took_s)
        words = " & ".join(f"{fault} in {phase or 'nothing'}" for fault, phase in struck)
        now = f"{len(self.witness.entries)} events, {len(self.witness.replay.waiting())} waiting"
        self._plan.say(f"{done:4d}/{self._plan.faults}  {words}: next grant after {took_s:.1f} s ({now})")
        if granted is None:
            self._broken("progress", f"nobody was granted anything for {PROGRESS_TIMEOUT_S:g} s after {words}")
        for violation in self.witness.replay.violations:
            self._plan.say(f"  VIOLATION {violation}")
        return granted is not None and not self.witness.replay.violations

    # ----------------------------------------------------------------------------------------------- one more death

    async def _bury(self) -> None:
        """In fair weather a broker dies with streams in its hands: once to be missed, once to be back at once."""
        for broker, port, down_s in zip(("broker-1", "broker-2"), self._cluster.broker_ports, (8.0, 0.0), strict=True):
            try:
                burial = await bury(self._cluster, self.witness, broker, down_s=down_s)
            except TimeoutError:
                self._broken("a_dead_broker_lets_go", f"nobody streams through {broker}")
                continue
            self.outcome.burials.append(burial)
            self._plan.say(f"{broker} killed with {burial.held} leases in use: free after {burial.took_s:.1f} s")
            if burial.took_s > FREE_WITHIN_S:
                self._broken("a_dead_broker_lets_go", f"{broker}: not within {FREE_WITHIN_S:g} s")
            await until_ready(port)

    # -------------------------------------------------------------------------------------------------- heal, end

    async def _drain(self, tasks: Sequence[asyncio.Task[None]]) -> EndState:
        """No more faults: everybody who waits is served, every lease ends, everything stops."""
        await self._cluster.heal()
        await asyncio.sleep(HEALING_S)
        await self._bury()
        await asyncio.sleep(HEALING_S)
        self._calm_s = time.monotonic()
        await asyncio.sleep(CALM_S)
        self._stopping = True
        self._plan.say("faults stopped: everybody who waits is being served")
        await asyncio.wait(tasks, timeout=DRAIN_TIMEOUT_S)
        if busy := [client.name for client in self._clients if client.busy]:
            self._broken("every_ticket_ends", f"not done {DRAIN_TIMEOUT_S:g} s after the last fault: {', '.join(busy)}")
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                self._broken("client", repr(result))
        if not await wait_for(self._all_over, DRAIN_TIMEOUT_S / 2):
            self._broken("every_lease_ends", "leases nobody renews live on")
        states, queued = await final_leases(self._cluster.store_url)
        self.outcome.entries = await final_entries(self._cluster.store_url)
        complaints = await check_store(self._cluster.store_url)
        await self.witness.stop()
        for stubborn in await self._cluster.stop():
            self._broken("stops_when_asked", f"{stubborn} had to be killed")
        orphans = await self._cluster.orphans(ORPHAN_TIMEOUT_S)
        return EndState(store_states=states, queued=queued, check=complaints, orphans=orphans)

    def _all_over(self) -> bool:
        return all(lease.state == "ended" for lease in self.witness.replay.leases.values())

    def _judge(self, end: EndState) -> None:
        outcome, witness = self.outcome, self.witness
        verdict = judge(
            Run(
                catalogue=self._catalogue,
                entries=outcome.entries,
                witnessed=witness.entries,
                operations=outcome.journal.operations,
                samples=witness.samples,
                calm_s=self._calm_s,
                end=end,
            )
        )
        outcome.violations += verdict
        unexpected = [end for part in self._cluster.parts.values() for end in part.unexpected]
        for invariant, details in (
            ("clients_are_answered", outcome.journal.complaints),
            ("nobody_ends_by_himself", unexpected),
            ("streams_end_in_words", outcome.endings.silent),
        ):
            outcome.violations += [Violation(invariant=invariant, subject="run", detail=one) for one in details]
        dump(outcome.folder / "events.jsonl", witness.entries)
        dump(outcome.folder / "operations.jsonl", outcome.journal.operations)
        dump(outcome.folder / "samples.jsonl", witness.samples)
