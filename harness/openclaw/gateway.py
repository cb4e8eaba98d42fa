"""A real OpenClaw gateway as a process, and its WebSocket as an operator speaks it."""

import asyncio
import contextlib
import itertools
import json
import signal
import subprocess
import uuid
from pathlib import Path
from typing import Any, Self

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from harness.openclaw.gateway_config import TOKEN
from harness.openclaw.install import Installed
from harness.openclaw.model import SECRET

READY_LIMIT_S = 120
SCOPES = ("operator.read", "operator.write", "operator.admin")


class Gateway:
    """One process."""

    def __init__(self, where: Installed, folder: Path, port: int, environ: dict[str, str]) -> None:
        self._where, self._folder, self.port, self._environ = where, folder, port, environ
        self._process: subprocess.Popen[bytes] | None = None
        self.log = folder / "gateway.log"

    def processor_ms(self) -> float:
        """What its main thread, which runs all of its JavaScript, has used so far."""
        assert self._process is not None
        pid = self._process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e6

    def _launch(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._where.node, self._where.openclaw, "gateway", "run", "--port", str(self.port)],
                env=self._where.environ(self._folder) | self._environ,
                cwd=self._folder,
                stdout=log,
                stderr=log,
            )

    async def start(self) -> None:
        self._launch()
        assert self._process is not None
        async with httpx.AsyncClient() as client:
            for _ in range(READY_LIMIT_S * 2):
                assert self._process.poll() is None, self.log.read_text()
                try:
                    if (await client.get(f"http://127.0.0.1:{self.port}/readyz")).status_code == 200:
                        return
                except httpx.HTTPError:
                    pass
                await asyncio.sleep(0.5)
        raise AssertionError(self.log.read_text())

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()


class Operator:
    """A connection to the gateway, and what has happened in chats since it began."""

    def __init__(self, link: ClientConnection) -> None:
        self._link = link
        self._numbers = itertools.count()
        self._answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self.chats: list[dict[str, Any]] = []
        self._changed = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    @classmethod
    async def on(cls, port: int) -> Self:
        self = cls(await connect(f"ws://127.0.0.1:{port}/", max_size=2**25))
        self._reader = asyncio.create_task(self._read())
        client = {"id": "gateway-client", "version": "1", "platform": "linux", "mode": "backend"}
        more = {"role": "operator", "scopes": list(SCOPES), "auth": {"token": TOKEN}, "caps": []}
        await self.call("connect", {"minProtocol": 3, "maxProtocol": 4, "client": client, **more})
        return self

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):  # a gateway that is killed or restarted
            async for text in self._link:
                frame = json.loads(text)
                if frame["type"] == "res" and frame["id"] in self._answers:
                    self._answers.pop(frame["id"]).set_result(frame)
                elif frame.get("event") == "chat":
                    self.chats.append(frame["payload"])
                    self._changed.set()

    async def call(self, method: str, params: dict[str, Any]) -> Any:
        """What it answers; a refusal fails the check."""
        answer = await self.ask(method, params)
        assert answer["ok"], answer
        return answer["payload"]

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The answer's whole frame."""
        number = str(next(self._numbers))
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._link.send(json.dumps({"type": "req", "id": number, "method": method, "params": params}))
        return await asyncio.wait_for(self._answers[number], 60)

    async def say(self, session: str, text: str) -> str:
        """Send a message, with the secret in it where it is no command; the id of its run, "" where none began."""
        message = text if text.startswith("/") else f"{text} {SECRET}"
        asked = {"sessionKey": session, "message": message, "idempotencyKey": str(uuid.uuid4())}
        return str((await self.call("chat.send", asked)).get("runId", ""))

    async def ended(self, run: str, limit_s: float = 120) -> dict[str, Any]:
        """The last event of a run's chat: state final, aborted or error."""
        async with asyncio.timeout(limit_s):
            while True:
                for chat in self.chats:
                    if chat.get("runId") == run and chat.get("state") in {"final", "aborted", "error"}:
                        return chat
                self._changed.clear()
                await self._changed.wait()

    async def close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
        await self._link.close()
