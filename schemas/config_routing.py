"""``[routing]`` of ``hotseat.toml``: aliases, families of variants, upstreams with their models and prices, privacy.

Rule: without this section nothing ever leaves, no content is looked at, and every model is served under its own name.
"""

import re
import stat
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from schemas.config_file import ConfigError, Name, Section

Class = Literal["interactive", "normal", "background", "batch"]
CLASSES: tuple[Class, ...] = ("interactive", "normal", "background", "batch")
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


class AliasEntry(Section):
    """``[[routing.alias]]``: a name for ordered candidates, such as ``local/fast`` or ``auto``."""

    name: Name
    """What clients ask for."""
    candidates: tuple[Name, ...] = Field(min_length=1, max_length=32)
    """Models, families, models of upstreams, other aliases; the best first."""
    prefer: Literal["cheapest", "listed"] = "cheapest"
    """Of those that meet the deadline: the cheapest, a local one among equals; or the first of the list."""
    deadline_s: float | None = Field(default=None, gt=0, le=86_400)
    """For requests and keys that bring none, seconds until the first byte. None: no hurry, so a local model's line is
    waited in."""
    private: bool = False
    """Whoever asks by this name is private, with the session."""


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
    context_tokens: int = Field(gt=0, le=100_000_000)
    """Prompt and reply together."""
    max_reply_tokens: int = Field(default=4096, gt=0, le=10_000_000)
    """Reserved for the reply of a request that does not say, tokens."""
    max_tools: int | None = Field(default=None, ge=0, le=100_000)
    """More tools than this it handles badly. None: any number."""
    structured: bool = True
    """Can it answer in a given form (JSON mode, a schema)?"""
    vision: bool = False
    """Does it take pictures?"""
    prompt_price: float | None = Field(default=None, ge=0, le=1_000_000)
    """Per million prompt tokens. None: nothing, which only a server of one's own (``inside``) may cost."""
    cached_price: float | None = Field(default=None, ge=0, le=1_000_000)
    """Per million prompt tokens that the upstream had cached. None: as ``prompt_price``."""
    reply_price: float | None = Field(default=None, ge=0, le=1_000_000)
    """Per million tokens of the reply. None: as for ``prompt_price``."""


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
    """File with the key (first line), for the broker alone. A relative path counts from the working directory. None:
    it wants none, which only a server of one's own (``inside``) may."""
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
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("must begin with https:// or http:// and name a host")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("must not contain credentials, a query or a fragment; the key belongs in api_key_file")
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
        if self.inside:
            if is_somebody_elses(host):
                raise ValueError(f"inside = true is for servers of your own, and {host} is somebody else's")
            return self
        if self.api_key_file is None:
            raise ValueError("api_key_file: Field required (only a server of your own, inside = true, needs none)")
        for model in self.model:
            if model.prompt_price is None or model.reply_price is None:
                raise ValueError(
                    f"model {model.name!r}: prompt_price and reply_price are required (only of a server of your own, "
                    "inside = true, they are not)"
                )
        return self

    def read_key(self) -> str:
        """The key; empty: it wants none.

        Raises:
            ConfigError: The file cannot be read, or its first line is no key.
        """
        if self.api_key_file is None:
            return ""
        where = f"routing.upstream {self.name!r}: api_key_file"
        try:
            lines = self.api_key_file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise ConfigError(f"{where} cannot be read: {reason}") from error
        if not lines or not re.fullmatch(r"[\x21-\x7e]{1,4096}", lines[0]):
            raise ConfigError(f"{where}: its first line is not a key")
        return lines[0]

    def warnings(self) -> tuple[str, ...]:
        """What an operator should know though it works."""
        found = []
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
