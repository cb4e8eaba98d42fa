"""One driver in trouble is its own affair: the others are asked all the same."""

from typing import ClassVar

import pytest

from gpu_worker.drivers.dispatcher import Dispatcher
from gpu_worker.drivers.port import Capability, Driver, Launch, Recipe, RecipeInspection, StuckError


class Plain(Driver):
    """Remembers what it was asked."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.ADOPT})

    def __init__(self, trouble=None):
        self.trouble, self.asked = trouble, []

    def note(self, *what):
        self.asked.append(what)
        if self.trouble is not None:
            raise self.trouble

    def server(self, launch):
        self.note("server", launch.recipe.model)

    def inspect(self, recipe):
        self.note("inspect", recipe.model)
        return RecipeInspection(stamp=recipe.model)

    async def prepare(self):
        self.note("prepare")

    async def adopt(self, slot, recipes):
        self.note("adopt", slot, *(recipe.model for recipe in recipes))
        return [f"server of {recipe.model}" for recipe in recipes]

    async def close(self):
        self.note("close")


def recipe(model, driver):
    return Recipe(model=model, driver=driver, served_name=model, kind="chat", memory_mib=1)


A, B = recipe("a", "one"), recipe("b", "other")


def test_the_driver_that_the_entry_names_is_asked_and_no_other():
    one, other = Plain(), Plain()
    drivers = Dispatcher({"one": one, "other": other})
    assert drivers.inspect(B).stamp == "b"
    drivers.server(Launch(slot="gpu0", recipe=A, generation=1, key="k"))
    assert (one.asked, other.asked) == ([("server", "a")], [("inspect", "b")])


async def test_each_driver_looks_for_its_own_though_no_model_of_it_is_left():
    one, other = Plain(), Plain()
    assert await Dispatcher({"one": one, "other": other}).adopt("gpu0", [B]) == ["server of b"]
    assert (one.asked, other.asked) == ([("adopt", "gpu0")], [("adopt", "gpu0", "b")])


async def test_what_cannot_be_killed_is_told_after_every_driver_has_looked():
    stuck, also, other = Plain(StuckError("pid 7 survives")), Plain(StuckError("unit x")), Plain()
    with pytest.raises(StuckError, match="pid 7 survives; unit x"):
        await Dispatcher({"one": stuck, "more": also, "other": other}).adopt("gpu0", [A, B])
    assert other.asked == [("adopt", "gpu0", "b")]


async def test_a_driver_that_cannot_prepare_or_close_keeps_no_other_from_it():
    broken, other = Plain(OSError("no process to be had")), Plain()
    drivers = Dispatcher({"one": broken, "other": other})
    await drivers.prepare()
    await drivers.close()
    assert other.asked == [("prepare",), ("close",)]
