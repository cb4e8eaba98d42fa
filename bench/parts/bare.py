"""The baseline of the lease path: one plain route and one store call that does nothing, in a process of its own."""

import contextlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import IO

BARE = """
import sys, msgspec, uvicorn
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from broker.api.views import LeaseRequest
from broker.store.redis.link import RedisLink
link = RedisLink(sys.argv[1])
decode, encode = msgspec.json.Decoder(LeaseRequest).decode, msgspec.json.Encoder().encode
async def bare(request: Request) -> Response:
    body = decode(await request.body())
    answer = await link.call("FCALL", "bench_noop", 1, "hotseat:{default}")
    return Response(encode({"model": body.model, "answer": answer.decode()}), 201, media_type="application/json")
uvicorn.run(FastAPI(routes=[Route("/lease", bare, methods=["POST"])]), host="127.0.0.1", port=0, access_log=False)
"""
NOOP = "#!lua name=bench\nredis.register_function('bench_noop', function() return 'ok' end)"


@contextlib.contextmanager
def bare_server(store_url: str) -> Iterator[str]:
    """The baseline as its own process."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([sys.executable, "-c", BARE, store_url], stderr=log, stdout=log)
        try:
            yield _address(log, process)
        finally:
            process.terminate()
            process.wait()


def _address(log: IO[bytes], process: subprocess.Popen[bytes]) -> str:
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s and process.poll() is None:
        log.seek(0)
        if found := re.search(rb"running on (http://[0-9.:]+)", log.read()):
            return found[1].decode()
        time.sleep(0.05)
    log.seek(0)
    raise SystemExit(log.read().decode())
