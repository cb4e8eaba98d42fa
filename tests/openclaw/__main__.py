"""``make test-openclaw``: a real gateway of OpenClaw with our plugin, and what it does to leases, with a summary.

Each check starts from an idle pool. Times are scaled: warm leases live 12 s, a conversation is in progress for 20 s.
"""

import argparse
import asyncio
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.openclaw.install import Installed, installed, npm
from tests.openclaw.scene import PLUGIN, TTL_S, Scene, openclaw_scene, until

Check = Callable[[Scene], Awaitable[str]]
SESSION = "agent:main:main"


def say(line: str) -> None:
    """Print, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def many_conversations(scene: Scene) -> str:
    """Six conversations over two models of which one fits: every turn completes."""

    async def converse(number: int) -> float:
        session, model = f"agent:main:c{number}", ("alpha", "beta")[number % 2]
        await scene.chat.call("sessions.patch", {"key": session, "model": f"hotseat/{model}"})
        started_s = time.monotonic()
        for turn in range(2):
            end = await scene.turn(session, f"turn {turn}")
            assert end["state"] == "final", end
        return time.monotonic() - started_s

    took_s = await asyncio.gather(*(converse(number) for number in range(6)))
    return f"12 turns of 6 conversations, the slowest pair {max(took_s):.1f} s"


async def stop_frees_the_place(scene: Scene) -> str:
    """`/stop` while the request waits in line: the place and the warm lease are gone within a second."""
    session, absent = "agent:main:stop", "beta" if await scene.state("alpha") == "ready" else "alpha"
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
    assert warm["sessionKey"] == use["sessionKey"], f"the span did not name the session: {await scene.leases()}"

    async def over() -> bool:
        return not await scene.leases(sessionKey=warm["sessionKey"])

    await until(over, 60)
    return f"warm {ahead_s:.1f} s before the child's first request; both under {warm['sessionKey'][:20]}…; given back"


async def background_loads_nothing(scene: Scene) -> str:
    """A heartbeat and a cron job with no model loaded are skipped."""
    before = len(scene.models.calls)
    await scene.chat.call("wake", {"mode": "now", "text": "look around"})
    job = {"name": "job", "schedule": {"kind": "every", "everyMs": 86_400_000}, "sessionTarget": "isolated"}
    work = {"kind": "agentTurn", "message": "do the job"}
    added = await scene.chat.call("cron.add", {**job, "wakeMode": "now", "payload": work, "delivery": {"mode": "none"}})
    await scene.chat.call("cron.run", {"id": added["id"], "mode": "force"})

    async def skipped() -> bool:
        log = scene.gateway.log.read_text()
        return all(f"hotseat: {kind} skipped, alpha is not loaded" in log for kind in ("heartbeat", "cron"))

    await until(skipped, 60)
    assert await scene.state("alpha") == "absent"
    assert len(scene.models.calls) == before
    return "both skipped; nothing was loaded, no model was called"


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


CHECKS: dict[str, Check] = {
    "f background": background_loads_nothing,
    "a 6 sessions": many_conversations,
    "d stop": stop_frees_the_place,
    "e sub-agent": subagent_is_expected,
    "m model, new": new_and_model,
    "c /gpu": command,
    "h gateway": gateway_dies,
    "g broker": broker_dies_in_a_turn,
}


async def idle(scene: Scene) -> None:
    """Wait until nothing is leased and nothing is loaded."""
    scene.worker.load_s = 0.5

    async def empty() -> bool:
        return not await scene.leases()

    await until(empty, TTL_S + 60)


async def _brief(scene: Scene) -> list[str]:
    return [f"{lease['sessionKey']} {lease['model']} {lease['intent']}" for lease in await scene.leases()]


async def live(wanted: list[str]) -> list[str]:
    """Run the checks on one gateway; names of those that failed."""
    failed = []
    started_s = time.monotonic()
    async with openclaw_scene(heartbeat={"every": "24h"}) as scene:
        say(f"gateway ready after {time.monotonic() - started_s:.0f} s")
        for name, check in CHECKS.items():
            if wanted and name.split()[0] not in wanted:
                continue
            try:
                await idle(scene)
                say(f"  ok    {name:<12} {await check(scene)}")
            except Exception as error:  # noqa: BLE001  whatever it is, the others still run
                failed.append(name)
                lines = [
                    frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == __file__
                ]
                say(f"  FAIL  {name:<12} lines {lines}: {type(error).__name__}: {error}; leases {await _brief(scene)}")
        if failed:
            say(scene.gateway.log.read_text()[-4000:])
    return failed


def package() -> str:
    """What OpenClaw itself says of the plugin, whether its packed form installs and its types are the real ones."""
    where, folder = installed(), Path(tempfile.mkdtemp(prefix="hotseat-openclaw-"))
    try:
        (folder / "openclaw.json").write_text('{"gateway": {"mode": "local"}}')
        verdict = _node(where, folder, where.openclaw, "plugins", "validate", "--root", PLUGIN).strip().splitlines()[-1]
        packed = npm(PLUGIN, "pack", "--silent", "--pack-destination", str(folder), path=where.path)
        archive = folder / packed.strip().splitlines()[-1]
        how = ("--force", "--accept-capabilities")
        _node(where, folder, where.openclaw, "plugins", "install", f"npm-pack:{archive}", *how)
        _compile(where)
        return f"{verdict} Installed from {archive.name} ({archive.stat().st_size / 1024:.0f} KiB); types agree"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _compile(where: Installed) -> None:
    folder = where.folder / "types"
    folder.mkdir(exist_ok=True)
    for source in (Path(__file__).with_name("api.ts"), PLUGIN / "src" / "openclaw-api.ts"):
        shutil.copy(source, folder)
    compiler = where.folder / "node_modules" / "typescript" / "bin" / "tsc"
    kind = ("--module", "nodenext", "--moduleResolution", "nodenext", "--target", "es2023")
    _node(where, folder, compiler, "--noEmit", "--strict", "--skipLibCheck", *kind, folder / "api.ts")


def _node(where: Installed, home: Path, *words: str | Path) -> str:
    argv = [str(where.node), *map(str, words)]
    done = subprocess.run(argv, env=where.environ(home), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def main() -> int:
    """Run them; 1 when a check failed."""
    parser = argparse.ArgumentParser(prog="make test-openclaw ARGS=…", description=__doc__)
    parser.add_argument("checks", nargs="*", help="only these: p, " + ", ".join(name.split()[0] for name in CHECKS))
    wanted = parser.parse_args().checks
    if not wanted or "p" in wanted:
        say(f"  ok    {'package':<12} {package()}")
    failed = asyncio.run(live(wanted)) if wanted != ["p"] else []
    say(f"{len(failed)} failed" if failed else "all passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
