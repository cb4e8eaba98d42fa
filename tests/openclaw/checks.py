"""Checks with the plugin that take seconds. Each begins with an idle pool."""

import asyncio
import time
from typing import Any

from harness.openclaw.gateway_config import REAL, SCRIPTED, SERVICE, SERVICE_IDLE_S
from harness.openclaw.model import SECRET
from harness.openclaw.scene import TTL_S, Scene, until

SESSION = "agent:main:main"
HOLDER = "openclaw-wait"
"""As in the plugin's `waiting.ts`."""


async def many_conversations(scene: Scene) -> str:
    """Six conversations over two models of which one fits: every turn completes."""
    return await converse(scene, "agent:main:c", SCRIPTED, count=6, turns=2)


async def real_models(scene: Scene) -> str:
    """The same with llama.cpp under a real worker: every turn completes, and the models took turns on the slot."""
    said = await converse(scene, "agent:real:c", REAL, count=4, turns=1)
    loads = sum(scene.broker.log.read_text().count(f"kind=Load subject=cpu0/{model} ") for model in REAL)
    assert loads >= len(REAL), "one of them was never loaded"
    return f"{said}; {loads} loads"


async def converse(scene: Scene, prefix: str, models: tuple[str, ...], *, count: int, turns: int) -> str:
    """So many conversations at once; no turn of them may fail."""

    async def one(number: int) -> float:
        session = f"{prefix}{number}"
        await scene.chat.call("sessions.patch", {"key": session, "model": f"hotseat/{models[number % 2]}"})
        started_s = time.monotonic()
        for turn in range(turns):
            end = await scene.turn(session, f"turn {turn}", 240)
            assert end["state"] == "final", end
            assert "message" not in end or _text(end), end  # the older line ends a run without repeating the answer
        return time.monotonic() - started_s

    took_s = await asyncio.gather(*(one(number) for number in range(count)))
    return f"{turns * count} turns of {count} conversations, the slowest {max(took_s):.1f} s"


def _text(end: dict[str, Any]) -> str:
    return "".join(part.get("text", "") for part in end["message"]["content"])


async def stop_frees_the_place(scene: Scene) -> str:
    """`/stop` while the request waits in line: the place and the warm lease are gone within a second."""
    session = "agent:main:stop"
    await scene.turn(session, "hello")  # a gateway's first turn takes as long as a load
    absent = "beta" if await scene.state("alpha") == "ready" else "alpha"
    scene.worker.load_s = 20.0
    await scene.chat.call("sessions.patch", {"key": session, "model": f"hotseat/{absent}"})
    run = await scene.chat.say(session, "hello")
    await until(lambda: scene.leases(state="queued"), 60)
    await scene.chat.call("chat.abort", {"sessionKey": session})

    async def free() -> bool:
        return not await scene.leases()

    took_s = await until(free, 10)
    assert took_s < 1.0, took_s
    assert (await scene.chat.ended(run))["state"] == "aborted"
    return f"queue and warm lease empty {took_s * 1000:.0f} ms after the abort"


async def subagent_is_expected(scene: Scene) -> str:
    """The model of a sub-agent is ordered before its first request arrives."""
    await scene.turn(SESSION, "hello")
    scene.worker.load_s = 3.0
    await scene.chat.say(SESSION, "spawn one")
    await until(lambda: scene.leases(model="beta", intent="warm"))
    assert not await scene.leases(model="beta", intent="use"), "its request was there first"
    ahead_s = await until(lambda: scene.leases(model="beta", intent="use"), 60)
    (warm,) = await scene.leases(model="beta", intent="warm")
    use = (await scene.leases(model="beta", intent="use"))[0]
    assert warm["sessionKey"] == use["sessionKey"], f"its call did not name the session: {await scene.leases()}"

    async def over() -> bool:
        return not await scene.leases(sessionKey=warm["sessionKey"])

    await until(over, 60)

    async def announced() -> bool:
        return any(
            str(chat.get("runId")).startswith("announce:") and chat["state"] == "final" for chat in scene.chat.chats
        )

    await until(announced, 60)
    return f"warm {ahead_s:.1f} s before the child's first request; both under {warm['sessionKey'][:20]}…; given back"


async def background_loads_nothing(scene: Scene) -> str:
    """A heartbeat and a cron job with no model loaded are skipped."""
    before = len(scene.models.calls)
    assert await scene.state("alpha") == "absent", "this check comes before those that load alpha"
    await scene.chat.call("wake", {"mode": "now", "text": "look around"})
    await _add_job(scene, "do the job")

    async def skipped() -> bool:
        log = scene.gateway.log.read_text()
        return all(f"hotseat: {kind} skipped, alpha is not loaded" in log for kind in ("heartbeat", "cron"))

    await until(skipped, 60)
    assert await scene.state("alpha") == "absent"
    assert len(scene.models.calls) == before
    return "both skipped; nothing was loaded, no model was called"


async def background_rides(scene: Scene) -> str:
    """A cron job whose model is loaded runs, its request in the class background, and warms nothing."""
    await scene.turn("agent:main:class", "hello")  # of its own, for `/model` lasts
    await scene.idle()
    assert await scene.state("alpha") == "ready"
    await _add_job(scene, "slow 3")
    await until(lambda: scene.leases(intent="use"), 60)
    (use,) = await scene.leases()
    assert use["priority"] == "background", use
    assert ":cron:" in use["sessionKey"], use
    return f"{use['sessionKey'][:24]}… in the class {use['priority']}, no warm lease"


async def _add_job(scene: Scene, work: str) -> None:
    job = {"name": "job", "schedule": {"kind": "every", "everyMs": 86_400_000}, "sessionTarget": "isolated"}
    payload = {"kind": "agentTurn", "message": work}
    added = await scene.chat.call(
        "cron.add", {**job, "wakeMode": "now", "payload": payload, "delivery": {"mode": "none"}}
    )
    await scene.chat.call("cron.run", {"id": added["id"], "mode": "force"})


async def broker_dies_in_a_turn(scene: Scene) -> str:
    """The broker is killed while a turn waits for its answer, and is back after two seconds: the turn completes."""
    run = await scene.chat.say(SESSION, "slow 5")
    await until(lambda: scene.leases(intent="use", state="active"), 120)
    scene.broker.kill()
    await asyncio.sleep(2)
    scene.restart_broker()
    end = await scene.chat.ended(run, 180)
    assert end["state"] == "final", end
    return "turn completed"


async def gateway_dies(scene: Scene) -> str:
    """The gateway is killed with conversations in progress: every lease lapses."""
    for number in range(3):
        await scene.turn(f"agent:main:k{number}", "hello")
    held = len(await scene.leases())
    assert held == 3, await scene.leases()
    scene.gateway.kill()

    async def lapsed() -> bool:
        return not await scene.leases()

    took_s = await until(lapsed, TTL_S + 5)
    await scene.gateway.start()
    await scene.connect()
    assert (await scene.turn("agent:main:k0", "again"))["state"] == "final"
    return f"{held} leases lapsed after {took_s:.1f} s (TTL {TTL_S:.0f} s); started again, a turn completes"


async def new_and_model(scene: Scene) -> str:
    """`/model` warms the new model and lets go of the old; `/new` gives back."""
    await scene.turn(SESSION, "hello")
    await scene.turn(SESSION, "/model hotseat/beta")

    async def changed() -> bool:
        return [lease["model"] for lease in await scene.leases(intent="warm")] == ["beta"]

    await until(changed, 10)
    await scene.chat.say(SESSION, "/new")

    async def free() -> bool:
        return not await scene.leases()

    took_s = await until(free, 10)
    return f"/model changed the warm lease; /new gave it back in {took_s * 1000:.0f} ms"


async def nothing_else_leaves(scene: Scene) -> str:
    """Of what every message and answer said, nothing is in what the plugin has sent so far."""
    await scene.turn(SESSION, "hello")
    sent = bytes(scene.relay.sent)
    assert b"/activity" in sent, "nothing was recorded"
    assert SESSION.encode() in sent
    assert SECRET.encode() not in sent
    assert SECRET in scene.gateway.log.read_text() + str(scene.chat.chats), "the secret was never said"
    return f"{len(sent)} bytes in {sent.count(b'HTTP/1.1')} requests, no word of a message or answer"


async def catalogue(scene: Scene) -> str:
    """Without a provider block: the models are the broker's, and a turn completes."""
    end = await scene.turn(SESSION, "hello")
    assert end["state"] == "final", end
    assert scene.models.calls[-1][1] == "alpha"

    async def listed() -> set[str]:
        models = (await scene.chat.call("models.list", {}))["models"]
        names = {model["id"] for model in models if model["provider"] == "hotseat"}
        return names if names.issuperset((*SCRIPTED, *REAL)) else set()

    took_s = await until(listed, 60)
    return f"{len(await listed())} models listed {took_s:.1f} s after a first turn without a provider block"


async def call_waits(scene: Scene) -> str:
    """With `waitForLease` a call is made when its turn has come, and an abort leaves the line at once."""
    await scene.turn(SESSION, "hello")  # a gateway's first turn takes as long as a load
    scene.worker.load_s = 15.0
    run = await _say_and_wait(scene, "beta")
    assert not [lease for lease in await scene.leases(intent="use") if lease["holder"] != HOLDER]
    assert (await scene.chat.ended(run))["state"] == "final"
    scene.worker.load_s = 60.0
    run = await _say_and_wait(scene, "alpha")
    await scene.chat.call("chat.abort", {"sessionKey": SESSION})

    async def free() -> bool:
        return not await scene.leases(holder=HOLDER)

    took_s = await until(free, 10)
    assert took_s < 1.0, took_s
    assert (await scene.chat.ended(run))["state"] == "aborted"
    return f"a turn waited for its load; out of the line {took_s * 1000:.0f} ms after an abort"


async def _say_and_wait(scene: Scene, model: str) -> str:
    await scene.chat.call("sessions.patch", {"key": SESSION, "model": f"hotseat/{model}"})
    run = await scene.chat.say(SESSION, "hello")
    await until(lambda: scene.leases(holder=HOLDER, state="queued", model=model), 60)
    return run


async def hook_gives_back(scene: Scene) -> str:
    """With nothing but the minimal hook: `/new` gives the conversation's warm lease back, and no other."""
    for session in (SESSION, "agent:main:other"):
        await scene.turn(session, "hello")
        wish = {"sessionKey": session, "model": "alpha", "intent": "warm", "ttlSeconds": 600}
        assert (await scene.post("/lease", wish)).is_success
    await scene.chat.say(SESSION, "/new")

    async def given_back() -> bool:
        return [lease["sessionKey"] for lease in await scene.leases()] == ["agent:main:other"]

    took_s = await until(given_back, 10)
    return f"/new gave it back in {took_s * 1000:.0f} ms"


async def service_keeps_warm(scene: Scene) -> str:
    """With nothing but the provider's `localService`: warm before the first call, given back when nobody calls."""
    order: list[str] = []

    async def leased() -> bool:
        found = await scene.leases(sessionKey=SERVICE, intent="warm", state="active")
        if found and not order:
            order.append(f"{len(scene.models.calls)} calls before")
        return bool(found)

    before = len(scene.models.calls)
    waiting = asyncio.create_task(until(leased, 60))
    assert (await scene.turn(SESSION, "hello"))["state"] == "final"
    await waiting
    assert order == [f"{before} calls before"], order
    ended_s = time.monotonic()

    async def given_back() -> bool:
        return not await scene.leases(sessionKey=SERVICE)

    await until(given_back, SERVICE_IDLE_S + 10)
    kept_s = time.monotonic() - ended_s
    assert kept_s > SERVICE_IDLE_S - 3, kept_s
    return f"warm before the first call; given back {kept_s:.1f} s after the last (idleStopMs {SERVICE_IDLE_S} s)"


async def command(scene: Scene) -> str:
    """`/gpu`, `/gpu warm`, `/gpu release`."""
    texts = []
    for words in ("/gpu", "/gpu warm beta 5m", "/gpu release"):
        end = await scene.turn("agent:main:gpu", words)
        texts.append(" · ".join(end["message"]["content"][0]["text"].splitlines()))
    assert "alpha:" in texts[0], texts
    assert texts[1].startswith("beta is kept warm for 5 min"), texts
    assert texts[2] == "Given back: beta.", texts
    return texts[0]
