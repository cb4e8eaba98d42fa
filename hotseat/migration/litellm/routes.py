"""Names of LiteLLM's as ours: models at home, models of upstreams, and aliases where a name leads to several."""

import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from hotseat.migration.draft import REMOTE_NAME_LIMIT, Draft, DraftAlias, DraftModel, DraftUpstream, fit_name
from hotseat.migration.litellm.entry import (
    Deployment,
    Variables,
    fill_info,
    fill_parameters,
    fill_prices,
    has_key,
    seconds_of,
)
from hotseat.migration.litellm.home import Servers, fill_home
from hotseat.migration.litellm.providers import CLOUDS, COMPATIBLE, OPENAI_AT_V1, host_of, why_not
from hotseat.migration.litellm.settings import LiteLLMSettings, fallbacks_of, tries_of
from hotseat.migration.reading import DocumentTable, number_of
from hotseat.migration.upstreams import settle_key, variable_for
from hotseat.migration.yaml_file import one_line
from schemas.addresses import address_of

FIREWORKS = "accounts/fireworks/models/"
MESSAGES = frozenset({
    "max_tokens", "temperature", "top_p", "top_k", "stop_sequences", "thinking", "service_tier", "metadata", "system",
})  # fmt: skip
"""Parameters that mean the same at Anthropic's own address."""


class LiteLLMNames:
    """Takes the entries one after the other, then makes names of them."""

    def __init__(
        self,
        draft: Draft,
        settings: LiteLLMSettings,
        variables: Variables,
        credentials: Mapping[str, DocumentTable],
        prices: Mapping[str, Any],
    ) -> None:
        self._draft = draft
        self._settings = settings
        self._variables = variables
        self._credentials = credentials
        self._prices = prices
        self._groups: dict[str, list[Deployment]] = {}
        self._candidates: dict[str, list[str]] = {}
        """Names of ours by the name that was asked for, best first."""
        self._upstreams: dict[tuple[object, ...], DraftUpstream] = {}
        self._servers = Servers(draft)

    def add(self, one: Deployment) -> None:
        """One entry; a second server at home with the same model under the same name is another worker's."""
        draft, group = self._draft, self._groups.setdefault(one.group, [])
        if one.is_home and any(other.is_home and other.bare == one.bare for other in group):
            draft.leave(
                one.label, "a second server under the same name; a second worker with the same model is our way"
            )
            one.table.told()
        elif not one.is_home and (why := self._not_an_upstream(one)) is not None:
            draft.leave(one.label, why)
            one.table.told()
        else:
            group.append(one)

    def finish(self) -> None:
        """Make models, upstreams and names."""
        groups = {name: sorted(group, key=self._order) for name, group in self._groups.items() if group}
        for one in (one for group in groups.values() for one in group if one.is_home):
            fill_home(self._draft, one, self._said_key(one))
            self._servers.see(one)
        plain = {name: self._is_plain(name, group, groups) for name, group in groups.items()}
        for name, group in groups.items():
            self._candidates[name] = [made for one in group for made in self._made(one, plain) if made]
        for name, group in groups.items():
            if plain[name]:
                self._local_fallbacks(name)
            else:
                self._alias(name, group)
        self._others()
        if any(one.is_home for group in groups.values() for one in group):
            self._settings_at_home()

    def _settings_at_home(self) -> None:
        settings, draft = self._settings, self._draft
        if settings.timeout_s:
            draft.put("gateway", "first_byte_s", float(settings.timeout_s))
            draft.change(settings.timeout_at, "at home it counts from the lease on: waiting in line has no end")
        if settings.tries_at:
            draft.change(settings.tries_at, "at home a break before the first byte is tried again once")
        if settings.stream_timeout_at:
            draft.change(settings.stream_timeout_at, "at home stall_s of [gateway] says how long an answer may pause")

    # -------------------------------------------------------------------------------------------------------- names
    def _is_plain(self, name: str, group: list[Deployment], groups: Mapping[str, list[Deployment]]) -> bool:
        """Does the name lead to one of ours and no further than the pool?"""
        if len(group) != 1 or group[0].provider == "anthropic" or not fit_name(name):
            return False
        if group[0].is_home and not self._is_the_models_own(name, group[0]):
            return False
        others = [groups.get(other, []) for _, other in fallbacks_of(self._settings, name)]
        if group[0].is_home:
            return all(one.is_home for other in others for one in other)
        return not any(others)

    def _is_the_models_own(self, name: str, one: Deployment) -> bool:
        """Among several names of one server, the one that it knows itself by; a name that is alone always is."""
        if len(self._servers.sharing(one)) == 1:
            return True
        return name == one.bare and self._servers.agree(one) and not list(fallbacks_of(self._settings, name))

    def _made(self, one: Deployment, plain: Mapping[str, bool]) -> list[str]:
        """What an entry becomes: by the name that leads to it, or by one of its own."""
        if not one.is_home:
            return self._outside(one, one.group if plain[one.group] else "")
        names = [other.group for other in self._servers.sharing(one) if plain[other.group]]
        model = self._servers.model_of(one, names[0] if names else self._free(one.bare, f"{one.group}@home"))
        parameters = self._servers.own_parameters(one)
        if not (model and parameters.lines()):
            return [model]
        is_alone = len(self._groups[one.group]) == 1 and not list(fallbacks_of(self._settings, one.group))
        named = one.group if is_alone else self._free(f"{one.group}@home")
        added = self._draft.add_alias(named, DraftAlias(candidates=(model,), parameters=parameters), one.label)
        return [named if added else model]

    def _order(self, one: Deployment) -> float:
        """Whoever has a lower number is asked first."""
        order = one.parameters.get("order")
        if order is not None and number_of(order) is None:
            self._draft.leave(one.parameters.path("order"), "not a number")
        return number_of(order) or math.inf

    def _free(self, *wished: str) -> str:
        taken = self._draft.names() | self._draft.aliases.keys() | self._groups.keys()
        fit = [name for wish in wished if (name := fit_name(wish))] or ["model"]
        numbered = (f"{fit[-1][:120]}-{number}" for number in range(2, 10_000))
        return next((name for name in (*fit, *numbered) if name not in taken), "")

    def _alias(self, name: str, group: list[Deployment]) -> None:
        """Its own entries first, then whom it falls back to."""
        listed = list(self._candidates[name])
        listed += self._following(name)
        candidates = tuple(dict.fromkeys(listed))
        if candidates in {(), (name,)}:
            return
        if len(group) > 1:
            self._draft.change(f"the name {name}", "requests were spread; now the first that can serve does")
        alias = DraftAlias(candidates=candidates, fields={"prefer": "listed"} if len(candidates) > 1 else {})
        if not self._draft.add_alias(name, alias, group[0].label) and name not in self._draft.aliases:
            self._draft.leave(group[0].label, "is no name for ours")

    def _following(self, name: str) -> list[str]:
        """Whom it falls back to, of ours."""
        found: list[str] = []
        for where, other in fallbacks_of(self._settings, name):
            ours, rule = self._candidates.get(other, []), f"{one_line(name)} → {one_line(other)}"
            if not ours:
                self._draft.leave(where, f"{rule}: there is no such model")
            elif not self._kinds(name) & self._kinds(other):
                self._draft.leave(where, f"{rule}: is of another kind")
                continue
            elif "context_window" in where:
                self._draft.change(where, f"{rule}: also where {one_line(name)} is down")
            found += ours
        return found

    def _kinds(self, name: str) -> set[str]:
        return {"chat" if one.kind == "completion" else one.kind for one in self._groups.get(name, [])}

    def _local_fallbacks(self, name: str) -> None:
        found = self._following(name)
        own = self._candidates[name]
        model = next((model for model in self._draft.models if [model.name] == own), None)
        if model is not None and (fallbacks := tuple(dict.fromkeys(one for one in found if one not in own))):
            model.fields["fallbacks"] = fallbacks

    def _others(self) -> None:
        """Names for names, and fallbacks of names that nobody has."""
        for where, name, target in self._settings.aliases:
            other = target.get("model") if isinstance(target, dict) else target
            other = other if isinstance(other, str) else ""
            leads = (other,) if other in self._draft.aliases else tuple(self._candidates.get(other, []))
            if not leads:
                self._draft.leave(where, "stands for no model here")
            elif self._draft.add_alias(name, DraftAlias(candidates=leads), where):
                if isinstance(target, dict) and target.get("hidden"):
                    self._draft.leave(f"{where}.hidden", "/v1/models lists every name")
            elif name not in self._draft.aliases:
                self._draft.leave(where, "is no name for ours")
        for where, name, _ in self._settings.fallbacks:
            if name != "*" and name not in self._candidates:
                self._draft.leave(where, f"{one_line(name)}: there is no such model")

    # ------------------------------------------------------------------------------------------------------ outside
    def _not_an_upstream(self, one: Deployment) -> str | None:
        if one.kind == "rerank":
            return "a reranker in a cloud; upstreams answer chats and embeddings"
        if one.provider in CLOUDS:
            return None
        if one.address and one.provider in COMPATIBLE | OPENAI_AT_V1:
            return None
        return f"at {one_line(host_of(one.address) or one.provider)}: {why_not(one.provider)}"

    def _outside(self, one: Deployment, name: str) -> list[str]:
        """Anthropic's models twice: each upstream speaks one protocol, and clients of LiteLLM speak both."""
        protocols = ("openai", "anthropic") if one.provider == "anthropic" else ("openai",)
        made = [self._at(one, protocol, name) for protocol in protocols]
        if len(protocols) > 1:
            self._draft.change(
                one.label, "chats go to Anthropic's own endpoint in OpenAI's form, /v1/messages to the other"
            )
        return [model for model in made if model]

    def _at(self, one: Deployment, protocol: str, name: str) -> str:
        draft = self._draft
        upstream = self._upstream(one, protocol)
        if upstream is None:
            return ""
        bare = one.bare
        if one.provider == "fireworks_ai" and "/" not in bare:
            bare = FIREWORKS + bare
        ours = name or self._free(f"{upstream.name}/{one.bare}", f"{upstream.name}/{one.group}")
        if not ours or ours in draft.names() or len(bare) > REMOTE_NAME_LIMIT:
            draft.leave(one.label, "the name is taken, or too long")
            return ""
        model = DraftModel(name=fit_name(ours))
        if bare != model.name:
            model.fields["remote_name"] = bare
        if one.kind == "embedding":
            model.fields["kind"] = "embedding"
        one.model = model
        self._cloud_fields(one, upstream)
        upstream.models.append(model)
        if name and model.name != name:
            draft.add_alias(name, DraftAlias(candidates=(model.name,)), one.label)
        return model.name

    def _cloud_fields(self, one: Deployment, upstream: DraftUpstream) -> None:
        draft = self._draft
        known = self._prices.get(f"{one.provider}/{one.bare}") or self._prices.get(one.bare) or {}
        known = known if isinstance(known, dict) else {}
        fill_info(draft, one, known)
        if not fill_prices(draft, one, known) and "inside" not in upstream.fields:
            under = (
                "under the budget nothing goes there until they are"
                if self._settings.has_budget
                else "it is the dearest"
            )
            draft.leave(f"prices of {one.group}", f"are not in the file: enter prompt_price and reply_price; {under}")
        draft.leave_known(
            one.parameters,
            {
                "max_parallel_requests": "an upstream says itself when it has enough (429)",
                "num_ctx": "is for models at home",
                "keep_alive": "is for models at home",
            },
        )
        fill_parameters(draft, one.model.parameters, one.parameters)
        if upstream.fields.get("protocol") == "anthropic":
            self._only_messages(one)

    def _only_messages(self, one: Deployment) -> None:
        default = one.model.parameters.default
        for name in [name for name in default if name not in MESSAGES]:
            del default[name]
            self._draft.leave(one.parameters.path(name), "/v1/messages has no such parameter; chats have it")

    def _upstream(self, one: Deployment, protocol: str) -> DraftUpstream | None:
        fields = self._address(one, protocol)
        if fields is None:
            return None
        self._key(one, fields)
        self._times(one, fields)
        secret = one.parameters.raw("api_key") if fields.get("api_key_env") == "" else ""
        place = (secret, *sorted(fields.items()))
        if place in self._upstreams:
            return self._upstreams[place]
        word = one.provider if one.provider in CLOUDS and not one.address else host_of(fields["base_url"])
        wished = fit_name(f"{word}-messages" if protocol == "anthropic" and one.provider == "anthropic" else word)
        taken = {upstream.name for upstream in self._draft.upstreams}
        names = (wished or "upstream", *(f"{wished or 'upstream'}-{number}" for number in range(2, 1000)))
        upstream = DraftUpstream(name=next(name for name in names if name not in taken), fields=fields)
        if fields.get("api_key_env") == "":
            self._own_variable(one, upstream)
        settle_key(self._draft, upstream, one.label)
        self._upstreams[place] = upstream
        self._draft.upstreams.append(upstream)
        return upstream

    def _address(self, one: Deployment, protocol: str) -> dict[str, Any] | None:
        base_url = (one.address or CLOUDS[one.provider].base_url).rstrip("/")
        base_url = base_url.removesuffix("/chat/completions").removesuffix("/messages")
        if one.address and one.provider in {"anthropic", "ollama", "ollama_chat"} and not base_url.endswith("/v1"):
            base_url += "/v1"
        try:
            parts = address_of(base_url, ("https", "http"))
            if parts.query or parts.fragment:
                self._draft.leave(one.label, f"its address at {host_of(base_url)} has a query")
                return None
        except ValueError as error:
            self._draft.leave(one.label, f"its address {error}")
            return None
        fields: dict[str, Any] = {"base_url": base_url}
        if protocol == "anthropic":
            fields["protocol"] = protocol
        if urlsplit(base_url).scheme == "http":
            self._draft.change(one.label, "the key and every request travel in the clear, as they did")
        return fields

    def _key(self, one: Deployment, fields: dict[str, Any]) -> None:
        key = self._said_key(one)
        if key is not None and key.startswith("os.environ/"):
            fields["api_key_env"] = key.removeprefix("os.environ/")
        elif key is None and one.provider in CLOUDS:
            fields["api_key_env"] = CLOUDS[one.provider].variable
        elif has_key(key):
            fields["api_key_env"] = ""  # named after its upstream, which has no name yet

    def _said_key(self, one: Deployment) -> str | None:
        own = one.parameters.raw("api_key")
        named = self._credentials.get(str(one.parameters.get("litellm_credential_name")))
        key = own if named is None else named.raw("api_key") or own
        if key is not None and not isinstance(key, str):
            self._draft.leave(one.parameters.path("api_key"), "is no text")
            return None
        return key

    def _own_variable(self, one: Deployment, upstream: DraftUpstream) -> None:
        upstream.fields["api_key_env"] = variable_for(upstream.name)
        self._draft.leave(
            one.parameters.path("api_key"),
            f"a secret is not written into the file: set {upstream.fields['api_key_env']} where the broker runs",
        )

    def _times(self, one: Deployment, fields: dict[str, Any]) -> None:
        table, settings, draft = one.parameters, self._settings, self._draft
        whole, streamed = settings.timeout_s, settings.stream_timeout_s
        for key in ("timeout", "stream_timeout"):
            if (value := table.get(key)) is None:
                continue
            seconds = seconds_of(value)
            if not seconds or seconds > 3600:
                draft.leave(table.path(key), "not a number of seconds up to 3600")
            elif key == "timeout":
                whole = seconds
            else:
                streamed = seconds
        if first := whole or streamed:
            fields["first_byte_timeout_s"] = float(first)
            fields["idle_timeout_s"] = float(streamed or first)
        retries = table.get("max_retries", table.get("num_retries"))
        tries = settings.tries if retries is None else tries_of(draft, table.path("max_retries"), retries)
        if tries is not None:
            fields["tries"] = tries
