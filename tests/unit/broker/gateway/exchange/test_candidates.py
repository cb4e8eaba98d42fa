"""Candidates are values, and a plan around a plan hides nothing of it."""

import inspect

from broker.core.lease import ModelName
from broker.gateway.exchange.candidates import Candidate, CloudChoice, Listed, NarrowedPlan, ServingPlan
from broker.routing.catalogue import Cloud
from broker.routing.decision import Choice


def cloud_candidate():
    choice = Choice(model="cloud/x", upstream="acme", reserve_micro=7)
    upstream = CloudChoice(choice=choice, cloud=Cloud(name="cloud/x", upstream="acme", remote_name="x"), due_s=9.0)
    return Candidate(model=ModelName("cloud/x"), route="cloud", upstream=upstream)


def test_a_candidate_is_a_value():
    assert cloud_candidate() == cloud_candidate()
    assert not [name for name in Candidate.__struct_fields__ if callable(getattr(cloud_candidate(), name))]


class Told(ServingPlan):
    """Says no to everything, and keeps what it is told."""

    def __init__(self):
        self.told = []

    async def following(self):
        return None

    def has_more(self):
        return True

    def has_trusted(self):
        return False

    async def still_wants(self, candidate):
        return False

    def leave_line(self):
        self.told.append("line left")

    def close(self, tail):
        self.told.append(tail)


class Around(NarrowedPlan):
    """Leaves nobody out."""

    async def following(self):
        return await self._plan.following()


async def test_a_plan_around_a_plan_passes_on_every_question():
    questions = {name for name, _ in inspect.getmembers(ServingPlan, inspect.isfunction) if name != "following"}
    assert questions == {name for name in vars(NarrowedPlan) if not name.startswith("_")}
    inner = Told()
    around = Around(Around(inner))
    assert (around.has_more(), around.has_trusted(), await around.still_wants(cloud_candidate())) == (
        True,
        False,
        False,
    )
    around.leave_line()
    around.close([b"end"])
    assert inner.told == ["line left", [b"end"]]


async def test_what_is_listed_is_given_once_each_and_never_taken_back():
    first, second = Candidate(model=ModelName("a")), cloud_candidate()
    plan = Listed([first, second])
    assert plan.has_more()
    assert await plan.following() is first
    assert await plan.still_wants(first)
    assert await plan.following() is second
    assert not plan.has_more()
    assert await plan.following() is None
