"""The README's commands, typed into a real `hotseat up`."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.integration.hotseat_cmd.test_up import Up, eventually, up

pytestmark = [pytest.mark.redis, pytest.mark.slow]
assert up, "the fixture"

README = Path(__file__).parents[3] / "README.md"
COMMANDS = re.findall(r"^\$ (.*)$", README.read_text(encoding="utf-8"), re.MULTILINE)
SAYS = ("SLOT", "active on gemma-270m", "released", "gemma-270m-f16", '"state":"active"', '"state":"ended"')


def is_ready(scene: Up) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{scene.port}/readyz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_the_commands_of_the_readme_do_what_it_says(up):
    up.start("--no-demo")
    eventually(lambda: is_ready(up), "a ready broker")
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    environment = {"PATH": path, "HOME": os.environ["HOME"], "HOTSEAT_URL": f"http://127.0.0.1:{up.port}"}
    assert len(COMMANDS) == len(SAYS)
    for command, says in zip(COMMANDS, SAYS, strict=True):
        typed = command.replace("127.0.0.1:4687", f"127.0.0.1:{up.port}")
        done = subprocess.run(
            ["bash", "-c", typed], env=environment, capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        assert says in done.stdout, f"{command}\n{done.stdout}{done.stderr}"
