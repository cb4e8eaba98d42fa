"""The scheduling benchmark: the shipped policy against others under one physics, in the tables of docs/benchmarks.

    python -m bench.simulation --trace PATH/gentd26.csv [--quick] [--part report|tune] [--only TABLE]

Tuned on one part (trace days 5-7, seeds 0-99; agents' seeds below 1000), reported on another (trace days 9-13, users
thinned and classed with seeds from 200; agents' seeds from 2000).
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from broker.core.lease import Priority
from broker.policy.decide import PolicySettings, Preemption
from simulator.hotseat_policy import Foresight, Hotseat
from simulator.metrics import Outcome, mean, outcome, ratio
from simulator.others import Fifo, LlamaSwap, Ollama
from simulator.quiet import QUIET, Quiet
from simulator.soothsayer import Said, Soothsayer, accuracy
from simulator.workloads import (
    AGENTIC_GB,
    COLD,
    GENTD_GB,
    WARM,
    Request,
    agentic_closed,
    agentic_open,
    gentd_day,
    read_trace,
    specs,
)
from simulator.world import Load, Scheduler, World

HOURS = {1: 24.0, 3: 16.0, 8: 8.0}
DAYS = {"tune": (5, 6, 7), "report": (9, 10, 11, 12, 13)}
SEED = {"tune": 0, "report": 2000}
ONE_RESIDENT, PACKED = "one resident", "packed"
LARGEST_GB, BUDGET_GB = 20.0, 22.0

Maker = Callable[[], Scheduler]
Measure = Callable[[Outcome], float]


@dataclass(frozen=True)
class Scene:
    """What the card can do."""

    tier: str
    room: str

    def world(self, sizes_gb: tuple[float, ...]) -> World:
        """One resident: every model takes the whole card, whatever its size costs to load."""
        models = specs(sizes_gb, self.tier)
        if self.room == PACKED:
            return World(models, budget_gb=BUDGET_GB)
        return World([replace(spec, memory_gb=LARGEST_GB) for spec in models], budget_gb=LARGEST_GB)

    def __str__(self) -> str:
        return f"{self.tier}, {self.room}"


@dataclass(frozen=True)
class Workload:
    """A name and its instances."""

    name: str
    sizes_gb: tuple[float, ...]
    instances: tuple[Callable[[], Load], ...]


def agents(kind: str, per_hour: int, part: str, count: int) -> Workload:
    """Synthetic agents, open or closed."""
    make = agentic_open if kind == "open" else agentic_closed

    def instance(seed: int) -> Callable[[], Load]:
        return lambda: make(per_hour=per_hour, hours=HOURS[per_hour], seed=seed)

    seeds = range(SEED[part], SEED[part] + count)
    return Workload(f"agentic {per_hour}/h {kind}", AGENTIC_GB, tuple(instance(seed) for seed in seeds))


def service(trace: list[Request], fraction: float, part: str, count: int) -> Workload:
    """Days of the trace, thinned."""

    def instance(day: int, seed: int) -> Callable[[], Load]:
        return lambda: gentd_day(trace, day=day, fraction=fraction, seed=seed)

    first = SEED[part] // 10
    pairs = [(day, seed) for seed in range(first, first + count) for day in DAYS[part]][:count]
    return Workload(f"GenTD26 f{fraction}", GENTD_GB, tuple(instance(day, seed) for day, seed in pairs))


def workloads(trace: list[Request], part: str, count: int) -> list[Workload]:
    """The seven of the tables."""
    made = [agents("closed", 1, part, count), agents("closed", 3, part, count), agents("open", 3, part, count)]
    made.append(agents("closed", 8, part, count))
    return made + [service(trace, fraction, part, count) for fraction in (0.15, 0.3, 0.6)]


def play(workload: Workload, scene: Scene, maker: Maker) -> list[Outcome]:
    """Every instance once."""
    outcomes = []
    for instance in workload.instances:
        world = scene.world(workload.sizes_gb)
        outcomes.append(outcome(world, world.run(instance(), maker())))
    return outcomes


POLICIES: dict[str, Maker] = {"FIFO": Fifo, "llama-swap": LlamaSwap, "Ollama": Ollama, "Hotseat": Hotseat}
COLUMNS: dict[str, Measure] = {
    "weighted delay": lambda o: o.weighted_delay,
    "mean": lambda o: o.mean,
    "p50": lambda o: o.p50,
    "p95": lambda o: o.p95,
    "p99": lambda o: o.p99,
    "interactive mean": lambda o: o.interactive,
    "interactive p95": lambda o: o.interactive_p95,
    "background mean": lambda o: o.background,
    "first turn": lambda o: o.first_turn,
    "loads / 100": lambda o: o.loads_per_100,
}
RATIOS: dict[str, Measure] = {
    "weighted delay": lambda o: o.weighted_delay,
    "interactive mean": lambda o: o.interactive,
    "first turn": lambda o: o.first_turn,
    "first turn, all classes": lambda o: o.first_turn_all,
    "p99": lambda o: o.p99,
    "loads / 100": lambda o: o.loads_per_100,
}


def row(*cells: object) -> None:
    """One line of a Markdown table."""
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def head(*cells: str) -> None:
    """Its first two."""
    row(*cells)
    row(*("---" for _ in cells))


def absolute(name: str, outcomes: Sequence[Outcome]) -> None:
    """Means over instances; the worst wait is the worst of all."""
    cells = [f"{mean(measure(o) for o in outcomes):.1f}" for measure in COLUMNS.values()]
    row(name, *cells, f"{max(o.worst for o in outcomes):.0f}")


Results = dict[tuple[str, Scene, str], list[Outcome]]


def main_tables(found: list[Workload], scenes: Sequence[Scene]) -> Results:
    """Every policy on every workload in every scene."""
    results: Results = {}
    for scene in scenes:
        print(f"\n#### Seconds, {scene}\n")
        head("workload, policy", *COLUMNS, "worst")
        for workload in found:
            for name, maker in POLICIES.items():
                results[workload.name, scene, name] = outcomes = play(workload, scene, maker)
                absolute(f"{workload.name}, {name}", outcomes)
    return results


def pooled(
    results: Results, names: Sequence[str], scene: Scene, base: Scene, measure: Measure
) -> tuple[float, float, float]:
    """Geometric mean over all instances of all workloads, with its interval."""
    ours = [o for name in names for o in results[name, scene, "Hotseat"]]
    theirs = [o for name in names for o in results[name, base, "llama-swap"]]
    found = ratio(ours, theirs, measure)
    return found.value, found.low, found.high


def ratio_table(results: Results, names: Sequence[str], scene: Scene, base: Scene) -> None:
    """Ours over llama-swap's, instance by instance."""
    print(f"\n#### Hotseat ({scene}) / llama-swap ({base}): geometric mean [95 % CI]\n")
    head("workload", *RATIOS)
    for name in names:
        ours, theirs = results[name, scene, "Hotseat"], results[name, base, "llama-swap"]
        row(name, *(ratio(ours, theirs, measure) for measure in RATIOS.values()))
    cells = [pooled(results, names, scene, base, measure) for measure in RATIOS.values()]
    row("**all instances**", *(f"**{value:.2f} [{low:.2f}, {high:.2f}]**" for value, low, high in cells))


def quiet_scene(quiet: Quiet, room: str) -> World:
    """One resident: every model takes the whole card."""
    if room == PACKED:
        return World(quiet.models, budget_gb=BUDGET_GB)
    return World([replace(spec, memory_gb=LARGEST_GB) for spec in quiet.models], budget_gb=LARGEST_GB)


def play_quiet(quiet: Quiet, room: str, maker: Maker, seeds: Sequence[int]) -> list[Outcome]:
    """Every seed once, to the stated end."""
    outcomes = []
    for seed in seeds:
        world = quiet_scene(quiet, room)
        outcomes.append(outcome(world, world.run(quiet.make(seed), maker(), until_s=quiet.ends_s)))
    return outcomes


QUIET_LOADS_AT_MOST = 1.1


def quiet_table(part: str, count: int) -> None:
    """What happens while little happens: loads, also in idle hours, and waits beside llama-swap's."""
    seeds = range(SEED[part], SEED[part] + count)
    print("\n#### While little happens: Hotseat / llama-swap, geometric mean [95 % CI]\n")
    head(
        "workload", "requests", "loads / 100", "llama-swap's", "ratio", "at most 1.1", "mean wait", "loads / idle hour"
    )
    for room in (ONE_RESIDENT, PACKED):
        for quiet in QUIET:
            theirs = play_quiet(quiet, room, LlamaSwap, seeds)
            ours = play_quiet(quiet, room, Hotseat, seeds)
            loads = ratio(ours, theirs, lambda o: o.loads_per_100)
            row(
                f"{quiet.name}, {room}",
                f"{mean(o.jobs for o in ours):.0f}",
                *(f"{mean(o.loads_per_100 for o in side):.1f}" for side in (ours, theirs)),
                loads,
                "yes" if loads.value <= QUIET_LOADS_AT_MOST else "**no**",
                ratio(ours, theirs, lambda o: o.mean),
                f"{mean(o.loads_per_idle_hour for o in ours):.2f}",
            )


@dataclass(frozen=True)
class Target:
    """A target that was set before (docs/scheduling.md)."""

    what: str
    measure: str
    at_most: float
    scene: Scene
    base: Scene


COLD_ONE, WARM_ONE = Scene(COLD, ONE_RESIDENT), Scene(WARM, ONE_RESIDENT)
COLD_PACKED, WARM_PACKED = Scene(COLD, PACKED), Scene(WARM, PACKED)
TARGETS = (
    Target("weighted delay, cold", "weighted delay", 0.95, COLD_ONE, COLD_ONE),
    Target("weighted delay, warm", "weighted delay", 0.88, WARM_ONE, WARM_ONE),
    Target("interactive mean, cold", "interactive mean", 0.75, COLD_ONE, COLD_ONE),
    Target("interactive mean, warm", "interactive mean", 0.55, WARM_ONE, WARM_ONE),
    Target("first turn, cold", "first turn", 0.75, COLD_ONE, COLD_ONE),
    Target("first turn, warm", "first turn", 0.75, WARM_ONE, WARM_ONE),
    Target("loads per 100, cold", "loads / 100", 1.35, COLD_ONE, COLD_ONE),
    Target("loads per 100, warm", "loads / 100", 1.35, WARM_ONE, WARM_ONE),
    Target("whole broker: weighted delay", "weighted delay", 0.30, WARM_PACKED, COLD_ONE),
    Target("whole broker: interactive mean", "interactive mean", 0.20, WARM_PACKED, COLD_ONE),
)


def target_table(results: Results, names: Sequence[str]) -> None:
    """Each target, what was found, and whether it is met."""
    print("\n#### Targets (geometric mean over all instances of all workloads)\n")
    head("target", "at most", "found [95 % CI]", "met")
    for target in TARGETS:
        value, low, high = pooled(results, names, target.scene, target.base, RATIOS[target.measure])
        verdict = "yes" if value <= target.at_most else "**no**"
        row(target.what, f"{target.at_most:.2f}", f"{value:.3f} [{low:.3f}, {high:.3f}]", verdict)


STUDY_WEIGHTS = {Priority.INTERACTIVE: 4.0, Priority.NORMAL: 2.0, Priority.BACKGROUND: 1.0, Priority.BATCH: 0.5}
PIECES: dict[str, Maker] = {
    "as shipped": Hotseat,
    "interactive weighs 4 instead of 8": lambda: Hotseat(PolicySettings(weights=STUDY_WEIGHTS)),
    "no preemption": lambda: Hotseat(PolicySettings(preemption=Preemption.OFF)),
    "interactive first": lambda: Hotseat(PolicySettings(preemption=Preemption.INTERACTIVE_FIRST)),
    "priority": lambda: Hotseat(PolicySettings(preemption=Preemption.PRIORITY)),
    "nothing expected (no prefetch)": lambda: Hotseat(foresight=Foresight.NONE),
    "expected from the rate alone": lambda: Hotseat(foresight=Foresight.RATE),
    "expected: larger of rate and sessions": lambda: Hotseat(foresight=Foresight.BOTH),
    "slice: 2 loads instead of 3": lambda: Hotseat(PolicySettings(slice_load_factor=2.0)),
    "slice: 1 lease instead of 2": lambda: Hotseat(PolicySettings(slice_hold_factor=1.0)),
}


def piece_table(found: list[Workload], scenes: Sequence[Scene]) -> None:
    """What each piece is worth."""
    columns = ("weighted delay", "interactive mean", "first turn", "p99", "loads / 100")
    for scene in scenes:
        print(f"\n#### Pieces, {scene}: ratio to llama-swap over all instances\n")
        theirs = [o for workload in found for o in play(workload, scene, LlamaSwap)]
        head("variant", *columns)
        for name, maker in PIECES.items():
            ours = [o for workload in found for o in play(workload, scene, maker)]
            row(name, *(f"{ratio(ours, theirs, RATIOS[column]).value:.2f}" for column in columns))


def forecast_table(found: list[Workload], scenes: Sequence[Scene]) -> None:
    """How often the interval held."""
    print("\n#### Forecasts: first one of every ticket that had to wait\n")
    head(
        "workload, scene", "tickets", "with a time", "interval held", "… while not loading yet", "median relative error"
    )
    for scene in scenes:
        for workload in found:
            said: list[Said] = []
            for instance in workload.instances:
                scheduler = Soothsayer()
                scene.world(workload.sizes_gb).run(instance(), scheduler)
                said += scheduler.said
            sums = accuracy(said)
            shares = (sums.known / max(1, sums.tickets), sums.coverage, sums.coverage_beyond_loads)
            name = f"{workload.name}, {scene}"
            row(name, sums.tickets, *(f"{100 * share:.0f} %" for share in shares), f"{sums.median_error:.2f}")


def main() -> None:
    """Parse, play, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.simulation", description=__doc__)
    parser.add_argument("--trace", type=Path, required=True, help="gentd26.csv")
    parser.add_argument("--quick", action="store_true", help="3 instances each instead of 12")
    parser.add_argument("--part", choices=sorted(DAYS), default="report")
    parser.add_argument(
        "--only", choices=["main", "quiet", "pieces", "forecast"], help="pieces: always on the tuning part"
    )
    given = parser.parse_args()
    began_s = time.monotonic()
    trace = read_trace(given.trace)
    found = workloads(trace, given.part, 3 if given.quick else 12)
    names = [workload.name for workload in found]
    if given.only in {None, "main"}:
        results = main_tables(found, (COLD_ONE, WARM_ONE, COLD_PACKED, WARM_PACKED))
        for scene in (COLD_ONE, WARM_ONE, COLD_PACKED, WARM_PACKED):
            ratio_table(results, names, scene, scene)
        for scene in (WARM_ONE, COLD_PACKED, WARM_PACKED):
            ratio_table(results, names, scene, COLD_ONE)
        target_table(results, names)
    if given.only in {None, "quiet"}:
        quiet_table(given.part, 3 if given.quick else 12)
    if given.only in {None, "pieces"}:
        piece_table(workloads(trace, "tune", 3 if given.quick else 6), (COLD_ONE, WARM_ONE))
    if given.only in {None, "forecast"}:
        forecast_table(found, (COLD_ONE, WARM_ONE))
    print(f"\n{time.monotonic() - began_s:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
