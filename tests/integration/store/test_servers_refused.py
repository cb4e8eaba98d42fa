"""What a server must have before a store is opened on it: our library, and settings under which it forgets nothing."""

import pytest

from broker.core import errors
from broker.core.lease import LeaseState
from broker.store.lua_library import LIBRARY, library_source
from broker.store.redis_store import RedisStore
from tests.fakes.real_rig import opened
from tests.fakes.store_rigs import BASE, POOL, SETTINGS

pytestmark = [pytest.mark.redis, pytest.mark.slow]


async def test_a_library_that_went_missing_is_loaded_again(start):
    rig = await opened(start().url)
    await rig.link.call("FUNCTION", "DELETE", LIBRARY)
    assert (await rig.store.acquire(rig.request())).state is LeaseState.QUEUED
    await rig.close()


def changed(version: str) -> str:
    source = library_source()
    assert source.count("local VERSION = '1'") == 1
    return source.replace("local VERSION = '1'", f"local VERSION = '{version}'").replace(
        "local HASH = '", "local HASH = 'x"
    )


async def test_an_older_library_is_replaced_and_a_newer_one_is_left_alone(start):
    url = start().url
    rig = await opened(url)
    await rig.link.call("FUNCTION", "LOAD", "REPLACE", changed("0"))
    store = RedisStore.connect(url, pool=POOL)
    await store.hello()
    await store.close()
    assert b'"version":"1"' in await rig.link.call("FCALL_RO", "hotseat1_hello", 1, BASE)
    await rig.link.call("FUNCTION", "LOAD", "REPLACE", changed("2"))
    store = RedisStore.connect(url, pool=POOL)
    with pytest.raises(errors.LibraryError, match=r"has version 2 .* upgrade this broker"):
        await store.hello()
    await store.close()
    await rig.close()


async def test_a_server_that_may_evict_is_refused(start):
    store = RedisStore.connect(start("--maxmemory-policy", "allkeys-lru").url, pool=POOL)
    with pytest.raises(errors.StoreUnavailableError, match="noeviction"):
        await store.init(SETTINGS)
    await store.close()


@pytest.mark.parametrize("aof, options, warned", [
    (False, (), "append-only"), (True, ("--appendfsync", "everysec"), "power loss"), (True, (), None),
])  # fmt: skip
async def test_a_server_that_may_forget_is_warned_about(start, aof, options, warned):
    server = start(*options, aof=aof) if not options else start("--appendonly", "yes", *options)
    store = RedisStore.connect(server.url, pool=POOL)
    await store.init(SETTINGS)
    assert [warned in text for text in store.warnings] == ([True] if warned else [])
    await store.close()
