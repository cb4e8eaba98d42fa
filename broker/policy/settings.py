"""What an operator may set about the policy. Defaults come from the study and the benchmark in docs/scheduling.md."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from broker.core.lease import Priority
from broker.policy.habits import AWAY_S


class Preemption(StrEnum):
    """When the scheduler may ask a lease back before its holder is done. ``max_hold_s`` holds in every mode."""

    EXCHANGE = "exchange"
    """When the switch is worth more than what runs, and when a time slice is over."""
    OFF = "off"
    """Never: a waiter waits for the holders."""
    INTERACTIVE_FIRST = "interactive_first"
    """Leases are exchanged as in ``exchange``; an interactive waiter also displaces lower classes whose drain exceeds
    the reload."""
    PRIORITY = "priority"
    """Leases are exchanged as in ``exchange``; any waiter displaces lower classes at once. Costs most of the lower
    classes' time."""


def _weights() -> dict[Priority, float]:
    return {Priority.INTERACTIVE: 8.0, Priority.NORMAL: 2.0, Priority.BACKGROUND: 1.0, Priority.BATCH: 0.5}


def _max_wait_s() -> dict[Priority, float]:
    return dict.fromkeys(Priority, 600.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """The policy's parameters. Durations in seconds."""

    weights: Mapping[Priority, float] = field(default_factory=_weights)
    """What one second of waiting of a class is worth. The study measures with 4/2/1 and 0.5 continues its row; deciding
    with 8 for interactive tickets costs 0.02 of the delay so measured (cold) and saves 0.06 of their mean wait (tuning
    part; with 4 the cold target for interactive waits is missed, docs/scheduling.md)."""
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
    """A lease held this long is asked back when others wait for its room or its turn."""
    preemption: Preemption = Preemption.EXCHANGE
    prefetch_threshold: float = 1.1
    """A prefetch must save this many times the waiting that it makes. 1.3 in the study, where it had to keep models
    from fluttering; what is spoken for does not flutter (``resident_set``). First turns, tuning part, cold: 0.787, not
    0.790."""
    prefetch_risk_s: float = 0.2
    """Expected seconds of waiting a prefetch must save beyond that; four times as many after one that went unused.
    Tuning part, cold, ratio to llama-swap: with 0.2 loads 1.117, first turns 0.787; with 0.5 loads 1.107, 0.792."""
    horizon_s: float = 60.0
    """Arrivals expected within this time make a model worth keeping; the snapshot's ``expected_arrivals`` use it."""
    idle_restore_s: float = 300.0
    """The default and what is to be kept come back once what is in their way was idle for this long."""
    relook_s: float = 15.0
    """While nobody waits the expectations are looked at this often."""

    @property
    def away_s(self) -> float:
        """A session of which no habit is known counts as gone after this."""
        return min(AWAY_S, self.idle_restore_s)
