"""llama-swap's ``config.yaml`` as a draft of ours.

Rule: its swapping rules (groups, matrix, costs) have no counterpart and need none: Hotseat keeps what fits into memory.
"""

from collections.abc import Mapping
from typing import Any

from hotseat.rivals.commands import PORT, Command, CommandError, llama_server_command, size_mib, words_of
from hotseat.rivals.draft import Draft, DraftModel
from hotseat.rivals.macros import MacroError, expand, text_of
from hotseat.rivals.yaml_file import ImportFailedError, Table

LEVELS = {"debug": "debug", "info": "info", "warn": "warning", "error": "error"}
DEFAULT_TIMEOUT_S = 120
LONGEST_LOAD_S = 7200
PORTS = 100

_MEMORY = "models are kept side by side as memory allows; enter memory_mib of each"
GLOBAL_LEFT = {
    "groups": _MEMORY,
    "matrix": _MEMORY,
    "routing": _MEMORY,
    "scheduler": "the policy decides whose turn it is ([policy])",
    "peers": "other servers are upstreams of [routing], which this import does not write",
    "sendLoadingState": "waiting streams are kept alive by the client's profile",
    "includeAliasesInList": "whether aliases are listed is the broker's business",
    "captureBuffer": "requests and answers are never kept",
    "metricsMaxInMemory": "metrics are Prometheus series",
    "logTimeFormat": "times are in the log's own form",
    "logToStdout": "each model server has its own log in worker.state_dir",
    "performance": "metrics are Prometheus series",
}
MODEL_LEFT = {
    "filters": "requests are passed on as they are",
    "setParams": "requests are passed on as they are",
    "cmdStop": "the worker ends its own process group (stop_timeout_s)",
    "metadata": "not shown by /v1/models",
    "sendLoadingState": GLOBAL_LEFT["sendLoadingState"],
    "timeouts": "time-outs are of the whole broker",
    "capabilities": "not shown by /v1/models",
    "unlisted": "/v1/models lists every model",
}
GLOBAL_KNOWN = frozenset(
    {*GLOBAL_LEFT, "models", "macros", "apiKeys", "hooks", "startPort", "healthCheckTimeout", "globalTTL", "logLevel"}
)
MODEL_KNOWN = frozenset(
    {
        *MODEL_LEFT,
        "aliases",
        "cmd",
        "macros",
        "env",
        "ttl",
        "proxy",
        "checkEndpoint",
        "concurrencyLimit",
        "useModelName",
    }
) | {"name", "description"}


def from_llama_swap(document: Table, environ: Mapping[str, str]) -> Draft:
    """Read it.

    Raises:
        ImportFailedError: A part has another shape than llama-swap's.
    """
    draft = Draft(source="llama-swap")
    models = _table(document.get("models"), "models")
    if not models:
        raise ImportFailedError("models: there is none")
    draft.log_level = LEVELS.get(str(document.get("logLevel")))
    if isinstance(start := document.get("startPort"), int) and 0 < start <= 65535 - PORTS:
        draft.worker |= {"port_min": start, "port_max": start + PORTS - 1}
    macros = _macros(document.get("macros"), "macros")
    _add_keys(draft, document.get("apiKeys"), macros, environ)
    for name, entry in models.items():
        where = f"models.{name}"
        table = _table(entry, where)
        if (model := draft.new_model(name, where)) is not None:
            _fill(draft, model, table, document, {**macros, **_macros(table.get("macros"), f"{where}.macros")}, environ)
    draft.settle()
    _preload(draft, document.get("hooks"))
    for key, why in GLOBAL_LEFT.items():
        if document.get(key) not in (None, "", False, {}, []):
            draft.leave(key, why)
    draft.leave_unknown("", document, GLOBAL_KNOWN)
    return draft


def _fill(
    draft: Draft, model: DraftModel, table: Table, document: Table, macros: dict[str, str], environ: Mapping[str, str]
) -> None:
    where = f"models.{model.name}"
    macros = {**macros, "MODEL_ID": model.name, "PORT": PORT}
    alias = _command(draft, model, table.get("cmd"), macros, environ)
    used = table.get("useModelName") or alias
    if isinstance(used, str) and 0 < len(used) <= 256 and used != model.name:
        model.fields["served_name"] = used
    _numbers(draft, model, table, document)
    _env(draft, model, table.get("env"), macros, environ)
    _addresses(draft, model, table)
    _aliases(draft, model, table.get("aliases"))
    model.comments += [str(table[key]) for key in ("name", "description") if isinstance(table.get(key), str)]
    for key, why in MODEL_LEFT.items():
        if table.get(key) not in (None, "", False, {}, []):
            draft.leave(f"{where}.{key}", why)
    draft.leave_unknown(f"{where}.", table, MODEL_KNOWN)


def _aliases(draft: Draft, model: DraftModel, aliases: object) -> None:
    """Texts, or tables with an ``id``."""
    for alias in aliases if isinstance(aliases, list) else []:
        name = alias.get("id") if isinstance(alias, dict) else alias
        if isinstance(name, str) and draft.aliases.setdefault(name, model.name) == model.name:
            continue
        draft.leave(f"models.{model.name}.aliases", "one is no text, or stands for another model already")


def _addresses(draft: Draft, model: DraftModel, table: Table) -> None:
    where = f"models.{model.name}"
    check = table.get("checkEndpoint")
    if isinstance(check, str) and check.startswith("/"):
        model.fields["health_path"] = check
    elif check is not None:
        draft.leave(f"{where}.checkEndpoint", "the worker always asks whether a server is ready; /health is used")
    proxy = table.get("proxy")
    if proxy is not None and proxy not in {f"http://{host}:${{PORT}}" for host in ("localhost", "127.0.0.1")}:
        draft.leave(f"{where}.proxy", "the worker decides where the server listens ({host}, {port})")


def _command(
    draft: Draft, model: DraftModel, cmd: object, macros: dict[str, str], environ: Mapping[str, str]
) -> str | None:
    """Make the command ours; returns the name it serves the model under."""
    where = f"models.{model.name}.cmd"
    try:
        command = llama_server_command(words_of(expand(cmd if isinstance(cmd, str) else "", macros, environ)))
    except (CommandError, MacroError) as error:
        draft.leave(where, f"{error}. The model has no command yet, so no worker can start it")
        return None
    if command.has_key:
        draft.leave(where, "its API key: the worker makes a new one at every start")
    _serve(model, command)
    return command.alias


def _serve(model: DraftModel, command: Command) -> None:
    if command.model_path is not None:
        model.fields["model_path"] = command.model_path
    model.fields["command"] = command.words
    model.memory_mib = size_mib(command.files)
    if command.kind != "chat":
        model.fields["kind"] = command.kind
    if command.parallel:
        model.fields["lease_limit"] = command.parallel


def _numbers(draft: Draft, model: DraftModel, table: Table, document: Table) -> None:
    where = f"models.{model.name}"
    ttl = table.get("ttl", -1)
    ttl = document.get("globalTTL", 0) if ttl == -1 else ttl
    if _is_number(ttl) and ttl > 0:
        model.fields["release_vram_after_s"] = float(ttl)
    elif ttl not in (0, None):
        draft.leave(f"{where}.ttl", "not a number of seconds")
    limit = table.get("concurrencyLimit", 0)
    if isinstance(limit, int) and 0 < limit <= 10_000:
        model.fields["lease_limit"] = limit
        model.comments.append("More requests than lease_limit wait in line; llama-swap refused them.")
    timeout_s = document.get("healthCheckTimeout", DEFAULT_TIMEOUT_S)
    timeout_s = max(15, timeout_s) if _is_number(timeout_s) else DEFAULT_TIMEOUT_S
    model.fields["load_timeout_s"] = float(min(timeout_s, LONGEST_LOAD_S))


def _env(draft: Draft, model: DraftModel, entries: object, macros: dict[str, str], environ: Mapping[str, str]) -> None:
    env: dict[str, str] = {}
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        name, equals, value = entry.partition("=") if isinstance(entry, str) else ("", "", "")
        if not equals or not name.strip() or "\x00" in entry:
            draft.leave(f"models.{model.name}.env[{index}]", "not of the form NAME=value")
            continue
        try:
            env[name.strip()] = expand(value, macros, environ)
        except MacroError as error:
            draft.leave(f"models.{model.name}.env[{index}]", str(error))
    if env:
        model.fields["env"] = env


def _add_keys(draft: Draft, keys: object, macros: dict[str, str], environ: Mapping[str, str]) -> None:
    draft.guarded = bool(keys)
    for index, key in enumerate(keys if isinstance(keys, list) else []):
        try:
            secret = expand(key, macros, environ) if isinstance(key, str) else ""
        except MacroError as error:
            draft.leave(f"apiKeys[{index}]", str(error))
            continue
        if secret:
            draft.add_key(f"llama-swap-{index + 1}", secret, scope="lease")


def _preload(draft: Draft, hooks: object) -> None:
    startup = _table(_table(hooks, "hooks").get("on_startup"), "hooks.on_startup")
    wanted = startup.get("preload")
    names = [name for name in wanted if isinstance(name, str)] if isinstance(wanted, list) else []
    for number, name in enumerate(names):
        model = next((model for model in draft.models if model.name == name), None)
        if number == 0 and model is not None:
            model.fields["default"] = True
        else:
            draft.leave(f"hooks.on_startup.preload: {name}", "one model is the default; the others load when asked for")


def _macros(value: object, where: str) -> dict[str, str]:
    try:
        return {str(name): text_of(text) for name, text in _table(value, where).items()}
    except MacroError as error:
        raise ImportFailedError(f"{where}: {error}") from None


def _table(value: object, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ImportFailedError(f"{where}: must be a table, and is {type(value).__name__}")
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9
