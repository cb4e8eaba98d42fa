"""Upstreams for the data path: scripted servers whose connections are counted, and configurations that lead there."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

from broker.config.broker_config import BrokerConfig
from broker.config.key_config import KeyEntry
from schemas.config.file import ModelEntry
from schemas.config.routing import RoutingSection
from tests.fakes.broker_scene import config_of, until
from tests.fakes.gateway_scene import GatewayScene, gateway_scene
from tests.fakes.scripted_server import Script, ScriptedServer, whole

SECRET = "ghp_" + "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx"
"""Looks like a GitHub token; it is none."""
USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
SAID: Script = whole(json.dumps({"id": "x", "choices": [{"message": {"content": "far"}}], "usage": USAGE}).encode())
NEAR: Script = whole(json.dumps({"id": "x", "choices": [{"message": {"content": "near"}}], "usage": USAGE}).encode())
MODELS = (
    ModelEntry(name="a", memory_mib=900, lease_limit=2),
    ModelEntry(name="b", memory_mib=900, lease_limit=1),
    ModelEntry(name="diary", memory_mib=5000, private=True),
)


@dataclass
class Stub(ScriptedServer):
    """A cloud that counts who connects."""

    accepted: int = 0

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        await super().converse(reader, writer)


@contextlib.asynccontextmanager
async def stub(*scripts: Script) -> AsyncIterator[Stub]:
    play = Stub(list(scripts or (SAID,)))
    server = await asyncio.start_server(play.converse, "127.0.0.1", 0)
    play.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield play
    finally:
        server.close()


def upstream(folder: Path, name: str, url: str, **more: object) -> dict[str, object]:
    """One upstream with one model, ``cloud/<name>``: 1.00 per million prompt tokens, 4.00 per million of the reply."""
    key = folder / f"{name}.key"
    key.write_text(f"sk-{name}\n")
    key.chmod(0o600)
    model = {"name": f"cloud/{name}", "remote_name": f"{name}-large", "context_tokens": 100_000, "prompt_price": 1.0}
    model |= {"reply_price": 4.0, "max_reply_tokens": 1000, "vision": True}
    model |= more.pop("offer", {})  # type: ignore[operator, arg-type]
    return {"name": name, "base_url": url, "api_key_file": key, "model": [model], **more}


def alias(name: str, *candidates: str, **more: object) -> dict[str, object]:
    return {"name": name, "candidates": candidates, **more}


def routed(
    *upstreams: dict[str, object],
    aliases: tuple[dict[str, object], ...] = (),
    keys: tuple[KeyEntry, ...] = (),
    gateway: dict[str, object] | None = None,
    models: tuple[ModelEntry, ...] = MODELS,
    **section: object,
) -> BrokerConfig:
    """A configuration with ``[routing]``."""
    config = config_of(keys=keys, models=models, gateway={"dead_server_s": 0.1, **(gateway or {})})
    routing = RoutingSection(upstream=upstreams, alias=aliases, **section)  # type: ignore[arg-type]
    return replace(config, routing=routing)


@contextlib.asynccontextmanager
async def routed_scene(scripts: dict[str, list[Script]], config: BrokerConfig) -> AsyncIterator[GatewayScene]:
    """As ``gateway_scene``, once the scheduler has seen the slot: routing decides by its last look."""
    async with gateway_scene(scripts, config) as scene:
        scheduler = scene.broker.scheduler
        await until(lambda: scheduler.last and any(slot.state == "open" for slot in scheduler.last.snapshot.slots))
        yield scene
