"""``[routing]`` of ``hotseat.toml``: aliases, families of variants, upstreams with their models and prices, privacy.

Rule: without this section nothing ever leaves, no content is looked at, and every model is served under its own name.
"""

import re
import stat
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, field_validator, model_validator

from schemas.addresses import address_of, secret_in
from schemas.config.file import ConfigError, Name, Section
from schemas.config.parameters import ParametersEntry
from schemas.config.problems import ConfigProblem
from schemas.names import ALIAS_PATTERN, FORM_PATTERN

AliasName = Annotated[str, StringConstraints(pattern=ALIAS_PATTERN)]
Class = Literal["interactive", "normal", "background", "batch"]
CLASSES: tuple[Class, ...] = ("interactive", "normal", "background", "batch")
_KEY = re.compile(r"[\x21-\x7e]{1,4096}")
TaskWord = Literal[
    "embedding", "fill_in_the_middle", "agent", "classification", "extraction", "structured", "summary", "code", "chat"
]
EffortWord = Literal["none", "low", "medium", "high"]
PreferWord = Literal["cheapest", "listed", "fastest"]
NameForm = Annotated[str, StringConstraints(pattern=FORM_PATTERN)]
"""A name, or a form of names: ``*`` stands for any letters, ``?`` for one."""
READABLE_BY_OTHERS = stat.S_IRGRP | stat.S_IROTH


PROVIDERS = (
    "openai.com", "openai.azure.com", "anthropic.com", "openrouter.ai", "groq.com", "mistral.ai", "deepseek.com",
    "googleapis.com", "together.ai", "together.xyz", "fireworks.ai", "x.ai", "cohere.com", "cohere.ai", "perplexity.ai",
    "amazonaws.com", "cerebras.ai", "huggingface.co", "huggingface.cloud", "nvidia.com", "replicate.com", "azure.com",
    "moonshot.ai", "moonshot.cn", "aliyuncs.com", "bigmodel.cn", "z.ai", "minimax.io", "sambanova.ai", "deepinfra.com",
    "novita.ai", "hyperbolic.xyz", "nebius.com", "nebius.ai", "ai21.com", "voyageai.com", "runpod.ai", "ollama.com",
    "github.ai", "githubcopilot.com", "scaleway.ai", "ovh.net", "lambda.ai", "baseten.co", "modal.run", "venice.ai",
)  # fmt: skip
"""Domains of companies that sell answers: nobody's own server."""
_NEARBY = ("local", "lan", "home", "internal", "home.arpa", "localhost", "ts.net", "fritz.box", "localdomain", "box")


def is_somebody_elses(host: str) -> bool:
    """A known provider's, or an address of the public network."""
    try:
        address = ip_address(host)
    except ValueError:
        return any(f".{host.lower().rstrip('.')}".endswith("." + domain) for domain in PROVIDERS)
    return address.is_global


def is_nearby(host: str) -> bool:
    """Does a host's name or address say that it is at home?"""
    try:
        return not ip_address(host).is_global
    except ValueError:
        name = host.lower().rstrip(".")
        return "." not in name or any(name.endswith("." + ending) for ending in _NEARBY)


class FamilyEntry(Section):
    """``[[routing.family]]``: one model in several quantisations: the best that fits now, or soonest, serves."""

    name: Name
    """What clients and aliases ask for."""
    variants: tuple[Name, ...] = Field(min_length=1, max_length=16)
    """Models of the catalogue, best first; their ``memory_mib`` are the footprints."""


class RuleEntry(Section):
    """``[[routing.alias.rule]]``: other candidates for requests of a kind.

    Of an alias's rules the first counts whose conditions all hold; where none does, the alias's own candidates do.
    """

    task: tuple[TaskWord, ...] = ()
    """What it is for, any of these: as ``x-hotseat-task`` says, else the key or the alias, else as it shows."""
    effort: tuple[EffortWord, ...] = ()
    """How hard the model is to think, any of these. A request that does not say has none of them."""
    min_tool_calls: int = Field(default=0, ge=0, le=1_000_000)
    """Calls of tools made in the conversation so far, at least."""
    min_schema_depth: int = Field(default=0, ge=0, le=1000)
    """Objects and lists within one another in the answer's schema, at least."""
    candidates: tuple[Name, ...] = Field(min_length=1, max_length=32)
    """As the alias's."""
    prefer: PreferWord | None = None
    """None: as the alias."""
    deadline_s: float | None = Field(default=None, gt=0, le=86_400)
    """None: as the alias."""

    @model_validator(mode="after")
    def _has_conditions(self) -> Self:
        if not (self.task or self.effort or self.min_tool_calls or self.min_schema_depth):
            raise ValueError("needs a condition: task, effort, min_tool_calls or min_schema_depth")
        return self


class AliasEntry(Section):
    """``[[routing.alias]]``: a name for ordered candidates, such as ``local/fast`` or ``auto``."""

    name: NameForm
    """What clients ask for; blanks and other signs allowed, for clients that have such a name. With ``*`` (any letters)
    and ``?`` (one): every name of this form that is nobody's; of several forms the most specific counts."""
    candidates: tuple[AliasName, ...] = Field(min_length=1, max_length=32)
    """Models, families, models of upstreams, other aliases; the best first."""
    prefer: PreferWord = "cheapest"
    """Of those that meet the deadline: the cheapest, a local one among equals; the first of the list; or whose answer
    is expected to be whole first, by what this broker has learned of them."""
    deadline_s: float | None = Field(default=None, gt=0, le=86_400)
    """For requests and keys that bring none, seconds until the first byte. None: no hurry, so a local model's line is
    waited in."""
    busy_wait_s: float | None = Field(default=None, ge=0, le=86_400)
    """A local model whose line is longer than this is busy, seconds: an upstream that is in time goes before it, also
    without a deadline. None: ``[routing]``'s."""
    private: bool = False
    """Whoever asks by this name is private, with the session."""
    parameters: ParametersEntry = ParametersEntry()
    """What this name changes about a request: one loaded model under several names that differ in parameters."""
    task: TaskWord | None = None
    """What its requests are for, unless they or their keys say so. None: as they show."""
    rule: tuple[RuleEntry, ...] = Field(default=(), max_length=100)
    """``[[routing.alias.rule]]``."""


class UpstreamModelEntry(Section):
    """``[[routing.upstream.model]]``: one model of an upstream. Prices: currency per million tokens."""

    name: Name
    """What clients and aliases ask for."""
    remote_name: str | None = Field(default=None, min_length=1, max_length=256)
    """What the upstream calls it. None: ``name``."""
    answers_as: tuple[str, ...] = Field(default=(), max_length=64)
    """Names by which it answers, beside ``remote_name`` (a date behind a name is no other name): an answer by any other
    is another model's, and of no use. None: only the names of the upstream's other models are, for ``remote_name`` may
    be an alias there."""
    kind: Literal["chat", "embedding"] = "chat"
    """What it answers."""
    context_tokens: int | None = Field(default=None, gt=0, le=100_000_000)
    """Prompt and reply together. None: not known, so routing does not check."""
    max_reply_tokens: int = Field(default=4096, gt=0, le=10_000_000)
    """Reserved for the reply of a request that does not say, tokens."""
    max_tools: int | None = Field(default=None, ge=0, le=100_000)
    """More tools than this it handles badly. None: any number."""
    structured: bool = True
    """Can it answer in a given form (JSON mode, a schema)?"""
    vision: bool = False
    """Does it take pictures?"""
    prompt_price: float | None = Field(default=None, ge=0, le=1_000_000)
    """Per million prompt tokens. None for this and ``reply_price``: nothing at a server of one's own (``inside``); of
    any other not known, so it is the dearest, and nothing goes there for a key that has a budget."""
    cached_price: float | None = Field(default=None, ge=0, le=1_000_000)
    """Per million prompt tokens that the upstream had cached. None: as ``prompt_price``."""
    reply_price: float | None = Field(default=None, ge=0, le=1_000_000)
    """Per million tokens of the reply."""
    parameters: ParametersEntry = ParametersEntry()
    """What is changed about every request that goes there."""


class UpstreamEntry(Section):
    """``[[routing.upstream]]``: a server beside the pool that speaks OpenAI's or Anthropic's protocol."""

    name: Name
    """In headers, metrics and the log."""
    protocol: Literal["openai", "anthropic"] = "openai"
    """Nothing is translated: ``/v1/messages`` goes to ``anthropic``, the others to ``openai``."""
    base_url: str
    """``https://host/v1``: what the clients' paths are added to; plain ``http://`` for a host of your own."""
    inside: bool = False
    """A server of your own, such as Ollama on the laptop: private requests may go there, and it needs no prices and no
    key. Refused for the known providers and for addresses of the public network."""
    api_key_file: Path | None = None
    """File with the key (first line), for the broker alone. A relative path counts from the working directory."""
    api_key_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")
    """The broker's environment variable with the key instead. Where it is not set nothing goes there, and the broker
    says so at its start. Neither of the two: it wants none, which only a server of one's own (``inside``) may."""
    betas: tuple[str, ...] = Field(default=(), max_length=64)
    """Words of the headers ``anthropic-beta`` and ``openai-beta`` that pass beside the known ones, as their makers
    write them. No other leaves, for nobody looks through headers."""
    connect_timeout_s: float = Field(default=5.0, gt=0, le=60)
    """Until it is connected, TLS included, seconds."""
    first_byte_timeout_s: float = Field(default=60.0, gt=0, le=3600)
    """Until its answer begins, seconds."""
    idle_timeout_s: float = Field(default=60.0, gt=0, le=3600)
    """Between two pieces of its answer, seconds."""
    expected_first_byte_s: float = Field(default=2.0, ge=0, le=3600)
    """What routing expects and compares with the deadline, seconds."""
    tries: int = Field(default=2, ge=1, le=5)
    """Of one request, before the next candidate; on 429, 5xx and no answer, never once the answer has begun."""
    classes: tuple[Class, ...] = CLASSES
    """Whose requests may go there: money for those who are in a hurry, and none for a batch."""
    model: tuple[UpstreamModelEntry, ...] = Field(min_length=1, max_length=256)
    """What it offers us."""

    @field_validator("base_url")
    @classmethod
    def _plain_address(cls, base_url: str) -> str:
        parts = address_of(base_url, ("https", "http"))
        if parts.query or parts.fragment:
            raise ValueError("must not contain a query or a fragment")
        return base_url.rstrip("/")

    @field_validator("betas")
    @classmethod
    def _plain_words(cls, betas: tuple[str, ...]) -> tuple[str, ...]:
        for word in betas:
            if not re.fullmatch(r"[a-z0-9_=.-]{1,64}", word):
                raise ValueError(f"{word!r} is no such word: small letters, digits and _ = . -")
        return betas

    @model_validator(mode="after")
    def _is_whose_it_says(self) -> Self:
        """What may be left out, and what an operator may call his own."""
        host = urlsplit(self.base_url).hostname or ""
        if self.api_key_file is not None and self.api_key_env is not None:
            raise ValueError("api_key_file and api_key_env: set one of them")
        if self.inside:
            if is_somebody_elses(host):
                raise ValueError(f"inside = true is for servers of your own, and {host} is somebody else's")
            return self
        if self.api_key_file is None and self.api_key_env is None:
            raise ValueError("set api_key_file or api_key_env (only a server of your own, inside = true, needs none)")
        for model in self.model:
            if (model.prompt_price is None) != (model.reply_price is None):
                raise ValueError(f"model {model.name!r}: prompt_price and reply_price: set both or neither")
        return self

    def read_key(self, environ: Mapping[str, str]) -> str | None:
        """The key; empty: the server asks for none; None: the variable is not set, so nobody can be asked.

        Raises:
            ConfigError: The file cannot be read, or it or the variable holds no key.
        """
        table = f'[[routing.upstream]] "{self.name}"'
        if self.api_key_env is not None:
            key = environ.get(self.api_key_env)
            if key and not _KEY.fullmatch(key):
                raise ConfigError(
                    ConfigProblem(table=table, key="api_key_env", what=f"{self.api_key_env} holds no key")
                )
            return key or None
        if self.api_key_file is None:
            return ""
        try:
            key = secret_in(self.api_key_file)
        except ValueError as error:
            raise ConfigError(ConfigProblem(table=table, key="api_key_file", what=str(error))) from None
        if not _KEY.fullmatch(key):
            what = f"the first line of {self.api_key_file} is not a key"
            raise ConfigError(ConfigProblem(table=table, key="api_key_file", what=what))
        return key

    def warnings(self, environ: Mapping[str, str]) -> tuple[str, ...]:
        """What an operator should know though it works."""
        found = []
        if self.api_key_env is not None and not environ.get(self.api_key_env):
            found.append(f"routing.upstream {self.name!r}: {self.api_key_env} is not set, so nothing goes there")
        try:
            if self.api_key_file is not None and self.api_key_file.stat().st_mode & READABLE_BY_OTHERS:
                found.append(f"routing.upstream {self.name!r}: others can read {self.api_key_file}; chmod 600 it")
        except OSError:
            pass
        host = urlsplit(self.base_url).hostname or ""
        if self.base_url.startswith("http://") and host not in {"localhost", "127.0.0.1", "::1"}:
            found.append(f"routing.upstream {self.name!r}: the key and every request travel in the clear (http://)")
        if self.inside and not is_nearby(host):
            found.append(
                f"routing.upstream {self.name!r}: inside = true, so private requests go to {host}; is that a server of "
                "your own?"
            )
        return tuple(found)


class RoutingSection(Section):
    """``[routing]``: where requests go. See ``docs/routing.md``."""

    alias: tuple[AliasEntry, ...] = Field(default=(), max_length=1000)
    """``[[routing.alias]]``."""
    family: tuple[FamilyEntry, ...] = Field(default=(), max_length=1000)
    """``[[routing.family]]``."""
    upstream: tuple[UpstreamEntry, ...] = Field(default=(), max_length=100)
    """``[[routing.upstream]]``. None: nothing ever leaves."""
    default: Name | None = None
    """Who serves a request that names no model: a model, a family, an upstream's model or an alias. None: the model
    with ``default = true``; without one such a request is refused."""
    unknown_names: tuple[NameForm, ...] = Field(default=("gpt-*", "claude-*"), max_length=1000)
    """Forms of names that nobody has and that mean the default, so that scripts work as they come. A name that somebody
    has, and every form of an alias, comes first. Empty: every unknown name is refused."""
    busy_percent: int = Field(default=80, ge=0, le=100)
    """While others than our model servers use a GPU more than this, percent, its models are busy: an upstream that is
    in time goes before them, also without a deadline; for what is private nothing changes. 0: it does not matter."""
    busy_wait_s: float | None = Field(default=None, ge=0, le=86_400)
    """For aliases that say nothing. None: no line is too long."""
    indicators: Literal["owner", "strict", "off"] = "owner"
    """Words and paths that make a request private though no secret stands there. ``owner``: screenshot, camera,
    password, credential, in any form and many languages, and paths of homes, drives and shares; ``strict``: more words,
    every absolute path, addresses, account numbers; ``off``: none. What each keeps at home that it need not:
    ``docs/routing.md``."""
    private_patterns: tuple[str, ...] = Field(default=(), max_length=1000)
    """Regular expressions (Python's ``re``; ``(?i)`` at the front ignores case): a request whose content matches one is
    private. They run on every request; avoid nested repetition."""
    private_idle_s: float = Field(default=86_400.0, ge=60, le=31_536_000)
    """A private session that was not seen for this long is forgotten, seconds."""
    private_sessions: int = Field(default=10_000, ge=100, le=10_000_000)
    """Private sessions remembered by name, 200 bytes each; beyond it they share marks, and strangers may be taken for
    private."""
    look_through_mib: float = Field(default=8.0, gt=0, le=256)
    """A larger body is private unread, MiB, and so is one that costs more to look through than twice as much text:
    1 MiB of it takes about 0.2 s of one core."""
    day_budget: float | None = Field(default=None, ge=0, le=1e9)
    """What all keys together may spend in a UTC day, in the currency of the prices. None: no limit."""
    month_budget: float | None = Field(default=None, ge=0, le=1e9)
    """The same for a calendar month."""

    @field_validator("private_patterns")
    @classmethod
    def _patterns_compile(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                compiled = re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
            if compiled.search("") is not None:
                raise ValueError(f"{pattern!r} matches everything")
        return patterns

    @model_validator(mode="after")
    def _upstreams_differ(self) -> Self:
        names = [upstream.name for upstream in self.upstream]
        if len(set(names)) != len(names):
            raise ValueError("upstream: two entries have the same name")
        return self
