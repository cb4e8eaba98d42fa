"""The link to the store on the event loop that `hotseat broker` really runs on."""

import asyncio

import uvloop

from broker.store.redis.link import RedisLink


async def _one_call() -> object:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"+PONG\r\n")
        await reader.read()  # until the link is closed
        writer.close()
        await writer.wait_closed()
        ended.set()

    ended = asyncio.Event()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    link = RedisLink(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", timeout_s=2.0)
    try:
        return await link.call("PING")
    finally:
        await link.close()
        await ended.wait()
        server.close()
        await server.wait_closed()


def test_a_call_is_answered_under_uvloop() -> None:
    """Its transports are no `asyncio.Transport`: an assertion on that kept every broker from starting."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(_one_call()) == b"PONG"
