"""What a client is told whose request nobody of that name can answer: what is lacking, and who has it."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from broker.access.principals import Principal
from broker.protocol.error_bodies import ClientError, ClientFacingError
from broker.routing.capability import Unfit
from broker.routing.catalogue import CandidateModel, Entry, Local, NameTable
from broker.routing.decision import PassedOver, RouteReason
from broker.routing.request.request import RequestKind

MOST_NAMED = 5
LACKS = {
    Unfit.CONTEXT: "is too short for prompt and reply's room",
    Unfit.TOOLS: "takes fewer tools",
    Unfit.STRUCTURED: "gives no answers in a given form",
    Unfit.VISION: "takes no pictures",
    Unfit.QUANTISATION: "has no weights in the quantisation asked for",
    Unfit.PRIORITY: "does not serve this class",
}


def may_use(caller: Principal, model: str) -> bool:
    """The key's own list holds for the model that serves, whatever name was asked for."""
    return not caller.models or any(fnmatchcase(model, pattern) for pattern in caller.models)


def models_named(one: CandidateModel) -> list[str]:
    """Those that a key must be allowed to use, one of them."""
    return [variant.name for variant in one.variants] if isinstance(one, Local) else [one.name]


def refused_as_incapable(
    passed: Iterable[PassedOver], kind: RequestKind, table: NameTable, caller: Principal
) -> ClientFacingError:
    """A 400 that says why, and what else there is."""
    listed = tuple(passed)
    named = [one for one in listed if _is_open(table.entries.get(one.name), caller)]
    said = "; ".join(dict.fromkeys(f"{one.name} {_lack(one.why, kind)}" for one in named))
    others = _others({one.why for one in listed}, kind, table, caller)
    advice = f"; ask for one of: {', '.join(others)}" if others else ""
    message = f"no model of this name can do what the request needs{': ' * bool(said)}{said}{advice}"
    return ClientFacingError(ClientError(code=RouteReason.INCAPABLE, message=message))


def _is_open(entry: Entry | None, caller: Principal) -> bool:
    """May the key know of it?"""
    return entry is not None and any(may_use(caller, model) for model in models_named(entry.candidates[0]))


def _lack(why: Unfit, kind: RequestKind) -> str:
    if why is Unfit.KIND:
        return "gives no embeddings" if kind is RequestKind.EMBEDDINGS else f"does not answer {kind.value} requests"
    return LACKS.get(why, f"is passed over ({why})")


def _others(whys: set[Unfit], kind: RequestKind, table: NameTable, caller: Principal) -> list[str]:
    """Names that are known to have what is lacking."""
    if whys.isdisjoint({Unfit.KIND, Unfit.VISION}):
        return []
    has = [
        name
        for name, entry in table.entries.items()
        if any(
            _answers(one, kind) and (Unfit.VISION not in whys or one.abilities.vision)
            for one in entry.usual
            if any(may_use(caller, model) for model in models_named(one))
        )
    ]
    return has[:MOST_NAMED]


def _answers(one: CandidateModel, kind: RequestKind) -> bool:
    """Is it known to?"""
    kinds = one.abilities.kinds
    return kind in kinds if kinds is not None else kind is not RequestKind.EMBEDDINGS
