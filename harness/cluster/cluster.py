"""A cluster's real processes: Valkey, two brokers, a worker; each dies, pauses and comes back on command."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from harness.cluster.parts import POLL_S, Part, wait_for
from harness.cluster.processes import alive, of_folder
from harness.cluster.proxy import Proxy
from hotseat.up.embedded_valkey import server_program

START_TIMEOUT_S = 60.0

VALKEY_CONF = """\
bind 127.0.0.1
port {port}
dir {folder}
appendonly yes
appendfsync always
save ""
maxmemory-policy noeviction
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model of the run's catalogue."""

    name: str
    memory_mib: int
    lease_limit: int
    command: Sequence[str]
    model_path: Path | None = None


class Cluster:
    """Everything that runs, and the proxies between."""

    def __init__(self, folder: Path, models: Sequence[Model], *, budget_mib: int, settings: str) -> None:
        self.folder = folder
        self.models = models
        self.budget_mib = budget_mib
        self._settings = settings
        """More TOML: policy and broker settings of the run."""
        self.valkey_port, *self.broker_ports = free_ports(3)
        self.proxies = {
            name: Proxy(name, port)
            for name, port in (
                ("worker-store", self.valkey_port),
                ("broker-1-store", self.valkey_port),
                ("broker-2-store", self.valkey_port),
                ("client-broker-1", self.broker_ports[0]),
                ("client-broker-2", self.broker_ports[1]),
            )
        }
        self.parts: dict[str, Part] = {}
        self._keeper: asyncio.Task[None] | None = None

    @property
    def store_url(self) -> str:
        """Past all proxies."""
        return f"redis://127.0.0.1:{self.valkey_port}/0"

    @property
    def broker_urls(self) -> list[str]:
        """As clients see them, through proxies."""
        return [f"http://127.0.0.1:{self.proxies[name].port}" for name in ("client-broker-1", "client-broker-2")]

    async def start(self) -> None:
        """Start everything and keep it running."""
        for proxy in self.proxies.values():
            await proxy.start()
        self.parts["valkey"] = self._part("valkey", [str(server_program()), str(self._valkey_conf())])
        hotseat = [sys.executable, "-m", "hotseat.cli"]
        for number, port in enumerate(self.broker_ports, start=1):
            name = f"broker-{number}"
            section = f"[broker]\nhost = '127.0.0.1'\nport = {port}\n{self._settings}[gateway]\nname = '{name}'\n"
            config = self._toml(name, section)
            self.parts[name] = self._part(name, [*hotseat, "broker", "--config", str(config)])
        config = self._toml("worker", self._worker_section())
        self.parts["worker"] = self._part("worker", [*hotseat, "worker", "--config", str(config), "--stop-servers"])
        self.parts["valkey"].start()
        await until_listening(self.valkey_port)
        for name in ("broker-1", "broker-2", "worker"):
            self.parts[name].start()
        self._keeper = asyncio.create_task(self._keep())
        for port in self.broker_ports:
            await until_ready(port)

    async def stop(self) -> list[str]:
        """Ask everything to end, the store last; answers who did not go in peace."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        stubborn = [name for name in ("worker", "broker-1", "broker-2") if not await self._stop(name)]
        for proxy in self.proxies.values():
            await proxy.stop()
        if not await self._stop("valkey"):
            stubborn.append("valkey")
        return stubborn

    async def _stop(self, name: str) -> bool:
        return name not in self.parts or await self.parts[name].stop()

    async def heal(self) -> None:
        """Fair weather, everybody awake, everything started."""
        for proxy in self.proxies.values():
            proxy.clear()
        for process in of_folder(self.folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
        await wait_for(lambda: all(part.pid for part in self.parts.values()), START_TIMEOUT_S)

    async def orphans(self, within_s: float) -> list[str]:
        """Processes of this run that live on after all was stopped, once they had time to go."""
        await wait_for(lambda: not of_folder(self.folder), within_s)
        return [f"{process.pid} {process.command}" for process in of_folder(self.folder)]

    def bury(self) -> None:
        """Kill whatever is left of this run: only processes that it started."""
        for part in self.parts.values():
            part.wanted = False
            part.kill(down_s=0)
        for process in of_folder(self.folder):
            if alive(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)

    async def _keep(self) -> None:
        while True:
            for part in self.parts.values():
                part.watch()
            await asyncio.sleep(POLL_S)

    def _part(self, name: str, argv: Sequence[str]) -> Part:
        return Part(name=name, argv=argv, folder=self.folder)

    def _valkey_conf(self) -> Path:
        data = self.folder / "valkey"
        data.mkdir(exist_ok=True)
        path = self.folder / "valkey.conf"
        path.write_text(VALKEY_CONF.format(port=self.valkey_port, folder=data), encoding="utf-8")
        return path

    def _toml(self, name: str, sections: str) -> Path:
        store = f"[store]\nurl = 'redis://127.0.0.1:{self.proxies[f'{name}-store'].port}/0'\n"
        path = self.folder / f"{name}.toml"
        path.write_text(f"{store}\n{sections}\n{self._catalogue()}", encoding="utf-8")
        return path

    def _worker_section(self) -> str:
        return (
            "[worker]\nname = 'host'\nadopt_grace_s = 6\nbeat_s = 0.5\norders_interval_s = 1.0\n"
            "probe_interval_s = 1.0\nprobe_timeout_s = 3.0\nprobe_failures = 2\n"
            f"state_dir = '{self.folder}/worker'\n"
            f"[[worker.slot]]\nid = 'gpu0'\nbudget_mib = {self.budget_mib}\n"
        )

    def _catalogue(self) -> str:
        return "\n".join(
            f"[[model]]\nname = '{model.name}'\nmemory_mib = {model.memory_mib}\nlease_limit = {model.lease_limit}\n"
            f"command = {list(model.command)!r}\nload_timeout_s = 20\nstop_timeout_s = 1\n"
            + (f"model_path = '{model.model_path}'\n" if model.model_path else "")
            for model in self.models
        )

    def discard(self) -> None:
        """Remove the run's files."""
        shutil.rmtree(self.folder, ignore_errors=True)


async def until_listening(port: int) -> None:
    """Wait until somebody accepts connections there.

    Raises:
        TimeoutError: Nobody did.
    """
    async with asyncio.timeout(START_TIMEOUT_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(POLL_S)
            else:
                writer.close()
                return


async def until_ready(port: int) -> None:
    """Wait until a broker there can serve leases.

    Raises:
        TimeoutError: It cannot.
    """
    async with asyncio.timeout(START_TIMEOUT_S), httpx.AsyncClient(trust_env=False) as client:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if (await client.get(f"http://127.0.0.1:{port}/readyz")).is_success:
                    return
            await asyncio.sleep(POLL_S)


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, all different, from below the ephemeral range: no outgoing connection takes them."""
    found: list[int] = []
    port = 20_000 + os.getpid() % 10_000
    while len(found) < count:
        port += 1
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
    return found
