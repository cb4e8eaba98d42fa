"""Both interpreters of the pool machine: same answer and events at every step, same keys at every fifth and at last."""

import os
from collections import Counter

import pytest

from harness.redis_servers import REDIS, VALKEY, RedisServer, binary_of
from tests.property.pool_dump import dump_pool
from tests.property.pool_machines import LuaMachine, PythonMachine, events_of, python_reads
from tests.property.pool_walk import Walk

WALKS = int(os.environ.get("HOTSEAT_WALKS", "1000"))
STEPS = 65
DUMP_EVERY = 5
"""Steps. Writing out all keys takes longer than the step; what differs stays, or shows in an answer or an event."""
DEEP = {
    "granted": 2.0, "ready": 0.8, "renewed": 0.5, "load_failed": 0.2, "ended": 3.0, "recovered": 0.3, "registered": 1.0,
    "unloading": 0.4, "absent": 0.3, "ending": 0.2, "offline": 0.2, "admitted": 0.2, "progress": 0.1, "slot": 1.0,
    "clock_step": 0.4, "ingress_rejected": 0.05, "unsound": 0.05, "forgiven": 0.02, "doubted": 0.03, "model": 0.1,
    "broker": 1.0,
}  # fmt: skip
"""Events per walk, at least: a walk that does not get anywhere proves nothing."""
REASONS = ("released", "expired", "cancelled", "timed_out", "rejected", "preempted", "revoked", "lost")


def walk_both(seed: int, lua: LuaMachine, seen: Counter[str], dump_every: int = DUMP_EVERY) -> None:
    walk = Walk(seed)
    python = PythonMachine(walk.pool, walk.run)
    lua.start(walk.run)
    told = 0
    for number in range(STEPS):
        step = walk.next_step()
        walk.wall_ms += step.args.get("ms", 0) if step.call == "time" else 0
        expected, answered = python.apply(step), lua.apply(step)
        where = f"seed {seed}, step {number}: {step}"
        assert answered == expected, where
        if step.call in {"time", "restart"}:
            continue
        assert lua.events() == events_of(python.history[told:]), where
        told = len(python.history)
        if number % dump_every == 0:
            same_keys(lua, walk, where, dump_every)
        if number % 10 == 0:
            assert lua.read() == python_reads(python), where
    same_keys(lua, walk, f"seed {seed}, at the end", dump_every)
    for event in python.history:
        seen[event.kind] += 1
        if event.kind == "ended":
            seen[event.fields["why"].partition(":")[0]] += 1


def same_keys(lua: LuaMachine, walk: Walk, where: str, dump_every: int) -> None:
    """Where they differ the walk is walked once more with a look at every step, which finds the step that did it."""
    state, expected = lua.dump(), dump_pool(walk.pool)
    if state != expected and dump_every > 1:
        walk_both(walk.seed, lua, Counter(), dump_every=1)
    assert state == expected, where


@pytest.fixture(scope="module", params=[VALKEY, REDIS])
def lua(request):
    if binary_of(request.param) is None:
        pytest.skip(f"no {request.param}-server on this machine (Debian: apt install redis-server)")
    server = RedisServer(request.param).start()
    machine = LuaMachine(str(server.socket))
    yield machine
    machine.close()
    server.close()


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.timeout(3600)  # a thousand walks compute for minutes
def test_lua_and_python_agree_on_answers_events_and_keys(lua, record_property):
    seen: Counter[str] = Counter()
    walks = WALKS // 2  # as many on each of the two servers
    for seed in range(walks):
        walk_both(seed, lua, seen)
    record_property("walks", walks)
    least_walks = 200  # fewer are for a quick look
    shallow = {kind: seen[kind] / walks for kind, least in DEEP.items() if seen[kind] < least * walks}
    assert walks < least_walks or not shallow, f"walks do not go deep: {shallow} of {dict(seen)}"
    assert walks < least_walks or all(seen[reason] for reason in REASONS), dict(seen)
