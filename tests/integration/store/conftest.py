"""Real servers with real time: each test has its own, of both kinds."""

import pytest

from harness.redis_servers import REDIS, VALKEY, RedisServer, binary_of


@pytest.fixture(params=[VALKEY, REDIS])
def engine(request):
    if binary_of(request.param) is None:
        pytest.skip(f"no {request.param}-server on this machine (Debian: apt install redis-server)")
    return request.param


@pytest.fixture
def start(engine):
    """Start servers of this kind; they are gone after the test."""
    running = []

    def make(*options, aof=False):
        server = RedisServer(engine, *options, aof=aof)
        running.append(server)
        return server.start()

    yield make
    for server in running:
        server.close()
