"""`hotseat poller` beside a gateway, as a process."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from harness.openclaw.scene import ACTIVE_S, TTL_S, Scene

PERIOD_S = 2.0


@contextlib.asynccontextmanager
async def polled(scene: Scene) -> AsyncIterator[Path]:
    """While it runs; its log."""
    config, log = scene.folder / "poller.toml", scene.folder / "poller.log"
    config.write_text(
        f'[poller]\nstate_dir = "{scene.folder}/state"\nbroker_url = "{scene.broker.url}"\n'
        f'default_model = "hotseat/alpha"\nperiod_s = {PERIOD_S}\nactive_s = {ACTIVE_S}\nttl_s = {TTL_S}\n'
        f'api_key_file = "{scene.folder}/key"\n'
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HOTSEAT_")}
    with log.open("wb") as out:
        argv = (Path(sys.executable).with_name("hotseat"), "poller", "--config", config)
        process = await asyncio.create_subprocess_exec(*argv, stdout=out, stderr=out, env=environ)
    try:
        yield log
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 20)
