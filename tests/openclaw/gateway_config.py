"""What the gateways of these tests are told: one provider, which is the broker, and two agents."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hotseat.rivals.blocks import Offer, OpenClawLine, openclaw_block

TOKEN = "test-token"
SCRIPTED = ("alpha", "beta")
"""Served by a server of the tests that does as it is told."""
REAL = ("real-a", "real-b")
"""Served by llama.cpp under a real worker."""
REPLY_TOKENS = 24
"""Of a real model: with random weights it never stops by itself."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What differs between two scenes."""

    plugin: dict[str, Any] | None = None
    """Configuration of our plugin; None: there is none."""
    plugin_paths: tuple[Path, ...] = ()
    line: OpenClawLine = OpenClawLine.CURRENT
    defaults: dict[str, Any] = field(default_factory=lambda: {"heartbeat": {"every": "24h"}})
    """More of ``agents.defaults``."""


def config_of(folder: Path, port: int, broker_url: str, setup: Setup) -> dict[str, Any]:
    """A gateway on loopback with the provider as ``hotseat export openclaw`` prints it."""
    block = openclaw_block(f"{broker_url}/v1", [Offer(name=name) for name in SCRIPTED + REAL], setup.line)
    config: dict[str, Any] = json.loads(block)
    for model in config["models"]["providers"]["hotseat"]["models"]:
        if model["id"] in REAL:
            model["maxTokens"] = REPLY_TOKENS
    config["models"]["mode"] = "replace"
    config["gateway"] = {
        "mode": "local",
        "bind": "loopback",
        "port": port,
        "auth": {"mode": "token", "token": TOKEN},
        "controlUi": {"enabled": False},
    }
    config["update"] = {"checkOnStart": False}
    if setup.line is OpenClawLine.CURRENT:
        config["tools"] = {"toolSearch": False}
    workspace = {"workspace": str(folder / "workspace"), "skipBootstrap": True}
    real = {"id": "real", "model": {"primary": "hotseat/real-a"}, "tools": {"profile": "minimal"}}
    config["agents"] = {
        "defaults": {**workspace, "model": {"primary": "hotseat/alpha"}, **setup.defaults},
        "list": [{"id": "main", "default": True}, real],
    }
    if setup.plugin is not None:
        mine = {"enabled": True, "hooks": {"allowConversationAccess": True}}
        mine["config"] = {"brokerUrl": broker_url, **setup.plugin}
        paths = [str(path) for path in setup.plugin_paths]
        config["plugins"] = {"entries": {"hotseat": mine}, "load": {"paths": paths}}
    return config
