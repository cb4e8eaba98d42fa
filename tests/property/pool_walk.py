"""Seeded random walks over a pool, steered so that they go deep: workers obey, load, fail, die; time reaches deadlines.

A walk makes steps; each is a call as data (`Step`), so that one machine or two can carry it out. What a step needs to
know (a lease to release, a generation to name) it reads from the Python pool.

Longer than a file should be: one table of steps with what each needs, read as a whole.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from broker.core.lease import Intent, LeaseId, LeaseState, LifeId, ModelName, Priority, SlotId
from broker.core.slot import SlotState
from broker.core.snapshot import ADMIT_ALL
from broker.pool.machine import ModelSpec, Pool
from broker.pool.records.lease_row import Ask, LeaseRow
from broker.pool.records.rows import PoolRules
from schemas.messages import FailureKind, Inspection, Report, ResidencyReport, report_to_hash
from schemas.residency import Residency

START_MS = 1_700_000_000_000
MODELS = (
    ModelSpec(name=ModelName("a"), memory_mib=1000, lease_limit=1, is_default=True),
    ModelSpec(name=ModelName("b"), memory_mib=1000, lease_limit=3, load_hint_ms=7000, hold_hint_ms=9000),
    ModelSpec(name=ModelName("c/x:1"), memory_mib=1700, lease_limit=2, release_ms=30_000),
    ModelSpec(name=ModelName("huge"), memory_mib=9000, lease_limit=1),
)
PINNED = (replace(MODELS[0], pinned=True, weight=2500), replace(MODELS[1], keep=2), *MODELS[2:])
"""With one pinned, what needs more than is left beside it fits nowhere."""
NAMES = tuple(model.name for model in MODELS)
ASKED_FOR = (*NAMES[:3], *NAMES[:3], NAMES[3], ModelName("none"))
SETTINGS = PoolRules(
    max_queue=9,
    max_queue_session=3,
    max_kept=9,
    claim_ttl_ms=4000,
    op_ttl_ms=3_600_000,
    ended_ttl_ms=3_600_000,
    silence_ms=12_000,
    load_retry_ms=500,
    load_backoff_ms=2000,
    max_fails=3,
    max_wait_ms=(20_000, 15_000, 9_000, 6_000),
)
SLOTS = (SlotId("gpu0"), SlotId("gpu1"))
LIES: tuple[str | bytes, ...] = (
    "", "0", "-1", "1.5", "1e300", "inf", "nan", "0x10", " 7", "7 ", "9007199254740991", "9007199254740992",
    "189345600000000", "5000000000", "101", "ready", "failed", "x\0y", "\x1b[31mred", "new\nline", "é\x85ü", "http://a/v1",
    "a b", "a  c/x:1 ", "a,b", "x" * 1025, "9" * 400, b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80",
    b"\xf0\x9f\x98\x80", b"\xe2\x82", b"ok \xc3\xa9",
)  # fmt: skip
"""What a report's field may be."""


@dataclass(frozen=True)
class Step:
    """One call: the function's name, and its arguments by name."""

    call: str
    args: dict[str, Any] = field(default_factory=dict)


@dataclass
class Worker:
    """One GPU host's worker, as simple as the rules of docs/internals.md section 7 allow."""

    boot: str
    home: str = "here"
    inc: str = ""
    epoch: int = 0
    hw: int = 0
    beat: int = 0
    budget: int = 2000
    fault: str = ""
    models: dict[str, ResidencyReport] = field(default_factory=dict)
    inspections: dict[str, Inspection] = field(default_factory=dict)

    def report(self) -> Report:
        self.beat += 1
        return Report(
            worker="host", boot=self.boot, home=self.home, incarnation=self.inc, epoch=self.epoch, high_water=self.hw,
            beat=self.beat, budget_mib=self.budget, total_mib=2000, free_mib=100, serves=NAMES[:3], fault=self.fault,
            used_percent=self.beat * 37 % 101, foreign_percent=self.beat * 53 % 102 - 1,
            residencies=tuple(self.models.values()), inspections=tuple(self.inspections.values()),
        )  # fmt: skip


class Walk:
    """One seeded walk: ``steps`` yields what to do next, looking at ``pool``."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.pool = Pool()
        self.wall_ms = START_MS
        self.run = f"{seed:x}0"
        self.workers = {slot: Worker(boot=f"boot-{slot}-0") for slot in SLOTS[: self.random.choice((1, 1, 2))]}
        self.seen: Counter[str] = Counter()
        self._number = 0
        self._script: list[Callable[[], Step | None]] = []
        self._asks: list[Ask] = []

    # ------------------------------------------------------------------------------------------------------ choosing
    def next_step(self) -> Step:
        """What happens next: the rest of a scene that has begun, or anything."""
        while True:
            if self._script:
                made = self._script.pop(0)()
                if made is not None:
                    return made
                continue
            made = self.random.choices(CHOICES, WEIGHTS)[0](self)
            if made is not None:
                return made

    def _fresh(self) -> int:
        self._number += 1
        return self._number

    def _lease(self, *states: LeaseState) -> LeaseRow | None:
        found = [lease for lease in self.pool.leases.values() if not states or lease.state in states]
        return self.random.choice(found) if found else None

    def ask(self) -> Step:
        pick, number = self.random, self._fresh()
        if self._asks and pick.random() < 0.15:  # the same call again: a reply was lost, or an old key comes back
            old = pick.choice(self._asks)
            body = old.body if pick.random() < 0.8 else "other"
            return Step(
                "acquire", {"ask": replace(old, body=body, id=old.id if pick.random() < 0.5 else LeaseId(f"L{number}"))}
            )
        session = f"s{pick.randrange(6)}"
        ask = Ask(
            id=LeaseId(f"L{number}"), nonce=f"n{number}", session=session, sh=session * 3,
            hh=pick.choice(("h0", "h0", "h1")), model=pick.choice(ASKED_FOR),
            intent=Intent.USE if pick.random() < 0.85 else Intent.WARM, holder="", who=pick.choice(("k1", "k2")),
            priority=pick.choice(tuple(Priority)), ttl_ms=pick.choice((1000, 5000, 20_000, 60_000)),
            waiter_ttl_ms=pick.choice((3000, 20_000, 60_000)), estimate_ms=pick.choice((0, 0, 1000, 30_000)),
            op=f"op{pick.randrange(9)}" if pick.random() < 0.3 else "", body=pick.choice(("x", "x", "y")),
            max_open=pick.choice((0, 0, 0, 5)), single=pick.random() < 0.3, only_warm=pick.random() < 0.15,
            label="nightly%20run" if number % 3 == 0 else "",
        )  # fmt: skip
        if not ask.op:
            ask = replace(ask, body="")
        if pick.random() < (0.4 if self.pool.lives else 0.02):
            ask = self._of_a_life(ask)
        self._asks.append(ask)
        return Step("acquire", {"ask": ask})

    def _of_a_life(self, ask: Ask) -> Ask:
        """A request of ``/v1``: a holder of its own, known again by its place."""
        pick = self.random
        hh = ask.id if pick.random() < 0.9 else ask.hh
        place, named = pick.choice(("p0", "p0", "p1", "")), pick.random() < 0.5
        session = pick.choice(("s0", "s0", "s1"))
        return replace(ask, hh=hh, life=self._life(), place=place, named=named, session=session, sh=session * 3)

    def _life(self) -> LifeId:
        known = sorted(self.pool.lives)
        return self.random.choice(known) if known and self.random.random() < 0.95 else LifeId("none/0")

    def life(self) -> Step:
        """A broker starts, is there, finds its life over, stops."""
        name, pick = self.random.choice(("b1", "b2")), self.random.random()
        if pick < 0.3 or not self.pool.lives:
            boot = self._fresh() if self.random.random() < 0.95 else "/"
            call = "begin_life" if self.random.random() < 0.7 else "rejoin"
            return Step(call, {"life": LifeId(f"{name}/{boot}")})
        return Step("beat" if pick < 0.9 else "end_life", {"life": self._life()})

    def send_away(self) -> Step | None:
        found = [lease for lease in self.pool.leases.values() if lease.life and lease.ended == 0]
        lease = self.random.choice(found) if found else self._lease()
        if lease is None:
            return None
        times = {"back_ms": self.random.choice((0, 500, 3000, -1)), "kept_ms": self.random.choice((1, 9000))}
        life = lease.life if self.random.random() < 0.9 else self._life()
        return Step("send_away", {"lease_id": lease.id, "nonce": self._nonce(lease), "life": life} | times)

    def come_back(self) -> Step | None:
        """A client asks again, with the same words, at whatever broker."""
        gone = [lease for lease in self.pool.leases.values() if lease.left]
        if not gone or not self.pool.lives:
            return None
        lease, number = self.random.choice(gone), self._fresh()
        session = lease.session if self.random.random() < 0.7 else "s1"
        ask = Ask(
            id=LeaseId(f"L{number}"), nonce=f"n{number}", session=session, sh=session * 3, hh=f"L{number}",
            model=lease.model, intent=lease.intent, holder="", who=lease.who, priority=lease.priority, ttl_ms=5000,
            waiter_ttl_ms=20_000, life=self._life(), place=lease.place or "p2", named=self.random.random() < 0.5,
        )  # fmt: skip
        return Step("acquire", {"ask": ask})

    def return_elsewhere(self) -> Step:
        """A client whose broker dies is at another one before anybody knows, or after."""
        first, second = LifeId(f"b1/{self._fresh()}"), LifeId(f"b2/{self._fresh()}")
        model, who = self.random.choice(NAMES[:3]), self.random.choice(("k1", "k2"))

        def asks(life: LifeId, place: str) -> Callable[[], Step]:
            def made() -> Step:
                number, session = self._fresh(), self.random.choice(("s0", "s0", "s1"))
                ask = Ask(
                    id=LeaseId(f"L{number}"), nonce=f"n{number}", session=session, sh=session * 3, hh=f"L{number}",
                    model=model, intent=Intent.USE, holder="", who=who, priority=Priority.NORMAL, ttl_ms=5000,
                    waiter_ttl_ms=20_000, life=life, place=place, named=self.random.random() < 0.5, single=True,
                )  # fmt: skip
                return Step("acquire", {"ask": ask})

            return made

        script = [lambda: Step("begin_life", {"life": second})]
        script += [asks(self.random.choice((first, first, second)), self.random.choice(("p0", "p1"))) for _ in range(3)]
        if self.random.random() < 0.5:
            script.append(self.send_away)
        script.append(lambda: Step(self.random.choice(("end_life", "begin_life")), {"life": first}))
        script += [asks(second, self.random.choice(("p0", "p1", "p2"))) for _ in range(2)]
        self._script += script
        return Step("begin_life", {"life": first})

    def miss_beats(self) -> Step:
        """Brokers look, and somebody's beats are missing."""
        for _ in range(3):
            self._script += [lambda: Step("time", {"ms": 900}), self.tick]
        self._script += [self.come_back, self.come_back]
        return self.tick()

    def _nonce(self, lease: LeaseRow) -> str:
        return lease.nonce if self.random.random() < 0.85 else "stale"

    def poll(self) -> Step | None:
        lease = self._lease()
        return lease and Step("poll", {"lease_id": lease.id, "waiter_ttl_ms": self.random.choice((0, 3000, 20_000))})

    def renew(self) -> Step | None:
        lease = self._lease(LeaseState.QUEUED, LeaseState.ACTIVE, LeaseState.ENDING) or self._lease()
        ttl = self.random.choice((-1, 2000, 20_000))
        return lease and Step("renew", {"lease_id": lease.id, "nonce": self._nonce(lease), "ttl_ms": ttl, "who": "k1"})

    def release(self) -> Step | None:
        lease = self._lease(LeaseState.ACTIVE, LeaseState.ENDING) if self.random.random() < 0.7 else self._lease()
        return lease and Step("release", {"lease_id": lease.id, "nonce": self._nonce(lease), "who": "k2"})

    def end(self) -> Step:
        lease = self._lease()
        return Step("end", {"lease_id": lease.id if lease else "L0", "who": "operator:x", "why": "because"})

    def preempt(self) -> Step | None:
        lease = self._lease(LeaseState.ACTIVE) or self._lease()
        return lease and Step(
            "preempt", {"lease_id": lease.id, "grace_ms": self.random.choice((0, 3000)), "why": "slice"}
        )

    def tick(self) -> Step:
        return Step("tick")

    def time(self) -> Step:
        return Step("time", {"ms": self.random.choice((1, 50, 700, 2500, 5000, 5001, 60_000, -3000))})

    def to_deadline(self) -> Step | None:
        first = self.pool.due.first()
        if first is None:
            return None
        left = first[0] - self.pool.known.clock_log - (self.wall_ms - self.pool.known.clock_wall)
        return Step("time", {"ms": min(max(left + self.random.choice((-1, 0, 0, 1)), 0), 5000)})

    # ------------------------------------------------------------------------------------------------------- workers
    def obey(self) -> Step:
        """A worker reads its orders and gets one step further."""
        slot = self.random.choice(tuple(self.workers))
        worker, orders = self.workers[slot], self.pool.orders.get(slot)
        if orders is None or orders.inc != worker.inc:
            worker.inc, worker.epoch = (orders.inc, 0) if orders else ("", 0)
            return self._report(slot)
        if orders.boot != worker.boot:
            return self._report(slot)
        worker.epoch = orders.epoch
        if orders.gen < worker.hw:
            return self._report(slot)
        worker.hw = orders.gen
        self._one_step(worker, dict(orders.wants))
        return self._report(slot)

    def _one_step(self, worker: Worker, wants: dict[ModelName, tuple[int, str, Residency]]) -> None:
        for name, seen in list(worker.models.items()):
            if wants.get(ModelName(name), (0,))[0] != seen.generation:
                del worker.models[name]
                return
        for name, (gen, *_) in wants.items():
            seen = worker.models.get(name)
            if seen is None:
                worker.models[name] = ResidencyReport(model=name, state=Residency.LOADING, generation=gen)
                return
            if seen.state is Residency.LOADING:
                worker.models[name] = self._further(seen)
                return

    def _further(self, seen: ResidencyReport) -> ResidencyReport:
        pick = self.random.random()
        if pick < 0.15:
            kind = self.random.choice((None, *FailureKind))
            return ResidencyReport(
                model=seen.model, state=Residency.FAILED, generation=seen.generation, error="e: 1", failure=kind
            )
        if pick < 0.3:
            progress = min(seen.progress + 20, 100)
            return ResidencyReport(
                model=seen.model, state=seen.state, generation=seen.generation, progress=progress, memory_mib=50
            )
        return ResidencyReport(
            model=seen.model, state=Residency.READY, generation=seen.generation, url=f"http://{seen.model}/v1",
            memory_mib=self.random.choice((0, 900)), took_ms=self.random.choice((0, 1234)),
        )  # fmt: skip

    def lie(self) -> Step:
        """A field of a report is anything at all, of the slot's own worker or of another one that writes there."""
        slot = self.random.choice(tuple(self.workers))
        worker = self.workers[slot]
        fields = sorted(report_to_hash(worker.report())) + [f"{field}:a" for field in ("took_ms", "error", "state")]
        lies = {self.random.choice(fields): self.random.choice(LIES) for _ in range(self.random.choice((1, 1, 3)))}
        if self.random.random() < 0.2:
            rival = Worker(boot="rival", home="there", inc=worker.inc)
            return Step("observe", {"slot": slot, "report": rival.report(), "lies": lies})
        return Step("observe", {"slot": slot, "report": worker.report(), "lies": lies})

    def _report(self, slot: SlotId) -> Step:
        return Step("observe", {"slot": slot, "report": self.workers[slot].report()})

    def disturb(self) -> Step:
        """Something goes wrong on a GPU host."""
        slot, pick = self.random.choice(tuple(self.workers)), self.random.random()
        worker = self.workers[slot]
        if pick < 0.2 and worker.models:  # a model server dies
            del worker.models[self.random.choice(tuple(worker.models))]
        elif (
            pick < 0.25 and worker.models
        ):  # one that was ready is proved to be of no use, or the worker says how it died
            seen = self.random.choice(tuple(worker.models.values()))
            kind, error = self.random.choice(tuple(FailureKind)), self.random.choice(("server_useless: mute", ""))
            worker.models[seen.model] = msgspec.structs.replace(seen, state=Residency.FAILED, error=error, failure=kind)
        elif pick < 0.5:  # the worker restarts, adopts some of its servers
            worker.boot, worker.epoch = f"boot-{slot}-{self._fresh()}", 0
            worker.models = {name: seen for name, seen in worker.models.items() if self.random.random() < 0.6}
        elif pick < 0.65:
            worker.fault = "" if worker.fault else "device lost"
        elif pick < 0.8:
            worker.budget = self.random.choice((2000, 2000, 1500))
        elif pick < 0.87:  # a superseded process goes on reporting
            return Step("observe", {"slot": slot, "report": Worker(boot=f"boot-{slot}-0", inc=worker.inc).report()})
        elif pick < 0.95:  # another host's worker claims the slot, or one that does not say where it is at home
            rival = Worker(
                boot=f"rival-{self._fresh()}", home=self.random.choice(("there", "there", "")), inc=worker.inc
            )
            return Step("observe", {"slot": slot, "report": rival.report()})
        else:  # the store is behind the worker: it forgot an epoch and a generation
            worker.epoch += 3
            worker.hw += 5
        return self._report(slot)

    def inspect(self) -> Step:
        """Programs and files come, go and change; preferably of a model that failed."""
        slot = self.random.choice(tuple(self.workers))
        failed = [model for (at, model), row in self.pool.residencies.items() if at == slot and row.kind is not None]
        model, trouble = self.random.choice(failed or NAMES[:3]), self.random.choice(("", "", "", "no such file: /x"))
        stamp = self.random.choice(("", "stamp1", "stamp2"))
        prior_ms = self.random.choice((0, 1, 40_000, 90_000, 21_600_000))
        self.workers[slot].inspections[model] = Inspection(model=model, stamp=stamp, trouble=trouble, prior_ms=prior_ms)
        return self._report(slot)

    # ----------------------------------------------------------------------------------------------------- scheduler
    def want(self) -> Step | None:
        slots = [row for row in self.pool.slots.values() if row.state is SlotState.OPEN] or list(
            self.pool.slots.values()
        )
        if not slots:
            return None
        slot = self.random.choice(slots)
        waiting = [name for name in NAMES[:3] if name in self.pool.models and self.pool.models[name].queued]
        model = self.random.choice(waiting or NAMES)
        idle = [name for name in slot.models if name != model and self.pool.residencies[slot.slot, name].use == 0]
        evict = [name for name in idle if self.pool.residencies[slot.slot, name].state is not Residency.UNLOADING]
        evict = [name for name in evict if self.pool.residencies[slot.slot, name].state is not Residency.ABSENT]
        if self.random.random() < 0.3:
            evict = evict[:1]
        generation = slot.gen if self.random.random() < 0.9 else slot.gen - 1
        idle = self.random.choice(("prefetch", "prefetch", "restore", "operator:x"))
        why = "waiters" if waiting or self.random.random() < 0.1 else idle
        depth = "ready" if self.random.random() < 0.95 else self.random.choice((*Residency, "parked", ""))
        args = {"slot": slot.slot, "model": model, "generation": generation, "evict": evict, "why": why, "depth": depth}
        return Step("want", args | {"key": f"key{self._fresh()}"})

    def unwant(self) -> Step | None:
        rows = [key for key in self.pool.residencies]  # noqa: C416  a list to choose from
        if not rows:
            return None
        slot, model = self.random.choice(rows)
        generation = self.pool.slots[slot].gen - (self.random.random() < 0.1)
        why = self.random.choice(("release_vram", "deserted", "operator"))
        return Step("unwant", {"slot": slot, "model": model, "generation": generation, "why": why})

    def doubt(self) -> Step | None:
        rows = list(self.pool.residencies.items())
        if not rows:
            return None
        (slot, model), row = self.random.choice(rows)
        gen = row.gen - (self.random.random() < 0.1)
        args = {"slot": slot, "model": model, "residency_generation": gen, "who": "broker:b", "why": "silent"}
        return Step("doubt", args)

    def switch(self) -> Step:
        """An operator takes a model out of service, or puts it back."""
        model = self.random.choice((*NAMES, ModelName("none")))
        off = self.random.choice(("", "", "new weights are coming"))
        return Step("set_model", {"model": model, "off": off, "who": "operator:x"})

    def admit(self) -> Step | None:
        rows = list(self.pool.residencies.items())
        if not rows:
            return None
        (slot, model), row = self.random.choice(rows)
        number = self.random.choice((0, row.waited, ADMIT_ALL, ADMIT_ALL, -1))
        gen = row.gen - (self.random.random() < 0.1)
        args = {"slot": slot, "model": model, "residency_generation": gen, "number": number, "why": "barrier"}
        return Step("admit", args)

    # -------------------------------------------------------------------------------------------------------- scenes
    def go_silent(self) -> Step:
        """Workers say nothing until their slots are offline."""
        for _ in range(3):
            self._script += [lambda: Step("time", {"ms": 4900}), self.tick]
        return self.tick()

    def bring_up(self) -> Step | None:
        """Load something and use it."""
        self._script += [self.obey] * 7 + [self.ask, self.renew, self.ask, self.renew, self.release]
        return self.want()

    def break_model(self) -> Step | None:
        """Load a model that fails until nobody tries any more."""
        made = self.want()
        if made is None:
            return None
        slot, model = made.args["slot"], made.args["model"]

        def failing() -> Step | None:
            worker, wants = self.workers.get(slot), self.pool.orders[slot].wants
            if worker is None or model not in wants:
                return None
            state, kind = Residency.FAILED, self.random.choice(tuple(FailureKind))
            worker.models = {
                model: ResidencyReport(model=model, state=state, generation=wants[model][0], error="oom", failure=kind)
            }
            return self._report(slot)

        def again() -> Step | None:
            return replace(made, args=made.args | {"generation": self.pool.slots[slot].gen, "evict": []})

        once = [self.obey, self.obey, failing, self.obey, self.obey]
        wait = [lambda: Step("time", {"ms": 4999}), self.tick]
        self._script += [self.ask, *once, *wait, again, *once, *wait, *wait, again, *once, self.ask, self.tick]
        return made

    # ------------------------------------------------------------------------------------------------------ the rest
    def operate(self) -> Step:
        event = self.random.choice(("cordon", "drain", "uncordon", "uncordon", "heal", "bogus"))
        return Step("set_slot", {"slot": self.random.choice((*SLOTS, "none")), "event": event, "who": "operator:x"})

    def restart(self) -> Step:
        self.run = f"{self._fresh():x}9"
        return Step("restart", {"run": self.run})

    def init(self) -> Step:
        settings = replace(SETTINGS, max_queue=self.random.choice((4, 9)), max_fails=self.random.choice((2, 3)))
        return Step("init", {"settings": settings, "models": self.random.choice((MODELS, MODELS[:2], PINNED))})

    def ingest(self) -> Step:
        lease, effect = self._lease(), self.random.choice(("acquire", "renew", "release", "none"))
        ask: Ask = self.ask().args["ask"]
        if effect in {"renew", "release"} and lease is None:
            effect = "none"
        sequence = self.random.choice((None, 1, 2, 3, 4, 5))
        args = {"sh": lease.sh if lease and effect != "acquire" else ask.sh, "sequence": sequence, "effect": effect}
        return Step(
            "ingest", args | {"ask": ask, "lease_id": lease.id if lease else "", "gone": self.random.random() < 0.1}
        )

    def reject(self) -> Step:
        return Step("reject", {"why": "malformed"})


CHOICES: tuple[Callable[[Walk], Step | None], ...] = (
    Walk.ask, Walk.poll, Walk.renew, Walk.release, Walk.end, Walk.preempt, Walk.tick, Walk.time, Walk.to_deadline,
    Walk.obey, Walk.disturb, Walk.want, Walk.unwant, Walk.admit, Walk.operate, Walk.restart, Walk.init, Walk.ingest,
    Walk.reject, Walk.go_silent, Walk.bring_up, Walk.break_model, Walk.inspect, Walk.doubt, Walk.switch, Walk.life,
    Walk.send_away, Walk.come_back, Walk.miss_beats, Walk.return_elsewhere, Walk.lie,
)  # fmt: skip
WEIGHTS = (
    24, 5, 5, 9, 1, 3, 7, 4, 5, 36, 3, 10, 1, 4, 2, 1.2, 0.5, 3, 0.5, 0.7, 3, 0.7, 2, 1, 0.8, 3, 3, 3, 0.5, 1.5, 1.5
)  # fmt: skip
