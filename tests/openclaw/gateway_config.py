"""What the gateways of these tests are told: one provider, which is the broker, and two agents."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    affinity: bool = False
    """Affinity headers, for gateways without the plugin."""
    timeout_s: int | None = 1800
    defaults: dict[str, Any] = field(default_factory=dict)
    """More of ``agents.defaults``."""


def config_of(folder: Path, port: int, broker_url: str, setup: Setup) -> dict[str, Any]:
    """A gateway on loopback."""
    compat = {"compat": {"sendSessionAffinityHeaders": True}} if setup.affinity else {}
    models = [_model(name, 4096) | compat for name in SCRIPTED] + [_model(name, REPLY_TOKENS) | compat for name in REAL]
    provider: dict[str, Any] = {"baseUrl": f"{broker_url}/v1", "apiKey": "hsk_unused", "api": "openai-completions"}
    if setup.timeout_s is not None:
        provider["timeoutSeconds"] = setup.timeout_s
    config: dict[str, Any] = {
        "gateway": {
            "mode": "local",
            "bind": "loopback",
            "port": port,
            "auth": {"mode": "token", "token": TOKEN},
            "controlUi": {"enabled": False},
        },
        "update": {"checkOnStart": False},
        "tools": {"toolSearch": False},
        "models": {"mode": "replace", "providers": {"hotseat": provider | {"models": models}}},
        "agents": {
            "defaults": {
                "workspace": str(folder / "workspace"),
                "skipBootstrap": True,
                "model": {"primary": "hotseat/alpha"},
                **setup.defaults,
            },
            "list": [
                {"id": "main", "default": True},
                {"id": "real", "model": {"primary": "hotseat/real-a"}, "tools": {"profile": "minimal"}},
            ],
        },
    }
    if setup.plugin is not None:
        mine = {"enabled": True, "hooks": {"allowConversationAccess": True}}
        mine["config"] = {"brokerUrl": broker_url, **setup.plugin}
        config["plugins"] = {
            "entries": {"hotseat": mine},
            "load": {"paths": [str(path) for path in setup.plugin_paths]},
        }
    return config


def _model(name: str, reply_tokens: int) -> dict[str, Any]:
    return {
        "id": name,
        "name": name,
        "reasoning": False,
        "input": ["text"],
        "contextWindow": 131_072,
        "maxTokens": reply_tokens,
        "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0},
    }
