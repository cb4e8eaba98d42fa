"""The lease calls over a real socket."""

import asyncio
import json
import time

import pytest

from broker.access.principals import Scope
from tests.fakes.broker_scene import config_of, key_entry, memory_scene, until


async def events_of(store, kind: str) -> list:
    return [event for event in await store.events("0-0", block_s=0, limit=10_000) if event.kind == kind]


async def test_a_lease_waits_for_its_model_and_comes_with_an_endpoint():
    async with memory_scene() as scene:
        answer = await scene.lease(wait=5, ttlSeconds=30)
        assert answer.status_code == 201, answer.text
        body = answer.json()
        assert body["state"] == "active"
        assert body["endpoint"]["baseUrl"].endswith("/v1")
        assert body["endpoint"]["apiKey"].startswith("hsg_")
        assert 29 < body["expiresInSeconds"] <= 30
        assert answer.headers["location"] == f"/lease/{body['leaseId']}"


async def test_without_wait_the_answer_is_a_place_in_line():
    async with memory_scene(load_s=0.5) as scene:
        answer = await scene.lease()
        assert answer.status_code == 202
        body = answer.json()
        assert (body["state"], body["position"]) == ("queued", 1)
        granted = await scene.client.get(f"/lease/{body['leaseId']}", params={"wait": 10})
        assert granted.status_code == 200
        assert granted.json()["state"] == "active"
        assert granted.json()["nonce"] == body["nonce"]


async def test_a_release_hands_the_place_to_the_next_at_once():
    async with memory_scene() as scene:
        held = (await scene.lease("one", "b", wait=5)).json()
        waiting = asyncio.create_task(scene.lease("two", "b", wait=30))
        await until(lambda: scene.open_waiters)
        started_s = time.monotonic()
        released = await scene.client.post("/release", json={"leaseId": held["leaseId"], "nonce": held["nonce"]})
        assert (released.status_code, released.json()["reason"]) == (200, "released")
        assert (await waiting).json()["state"] == "active"
        assert time.monotonic() - started_s < 20, "nobody woke it: its wait of 30 s ended"


async def test_an_expiry_wakes_the_next_waiter():
    async with memory_scene() as scene:
        held = await scene.lease("one", "b", wait=5, ttlSeconds=1)
        assert held.status_code == 201
        granted_s = time.monotonic()
        answer = await scene.lease("two", "b", wait=30)
        assert answer.status_code == 201
        assert 0.9 < time.monotonic() - granted_s < 20, "nobody woke it: its wait of 30 s ended"


async def test_release_is_safe_to_repeat_and_wrong_nonces_are_refused():
    async with memory_scene() as scene:
        held = (await scene.lease(wait=5)).json()
        wrong = await scene.client.post("/release", json={"leaseId": held["leaseId"], "nonce": "other"})
        assert (wrong.status_code, wrong.json()["code"]) == (409, "stale_nonce")
        reference = {"leaseId": held["leaseId"], "nonce": held["nonce"]}
        for _ in range(2):
            again = await scene.client.post("/release", json=reference)
            assert (again.status_code, again.json()["state"]) == (200, "ended")
        late = await scene.client.post("/renew", json=reference)
        assert (late.status_code, late.json()["code"]) == (410, "lease_ended")


async def test_renew_and_release_by_session_and_model():
    async with memory_scene() as scene:
        held = (await scene.lease("mine", wait=5, ttlSeconds=10)).json()
        renewed = await scene.client.post("/renew", json={"sessionKey": "mine", "model": "a", "ttlSeconds": 99})
        assert renewed.json()["leaseId"] == held["leaseId"]
        assert renewed.json()["expiresInSeconds"] > 90
        released = await scene.client.post("/release", json={"sessionKey": "mine", "model": "a"})
        assert released.json()["state"] == "ended"
        nothing = await scene.client.post("/release", json={"sessionKey": "mine", "model": "a"})
        assert (nothing.status_code, nothing.content) == (204, b"")
        assert (await scene.client.post("/renew", json={"sessionKey": "mine", "model": "a"})).status_code == 404


async def test_an_idempotency_key_is_one_lease_and_another_body_is_refused():
    async with memory_scene() as scene:
        headers = {"Idempotency-Key": "turn-1"}
        first = await scene.lease(wait=5, headers=headers)
        second = await scene.lease(wait=0, headers=headers)
        assert first.json()["leaseId"] == second.json()["leaseId"]
        other = await scene.lease(model="b", headers=headers)
        assert (other.status_code, other.json()["code"]) == (422, "op_mismatch")
        await scene.client.post("/release", json={"sessionKey": "s", "model": "a"})
        ended = await scene.lease(headers=headers)
        assert (ended.status_code, ended.json()["state"]) == (200, "ended")


async def test_warm_leases_are_active_at_once_and_have_no_endpoint():
    async with memory_scene() as scene:
        body = (await scene.lease(intent="warm")).json()
        assert body["state"] == "active"
        assert "endpoint" not in body


async def test_ones_own_ticket_far_back_in_line_is_shown_to_its_owner():
    keys = (key_entry("loud"), key_entry("quiet"))
    async with memory_scene(config_of(keys=keys)) as scene:
        for number in range(150):
            await scene.lease(f"s{number}", headers=scene.auth("loud"))
        mine = (await scene.lease("mine", headers=scene.auth("quiet"))).json()
        listed = (await scene.client.get("/queue", headers=scene.auth("quiet"))).json()["leases"]
        assert [one["leaseId"] for one in listed] == [mine["leaseId"]]
        assert listed[0]["position"] > 100


async def test_foreign_leases_do_not_exist_and_operators_revoke():
    keys = (key_entry("one"), key_entry("two"), key_entry("ops", Scope.OBSERVE, Scope.OPERATE))
    async with memory_scene(config_of(keys=keys)) as scene:
        held = (await scene.lease(wait=5, headers=scene.auth("one"))).json()
        path = f"/lease/{held['leaseId']}"
        reference = {"leaseId": held["leaseId"], "nonce": held["nonce"]}
        two = scene.auth("two")
        assert (await scene.client.get(path, headers=two)).status_code == 404
        assert (await scene.client.delete(path, headers=two)).status_code == 404
        assert (await scene.client.post("/release", json=reference, headers=two)).status_code == 404
        by_session = await scene.client.post("/release", json={"sessionKey": "s", "model": "a"}, headers=two)
        assert by_session.status_code == 204
        theirs = (await scene.lease(headers=two)).json()
        assert theirs["leaseId"] != held["leaseId"], "what they call the same is a session of their own"
        seen = (await scene.client.get(path, headers=scene.auth("ops"))).json()
        assert seen["state"] == "active"
        assert "nonce" not in seen
        assert "endpoint" not in seen
        revoked = await scene.client.delete(path, headers=scene.auth("ops"))
        assert revoked.json()["reason"] == "revoked: operator"
        ended = (await events_of(scene.store, "ended"))[-1]
        assert ended.fields["who"] == "operator:ops"


async def test_a_key_is_held_to_its_limits():
    keys = (
        key_entry("small", models=("a",), max_priority="normal", max_ttl_s=30, max_open=1),
        key_entry("fast", rate_per_s=1),
        key_entry("see", Scope.OBSERVE),
    )
    async with memory_scene(config_of(keys=keys)) as scene:
        small = scene.auth("small")
        for refused in ({"model": "b"}, {"priority": "interactive"}, {"priority": 5}, {"ttlSeconds": 31}):
            answer = await scene.lease(headers=small, **refused)
            assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed"), refused
        assert (await scene.lease(wait=5, headers=small)).status_code == 201
        full = await scene.lease("other", headers=small)
        assert (full.status_code, full.json()["code"]) == (429, "tenant_full")
        assert int(full.headers["retry-after"]) > 0
        answers = [await scene.client.get("/queue", headers=scene.auth("fast")) for _ in range(5)]
        assert 429 in {answer.status_code for answer in answers}
        assert (await scene.lease(headers=scene.auth("see"))).status_code == 403
        nobody = await scene.lease()
        assert (nobody.status_code, nobody.headers["www-authenticate"][:6]) == (401, "Bearer")
        assert (await scene.lease(headers=scene.auth("stranger"))).status_code == 401


async def test_a_dropped_connection_cancels_only_what_asked_for_that():
    async with memory_scene(load_s=30) as scene:
        for cancel, expected in ((True, "ended"), (False, "queued")):
            task = asyncio.create_task(scene.lease(f"s{cancel}", wait=20, cancelOnDisconnect=cancel))
            await until(lambda: scene.open_waiters)
            task.cancel()
            await until(lambda: not scene.open_waiters)
            await asyncio.sleep(0.05)
            records = await scene.store.leases(model=None, limit=10)
            states = {record.session: record.state for record in records}
            assert states.get(f"s{cancel}", "ended") == expected


async def test_a_failed_model_says_so_at_once():
    async with memory_scene(config_of(max_fails=1), broken=("a",)) as scene:
        answer = await scene.lease(wait=10)
        assert answer.status_code == 200
        assert answer.json()["reason"].startswith("rejected")
        again = await scene.lease("next")
        assert (again.status_code, again.json()["code"]) == (424, "model_quarantined")


async def test_lease_events_tell_the_whole_way():
    async with memory_scene(load_s=0.3) as scene:
        body = (await scene.lease(ttlSeconds=1)).json()
        seen = []
        async with scene.client.stream("GET", f"/lease/{body['leaseId']}/events") as stream:
            assert stream.headers["content-type"] == "text/event-stream"
            async for line in stream.aiter_lines():
                if line.startswith("event: "):
                    seen.append(line[7:])
                elif line.startswith("data: "):
                    data = json.loads(line[6:])
        assert seen[0] == "waiting"
        assert seen[-2:] == ["granted", "ended"]
        assert data["lease"]["reason"] == "expired"


async def test_pool_events_resume_where_the_client_was():
    async with memory_scene() as scene:
        await scene.lease(wait=5)
        ids = [event.event_id for event in await scene.store.events("0-0", block_s=0, limit=100)]
        got = []
        headers = {"Last-Event-ID": ids[2]}
        async with scene.client.stream("GET", "/events", headers=headers) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("id: "):
                    got.append(line[4:])
                if len(got) == len(ids) - 3:
                    break
        assert got == ids[3:]


async def test_draining_answers_waiters_before_the_server_closes():
    async with memory_scene(load_s=30) as scene:
        task = asyncio.create_task(scene.lease(wait=20))
        await until(lambda: scene.open_waiters)
        scene.server.should_exit = True
        answer = await task
        assert (answer.status_code, answer.json()["code"]) == (503, "draining")
        assert answer.headers["retry-after"] == "1"


async def test_too_many_waiters_are_told_when_to_come_back():
    async with memory_scene(config_of(max_waiters=1), load_s=30) as scene:
        task = asyncio.create_task(scene.lease("one", wait=20))
        await until(lambda: scene.open_waiters)
        second = await scene.lease("two", wait=20)
        assert second.status_code == 202
        poll = await scene.client.get(f"/lease/{second.json()['leaseId']}", params={"wait": 5})
        assert (poll.status_code, poll.json()["code"]) == (429, "waiters_full")
        assert int(poll.headers["retry-after"]) > 0
        task.cancel()


async def test_operators_cordon_and_uncordon_slots():
    async with memory_scene() as scene:
        assert (await scene.client.post("/slots/gpu0/cordon")).status_code == 204
        waiting = await scene.lease()
        assert waiting.status_code == 202
        status = (await scene.client.get("/status")).json()
        assert status["store"] == "ok"
        assert (await scene.client.post("/slots/gpu0/uncordon")).status_code == 204
        got = await scene.client.get(f"/lease/{waiting.json()['leaseId']}", params={"wait": 5})
        assert got.json()["state"] == "active"
        assert (await scene.client.post("/slots/nope/cordon")).status_code == 404
        assert (await scene.client.post("/slots/gpu0/explode")).status_code == 422
        cordoned = [event for event in await events_of(scene.store, "slot") if event.fields.get("why") == "cordon"]
        assert cordoned[0].fields["who"] == "operator:anonymous"


@pytest.mark.parametrize("path", ["/status", "/models", "/queue", "/healthz", "/readyz", "/metrics", "/openapi.json"])
async def test_pictures_answer(path):
    async with memory_scene() as scene:
        await scene.lease(wait=5)
        answer = await scene.client.get(path)
        assert answer.status_code == 200, answer.text
        if path == "/metrics":
            assert "hotseat_grants_total" in answer.text


async def test_a_place_in_line_says_when_to_ask_again_while_it_is_surely_kept():
    async with memory_scene(config_of(waiter_ttl_s=30.0), load_s=30) as scene:
        asked = await scene.lease()
        shown = await scene.client.get(f"/lease/{asked.json()['leaseId']}")
        for answer in (asked, shown):
            assert answer.json()["state"] == "queued"
            assert 1 <= int(answer.headers["retry-after"]) <= answer.json()["expiresInSeconds"] * 2 / 3


async def test_why_tells_people():
    async with memory_scene(load_s=30) as scene:
        body = (await scene.lease()).json()
        await asyncio.sleep(0.3)
        why = (await scene.client.get(f"/lease/{body['leaseId']}/why")).json()
        assert why["position"] == 1
        assert any("gpu0" in line for line in why["lines"])
        assert why["waitReason"] == "loading"
        assert why["boundSeconds"] > 600
        queued = (await scene.client.get(f"/lease/{body['leaseId']}")).json()
        assert queued["waitReason"] == "loading"
        if "etaSeconds" in queued:
            assert queued["etaLowSeconds"] <= queued["etaSeconds"] <= queued["etaHighSeconds"]


async def test_a_lease_only_if_warm_is_refused_at_once_while_its_model_is_not_and_had_while_it_is():
    async with memory_scene() as scene:
        answer = await scene.lease("heartbeat", onlyIfWarm=True, wait=5)
        assert (answer.status_code, answer.json()["code"]) == (503, "model_not_warm")
        assert int(answer.headers["retry-after"]) > 0
        assert await events_of(scene.store, "loading") == []
        person = (await scene.lease("person", wait=5)).json()
        answer = await scene.lease("heartbeat", onlyIfWarm=True, wait=5)
        assert (answer.status_code, answer.json()["state"]) == (201, "active")
        assert person["state"] == "active"


async def test_a_lease_for_a_single_request_says_so_to_the_policy():
    async with memory_scene() as scene:
        await scene.lease("one", wait=5, singleRequest=True)
        await scene.lease("two", wait=5)
        single = {lease.session: lease.single for lease in scene.store.pool.leases.values()}
        assert single == {"one": True, "two": False}


async def test_a_label_is_shown_to_whoever_looks_at_the_pool():
    async with memory_scene() as scene:
        held = (await scene.lease("one", wait=5, label="nightly run {7}")).json()
        waits = (await scene.lease("two", label="second")).json()
        assert held["label"] == "nightly%20run%20%7B7%7D"
        shown = {entry["leaseId"]: entry["label"] for entry in (await scene.client.get("/queue")).json()["leases"]}
        assert shown == {held["leaseId"]: held["label"], waits["leaseId"]: "second"}
        why = (await scene.client.get(f"/lease/{held['leaseId']}/why")).json()
        assert " by one (nightly run {7}), " in why["lines"][0]
        plain = (await scene.lease("three")).json()
        assert "label" not in plain


@pytest.mark.parametrize(
    "label", ["", "x" * 129, "two\nlines", "\u001b[31mred", "a\u2028b", "\u202egnp", "\u2066x", 7, ["x"]]
)
async def test_a_label_that_is_no_line_of_text_is_refused(label):
    async with memory_scene() as scene:
        answer = await scene.lease(label=label)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
        assert "label" in answer.json()["detail"]
