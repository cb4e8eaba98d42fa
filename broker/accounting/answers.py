"""Prometheus series of what model servers answer: tokens, first tokens, failures, and what is thought of the models."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Gauge

from broker.accounting.counters import Counts, Histograms
from broker.accounting.daily_counts import DailyCounts
from broker.answers.verdict import Verdict

LOCAL = "local"
"""The route of the pool's own models, as in ``broker.routing``."""
FIRST_TOKEN_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600)


class AnswerAccounts:
    """The series; models are those of the pool and of the upstreams, so they are few."""

    def __init__(self, registry: CollectorRegistry, book: DailyCounts) -> None:
        self._book = book
        self._tokens = Counts(
            "hotseat_gateway_tokens",
            "As the answers' usage says; those that were thrown away included",
            ["route", "model", "kind"],
            registry=registry,
        )
        self._first_tokens = Histograms(
            "hotseat_gateway_first_token_seconds",
            "From the request to the model server to the first token of its stream, reasoning included",
            ["model"],
            buckets=FIRST_TOKEN_BUCKETS,
            registry=registry,
        )
        self._failures = Counts(
            "hotseat_gateway_semantic_failures",
            "Answers with status 200 that are of no use, unseen ones and canaries included",
            ["route", "model", "reason"],
            registry=registry,
        )
        self._trust = Gauge(
            "hotseat_gateway_trust", "1 for what is thought of a model's answers", ["model", "state"], registry=registry
        )

        self._deaths = Counts(
            "hotseat_gateway_server_deaths",
            "Model servers that died, or broke off, under requests of /v1",
            ["model"],
            registry=registry,
        )
        self._banned = Gauge(
            "hotseat_gateway_banned",
            "Kinds of requests that a model is not sent, for its server died of them",
            ["model"],
            registry=registry,
        )

    def judged(self, route: str, model: str, verdict: Verdict, asked_s: float) -> None:
        """Count the verdict on a model's answer."""
        if verdict.failed:
            self._failures.labels(route, model, verdict.reason).inc()
            self._book.count("semanticFailures", route, model, verdict.reason)
        if verdict.usage.prompt:
            self._tokens.labels(route, model, "prompt").inc(verdict.usage.prompt)
            self._book.count("tokens", route, model, "prompt", by=verdict.usage.prompt)
        if verdict.usage.completion:
            self._tokens.labels(route, model, "completion").inc(verdict.usage.completion)
            self._book.count("tokens", route, model, "completion", by=verdict.usage.completion)
        if verdict.streamed and verdict.marks.first_token_s is not None:
            took_s = max(0.0, verdict.marks.first_token_s - asked_s)
            self._first_tokens.labels(model).observe(took_s)
            self._book.took("firstToken", model, seconds=took_s)

    def broke_schema(self, route: str, model: str) -> None:
        """Count an answer that broke the schema its request wants held."""
        self._failures.labels(route, model, "schema").inc()
        self._book.count("semanticFailures", route, model, "schema")

    def trust(self, model: str, states: Mapping[str, bool]) -> None:
        """Show in which state of trust a model is now: one series for each state."""
        for state, is_in_it in states.items():
            self._trust.labels(model, state).set(is_in_it)

    def died(self, model: str) -> None:
        """Count a model server that died at work."""
        self._deaths.labels(model).inc()

    def banned(self, model: str, kinds: int) -> None:
        """Show how many kinds of requests a model is not sent."""
        self._banned.labels(model).set(kinds)
