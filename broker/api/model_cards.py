"""What ``/v1/models`` tells of each name: its state here, and what clients should know before they ask it something.

Rule: what a model takes is told in OpenRouter's fields (``context_length``, ``architecture``), which many clients read;
what is not known is left out. Of a name with several candidates: the smallest context, for a conversation must fit
whichever serves it, and pictures where any takes them, for routing sends them there.
"""

from collections.abc import Iterable
from typing import Any, Self

import msgspec
from msgspec import UNSET, UnsetType, structs

from broker.core.availability import unavailable_by_picture
from broker.core.slot import SlotState
from broker.core.snapshot import ModelView, Snapshot
from broker.routing.catalogue import CandidateModel, Entry, Local
from broker.routing.request.request import KIND_OF_PATH, UNREAD, RequestKind
from schemas.residency import Residency

_DEPTHS = {state.value: state.depth for state in Residency}
_TEXT = frozenset(RequestKind) - UNREAD - {RequestKind.EMBEDDINGS}
"""The kinds of requests that are answered in words."""


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    """What goes in and what comes out, in OpenRouter's words."""

    input_modalities: tuple[str, ...] = ("text",)
    """``text``, and ``image`` where the catalogue says so."""
    output_modalities: tuple[str, ...] = ("text",)
    """``text``, or ``embeddings``, or ``rerank``."""


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
    """How much prompt and reply may have together, tokens; left out where it is not known."""
    architecture: Architecture | UnsetType = UNSET
    supported_endpoints: tuple[str, ...] | UnsetType = UNSET
    """Addresses it can be asked at; told only where it is known that it cannot be asked at all of them."""
    fallbacks: tuple[str, ...] | UnsetType = UNSET
    """Names that serve in its place, best first."""
    state: str
    """``ready``, ``loading``, ``unloading`` or ``absent``; ``unknown`` before the pool was looked at; ``remote`` for a
    model of an upstream."""
    progress: int = 0
    """How far its load has come, percent; 0 while it does not load."""
    waiting: int = 0
    """How many tickets wait for it."""
    leases: int = 0
    """How many ``use`` leases on it are held."""
    served: bool = True
    """Does any slot serve it now, as far as is known?"""
    unavailable: str | UnsetType = UNSET
    """Why asking for it is in vain now: it cannot be loaded, or is out of service."""
    trust: str = "trusted"
    """Whether its answers can be trusted: ``trusted``, ``suspect``, ``canary`` (being tested) or ``quarantined`` (no
    longer asked)."""
    trust_reason: str | UnsetType = UNSET
    """Why its trust is what it is, in words, where there is something to be said."""

    def told(self, candidates: Iterable[CandidateModel]) -> Self:
        """Return the same card with what is known of the candidates that may serve it."""
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
                output_modalities=(_answered_in(kinds),),
            ),
            supported_endpoints=UNSET if kinds is None else _endpoints(kinds),
        )

    def followed_by(self, candidates: Iterable[CandidateModel]) -> Self:
        """Return the same card with the names of those who serve where the first candidate does not."""
        others = tuple(one.name for one in list(candidates)[1:])
        return structs.replace(self, fallbacks=others or UNSET)


def _answered_in(kinds: frozenset[RequestKind] | None) -> str:
    if kinds is None or kinds & _TEXT:
        return "text"
    return "embeddings" if RequestKind.EMBEDDINGS in kinds else "rerank"


def _endpoints(kinds: frozenset[RequestKind]) -> tuple[str, ...]:
    """Return the addresses it can be asked at; that a server of embeddings may rank too is not promised."""
    told = kinds - {RequestKind.RERANK} if RequestKind.EMBEDDINGS in kinds else kinds
    return tuple(f"/v1{path}" for path, kind in KIND_OF_PATH.items() if kind in told)


def _kinds(candidates: tuple[CandidateModel, ...]) -> frozenset[RequestKind] | None:
    """Return what at least one of them can be asked for; None: not known."""
    found: set[RequestKind] = set()
    for one in candidates:
        if one.abilities.kinds is None:
            return None
        found |= one.abilities.kinds
    return frozenset(found)


def _context(one: CandidateModel) -> int | None:
    return one.offered_tokens if isinstance(one, Local) else one.abilities.context_tokens


def plain_card(name: str, snapshot: Snapshot | None) -> ModelCard:
    """Make the card of one model of the pool."""
    view: ModelView | None = None if snapshot is None else snapshot.models.get(name)  # type: ignore[call-overload]
    if snapshot is None or view is None:
        return ModelCard(id=name, display_name=name, state="unknown")
    unavailable = unavailable_by_picture(snapshot, view.name)
    seen = [residency for slot in snapshot.slots for residency in slot.residencies if residency.model == name]
    best = max(seen, key=lambda residency: residency.state.depth, default=None)
    return ModelCard(
        id=name,
        display_name=name,
        state=Residency.ABSENT.value if best is None else best.state.value,
        progress=0 if best is None else best.progress,
        waiting=view.waiting,
        leases=sum(lease.model == name for slot in snapshot.slots for lease in slot.leases),
        served=unavailable is None
        and any(name in slot.serves and slot.state is SlotState.OPEN for slot in snapshot.slots),
        unavailable=UNSET if unavailable is None else str(unavailable),
    )


def routed_card(name: str, local: list[ModelCard]) -> ModelCard:
    """Make the card of a name that leads to others: it has the state of the one that is soonest there."""
    if not local:
        return ModelCard(id=name, display_name=name, state="remote")
    best = min(local, key=lambda card: (not card.served, -_DEPTHS.get(card.state, -1), card.waiting))
    return structs.replace(best, id=name, display_name=name)


def card_of(name: str, entry: Entry) -> dict[str, Any]:
    """Return a name of a catalogue that no broker runs, as ``/v1/models`` would tell of it."""
    is_one = entry.candidates[0].name == name
    card = ModelCard(id=name, display_name=name, state="unknown")
    told = card.told(entry.candidates[: 1 if is_one else None]).followed_by(entry.candidates)
    builtins: dict[str, Any] = msgspec.to_builtins(told)
    return builtins
