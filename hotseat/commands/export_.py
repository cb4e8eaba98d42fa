"""`hotseat export litellm|openclaw`: the block that makes another program use this broker."""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from hotseat.clients.http_api import BrokerError, Client
from hotseat.migration.blocks import (
    CONTEXT_TOKENS,
    Offer,
    OpenClawLine,
    litellm_block,
    offer_of,
    openclaw_block,
    plugin_block,
    remarks,
)
from hotseat.terminal import arguments as words
from schemas.addresses import address_of
from schemas.command_line import CommandLine
from schemas.config.file import ConfigError

TARGETS = ("litellm", "openclaw")
FAILED, UNREACHABLE = 1, 3
MOST_CONTEXT_TOKENS = 100_000_000


def main(argv: list[str]) -> int:
    """Print the block, and on standard error what else is needed.

    Returns:
        0: printed; 1: the configuration or the answer is of no use; 2: usage; 3: no answer from the broker.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.plugin and (arguments.older or arguments.target != "openclaw"):
        parser.error("--plugin is for OpenClaw 2026.9.6 and later")
    try:
        base_url, offers = _from_file(arguments) if arguments.config else _from_broker(arguments)
        base_url = _checked(arguments.base_url or base_url)
    except ConfigError as error:
        print(f"hotseat export: {error}", file=sys.stderr)
        return FAILED
    except BrokerError as error:
        print(f"hotseat export: {error}", file=sys.stderr)
        return FAILED if error.status else UNREACHABLE
    print(_block(arguments, base_url, offers), end="")
    for remark in remarks(base_url, offers, target=arguments.target):
        print(f"note: {remark}", file=sys.stderr)
    return 0


def _block(arguments: argparse.Namespace, base_url: str, offers: list[Offer]) -> str:
    if arguments.target == "litellm":
        return litellm_block(base_url, offers)
    if arguments.plugin:
        return plugin_block(base_url, offers, arguments.context_tokens)
    return openclaw_block(base_url, offers, OpenClawLine.OLDER if arguments.older else OpenClawLine.CURRENT)


def _from_file(arguments: argparse.Namespace) -> tuple[str, list[Offer]]:
    from broker.api.model_cards import card_of  # noqa: PLC0415 - a quarter of a second that --url does not need
    from broker.config.broker_config import load_config  # noqa: PLC0415

    config = load_config(arguments.config, os.environ)
    host = f"[{config.broker.host}]" if ":" in config.broker.host else config.broker.host
    usual = {entry.name for entry in config.models if entry.default}
    cards = [card_of(name, entry) for name, entry in config.routing_table().entries.items()]
    writers = {entry.name for entry in config.models if entry.kind == "completion"}
    offers = [offer_of(card, arguments.context_tokens) for card in cards]
    offers = [replace(offer, kind="completion") if offer.name in writers else offer for offer in offers]
    offers.sort(key=lambda offer: offer.name not in usual)
    return f"http://{host}:{config.broker.port}/v1", offers


def _from_broker(arguments: argparse.Namespace) -> tuple[str, list[Offer]]:
    client = Client.from_environment(url=arguments.url)
    cards = client.get("/v1/models").get("data")
    offers = [
        offer_of(card, arguments.context_tokens)
        for card in (cards if isinstance(cards, list) else [])
        if isinstance(card, dict) and isinstance(card.get("id"), str)
    ]
    models = client.get("/models").get("models")
    usual = {model.get("name") for model in (models if isinstance(models, list) else []) if model.get("isDefault")}
    offers.sort(key=lambda offer: offer.name not in usual)
    if not offers:
        raise ConfigError(f"{client.url} has no models for this key; is it a broker?")
    return f"{client.url}/v1", offers


def _checked(url: str) -> str:
    try:
        address_of(url, ("http", "https"))
    except ValueError as error:
        raise ConfigError(f"the address for clients {error}") from None
    return url.rstrip("/")


def _parser() -> argparse.ArgumentParser:
    parser = CommandLine(
        prog="hotseat export",
        description="Print the provider block that makes LiteLLM or OpenClaw use this broker.",
    )
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--config", type=Path, help="models from this hotseat.toml instead of a running broker")
    parser.add_argument("--url", help="broker's address (HOTSEAT_URL)")
    parser.add_argument("--base-url", help="the address of /v1 that clients use, where it is another one")
    parser.add_argument("--older", action="store_true", help="for OpenClaw 2026.7, which takes other keys than 2026.9")
    parser.add_argument("--plugin", action="store_true", help="what OpenClaw needs beside the installed plugin")
    parser.add_argument(
        "--context-tokens",
        type=words.whole(1, MOST_CONTEXT_TOKENS),
        default=CONTEXT_TOKENS,
        help="for models of which the broker does not know it (default: %(default)s)",
    )
    return parser
