"""Accounts of the data path: Prometheus series and one log line per request, never content."""

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client import Counter, Histogram

from broker.daybook import Daybook
from broker.metrics import WAIT_BUCKETS, Metrics

log = logging.getLogger("hotseat.gateway")

FIRST_BYTE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600)
_USAGE = re.compile(rb'"(prompt_tokens|input_tokens|completion_tokens|output_tokens)"\s*:\s*(\d{1,9})')
_KINDS = {b"prompt_tokens": "prompt", b"input_tokens": "prompt"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What became of one request. Durations in seconds."""

    path: str
    model: str
    """Of the catalogue; empty where the client named none of it."""
    route: str
    reason: str
    outcome: str
    """``served``, ``client_gone``, or the code of what the client was told."""
    status: int
    """0: nothing was sent."""
    key: str
    lease_id: str
    waited_s: float
    """For the lease."""
    took_s: float
    first_byte_s: float | None
    """From the grant to the model server's first piece."""
    sent: int
    """Bytes of the model server's."""
    retries: int


class Accounts:
    """The data path's series, and its part of the day's report."""

    def __init__(self, metrics: Metrics, book: Daybook) -> None:
        self._book = book
        registry = metrics.registry
        self._requests = Counter(
            "hotseat_gateway_requests",
            "Requests of /v1 by what became of them",
            ["path", "model", "route", "reason", "outcome"],
            registry=registry,
        )
        self._waits = Histogram(
            "hotseat_gateway_wait_seconds",
            "From a request to its lease",
            ["model"],
            buckets=WAIT_BUCKETS,
            registry=registry,
        )
        self._first_bytes = Histogram(
            "hotseat_gateway_first_byte_seconds",
            "From the lease to the model server's first byte",
            ["model"],
            buckets=FIRST_BYTE_BUCKETS,
            registry=registry,
        )
        self._tokens = Counter(
            "hotseat_gateway_tokens", "As the answers' usage says", ["model", "kind"], registry=registry
        )
        self._retries = Counter(
            "hotseat_gateway_retries", "Requests tried again before their first byte", ["model"], registry=registry
        )
        self._children: dict[tuple[str, ...], Counter] = {}
        self._by_model: dict[str, tuple[Histogram, Histogram]] = {}

    def close(self, account: Account, tail: Iterable[bytes]) -> None:
        """A request is over."""
        labels = (account.path, account.model, account.route, account.reason, account.outcome)
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self._requests.labels(*labels)
        child.inc()
        self._book.count("requests", account.route, account.reason)
        self._book.count("outcomes", account.route, account.outcome)
        if account.lease_id and account.model:
            self._measure(account)
        if account.retries:
            self._retries.labels(account.model).inc(account.retries)
            self._book.count("retries", account.model, by=account.retries)
        if account.sent and account.model:
            for kind, count in tokens_in(b"".join(tail)).items():
                self._tokens.labels(account.model, kind).inc(count)
                self._book.count("tokens", account.route, account.model, kind, by=count)
        log.info("request_closed", extra=_fields(account))

    def _measure(self, account: Account) -> None:
        pair = self._by_model.get(account.model)
        if pair is None:
            pair = (self._waits.labels(account.model), self._first_bytes.labels(account.model))
            self._by_model[account.model] = pair
        pair[0].observe(account.waited_s)
        self._book.took("wait", account.model, seconds=account.waited_s)
        if account.first_byte_s is not None:
            pair[1].observe(account.first_byte_s)
            self._book.took("firstByte", account.route, account.model, seconds=account.first_byte_s)


def tokens_in(tail: bytes) -> dict[str, int]:
    """The last usage that the end of an answer mentions, by ``prompt`` and ``completion``."""
    return {_KINDS.get(name, "completion"): int(count) for name, count in _USAGE.findall(tail)}


def _fields(account: Account) -> dict[str, object]:
    first = account.first_byte_s
    return {
        "path": account.path,
        "model": account.model,
        "route": account.route,
        "reason": account.reason,
        "outcome": account.outcome,
        "status": account.status,
        "key": account.key,
        "lease_id": account.lease_id,
        "waited_ms": round(account.waited_s * 1000),
        "first_byte_ms": -1 if first is None else round(first * 1000),
        "took_ms": round(account.took_s * 1000),
        "sent_bytes": account.sent,
        "retries": account.retries,
    }
