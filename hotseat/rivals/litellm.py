"""LiteLLM's proxy ``config.yaml`` as a draft of ours.

Rule: an entry that runs at home becomes a model of the catalogue, still without a command, for LiteLLM only knows where
a server listens. An entry in somebody's cloud is listed, and never becomes a model by mistake.
"""

import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from hotseat.rivals.draft import Draft, DraftModel
from hotseat.rivals.yaml_file import ImportFailedError, Table, one_line

HOME = frozenset(
    {"ollama", "ollama_chat", "lm_studio", "llamafile", "hosted_vllm", "vllm", "xinference", "docker_model_runner"}
)
"""Providers that are somebody's own server; without an address on this machine."""
COMPATIBLE = frozenset(
    {"openai", "text-completion-openai", "openai_like", "custom_openai", "litellm_proxy", "huggingface"}
)
"""At home where their address is."""
KINDS = {"chat": "chat", "completion": "completion", "embedding": "embedding", "responses": "chat", None: "chat"}
_HOME_SUFFIXES = (".local", ".lan", ".internal", ".home.arpa")
_SECTIONS = ("litellm_settings", "router_settings", "general_settings")
_CARRIED = frozenset({"fallbacks", "master_key", "model_group_alias"})
_TOP = frozenset({*_SECTIONS, "model_list"})
_PARAMETERS = frozenset({"model", "api_base", "base_url", "api_key", "max_parallel_requests", "custom_llm_provider"})


def from_litellm(document: Table, environ: Mapping[str, str]) -> Draft:
    """Read it.

    Raises:
        ImportFailedError: A part has another shape than LiteLLM's, or nothing in it runs at home.
    """
    draft = Draft(source="LiteLLM")
    entries = document.get("model_list")
    if not isinstance(entries, list) or not entries:
        raise ImportFailedError("model_list: must be a list of models, and there is none")
    names: dict[str, str] = {}
    for index, entry in enumerate(entries):
        _add(draft, entry, f"model_list[{index}]", environ, names)
    if not draft.models:
        raise ImportFailedError("model_list: no entry runs on a machine of your own, so there is nothing to lease")
    _fallbacks(draft, document, names)
    _master_key(draft, _table(document.get("general_settings"), "general_settings").get("master_key"), environ)
    for section in _SECTIONS:
        table = _table(document.get(section), section)
        draft.leave_unknown(f"{section}.", table, _CARRIED)
        _aliases(draft, _table(table.get("model_group_alias"), f"{section}.model_group_alias"), section, names)
    draft.settle()
    draft.leave_unknown("", document, _TOP)
    return draft


def _add(draft: Draft, entry: object, where: str, environ: Mapping[str, str], names: dict[str, str]) -> None:
    table = _table(entry, where)
    parameters = _table(table.get("litellm_params"), f"{where}.litellm_params")
    name, remote = table.get("model_name"), parameters.get("model")
    if not isinstance(name, str) or not isinstance(remote, str) or not remote:
        raise ImportFailedError(f"{where}: needs model_name and litellm_params.model, both text")
    provider, bare = _provider(remote, parameters.get("custom_llm_provider"))
    address = _resolved(parameters.get("api_base") or parameters.get("base_url"), environ)
    label = f"{where} ({name})"
    if "*" in name or "*" in remote:
        draft.leave(label, "a wildcard; Hotseat serves named models")
    elif not _at_home(provider, address):
        host = _host_of(address)
        draft.leave(
            label,
            f"at {one_line(host or provider)}, not at home: an upstream of [routing], which this import does not write",
        )
    elif name in names:
        draft.leave(label, "a second server under the same name; a second worker with the same model is our way")
    elif (model := draft.new_model(name, label)) is not None:
        names[name] = model.name
        _fill(draft, model, bare, address or "http://localhost", provider, table, parameters)


def _fill(
    draft: Draft, model: DraftModel, remote: str, address: str, provider: str, table: Table, parameters: Table
) -> None:
    where = f"model {model.name}"
    info = _table(table.get("model_info"), f"{where}: model_info")
    mode = info.get("mode")
    if not isinstance(mode, str | None) or mode not in KINDS:
        draft.leave(f"{where}: model_info.mode", "not a kind of model the worker can prove ready; chat is written")
    elif (kind := KINDS[mode]) != "chat":
        model.fields["kind"] = kind
    if remote != model.name and len(remote) <= 256:
        model.fields["served_name"] = remote
    limit = parameters.get("max_parallel_requests")
    if isinstance(limit, int) and 0 < limit <= 10_000:
        model.fields["lease_limit"] = limit
    model.comments += [
        f"Served by {provider} at {_host(urlsplit(address).netloc)} until now. The worker starts its servers itself:",
        'add model_path and command = ["llama-server", "--model", "{model_path}", …], see deploy/hotseat.toml.example.',
    ]
    draft.leave(
        f"{where}: api_base", "LiteLLM knows an address, the worker needs a command; until then no worker can start it"
    )
    if parameters.get("api_key") not in (None, "", "none", "None", "EMPTY"):
        draft.leave(f"{where}: api_key", "the worker makes a new key for its server at every start")
    draft.leave_unknown(f"{where}: litellm_params.", parameters, _PARAMETERS)
    draft.leave_unknown(f"{where}: model_info.", info, frozenset({"mode", "id"}))
    draft.leave_unknown(f"{where}: ", table, frozenset({"model_name", "litellm_params", "model_info"}))


def _aliases(draft: Draft, aliases: Table, section: str, names: dict[str, str]) -> None:
    """Of a model group, by name or as a table."""
    for alias, target in aliases.items():
        name = target.get("model") if isinstance(target, dict) else target
        if isinstance(name, str) and name in names:
            draft.aliases.setdefault(alias, names[name])
        else:
            draft.leave(f"{section}.model_group_alias.{alias}", "stands for no model at home")


def _fallbacks(draft: Draft, document: Table, names: dict[str, str]) -> None:
    for section in ("router_settings", "litellm_settings"):
        rules = _table(document.get(section), section).get("fallbacks")
        for rule in rules if isinstance(rules, list) else []:
            for name, others in rule.items() if isinstance(rule, dict) else ():
                _fallback(draft, section, name, others if isinstance(others, list) else [], names)


def _fallback(draft: Draft, section: str, name: object, others: list[object], names: dict[str, str]) -> None:
    model = next((m for m in draft.models if isinstance(name, str) and m.name == names.get(name)), None)
    known = tuple(names[other] for other in others if isinstance(other, str) and other in names)
    if model is not None and known:
        model.fields["fallbacks"] = tuple(dict.fromkeys(other for other in known if other != model.name))
    for other in others:
        if model is None or not isinstance(other, str) or other not in names:
            draft.leave(f"{section}.fallbacks", f"{one_line(name)} → {one_line(other)}: not both are models at home")


def _master_key(draft: Draft, key: object, environ: Mapping[str, str]) -> None:
    secret = _resolved(key, environ)
    draft.guarded = key is not None
    if secret:
        draft.add_key("litellm-master", secret, scope="admin")
    elif key is not None:
        draft.leave("general_settings.master_key", "no text, or an environment variable that is not set here")


def _provider(remote: str, named: object) -> tuple[str, str]:
    """Provider and the name it knows the model by."""
    if isinstance(named, str) and named:
        return named, remote.removeprefix(f"{named}/")
    provider, slash, bare = remote.partition("/")
    return (provider, bare) if slash and bare else ("openai", remote)


def _at_home(provider: str, address: str | None) -> bool:
    if provider not in HOME | COMPATIBLE:
        return False
    if not address:
        return provider in HOME
    host = _host_of(address)
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        return bool(host) and ("." not in host or host.endswith(_HOME_SUFFIXES))
    return number.is_private or number.is_loopback or number.is_link_local or number in _SHARED


def _host_of(address: str | None) -> str:
    try:
        return (urlsplit(address or "").hostname or "").rstrip(".").lower()
    except ValueError:
        return ""


_SHARED = ipaddress.ip_network("100.64.0.0/10")
"""Carrier-grade NAT, which private networks over the internet (Tailscale) use."""


def _resolved(value: object, environ: Mapping[str, str]) -> str | None:
    if not isinstance(value, str):
        return None
    return environ.get(value.removeprefix("os.environ/")) if value.startswith("os.environ/") else value


def _host(netloc: str) -> str:
    """Without a user and password."""
    return netloc.rsplit("@", 1)[-1]


def _table(value: object, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ImportFailedError(f"{where}: must be a table, and is {type(value).__name__}")
    return {str(key): inner for key, inner in value.items()}
