"""Every error has its row on the error page, and every dialect tells it so."""

import ast
import importlib
import pkgutil
from collections import defaultdict
from pathlib import Path

import msgspec
import pytest

import broker
from broker.core import errors as core_errors
from broker.core.errors import HotseatError
from broker.protocol.endpoints import ENDPOINTS, Dialect
from broker.protocol.error_bodies import ClientError, body_of, client_error_of, last_event
from broker.protocol.error_page import ERRORS, Surface, title_of, type_of
from broker.protocol.problems import problem, reply_of
from broker.protocol.refusals import Refusal
from broker.routing.decision import RouteReason

ROOT = Path(__file__).parents[2]
PACKAGES = ("broker", "gpu_worker", "hooks", "hotseat", "schemas")
CARRIERS = {"ClientError", "Refusal", "problem", "_full"}
"""What takes a code as a word."""
REFUSING = {
    RouteReason.INCAPABLE,
    RouteReason.TOO_LONG,
    RouteReason.PRIVATE_REFUSED,
    RouteReason.BUDGET_REFUSED,
    RouteReason.UNAVAILABLE,
    RouteReason.UNKNOWN_MODEL,
}


def modules():
    for found in pkgutil.walk_packages(broker.__path__, "broker."):
        importlib.import_module(found.name)


def tree_of(root):
    yield root
    for child in root.__subclasses__():
        yield from tree_of(child)


def error_classes():
    modules()
    return [one for one in dict.fromkeys(tree_of(HotseatError)) if one.__module__.startswith("broker.")]


def sources(package):
    for path in sorted((ROOT / package).rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def name_of(call):
    return getattr(call.func, "id", getattr(call.func, "attr", ""))


def code_words():
    """Every code that stands in the broker's source as a word, with where."""
    words = defaultdict(list)
    for path, tree in sources("broker"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and name_of(node) in CARRIERS:
                given = [word.value for word in node.keywords if word.arg == "code"]
                given += node.args[:1] if name_of(node) == "problem" else []
            elif isinstance(node, ast.ClassDef) and any(
                getattr(base, "id", "").endswith("Error") for base in node.bases
            ):
                given = [
                    line.value
                    for line in node.body
                    if isinstance(line, ast.Assign) and getattr(line.targets[0], "id", "") == "code"
                ]
            else:
                continue
            for value in given:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    words[value.value].append(path.name)
    return words


def test_every_error_class_has_its_row():
    assert [one.__qualname__ for one in error_classes() if one.code not in ERRORS] == []


def test_every_code_that_is_told_has_its_row_and_every_row_is_told():
    words = code_words()
    assert {word: where for word, where in words.items() if word not in ERRORS} == {}
    told = set(words) | {one.code for one in error_classes()} | {str(reason) for reason in REFUSING}
    assert set(ERRORS) - told - {"http_error", "not_acceptable"} == set()


@pytest.mark.parametrize("code", ERRORS)
def test_every_dialect_tells_it_with_status_type_and_time(code):
    row, client = ERRORS[code], ClientError(code=code, message="what to do")
    reply = problem(code, "what to do")
    document = msgspec.json.decode(reply.body)
    assert (reply.status, document["status"], document["code"]) == (row.status, row.status, code)
    assert (document["type"], document["title"]) == (f"urn:hotseat:problem:{code}", title_of(row.status))
    assert document.get("retryAfterSeconds") == row.after_s
    assert dict(reply.headers).get(b"retry-after") == (None if row.after_s is None else b"%d" % row.after_s)
    for dialect in Dialect:
        error = msgspec.json.decode(body_of(client, dialect))["error"]
        assert error["type"] == type_of(row.status_in(dialect), dialect)
        assert (error["code"], error.get("retry_after_s")) == (row.v1_code or code, row.after_s)
        assert client.status == row.status_in(dialect)
        assert dict(client.headers()).get(b"retry-after") == dict(reply.headers).get(b"retry-after")
        assert (b"x-should-retry" in dict(client.headers())) is row.is_lasting
    for endpoint in ENDPOINTS:
        assert (row.v1_code or code).encode() in last_event(client, endpoint)


def test_a_second_status_has_its_reason_and_only_a_second_status_has_one():
    for code, row in ERRORS.items():
        assert (row.v1_status is not None) is bool(row.because), code
        assert row.v1_status != row.status, code
        assert row.where is Surface.EVERYWHERE or row.v1_status is None, code


@pytest.mark.parametrize(
    "code, ours, v1",
    [
        ("busy", 429, 429),
        ("internal", 500, 500),
        ("stale", 409, 409),
        ("bad_argument", 422, 400),
        ("load_failed", 424, 503),
        ("model_quarantined", 424, 503),
        ("model_too_large", 422, 503),
    ],
)
def test_what_two_tables_once_disagreed_about_is_settled(code, ours, v1):
    found = problem(code, "no").status, ClientError(code=code, message="no").status
    assert found == (ours, v1)


def test_what_is_refused_below_the_routes_is_the_same_status_in_every_dialect():
    carriers = [path for path, _ in sources("broker") if "Refusal(" in path.read_text(encoding="utf-8")]
    assert carriers
    for code, where in code_words().items():
        if any(path.name in where for path in carriers):
            refusal = Refusal(code=code, detail="no")
            assert {refusal.reply(dialect).status for dialect in (None, *Dialect)} == {refusal.status}, code


def test_an_error_that_knows_when_to_ask_again_is_one_that_says_so():
    for one in error_classes():
        if issubclass(one, (core_errors.CapacityError, core_errors.ModelUnavailableError)) and one.code != "internal":
            assert ERRORS[one.code].after_s is not None, one


@pytest.mark.parametrize("code", [code for code, row in ERRORS.items() if row.advice])
def test_what_is_for_the_operator_is_told_to_no_client(code):
    error = type("Secretive", (HotseatError,), {"code": code})("redis://:hunter2@store:6379 refused us")
    trouble = client_error_of(error)
    assert b"hunter2" not in reply_of(error).body
    assert b"hunter2" not in body_of(trouble, Dialect.OPENAI) + body_of(trouble, Dialect.ANTHROPIC)


def test_no_exception_class_exists_twice():
    where = defaultdict(list)
    for package in PACKAGES:
        for path, tree in sources(package):
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
                    where[node.name].append(str(path.relative_to(ROOT)))
    assert {name: files for name, files in where.items() if len(files) > 1} == {}
