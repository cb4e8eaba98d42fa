"""Whatever stands in a rival's file shows in what is printed: as a value, or as a remark that it is none."""

import copy
import datetime as dt
import math
import re
from pathlib import Path

import pytest

from hotseat.commands.import_ import check, kind_of
from hotseat.migration.litellm.file import from_litellm
from hotseat.migration.llama_swap.file import from_llama_swap
from hotseat.migration.yaml_file import ImportFailedError, read_yaml

HERE = Path(__file__).parent / "sources"
FILES = sorted(HERE.glob("*/*.yaml"))
ENVIRON = {
    "WORKSHOP_KEY": "of-the-environment",
    "HOUSEHOLD_KEY": "sk-household",
    "HAIKU_TIER": "haiku",
    "ASSISTANT_MODEL": "openai/qwen3",
    "LOCAL_URL": "http://10.0.0.5:8080/v1",
    "AZURE_API_BASE": "https://example.openai.azure.com",
    "T_NAME": "everything",
    "T_MODEL": "some/model",
    "T_BASE": "http://10.0.0.9:8000/v1",
    "T_KEY": "sk-from-the-environment",
    "T_PROVIDER": "hosted_vllm",
    "T_COUNT": "6",
    "T_TEMPERATURE": "0.25",
    "T_MODE": "chat",
    "T_CONTEXT": "40960",
    "T_TRUE": "true",
    "T_SECONDS": "300",
    "T_BUDGET": "12.5",
}
SECRETS = (
    "of-the-environment", "sk-household", "sk-workshop-1", "sk-old", "sk-secret-of-the-attic", "sk-gpu-box",
    "hush-hush", "sk-cloud-secret", "secret-of-mine", "sk-literal", "sk-1234-household", "sk-of-the-box",
    "sk-from-the-environment",
)  # fmt: skip

STRANGE = (
    "strange", 3.5, -7, 10**30, True, ["strange"], {"strange": 1}, [{"strange": {"inner": 2}}], math.nan,
    dt.date(2026, 1, 1), "", "\x1b\u202e", "x" * 3000, "${strange}", "os.environ/STRANGE", None,
)  # fmt: skip

SAYS_THE_DEFAULT = {
    "startPort": {5800},
    "healthCheckTimeout": {120},
    "checkEndpoint": {"/health"},
    "swap": {True},
    "exclusive": {True},
    "mode": {"chat", "os.environ/T_MODE"},
    "out": {"text"},
    "in": {"text"},
    "supports_function_calling": {True},
    "supports_response_schema": {True},
    "api_key": {"none", *(f"os.environ/{name}_API_KEY" for name in ("ANTHROPIC", "GEMINI", "GROQ", "FIREWORKS_AI"))},
}
"""What is so without being said, in both worlds."""


def draft_of(document, environ=ENVIRON):
    reader = from_llama_swap if kind_of(document) == "llama-swap" else from_litellm
    return reader(document, environ)


def text_of(document):
    try:
        return draft_of(document).text(budget_mib=24_000)
    except ImportFailedError as error:
        return str(error)


def leaves(value, path=()):
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from leaves(inner, (*path, index))
    else:
        yield path, value


def without(document, path):
    """The document, without one leaf."""
    changed = copy.deepcopy(document)
    place = changed
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return changed


def is_nothing(path, value):
    key = next(step for step in reversed(path) if isinstance(step, str))
    if isinstance(value, dict | list) or value in (None, "", 0) or value is False:
        return True
    if key == "proxy":
        return str(value).startswith(("http://127.0.0.1:${PORT}", "http://localhost:${PORT}"))
    return value in SAYS_THE_DEFAULT.get(key, ())


def said(path):
    """As remarks call it."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


def told_as_a_whole(draft):
    """Places of which everything below was told in one remark."""
    wholes = [left.where for left in draft.left]
    wholes += [change.where for change in draft.changed if change.where.startswith(("groups", "matrix", "routing"))]
    return [re.sub(r" \(.*\)$", "", where) for where in wholes]


def is_below(path, whole):
    return said(path) == whole or said(path).startswith((f"{whole}.", f"{whole}[", f"{whole}:"))


@pytest.mark.parametrize("file", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_no_value_of_the_source_is_without_a_trace(file):
    document = read_yaml(file)
    before, wholes = text_of(document), told_as_a_whole(draft_of(document))
    lost = [
        said(path)
        for path, value in leaves(document)
        if not is_nothing(path, value)
        and not any(is_below(path, whole) for whole in wholes)
        and text_of(without(document, path)) == before
    ]
    assert lost == []


def with_another(document, path, value):
    """The document, with something else in place of one leaf."""
    changed = copy.deepcopy(document)
    place = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return changed


@pytest.mark.parametrize("file", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_does_not_belong_there_is_told_and_breaks_nothing(file):
    document = read_yaml(file)
    for number, (path, _) in enumerate(leaves(document)):
        for value in (STRANGE[number % len(STRANGE)],):
            try:
                draft = draft_of(with_another(document, path, value))
                text = draft.text(budget_mib=24_000)
            except ImportFailedError:
                continue
            check(text)
            told = any(is_below(path, whole) for whole in told_as_a_whole(draft))
            assert told or is_nothing(path, value) or text != text_of(without(document, path)), (said(path), value)


@pytest.mark.parametrize("file", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_broker_and_worker_load_what_is_printed(file):
    check(draft_of(read_yaml(file)).text(budget_mib=24_000))


@pytest.mark.parametrize("file", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_no_secret_is_printed(file):
    text = draft_of(read_yaml(file)).text(budget_mib=24_000)
    assert [secret for secret in SECRETS if secret in text] == []


@pytest.mark.parametrize("file", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_is_left_tells_more_than_that_it_is_unknown(file):
    """Only what the fixtures made up is unknown."""
    told = [left.where for left in draft_of(read_yaml(file)).left if "not known to this import" in left.why]
    made_up = ("nosuch", "futureSetting", "ui_username", "requestHeaders", "x-")
    assert [where for where in told if not any(word in where for word in made_up)] == []


def test_there_are_files_of_both():
    assert {path.parent.name for path in FILES} == {"llama_swap", "litellm"}
