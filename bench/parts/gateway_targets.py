"""What ``bench.gateway`` compares: the fake model server, the broker in front of it, and other proxies."""

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from bench.parts.client import KEY
from harness.broker_process import BrokerProcess
from harness.redis_servers import VALKEY, RedisServer
from harness.worker import FakeWorker

LITELLM_KEY = "sk-bench"
BROKER = f"""
[limits]
max_queue = 50000
[gateway]
commit_after_s = 300
[[key]]
name = "bench"
sha256 = "{hashlib.sha256(KEY.encode()).hexdigest()}"
scopes = ["lease", "observe"]
"""
MODELS = """
[[model]]
name = "wide"
memory_mib = 900
lease_limit = 10000
[[model]]
name = "cold"
memory_mib = 900
"""
NGINX = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u;
  scgi_temp_path {folder}/s;
  upstream backend {{ server {backend}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    keepalive_requests 1000000;
    location / {{
      proxy_pass http://backend;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""
LITELLM = """
model_list:
  - model_name: wide
    litellm_params: {{model: openai/wide, api_base: "{backend}/v1", api_key: x}}
general_settings: {{master_key: {key}}}
"""


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def nginx(backend: str, folder: Path) -> Iterator[str]:
    """With buffering off and kept connections."""
    port = free_port()
    path = folder / "nginx.conf"
    path.write_text(NGINX.format(folder=folder, port=port, backend=backend.removeprefix("http://")))
    with _process([shutil.which("nginx") or "nginx", "-c", str(path), "-p", str(folder)]):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def floor(kind: str, backend: str, store: str) -> Iterator[tuple[str, int]]:
    """A part of ``/v1`` alone (``bench.gateway_floor``): its address and process."""
    argv = [sys.executable, "-m", "bench.gateway_floor", kind, backend, store]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}", process.pid
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def litellm(program: str, backend: str, folder: Path) -> Iterator[str]:
    """Its proxy with one worker and no database."""
    port = free_port()
    path = folder / "litellm.yaml"
    path.write_text(LITELLM.format(backend=backend, key=LITELLM_KEY))
    argv = [program, "--config", str(path), "--port", str(port), "--host", "127.0.0.1"]
    with _process(argv):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def _process(argv: list[str]) -> Iterator[None]:
    process = subprocess.Popen(
        argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | {"LITELLM_LOG": "ERROR"}
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def backend() -> Iterator[str]:
    """The fake model server in a process of its own."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.parts.gateway_backend", str(port)])
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@contextlib.asynccontextmanager
async def ours(url: str, flush: str = "always") -> AsyncIterator[tuple[BrokerProcess, FakeWorker, RedisServer]]:
    """Store with this ``appendfsync``, broker, and a worker whose models are the backend."""
    store = RedisServer(VALKEY, "--appendonly", "yes", "--appendfsync", flush).start()
    broker = BrokerProcess(store.url, extra=BROKER, models=MODELS).until_ready()
    urls = {"wide": f"{url}/v1", "cold": f"{url}/v1"}
    worker = FakeWorker.on_redis(store.url, serves=("wide", "cold"), urls=urls)
    try:
        async with worker.running(every_s=0.5):
            yield broker, worker, store
    finally:
        broker.stop()
        store.close()
