"""What the demo says is true, told once, and fits a terminal."""

import io

import pytest
from rich.console import Console

from hotseat.clients.agent import Update
from hotseat.demo.agent import AgentStage, AgentView
from hotseat.demo.agents import slot_line
from hotseat.demo.view import LiveView, Narrator, PlainView, bar, place, sentence_of

WAITING = Update(state="queued", position=2, eta_s=(8.2, 5.0, 12.0), residency="loading", progress=40)


def agent(stage: AgentStage, **known: object) -> AgentView:
    return AgentView(name="ada", stage=stage, model="gemma-270m", **known)


def test_place_names_position_expectation_and_what_it_hangs_on() -> None:
    assert place(WAITING) == "place 2, in about 8 s (5-12), its model is loading"


def test_a_wait_that_is_overdue_is_not_said_to_be_none() -> None:
    overdue = Update(state="queued", position=1, eta_s=(0.0, 0.0, 18.0), residency="loading")
    assert place(overdue) == "place 1, in about 1 s (0-18), its model is loading"


def test_unknown_expectation_is_left_out_and_not_invented() -> None:
    assert place(Update(state="queued", position=1, residency="absent")) == "place 1, its model waits to be loaded"


@pytest.mark.parametrize(
    "shown, sentence",
    [
        (agent(AgentStage.WAITING), "asks for gemma-270m"),
        (agent(AgentStage.USING, waited_s=2.34), "has gemma-270m after 2.3 s"),
        (agent(AgentStage.GAVE_BACK, turns=3, text="The sun\nrises"), "gives gemma-270m back (turn 3): The sun rises"),
        (
            agent(AgentStage.INTERRUPTED, note="the model server is gone"),
            "asks again, because the model server is gone",
        ),
        (agent(AgentStage.THINKING), ""),
    ],
    ids=lambda value: value.stage.value if isinstance(value, AgentView) else "",
)
def test_each_stage_has_its_sentence(shown: AgentView, sentence: str) -> None:
    assert sentence_of(shown) == sentence


def test_nothing_is_told_twice() -> None:
    narrator, view = Narrator(), agent(AgentStage.WAITING, update=WAITING)
    first = narrator.line(view)
    assert first is not None
    assert first.endswith("its model is loading")
    assert narrator.line(view) is None


def test_plain_lines_go_to_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainView() as view:
        view.changed(agent(AgentStage.WAITING, update=WAITING))
        view.say("the worker was killed by signal 9; starting it again")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" s  ", 1)[1][:10] for line in lines] == ["ada   wait", "the worker"]


def test_live_table_shows_each_agent_within_the_width() -> None:
    agents = [
        agent(AgentStage.WAITING, update=WAITING),
        AgentView(name="ben", stage=AgentStage.USING, text="word " * 60),
    ]
    console = Console(file=io.StringIO(), width=80, height=24)
    view = LiveView(agents, console=console)
    view.say("news " * 40)
    view.slots(["gpu0  gemma-270m ready, 2 holders"])
    console.print(view.render())
    shown = console.file.getvalue()
    assert "gpu0  gemma-270m ready" in shown
    assert "ada" in shown
    assert "ben" in shown
    assert "████░░░░░░" in shown
    assert max(len(line) for line in shown.splitlines()) <= 80


def test_bar_stays_within_its_width() -> None:
    assert [bar(percent) for percent in (-5, 0, 50, 100, 130)] == ["░" * 10, "░" * 10, "█████░░░░░", "█" * 10, "█" * 10]


@pytest.mark.parametrize(
    "known, line",
    [
        ({"residencies": []}, "gpu0  empty"),
        ({"residencies": [{"model": "a", "state": "ready", "holders": 1}]}, "gpu0  a ready, 1 holder"),
        (
            {"residencies": [{"model": "a", "state": "ready", "holders": 2}], "makingRoomFor": "b"},
            "gpu0  a ready, 2 holders, making room for b",
        ),
        ({"residencies": [], "state": "offline"}, "gpu0  offline"),
    ],
)
def test_slot_is_told_in_one_line(known: dict, line: str) -> None:
    assert slot_line({"slot": "gpu0", "state": "open"} | known) == line
