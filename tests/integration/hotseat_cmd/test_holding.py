"""`hotseat lease` and `hotseat run` when they are told to end: what they have, or wait for, is given back at once."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from tests.fakes.gateway_scene import GatewayScene, gateway_scene

HOTSEAT = Path(sys.executable).with_name("hotseat")


async def hotseat(scene: GatewayScene, *words: str) -> asyncio.subprocess.Process:
    """The command as a user runs it."""
    return await asyncio.create_subprocess_exec(
        "env",
        "--default-signal",  # shells start jobs with SIGINT ignored, nohup with SIGHUP
        HOTSEAT,
        words[0],
        "--url",
        scene.url,
        *words[1:],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("words", [("lease", "a"), ("run", "a", "--", "sleep", "60")])
async def test_who_is_stopped_in_line_leaves_it(words, number):
    async with gateway_scene({"a": []}, load_s=60.0) as scene:
        process = await hotseat(scene, *words)
        assert process.stderr is not None
        assert (await asyncio.wait_for(process.stderr.readline(), 20)).startswith(b"a: place 1")
        assert scene.leases("queued")
        process.send_signal(number)
        assert await process.wait() == 128 + number
        assert not scene.leases()


async def test_a_command_that_is_stopped_gives_its_lease_back():
    async with gateway_scene({"a": []}) as scene:
        process = await hotseat(scene, "run", "a", "--intent", "warm", "--", "sh", "-c", "echo begun; exec sleep 60")
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 20) == b"begun\n"
        assert [lease.state.value for lease in scene.leases()] == ["active"]
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 128 + signal.SIGTERM
        assert not scene.leases()
