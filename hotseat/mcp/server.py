"""`hotseat mcp`: the GPU for any MCP client, over stdio or streamable HTTP. The tools say in words what to do next."""

import argparse
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Literal
from uuid import uuid4

import httpx
import uvicorn
from pydantic import Field

from broker.access.guard import Guard, Words
from broker.access.host_names import Names, is_loopback
from broker.access.origins import Origins
from broker.http_server.connections import guarded
from broker.http_server.whole_requests import Bounds
from broker.protocol.refusals import RefusalLog
from hotseat import __version__
from hotseat.clients.http_api import DEFAULT_URL
from hotseat.mcp.tools import (
    COMPLETION_TTL_S,
    TOOL_TIMEOUT,
    BrokerToolError,
    BrokerTools,
    Prompt,
    WantedLease,
    place_of,
)
from hotseat.terminal import arguments as words
from schemas import hangup, log_lines
from schemas.addresses import address_of
from schemas.command_line import CommandLine

try:
    from mcp.server.mcpserver import Context, MCPServer
    from mcp.server.mcpserver.exceptions import ResourceError, ToolError
    from mcp.server.transport_security import TransportSecuritySettings
except ImportError:  # pragma: no cover  the development set has it
    raise SystemExit("hotseat mcp needs the MCP SDK: pip install 'hotseat[mcp]'") from None

EXIT_USAGE = 2
log = logging.getLogger("hotseat.mcp")
INSTRUCTIONS = """
A GPU that several agents share: a model must be leased before it answers, and others may be ahead in line.
For one answer of a local model call complete; it takes and gives back the lease by itself. To keep a model through
several steps call lease_model, and release_model when done. gpu_status lists models. "GPU busy" is no failure: the
place in line is kept, so call again, or take a model that is ready.
"""
GUARDED = Words(
    what="this MCP server",
    about_names="call it by 127.0.0.1 or localhost",
    about_pages="use a client that is a program of its own",
)
SESSION = "Your conversation's name, as an earlier answer gave it; leave it out the first time"

SessionArgument = Annotated[str | None, Field(description=SESSION, min_length=1, max_length=256)]
ModelArgument = Annotated[str, Field(description="A name that gpu_status lists", min_length=1, max_length=128)]
WaitArgument = Annotated[float, Field(description="Seconds to wait in line before answering", ge=0, le=3600)]
IntentArgument = Annotated[
    Literal["use", "warm"], Field(description="use: calling it now; warm: will need it again soon")
]
TtlArgument = Annotated[float, Field(description="Seconds the lease lives; ask again to prolong it", ge=1, le=3600)]
PriorityArgument = Literal["interactive", "normal", "background", "batch"]
_Answer = dict[str, Any]


def main(argv: list[str]) -> int:
    """Serve until the client hangs up (stdio) or a signal (HTTP).

    Returns:
        0 stopped, 2 the arguments are wrong.
    """
    arguments = _parser().parse_args(argv)
    if arguments.http is not None and not is_loopback(arguments.host):
        print(
            "hotseat mcp: --host must be a loopback address; put a proxy that asks who calls in front", file=sys.stderr
        )
        return EXIT_USAGE
    url = (arguments.url or os.environ.get("HOTSEAT_URL") or DEFAULT_URL).rstrip("/")
    try:
        address_of(url, ("http", "https"))
    except ValueError as error:
        print(f"hotseat mcp: the broker's address {error}; set HOTSEAT_URL or --url", file=sys.stderr)
        return EXIT_USAGE
    server = build(url, os.environ.get("HOTSEAT_API_KEY", ""), session=arguments.session, stdio=arguments.http is None)
    if arguments.http is None:
        try:
            server.run("stdio")
        except* BrokenPipeError:
            log.info("client_hung_up")  # without waiting for its answer
    else:
        serve(server, arguments.host, arguments.http)
    return 0


def serve(server: MCPServer, host: str, port: int) -> None:
    """Serve streamable HTTP at ``/mcp``, behind the broker's guard: a web page can do nothing here either.

    The SDK's own check lets pages of any port of this machine in, and takes no name that containers know it by.
    """
    log_lines.set_up("text", "warning")
    signal.signal(signal.SIGHUP, lambda _number, _frame: hangup.say_ignored(log))
    guard = Guard(Names(host=host, machine=socket.gethostname()), Origins(), GUARDED)
    app = server.streamable_http_app(
        host=host, transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False)
    )
    protocol = guarded(Bounds(), guard, RefusalLog())
    config = uvicorn.Config(
        app, host=host, port=port, http=protocol, ws="none", log_level="warning", proxy_headers=False
    )
    uvicorn.Server(config).run()


def build(url: str, api_key: str, *, session: str | None, stdio: bool) -> MCPServer:
    """Make a server whose tools ask the broker at ``url``.

    Over stdio there is one client, so its calls belong to one session; over HTTP a client is told its session's name.
    """
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    http = httpx.AsyncClient(base_url=url, headers=headers, timeout=TOOL_TIMEOUT, trust_env=False)

    @contextlib.asynccontextmanager
    async def lifespan(_server: MCPServer) -> AsyncIterator[None]:
        yield
        if stdio:  # over HTTP a lifespan is a client's, and the others go on
            await http.aclose()

    server = MCPServer(
        "hotseat", instructions=INSTRUCTIONS, version=__version__, log_level="WARNING", lifespan=lifespan
    )
    only_session = session or (f"mcp:{uuid4().hex[:12]}" if stdio else None)
    tools = BrokerTools(http)
    for add in (_add_lease_tools, _add_looking_tools, _add_complete):
        add(server, tools, only_session)
    _add_resources(server, tools)
    return server


def _add_lease_tools(server: MCPServer, tools: BrokerTools, only_session: str | None) -> None:
    """Add the tools around leases. Each is a few lines over ``BrokerTools``; its docstring is what the agent reads."""

    @server.tool()
    async def lease_model(
        ctx: Context,
        model: ModelArgument,
        intent: IntentArgument = "use",
        ttl_s: TtlArgument = 300.0,
        wait_s: WaitArgument = 20.0,
        priority: PriorityArgument = "normal",
        session: SessionArgument = None,
    ) -> _Answer:
        """Reserve a model through several steps, or keep it warm; answers the place in line when others are ahead."""
        ask = WantedLease(
            session=_session(session, only_session), model=model, intent=intent, ttl_s=ttl_s, priority=priority
        )
        with _told():
            lease = await tools.lease(ask, wait_s=wait_s, waiting=Teller(ctx))
        return _lease_answer(ask, lease)

    @server.tool()
    async def release_model(
        model: ModelArgument, intent: IntentArgument = "use", session: SessionArgument = None
    ) -> _Answer:
        """Give a model back, or leave its line, so that others can go on."""
        ask = WantedLease(session=_known(session, only_session), model=model, intent=intent)
        with _told():
            return {"released": await tools.release(ask)}


def _add_looking_tools(server: MCPServer, tools: BrokerTools, only_session: str | None) -> None:
    @server.tool()
    async def gpu_status() -> _Answer:
        """What is loaded on the GPUs, which models there are, who uses them and how many wait."""
        with _told():
            return await tools.status()

    @server.tool()
    async def queue_position(session: SessionArgument = None) -> _Answer:
        """Your leases: which you hold, where you stand in line, when it is your turn, and why you wait."""
        with _told():
            return {"leases": await tools.position(_known(session, only_session))}


def _add_complete(server: MCPServer, tools: BrokerTools, only_session: str | None) -> None:
    @server.tool()
    async def complete(  # noqa: PLR0913, PLR0917  its parameters are the tool's, as the SDK reads them
        ctx: Context,
        model: ModelArgument,
        prompt: Annotated[str, Field(min_length=1)],
        system: str = "",
        max_tokens: Annotated[int, Field(ge=1, le=131_072)] = 512,
        temperature: Annotated[float | None, Field(ge=0, le=2)] = None,
        wait_s: WaitArgument = 60.0,
        priority: PriorityArgument = "normal",
        session: SessionArgument = None,
    ) -> _Answer:
        """One answer of a local model: waits for the GPU, asks the model, gives the GPU back."""
        ask = WantedLease(
            session=_session(session, only_session), model=model, ttl_s=COMPLETION_TTL_S, priority=priority
        )
        asked = Prompt(text=prompt, system=system, max_tokens=max_tokens, temperature=temperature)
        with _told():
            return await tools.complete(ask, asked, wait_s=wait_s, waiting=Teller(ctx))


def _add_resources(server: MCPServer, tools: BrokerTools) -> None:
    @server.resource("hotseat://queue", title="The queue", mime_type="application/json")
    async def queue() -> str:
        """Who holds and who waits, in order of service."""
        try:
            return json.dumps(await tools.queue())
        except BrokerToolError as error:
            raise ResourceError(str(error)) from error

    @server.resource("hotseat://models", title="The models", mime_type="application/json")
    async def models() -> str:
        """The catalogue: state, memory, load time, holders and waiters."""
        try:
            return json.dumps(await tools.models())
        except BrokerToolError as error:
            raise ResourceError(str(error)) from error


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Hand the broker's refusals on, for the agent to read."""
    try:
        yield
    except BrokerToolError as error:
        raise ToolError(str(error)) from error


def _session(given: str | None, only_session: str | None) -> str:
    return given or only_session or f"mcp:{uuid4().hex[:12]}"


def _known(given: str | None, only_session: str | None) -> str:
    session = given or only_session
    if session is None:
        raise ToolError("say which session: lease_model answers it as `session`")
    return session


def _lease_answer(ask: WantedLease, lease: _Answer) -> _Answer:
    kept = ("state", "position", "etaSeconds", "waitReason", "expiresInSeconds", "endpoint", "leaseId")
    answer = {"session": ask.session, "model": ask.model} | {name: lease[name] for name in kept if name in lease}
    if lease["state"] == "queued":
        answer["next"] = f"GPU busy: {place_of(lease)}. Call lease_model again with this session to go on waiting."
    return answer


class Teller:
    """Tells a client that waits how things stand, where it asked for progress."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._told = 0

    async def __call__(self, words: str) -> None:
        """Report progress in words; each report has a higher number, as the protocol wants it."""
        self._told += 1
        await self._ctx.report_progress(self._told, message=words)


def _parser() -> argparse.ArgumentParser:
    parser = CommandLine(
        prog="hotseat mcp",
        description="Serve the GPU to MCP clients: gpu_status, lease_model, release_model, queue_position, complete.",
        epilog="The API key comes from HOTSEAT_API_KEY (scopes lease and observe).",
    )
    parser.add_argument("--url", help="broker's address (HOTSEAT_URL; http://127.0.0.1:4687)")
    parser.add_argument("--session", help="session key of every call that names none (default: one per client)")
    parser.add_argument(
        "--http",
        type=words.whole(0, words.HIGHEST_PORT),
        metavar="PORT",
        help="streamable HTTP at /mcp instead of stdio",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address for --http (127.0.0.1)")
    return parser
