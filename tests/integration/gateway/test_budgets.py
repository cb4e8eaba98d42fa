"""Budgets: reserved before a call to an upstream, settled after it from its answer; used up means local only."""

import asyncio

import pytest

from broker.core.errors import StoreUnavailableError
from broker.routing.budget import periods
from tests.fakes.broker_scene import key_entry, until
from tests.fakes.cloud_scene import NEAR, SAID, alias, routed, routed_scene, stub, upstream
from tests.fakes.gateway_scene import CHAT, body_of, streamed
from tests.fakes.scripted_server import DONE, stream, whole, word

COST = 1400
"""Micro-units of ``SAID``: 1,000 prompt tokens at 1.00 and 100 of the reply at 4.00 per million."""
AUTO = alias("auto", "cloud/acme", "a", prefer="listed")


async def spent(scene, key: str = "*") -> int:
    from time import time  # noqa: PLC0415

    return (await scene.store.spending.spent([(key, periods(time())[0])]))[0]


async def settled(scene, micro: int, key: str = "*") -> None:
    async def is_there() -> bool:
        return await spent(scene, key) == micro

    await until(is_there)


async def test_a_call_costs_what_its_usage_says_for_its_key_and_for_all(tmp_path):
    async with stub() as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url), keys=(key_entry("k"), key_entry("other")))
        async with routed_scene({"a": [NEAR]}, config) as scene:
            assert (await scene.client.post(CHAT, json=body_of("cloud/acme"))).status_code == 200
            await settled(scene, COST)
            assert (await scene.client.post(CHAT, json=body_of("cloud/acme"), headers=scene.auth("other"))).is_success
            await settled(scene, 2 * COST)
            assert (await spent(scene, "k"), await spent(scene, "other")) == (COST, COST)


async def test_a_used_up_budget_means_local_only(tmp_path):
    keys = (key_entry("k", day_budget=0.006), key_entry("rich"))
    async with stub() as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url), aliases=(AUTO,), keys=keys)
        async with routed_scene({"a": [NEAR]}, config) as scene:
            routes = []
            for calls in (1, 2, 3, 4):
                answer = await scene.client.post(CHAT, json=body_of("auto"))
                routes.append((answer.headers["x-hotseat-route"], answer.headers["x-hotseat-reason"]))
                if routes[-1][0] == "cloud":
                    await settled(scene, calls * COST, "k")
            # 0.004 and something is reserved for the reply's room: it fits once and, after 0.0014, once more.
            assert [route for route, _ in routes] == ["cloud", "cloud", "local", "local"]
            assert routes[2] == ("local", "budget")
            answer = await scene.client.post(CHAT, json=body_of("cloud/acme"))
            assert (answer.status_code, answer.json()["error"]["code"]) == (429, "budget_refused")
            assert answer.headers["x-hotseat-reason"] == "budget_refused"
            answer = await scene.client.post(CHAT, json=body_of("cloud/acme"), headers=scene.auth("rich"))
            assert answer.status_code == 200
            assert len(cloud.asked) == 3


async def test_calls_in_flight_together_never_reserve_more_than_there_is(tmp_path):
    slow = [0.5, *SAID]
    async with stub(slow) as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url), aliases=(AUTO,), day_budget=0.013)
        async with routed_scene({"a": [NEAR]}, config) as scene:
            answers = await asyncio.gather(*(scene.client.post(CHAT, json=body_of("auto")) for _ in range(10)))
            assert all(answer.status_code == 200 for answer in answers)
            assert len(cloud.asked) == 3, "4,000 and a few micro-units each, of 13,000"
            await settled(scene, 3 * COST)


@pytest.mark.parametrize(
    "script, cost",
    [
        (stream(word("x"), b'data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5}}\n\n', DONE), 30),
        (stream(word('"usage":{"prompt_tokens":1,"completion_tokens":1}'), DONE), None),
        (whole(b'{"choices":[{"message":{"content":"x"}}]}'), None),
        ([*stream(word("x"))[:-1], None], None),
        (whole(b"{}", status=400), 0),
        (whole(b"{}", status=503), 0),
    ],
    ids=["stream", "words of usage", "no usage", "broken off", "its error", "busy"],
)
async def test_what_does_not_say_its_cost_costs_what_was_reserved_and_an_error_costs_nothing(tmp_path, script, cost):
    async with stub(script) as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url, tries=1))
        async with routed_scene({"a": [NEAR]}, config) as scene:
            asked = streamed(scene, model="cloud/acme", max_tokens=100)
            await asked
            if cost is not None:
                await settled(scene, cost)
            else:
                await asyncio.sleep(0.2)
                assert 400 < await spent(scene) < 500, "the reply's room and a few words"


async def test_a_client_that_goes_away_leaves_what_was_reserved(tmp_path):
    async with stub([30.0]) as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url))
        async with routed_scene({"a": [NEAR]}, config) as scene:
            asked = asyncio.create_task(scene.client.post(CHAT, json=body_of("cloud/acme", max_tokens=100)))
            await until(lambda: cloud.asked)
            reserved = await spent(scene)
            assert reserved > 400
            asked.cancel()
            await until(lambda: cloud.open == 0)
            assert await spent(scene) == reserved


async def break_off(scene, cloud, number: int, **more: object) -> None:
    """Ask, and go away once the upstream has the request, one after the other."""
    for _ in range(number):
        before = len(cloud.asked)
        asked = asyncio.create_task(scene.client.post(CHAT, json=body_of("cloud/acme", max_tokens=1000, **more)))
        await until(lambda: len(cloud.asked) > before or asked.done())  # noqa: B023
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await until(lambda: cloud.open == 0)


async def test_what_one_key_breaks_off_leaves_the_others_their_part_of_the_shared_budget(tmp_path):
    keys = (key_entry("loud"), key_entry("quiet"))
    async with stub(*[[30.0]] * 5, SAID) as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url), keys=keys, day_budget=0.0277)
        async with routed_scene({"a": [NEAR]}, config) as scene:
            await break_off(scene, cloud, 10)
            assert len(cloud.asked) == 5, "4,000 and a few micro-units each, of three quarters of 27,700"
            refused = await scene.client.post(CHAT, json=body_of("cloud/acme"))
            assert refused.json()["error"]["code"] == "budget_refused"
            quiet = await scene.client.post(CHAT, json=body_of("cloud/acme"), headers=scene.auth("quiet"))
            assert (quiet.status_code, quiet.headers["x-hotseat-route"]) == (200, "cloud")
            await until_untold(scene, "quiet", 0)


async def until_untold(scene, key: str, micro: int) -> None:
    await settled(scene, micro, f"?{key}")


async def test_a_key_that_shares_with_nobody_may_use_all_of_the_budget(tmp_path):
    async with stub(*[[30.0]] * 3, SAID) as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url), keys=(key_entry("k"),), day_budget=0.0165)
        async with routed_scene({"a": [NEAR]}, config) as scene:
            await break_off(scene, cloud, 3)
            assert (await scene.client.post(CHAT, json=body_of("cloud/acme"))).headers["x-hotseat-route"] == "cloud"


async def test_a_stream_that_its_client_breaks_off_costs_its_prompt_and_what_came(tmp_path):
    script = [*stream(word("x"))[:-1], 30.0]
    async with stub(script) as cloud:
        config = routed(
            upstream(tmp_path, "acme", cloud.url), keys=(key_entry("k"), key_entry("other")), day_budget=1.0
        )
        async with routed_scene({"a": [NEAR]}, config) as scene:
            body = body_of("cloud/acme", stream=True, max_tokens=1000)
            async with scene.client.stream("POST", CHAT, json=body) as answer:
                async for _ in answer.aiter_bytes():
                    break
            await until(lambda: cloud.open == 0)
            await until(lambda: _is_between(scene, 1000, 1500))
            assert await spent(scene, "?k") == await spent(scene), "nobody told it"


async def _is_between(scene, least: int, most: int) -> bool:
    return least < await spent(scene) < most


async def test_while_the_books_are_away_nothing_is_spent(tmp_path):
    async def away(*_: object) -> bool:
        raise StoreUnavailableError("away")

    async with stub() as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url), aliases=(AUTO,), day_budget=1.0)
        async with routed_scene({"a": [NEAR]}, config) as scene:
            accounts = scene.store.spending
            for method in ("spent", "add_within"):
                setattr(accounts, method, away)
                answer = await scene.client.post(CHAT, json=body_of("auto"))
                assert (answer.status_code, answer.headers["x-hotseat-route"]) == (200, "local"), method
                delattr(accounts, method)
            assert cloud.accepted == 0
            assert (await scene.client.post(CHAT, json=body_of("auto"))).headers["x-hotseat-route"] == "cloud"
