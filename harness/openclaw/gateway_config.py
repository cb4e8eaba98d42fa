"""What the gateways of these tests are told: one provider, which is the broker, and two agents."""

import json
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hotseat.migration.blocks import Offer, OpenClawLine, openclaw_block

TOKEN = "test-token"
SCRIPTED = ("alpha", "beta")
"""Served by a server of the tests that does as it is told."""
COLD = {"cold-330": 330, "cold-700": 700}
"""Seconds that they load, on slots that are there for that check only: beyond the 300 s and 600 s after which an
OpenClaw without `timeoutSeconds` gives up."""
REAL = ("real-a", "real-b")
"""Served by llama.cpp under a real worker."""
SERVICE, SERVICE_IDLE_S = "openclaw", 8
"""Session of the provider's `localService`, and after how long without a call it ends."""
REPLY_TOKENS = 24
"""Of a real model: with random weights it never stops by itself."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What differs between two scenes."""

    plugin: dict[str, Any] | None = None
    """Configuration of our plugin; None: there is none."""
    plugin_paths: tuple[Path, ...] = ()
    block: bool = True
    """The provider's block; without it the provider is the plugin's."""
    onboarded: bool = False
    """Address, key, model and leave come from the plugin's setup step, not from here."""
    hook_folder: Path | None = None
    """Of our minimal hook; None: it is not there."""
    service: bool = False
    """The provider has a `localService` that keeps ``SCRIPTED[0]`` warm while it is called."""
    line: OpenClawLine = OpenClawLine.CURRENT
    socket_kept: bool = False
    """The broker's listening socket outlives it, as under `deploy/systemd/hotseat-broker.socket`."""
    defaults: dict[str, Any] = field(default_factory=lambda: {"heartbeat": {"every": "24h"}})
    """More of ``agents.defaults``."""


def kept_socket() -> socket.socket:
    """What a service manager listens on for the broker."""
    return socket.create_server(("127.0.0.1", 0))


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def local_service(folder: Path, broker_url: str) -> dict[str, Any]:
    """As docs/openclaw/reference.md has it: healthy while a warm lease is held, ended when nobody calls."""
    hotseat = str(Path(sys.executable).with_name("hotseat"))
    lease = ["run", SCRIPTED[0], "--session", SERVICE, "--intent", "warm", "--ttl", "12", "--url", broker_url]
    empty = folder / "empty"
    empty.mkdir()
    port = free_port()
    healthy = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(empty)]
    return {
        "command": hotseat,
        "args": [*lease, "--", *healthy],
        "healthUrl": f"http://127.0.0.1:{port}/",
        "readyTimeoutMs": 1_500_000,
        "idleStopMs": SERVICE_IDLE_S * 1000,
    }


def config_of(folder: Path, port: int, broker_url: str, relay_url: str, setup: Setup) -> dict[str, Any]:
    """A gateway on loopback with the provider as ``hotseat export openclaw`` prints it, or none.

    Its folder holds the key, and the plugin finds the broker at ``relay_url``.
    """
    block = openclaw_block(
        f"{broker_url}/v1", [Offer(name=name, context_tokens=131_072) for name in (*SCRIPTED, *COLD, *REAL)], setup.line
    )
    config: dict[str, Any] = json.loads(block)
    for model in config["models"]["providers"]["hotseat"]["models"]:
        if model["id"] in REAL:
            model["maxTokens"] = REPLY_TOKENS
    config["models"]["mode"] = "replace"
    if setup.service:
        config["models"]["providers"]["hotseat"]["localService"] = local_service(folder, broker_url)
    if not setup.block:
        del config["models"]
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
    config["agents"] = _agents(folder, setup)
    if setup.hook_folder is not None:
        found = {"extraDirs": [str(setup.hook_folder.parent)]}
        config["hooks"] = {"internal": {"enabled": True, "load": found, "entries": {"hotseat": {"enabled": True}}}}
    if setup.plugin is not None:
        mine: dict[str, Any] = {"config": setup.plugin}
        if not setup.onboarded:
            access = {"brokerUrl": relay_url, "apiKeyFile": str(folder / "key")}
            mine = {"enabled": True, "hooks": {"allowConversationAccess": True}, "config": access | setup.plugin}
        paths = [str(path) for path in setup.plugin_paths]
        config["plugins"] = {"entries": {"hotseat": mine}, "load": {"paths": paths}}
    return config


def _agents(folder: Path, setup: Setup) -> dict[str, Any]:
    workspace = {"workspace": str(folder / "workspace"), "skipBootstrap": True}
    real = {"id": "real", "model": {"primary": "hotseat/real-a"}, "tools": {"deny": ["*"]}}
    model = {} if setup.onboarded else {"model": {"primary": "hotseat/alpha"}}
    return {
        "defaults": {**workspace, **model, **setup.defaults},
        "list": [{"id": "main", "default": True}, real],
    }
