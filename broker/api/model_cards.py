"""What ``/v1/models`` tells of each name: its state here, and what clients should know before they ask it something.

Rule: what a model takes is told in OpenRouter's fields (``context_length``, ``architecture``), which many clients read;
what is not known is left out. Of a name with several candidates: the smallest context, for a conversation must fit
whichever serves it, and pictures where any takes them, for routing sends them there.
"""

from collections.abc import Iterable
from typing import Self

import msgspec
from msgspec import UNSET, UnsetType, structs

from broker.core.slot import Residency, SlotState
from broker.core.snapshot import ModelView, Snapshot
from broker.routing.catalogue import Candidate, Local
from broker.routing.request import KIND_OF_PATH, Kind

_RANK = {
    Residency.READY: 0,
    Residency.LOADING: 1,
    Residency.UNLOADING: 2,
    Residency.ABSENT: 3,
}
_ORDER = {state.value: rank for state, rank in _RANK.items()}
_TEXT = frozenset(Kind) - {Kind.EMBEDDINGS, Kind.OTHER}
"""What is answered in words."""


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    """What goes in and what comes out, in OpenRouter's words."""

    input_modalities: tuple[str, ...] = ("text",)
    """``text``; ``image`` where the catalogue says so."""
    output_modalities: tuple[str, ...] = ("text",)
    """``text``, or ``embeddings``."""


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """One model, with the fields of OpenAI's list and of Anthropic's, and its state here."""

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "hotseat"
    type: str = "model"
    display_name: str
    created_at: str = "1970-01-01T00:00:00Z"
    context_length: int | UnsetType = UNSET
    """Prompt and reply together, tokens."""
    architecture: Architecture | UnsetType = UNSET
    supported_endpoints: tuple[str, ...] | UnsetType = UNSET
    """Addresses it can be asked at, where it is known that there are others at which it cannot."""
    state: str
    """``ready``, ``loading``, ``unloading``, ``absent``; ``unknown`` before the pool was looked at; ``remote``: an
    upstream's."""
    progress: int = 0
    """Of its load, percent."""
    waiting: int = 0
    """Tickets in line."""
    leases: int = 0
    """Held."""
    served: bool = True
    """Does any slot serve it now?"""
    trust: str = "trusted"
    """In its answers: ``trusted``, ``suspect``, ``canary`` (being tested) or ``quarantined`` (asked no more)."""
    trust_reason: str | UnsetType = UNSET
    """Why, in words, where there is something to be said."""

    def told(self, candidates: Iterable[Candidate]) -> Self:
        """The same, with what is known of those who may serve it."""
        listed = tuple(candidates)
        kinds = _kinds(listed)
        contexts = [_context(one) for one in listed]
        known = [tokens for tokens in contexts if tokens is not None]
        sees = any(one.abilities.vision for one in listed)
        return structs.replace(
            self,
            context_length=min(known) if len(known) == len(contexts) else UNSET,
            architecture=Architecture(
                input_modalities=("text", "image") if sees else ("text",),
                output_modalities=("text",) if kinds is None or kinds & _TEXT else ("embeddings",),
            ),
            supported_endpoints=UNSET
            if kinds is None
            else tuple(f"/v1{path}" for path, kind in KIND_OF_PATH.items() if kind in kinds),
        )


def _kinds(candidates: tuple[Candidate, ...]) -> frozenset[Kind] | None:
    """What at least one of them can be asked for; None: not known."""
    found: set[Kind] = set()
    for one in candidates:
        if one.abilities.kinds is None:
            return None
        found |= one.abilities.kinds
    return frozenset(found)


def _context(one: Candidate) -> int | None:
    return one.offered_tokens if isinstance(one, Local) else one.abilities.context_tokens


def plain_card(name: str, snapshot: Snapshot | None) -> ModelCard:
    """Of one model of the pool."""
    view: ModelView | None = None if snapshot is None else snapshot.models.get(name)  # type: ignore[call-overload]
    if snapshot is None or view is None:
        return ModelCard(id=name, display_name=name, state="unknown")
    seen = [residency for slot in snapshot.slots for residency in slot.residencies if residency.model == name]
    best = min(seen, key=lambda residency: _RANK.get(residency.state, 9), default=None)
    return ModelCard(
        id=name,
        display_name=name,
        state=Residency.ABSENT.value if best is None else best.state.value,
        progress=0 if best is None else best.progress,
        waiting=view.waiting,
        leases=sum(lease.model == name for slot in snapshot.slots for lease in slot.leases),
        served=any(name in slot.serves and slot.state is SlotState.OPEN for slot in snapshot.slots),
    )


def routed_card(name: str, local: list[ModelCard]) -> ModelCard:
    """Of a name that leads to others: the state of the one that is soonest there."""
    if not local:
        return ModelCard(id=name, display_name=name, state="remote")
    best = min(local, key=lambda card: (not card.served, _ORDER.get(card.state, 9), card.waiting))
    return structs.replace(best, id=name, display_name=name)
