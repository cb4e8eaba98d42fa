"""``python -m bench.fairness``: who gets the GPU when, on real llama.cpp servers, brokers and a store.

1. Switch: two clients hold overlapping leases on A without a gap and stream real completions; one asks for B. How long
   until B's load starts, beside the slice that the policy states; does every stream of A finish untouched?
2. Flood: three sessions on one model, one of them with many agents. Jain's index of the granted time per session.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import redis.asyncio

from harness.cluster.clients import session_hash
from harness.cluster.cluster import Cluster, Model
from harness.cluster.witness import BASE, final_entries
from harness.history.trace import Entry
from harness.history.trace_check import granted_seconds, jain_index
from hotseat.demo.tiny_gguf import GgufShape, write_tiny_gguf
from hotseat.llama_server import llama_server_argv

MEMORY_MIB = 600
SLICE_MIN_S, SLICE_OVERTIME = 20.0, 1.0 / 3.0
SHAPE = GgufShape(width=512, layers=8, feed_forward=1536, heads=8)
"""About 60 MB: streams of a second or two on two cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How long everything takes; the policy is the default one unless told otherwise."""

    slice_min_s: float = SLICE_MIN_S
    lease_limit: int = 2
    tokens: int = 128
    """Per completion."""
    before_s: float = 15.0
    """A alone, before somebody asks for B."""
    flood_s: float = 90.0
    shape: GgufShape = SHAPE
    agents: Sequence[int] = (2, 2, 12)
    """Of the three sessions; the last one floods."""

    def toml(self) -> str:
        """For the brokers."""
        return f"anonymous = true\n[policy]\nslice_min_s = {self.slice_min_s}\n"


@dataclass(slots=True, kw_only=True)
class Streams:
    """What became of the completions."""

    whole: int = 0
    broken: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """What the first scene measured, seconds."""

    load_started_s: float
    """From B's ticket to the order to load B."""
    granted_s: float
    """From B's ticket to its grant."""
    slice_s: float
    """What the policy states: max(slice_min, 3 loads of B, 2 mean leases of A)."""
    bound_s: float
    """Slice, its overtime, and one mean lease that is still in flight then."""
    streams: Streams


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """What the second scene measured."""

    seconds: dict[str, float]
    leases: dict[str, int]
    jain: float


class Agent:
    """Takes leases through HTTP and streams real completions."""

    def __init__(self, cluster: Cluster, session: str, holder: str, setting: Setting, streams: Streams) -> None:
        self._url = f"http://127.0.0.1:{cluster.broker_ports[hash(holder) % 2]}"
        self._session, self._holder, self._setting, self._streams = session, holder, setting, streams
        self._http = httpx.AsyncClient(timeout=httpx.Timeout(90.0), trust_env=False)
        self.stopping = False

    async def close(self) -> None:
        """Drop the connections."""
        await self._http.aclose()

    async def turns(self, model: str, *, until_s: float, completions: int) -> None:
        """One lease after the other."""
        while time.monotonic() < until_s and not self.stopping:
            await self.turn(model, completions=completions)

    async def turn(self, model: str, *, completions: int) -> None:
        """One lease."""
        body = {"sessionKey": self._session, "holder": self._holder, "model": model, "ttlSeconds": 60, "wait": 30}
        lease = (await self._http.post(f"{self._url}/lease", json=body)).raise_for_status().json()
        while lease["state"] == "queued":
            answer = await self._http.get(f"{self._url}/lease/{lease['leaseId']}", params={"wait": 30})
            lease = answer.raise_for_status().json()
        for _ in range(completions):
            await self._stream(lease["endpoint"])
        reference = {"leaseId": lease["leaseId"], "nonce": lease["nonce"]}
        (await self._http.post(f"{self._url}/release", json=reference)).raise_for_status()

    async def _stream(self, endpoint: dict[str, str]) -> None:
        request = {"prompt": "ba de fi", "max_tokens": self._setting.tokens, "stream": True}
        headers = {"Authorization": f"Bearer {endpoint['apiKey']}", "Connection": "close"}
        # a connection of its own: on a kept one the server's idle time-out may meet the next request
        finish, done = "", False
        try:
            url = f"{endpoint['baseUrl']}/completions"
            async with self._http.stream("POST", url, json=request, headers=headers) as answer:
                async for line in answer.aiter_lines():
                    if line.startswith("data: {"):
                        finish = json.loads(line[6:])["choices"][0].get("finish_reason") or finish
                    done = done or line == "data: [DONE]"
        except httpx.HTTPError as error:
            self._streams.broken.append(repr(error))
            return
        if done and finish == "length":
            self._streams.whole += 1
        else:
            self._streams.broken.append(f"ended with {finish or 'nothing'}")


async def measure_switch(cluster: Cluster, setting: Setting) -> Switch:
    """The first scene."""
    streams = Streams()
    first, second, third = (Agent(cluster, f"session-{n}", f"agent-{n}", setting, streams) for n in range(3))
    for model in ("model-b", "model-a"):  # what a load and a lease take is known then
        await first.turn(model, completions=1)
    asked_before = await final_entries(cluster.store_url)
    far_s = time.monotonic() + 600.0
    busy = [asyncio.create_task(first.turns("model-a", until_s=far_s, completions=2))]
    await asyncio.sleep(setting.before_s / 4)  # so that the leases overlap
    busy.append(asyncio.create_task(second.turns("model-a", until_s=far_s, completions=2)))
    await asyncio.sleep(setting.before_s)
    await third.turn("model-b", completions=1)
    known = await learned(cluster.store_url, busy="model-a", wanted="model-b")
    entries = (await final_entries(cluster.store_url))[len(asked_before) :]
    first.stopping = second.stopping = True
    await asyncio.gather(*busy)
    for agent in (first, second, third):
        await agent.close()
    asked, loading, granted = (_moment_s(entries, kind) for kind in ("queued", "loading", "granted"))
    return Switch(
        load_started_s=loading - asked,
        granted_s=granted - asked,
        slice_s=known.slice_s(setting.slice_min_s),
        bound_s=known.bound_s(setting.slice_min_s),
        streams=streams,
    )


def _moment_s(entries: Sequence[Entry], kind: str) -> float:
    return next(entry.at_ms for entry in entries if entry.kind == kind and entry.get("model") == "model-b") / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What the store has learned of two models, seconds."""

    hold_s: float
    """The busy one's mean lease."""
    load_s: float
    """The other one's mean load."""

    def slice_s(self, slice_min_s: float) -> float:
        """What the policy states."""
        return max(slice_min_s, 3 * self.load_s, 2 * self.hold_s)

    def bound_s(self, slice_min_s: float) -> float:
        """Until the other one's load begins: the slice, its overtime, and one mean lease that is in flight then."""
        return self.slice_s(slice_min_s) * (1 + SLICE_OVERTIME) + self.hold_s


async def learned(store_url: str, *, busy: str, wanted: str) -> Learned:
    """Ask the store."""
    client: Any = redis.asyncio.Redis.from_url(store_url, decode_responses=True, protocol=2)
    try:
        hold_ms = await client.hget(f"{BASE}:model:{busy}", "hold_ms") or 0
        load_ms = await client.hget(f"{BASE}:model:{wanted}", "load_ms") or 0
    finally:
        await client.aclose()
    return Learned(hold_s=int(hold_ms) / 1000, load_s=int(load_ms) / 1000)


async def measure_flood(cluster: Cluster, setting: Setting) -> Flood:
    """The second scene: every agent asks again as soon as it has given back."""
    streams = Streams()
    agents = [
        Agent(cluster, f"flood-{session}", f"agent-{session}-{number}", setting, streams)
        for session, count in enumerate(setting.agents)
        for number in range(count)
    ]
    start_s = time.monotonic()
    until_s = start_s + setting.flood_s
    await asyncio.gather(*(agent.turns("model-a", until_s=until_s, completions=1) for agent in agents))
    for agent in agents:
        await agent.close()
    names = {session_hash(f"flood-{session}"): f"flood-{session}" for session in range(len(setting.agents))}
    entries = [entry for entry in await final_entries(cluster.store_url) if entry.get("sh") in names]
    begin_ms = entries[0].at_ms
    inside = [entry for entry in entries if entry.at_ms - begin_ms <= setting.flood_s * 1000]
    until_ms = begin_ms + round(setting.flood_s * 1000)
    seconds = {names[sh]: value for sh, value in granted_seconds(inside, until_ms=until_ms).items()}
    leases = Counter(names[entry.get("sh")] for entry in inside if entry.kind == "granted")
    return Flood(seconds=seconds, leases=dict(leases), jain=jain_index(list(seconds.values())))


def stage(folder: Path, setting: Setting) -> Cluster:
    """Two models of which the slot holds one."""
    models = []
    for seed, name in enumerate(("model-a", "model-b")):
        path = write_tiny_gguf(folder / f"{name}.gguf", name=name, seed=seed, shape=setting.shape)
        command = [
            *llama_server_argv(), "-m", "{model_path}", "--host", "{host}", "--port", "{port}", "--alias",
            "{served_name}", "--api-key-file", "{api_key_file}", "-c", "4096", "-np", str(setting.lease_limit),
            "-t", "1",
        ]  # fmt: skip
        models.append(
            Model(name=name, memory_mib=MEMORY_MIB, lease_limit=setting.lease_limit, command=command, model_path=path)
        )
    return Cluster(folder, models, budget_mib=1000, settings=setting.toml())


async def measure(setting: Setting) -> tuple[Switch, Flood]:
    """Both scenes, one after the other, on the same processes."""
    cluster = stage(Path(tempfile.mkdtemp(prefix="hotseat-fairness-")), setting)
    try:
        await cluster.start()
        switch = await measure_switch(cluster, setting)
        flood = await measure_flood(cluster, setting)
        await cluster.stop()
    finally:
        cluster.bury()
        cluster.discard()
    return switch, flood


def main() -> int:
    """Measure and print; 1 when a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.fairness", description=__doc__)
    parser.add_argument("--slice-min-s", type=float, default=SLICE_MIN_S)
    parser.add_argument("--flood-s", type=float, default=90.0)
    arguments = parser.parse_args()
    switch, flood = asyncio.run(measure(Setting(slice_min_s=arguments.slice_min_s, flood_s=arguments.flood_s)))
    print(f"B's load started {switch.load_started_s:.1f} s after its ticket, granted after {switch.granted_s:.1f} s")
    print(f"slice {switch.slice_s:.1f} s; with overtime and one lease {switch.bound_s:.1f} s")
    print(f"streams: {switch.streams.whole} whole, {len(switch.streams.broken)} broken {switch.streams.broken[:3]}")
    for session, seconds in sorted(flood.seconds.items()):
        print(f"{session}: {seconds:.1f} s granted in {flood.leases[session]} leases")
    print(f"Jain index of granted time: {flood.jain:.3f}")
    kept = switch.load_started_s <= switch.bound_s and not switch.streams.broken
    return 0 if kept and flood.jain >= 0.9 else 1


if __name__ == "__main__":
    sys.exit(main())
