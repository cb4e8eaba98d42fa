"""A real browser without a screen, and web pages of somebody else's for it to open."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    # Every name leads to this machine, as somebody's own DNS can make it.
    "--host-resolver-rules=MAP * 127.0.0.1",
    # Newer browsers ask the user before a page may call this machine at all; older ones, and users who say yes, do not.
    "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests",
)


def find() -> str:
    """Its program; without one the test is skipped."""
    for name in NAMES:
        if (found := shutil.which(name)) is not None:
            return found
    pytest.skip("no Chromium here: apt install chromium-headless-shell")


PAGES = Path(__file__).parents[1] / "fixtures" / "pages"
PAGE = """<!doctype html><meta charset=utf-8><script>
const BROKER = {broker};
{prelude}
async function found() {{
{script}
}}
found().then(report, (error) => report({{failed: String(error)}}));
</script>"""


class PageServer:
    """Serves one page, and hears what its script found. From then on it may pass bytes on to another server instead.

    That is how a name is rebound: the page stays, its origin leads to another address.
    """

    def __init__(self, name: str, broker: str) -> None:
        script, prelude = ((PAGES / f"{each}.js").read_text() for each in (name, "prelude"))
        self._page = PAGE.format(broker=json.dumps(broker), prelude=prelude, script=script)
        self.found: asyncio.Future[dict] = asyncio.get_running_loop().create_future()
        self.rebound_to: int | None = None
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"POST /report "):
                length = next(
                    int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
                )
                self.found.set_result(json.loads(await reader.readexactly(length)))
                self._answer(writer, b"")
            elif head.startswith(b"GET /page "):
                self._answer(writer, self._page.encode())
            elif self.rebound_to is not None:
                await self._pass_on(head, reader, writer)
            else:
                self._answer(writer, b"")
        writer.close()

    @staticmethod
    def _answer(writer: asyncio.StreamWriter, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        writer.write(head % len(body) + body)

    async def _pass_on(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, to_them = await asyncio.open_connection("127.0.0.1", self.rebound_to)
        to_them.write(head)
        back = asyncio.create_task(_copy(theirs, writer))
        await _copy(reader, to_them)
        await back


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def page_server(name: str, broker: str) -> AsyncIterator[PageServer]:
    """A server of somebody else's."""
    page = PageServer(name, broker)
    server = await asyncio.start_server(page.serve, "127.0.0.1", 0)
    page.port = server.sockets[0].getsockname()[1]
    try:
        yield page
    finally:
        server.close()


async def opened(page: PageServer, name: str, *, timeout_s: float = 60) -> dict:
    """What the page's script found, opened under a name."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            find(),
            *FLAGS,
            f"--user-data-dir={profile}",
            "--remote-debugging-port=0",
            f"http://{name}:{page.port}/page",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            return await asyncio.wait_for(page.found, timeout_s)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
