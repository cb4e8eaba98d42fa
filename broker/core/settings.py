"""What an operator may set about the policy. Defaults come from the simulation study and from ``bench.simulation``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from broker.core.lease import Priority


class Preemption(StrEnum):
    """When the scheduler may ask a lease back before its holder is done. ``max_hold_s`` holds in every mode."""

    EXCHANGE = "exchange"
    """When the switch is worth more than what runs, and when a time slice is over."""
    OFF = "off"
    """Never: a waiter waits for the holders."""
    INTERACTIVE_FIRST = "interactive_first"
    """As ``exchange``; an interactive waiter also displaces lower classes whose drain exceeds the reload."""
    PRIORITY = "priority"
    """As ``exchange``; any waiter displaces leases of lower classes at once. Costs most of the lower classes' time."""


def _weights() -> dict[Priority, float]:
    return {Priority.INTERACTIVE: 8.0, Priority.NORMAL: 2.0, Priority.BACKGROUND: 1.0, Priority.BATCH: 0.5}


def _max_wait_s() -> dict[Priority, float]:
    return dict.fromkeys(Priority, 600.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """The policy's parameters. Durations in seconds."""

    weights: Mapping[Priority, float] = field(default_factory=_weights)
    """What one second of waiting of a class is worth. The study measures with 4/2/1 and 0.5 continues its row; deciding
    with 8 for interactive tickets costs 0.01 of the delay so measured (cold) and saves 0.06 of their mean wait (tuning
    part; with 4 the cold target for interactive waits is missed, docs/benchmarks.md)."""
    max_wait_s: Mapping[Priority, float] = field(default_factory=_max_wait_s)
    """A ticket older than this goes before every other consideration. 600 s costs at most 6 % of mean wait in the
    study, 120-180 s cost 20-140 % under load."""
    slice_min_s: float = 20.0
    """Shortest time slice of a resident model while others wait."""
    slice_load_factor: float = 3.0
    """A slice is at least this many loads of the waiting model: bounds the share of time lost to loading."""
    slice_hold_factor: float = 2.0
    """A slice is at least this many mean leases of the resident model. 2 beat 0 and 1, and equalled 3, in the study."""
    slice_max_factor: float = 2.0
    """A turn ends after this many slices though the resident model's own queue be worth more than the switch: that
    queue may be one session's flood. Without it a lone waiter for another model waited until ``max_wait_s``. 2, 3 and 4
    changed nothing on the tuning part; 1 cost 2 % of weighted delay with far too many agents (24/h, closed, cold)."""
    slice_overtime: float = 1.0 / 3.0
    """Share of the slice that leases in flight may go on after it; then they are asked back (not with ``off``)."""
    exchange_min_run_s: float = 5.0
    """A lease is never exchanged before it ran this long."""
    request_run_s: float = 900.0
    """The same for a lease that is one request (``/v1``): asking it back cuts off an answer. The slice ends admission,
    what streams is finished; 15 minutes are a long answer of a slow model."""
    preempt_grace_s: float = 30.0
    """What the holder of a preempted lease has to finish its request."""
    max_hold_s: float = 14_400.0
    """A lease held this long is asked back when others wait for its room or its place."""
    preemption: Preemption = Preemption.EXCHANGE
    prefetch_threshold: float = 1.3
    """A prefetch must be worth this many times what it evicts. 1.3: the study; below 1.1 models flutter."""
    prefetch_risk_s: float = 0.2
    """Expected seconds of loading a prefetch must save beyond that. On the tuning part, warm, ratio to llama-swap: 0.1,
    0.2, 0.3, 0.5 load 1.32, 1.29, 1.27, 1.24 times as often, and first turns wait 0.436, 0.440, 0.446, 0.446."""
    horizon_s: float = 60.0
    """Arrivals expected within this time make a model worth keeping; the snapshot's ``expected_arrivals`` use it."""
    idle_restore_s: float | None = None
    """After this long without use the default model comes back whatever is expected; ``None``: prefetch alone."""
    relook_s: float = 15.0
    """While nobody waits the expectations are looked at this often."""
