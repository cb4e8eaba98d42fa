"""Checks with the plugin that take minutes. Each begins with an idle pool."""

import asyncio
import contextlib
import time

from harness.openclaw.gateway_config import COLD
from harness.openclaw.scene import ACTIVE_S, TTL_S, Scene, scripted_models, until
from harness.worker import FakeWorker

TALK_S, CHAT_EVERY_S, RESTORE_S = 60.0, 3.0, 6.0
"""Ten minutes, half a minute and a minute, each divided by ten."""


async def warm_holds(scene: Scene) -> str:
    """A conversation that calls no model keeps its own warm against the idle restore; a waiting request takes it."""
    deep, other = "agent:main:deep", "agent:main:other"
    usual = scene.catalogue, scene.settings
    await _broker_with_a_default(scene)
    try:
        await scene.chat.call("sessions.patch", {"key": deep, "model": "hotseat/beta"})
        await scene.turn(deep, "hello")
        calls = len(scene.models.calls)
        chats = await _chat_without_calls(scene, deep)
        assert len(scene.models.calls) == calls, "a model was called"
        started_s = time.monotonic()
        assert (await scene.turn(other, "hello"))["state"] == "final"
        taken_s = time.monotonic() - started_s
        assert "kind=Load subject=gpu0/alpha why=waiters" in scene.broker.log.read_text(), "the place was not taken"
        await scene.turn(deep, "hello")
        await scene.idle()
        restored_s = await until(lambda: _is_ready(scene, "alpha"), RESTORE_S + 20)
    finally:
        scene.stop_broker()
        scene.catalogue, scene.settings = usual
        scene.restart_broker()
    held = f"warm through {TALK_S:.0f} s and {chats} chats that call nothing, restore after {RESTORE_S:.0f} s"
    return f"{held}; another's turn took the place in {taken_s:.1f} s; given back, restored after {restored_s:.1f} s"


async def _broker_with_a_default(scene: Scene) -> None:
    scene.stop_broker()
    usual = scripted_models()
    scene.catalogue = scene.catalogue.replace(usual, usual.replace('"alpha"', '"alpha"\ndefault = true'))
    scene.settings = f"[policy]\nidle_restore_s = {RESTORE_S}\n"
    scene.restart_broker()
    await until(lambda: _is_ready(scene, "alpha"), RESTORE_S + 60)


async def _chat_without_calls(scene: Scene, session: str) -> int:
    chats, until_s = 0, time.monotonic() + TALK_S
    assert ACTIVE_S < TALK_S, "else the first message alone would do"
    while time.monotonic() < until_s:
        await scene.turn(session, "/status")
        assert await scene.state("beta") == "ready", f"lost after {chats} chats"
        chats += 1
        await asyncio.sleep(CHAT_EVERY_S)
    return chats


async def _is_ready(scene: Scene, model: str) -> bool:
    return await scene.state(model) == "ready"


async def cold_loads(scene: Scene) -> str:
    """Two models that load for minutes, each on a slot of its own: either turn completes in one run, at once."""
    before = len(scene.models.calls)
    async with contextlib.AsyncExitStack() as stack:
        for model, load_s in COLD.items():
            urls = {model: scene.models.url}
            worker = FakeWorker.on_redis(scene.store.url, slot=model, serves=(model,), load_s=load_s, urls=urls)
            await stack.enter_async_context(worker.running())
        took_s = await asyncio.gather(*(_cold_turn(scene, model) for model in COLD))
        await scene.idle()
    assert len(scene.models.calls) == before + len(COLD), "a request was repeated"
    return ", ".join(
        f"a load of {load_s} s: a turn of {took:.0f} s" for load_s, took in zip(COLD.values(), took_s, strict=True)
    )


async def _cold_turn(scene: Scene, model: str) -> float:
    session = f"agent:main:cold-{model}"
    await scene.chat.call("sessions.patch", {"key": session, "model": f"hotseat/{model}"})
    started_s = time.monotonic()
    return await _without_error(scene, await scene.chat.say(session, "hello"), started_s)


async def _without_error(scene: Scene, run: str, started_s: float) -> float:
    end = await scene.chat.ended(run, max(COLD.values()) + 120)
    took_s = time.monotonic() - started_s
    assert end["state"] == "final", end
    shown = str([chat for chat in scene.chat.chats if chat.get("runId") == run]).lower()
    assert not any(word in shown for word in ("retrying", "interrupted", "unavailable", "error")), shown
    return took_s


async def starts_without_a_broker(scene: Scene) -> str:
    """A gateway that was started while the broker was away: a turn asked for before it is back completes."""
    scene.stop_broker()
    scene.gateway.kill()
    await scene.gateway.start()
    await scene.connect()
    run = await scene.chat.say("agent:main:early", "hello")
    await asyncio.sleep(5)
    scene.restart_broker()
    end = await scene.chat.ended(run, 180)
    assert end["state"] == "final", end
    return "a turn begun without a broker completed once it was there"


async def hot_reload(scene: Scene) -> str:
    """The plugin is reloaded with three conversations warm: no lease is lost. OpenClaw itself refuses it in a turn."""
    sessions = [f"agent:main:i{number}" for number in range(3)]
    for session in sessions[:2]:
        await scene.turn(session, "hello")
    run = await scene.chat.say(sessions[2], "slow 5")
    await until(lambda: scene.leases(intent="use", state="active"), 60)
    before = await _ids(scene)
    assert set(before) == set(sessions), before
    refused = not await _reloaded(scene)
    assert (await scene.chat.ended(run))["state"] == "final"
    for _ in range(2):
        await until(lambda: _reloaded(scene), 60)
        for session in sessions:  # on a crowded machine the conversations would be over by now
            await scene.turn(session, "/status")
    after = await _kept(scene, 1.5 * TTL_S)
    assert after == before, (before, after)
    held = f"3 warm leases outlive two reloads and {1.5 * TTL_S:.0f} s of silence (TTL {TTL_S:.0f} s)"
    return held + ("; in a turn OpenClaw refuses it" if refused else "")


async def _reloaded(scene: Scene) -> bool:
    answer = await scene.chat.ask("plugins.reload", {"plugins": [{"pluginId": "hotseat"}]})
    assert answer["ok"] or "active retained work" in answer["error"]["message"], answer
    return bool(answer["ok"])


async def _ids(scene: Scene) -> dict[str, str]:
    return {lease["sessionKey"]: lease["leaseId"] for lease in await scene.leases(intent="warm")}


async def _kept(scene: Scene, seconds: float) -> dict[str, str]:
    """The warm leases after a while, in which nobody spoke."""
    await asyncio.sleep(seconds)
    return await _ids(scene)
