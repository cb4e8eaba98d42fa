"""Shows the demo's agents: a live table on a terminal, one line a change elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hotseat.demo.agent import AgentStage, AgentView

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from hotseat.clients.agent import Update

REFRESHES_PER_S = 8
LOG_LINES = 8
STYLES = {
    AgentStage.THINKING: "dim",
    AgentStage.WAITING: "yellow",
    AgentStage.USING: "bold green",
    AgentStage.GAVE_BACK: "dim",
    AgentStage.INTERRUPTED: "red",
}
RESIDENCIES = {
    "absent": "its model waits to be loaded",
    "loading": "its model is loading",
    "ready": "its model is ready",
    "unloading": "its model makes room",
}


class View(Protocol):
    """What the demo shows itself through."""

    def __enter__(self) -> Self:
        """Begin to show the agents."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""

    def changed(self, agent: AgentView) -> None:
        """Show that an agent has changed."""

    def slots(self, lines: Sequence[str]) -> None:
        """Show what is on each slot now."""

    def say(self, line: str) -> None:
        """Show that something else happened: a part died and was started again."""


def view_for(agents: Sequence[AgentView]) -> View:
    """Return the live table on a terminal, plain lines in a file or a pipe."""
    return LiveView(agents) if sys.stdout.isatty() else PlainView()


class Narrator:
    """Turns changes of agents into sentences, each told once."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}
        self._start_s = time.monotonic()

    def line(self, agent: AgentView) -> str | None:
        """Return what is new about an agent, or None."""
        sentence = sentence_of(agent)
        if sentence == self._told.get(agent.name):
            return None
        self._told[agent.name] = sentence
        return self.stamp(f"{agent.name:<4}  {sentence}") if sentence else None

    def stamp(self, line: str) -> str:
        """Put the seconds since the start before a line."""
        return f"{time.monotonic() - self._start_s:7.1f} s  {line}"


def sentence_of(agent: AgentView) -> str:
    """Return what an agent does, in words that change only when there is news."""
    if agent.stage is AgentStage.WAITING:
        return f"asks for {agent.model}" if agent.update is None else f"waits for {agent.model}: {place(agent.update)}"
    if agent.stage is AgentStage.USING:
        return f"has {agent.model} after {agent.waited_s:.1f} s"
    if agent.stage is AgentStage.GAVE_BACK:
        return f"gives {agent.model} back (turn {agent.turns}): {one_line(agent.text)}"
    if agent.stage is AgentStage.INTERRUPTED:
        return f"asks again, because {agent.note}"
    return ""


def place(update: Update) -> str:
    """Return position, expected time and what the wait hangs on."""
    parts = [f"place {update.position}"] if update.position is not None else []
    if update.eta_s is not None:
        eta, low, high = update.eta_s
        parts.append(f"in about {max(1.0, eta):.0f} s ({low:.0f}-{high:.0f})")  # nobody is served in 0 s
    if update.residency in RESIDENCIES:
        parts.append(RESIDENCIES[update.residency])
    return ", ".join(parts)


def one_line(text: str) -> str:
    """Return text without line breaks."""
    return " ".join(text.split())


class PlainView:
    """One line a change, for logs and pipes."""

    def __init__(self) -> None:
        self._narrator = Narrator()

    def __enter__(self) -> Self:
        """Begin to show; a log needs no preparation."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave everything as it is: nothing has to be put back."""

    def changed(self, agent: AgentView) -> None:
        """Print what is new about the agent, if anything is."""
        if (line := self._narrator.line(agent)) is not None:
            print(line, flush=True)

    def slots(self, lines: Sequence[str]) -> None:
        """Print nothing: the agents' lines say it."""

    def say(self, line: str) -> None:
        """Print a line, with the seconds since the start before it."""
        print(self._narrator.stamp(line), flush=True)


class LiveView:
    """A table that is redrawn in place, and the latest news below it."""

    def __init__(self, agents: Sequence[AgentView], *, console: Console | None = None) -> None:
        self._agents = agents
        self._narrator = Narrator()
        self._slots: list[str] = []
        self._news: deque[str] = deque(maxlen=LOG_LINES)
        self._live = Live(
            console=console, get_renderable=self.render, refresh_per_second=REFRESHES_PER_S, transient=False
        )

    def __enter__(self) -> Self:
        """Begin to draw the table."""
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Draw once more and leave the picture standing."""
        self._live.stop()

    def changed(self, agent: AgentView) -> None:
        """Remember what is new; the next refresh draws it."""
        if (line := self._narrator.line(agent)) is not None:
            self._news.append(line)

    def slots(self, lines: Sequence[str]) -> None:
        """Remember the slots; the next refresh draws them."""
        self._slots = list(lines)

    def say(self, line: str) -> None:
        """Remember a line as news; the next refresh draws it below the table."""
        self._news.append(self._narrator.stamp(line))

    def render(self) -> Group:
        """Return the whole picture."""
        table = Table(box=None, expand=True, header_style="dim", pad_edge=False)
        table.add_column("agent", width=5)
        table.add_column("turns", width=5, justify="right")
        table.add_column("model", width=14)
        table.add_column("is", width=11)
        table.add_column("", ratio=1, no_wrap=True, overflow="ellipsis")
        for agent in self._agents:
            style = STYLES[agent.stage]
            table.add_row(agent.name, str(agent.turns), agent.model, Text(agent.stage.value, style), detail_of(agent))
        news = [Text(line, "dim", no_wrap=True, overflow="ellipsis") for line in self._news]
        slots = [Text(line, "bold", no_wrap=True, overflow="ellipsis") for line in self._slots]
        return Group(*slots, Text(), table, Text(), *news)


def detail_of(agent: AgentView) -> Text:
    """Return the last column: the wait, or what the model is writing."""
    if agent.stage is AgentStage.WAITING and agent.update is not None:
        waited_s = time.monotonic() - agent.since_s
        loading = f"{bar(agent.update.progress)} " if agent.update.residency == "loading" else ""
        return Text(f"{loading}{waited_s:.0f} s so far, {place(agent.update)}", "yellow")
    if agent.stage is AgentStage.USING:
        return Text(one_line(agent.text)[-70:], "green")
    return Text(one_line(agent.text)[:70] if agent.turns else "", "dim")


def bar(percent: int, *, width: int = 10) -> str:
    """Return a small progress bar."""
    full = round(width * max(0, min(100, percent)) / 100)
    return "█" * full + "░" * (width - full)
