"""An upstream is asked, without a socket: its bytes come from a list, its money from the memory store."""

import pytest

from broker.accounting.daily_counts import DailyCounts
from broker.accounting.metrics import Metrics
from broker.core.lease import ModelName
from broker.gateway.cloud.attempt import CloudAttempt
from broker.gateway.cloud.spending import Spending
from broker.gateway.cloud.upstreams import Clouds, CloudServer
from broker.gateway.exchange.attempt import FailedTryError
from broker.gateway.exchange.candidates import Candidate, CloudChoice, Listed
from broker.gateway.exchange.exchange import Exchange
from broker.http_client.errors import BrokenAnswerError, UnreachableError
from broker.protocol.error_bodies import ClientFacingError
from broker.routing.budget import BudgetLimits, Ledger, Limit
from broker.routing.catalogue import Cloud, Prices
from broker.routing.decision import Choice
from broker.store.memory.store import MemoryStore
from broker.store.port import PoolSettings
from tests.fakes.exchange_scene import BODY, Outgoing, Servers, answer_accounts, progress_of, whole

SAID = b'{"choices": [{"message": {"content": "far"}}], "usage": {"prompt_tokens": 10, "completion_tokens": 20}}'
EMPTY = b'{"choices": [{"message": {"content": ""}}]}'
EVENTS = b'data: {"choices": [{"delta": {"content": "far"}}]}\n\ndata: [DONE]\n\n'
RESERVED, COST = 1000, 50
STREAM = BODY[:-1] + b', "stream": true}'


def stream(status: int = 200) -> bytes:
    return whole(EVENTS, status).replace(b"application/json", b"text/event-stream")


class Scene:
    """One request, whose only candidate is an upstream that says one thing after the other."""

    def __init__(self, *said, limit=10_000, body=BODY) -> None:
        self.out, self.servers = Outgoing(), Servers(*said)
        self.progress = progress_of(self.out, body=body)
        accounts, store = answer_accounts(), MemoryStore(clock=lambda: 1.0)
        self.clouds = Clouds(
            [CloudServer(name="u", base_url="https://u.example/v1", api_key="sk-1")], accounts, head_s=1.0
        )
        self.clouds.connections["u"] = self.servers
        self.ledger = Ledger(limits=BudgetLimits(total=Limit(day_micro=limit)), books=store.spending)
        book = DailyCounts(store.days, source="x", every_s=1.0, kept_s=1.0, unix_s=lambda: 0.0)
        self.store, self.limit, self.spending = store, limit, Spending(self.ledger, Metrics(), book)

    async def serve(self):
        await self.store.init(PoolSettings(models=()))
        choice = Choice(model="cloud/u", upstream="u", remote_name="big", reserve_micro=RESERVED)
        cloud = Cloud(name="cloud/u", upstream="u", remote_name="big", prices=Prices(prompt=1_000_000, reply=2_000_000))
        candidate = Candidate(
            model=ModelName("cloud/u"), route="cloud", upstream=CloudChoice(choice=choice, cloud=cloud)
        )

        def attempt(turn):
            return CloudAttempt(self.clouds, self.spending, turn)

        try:
            await Exchange(self.progress, attempt, reader_stall_s=60.0).serve(Listed([candidate]))
        finally:
            await self.spending.close()

    async def spent(self):
        return self.limit - await self.spending.left_micro("anonymous")

    @property
    def statuses(self):
        return [message["status"] for message in self.out.messages if "status" in message]


async def test_an_answer_goes_out_as_it_came_and_costs_what_it_says():
    scene = Scene(whole(SAID))
    await scene.serve()
    assert (scene.out.body, scene.progress.route) == (SAID, "cloud")
    assert await scene.spent() == COST


async def test_an_upstream_that_gave_no_answer_is_asked_once_more_and_then_given_up():
    again = Scene(UnreachableError("no"), whole(SAID))
    await again.serve()
    assert (again.out.body, again.progress.retries, await again.spent()) == (SAID, 1, COST)
    scene = Scene(UnreachableError("no"), UnreachableError("no"), whole(SAID))
    with pytest.raises(FailedTryError):
        await scene.serve()
    assert (len(scene.servers.asked), await scene.spent()) == (2, 0)


async def test_a_call_that_may_have_been_billed_is_booked_as_reserved():
    scene = Scene(BrokenAnswerError("no"), whole(SAID))
    await scene.serve()
    assert await scene.spent() == RESERVED + COST


async def test_an_answer_of_no_use_is_asked_for_once_more():
    scene = Scene(whole(EMPTY), whole(SAID))
    await scene.serve()
    assert (scene.out.body, scene.progress.retries) == (SAID, 1)


async def test_what_the_budget_does_not_hold_is_not_asked_for():
    scene = Scene(whole(SAID), limit=RESERVED - 1)
    with pytest.raises(ClientFacingError) as caught:
        await scene.serve()
    assert (caught.value.trouble.code, scene.servers.asked) == ("budget_refused", [])


async def test_a_refusal_of_the_request_goes_to_the_client_and_costs_nothing():
    scene = Scene(whole(b'{"error": {"message": "too long"}}', status=400))
    await scene.serve()
    assert (scene.statuses, b"too long" in scene.out.body, await scene.spent()) == ([400], True, 0)


@pytest.mark.parametrize("status", [200, 201, 203])
async def test_every_success_of_an_upstream_is_passed_on_also_on_a_stream_that_has_begun(status):
    plain = Scene(whole(SAID, status))
    await plain.serve()
    assert (plain.statuses, plain.out.body) == ([status], SAID)
    begun = Scene(stream(status), body=STREAM)
    await begun.progress.commit()
    await begun.serve()
    assert begun.statuses == [200]
    assert begun.out.body.endswith(EVENTS)


async def test_what_is_no_stream_is_the_error_that_ends_one_which_has_begun():
    scene = Scene(whole(SAID), body=STREAM)
    await scene.progress.commit()
    heard = len(scene.out.messages)
    with pytest.raises(ClientFacingError) as caught:
        await scene.serve()
    assert (caught.value.trouble.code, len(scene.out.messages)) == ("upstream_error", heard)
