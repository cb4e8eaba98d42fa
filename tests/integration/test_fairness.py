"""Agents take turns on real llama.cpp servers: a busy model makes room in time, a flood gets its share and no more."""

import asyncio
import importlib.util

import pytest

from bench.fairness import Flood, Setting, Switch, measure

SETTING = Setting(slice_min_s=3.0, tokens=64, before_s=4.0, flood_s=25.0)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="needs hotseat[demo]"),
]


@pytest.fixture(scope="module")
def scenes() -> tuple[Switch, Flood]:
    return asyncio.run(measure(SETTING))


def test_a_busy_model_makes_room_in_its_slice_and_finishes_its_streams(scenes: tuple[Switch, Flood]) -> None:
    switch, _ = scenes
    assert switch.load_started_s <= switch.bound_s
    assert switch.streams.broken == []
    assert switch.streams.whole > 0


def test_a_flooding_session_gets_its_share_and_no_more(scenes: tuple[Switch, Flood]) -> None:
    _, flood = scenes
    assert flood.jain >= 0.9, flood
