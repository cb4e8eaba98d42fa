"""``hotseat poller``: keep the models of OpenClaw's conversations warm."""

import argparse
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from queue import Empty, SimpleQueue

from hooks.openclaw.poller.activity import ActivitySettings, ModelNames, SessionWatch, Warm
from hooks.openclaw.poller.config import PollerConfig, PollerSection, load_config, secret_of
from hooks.openclaw.poller.poller import Poller, Tick, closing
from hooks.openclaw.poller.publishing.http_api import HttpPublisher
from hooks.openclaw.poller.publishing.port import Publisher
from hooks.openclaw.poller.publishing.redis_stream import RedisPublisher, StoreAddress
from hooks.openclaw.poller.sources.auto import AutoSource
from hooks.openclaw.poller.sources.gateway_api import GatewayApiSource
from hooks.openclaw.poller.sources.legacy_json import LegacyJsonSource
from hooks.openclaw.poller.sources.port import Source
from hooks.openclaw.poller.sources.sqlite import SqliteSource
from schemas import hangup, log_lines
from schemas.command_line import CommandLine, add_config
from schemas.config.file import ConfigError

EXIT_CONFIG = 2
FLAGS = ("source", "state_dir", "gateway_url", "gateway_token_file", "publish", "broker_url", "default_model")
log = logging.getLogger("hotseat.poller")


def main(argv: list[str] | None = None) -> int:
    """Poll until a signal, or once.

    Returns:
        0 stopped, or published; 2 the configuration is wrong; with ``--once`` also 3 not published, 4 the sessions
        could not be read, 5 they are in a form this version does not know.
    """
    arguments = _parser().parse_args(argv)
    try:
        config = load_config(arguments.config, os.environ, _given(arguments))
        log_lines.set_up(config.poller.log_format, config.poller.log_level)
        logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each call says nothing of its own
        poller = build(config, os.environ, dry_run=arguments.dry_run)
    except ConfigError as error:
        print(f"hotseat poller: {error}", file=sys.stderr)
        return EXIT_CONFIG
    with closing(poller):
        if not arguments.once:
            return _run(poller, config.poller)
        done = poller.tick()
    print(json.dumps(_document(done), indent=2) if arguments.json else _sentence(done))
    return done.trouble.value


def build(config: PollerConfig, environ: Mapping[str, str], *, dry_run: bool) -> Poller:
    """Put the parts together.

    Raises:
        ConfigError: A file with a secret cannot be read.
    """
    section = config.poller
    watch = SessionWatch(
        settings=ActivitySettings(active_s=section.active_s, silent_run_s=section.silent_run_s, ttl_s=section.ttl_s),
        models=ModelNames(
            names=section.models, providers=frozenset(section.providers), default=section.default_model or None
        ),
    )
    publisher = None if dry_run else _publisher(config, environ)
    return Poller(_source(section), publisher, watch, clock=time.monotonic)


def _source(section: PollerSection) -> Source:
    if section.source == "gateway-api":
        assert section.gateway_token_file is not None
        token = secret_of(section.gateway_token_file, "gateway_token_file")
        return GatewayApiSource(
            section.gateway_url, token, limit=section.max_sessions, active_s=section.active_s + section.silent_run_s
        )
    if section.source == "legacy-json":
        return LegacyJsonSource(section.state_dir)
    if section.source == "sqlite":
        return SqliteSource(section.state_dir, limit=section.max_sessions)
    return AutoSource(section.state_dir, limit=section.max_sessions)


def _publisher(config: PollerConfig, environ: Mapping[str, str]) -> Publisher:
    section, store = config.poller, config.store
    if section.publish == "redis":
        address = StoreAddress(url=store.url, pool=store.pool, username=store.username, password=store.read_password())
        return RedisPublisher(address, publisher=section.publisher, ttl_s=section.ttl_s, priority=section.priority)
    file = section.api_key_file
    api_key = environ.get("HOTSEAT_API_KEY", "") if file is None else secret_of(file, "api_key_file")
    return HttpPublisher(section.broker_url, api_key, ttl_s=section.ttl_s, priority=section.priority)


def _run(poller: Poller, section: PollerSection) -> int:
    heard: SimpleQueue[int] = SimpleQueue()
    # A handler runs in the midst of the wait it is to end. This queue's put bears that; Event.set, whose lock the wait
    # may be holding, would wait for itself for ever.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: heard.put(number))
    log.info("poller_started", extra={"source": section.source, "publish": section.publish})
    poller.run(lambda: _told_to_end(heard, section.period_s))
    log.info("poller_stopped")
    return 0


def _told_to_end(heard: SimpleQueue[int], period_s: float) -> bool:
    """Let a period pass, or as much of it as signals allow."""
    ends_s = time.monotonic() + period_s
    while True:
        try:
            number = heard.get(timeout=max(0.0, ends_s - time.monotonic()))
        except Empty:
            return False
        if number != signal.SIGHUP:
            return True
        hangup.say_ignored(log)


def _document(tick: Tick) -> dict[str, object]:
    document: dict[str, object] = {"trouble": tick.trouble.name.lower()}
    if tick.why:
        document["why"] = tick.why
    if tick.refused:
        document["refused"] = dict(tick.refused)
    if tick.reading is not None:
        document |= {"sessions": len(tick.reading.sessions), "faults": list(tick.reading.faults)}
    if tick.plan is not None:
        document |= {"warm": [_warm(warm) for warm in tick.plan.renew], "notOurs": list(tick.plan.foreign)}
    return document


def _warm(warm: Warm) -> dict[str, str]:
    return {"sessionKey": warm.session, "model": warm.model}


def _sentence(tick: Tick) -> str:
    if tick.reading is None or tick.plan is None:
        return f"nothing was read: {tick.why}"
    lines = [f"sessions: {len(tick.reading.sessions)}; keeping a model warm: {tick.plan.kept}"]
    lines += [f"  {warm.model}  {warm.session}" for warm in tick.plan.renew]
    if tick.plan.foreign:
        lines.append(f"not ours, see poller.providers and poller.models: {', '.join(tick.plan.foreign)}")
    lines += [f"refused by the broker: {model}: {why}" for model, why in tick.refused.items()]
    lines += [f"not read: {fault}" for fault in tick.reading.faults]
    return "\n".join([*lines, f"not published: {tick.why}"] if tick.why else lines)


def _given(arguments: argparse.Namespace) -> dict[str, str]:
    return {name: value for name in FLAGS if (value := getattr(arguments, name)) is not None}


def _parser() -> argparse.ArgumentParser:
    parser = CommandLine(
        prog="hotseat poller",
        description="Keep the models of OpenClaw's conversations warm: reads sessions, publishes warm leases.",
        epilog="Everything can also stand in [poller] of hotseat.toml. Try: hotseat poller --once --dry-run",
    )
    add_config(parser)
    parser.add_argument("--once", action="store_true", help="look once, publish, print what was done, end")
    parser.add_argument("--dry-run", action="store_true", help="publish nothing")
    parser.add_argument("--json", action="store_true", help="with --once: print JSON")
    parser.add_argument("--source", help="auto, sqlite, legacy-json or gateway-api")
    parser.add_argument("--state-dir", help="OpenClaw's state folder (~/.openclaw)")
    parser.add_argument("--gateway-url", help="for gateway-api (ws://127.0.0.1:18789)")
    parser.add_argument("--gateway-token-file", help="for gateway-api")
    parser.add_argument("--publish", help="http or redis")
    parser.add_argument("--broker-url", help="for http (http://127.0.0.1:4687)")
    parser.add_argument("--default-model", help="provider/model of sessions that name none yet")
    return parser


if __name__ == "__main__":
    sys.exit(main())
