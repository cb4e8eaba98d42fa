"""The provider blocks that let LiteLLM and OpenClaw use a broker: they must wait as long as a queue may take."""

import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from hotseat.migration.yaml_file import one_line
from schemas.residency import Residency

PATIENCE_S = 1800
"""How long a client should wait for bytes, seconds: OpenClaw itself gives up after 120 to 600 s, by the address."""
RETRIES = 9
"""How often to ask again after a 429, in OpenClaw and here: the ticket is kept between two tries."""
CONTEXT_TOKENS = 32_768
REPLY_TOKENS = 8_192
KEY_VARIABLE = "HOTSEAT_API_KEY"
CHAT, COMPLETIONS, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/messages"
PROVIDERS = {"rerank": "hosted_vllm"}
"""LiteLLM's word for the provider, by kind of model; ``openai`` for the others."""
STATES = {**{state.value: state.value for state in Residency}, "remote": "at an upstream"}
DOUBTS = {"suspect": "suspect", "canary": "being tested", "quarantined": "quarantined"}


class OpenClawLine(StrEnum):
    """How OpenClaw tells which conversation a request is of: the ``compat`` key of its models, by release line."""

    CURRENT = "sendSessionAffinityHeaders"
    """OpenClaw 2026.9 sends headers."""
    OLDER = "supportsPromptCacheKey"
    """OpenClaw 2026.7.35, whose configuration refuses the other key, sends ``prompt_cache_key`` in the body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A model as a client sees it."""

    name: str
    kind: str = "chat"
    context_tokens: int = CONTEXT_TOKENS
    vision: bool = False
    knows_context: bool = False
    chats: bool = True
    """It can be asked at ``/v1/chat/completions``."""
    is_anthropic: bool = False
    """It can be asked at ``/v1/messages`` and nowhere else."""
    fallbacks: tuple[str, ...] = ()
    """Names that serve in its place, best first."""
    status: str = ""
    """How it is now, in words; empty: nobody knows."""


def offer_of(card: Mapping[str, Any], context_tokens: int = CONTEXT_TOKENS) -> Offer:
    """Make an offer of a model as ``/v1/models`` tells of it.

    Args:
        card: One entry of the list's ``data``.
        context_tokens: Taken where the broker does not know it.
    """
    modalities = card.get("architecture") or {}
    answers = modalities.get("output_modalities", ["text"])
    places = card.get("supported_endpoints", (CHAT,))
    writes = CHAT not in places and COMPLETIONS in places
    talks = "completion" if writes else "chat"
    return Offer(
        name=card["id"],
        kind=talks if "text" in answers else "rerank" if "rerank" in answers else "embedding",
        context_tokens=card.get("context_length") or context_tokens,
        knows_context=bool(card.get("context_length")),
        vision="image" in modalities.get("input_modalities", ()),
        chats=CHAT in places,
        is_anthropic=MESSAGES in places and not {CHAT, COMPLETIONS} & set(places),
        fallbacks=tuple(name for name in card.get("fallbacks") or () if isinstance(name, str)),
        status=_status(card),
    )


def _status(card: Mapping[str, Any]) -> str:
    state = STATES.get(card.get("state", ""), "")
    if not state or state == STATES["remote"]:
        return state
    trust = card.get("trust", "trusted")
    unserved = ", served by no slot now" if card.get("served") is False else ""
    return state + unserved + (f"; its answers are {DOUBTS[trust]}" if trust in DOUBTS else "")


def openclaw_block(base_url: str, offers: Sequence[Offer], line: OpenClawLine = OpenClawLine.CURRENT) -> str:
    """Write the block for ``openclaw.json`` (JSON is JSON5).

    ``timeoutSeconds`` raises OpenClaw's waits for headers, for the first event and between two events together;
    ``compat`` tells the broker which conversation a request belongs to. The older line counts a keepalive as no
    progress and ends such a run after six minutes unless told otherwise.
    """
    provider: dict[str, object] = {
        "baseUrl": base_url,
        "apiKey": f"${{{KEY_VARIABLE}}}",
        "api": "openai-completions",
        "timeoutSeconds": PATIENCE_S,
    }
    if needs_permission(base_url):
        provider["request"] = {"allowPrivateNetwork": True}
    provider["models"] = [
        {
            "id": offer.name,
            "name": offer.name,
            "reasoning": False,
            "input": ["text", "image"] if offer.vision else ["text"],
            "contextWindow": offer.context_tokens,
            "maxTokens": min(REPLY_TOKENS, max(1, offer.context_tokens // 2)),
            "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0},
            "compat": {line.value: True},
        }
        for offer in offers
        if _is_for_chat(offer)
    ]
    block: dict[str, object] = {"models": {"providers": {"hotseat": provider}}}
    if line is OpenClawLine.OLDER:
        block["diagnostics"] = {"stuckSessionAbortMs": PATIENCE_S * 1000}
    return json.dumps(block, indent=2, ensure_ascii=False) + "\n"


def plugin_block(base_url: str, offers: Sequence[Offer], context_tokens: int = CONTEXT_TOKENS) -> str:
    """Write the block for ``openclaw.json`` beside the plugin, which brings the provider.

    ``allowConversationAccess`` lets it skip heartbeats and cron jobs whose model is not loaded.

    Args:
        base_url: Ends in ``/v1``; the plugin takes the broker's own address.
        offers: The first that can chat becomes the model of new conversations.
        context_tokens: Taken for models of which the broker does not know it.
    """
    config: dict[str, object] = {"brokerUrl": base_url.removesuffix("/v1")}
    if context_tokens != CONTEXT_TOKENS:
        config["contextTokens"] = context_tokens
    entry = {"enabled": True, "hooks": {"allowConversationAccess": True}, "config": config}
    block: dict[str, object] = {"plugins": {"entries": {"hotseat": entry}}}
    if (first := next((offer.name for offer in offers if _is_for_chat(offer)), None)) is not None:
        block["agents"] = {"defaults": {"model": {"primary": f"hotseat/{first}"}}}
    return json.dumps(block, indent=2, ensure_ascii=False) + "\n"


def _is_for_chat(offer: Offer) -> bool:
    return offer.chats and offer.kind not in {"embedding", "rerank"}


def litellm_block(base_url: str, offers: Sequence[Offer]) -> str:
    """Write the block for LiteLLM's ``config.yaml``.

    A queue is no failure: a deployment that answers 429 must not be cooled down, and is asked again. A health check is
    a request, which would load the model.
    """
    lines = ["model_list:"]
    for offer in offers:
        lines += _litellm_entry(base_url, offer)
    lines += [
        "router_settings:",
        "  # The broker's 429 means: your place in line is kept, come back after Retry-After.",
        "  disable_cooldowns: true",
        f"  num_retries: {RETRIES}",
    ]
    names = {offer.name for offer in offers}
    rules = [(offer.name, [name for name in offer.fallbacks if name in names]) for offer in offers]
    if any(others for _, others in rules):
        lines += ["  # Who serves where one cannot. The broker does so too, before it answers.", "  fallbacks:"]
        lines += [f"    - {json.dumps({name: others})}" for name, others in rules if others]
    lines += [
        "litellm_settings:",
        "  model_group_settings:",
        "    # Passes x-hotseat-session and other x- headers on, for these models only.",
        f"    forward_client_headers_to_llm_api: {json.dumps([offer.name for offer in offers])}",
    ]
    return "\n".join(lines) + "\n"


def _litellm_entry(base_url: str, offer: Offer) -> list[str]:
    provider, address = PROVIDERS.get(offer.kind, "openai"), base_url
    if offer.is_anthropic:
        provider, address = "anthropic", base_url.removesuffix("/v1")
    return [
        *([f"  # {offer.status}"] if offer.status else []),
        f"  - model_name: {json.dumps(offer.name)}",
        "    litellm_params:",
        f"      model: {json.dumps(f'{provider}/{offer.name}')}",
        f"      api_base: {json.dumps(address)}",
        f"      api_key: os.environ/{KEY_VARIABLE}",
        f"      timeout: {PATIENCE_S}",
        f"      stream_timeout: {PATIENCE_S}",
        "    model_info:",
        f"      mode: {offer.kind}",
        *([f"      max_input_tokens: {offer.context_tokens}"] if offer.knows_context else []),
        *(["      supports_vision: true"] if offer.vision else []),
        "      disable_background_health_check: true",
    ]


def needs_permission(base_url: str) -> bool:
    """Tell whether OpenClaw must be allowed the host: it blocks names, but no addresses and no ``.local`` names."""
    host = (urlsplit(base_url).hostname or "").lower()
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return not host.endswith(".local")
    return False


def remarks(base_url: str, offers: Sequence[Offer], *, target: str) -> list[str]:
    """Return what the block cannot say, for people."""
    found = [f"set {KEY_VARIABLE} where {target} runs; a broker with anonymous = true takes any value"]
    if target == "openclaw":
        found.append("`openclaw agent` on the command line has its own limit of 600 s; give it --timeout")
        found += [
            f"{one_line(offer.name)}: left out, OpenClaw's provider block is for chat models"
            for offer in offers
            if not _is_for_chat(offer)
        ]
    if (urlsplit(base_url).hostname or "") in {"0.0.0.0", "::"}:
        found.append("the broker listens on all addresses: enter the one under which clients reach it (--base-url)")
    return found
