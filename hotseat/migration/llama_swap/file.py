"""llama-swap's ``config.yaml`` as a draft of ours.

Rule: its swapping rules (groups, matrix, costs) have no counterpart and need none: Hotseat keeps what fits into memory.
What cards its models are on decides the slots.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hotseat.migration.draft import NOTHING_AT_HOME, Draft, DraftAlias, DraftModel, DraftSlot
from hotseat.migration.llama_swap.cards import Use, slots_of_cards, use_of
from hotseat.migration.llama_swap.macros import MacroError, Macros, macro_text_of
from hotseat.migration.llama_swap.model import ModelReader
from hotseat.migration.llama_swap.peers import add_peers
from hotseat.migration.reading import DocumentTable
from hotseat.migration.yaml_file import ImportFailedError
from hotseat.migration.yaml_file import YamlTable as Document

LEVELS = {"debug": "debug", "info": "info", "warn": "warning", "error": "error"}
PORTS = 100

GLOBAL_LEFT = {
    "profiles": "names lead where [routing] says, not where somebody switched them to",
    "selectors": "whoever serves is chosen by what is ready and what fits",
    "policies": "requests are changed by parameters alone",
    "sendLoadingState": "waiting streams are kept alive by the client's profile",
    "captureBuffer": "requests and answers are never kept",
    "store": "activity is in GET /events, GET /report and the log",
    "ui": "there is no such page",
    "upstream": "model servers are not reached through the broker but at /v1",
    "metricsMaxInMemory": "metrics are Prometheus series",
    "logTimeFormat": "times are in the log's own form",
    "logToStdout": "each model server has its own log in worker.state_dir",
    "logRequests": "each request is one line of the log, without its content",
    "performance": "metrics are Prometheus series",
}


@dataclass(slots=True)
class _Seen:
    """What is remembered of the models until all are known."""

    uses: dict[str, Use] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    """The source's name to ours."""


def from_llama_swap(document: Document, environ: Mapping[str, str]) -> Draft:
    """Read it.

    Raises:
        ImportFailedError: A part has another shape than llama-swap's.
    """
    draft, root, seen = Draft(source="llama-swap"), DocumentTable(document, ""), _Seen()
    models = root.table("models")
    if not len(models) and not len(root.table("peers")):
        raise ImportFailedError("models: there is none")
    macros = Macros(_macros(root.table("macros")), environ)
    _globals(draft, root)
    _add_keys(draft, root, macros)
    reader = ModelReader(draft, root, macros)
    for name in models:
        _add(draft, models, name, reader, seen)
    add_peers(draft, root.table("peers"), macros)
    reader.describe_once()
    draft.settle()
    if not draft.models and not draft.upstreams:
        told = "; ".join(left.line() for left in draft.left[:3])
        raise ImportFailedError(f"models: none can be served, so there is nothing to import ({told})")
    if not draft.models:
        draft.change("models", NOTHING_AT_HOME)
    _place(draft, seen)
    _groups(draft, root, seen)
    _preload(draft, root.table("hooks").table("on_startup"), seen)
    if not root.get("includeAliasesInList") and draft.aliases:
        draft.change("includeAliasesInList", "/v1/models lists every name")
    draft.leave_known(root, GLOBAL_LEFT)
    draft.leave_unasked(root)
    return draft


def _add(draft: Draft, models: DocumentTable, name: str, reader: ModelReader, seen: _Seen) -> None:
    table, where = models.table(name), models.path(name)
    if (why := reader.not_ours(table, name)) is not None:
        table.told()
        draft.leave(where, why)
        return
    if (model := draft.new_model(name, where)) is None:
        table.told()
        return
    own = _macros(table.table("macros"))
    command = reader.fill(model, table, name, own)
    seen.names[name] = model.name
    if command is not None:
        seen.uses[model.name] = use_of(command.bare, model.fields.get("env", {}))


def _globals(draft: Draft, root: DocumentTable) -> None:
    level = root.get("logLevel")
    if (ours := LEVELS.get(str(level))) is not None:
        draft.put("broker", "log_level", ours)
        draft.put("worker", "log_level", ours)
    elif level is not None:
        draft.leave("logLevel", "not a level")
    start = root.get("startPort")
    if isinstance(start, int) and not isinstance(start, bool) and 0 < start <= 65535 - PORTS:
        draft.put("worker", "port_min", start)
        draft.put("worker", "port_max", start + PORTS - 1)
    elif start is not None:
        draft.leave("startPort", "not a port with a hundred behind it; any free port is taken")


def _add_keys(draft: Draft, root: DocumentTable, macros: Macros) -> None:
    keys = root.get("apiKeys")
    draft.guarded = bool(keys)
    for index, key in enumerate(keys if isinstance(keys, list) else []):
        try:
            secret = macros.expand(key) if isinstance(key, str) else ""
        except MacroError as error:
            draft.leave(f"apiKeys[{index}]", str(error))
            continue
        if secret:
            draft.add_key(f"llama-swap-{index + 1}", secret, scope="lease")
        else:
            draft.leave(f"apiKeys[{index}]", "is no text")


# --------------------------------------------------------------------------------------------------------------- cards
def _place(draft: Draft, seen: _Seen) -> None:
    """A slot for each card that the models name between them; none where they name no more than one."""
    by_name = {model.name: model for model in draft.models}
    for slot, members in slots_of_cards(seen.uses).items():
        made = DraftSlot(id=slot.id, cards=len(slot.cards))
        if slot.device_uuid is not None:
            made.fields["device_uuid"] = slot.device_uuid
        draft.slots.append(made)
        for name in members:
            _bind(by_name[name], made, seen.uses[name])
        if made.cards > 1:
            joined = [name for name in members if len(seen.uses[name].cards or slot.cards) > 1]
            draft.change(
                f"the cards {', '.join(slot.cards)}",
                f"are one slot whose models take turns, for {', '.join(joined[:5])} needs more than one card at a "
                "time; without it each card could be a slot",
            )
    for name, use in seen.uses.items():
        if use.on_cpu:
            by_name[name].memory_mib, by_name[name].memory_note = 1, "Runs on the CPU and takes no memory of a card."


def _bind(model: DraftModel, slot: DraftSlot, use: Use) -> None:
    model.fields["slots"] = [slot.id]
    if slot.cards > 1:
        model.memory_mib = None
        alone = "Takes the whole slot" if len(use.cards) == 1 else "Takes all its cards"
        model.memory_note = f"{alone}: what is free on each card of it is not counted apart."
    if "device_uuid" in slot.fields and isinstance(env := model.fields.get("env"), dict):
        env.pop("CUDA_VISIBLE_DEVICES", None)
        if not env:
            del model.fields["env"]


# -------------------------------------------------------------------------------------------------------------- groups
def _groups(draft: Draft, root: DocumentTable, seen: _Seen) -> None:
    router = root.table("routing").table("router")
    settings = router.table("settings")
    if router.get("use"):
        draft.change(router.path("use"), "what stays in memory is decided by what fits and what is asked for")
    for groups in (root.table("groups"), settings.table("groups")):
        for name in groups:
            _group(draft, groups.table(name), seen)
    for matrix in (root.table("matrix"), settings.table("matrix")):
        _matrix(draft, matrix)
    scheduler = root.table("routing").table("scheduler")
    priorities = scheduler.table("settings").table("fifo")
    draft.leave_known(priorities, {"priority": "classes are of requests and keys, not of models"})
    if scheduler.get("use"):
        draft.change(scheduler.path("use"), "who waits gets a turn by class, and by whose turn it is")


def _group(draft: Draft, group: DocumentTable, seen: _Seen) -> None:
    """``exclusive`` and ``swap`` are what memory and slots do; ``persistent`` is somebody's wish."""
    members = draft.texts(group, "members")
    missing = [name for name in members if name not in seen.names]
    if missing:
        draft.leave(group.path("members"), f"{missing[0]}: there is no such model")
    if group.get("persistent") is True:
        draft.leave(group.path("persistent"), "a model may go when its place is needed, unless a lease holds it")
    swap, exclusive = group.get("swap", True), group.get("exclusive", True)
    slots = {tuple(model.fields.get("slots", ())) for model in draft.models if model.name in _ours(members, seen)}
    if swap is False:
        draft.change(group.where, "its models are side by side where memory allows; enter memory_mib of each")
    elif len(slots) == 1 and (only := next(iter(slots))) and len(only) == 1:
        draft.change(group.where, f"its models share the slot {only[0]}, where one at a time is what fits")
    else:
        draft.change(group.where, "its models may be side by side, where memory allows; memory_mib decides")
    if exclusive is False and swap is not False and len(draft.slots) < 2:
        draft.change(group.path("exclusive"), "models of other groups stay where memory allows")


def _ours(members: list[str], seen: _Seen) -> set[str]:
    return {seen.names[name] for name in members if name in seen.names}


def _matrix(draft: Draft, matrix: DocumentTable) -> None:
    if not len(matrix):
        return
    matrix.get("vars")
    matrix.get("sets")
    draft.change(matrix.where, "models are side by side where memory allows; enter memory_mib of each")
    draft.leave_known(matrix, {"evict_costs": "what a model costs to load is learned and counted"})


def _preload(draft: Draft, startup: DocumentTable, seen: _Seen) -> None:
    by_name = {model.name: model for model in draft.models}
    has_default = False
    for name in draft.texts(startup, "preload"):
        alias = draft.aliases.get(name, DraftAlias(candidates=(seen.names.get(name, name),)))
        model = by_name.get(alias.candidates[0])
        if model is None:
            draft.leave(f"hooks.on_startup.preload: {name}", "there is no such model")
        elif has_default:
            draft.leave(f"hooks.on_startup.preload: {name}", "one model is the default; the others load when asked for")
        else:
            model.fields["default"] = has_default = True
            draft.change(f"hooks.on_startup.preload: {name}", "is the default model: it also comes back when idle")


def _macros(table: DocumentTable) -> dict[str, object]:
    found: dict[str, object] = {}
    for name in table:
        value = table.get(name)
        try:
            macro_text_of(value)
        except MacroError as error:
            raise ImportFailedError(f"{table.where}: {error}") from None
        found[name] = value
    return found
