"""One agent of the demo: thinks, asks for a model, waits for its lease, lets it write something, and releases it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import httpx

from hotseat.clients.agent import LeaseClient, ModelAddress, TurnLostError, Update, complete, endpoint_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

MAX_TOKENS = 20
REQUESTS_A_TURN = 2
RELEASE_TIMEOUT_S = 30.0

PROMPTS = (
    "The sun rises in the east, and",
    "A good queue is fair because",
    "The first thing a traveller notices about Lisbon is",
    "Water boils at a lower temperature on a mountain, since",
    "The old lighthouse keeper wrote in his diary:",
    "To bake bread you need flour, water, salt and",
    "Bees are important to farmers because",
    "The train was late again, so the passengers",
)


class AgentStage(StrEnum):
    """What a demo agent is doing; the words are shown as they are."""

    THINKING = "thinking"
    WAITING = "waiting"
    USING = "using"
    GAVE_BACK = "gave it back"
    INTERRUPTED = "interrupted"


@dataclass(slots=True, kw_only=True)
class AgentView:
    """What is shown of an agent. Only its agent changes it.

    Attributes:
        since_s: Monotonic time at which the stage began, seconds.
        waited_s: How long the last wait took, seconds.
        text: What the model is writing.
    """

    name: str
    stage: AgentStage = AgentStage.THINKING
    model: str = ""
    update: Update | None = None
    since_s: float = field(default_factory=time.monotonic)
    waited_s: float = 0.0
    text: str = ""
    turns: int = 0
    note: str = ""

    def enter(self, stage: AgentStage) -> None:
        """Begin a stage now."""
        self.stage, self.since_s = stage, time.monotonic()


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """An agent and its habits.

    Attributes:
        models: The models it asks for, in turn.
        think_s: Between two turns, seconds, on average.
        changed: Told after every change of the view.
    """

    client: LeaseClient
    view: AgentView
    models: tuple[str, ...]
    think_s: float
    random: Random
    changed: Callable[[AgentView], None]

    async def run(self, *, turns: int | None = None) -> None:
        """Take turns until cancelled, or so many."""
        while turns is None or self.view.turns < turns:
            await self._think()
            model = self.models[self.view.turns % len(self.models)]
            try:
                await self._take_turn(model)
            except (TurnLostError, httpx.HTTPStatusError) as error:
                self.view.note = str(error)
                self._enter(AgentStage.INTERRUPTED)
                continue
            self.view.turns += 1
            self._enter(AgentStage.GAVE_BACK)

    async def _think(self) -> None:
        self._enter(AgentStage.THINKING)
        await asyncio.sleep(self.think_s * self.random.uniform(0.5, 1.5))

    async def _take_turn(self, model: str) -> None:
        self.view.model, self.view.update, self.view.text = model, None, ""
        self._enter(AgentStage.WAITING)
        lease = await self.client.ask(model)
        try:
            endpoint = await self._wait_for_grant(lease)
            self.view.waited_s = time.monotonic() - self.view.since_s
            self._enter(AgentStage.USING)
            for _ in range(REQUESTS_A_TURN):
                await self._write(endpoint)
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RELEASE_TIMEOUT_S):
                    await self.client.release(lease)

    async def _wait_for_grant(self, lease: dict[str, Any]) -> ModelAddress:
        if lease["state"] != "queued":
            return endpoint_of(lease)
        async with aclosing(self.client.follow(lease["leaseId"])) as updates:
            async for update, current in updates:
                if update.state in {"active", "ending"}:
                    return endpoint_of(current)
                self.view.update = update
                self.changed(self.view)
        raise TurnLostError(f"the place in line was lost: {self.view.update.reason if self.view.update else ''}")

    async def _write(self, endpoint: ModelAddress) -> None:
        prompt = self.random.choice(PROMPTS)
        self.view.text = prompt
        pieces = complete(endpoint, model=self.view.model, prompt=prompt, max_tokens=MAX_TOKENS)
        async with aclosing(pieces):
            async for piece in pieces:
                self.view.text += piece
                self.changed(self.view)

    def _enter(self, stage: AgentStage) -> None:
        self.view.enter(stage)
        self.changed(self.view)
