"""The head of the function library, ``lua/tables.lua``: what Python declares and Lua says too.

``python -m broker.store.redis.lua_tables`` writes the file; a test checks that it is in step. Rendered are transition
tables, constants, and which fields a row has in which order, so that each of them is declared once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from enum import StrEnum
from pathlib import Path
from textwrap import wrap
from types import ModuleType
from typing import Any, TypeVar

from broker.core import refusals, snapshot
from broker.core.lease import PRIORITIES, RANK, TRANSITIONS
from broker.core.slot import PROVED, RESIDENCY_TRANSITIONS, SLOT_TRANSITIONS
from broker.pool import check, machine, ps
from broker.pool.leases import availability, broker_lives, lifecycle
from broker.pool.records import failures, key_limits, ordering, owners, rows, shares, statistics
from broker.pool.records.lease_row import (
    ASK_FIELDS,
    EVENT_WORDS,
    LEASE_FIELDS,
    LINE_WORDS,
    OF_ITS_CLIENT,
    TAKEN_OVER,
    Ask,
)
from broker.pool.records.shown import HELD_FIELDS, UNSHOWN
from broker.pool.slots import beliefs, orders, registration, reports, states
from broker.pool.slots.residencies import EVENT_KIND
from broker.store import port, privacy_marks
from broker.store.redis.codec import store_words_of
from broker.store.redis.hashes import words_of_row
from broker.store.redis.lua_library import FOLDER, HASH_MARK, TABLES_FILE, VERSION
from schemas.residency import ORDERABLE, Residency

CONSTANTS: tuple[tuple[ModuleType, tuple[str, ...]], ...] = (
    (rows, ("MAX_LOOP", "SURVIVED_MS", "PROVED_MS", "FORGET_MS", "UNSERVED_MS", "MOST_DOUBLINGS", "GUESS", "WRONG",
            "MOST_WRONG", "GONE")),
    (ordering, ("RANK_STEP",)),
    (shares, ("MEAN_LEASE", "SHORTEST", "LONGEST", "TURN_STEP")),
    (statistics, ("ALPHA", "ONE_ARRIVAL", "ARRIVALS_TAU_MS", "TRUSTED_ERROR")),
    (owners, ("MOST_LEFT",)),
    (key_limits, ("SHARE", "BEYOND")),
    (machine, ("RUN_PREFIX", "KEPT_TTLS")),
    (broker_lives, ("WATCH_STEP_MS",)),
    (availability, ("TOO_LARGE",)),
    (refusals, ("UNSERVED", "REFUSAL_PAUSE_S")),
    (orders, ("BY_HAND", "DESERTED")),
    (registration, ("OLD_BOOTS",)),
    (ps, ("SHOWN",)),
    (check, ("CHECKED",)),
    (port, ("EVENTS_KEPT", "REJECTED_KEPT", "MAX_ENTRY")),
)  # fmt: skip
"""By the module that declares them; in Lua each is ``POOL.<NAME>``."""

REPORT_CONSTANTS = ("UNSOUND", "LEAP", "MOST_SLOTS", "TOKEN")
"""Of ``pool.slots.reports``; in Lua each is ``REPORTS.<NAME>``."""

WIDTH = 118

_State = TypeVar("_State", bound=StrEnum)
_Event = TypeVar("_Event", bound=StrEnum)


def _table(rows: Mapping[_State, Mapping[_Event, _State]], name: str) -> str:
    lines = [f"local {name} = {{"]
    for state, arrows in rows.items():
        pairs = ", ".join(f"{event.value} = '{to.value}'" for event, to in arrows.items())
        lines.append(f"  {state.value} = {{{pairs}}},")
    return "\n".join([*lines, "}"])


def _flat(pairs: Mapping[str, str], name: str) -> str:
    words = [f"  {key} = {value}," for key, value in pairs.items()]
    return "\n".join([f"{name} = {{", *words, "}"])


def _set(words: Iterable[str], name: str) -> str:
    return "\n".join(_wrapped(f"{name} = {{", (f"{word} = true" for word in sorted(words))))


def _list(words: Iterable[str], name: str) -> str:
    return "\n".join(_wrapped(f"{name} = {{", map(_literal, words)))


def _wrapped(head: str, parts: Iterable[str]) -> list[str]:
    """A table constructor, on one line if it fits."""
    text = ", ".join(parts)
    if len(head) + len(text) < WIDTH:
        return [f"{head}{text}}}"]
    margin = " " * (len(head) - len(head.lstrip()))
    inner = wrap(text, WIDTH, initial_indent=f"{margin}  ", subsequent_indent=f"{margin}  ", break_long_words=False)
    return [head, *inner, f"{margin}}}"]


def _pairs(rows: Mapping[str, str], name: str) -> str:
    return f"{name} = {{{', '.join(f'{{{_literal(one)}, {_literal(other)}}}' for one, other in rows.items())}}}"


def _kinds(rows: Mapping[str, tuple[str, int]], name: str) -> str:
    lines = [f"  {{'{field}', '{kind}', {most}}}," for field, (kind, most) in rows.items()]
    return "\n".join([f"{name} = {{", *lines, "}"])


def _literal(value: float | str) -> str:
    return str(value) if isinstance(value, int | float) else f'"{value}"' if "'" in value else f"'{value}'"


def _constants() -> str:
    found = {name: _literal(getattr(module, name)) for module, names in CONSTANTS for name in names}
    found["ADMIT_ALL"] = f"'{snapshot.ADMIT_ALL}'"  # compared with what a hash holds
    found |= {"SILENT_MS": f"{privacy_marks.SILENT_S * 1000:.0f}", "FIRST_MS": f"{privacy_marks.FIRST_S * 1000:.0f}"}
    return _flat(found, "local POOL")


def _new(row: Any) -> Iterable[str]:
    """Names and words of a fresh row's fields."""
    names = [field.name for field in fields(row)]
    for name, word in zip(names, store_words_of(getattr(row, name) for name in names), strict=True):
        yield from (name, str(word))


def _lease() -> list[str]:
    """What follows from the declaration of a lease; as code where a loop over names would cost every call something."""
    needed = sum(field.default is MISSING for field in fields(Ask))
    words = [f"args[from + {at}]" if at < needed else f"args[from + {at}] or ''" for at in range(len(ASK_FIELDS))]
    asked = [f"    {name} = {word}," for name, word in zip(ASK_FIELDS, words, strict=True)]
    held = (*TAKEN_OVER, "state", "arrival", "enq", "granted", "deadline", "slot", "gen", "claimed")
    return [
        f"local LEASE = {{NEEDED = {needed}}} -- arguments; brokers of an earlier version do not send all that follow",
        _list(LEASE_FIELDS, "LEASE.FIELDS"),
        _list(TAKEN_OVER, "LEASE.TAKEN_OVER"),
        _list(OF_ITS_CLIENT, "LEASE.OF_ITS_CLIENT"),
        _list((word for told in EVENT_WORDS.items() for word in told), "LEASE.EVENT_WORDS"),
        _pairs(LINE_WORDS, "LEASE.LINE_WORDS"),
        "-- What is asked for, in the arguments that begin at `from`.",
        "\n".join(["function LEASE.ask(args, from)", "  return {", *asked, "  }", "end"]),
        "-- An empty row with room for what a held lease has, so that it does not grow step by step.",
        "\n".join(["function LEASE.room()", *_wrapped("  return {", (f"{name} = nil" for name in held)), "end"]),
    ]


def _shown() -> list[str]:
    """What the snapshot has of which row."""
    told = {
        "MODEL": words_of_row(rows.ModelRow, but=UNSHOWN[rows.ModelRow]),
        "SLOT": words_of_row(rows.SlotRow, but=UNSHOWN[rows.SlotRow]),
        "RESIDENCY": words_of_row(rows.ResidencyRow, but=UNSHOWN[rows.ResidencyRow]),
        "HELD": HELD_FIELDS,
    }
    return ["local VIEW = {}", *(_list(words, f"VIEW.{name}") for name, words in told.items())]


def render_tables() -> str:
    """The file."""
    parts = [
        "-- Rendered from broker/core and broker/pool by `python -m broker.store.redis.lua_tables`: do not edit.",
        f"local SCHEMA = '{rows.SCHEMA}'",
        f"local VERSION = '{VERSION}'",
        f"local HASH = '{HASH_MARK}'",
        _list((priority.value for priority in PRIORITIES), "local PRIORITIES"),
        _flat({priority.value: str(rank) for priority, rank in RANK.items()}, "local RANK"),
        _flat({event.value: f"'{reason.value}'" for event, reason in lifecycle.REASON_OF.items()}, "local REASON_OF"),
        _table(TRANSITIONS, "TRANSITIONS"),
        _table(SLOT_TRANSITIONS, "SLOT_TRANSITIONS"),
        _table(RESIDENCY_TRANSITIONS, "RESIDENCY_TRANSITIONS"),
        _flat({event.value: f"'{kind}'" for (_, event), kind in EVENT_KIND.items()}, "local RESIDENCY_KIND"),
        _constants(),
        _set((event.value for event in lifecycle.OWN_DOING), "POOL.OWN_DOING"),
        _set((event.value for event in lifecycle.LEARNED_FROM), "POOL.LEARNED_FROM"),
        _set((state.value for state in Residency if state.occupies_device), "POOL.OCCUPIES_DEVICE"),
        _set((state.value for state in Residency if state.occupies_host), "POOL.OCCUPIES_HOST"),
        _set((state.value for state in ORDERABLE), "POOL.ORDERABLE"),
        _set(orders.FOR_WAITERS, "POOL.FOR_WAITERS"),
        _set((kind.value for kind in PROVED), "POOL.PROVED"),
        _set(beliefs.KINDS, "POOL.KINDS"),
        _flat({event: f"'{wish}'" for event, wish in states.WISHES.items()}, "POOL.WISHES"),
        _list(failures.KEPT, "POOL.FAILURE_FIELDS"),
        _list(_new(rows.ResidencyRow()), "POOL.NEW_RESIDENCY"),
        _list(machine.SPEC_FIELDS, "POOL.SPEC_FIELDS"),
        *_lease(),
        *_shown(),
        _flat({name: _literal(getattr(reports, name)) for name in REPORT_CONSTANTS}, "local REPORTS"),
        _pairs(reports.LEAPS, "REPORTS.LEAPS"),
        _set(reports.STATES, "REPORTS.STATES"),
        _kinds(reports.FIELDS, "REPORTS.FIELDS"),
        _kinds(reports.MODEL_FIELDS, "REPORTS.MODEL_FIELDS"),
        _flat({kind: f"'{text.format('%.0f')}'" for kind, text in reports.EXPECTED.items()}, "REPORTS.EXPECTED"),
    ]
    return "\n".join(parts) + "\n"


def main() -> None:
    """Write the file."""
    Path(str(FOLDER / TABLES_FILE)).write_text(render_tables(), encoding="ascii")


if __name__ == "__main__":
    main()
