"""The scene of ``docs/redis-cli.md``: a pool at work, and a shell that types the page's commands into it.

``python -m tests.integration.redis_cli_page`` writes the page's outputs anew.
"""

import asyncio
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx

from harness.broker_process import BrokerProcess
from harness.redis_servers import VALKEY, RedisServer
from harness.worker import FakeWorker

PAGE = Path(__file__).parents[2] / "docs" / "redis-cli.md"
SMALL, LARGE = "gemma-270m", "gemma-270m-f16"
MODELS = f"""
[[model]]
name = "{SMALL}"
memory_mib = 450
lease_limit = 2
default = true

[[model]]
name = "{LARGE}"
memory_mib = 720
lease_limit = 2
"""
SHELL = 'r() { redis-cli --no-raw -s "$S" "$@"; }\n'
END = "-- end of command --"
PROGRAMS = "/usr/bin:/bin"
"""Where the page's programs are looked for."""
MISSING = "no redis-cli (Debian: apt install redis-tools)"


def has_redis_cli() -> bool:
    """Can the page's commands be typed here?"""
    return shutil.which("redis-cli", path=PROGRAMS) is not None


@asynccontextmanager
async def scene() -> AsyncIterator[Path]:
    """Ada holds the small model, Ben waits for the large one; yields the store's socket."""
    server = RedisServer(VALKEY, aof=True).start()
    broker = BrokerProcess(server.url, models=MODELS, extra='[gateway]\nname = "gpuhost"\n')
    try:
        await asyncio.to_thread(broker.until_ready)
        async with httpx.AsyncClient(base_url=broker.url, timeout=30) as client, AsyncExitStack() as stack:
            ada = {"sessionKey": "agent:ada", "model": SMALL, "ttlSeconds": 600}
            lease = (await client.post("/lease", json=ada)).json()["leaseId"]
            worker = FakeWorker.on_redis(server.url, serves=(SMALL, LARGE), budget_mib=1000)
            await stack.enter_async_context(worker.running())
            assert (await client.get(f"/lease/{lease}?wait=20")).json()["state"] == "active"
            ben = {"sessionKey": "agent:ben", "model": LARGE, "priority": "interactive"}
            assert (await client.post("/lease", json=ben)).status_code == 202
            yield server.socket
    finally:
        broker.stop()
        server.close()


def blocks(page: str) -> list[str]:
    """The console blocks of a page."""
    return re.findall(r"```console\n(.*?)```", page, re.DOTALL)


def commands(block: str) -> list[tuple[str, str]]:
    """(command, output) pairs of a block."""
    parts = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    return [(part.partition("\n")[0], part.partition("\n")[2]) for part in parts]


def type_in(socket: Path, typed: list[str]) -> list[str]:
    """Run the commands in one shell, as a person would; one output each."""
    script = SHELL + "".join(f"{command}\necho '{END}'\n" for command in typed)
    done = subprocess.run(
        ["bash", "-c", script],
        check=False,
        env={"S": str(socket), "PATH": PROGRAMS},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split(f"{END}\n")[:-1]


async def rewrite() -> None:
    """Type the page's commands and put the outputs in; without redis-cli refuse, and leave the page as it is."""
    if not has_redis_cli():
        raise SystemExit(f"{MISSING}: {PAGE.name} stays as it is")
    page = PAGE.read_text(encoding="utf-8")
    asked = [command for block in blocks(page) for command, _ in commands(block)]
    async with scene() as socket:
        answers = iter(await asyncio.to_thread(type_in, socket, asked))
    for block in blocks(page):
        fresh = "".join(f"$ {command}\n{next(answers)}" for command, _ in commands(block))
        page = page.replace(f"```console\n{block}```", f"```console\n{fresh}```")
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(rewrite())
