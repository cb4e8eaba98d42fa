"""Both interpreters of the pool machine, step by step: same answer, same keys, same events."""

import os
from collections import Counter

import pytest

from tests.fakes.redis_servers import REDIS, VALKEY, RedisServer, binary_of
from tests.property.pool_dump import dump_pool
from tests.property.pool_machines import LuaMachine, PythonMachine, events_of, python_reads
from tests.property.pool_walk import Walk

WALKS = int(os.environ.get("HOTSEAT_WALKS", "1000"))
STEPS = 65
DEEP = {
    "granted": 2.0, "ready": 0.8, "renewed": 0.5, "load_failed": 0.2, "ended": 3.0, "recovered": 0.3, "registered": 1.0,
    "unloading": 0.4, "absent": 0.3, "ending": 0.2, "offline": 0.2, "admitted": 0.2, "progress": 0.1, "slot": 1.0,
    "clock_step": 0.4, "ingress_rejected": 0.05, "broker": 1.0,
}  # fmt: skip
"""Events per walk, at least: a walk that does not get anywhere proves nothing."""
REASONS = ("released", "expired", "cancelled", "timed_out", "rejected", "preempted", "revoked", "lost")


def walk_both(seed: int, lua: LuaMachine, seen: Counter[str]) -> None:
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
        state, events = lua.look()
        assert events == events_of(python.history[told:]), where
        told = len(python.history)
        assert state == dump_pool(walk.pool), where
        if number % 10 == 0:
            assert lua.read() == python_reads(python), where
    for event in python.history:
        seen[event.kind] += 1
        if event.kind == "ended":
            seen[event.fields["why"].partition(":")[0]] += 1


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
def test_lua_and_python_agree_after_every_step(lua):
    seen: Counter[str] = Counter()
    walks = WALKS // 2  # as many on each of the two servers
    for seed in range(walks):
        walk_both(seed, lua, seen)
    least_walks = 200  # fewer are for a quick look
    shallow = {kind: seen[kind] / walks for kind, least in DEEP.items() if seen[kind] < least * walks}
    assert walks < least_walks or not shallow, f"walks do not go deep: {shallow} of {dict(seen)}"
    assert walks < least_walks or all(seen[reason] for reason in REASONS), dict(seen)
