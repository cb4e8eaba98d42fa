"""The longest anybody can wait, from the configuration: what ``hotseat why`` prints and a property test holds us to.

Why there is a bound at all: once a ticket is older than ``max_wait_s`` nothing that arrived later goes before it. The
models in its way admit only who waited for their load (a batch), so each gets at most one more turn; other models with
an older aged ticket get one turn each before it. A turn serves its batch ``lease_limit`` at a time. While somebody of
the batch has no lease yet, nobody is asked back before ``max_hold_s``; after that the time slice ends what still runs.

It holds while a slot serves the model and its loads succeed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from broker.core.decisions import WaitReason
from broker.core.lease import Priority
from broker.core.snapshot import ModelView
from broker.policy.settings import PolicySettings, Preemption


@dataclass(frozen=True, slots=True)
class BoundPart:
    """One term of the sum: what may have to be waited for, and how long that takes at most, seconds."""

    what: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Bound:
    """The longest wait as a sum, with its terms."""

    parts: tuple[BoundPart, ...]

    @property
    def total_s(self) -> float:
        """Return how many seconds pass at most from the ticket's arrival to its grant."""
        return sum(part.seconds for part in self.parts)


def longest_slice_s(settings: PolicySettings, models: Sequence[ModelView]) -> float:
    """Return the longest a model keeps the slot after it was loaded while another one waits, its batch being served."""
    load_s = max(model.load_s for model in models)
    hold_s = max(model.hold_s for model in models)
    slice_s = max(settings.slice_min_s, settings.slice_load_factor * load_s, settings.slice_hold_factor * hold_s)
    return slice_s * (1.0 + settings.slice_overtime) + max(settings.exchange_min_run_s, settings.request_run_s)


def longest_hold_s(settings: PolicySettings) -> float:
    """Return how long a lease is held at most while others wait for its room or its turn, seconds."""
    return settings.max_hold_s + settings.preempt_grace_s


def _turn_s(settings: PolicySettings, models: Sequence[ModelView], waiting: int, places: int) -> float:
    """Return the seconds from ready to unused: the waves of its batch, then what the slice leaves."""
    waves = max(0, -(-waiting // places) - 1)
    if settings.preemption is Preemption.OFF:
        last_s = longest_hold_s(settings)
    else:
        last_s = min(longest_slice_s(settings, models) + settings.preempt_grace_s, longest_hold_s(settings))
    return waves * longest_hold_s(settings) + last_s


def worst_wait_s(
    settings: PolicySettings,
    models: Sequence[ModelView],
    model: ModelView,
    priority: Priority,
    *,
    queue_bound: int,
    ahead: int | None = None,
    reason: WaitReason | None = None,
) -> Bound:
    """The longest a ticket can wait.

    Args:
        settings: The policy's.
        models: All that share the slot, this one included; means as learned.
        model: The ticket's.
        priority: The ticket's class: its ``max_wait_s`` counts.
        queue_bound: Most tickets that wait for one model at a time.
        ahead: Tickets of the same model that go before it, ``queue_bound - 1`` where it is not known.
        reason: Why it waits now. Unless that is another model's turn, its own model may be there with every place
            taken by holders that go on until ``max_hold_s``.
    """
    others = sorted((other for other in models if other.name != model.name), key=lambda other: other.name)
    everyone = [*others, model]
    turns_s = {each.name: _turn_s(settings, everyone, queue_bound, each.lease_limit) for each in everyone}
    waves = (queue_bound - 1 if ahead is None else ahead) // model.lease_limit
    waves += reason in {None, WaitReason.MODEL_BUSY}
    unload_s = max(each.unload_s for each in everyone)
    parts = [
        BoundPart(f"until the age bound of class {priority.value}", settings.max_wait_s[priority]),
        BoundPart("a load that has begun", max(each.load_s for each in everyone)),
        BoundPart("the turn of the model that is there", max(turns_s.values())),
        *(
            BoundPart(
                f"the turn of {each.name}, if it has an older ticket", unload_s + each.load_s + turns_s[each.name]
            )
            for each in others
        ),
        BoundPart("unload, load", unload_s + model.load_s),
        BoundPart("places of the same model, one wave after another", waves * longest_hold_s(settings)),
    ]
    return Bound(tuple(parts))
