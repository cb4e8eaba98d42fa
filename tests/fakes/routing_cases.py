"""Reads the tables of docs/routing-cases.md and docs/routing.md: a request, a state, and what must be decided.

What the words mean says docs/routing-cases.md.
"""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from broker.config.routing_config import firewall, micro, table
from broker.core.lease import Priority
from broker.routing.decision import RouteDecision
from broker.routing.request.answer_form import AnswerForm
from broker.routing.request.effort import Effort
from broker.routing.request.purpose import Purpose, Task
from broker.routing.request.request import Content, Described, Image, RequestKind
from broker.routing.route import Router, RouteState
from broker.routing.speeds import Speed
from broker.routing.variants import ModelState
from schemas.config.file import ConfigSource, models_of
from schemas.config.routing import RoutingSection

ROOT = Path(__file__).parents[2]
MIB = 1024 * 1024


@dataclass(frozen=True)
class Case:
    """A row of a table."""

    request: str
    state: str
    decision: str
    story: str

    def __str__(self) -> str:
        return f"{self.request} | {self.state}"


def cases_of(page: str) -> list[Case]:
    """The rows of every table of a page whose head is request, state, decision, because."""
    rows: list[Case] = []
    inside = False
    for line in (ROOT / page).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if [cell.lower() for cell in cells] == ["request", "state", "decision", "because"]:
            inside = True
        elif not cells:
            inside = False
        elif inside and set(line) - set("|- "):
            rows.append(Case(*(cell.strip("`") for cell in cells)))
    return rows


def router_of(page: str = "docs/routing.md") -> Router:
    """The router of the page's configuration: its first TOML block."""
    block = re.search(r"```toml\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert block
    raw = tomllib.loads(block[1])
    source = ConfigSource(raw)
    routing, models = source.section(RoutingSection, "routing"), models_of(source)
    source.done()
    return Router(table=table(routing, models), firewall=firewall(routing, lambda text: "ghp" in text))


def request_of(words: str) -> Described:
    """The described request of a cell."""
    name, *rest = words.split()
    values = dict(word.split("=", 1) for word in rest if "=" in word and not word.startswith(("says:", "asks:")))
    flags = {word for word in rest if "=" not in word}
    kinds = [kind for kind in RequestKind if kind.value in flags]
    images = [Image()] * ("image" in flags) + [Image(marked=True)] * ("screenshot" in flags)
    content = Content(
        texts=tuple(word.removeprefix("says:").replace("_", " ") for word in rest if word.startswith("says:")),
        images=tuple(images),
        pictured=bool(images),
        tools=int(values.get("tools", 0)),
        structured="json" in flags,
        prompt_tokens=int(values.get("tokens", 100)),
        reply_tokens=int(values["reply"]) if "reply" in values else None,
        tool_calls=int(values.get("calls", 0)),
        form=AnswerForm(depth=int(values.get("depth", 0)), is_given="depth" in values),
        effort=Effort(values["effort"]) if "effort" in values else None,
        purpose=Purpose(question=" ".join(word[5:].replace("_", " ") for word in rest if word.startswith("asks:"))),
        hidden="file" if "hidden" in flags else "costly" if "costly" in flags else "",
    )
    return Described(
        name=name,
        kind=kinds[0] if kinds else RequestKind.CHAT,
        content=content,
        size_bytes=int(values.get("size", "1MiB").removesuffix("MiB")) * MIB,
        key_private="key-private" in flags,
        header_private="header-private" in flags,
        deadline_s=float(values["deadline"]) if "deadline" in values else None,
        priority=Priority(values.get("class", "normal")),
        task=Task(values["task"]) if "task" in values else None,
        usual_task=Task(values["key-task"]) if "key-task" in values else None,
        quantisations=tuple(values["quantisation"].split(",")) if "quantisation" in values else (),
    )


def state_of(words: str, router: Router) -> RouteState:
    """The state of a cell."""
    models: dict[str, ModelState] = {}
    others: dict[str, str] = {}
    speeds: dict[str, Speed] = {}
    for word in words.split():
        name, _, value = word.partition("=")
        if word.startswith("speed:"):
            first_s, per_s = value.split("/")
            speeds[name[6:]] = Speed(first_s=float(first_s), tokens_per_s=float(per_s), answers=1.0)
        elif word == "all-warm":
            models |= {variant: ModelState(ready=True, wait_s=0.0) for variant in _variants(router)}
        elif name in _variants(router):
            models[name] = _model_of(value)
        else:
            others[name] = value
    left = others.pop("left", None)
    state = RouteState(
        models=models,
        free_mib=int(others.pop("free", 0)),
        open_breakers=frozenset(name for name, value in others.items() if value == "open"),
        allowance_micro=None if left is None else micro(float(left)),
        session_private="session-private" in others,
        speeds=speeds,
    )
    unknown = {name for name, value in others.items() if value not in ("open", "closed")} - {"session-private", "—"}
    assert not unknown, unknown
    return state


def _variants(router: Router) -> set[str]:
    return {
        variant.name
        for entry in router.table.entries.values()
        for one in entry.candidates
        for variant in getattr(one, "variants", ())
    }


def _model_of(value: str) -> ModelState:
    value, _, busy = value.partition(",")
    if value == "warm":
        return ModelState(ready=True, wait_s=0.0, busy=bool(busy))
    cold, _, wait = value.rpartition(":")
    return ModelState(ready=not cold, wait_s=None if wait == "?" else float(wait), busy=bool(busy))


def told(decision: RouteDecision) -> str:
    """A decision in the words of the tables."""
    choices = " > ".join(choice.model + "!" * choice.late for choice in decision.choices) or "refused"
    private = f" (private: {decision.private})" if decision.private else ""
    return f"{decision.reason}: {choices}{private}"
