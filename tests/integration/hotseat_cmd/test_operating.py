"""`hotseat model`, `load`, `unload`, `cordon`, `drain`, `uncordon`, `heal` as an operator runs them."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from schemas.messages import FailureKind
from tests.fakes.broker_scene import config_of, memory_scene, until
from tests.fakes.gateway_scene import gateway_scene

HOTSEAT = Path(sys.executable).with_name("hotseat")


async def hotseat(scene, *words):
    """Exit status, what was printed, what was complained."""
    process = await asyncio.create_subprocess_exec(
        HOTSEAT, *words, "--url", scene if isinstance(scene, str) else scene.url,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, complained = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode, said.decode().strip(), complained.decode().strip()


async def test_slots_are_cordoned_drained_opened_and_healed_from_the_command_line():
    async with memory_scene() as scene:

        def state() -> str:
            return scene.store.pool.slots["gpu0"].state.value

        assert await hotseat(scene, "cordon", "gpu0") == (0, "slot gpu0 is cordoned: no new leases", "")
        assert state() == "cordoned"
        assert (await hotseat(scene, "drain"))[0] == 0, "there is only one slot"
        assert state() == "draining"
        status, said, _ = await hotseat(scene, "uncordon", "gpu0", "--json")
        assert (status, json.loads(said), state()) == (0, {"action": "uncordon", "slots": ["gpu0"]}, "open")
        assert (await hotseat(scene, "heal"))[1] == "slot gpu0 is healed: its models are tried again at once"


async def test_a_wrong_name_is_answered_with_what_may_have_been_meant():
    async with memory_scene() as scene:
        assert await hotseat(scene, "drain", "gpu1") == (1, "", "hotseat: there is no slot 'gpu1'; did you mean gpu0?")
        assert await hotseat(scene, "load", "hug") == (1, "", "hotseat: there is no model 'hug'; did you mean huge?")
        assert await hotseat(scene, "model", "xyz") == (
            1,
            "",
            "hotseat: there is no model 'xyz'; there are: a, b, huge",
        )
        assert (await hotseat(scene, "model", "on", "xyz"))[0] == 1
        assert (await hotseat(scene, "unload", "a", "--slot", "gpu2"))[2].endswith("did you mean gpu0?")


async def test_a_broker_that_does_not_answer_is_said_and_is_another_status():
    status, _, complained = await hotseat("http://127.0.0.1:9", "heal")
    assert (status, "no answer from the broker at http://127.0.0.1:9" in complained) == (3, True)


@pytest.mark.parametrize("words", [("model", "off", "a"), ("load",), ("unload",), ("model", "on")])
async def test_what_is_missing_is_said_with_the_usage(words):
    status, _, complained = await hotseat("http://127.0.0.1:9", *words)
    assert (status, complained.startswith("usage: hotseat ")) == (2, True)


async def test_a_model_is_loaded_shown_unloaded_and_taken_out_of_service():
    async with memory_scene(load_s=0.3) as scene:
        assert await hotseat(scene, "load", "a") == (0, "a is ready on gpu0", "")
        status, said, _ = await hotseat(scene, "load", "b", "--no-wait", "--json")
        assert (status, json.loads(said)["evicted"]) == (0, ["a"])
        await until(lambda: scene.store.pool.models["b"].ready)
        assert await hotseat(scene, "unload", "b") == (0, "b is unloading on gpu0", "")
        assert await hotseat(scene, "unload", "a") == (0, "a is not loaded", "")
        off = await hotseat(scene, "model", "off", "a", "--reason", "new weights")
        assert off == (0, "a is out of service: new weights", "")
        status, _, complained = await hotseat(scene, "load", "a")
        assert (status, complained) == (1, "hotseat: a is out of service: new weights; ask again in 30 s"), "told once"

        async def shown() -> bool:
            return "out of service: new weights" in (await hotseat(scene, "model"))[1]

        await until(shown)
        assert "a is out of service: new weights" in (await hotseat(scene, "ps"))[1]
        assert (await hotseat(scene, "model", "on", "a"))[1] == "a is in service"


async def test_who_has_a_lease_is_named_as_the_reason_why_a_model_stays():
    async with memory_scene() as scene:
        await scene.lease(wait=5)
        status, _, complained = await hotseat(scene, "unload", "a")
        assert (status, complained.startswith("hotseat: a lease is on a; take it out of service")) == (1, True)


async def test_a_load_that_fails_ends_the_command_with_the_servers_own_words():
    async with gateway_scene({"a": []}, config_of()) as scene:
        scene.worker.failure, scene.worker.error = FailureKind.PERMANENT, "server_died: exited with status 1; bad flag"
        scene.worker.fails_left["a"] = 1
        status, _, complained = await hotseat(scene, "load", "a")
        assert (status, complained) == (1, "hotseat: a is not loaded: server_died: exited with status 1; bad flag")
        assert "cannot be loaded, again in" in (await hotseat(scene, "ps"))[1]
        assert (await hotseat(scene, "load", "a"))[:2] == (0, "a is ready on gpu0"), "no back-off holds it up"


async def test_who_waits_on_the_command_line_hears_of_a_failed_load_and_of_why_there_is_no_other():
    async with gateway_scene({"a": []}, config_of(load_retry_s=0.5)) as scene:
        scene.worker.failure, scene.worker.error = FailureKind.PASSING, "server_died: killed by SIGKILL"
        scene.worker.fails_left["a"] = 2  # the first may come before it listens
        status, said, told = await hotseat(scene, "lease", "a", "--session", "s")
        assert (status, " active on a" in said) == (0, True)
        assert "its load failed" in told
        assert ": server_died: killed by SIGKILL" in told
        assert (await hotseat(scene, "release", "--session", "s", "--model", "a"))[0] == 0
        assert (await hotseat(scene, "unload", "a"))[0] == 0
        scene.worker.failure, scene.worker.error = FailureKind.PERMANENT, "server_died: exited with status 1; bad flag"
        scene.worker.fails_left["a"] = 1
        status, _, told = await hotseat(scene, "run", "a", "--url", scene.url, "--", "true")
        assert (status, "bad flag" in told) == (125, True)


async def test_what_a_lease_is_for_can_be_said_on_the_command_line_and_is_shown_there():
    async with gateway_scene({"a": []}) as scene:
        status, said, told = await hotseat(scene, "lease", "a", "--session", "s", "--label", "nightly run {7}")
        assert status == 0, told
        assert (await hotseat(scene, "ps"))[1].rstrip().endswith("s        nightly run {7}")
        why = (await hotseat(scene, "why", said.split()[0]))[1]
        assert " by s (nightly run {7}), " in why
        status, _, told = await hotseat(scene, "lease", "a", "--session", "t", "--label", "x" * 129)
        assert (status, "label" in told) == (1, True)


async def test_nobody_waits_on_the_command_line_for_a_model_out_of_service():
    async with memory_scene() as scene:
        assert (await hotseat(scene, "model", "off", "a", "--reason", "new weights"))[0] == 0
        status, _, told = await hotseat(scene, "lease", "a")
        assert (status, "a is out of service: new weights" in told) == (1, True)
        status, _, told = await hotseat(scene, "run", "a", "--url", scene.url, "--", "true")
        assert (status, "a is out of service: new weights" in told) == (125, True)
