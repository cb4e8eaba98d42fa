"""The seam for routing: candidates are tried in order until one has answered, and the answer says which one."""

from dataclasses import replace

from broker.core.lease import ModelName
from broker.gateway.exchange.candidates import Candidate, Listed
from tests.fakes.broker_scene import config_of
from tests.fakes.gateway_scene import CHAT, QUICK, SAID, body_of, gateway_scene, streamed
from tests.fakes.scripted_server import GOOD, STREAM_HEAD, chunk, stream, whole, word


def route_to(scene, *models: str) -> None:
    candidates = [Candidate(model=ModelName(name), reason=f"choice-{n}") for n, name in enumerate(models)]
    scene.broker.services.gateway.context = replace(scene.context, rule=lambda _: Listed(candidates))


async def test_the_next_candidate_serves_what_the_first_one_cannot():
    scripts = {"a": [[None]], "b": [whole(GOOD)]}
    async with gateway_scene(scripts, config_of(gateway={"dead_server_s": 0.1})) as scene:
        for models in (("nobody", "huge", "b"), ("a", "b")):  # unknown, too large; breaks off twice
            route_to(scene, *models)
            answer = await scene.client.post(CHAT, json=body_of())
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-hotseat-model"] == "b"
            assert answer.headers["x-hotseat-reason"] == f"choice-{len(models) - 1}"
        await scene.all_given_back()
        assert scene.context.holds._holds == {}


async def test_the_next_candidate_takes_over_a_stream_that_has_nothing_but_keepalives():
    async with gateway_scene({"a": [[0.5, None]], "b": [stream(*SAID)]}, config_of(gateway=QUICK)) as scene:
        route_to(scene, "a", "b")
        answer = await streamed(scene)
        assert answer.headers["x-hotseat-model"] == "a", "as of the first keepalive"
        assert answer.content.endswith(b"".join(SAID))
        assert b"error" not in answer.content
        await scene.all_given_back()


async def test_nobody_takes_over_an_answer_that_has_begun():
    scripts = {"a": [[STREAM_HEAD, chunk(word("one")), None]], "b": [stream(*SAID)]}
    async with gateway_scene(scripts) as scene:
        route_to(scene, "a", "b")
        answer = await streamed(scene)
        assert answer.content.startswith(word("one"))
        assert b"upstream_broken" in answer.content
        assert scene.models["b"].asked == []
        await scene.all_given_back()
