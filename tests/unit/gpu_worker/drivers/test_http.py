"""What ``[model.http]`` may say, and where its paths lead; the documentation's own examples are read here."""

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from gpu_worker.drivers.http import HttpSection, filled_url, led_to
from tests.fakes.hosted import ControlService

PAGE = Path(__file__).parents[4] / "docs" / "drivers.md"
GOOD = {"url": "http://127.0.0.1:1", **ControlService.MANNERS["script"]}
TOLD = {
    "ok": True,
    "count": 0,
    "models": [
        {"key": "org/a[1]", "on": True, "instances": [{"id": "x"}, {"id": "y"}]},
        {"key": "b", "on": False, "instances": []},
    ],
}


@pytest.mark.parametrize(
    "path, found",
    [
        ("/models/*[key={model}]/instances/*/id", ["x", "y"]),
        ("/models/*[key=b]/instances/*/id", []),
        ("/models/0/instances/1/id", ["y"]),
        ("/models/7/instances", []),
        ("/models/*[on=true][key={model}]/key", ["org/a[1]"]),
        ("/[ok=true]", [TOLD]),
        ("/[ok=false]", []),
        ("/[count=0]/ok", [True]),
        ("/models/key", []),
        ("/nothing/at/all", []),
        ("/ok/*/x", []),
    ],
)
def test_a_path_leads_to_what_fits(path, found):
    assert list(led_to(TOLD, path, {"model": "org/a[1]"})) == found


def test_a_name_in_a_url_stays_one_step_of_its_path():
    assert filled_url("/unload/{model}?x={model_name}", {"model": "org/a b", "model_name": "é&"}) == (
        "/unload/org%2Fa%20b?x=%C3%A9%26"
    )


@pytest.mark.parametrize(
    "table, key, value, words",
    [
        ("load", "url", "/load/{modle}", r"unknown placeholder \{modle\}; there is model, model_name"),
        ("load", "body", {"a": [{"b": "{picked}"}]}, r"unknown placeholder \{picked\}"),
        ("load", "url", "ftp://x/load", "must begin with http://"),
        ("load", "method", "BREW", "POST"),
        ("status", "expect", "", "at least 1 character"),
        ("status", "expect", "models/*", "must begin with a slash"),
        ("status", "present", "/a[b", "is no step of a path"),
        ("status", "expect", "/a/*[k={picked}]", r"unknown placeholder \{picked\}"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_would(table, key, value, words):
    with pytest.raises(ValidationError, match=words):
        HttpSection.model_validate(GOOD | {table: GOOD[table] | {key: value}})


@pytest.mark.parametrize("url", ["http://host", "https://host:1", "http://u:p@host:1", "host:1", "http://host:1/v1"])
def test_a_server_is_at_an_address_and_nothing_behind_it(url):
    with pytest.raises(ValidationError, match="must"):
        HttpSection.model_validate(GOOD | {"url": url})


def test_the_pages_examples_are_read_as_they_stand():
    examples = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    tables = [tomllib.loads(one.replace("[[model]]", "[ignored]"))["model"] for one in examples if "model.http" in one]
    assert len(tables) == 3
    for table in tables:
        HttpSection.model_validate(table["http"])
