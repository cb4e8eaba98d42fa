"""One model of llama-swap's configuration as one of ours, with the names that lead to it."""

from typing import Any
from urllib.parse import urlsplit

from hotseat.migration.command_lines.command import PORT, About, Command, command_words_of, size_mib
from hotseat.migration.command_lines.programs import CommandError, ElsewhereError, OtherKindError
from hotseat.migration.command_lines.translate import command_of
from hotseat.migration.draft import REMOTE_NAME_LIMIT, Draft, DraftAlias, DraftModel, DraftParameters
from hotseat.migration.llama_swap.macros import MacroError, Macros
from hotseat.migration.reading import DocumentTable, count_of, number_of

DEFAULT_TIMEOUT_S, LEAST_TIMEOUT_S = 120, 15
DEFAULT_LIMIT = 10
"""Requests that llama-swap passes on to a model at a time."""
LONGEST_LOAD_S, LONGEST_STOP_S = 7200.0, 600.0
NO_COMMAND = "The model has no command yet, so no worker can start it"
USUAL_PROXIES = (None, "http://localhost:${PORT}", "http://127.0.0.1:${PORT}", "http://[::1]:${PORT}")

MODEL_LEFT = {
    "metadata": "not shown by /v1/models",
    "sendLoadingState": "waiting streams are kept alive by the client's profile",
    "timeouts": "time-outs are of the whole broker ([gateway])",
    "unlisted": "/v1/models lists every model; a key's models say who sees it",
}
FILTERS_LEFT = {
    "setParamsByMatch": "a name changes its requests in one way; make it an alias of its own",
    "policy": "requests are changed by parameters alone",
}


class ModelReader:
    """Reads models one after the other."""

    def __init__(self, draft: Draft, root: DocumentTable, macros: Macros) -> None:
        self._draft = draft
        self._macros = macros
        self._global_ttl = root.get("globalTTL", 0)
        self._load_timeout_s = self._timeout_of(root)
        self._stop_timeout = root.get("unloadTimeout")
        self._described = self._downloads = False

    def _timeout_of(self, root: DocumentTable) -> float:
        timeout = root.get("healthCheckTimeout")
        timeout_s = number_of(timeout)
        if timeout is not None and timeout_s is None:
            self._draft.leave("healthCheckTimeout", "not a number of seconds")
        elif timeout_s and timeout_s > LONGEST_LOAD_S:
            self._draft.change("healthCheckTimeout", f"loading takes {LONGEST_LOAD_S:g} s at most")
        return float(min(max(LEAST_TIMEOUT_S, timeout_s or DEFAULT_TIMEOUT_S), LONGEST_LOAD_S))

    def not_ours(self, table: DocumentTable, name: str) -> str | None:
        """Why a model is none that we have a kind for; None: it is one, as far as can be seen."""
        try:
            macros = self._macros.with_more({**_plain(table.get("macros")), "MODEL_ID": name, "PORT": PORT})
            about = About(port=_port_of(table.get("proxy")), name=name, kind=_said_kind(table))
            _look_at(str(table.get("cmd", "")), about, macros)
        except OtherKindError as error:
            return f"{error}. It is left out"
        except (CommandError, MacroError):
            return None
        return None

    def fill(self, model: DraftModel, table: DocumentTable, name: str, own: dict[str, object]) -> Command | None:
        """Everything that the table says; answers what was learned from its command."""
        macros = self._macros.with_more({**own, "MODEL_ID": name, "PORT": PORT})
        self._env(model, table, macros)
        command = self._command(model, table, name, macros)
        self._served_name(model, table, command)
        self._numbers(model, table, command)
        self._capabilities(model, table.table("capabilities"))
        self._check(model, table, macros)
        self._names(model, table, name)
        self._filters(model, table.table("filters"), name, macros)
        self._describe(model, table, macros)
        self._draft.leave_known(table, MODEL_LEFT)
        return command

    # ----------------------------------------------------------------------------------------------------- command
    def _command(self, model: DraftModel, table: DocumentTable, name: str, macros: Macros) -> Command | None:
        where, cmd = table.path("cmd"), table.get("cmd")
        port = _port_of(table.get("proxy"))
        try:
            text = cmd if isinstance(cmd, str) else ""
            about = About(port=port, name=name, kind=_said_kind(table), env=model.fields.get("env", {}))
            _look_at(text, about, macros)
            command = command_of(command_words_of(macros.expand(text)), about)
        except (CommandError, MacroError) as error:
            self._draft.leave(where, f"{error}. {NO_COMMAND}")
            self._left_stop(table, "")
            if table.get("proxy") not in USUAL_PROXIES:
                self._draft.leave(table.path("proxy"), "there is no command yet that would listen there")
            return None
        if command.has_key:
            self._draft.leave(where, "its API key: the worker makes a new one at every start")
        for note in command.notes:
            self._draft.change(where, note)
        self._downloads |= command.downloads
        self._serve(model, command)
        self._proxy(table, port, command)
        self._left_stop(table, "the worker ends its own process group (stop_timeout_s)")
        return command

    def _left_stop(self, table: DocumentTable, why: str) -> None:
        if table.get("cmdStop"):
            self._draft.leave(table.path("cmdStop"), why or "there is no command yet that it could end")

    def _proxy(self, table: DocumentTable, port: int | None, command: Command) -> None:
        """The address is the worker's to choose; a port that was written down twice is one place now."""
        proxy = table.get("proxy")
        if proxy in USUAL_PROXIES:
            return
        parts = _split(proxy)
        here = parts is not None and parts.hostname in {"localhost", "127.0.0.1", "::1", "0.0.0.0"}
        is_near = parts is not None and str(parts.hostname).startswith("127.") and not parts.path.strip("/")
        if is_near and not here and "{host}" in command.words:
            self._draft.change(table.path("proxy"), "the worker chooses the address, and fills it in")
        elif is_near and not here:
            why = "every server is asked at bind_host of [worker]: enter this address there if it listens on no other"
            self._draft.leave(table.path("proxy"), why)
        elif not here or (parts is not None and parts.path.strip("/")):
            self._draft.leave(table.path("proxy"), "a model server is asked on this host, at /v1 and nowhere else")
        elif port is not None and PORT in " ".join(command.words):
            self._draft.change(table.path("proxy"), "the worker chooses the port, and fills it in")

    def _serve(self, model: DraftModel, command: Command) -> None:
        if command.model_path is not None:
            model.fields["model_path"] = command.model_path
        model.fields["command"] = command.words
        if command.env:
            model.fields["env"] = {**command.env, **model.fields.get("env", {})}
        model.memory_mib = size_mib(command.files)
        if command.kind != "chat":
            model.fields["kind"] = command.kind
        if command.sees:
            model.fields["vision"] = True

    def _served_name(self, model: DraftModel, table: DocumentTable, command: Command | None) -> None:
        used = table.get("useModelName") or (command.alias if command is not None else None)
        if isinstance(used, str) and 0 < len(used) <= REMOTE_NAME_LIMIT:
            if used != model.name:
                model.fields["served_name"] = used
        elif used:
            self._draft.leave(table.path("useModelName"), "no text of at most 256 characters")

    def _env(self, model: DraftModel, table: DocumentTable, macros: Macros) -> None:
        env: dict[str, str] = {}
        entries = table.get("env")
        if entries is not None and not isinstance(entries, list):
            self._draft.leave(table.path("env"), "not a list of NAME=value")
        for index, entry in enumerate(entries if isinstance(entries, list) else []):
            name, equals, value = entry.partition("=") if isinstance(entry, str) else ("", "", "")
            if not equals or not name.strip() or "\x00" in entry:
                self._draft.leave(f"{table.path('env')}[{index}]", "not of the form NAME=value")
                continue
            try:
                env[name.strip()] = macros.expand(value)
            except MacroError as error:
                self._draft.leave(f"{table.path('env')}[{index}]", str(error))
        if env:
            model.fields["env"] = env

    # ----------------------------------------------------------------------------------------------------- numbers
    def _numbers(self, model: DraftModel, table: DocumentTable, command: Command | None) -> None:
        self._ttl(model, table)
        limit = table.get("concurrencyLimit", 0)
        if (count := count_of(limit, most=10_000)) is not None:
            model.fields["lease_limit"] = count
            model.comments.append("More requests than lease_limit wait in line; llama-swap refused them.")
        elif limit not in (0, None):
            self._draft.leave(table.path("concurrencyLimit"), "not a number of requests")
        if count is None and command is not None and (at_a_time := command.parallel or DEFAULT_LIMIT * command.is_wide):
            model.fields["lease_limit"] = at_a_time
        model.fields["load_timeout_s"] = self._load_timeout_s
        stop = table.get("unloadTimeout") or self._stop_timeout
        if stop and (stop_s := number_of(stop, most=LONGEST_STOP_S)):
            model.fields["stop_timeout_s"] = float(stop_s)
        elif stop:
            self._draft.leave(table.path("unloadTimeout"), f"not a number of seconds up to {LONGEST_STOP_S:g}")

    def _ttl(self, model: DraftModel, table: DocumentTable) -> None:
        ttl = table.get("ttl", -1)
        own = ttl != -1
        ttl = ttl if own else self._global_ttl
        if (seconds := number_of(ttl)) is None:
            self._draft.leave(table.path("ttl") if own else "globalTTL", "not a number of seconds")
        elif seconds > 0:
            model.fields["release_vram_after_s"] = float(seconds)

    def _capabilities(self, model: DraftModel, table: DocumentTable) -> None:
        for key in ("reranker", "tools"):
            if not isinstance(table.get(key, False), bool):
                self._draft.leave(table.path(key), "neither true nor false")
        if table.get("reranker") is True and model.fields.get("kind") != "rerank":
            model.fields["kind"] = "rerank"
        context = table.get("context")
        if (tokens := count_of(context, most=100_000_000)) is not None:
            model.fields["context_tokens"] = tokens
        elif context not in (None, 0):
            self._draft.leave(table.path("context"), "not a number of tokens")
        for key, known in (("in", {"text", "image"}), ("out", {"text"})):
            words = self._draft.texts(table, key)
            if key == "in" and "image" in words:
                model.fields["vision"] = True
            if others := [word for word in words if word not in known]:
                self._draft.leave(table.path(key), f"{', '.join(others)}: not shown by /v1/models")
        if table.get("tools") is True:
            self._draft.leave(table.path("tools"), "not shown by /v1/models; max_tools = 0 says that there are none")

    def _check(self, model: DraftModel, table: DocumentTable, macros: Macros) -> None:
        check = table.get("checkEndpoint")
        try:
            check = macros.expand(check) if isinstance(check, str) else check
        except MacroError as error:
            self._draft.leave(table.path("checkEndpoint"), str(error))
            return
        if isinstance(check, str) and check.startswith("/"):
            model.fields["health_path"] = check
        elif check is not None:
            why = "the worker always asks whether a server is ready; /health is used"
            self._draft.leave(table.path("checkEndpoint"), why)

    # ------------------------------------------------------------------------------------------------------- names
    def _names(self, model: DraftModel, table: DocumentTable, name: str) -> None:
        """Texts, or tables with an ``id``."""
        entries = table.get("aliases")
        if entries is not None and not isinstance(entries, list):
            self._draft.leave(table.path("aliases"), "not a list of names")
        for index, entry in enumerate(entries if isinstance(entries, list) else []):
            where = f"{table.path('aliases')}[{index}]"
            alias = entry.get("id") if isinstance(entry, dict) else entry
            if not isinstance(alias, str) or alias == name:
                self._draft.leave(where, "is no text, or the model's own name")
                continue
            known = self._draft.aliases.get(alias)
            added = self._draft.add_alias(alias, DraftAlias(candidates=(model.name,)), where)
            if not added and known is None:
                self._draft.leave(where, "is no name for ours")
            if added and isinstance(entry, dict) and entry.get("unlisted"):
                self._draft.leave(f"{where}.unlisted", MODEL_LEFT["unlisted"])
            if added and isinstance(entry, dict) and entry.get("name") not in (None, alias):
                self._draft.leave(f"{where}.name", "not shown by /v1/models")

    def _filters(self, model: DraftModel, table: DocumentTable, name: str, macros: Macros) -> None:
        strip = table.get("stripParams") or table.get("strip_params") or ""
        try:
            wanted = macros.expand(str(strip)).split(",")
            always = macros.inside(table.get("setParams") or {})
            by_name = macros.inside(table.get("setParamsByID") or {})
        except MacroError as error:
            self._draft.leave(table.where, str(error))
            return
        for word in dict.fromkeys(part.strip() for part in wanted if part.strip()):
            if word == "stream":
                self._draft.leave(table.path("stripParams"), "stream is the broker's own")
            elif word != "model":
                model.parameters.strip.append(word)
        self._set(model.parameters.set, always, table.path("setParams"))
        self._variants(model, by_name, name, table.path("setParamsByID"))
        self._draft.leave_known(table, FILTERS_LEFT)

    def _variants(self, model: DraftModel, by_name: Any, name: str, where: str) -> None:
        """The model's own name is the base of all; what it sets, the others have too unless they set it themselves."""
        if not isinstance(by_name, dict):
            self._draft.leave(where, "not a table of names")
            return
        before = dict(model.parameters.set)
        self._set(model.parameters.set, by_name.get(name, {}), f"{where}.{name}")
        added = [key for key, value in model.parameters.set.items() if before.get(key, _ABSENT) != value]
        others = {other: values for other, values in by_name.items() if other != name}
        for other, values in others.items():
            parameters = DraftParameters(set={key: before[key] for key in added if key in before})
            self._set(parameters.set, values, f"{where}.{other}")
            alias = DraftAlias(candidates=(model.name,), parameters=parameters)
            known = self._draft.aliases.get(other)
            if known is not None and known.candidates == alias.candidates:
                known.parameters = parameters
            elif not self._draft.add_alias(other, alias, where) and known is None:
                self._draft.leave(f"{where}.{other}", "is no name for ours")
        for other, found in self._draft.aliases.items():
            if found.candidates != (model.name,) or other == name:
                continue
            extra = [key for key in added if key not in found.parameters.set and key not in before]
            kept = {key: before[key] for key in added if key in before and key not in found.parameters.set}
            found.parameters.set |= kept
            if extra:
                self._draft.change(f"{where}.{name}", f"{', '.join(extra)}: set for {other!r} too, which leads there")

    def _set(self, target: dict[str, Any], values: object, where: str) -> None:
        if not isinstance(values, dict):
            self._draft.leave(where, "not a table of parameters")
            return
        for key, value in values.items():
            if key != "model":
                self._draft.set_parameter(target, key, value, f"{where}.{key}")

    # ------------------------------------------------------------------------------------------------- descriptions
    def _describe(self, model: DraftModel, table: DocumentTable, macros: Macros) -> None:
        for key in ("name", "description"):
            text = table.get(key)
            if not isinstance(text, str):
                if text is not None:
                    self._draft.leave(table.path(key), "is no text")
                continue
            try:
                model.comments.append(macros.expand(text))
            except MacroError:
                model.comments.append(text)
            self._described = True

    def describe_once(self) -> None:
        """Say what is true of all models."""
        if self._described:
            self._draft.change("name, description", "are comments in the file; /v1/models does not show them")
        if self._downloads:
            self._draft.change(
                "the environment",
                "model servers inherit PATH, HOME, LD_LIBRARY_PATH, HF_HOME, CUDA_VISIBLE_DEVICES and few more of the "
                "worker's; tokens, other caches and what else they need belong into env",
            )


_ABSENT = object()


def _said_kind(table: DocumentTable) -> str:
    capabilities = table.raw("capabilities")
    return "rerank" if isinstance(capabilities, dict) and capabilities.get("reranker") is True else ""


def _look_at(text: str, about: About, macros: Macros) -> None:
    """What a command starts matters more than what is not set here.

    Raises:
        CommandError: Nothing that a worker could start.
        MacroError: As ``expand``.
    """
    try:
        command_of(command_words_of(macros.without_environment(text)), about)
    except (ElsewhereError, OtherKindError):
        raise
    except CommandError:
        return


def _plain(macros: object) -> dict[str, object]:
    known = macros.items() if isinstance(macros, dict) else ()
    return {str(name): value for name, value in known if isinstance(value, str | int | float)}


def _split(proxy: object) -> Any:
    try:
        parts = urlsplit(proxy.replace("${PORT}", "1")) if isinstance(proxy, str) else None
        port = parts.port if parts is not None else None
    except ValueError:
        return None
    return None if port is None else parts


def _port_of(proxy: object) -> int | None:
    """The port that is written down, if one is."""
    parts = None if isinstance(proxy, str) and "${PORT}" in proxy else _split(proxy)
    return parts.port if parts is not None else None
