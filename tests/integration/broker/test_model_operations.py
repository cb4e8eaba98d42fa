"""Operators take a model out of service and put it back, load and unload one by hand, over HTTP."""

import asyncio

import pytest

from broker.access.principals import Scope
from schemas.config.file import ModelEntry
from tests.fakes.broker_scene import config_of, key_entry, memory_scene, until

OFF = {"reason": "new weights are coming"}


async def state_of(scene, name="a"):
    models = (await scene.client.get("/models")).json()["models"]
    return next(model for model in models if model["name"] == name)


async def becomes(scene, state, name="a"):
    async def holds() -> bool:
        return (await state_of(scene, name))["state"] == state

    await until(holds)


async def test_a_model_out_of_service_refuses_with_the_reason_ends_its_waiters_and_goes_when_it_is_free():
    async with memory_scene() as scene:
        held = (await scene.lease("s1", wait=5)).json()
        assert (await scene.lease("s2", wait=5)).status_code == 201
        waiter = asyncio.create_task(scene.lease("s3", wait=20))
        await until(lambda: scene.open_waiters)
        answer = await scene.client.post("/models/a/off", json=OFF)
        assert (answer.status_code, answer.json()) == (200, {"model": "a", "off": OFF["reason"]})
        assert (await waiter).json()["reason"] == f"rejected: model_off: {OFF['reason']}"
        refused = await scene.lease("s4")
        assert (refused.status_code, refused.json()["code"]) == (503, "model_off")
        assert refused.json()["detail"] == f"a is out of service: {OFF['reason']}; ask again in 30 s"
        assert int(refused.headers["retry-after"]) >= 1
        told = await scene.client.post("/v1/chat/completions", json={"model": "a", "messages": []})
        assert (told.status_code, told.json()["error"]["code"]) == (503, "model_off")
        assert told.headers["x-should-retry"] == "false"
        assert (await scene.client.get(f"/lease/{held['leaseId']}")).json()["state"] == "active"
        for session in ("s1", "s2"):
            await scene.client.post("/release", json={"sessionKey": session, "model": "a"})
        await becomes(scene, "absent")
        assert (await state_of(scene))["off"] == OFF["reason"]
        card = (await scene.client.get("/v1/models/a")).json()
        assert (card["served"], card["unavailable"]) == (False, f"a is out of service: {OFF['reason']}")
        assert (await scene.client.post("/models/a/on")).json() == {"model": "a", "off": None}
        assert (await scene.lease("s5", wait=5)).status_code == 201
        events = [event for event in await scene.store.events("0-0", block_s=0, limit=500) if event.kind == "model"]
        assert [(e.fields["who"], e.fields["to"]) for e in events] == [
            ("operator:anonymous", "off"),
            ("operator:anonymous", "on"),
        ]


async def test_a_model_is_loaded_and_unloaded_by_hand_and_does_not_come_back_by_itself():
    async with memory_scene() as scene:
        answer = await scene.client.post("/models/a/load")
        assert (answer.status_code, answer.json()) == (
            202,
            {"model": "a", "state": "loading", "slots": ["gpu0"], "evicted": []},
        )
        await becomes(scene, "ready")
        assert (await scene.client.post("/models/a/load", json={})).json()["state"] == "ready"
        assert (await scene.client.post("/models/b/load", json={"slot": "gpu0"})).json()["evicted"] == ["a"]
        await becomes(scene, "ready", "b")
        assert (await scene.client.post("/models/b/unload")).json()["state"] == "unloading"
        await becomes(scene, "absent", "b")
        whys = [e.fields["why"] for e in await scene.store.events("0-0", block_s=0, limit=500) if e.kind == "loading"]
        assert whys == ["operator:anonymous"] * 2


async def test_what_is_in_use_is_not_moved_by_hand():
    async with memory_scene() as scene:
        await scene.lease("s", wait=5)
        for call in ("/models/a/unload", "/models/b/load"):
            answer = await scene.client.post(call)
            assert (answer.status_code, answer.json()["code"]) == (409, "in_use"), call


@pytest.mark.parametrize(
    "path, body, status, code",
    [
        ("/models/none/off", OFF, 404, "unknown_model"),
        ("/models/none/on", None, 404, "unknown_model"),
        ("/models/none/load", None, 404, "unknown_model"),
        ("/models/none/unload", None, 404, "unknown_model"),
        ("/models/a/load", {"slot": "none"}, 404, "unknown_slot"),
        ("/models/huge/load", None, 422, "model_too_large"),
        ("/models/a/off", None, 422, "invalid"),
        ("/models/a/off", {"reason": ""}, 422, "invalid"),
        ("/models/a/off", {"reason": "two\nlines"}, 422, "invalid"),
        ("/models/a/off", {"reason": "x" * 201}, 422, "invalid"),
        ("/models/a/off", {"why": "x"}, 422, "invalid"),
        ("/models/a/load", {"slot": 5}, 422, "invalid"),
    ],
)
async def test_what_makes_no_sense_is_refused(path, body, status, code):
    async with memory_scene() as scene:
        answer = await scene.client.post(path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize(
    "headers, content, status, code",
    [
        ({"content-type": "text/plain"}, b'{"reason": "x"}', 415, "media_type"),
        ({"content-type": "application/json"}, b'{"reason": ', 422, "invalid"),
        ({"content-type": "application/json"}, b'{"reason": "%s"}' % (b"x" * 9000), 413, "too_large"),
    ],
)
async def test_a_body_is_read_within_the_bounds_of_the_lease_calls(headers, content, status, code):
    async with memory_scene() as scene:
        answer = await scene.client.post("/models/a/off", content=content, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_model_whose_name_has_slashes_is_reached():
    config = config_of(models=(ModelEntry(name="org/model:7b@q4", memory_mib=900),))
    async with memory_scene(config) as scene:
        assert (await scene.client.post("/models/org/model:7b@q4/off", json=OFF)).status_code == 200
        assert (await scene.client.post("/models/org%2Fmodel:7b@q4/on")).json()["model"] == "org/model:7b@q4"


async def test_only_operators_may():
    keys = (key_entry("user", Scope.LEASE, Scope.OBSERVE), key_entry("op", Scope.OPERATE))
    async with memory_scene(config_of(keys=keys)) as scene:
        for action in ("off", "on", "load", "unload"):
            answer = await scene.client.post(f"/models/a/{action}", json=OFF, headers=scene.auth("user"))
            assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed"), action
        assert (await scene.client.post("/models/a/off", json=OFF, headers=scene.auth("op"))).status_code == 200
