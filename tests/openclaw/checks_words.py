"""Checks with the plugin on what people type: `/reset`, and `/stop` as a message. Each begins with an idle pool."""

from harness.openclaw.scene import Scene, until

SESSION = "agent:main:words"


async def reset_gives_back(scene: Scene) -> str:
    """`/reset` gives the warm lease back, and the conversation goes on with its model."""
    await scene.turn(SESSION, "hello")
    await until(lambda: scene.leases(sessionKey=SESSION, intent="warm", state="active"))
    calls = len(scene.models.calls)
    await scene.chat.say(SESSION, "/reset")
    took_s = await until(lambda: _is_free(scene), 10)
    assert len(scene.models.calls) == calls, "it called a model"
    assert (await scene.turn(SESSION, "again"))["state"] == "final"
    await until(lambda: scene.leases(sessionKey=SESSION, intent="warm", state="active"))
    return f"given back in {took_s * 1000:.0f} ms; the next turn keeps its model warm again"


async def typed_stop_frees_the_place(scene: Scene) -> str:
    """The message `/stop` while the request waits in line: place and warm lease are gone within a second."""
    await scene.turn(SESSION, "hello")  # a gateway's first turn takes as long as a load
    absent = "beta" if await scene.state("alpha") == "ready" else "alpha"
    await scene.chat.call("sessions.patch", {"key": SESSION, "model": f"hotseat/{absent}"})
    scene.worker.load_s = 20.0
    run = await scene.chat.say(SESSION, "hello")
    await until(lambda: scene.leases(state="queued", intent="use", model=absent), 60)
    await scene.chat.say(SESSION, "/stop")
    took_s = await until(lambda: _is_free(scene), 10)
    assert took_s < 1.0, took_s
    assert (await scene.chat.ended(run))["state"] == "aborted"
    return f"queue and warm lease empty {took_s * 1000:.0f} ms after the message"


async def _is_free(scene: Scene) -> bool:
    return not await scene.leases()
