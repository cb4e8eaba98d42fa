"""Accounts of the data path: Prometheus series and one log line per request, never content."""

import logging

import msgspec

from broker.accounting.answers import AnswerAccounts
from broker.accounting.counters import Counts, Histograms
from broker.accounting.daily_counts import DailyCounts
from broker.accounting.metrics import WAIT_BUCKETS, Metrics
from broker.accounting.pace import AnswerPace
from broker.routing.speeds import Speeds
from schemas.log_lines import tell

log = logging.getLogger("hotseat.gateway")

FIRST_BYTE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600)


class RequestAccount(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one request. Durations in seconds."""

    path: str
    model: str
    """The catalogue's name for the model; empty where the client named none of the catalogue."""
    route: str
    reason: str
    private: str
    """Why the request might not leave for a cloud: one of our words, never one of the request's; empty: it might
    leave."""
    outcome: str
    """``served``, ``client_gone``, or the code of what the client was told."""
    status: int
    """HTTP status the client was sent; 0 means that nothing was sent."""
    key: str
    lease_id: str
    waited_s: float
    """How long the request waited for its lease."""
    took_s: float
    first_byte_s: float | None
    """From the grant, or from the question to a cloud, to the first piece of the answer that is passed on."""
    sent: int
    """Bytes of the model server's answer that were passed on."""
    retries: int
    pace: AnswerPace | None = None
    """How fast it was answered; None: it shows nothing."""
    answer: str = ""
    """What the last answer of a model server was worth (``broker.answers.verdict.Reason``); empty: there was none."""
    request_id: str = ""
    """The id that the client was told for its request."""


class Accounts:
    """The metrics of the data path, and its part of the day's report."""

    def __init__(self, metrics: Metrics, book: DailyCounts) -> None:
        self.book = book
        self.speeds = Speeds()
        registry = metrics.registry
        self.answers = AnswerAccounts(registry, book)
        self._requests = Counts(
            "hotseat_gateway_requests",
            "Requests of /v1 by what became of them",
            ["path", "model", "route", "reason", "outcome"],
            registry=registry,
        )
        self._waits = Histograms(
            "hotseat_gateway_wait_seconds",
            "From a request to its lease",
            ["model"],
            buckets=WAIT_BUCKETS,
            registry=registry,
        )
        self._first_bytes = Histograms(
            "hotseat_gateway_first_byte_seconds",
            "From the lease, or the question to an upstream, to the first byte that is passed on",
            ["model"],
            buckets=FIRST_BYTE_BUCKETS,
            registry=registry,
        )
        self._retries = Counts(
            "hotseat_gateway_retries", "Requests tried again before their first byte", ["model"], registry=registry
        )

    def close(self, account: RequestAccount) -> None:
        """Count a request that is over, and write its log line."""
        labels = (account.path, account.model, account.route, account.reason, account.outcome)
        self._requests.labels(*labels).inc()
        self.book.count("requests", account.route, account.reason)
        self.book.count("outcomes", account.route, account.outcome)
        if account.model:
            self._measure(account)
        if (pace := account.pace) is not None:
            self.speeds.learn(
                account.model, now_s=pace.ended_s, first_s=pace.first_s, tokens=pace.tokens, over_s=pace.over_s
            )
        if account.retries:
            self._retries.labels(account.model).inc(account.retries)
            self.book.count("retries", account.model, by=account.retries)
        tell(log, "request_closed", _fields(account))

    def _measure(self, account: RequestAccount) -> None:
        if account.lease_id:
            self._waits.labels(account.model).observe(account.waited_s)
            self.book.took("wait", account.model, seconds=account.waited_s)
        if account.first_byte_s is not None:
            self._first_bytes.labels(account.model).observe(account.first_byte_s)
            self.book.took("firstByte", account.route, account.model, seconds=account.first_byte_s)


def _fields(account: RequestAccount) -> dict[str, object]:
    first = account.first_byte_s
    return {
        "path": account.path,
        "model": account.model,
        "route": account.route,
        "reason": account.reason,
        "private": account.private,
        "outcome": account.outcome,
        "status": account.status,
        "key": account.key,
        "lease_id": account.lease_id,
        "waited_ms": round(account.waited_s * 1000),
        "first_byte_ms": -1 if first is None else round(first * 1000),
        "took_ms": round(account.took_s * 1000),
        "sent_bytes": account.sent,
        "retries": account.retries,
        "answer": account.answer,
        "request_id": account.request_id,
    }
