"""The demo: three agents share the room of one model server for two models, and nobody fails."""

from __future__ import annotations

import asyncio
import contextlib
from random import Random
from typing import TYPE_CHECKING, Any

import httpx

from hotseat.clients.agent import AGENT_TIMEOUT, LeaseClient
from hotseat.demo.agent import Agent, AgentView
from hotseat.demo.view import View, view_for

if TYPE_CHECKING:
    from collections.abc import Sequence

GOODBYE_TIMEOUT_S = 3.0
THINK_S = 3.0
LOOK_INTERVAL_S = 0.5
NAMES = ("ada", "ben", "cleo")


class Demo:
    """The agents and what shows them."""

    def __init__(
        self,
        broker_url: str,
        models: Sequence[str],
        *,
        think_s: float = THINK_S,
        api_key: str | None = None,
        seed: int = 1,
    ) -> None:
        """Make three agents: one for each of the two models, and one that alternates.

        Args:
            broker_url: Such as http://127.0.0.1:4687.
            models: Names of the catalogue, two.
            think_s: Between two turns of an agent, seconds, on average.
            api_key: The broker's key; None where the loopback is let in without.
            seed: Of what they ask and how long they think.
        """
        self._broker_url = broker_url
        self._headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._habits = [(models[0],), (models[1],), tuple(models)]
        self._seed = seed
        self._think_s = think_s
        self.views = [AgentView(name=name) for name in NAMES]
        self.view: View = view_for(self.views)

    async def run(self, *, turns: int | None = None) -> None:
        """Let all agents take turns until cancelled, or so many each."""
        async with httpx.AsyncClient(base_url=self._broker_url, headers=self._headers, timeout=AGENT_TIMEOUT) as http:
            with self.view:
                tasks = [asyncio.create_task(agent.run(turns=turns)) for agent in self._agents(http)]
                looking = asyncio.create_task(self._look(http))
                try:
                    await asyncio.gather(*tasks)
                finally:
                    looking.cancel()
                    await say_goodbye(tasks)

    async def _look(self, http: httpx.AsyncClient) -> None:
        """Keep the picture of the slots up to date; a broker that does not answer leaves it as it was."""
        while True:
            with contextlib.suppress(httpx.HTTPError, ValueError, KeyError):
                status = (await http.get("/status")).raise_for_status().json()
                self.view.slots([slot_line(slot) for slot in status["slots"]])
            await asyncio.sleep(LOOK_INTERVAL_S)

    def _agents(self, http: httpx.AsyncClient) -> list[Agent]:
        return [
            Agent(
                client=LeaseClient(http, session_key=f"demo:{view.name}"),
                view=view,
                models=models,
                think_s=self._think_s,
                random=Random(f"{self._seed}:{view.name}"),
                changed=self.view.changed,
            )
            for view, models in zip(self.views, self._habits, strict=True)
        ]


def slot_line(slot: dict[str, Any]) -> str:
    """Return what is on a slot, as in `gpu0  gemma-270m ready, 2 holders, making room for gemma-270m-f16`."""
    words = [
        f"{on['model']} {on['state']}, {on['holders']} {'holder' if on['holders'] == 1 else 'holders'}"
        for on in slot["residencies"]
    ]
    if slot["state"] != "open":
        words.append(slot["state"])
    if following := slot.get("makingRoomFor"):
        words.append(f"making room for {following}")
    return f"{slot['slot']}  {', '.join(words) or 'empty'}"


async def say_goodbye(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Let agents give back what they hold; who takes too long is cut short, and the lease runs out by itself."""
    for _ in range(2):
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait(tasks, timeout=GOODBYE_TIMEOUT_S)
