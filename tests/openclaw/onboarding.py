"""The plugin's setup step on the real package: `openclaw onboard` without a person."""

import asyncio
import json
import subprocess
from typing import Any

from harness.openclaw.gateway_config import REAL, SCRIPTED, TOKEN
from harness.openclaw.scene import CONTEXT, KEY, Scene, until

SESSION = "agent:main:main"
LIMIT_S = 300


def onboarded(scene: Scene) -> None:
    """A broker that is away and a wrong key are refused and change nothing; then it is set up.

    What is set up is told neither address nor key in any other way.
    """
    config = scene.folder / "openclaw.json"
    before = config.read_text()
    away = _onboard(scene, "http://127.0.0.1:11", KEY)
    assert away.returncode != 0, away.stdout
    assert "is the broker up" in away.stderr, away.stderr
    wrong = _onboard(scene, scene.relay.url, "hsk_wrong")
    assert wrong.returncode != 0, wrong.stdout
    assert "does not know this key" in wrong.stderr, wrong.stderr
    assert config.read_text() == before, "a refused setup has written"
    done = _onboard(scene, scene.relay.url, KEY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert KEY not in config.read_text() + done.stdout, "the key is in the configuration"


def _onboard(scene: Scene, url: str, key: str) -> subprocess.CompletedProcess[str]:
    words = ["onboard", "--non-interactive", "--accept-risk", "--skip-health", "--skip-skills", "--skip-bootstrap"]
    words += ["--gateway-port", str(scene.gateway.port), "--gateway-auth", "token", "--gateway-token", TOKEN]
    words += ["--auth-choice", "hotseat", "--custom-base-url", url, "--custom-api-key", key]
    return subprocess.run(
        [str(scene.where.node), str(scene.where.openclaw), *words, "--custom-model-id", SCRIPTED[0]],
        env=scene.where.environ(scene.folder),
        cwd=scene.folder,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


async def set_up(scene: Scene) -> str:
    """With what the setup step has written: a turn completes, its model stays warm, each model has its own context."""
    written = json.loads((scene.folder / "openclaw.json").read_text())
    entry = written["plugins"]["entries"]["hotseat"]
    assert entry["hooks"] == {"allowConversationAccess": True}, entry
    assert entry["config"]["brokerUrl"] == scene.relay.url, entry
    assert "ttlSeconds" in entry["config"], "what was there before is gone"
    end = await scene.turn(SESSION, "hello")
    assert end["state"] == "final", end
    assert scene.models.calls[-1][1] == SCRIPTED[0]
    await until(lambda: scene.leases(sessionKey=SESSION, intent="warm", state="active"))
    assert f"Bearer {KEY}".encode() in bytes(scene.relay.sent), "the plugin has not the provider's key"

    async def listed() -> dict[str, Any]:
        models = (await scene.chat.call("models.list", {}))["models"]
        found = {model["id"]: model for model in models if model["provider"] == "hotseat"}
        return found if REAL[0] in found else {}

    await until(listed, 60)
    contexts = {name: model.get("contextWindow") for name, model in (await listed()).items()}
    assert contexts[REAL[0]] == CONTEXT, contexts
    return f"a turn completed and kept its model warm; {len(contexts)} models, {REAL[0]} with {CONTEXT} tokens"


async def onboard(scene: Scene) -> None:
    """See ``onboarded``; the broker answers meanwhile."""
    await asyncio.to_thread(onboarded, scene)
