"""A worker's report as it lies in the store: believed only when every field of it is sound.

Rule: what comes from a GPU host is bounded here, where it enters. One unsound field, and the slot it speaks for goes
offline, with the reason, until its worker writes a sound report; nothing of it is taken in, and no other slot is
touched. Only fields that we know are looked at. A missing one says nothing, as everywhere.
"""

import re
from collections.abc import Iterable, Mapping

from broker.core.lease import ModelName, SlotId
from broker.core.slot import SlotEvent
from broker.pool.leases.lifecycle import Cause
from broker.pool.records.load_priors import LONGEST_MS
from broker.pool.records.rows import SlotRow
from broker.pool.records.state import PoolState
from broker.pool.slots.beliefs import Observation, Seen
from broker.pool.slots.inspections import Inspected
from broker.pool.slots.registration import introduce, is_held_by_another_host, observe
from broker.pool.slots.states import move_slot
from schemas.residency import Residency

COUNT = 2**53 - 1
MIB = 2**30
"""One PiB."""
DAY_MS = 86_400_000
TOKEN, TEXT, LONG_TEXT, NAMES, URL = 128, 1024, 16_384, 65_536, 512
FIELDS = {
    "boot": ("id", TOKEN),
    "home": ("token", TOKEN),
    "inc": ("token", TOKEN),
    "worker": ("text", TEXT),
    "epoch": ("number", COUNT),
    "hw": ("number", COUNT),
    "beat": ("number", COUNT),
    "budget_mib": ("number", MIB),
    "total_mib": ("number", MIB),
    "free_mib": ("number", MIB),
    "foreign_mib": ("number", MIB),
    "foreign": ("text", LONG_TEXT),
    "used_percent": ("percent", TOKEN),
    "foreign_percent": ("percent", TOKEN),
    "serves": ("names", NAMES),
    "fault": ("text", LONG_TEXT),
}
"""Of the slot, in the order of the checks: what each field is, and how much there may be (highest number, or bytes)."""
MODEL_FIELDS = {
    "state": ("state", TOKEN),
    "gen": ("number", COUNT),
    "url": ("url", URL),
    "progress": ("number", 100),
    "mib": ("number", MIB),
    "took_ms": ("number", DAY_MS),
    "error": ("text", LONG_TEXT),
    "failure": ("token", TOKEN),
    "stamp": ("token", TOKEN),
    "unsound": ("text", LONG_TEXT),
    "prior_ms": ("number", LONGEST_MS),
}
"""Of each model, with its name behind: ``state:<m>``."""
STATES = tuple(sorted(Residency))
"""What a worker may say of a model."""
EXPECTED = {
    "id": "must be 1 to {} printable characters without a blank",
    "token": "must be at most {} printable characters without a blank",
    "text": "must be UTF-8 text of at most {} bytes",
    "names": "must be model names with blanks between, at most {} bytes",
    "url": "must be an http address of at most {} characters",
    "number": "must be a whole number from 0 to {}",
    "percent": "must be a whole number from -1 to 100",
    "state": f"must be {', '.join(STATES[:-1])} or {STATES[-1]}",
}
UNSOUND = "unsound report: "
LEAPS = {"epoch": "epoch", "hw": "gen"}
"""Fields that ours are raised above, and ours."""
LEAP = 2**32
"""So far may they be ahead of ours: a worker that lies cannot use up the numbers for those after it."""
MOST_SLOTS = 1000
"""Slots a pool makes room for; a report of one more is not looked at."""
NAME = r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}"
_SOUND = {
    "id": re.compile(r"[!-~]+"),
    "token": re.compile(r"[!-~]*"),
    "names": re.compile(rf" *(?:{NAME}(?: +{NAME})* *)?"),
    "url": re.compile(r"(?:https?://[!-~]+)?"),
    "number": re.compile(r"[0-9]{0,16}"),
    "percent": re.compile(r"(?:-1|0{0,13}[0-9]{1,2}|0{0,13}100)?"),
    "state": re.compile("|".join(STATES)),
}
_NAME = re.compile(NAME)
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def take_in(pool: PoolState, slot_id: SlotId, fields: Mapping[str, str]) -> None:
    """Look at the report of a slot: ``observe`` it when it is sound, else set its slot offline.

    A report that counts for nothing anyway, of a superseded worker or of another host's, does not harm the slot either.

    Args:
        pool: The pool, at the moment of the call.
        slot_id: As it was rung for; anything.
        fields: The hash that the worker wrote; bytes that are not UTF-8 as lone surrogates.
    """
    known = pool.slots.get(slot_id)
    if known is None and (not _NAME.fullmatch(slot_id) or len(pool.slots) >= MOST_SLOTS):
        return
    slot = known or introduce(pool, slot_id)
    models = sorted({*pool.models, *slot.models})
    why = _unsound(slot, fields, models)
    if not why:
        observe(pool, slot_id, observation_of(fields, models))
    elif not _counts_for_nothing(pool, slot, fields):
        move_slot(pool, slot, SlotEvent.DISTRUST, Cause(f"worker:{slot_id}", UNSOUND + why), "offline")
        slot.reason = UNSOUND + why


def _counts_for_nothing(pool: PoolState, slot: SlotRow, fields: Mapping[str, str]) -> bool:
    boot, home = fields.get("boot", ""), fields.get("home", "")
    return boot in slot.old_boots or (_is_sound("token", TOKEN, home) and is_held_by_another_host(pool, slot, home))


def _unsound(slot: SlotRow, fields: Mapping[str, str], models: Iterable[ModelName]) -> str:
    """What is wrong with it first; empty: nothing."""
    for name, (kind, most) in _known(models):
        value = fields.get(name, Residency.ABSENT if kind == "state" else "")
        if not _is_sound(kind, most, value):
            return f"{name} {EXPECTED[kind].format(most)}"
    for name, ours in LEAPS.items():
        if _number(fields, name) > getattr(slot, ours) + LEAP:
            return f"{name} must be at most {LEAP} above the store's own"
    return ""


def _known(models: Iterable[ModelName]) -> Iterable[tuple[str, tuple[str, int]]]:
    yield from FIELDS.items()
    for model in models:
        for field, kind in MODEL_FIELDS.items():
            yield f"{field}:{model}", kind


def _is_sound(kind: str, most: int, value: str) -> bool:
    if kind == "number":
        return _SOUND[kind].fullmatch(value) is not None and int(value or "0") <= most
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return False
    return size <= most and (kind == "text" or _SOUND[kind].fullmatch(value) is not None)


def observation_of(fields: Mapping[str, str], models: Iterable[ModelName]) -> Observation:
    """A sound report in the core's words."""
    return Observation(
        worker=_text(fields, "worker"),
        boot=fields.get("boot", ""),
        home=fields.get("home", ""),
        inc=fields.get("inc", ""),
        epoch=_number(fields, "epoch"),
        hw=_number(fields, "hw"),
        beat=_number(fields, "beat"),
        budget_mib=_number(fields, "budget_mib"),
        total_mib=_number(fields, "total_mib"),
        free_mib=_number(fields, "free_mib"),
        foreign_mib=_number(fields, "foreign_mib"),
        foreign=_text(fields, "foreign"),
        used_percent=_number(fields, "used_percent"),
        foreign_percent=_number(fields, "foreign_percent"),
        serves=tuple(ModelName(model) for model in fields.get("serves", "").split()),
        fault=_text(fields, "fault"),
        models={model: _seen(fields, model) for model in models if f"state:{model}" in fields},
        inspected={
            model: Inspected(
                stamp=fields.get(f"stamp:{model}", ""),
                trouble=_text(fields, f"unsound:{model}"),
                prior_ms=_number(fields, f"prior_ms:{model}"),
            )
            for model in models
            if any(f"{field}:{model}" in fields for field in ("stamp", "unsound", "prior_ms"))
        },
    )


def _seen(fields: Mapping[str, str], model: ModelName) -> Seen:
    return Seen(
        state=Residency(fields[f"state:{model}"]),
        gen=_number(fields, f"gen:{model}"),
        url=fields.get(f"url:{model}", ""),
        progress=_number(fields, f"progress:{model}"),
        mib=_number(fields, f"mib:{model}"),
        took_ms=_number(fields, f"took_ms:{model}"),
        error=_text(fields, f"error:{model}"),
        failing=fields.get(f"failure:{model}", ""),
    )


def _number(fields: Mapping[str, str], name: str) -> int:
    return int(fields.get(name) or "0")


def _text(fields: Mapping[str, str], name: str) -> str:
    """For people: what would steer a terminal is a blank; lines and tabs stay."""
    return _CONTROL.sub(" ", fields.get(name, ""))
