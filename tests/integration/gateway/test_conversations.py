"""Real clients' ids over a socket: one conversation is one session in the line, however many ids its requests bear."""

import asyncio
import json

import pytest

from tests.fakes.broker_scene import until
from tests.fakes.gateway_scene import CHAT, body_of, gateway_scene
from tests.fakes.scripted_server import GOOD, whole

REQUESTS = 12
UUID = "5e7d0000-0000-4000-8000-000000000001"


def claude_code(number):
    headers = {"x-claude-code-session-id": UUID, "x-client-request-id": f"fresh-{number}", "x-app": "cli"}
    return headers, body_of("b", n=number, metadata={"user_id": json.dumps({"session_id": UUID})})


def fresh_ids_alone(number):
    return {"x-client-request-id": f"fresh-{number}"}, body_of("b", n=number)


def fresh_sessions(number):
    return {"x-acme-session-id": f"fresh-{number}"}, body_of("b", n=number)


def single_questions(number):
    return {}, {"model": "b", "messages": [{"role": "user", "content": f"question {number}"}]}


@pytest.mark.parametrize(
    "client, most", [(claude_code, 1), (fresh_ids_alone, 1), (fresh_sessions, 5), (single_questions, 1)]
)
async def test_a_crowd_of_requests_of_one_conversation_lets_somebody_else_go_first(client, most):
    async with gateway_scene({"b": [[0.1, *whole(GOOD)]]}) as scene:

        async def ask(headers, body):
            answer = await scene.client.post(CHAT, json=body, headers=headers)
            assert answer.status_code == 200

        scene.worker.load_s = 600.0
        crowd = [asyncio.create_task(ask(*client(number))) for number in range(REQUESTS)]
        await until(lambda: len(scene.leases("queued")) == REQUESTS)
        sessions = {lease.session for lease in scene.leases("queued")}
        alice = asyncio.create_task(ask({"x-hotseat-session": "alice"}, body_of("b", alice=True)))
        await until(lambda: len(scene.leases("queued")) == REQUESTS + 1)
        scene.worker.load_s = 0.0
        scene.worker._ready_at.clear()
        await asyncio.gather(alice, *crowd)
        asked = [json.loads(one.body) for one in scene.models["b"].asked]
        place = next(n for n, body in enumerate(asked) if "alice" in body)
        assert len(sessions) <= most
        assert place <= most + 1
