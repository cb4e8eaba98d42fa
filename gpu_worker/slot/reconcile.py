"""What to do next on one slot: compares what should be with what is, answers at most one step.

Pure: values in, a value out, no clock, no I/O. Called again after every change, it converges: carrying out its answers
ends with nothing left to do and exactly the wanted models resident or failed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from schemas.residency import ORDERABLE, Residency


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A model the orders want, the generation that asked for it, and how deep."""

    model: str
    generation: int
    depth: str = Residency.READY
    """As the orders say it, which may be a word that this worker does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """A model that is on the slot, or failed to be."""

    model: str
    generation: int
    depth: Residency


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Start this model's server."""

    model: str
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unload:
    """Stop this model's server, also one that is still loading, and forget it once its memory is back."""

    model: str
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """Report this load as failed without trying."""

    model: str
    generation: int
    reason: str


Step = Load | Unload | Reject


def reconcile(
    wanted: Iterable[Wanted], residents: Iterable[Resident], *, footprints_mib: Mapping[str, int], budget_mib: int
) -> Step | None:
    """The next step, or None when there is nothing to do now.

    1. What is resident and not wanted in that generation is unloaded, the oldest generation first; a load that is no
       longer wanted is cancelled by the same step.
    2. While anything unloads, nothing loads: its memory is not back yet.
    3. While anything loads, nothing else loads: two loads at once are slower than one after the other.
    4. Of what is wanted and absent the oldest generation is next:
       4.1 rejected when this host's catalogue does not know it,
       4.2 rejected when this worker does not know the depth,
       4.3 rejected when it does not fit beside what stays,
       4.4 else loaded.
    A failed load stays failed until its generation is no longer wanted: retrying is the broker's decision.

    Args:
        wanted: What the orders ask for.
        residents: What is on the slot.
        footprints_mib: Declared footprint of every model of this host's catalogue.
        budget_mib: What the slot may use now, foreign use already subtracted.
    """
    wishes = {(wish.model, wish.generation): wish.depth for wish in wanted}
    present = sorted(residents, key=lambda resident: (resident.generation, resident.model))
    for resident in present:  # 1
        if (resident.model, resident.generation) not in wishes and resident.depth is not Residency.UNLOADING:
            return Unload(model=resident.model, generation=resident.generation)
    if any(resident.depth in {Residency.UNLOADING, Residency.LOADING} for resident in present):  # 2, 3
        return None
    absent = wishes.keys() - {(resident.model, resident.generation) for resident in present}
    if not absent:
        return None
    model, generation = min(absent, key=lambda wish: (wish[1], wish[0]))  # 4
    if model not in footprints_mib:  # 4.1
        return Reject(model=model, generation=generation, reason="unknown_model: not in this host's catalogue")
    if wishes[model, generation] not in ORDERABLE:  # 4.2
        depth = f"{wishes[model, generation]:.32}"
        return Reject(model=model, generation=generation, reason=f"unknown_depth: this worker knows no {depth!r}")
    used_mib = sum(footprints_mib.get(resident.model, 0) for resident in present if resident.depth is Residency.READY)
    if used_mib + footprints_mib[model] > budget_mib:  # 4.3
        need = f"needs {footprints_mib[model]} MiB beside {used_mib} MiB, the slot has {budget_mib} MiB now"
        return Reject(model=model, generation=generation, reason=f"no_memory: {need}")
    return Load(model=model, generation=generation)  # 4.4
