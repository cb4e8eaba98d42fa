"""``POST /activity``: what a hook publishes over HTTP, over a real socket."""

from broker.access.principals import Scope
from tests.fakes.broker_scene import config_of, key_entry, memory_scene, until

ACTIVE = {"sessionKey": "agent:main:main", "model": "a", "ttlSeconds": 60}


async def leases_of(scene, headers=None) -> list[dict]:
    return (await scene.client.get("/queue", headers=headers)).json()["leases"]


async def test_activity_keeps_a_model_warm_until_the_conversation_is_over():
    async with memory_scene() as scene:
        answer = await scene.client.post("/activity", json=ACTIVE | {"seq": 1, "priority": "interactive"})
        assert (answer.status_code, answer.content) == (202, b"")
        await until(lambda: leases_of(scene))
        (lease,) = await leases_of(scene)
        seen = (lease["sessionKey"], lease["model"], lease["intent"], lease["state"], lease["priority"])
        assert seen == ("agent:main:main", "a", "warm", "active", "interactive")
        await scene.client.post("/activity", json={**ACTIVE, "type": "release", "ttlSeconds": None, "seq": 2})

        async def over():
            return not await leases_of(scene)

        await until(over)


async def test_a_message_that_comes_late_changes_nothing():
    async with memory_scene() as scene:
        await scene.client.post("/activity", json=ACTIVE | {"seq": 5, "type": "release"})
        assert (await scene.client.post("/activity", json=ACTIVE | {"seq": 4.0})).status_code == 202
        assert (await scene.client.post("/activity", json=ACTIVE | {"seq": 4.5})).status_code == 422
        await scene.client.post("/activity", json=ACTIVE | {"sessionKey": "other", "seq": 1})
        await until(lambda: leases_of(scene))
        assert [lease["sessionKey"] for lease in await leases_of(scene)] == ["other"]


async def test_a_key_may_do_no_more_than_with_the_lease_calls():
    one = key_entry("one", Scope.LEASE, Scope.OBSERVE, models=("a",), max_priority="normal", max_ttl_s=100)
    async with memory_scene(config_of(keys=(one, key_entry("two")))) as scene:
        mine, yours = scene.auth("one"), scene.auth("two")

        async def refusal(headers=None, **more) -> tuple[int, str]:
            answer = await scene.client.post("/activity", json=ACTIVE | more, headers=headers)
            return answer.status_code, answer.json()["code"]

        assert await refusal() == (401, "unauthorised")
        assert await refusal(mine, model="b") == (403, "not_allowed")
        assert await refusal(mine, priority="interactive") == (403, "not_allowed")
        assert await refusal(mine, ttlSeconds=200) == (403, "not_allowed")
        assert await refusal(mine, text="hello") == (422, "invalid")
        assert (await scene.client.post("/activity", json=ACTIVE, headers=mine)).status_code == 202
        await until(lambda: leases_of(scene, mine))
        for kind in ("release", "activity"):
            answer = await scene.client.post("/activity", json=ACTIVE | {"type": kind}, headers=yours)
            assert answer.status_code == 202
        theirs = [lease for lease in await leases_of(scene, mine) if lease["who"] == "ingress:one"]
        assert theirs, "what another key calls the same is another session"
        warm = {"sessionKey": ACTIVE["sessionKey"], "model": "a", "intent": "warm"}
        assert (await scene.client.post("/release", json=warm, headers=mine)).json()["reason"] == "released"


async def test_a_key_opens_no_more_leases_than_it_may_have():
    async with memory_scene(config_of(keys=(key_entry("one", Scope.LEASE, Scope.OBSERVE, max_open=2),))) as scene:
        mine = scene.auth("one")

        async def status(session: str, **more) -> int:
            body = ACTIVE | {"sessionKey": session} | more
            return (await scene.client.post("/activity", json=body, headers=mine)).status_code

        async def seen(count: int):
            async def enough() -> bool:
                return len(await leases_of(scene, mine)) == count

            await until(enough)

        await scene.lease("by hand", headers=mine)
        assert await status("first") == 202
        await seen(2)
        full = await scene.client.post("/activity", json=ACTIVE | {"sessionKey": "second"}, headers=mine)
        assert (full.status_code, full.json()["code"]) == (429, "tenant_full")
        assert "2 open leases, of 2" in full.json()["detail"]
        assert int(full.headers["retry-after"]) >= 1
        assert await status("first") == 202, "what it has it may prolong"
        assert await status("first", type="release") == 202
        await seen(1)
        assert await status("second") == 202


async def test_messages_that_overtake_the_count_meet_the_bound_on_the_stream():
    async with memory_scene() as scene:
        fields = {"type": "activity", "model": "a", "maxOpen": "1"}
        for session, publisher in (("first", "one"), ("second", "one"), ("other", "two")):
            message = fields | {"sessionKey": session, "publisher": publisher}
            await scene.store.publish_ingress(message, limit=10)

        async def both() -> bool:
            return {lease["sessionKey"] for lease in await leases_of(scene)} == {"first", "other"}

        await until(both)
