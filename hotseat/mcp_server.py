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

from broker.api.connections import guarded
from broker.api.guard import Guard, Words
from broker.api.names import Names, is_loopback
from broker.api.origins import Origins
from broker.api.refusals import RefusalLog
from broker.api.whole_requests import Bounds
from hotseat import __version__
from hotseat.client import DEFAULT_URL
from hotseat.mcp_desk import COMPLETION_TTL_S, TIMEOUT, Ask, Desk, DeskError, Prompt, place_of
from schemas import hangup, log_lines

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

Session = Annotated[str | None, Field(description=SESSION, min_length=1, max_length=256)]
Model = Annotated[str, Field(description="A name that gpu_status lists", min_length=1, max_length=128)]
Wait = Annotated[float, Field(description="Seconds to wait in line before answering", ge=0, le=3600)]
Intent = Annotated[Literal["use", "warm"], Field(description="use: calling it now; warm: will need it again soon")]
Ttl = Annotated[float, Field(description="Seconds the lease lives; ask again to prolong it", ge=1, le=3600)]
Priority = Literal["interactive", "normal", "background", "batch"]
Answer = dict[str, Any]


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
    server = build(url, os.environ.get("HOTSEAT_API_KEY", ""), session=arguments.session, stdio=arguments.http is None)
    if arguments.http is None:
        server.run("stdio")
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
    """A server whose tools ask the broker at ``url``.

    Over stdio there is one client, so its calls belong to one session; over HTTP a client is told its session's name.
    """
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    http = httpx.AsyncClient(base_url=url, headers=headers, timeout=TIMEOUT, trust_env=False)

    @contextlib.asynccontextmanager
    async def lifespan(_server: MCPServer) -> AsyncIterator[None]:
        yield
        if stdio:  # over HTTP a lifespan is a client's, and the others go on
            await http.aclose()

    server = MCPServer(
        "hotseat", instructions=INSTRUCTIONS, version=__version__, log_level="WARNING", lifespan=lifespan
    )
    only_session = session or (f"mcp:{uuid4().hex[:12]}" if stdio else None)
    desk = Desk(http)
    for add in (_add_lease_tools, _add_looking_tools, _add_complete):
        add(server, desk, only_session)
    _add_resources(server, desk)
    return server


def _add_lease_tools(server: MCPServer, desk: Desk, only_session: str | None) -> None:
    """Each tool is a few lines over the desk; its docstring is what the agent reads."""

    @server.tool()
    async def lease_model(
        ctx: Context,
        model: Model,
        intent: Intent = "use",
        ttl_s: Ttl = 300.0,
        wait_s: Wait = 20.0,
        priority: Priority = "normal",
        session: Session = None,
    ) -> Answer:
        """Reserve a model through several steps, or keep it warm; answers the place in line when others are ahead."""
        ask = Ask(session=_session(session, only_session), model=model, intent=intent, ttl_s=ttl_s, priority=priority)
        with _told():
            lease = await desk.lease(ask, wait_s=wait_s, waiting=Teller(ctx))
        return _lease_answer(ask, lease)

    @server.tool()
    async def release_model(model: Model, intent: Intent = "use", session: Session = None) -> Answer:
        """Give a model back, or leave its line, so that others can go on."""
        ask = Ask(session=_known(session, only_session), model=model, intent=intent)
        with _told():
            return {"released": await desk.release(ask)}


def _add_looking_tools(server: MCPServer, desk: Desk, only_session: str | None) -> None:
    @server.tool()
    async def gpu_status() -> Answer:
        """What is loaded on the GPUs, which models there are, who uses them and how many wait."""
        with _told():
            return await desk.status()

    @server.tool()
    async def queue_position(session: Session = None) -> Answer:
        """Your leases: which you hold, where you stand in line, when it is your turn, and why you wait."""
        with _told():
            return {"leases": await desk.position(_known(session, only_session))}


def _add_complete(server: MCPServer, desk: Desk, only_session: str | None) -> None:
    @server.tool()
    async def complete(  # noqa: PLR0913, PLR0917  its parameters are the tool's, as the SDK reads them
        ctx: Context,
        model: Model,
        prompt: Annotated[str, Field(min_length=1)],
        system: str = "",
        max_tokens: Annotated[int, Field(ge=1, le=131_072)] = 512,
        temperature: Annotated[float | None, Field(ge=0, le=2)] = None,
        wait_s: Wait = 60.0,
        priority: Priority = "normal",
        session: Session = None,
    ) -> Answer:
        """One answer of a local model: waits for the GPU, asks the model, gives the GPU back."""
        ask = Ask(session=_session(session, only_session), model=model, ttl_s=COMPLETION_TTL_S, priority=priority)
        asked = Prompt(text=prompt, system=system, max_tokens=max_tokens, temperature=temperature)
        with _told():
            return await desk.complete(ask, asked, wait_s=wait_s, waiting=Teller(ctx))


def _add_resources(server: MCPServer, desk: Desk) -> None:
    @server.resource("hotseat://queue", title="The queue", mime_type="application/json")
    async def queue() -> str:
        """Who holds and who waits, in order of service."""
        try:
            return json.dumps(await desk.queue())
        except DeskError as error:
            raise ResourceError(str(error)) from error

    @server.resource("hotseat://models", title="The models", mime_type="application/json")
    async def models() -> str:
        """The catalogue: state, memory, load time, holders and waiters."""
        try:
            return json.dumps(await desk.models())
        except DeskError as error:
            raise ResourceError(str(error)) from error


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What the desk cannot do, the agent reads."""
    try:
        yield
    except DeskError as error:
        raise ToolError(str(error)) from error


def _session(given: str | None, only_session: str | None) -> str:
    return given or only_session or f"mcp:{uuid4().hex[:12]}"


def _known(given: str | None, only_session: str | None) -> str:
    session = given or only_session
    if session is None:
        raise ToolError("say which session: lease_model answers it as `session`")
    return session


def _lease_answer(ask: Ask, lease: Answer) -> Answer:
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
        """Report progress."""
        self._told += 1
        await self._ctx.report_progress(self._told, message=words)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hotseat mcp",
        description="Serve the GPU to MCP clients: gpu_status, lease_model, release_model, queue_position, complete.",
        epilog="The API key comes from HOTSEAT_API_KEY (scopes lease and observe).",
    )
    parser.add_argument("--url", help="broker's address (HOTSEAT_URL; http://127.0.0.1:4687)")
    parser.add_argument("--session", help="session key of every call that names none (default: one per client)")
    parser.add_argument("--http", type=int, metavar="PORT", help="streamable HTTP at /mcp instead of stdio")
    parser.add_argument("--host", default="127.0.0.1", help="address for --http (127.0.0.1)")
    return parser
