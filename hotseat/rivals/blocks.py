"""The provider blocks that let LiteLLM and OpenClaw use a broker: they must wait as long as a queue may take."""

import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from hotseat.rivals.yaml_file import one_line

PATIENCE_S = 1800
"""How long a client should wait for bytes: OpenClaw gives up after 120 to 600 s by itself, depending on the address."""
RETRIES = 9
"""After a 429, in OpenClaw and here: the place in line is kept between two tries."""
CONTEXT_TOKENS = 32_768
REPLY_TOKENS = 8_192
KEY_VARIABLE = "HOTSEAT_API_KEY"
CHAT = "/v1/chat/completions"


class OpenClawLine(StrEnum):
    """By what a request of OpenClaw tells its conversation: the ``compat`` key of its models."""

    CURRENT = "sendSessionAffinityHeaders"
    """2026.9: headers."""
    OLDER = "supportsPromptCacheKey"
    """2026.7.35, whose configuration refuses the other one: ``prompt_cache_key`` in the body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A model as a client sees it."""

    name: str
    kind: str = "chat"
    context_tokens: int = CONTEXT_TOKENS
    vision: bool = False
    chats: bool = True
    """Can it be asked at ``/v1/chat/completions``?"""


def offer_of(card: Mapping[str, Any], context_tokens: int = CONTEXT_TOKENS) -> Offer:
    """A model as ``/v1/models`` tells of it.

    Args:
        card: Of the list's ``data``.
        context_tokens: Where the broker does not know it.
    """
    modalities = card.get("architecture") or {}
    embeds = "text" not in modalities.get("output_modalities", ["text"])
    return Offer(
        name=card["id"],
        kind="embedding" if embeds else "chat",
        context_tokens=card.get("context_length") or context_tokens,
        vision="image" in modalities.get("input_modalities", ()),
        chats=CHAT in card.get("supported_endpoints", (CHAT,)),
    )


def openclaw_block(base_url: str, offers: Sequence[Offer], line: OpenClawLine = OpenClawLine.CURRENT) -> str:
    """For ``openclaw.json`` (JSON is JSON5).

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
    """For ``openclaw.json`` where the plugin is installed: it brings the provider, so there is none here.

    ``allowConversationAccess`` lets it skip heartbeats and cron jobs whose model is not loaded.

    Args:
        base_url: Ends in ``/v1``; the plugin takes the broker's own address.
        offers: The first that can chat becomes the model of new conversations.
        context_tokens: Of models of which the broker does not know it.
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
    return offer.chats and offer.kind != "embedding"


def litellm_block(base_url: str, offers: Sequence[Offer]) -> str:
    """For LiteLLM's ``config.yaml``.

    A queue is no failure: a deployment that answers 429 must not be cooled down, and is asked again.
    """
    lines = ["model_list:"]
    for offer in offers:
        lines += [
            f"  - model_name: {json.dumps(offer.name)}",
            "    litellm_params:",
            f"      model: {json.dumps(f'openai/{offer.name}')}",
            f"      api_base: {json.dumps(base_url)}",
            f"      api_key: os.environ/{KEY_VARIABLE}",
            f"      timeout: {PATIENCE_S}",
            f"      stream_timeout: {PATIENCE_S}",
            "    model_info:",
            f"      mode: {offer.kind}",
        ]
    lines += [
        "router_settings:",
        "  # The broker's 429 means: your place in line is kept, come back after Retry-After.",
        "  disable_cooldowns: true",
        f"  num_retries: {RETRIES}",
        "litellm_settings:",
        "  model_group_settings:",
        "    # Passes x-hotseat-session and other x- headers on, for these models only.",
        f"    forward_client_headers_to_llm_api: {json.dumps([offer.name for offer in offers])}",
    ]
    return "\n".join(lines) + "\n"


def needs_permission(base_url: str) -> bool:
    """OpenClaw blocks host names that resolve to this machine, but no addresses and no ``.local`` names."""
    host = (urlsplit(base_url).hostname or "").lower()
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return not host.endswith(".local")
    return False


def remarks(base_url: str, offers: Sequence[Offer], *, target: str) -> list[str]:
    """What the block cannot say."""
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
