"""What a server must have before a store is opened on it: our library, and settings under which it forgets nothing."""

import pytest

from broker.core import errors
from broker.core.lease import LeaseState
from broker.store.redis.lua_library import LIBRARY, VERSION, library_source
from broker.store.redis.store import RedisStore
from tests.fakes.real_rig import opened, rig_at
from tests.fakes.store_rigs import BASE, POOL, SETTINGS

pytestmark = [pytest.mark.redis, pytest.mark.slow]


async def test_a_library_that_went_missing_is_loaded_again(start):
    rig = await opened(start().url)
    await rig.link.call("FUNCTION", "DELETE", LIBRARY)
    assert (await rig.store.acquire(rig.request())).state is LeaseState.QUEUED
    await rig.close()


def changed(version: str) -> str:
    source = library_source()
    assert source.count(f"local VERSION = '{VERSION}'") == 1
    return source.replace(f"local VERSION = '{VERSION}'", f"local VERSION = '{version}'").replace(
        "local HASH = '", "local HASH = 'x"
    )


async def test_an_older_library_is_replaced_and_a_newer_one_is_left_alone(start):
    url = start().url
    rig = await opened(url)
    await rig.link.call("FUNCTION", "LOAD", "REPLACE", changed("0"))
    store = RedisStore.connect(url, pool=POOL)
    await store.hello()
    await store.close()
    assert f'"version":"{VERSION}"'.encode() in await rig.link.call("FCALL_RO", "hotseat1_hello", 1, BASE)
    await rig.link.call("FUNCTION", "LOAD", "REPLACE", changed(f"{VERSION + 1}"))
    store = RedisStore.connect(url, pool=POOL)
    with pytest.raises(errors.LibraryError, match=rf"has version {VERSION + 1} .* upgrade this broker"):
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
    assert [warned in text for text in await store.advice()] == ([True] if warned else [])
    await store.close()


FOREIGN = "#!lua name=hotseat1\nredis.register_function('%s', function() return 'somebody else' end)"
FOREIGN_HELLO = (
    "#!lua name=hotseat1\nredis.register_function{function_name='hotseat1_hello', callback=function() "
    "return 'somebody else' end, flags={'no-writes'}}\n"
    "redis.register_function('hotseat1_acquire', function() return 'what?' end)"
)


async def test_a_library_of_somebody_else_under_our_name_is_left_alone_and_said_what_to_do(start):
    url = start().url
    rig = rig_at(url)
    for source in (FOREIGN % "fortune", FOREIGN_HELLO):
        await rig.link.call("FUNCTION", "LOAD", "REPLACE", source)
        store = RedisStore.connect(url, pool=POOL)
        with pytest.raises(errors.LibraryError, match=r"(named hotseat1 .* fortune|is not ours, it answers)"):
            await store.init(SETTINGS)
        await store.close()
        listed = str(await rig.link.call("FUNCTION", "LIST", "LIBRARYNAME", LIBRARY))
        assert ("fortune" in source) == ("fortune" in listed), "it is still there"
    await rig.close()


async def test_a_function_of_ours_in_another_library_is_named(start):
    url = start().url
    rig = rig_at(url)
    source = "#!lua name=other\nredis.register_function('hotseat1_acquire', function() return 1 end)"
    await rig.link.call("FUNCTION", "LOAD", source)
    store = RedisStore.connect(url, pool=POOL)
    with pytest.raises(errors.LibraryError, match=r"hotseat1_acquire.*FUNCTION LIST"):
        await store.init(SETTINGS)
    await store.close()
    await rig.close()


async def test_answers_of_somebody_elses_functions_are_no_bug_of_ours(start):
    rig = await opened(start().url)
    await rig.link.call("FUNCTION", "LOAD", "REPLACE", FOREIGN_HELLO)
    with pytest.raises(errors.LibraryError, match="hotseat check says what is there"):
        await rig.store.acquire(rig.request())
    with pytest.raises(errors.LibraryError, match="is not ours"):
        await rig.store.advice()
    await rig.close()


async def test_another_build_of_the_same_version_is_advised_against(start):
    rig = await opened(start().url)
    await rig.link.call("FUNCTION", "LOAD", "REPLACE", changed("1"))
    assert any("another build" in warning for warning in await rig.store.advice())
    await rig.close()
