"""LiteLLM's proxy ``config.yaml`` as a draft of ours.

Rules:

1. An entry that runs at home becomes a model of the catalogue, still without a command, for LiteLLM only knows where a
   server listens. An entry in somebody's cloud becomes a model of an upstream.
2. A name that leads to one of them is its name. One that leads to several, or falls back to a cloud, is an alias with
   the candidates in order: a model that is asked for by its own name never goes out.
3. What a variable of the environment says is asked of the environment, in every field. Where it is not set here nobody
   knows what the entry is, so it is neither: it is listed with the variable.
"""

from collections.abc import Mapping
from typing import Any

from hotseat.migration.draft import NOTHING_AT_HOME, Draft
from hotseat.migration.litellm.entry import Deployment, Variables
from hotseat.migration.litellm.providers import is_home, kind_of
from hotseat.migration.litellm.routes import LiteLLMNames
from hotseat.migration.litellm.settings import read_settings
from hotseat.migration.reading import DocumentTable
from hotseat.migration.yaml_file import ImportFailedError
from hotseat.migration.yaml_file import YamlTable as Document

_NO_CREDENTIAL = DocumentTable({}, "")
RESPONSES = "responses/"
"""Before a model's name: LiteLLM asks for chats at ``/v1/responses``."""
SECTIONS_LEFT = {
    "guardrails": "what may not leave is private ([routing])",
    "mcp_servers": "hotseat mcp serves the pool, not other servers",
    "callback_settings": "/metrics and the log tell what happened; nothing is called",
    "search_tools": "requests are not rewritten",
    "vector_store_registry": "requests are not rewritten",
    "files_settings": "files of providers are not passed on",
    "finetune_settings": "fine-tuning is not passed on",
    "assistant_settings": "assistants are not passed on",
    "prompts": "requests are not rewritten",
    "policies": "requests are not rewritten",
    "agent_list": "agents are clients here",
    "include": "import the files it names as well",
}


def from_litellm(document: Document, environ: Mapping[str, str], prices: Mapping[str, Any] | None = None) -> Draft:
    """Read it.

    Args:
        document: Of the file.
        environ: Where ``os.environ/…`` leads.
        prices: LiteLLM's own table of prices and contexts, by model; where the file says nothing.

    Raises:
        ImportFailedError: A part has another shape than LiteLLM's, or nothing in it can be served.
    """
    draft = Draft(source="LiteLLM")
    own = document.get("environment_variables")
    variables = Variables({**environ, **_own_variables(own if isinstance(own, dict) else {})})
    root = DocumentTable(document, "", variables.resolver(draft))
    own_table = root.table("environment_variables")
    for name in own_table:
        if not isinstance(own_table.raw(name), str | int | float):
            draft.leave(own_table.path(name), "is no text")
    credentials = _credentials(draft, root)
    entries = root.get("model_list")
    if not isinstance(entries, list) or not entries:
        more = " in the file; those in its database cannot be read" if _in_database(document) else ""
        raise ImportFailedError(f"model_list: must be a list of models, and there is none{more}")
    settings = read_settings(draft, root, variables)
    routes = LiteLLMNames(draft, settings, variables, credentials, prices or {})
    missing: set[str] = set()
    for index, entry in enumerate(entries):
        one = _read(draft, root, entry, f"model_list[{index}]", variables, missing, credentials)
        if one is not None:
            routes.add(one)
    routes.finish()
    draft.settle()
    if not draft.models and not draft.upstreams:
        raise ImportFailedError(_nothing(draft, missing))
    if not draft.models:
        draft.change("model_list", NOTHING_AT_HOME)
    draft.leave_known(root, SECTIONS_LEFT)
    draft.leave_unasked(root)
    return draft


def _read(
    draft: Draft,
    root: DocumentTable,
    entry: object,
    where: str,
    variables: Variables,
    missing: set[str],
    credentials: Mapping[str, DocumentTable],
) -> Deployment | None:
    table = root.adopt(DocumentTable(entry, where, variables.resolver(draft)))
    parameters, info = table.table("litellm_params"), table.table("model_info")
    found = {}
    named = credentials.get(str(parameters.get("litellm_credential_name")), _NO_CREDENTIAL)
    lacking = []
    for key, value in (
        ("group", table.raw("model_name")),
        ("model", parameters.raw("model")),
        ("address", parameters.raw("api_base") or parameters.raw("base_url") or named.raw("api_base")),
        ("provider", parameters.raw("custom_llm_provider")),
    ):
        found[key], variable = variables.resolved(value)
        lacking += [variable] if variable else []
    for table_, key in ((parameters, "api_base"), (parameters, "base_url"), (named, "api_base"), (info, "mode")):
        if not isinstance(table_.raw(key), str | None):
            draft.leave(table_.path(key), "is no text")
    if parameters.get("litellm_credential_name") is not None and named is _NO_CREDENTIAL:
        draft.leave(parameters.path("litellm_credential_name"), "there is no such credential")
    if lacking:
        missing.update(lacking)
        draft.leave(where, f"{', '.join(lacking)}: not set in the environment here; set it and import again")
        table.told()
        return None
    if not found["group"] or not found["model"]:
        raise ImportFailedError(f"{where}: needs model_name and litellm_params.model, both text")
    provider, bare = _provider(found["model"], found["provider"])
    is_responses = info.get("mode") == "responses" or bare.startswith(RESPONSES)
    bare = bare.removeprefix(RESPONSES)
    label = f"{where} ({found['group']})"
    if "*" in found["group"] or "*" in found["model"]:
        draft.leave(label, "a wildcard; Hotseat serves named models")
        table.told()
        return None
    kind = kind_of(info.get("mode"), bare)
    if kind is None:
        draft.leave(label, "serves sound, pictures or something else: kinds are chat, completion, embedding, rerank")
        table.told()
        return None
    if not info.get("mode") and kind != "chat":
        draft.change(label, f"is taken for a model of kind {kind} by its name")
    return Deployment(
        where=where,
        group=found["group"],
        provider=provider,
        bare=bare,
        address=found["address"],
        kind=kind,
        is_home=is_home(provider, found["address"]),
        is_responses=is_responses,
        table=table,
        parameters=parameters,
        info=info,
    )


def _provider(remote: str, named: str | None) -> tuple[str, str]:
    """Provider and the name it knows the model by."""
    if named:
        return named, remote.removeprefix(f"{named}/")
    provider, slash, bare = remote.partition("/")
    if slash and bare:
        return provider, bare
    return ("anthropic" if remote.startswith("claude-") else "openai"), remote


def _own_variables(table: Document) -> dict[str, str]:
    return {str(name): str(value) for name, value in table.items() if isinstance(value, str | int | float)}


def _credentials(draft: Draft, root: DocumentTable) -> dict[str, DocumentTable]:
    """Addresses and keys that several entries name; nobody resolves what they hold but whoever uses it."""
    entries, found = root.get("credential_list"), {}
    if entries is not None and not isinstance(entries, list):
        raise ImportFailedError("credential_list: must be a list")
    for index, entry in enumerate(entries or []):
        table = root.adopt(DocumentTable(entry, f"credential_list[{index}]"))
        found[str(table.get("credential_name"))] = table.table("credential_values")
        draft.leave_known(table, {"credential_info": "is for people, and not shown"})
    return found


def _in_database(document: Document) -> bool:
    settings = document.get("general_settings")
    return isinstance(settings, dict) and bool(settings.get("store_model_in_db") or settings.get("database_url"))


def _nothing(draft: Draft, missing: set[str]) -> str:
    if missing:
        return f"model_list: set {', '.join(sorted(missing))} as LiteLLM has them, and import again"
    told = "; ".join(left.line() for left in draft.left[:3])
    return f"model_list: no entry can be served, so there is nothing to import ({told})"
