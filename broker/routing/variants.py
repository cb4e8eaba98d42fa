"""Which quantisation of a family serves: the best that fits the memory now, else the soonest."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from broker.routing.catalogue import Local, Variant
from broker.routing.quantisation import is_one_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelState:
    """What the pool says of one of its models."""

    ready: bool = False
    """The model is ready on some slot: resident and answering."""
    wait_s: float | None = None
    """How long a lease is expected to take, seconds; 0: it is granted at once; None: not known."""
    busy: bool = False
    """Others use its device so much that it would be slow."""

    @property
    def sort_wait_s(self) -> float:
        """Return the wait for sorting, seconds: one that is not known counts as very long."""
        return math.inf if self.wait_s is None else self.wait_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """A variant and what the pool says of it."""

    variant: Variant
    state: ModelState

    def meets(self, deadline_s: float | None) -> bool:
        """Tell whether it is there in time. A wait that is not known is not in time."""
        return deadline_s is None or self.state.sort_wait_s <= deadline_s


def asked_for(local: Local, quantisations: tuple[str, ...]) -> tuple[Variant, ...]:
    """Return the variants in a quantisation that was asked for, those with none known last; all if none was."""
    if not quantisations:
        return local.variants
    fit = [one for one in local.variants if is_one_of(one.quantisation, quantisations)]
    return tuple(sorted(fit, key=lambda one: not one.quantisation))


def pick(
    variants: tuple[Variant, ...], models: Mapping[str, ModelState], free_mib: int, deadline_s: float | None
) -> Pick | None:
    """The variant to ask a lease for; None: no slot can serve any.

    1. Best first: ready, or fits what is free, and in time.
    2. Else the soonest; among equals the better.

    Args:
        variants: Of the family, the best first.
        models: The pool's models that some slot can serve; others are missing.
        free_mib: The largest piece of memory that is free on one slot, or held only by idle models nobody needs.
        deadline_s: Of the request; None: no hurry.
    """
    able = [Pick(variant=one, state=models[one.name]) for one in variants if one.name in models]
    # 1.
    for one in able:
        if (one.state.ready or one.variant.memory_mib <= free_mib) and one.meets(deadline_s):
            return one
    # 2.
    return min(able, key=lambda one: one.state.sort_wait_s, default=None)
