"""``[routing]`` of ``hotseat.toml``."""

import re
from pathlib import Path

import pytest

from broker.config.broker_config import load_config
from broker.routing.budget import Limit
from broker.routing.catalogue import Cloud, Local
from broker.routing.decision import RouteReason
from broker.routing.privacy.firewall import Firewall
from broker.routing.request.parameters import Parameters
from broker.routing.request.request import Content, Described, RequestKind
from broker.routing.route import Router, RouteState
from broker.routing.variants import ModelState
from schemas.config.file import ConfigError
from tests.fakes.routing_cases import ROOT

LEAST = '[broker]\nanonymous = true\n[[model]]\nname = "a"\nmemory_mib = 100\n[[model]]\nname = "b"\nmemory_mib = 50\n'
UPSTREAM = '[[routing.upstream]]\nname = "u"\nbase_url = "https://u.example/v1"\napi_key_file = "{key}"\n'
OFFER = '[[routing.upstream.model]]\nname = "out"\ncontext_tokens = 1000\nprompt_price = 0.15\nreply_price = 0.6\n'
ALIAS = '[[routing.alias]]\nname = "{}"\ncandidates = [{}]\n'


def load(tmp_path: Path, text: str, *, mode: int = 0o600):
    key = tmp_path / "u.key"
    key.write_text("sk-test\n")
    key.chmod(mode)
    path = tmp_path / "hotseat.toml"
    path.write_text(text.replace("{key}", str(key)))
    return load_config(path, {})


def test_without_the_section_every_model_is_served_under_its_own_name_and_nothing_is_read(tmp_path):
    config = load(tmp_path, LEAST)
    table = config.routing_table()
    assert sorted(table.entries) == ["a", "b"]
    assert not table.has_cloud

    class Unreadable:
        def read(self):
            raise AssertionError

    router = Router(table=table, firewall=config.firewall(None))
    request = Described(name="a", kind=RequestKind.CHAT, content=Unreadable(), size_bytes=10**9, header_private=True)
    decision = router.route(request, RouteState(models={"a": ModelState(ready=True, wait_s=0.0)}))
    assert (decision.reason, decision.private) == (RouteReason.WARM, None)


def test_the_pages_example_is_a_configuration(tmp_path):
    block = re.search(r"```toml\n(.*?)```", (ROOT / "docs/routing.md").read_text(), re.DOTALL)[1]
    block = re.sub(r'api_key_file = "[^"]+"', 'api_key_file = "{key}"', block)
    config = load(tmp_path, "[broker]\nanonymous = true\n" + block)
    assert config.routing_table().has_cloud
    assert config.budgets().total == Limit(day_micro=5_000_000, month_micro=60_000_000)
    assert config.warnings() == ()


def test_the_pages_names_that_differ_in_parameters_are_a_configuration(tmp_path):
    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/routing.md").read_text(), re.DOTALL)
    block = next(block for block in blocks if "qwen:think" in block)
    table = load(tmp_path, "[broker]\nanonymous = true\n" + block).routing_table()
    (thinking,), (plain,) = table.entries["qwen:think"].candidates, table.entries["Qwen 3 (30B)"].candidates
    assert thinking.parameters == plain.parameters.within(
        Parameters(set={"chat_template_kwargs": b'{"enable_thinking": true}'})
    )
    assert plain.parameters == Parameters(strip=frozenset({"temperature", "top_p"}), default={"seed": b"7"})


def test_prices_become_whole_numbers(tmp_path):
    config = load(tmp_path, LEAST + UPSTREAM + OFFER)
    cloud = config.routing_table().entries["out"].candidates[0]
    assert isinstance(cloud, Cloud)
    assert (cloud.prices.prompt, cloud.prices.cached, cloud.prices.reply) == (150_000, None, 600_000)
    assert (cloud.upstream, cloud.remote_name) == ("u", "out")
    assert config.routing.upstream[0].read_key({}) == "sk-test"


def test_a_family_takes_its_footprints_from_the_catalogue(tmp_path):
    text = LEAST + '[[routing.family]]\nname = "f"\nvariants = ["a", "b"]\n'
    local = load(tmp_path, text).routing_table().entries["f"].candidates[0]
    assert isinstance(local, Local)
    assert [(one.name, one.memory_mib) for one in local.variants] == [("a", 100), ("b", 50)]


def test_a_key_may_be_private_and_have_a_budget_and_a_deadline(tmp_path):
    text = LEAST + f'[[key]]\nname = "k"\nsha256 = "{"0" * 64}"\nprivate = true\nday_budget = 0.5\ndeadline_s = 9\n'
    config = load(tmp_path, text)
    assert (config.keys[0].private, config.keys[0].deadline_s) == (True, 9)
    assert config.budgets().keys == {"k": Limit(day_micro=500_000)}


@pytest.mark.parametrize(
    "text, words",
    [
        ("[routing]\nfoo = 1\n", "[routing]: foo: unknown key"),
        (ALIAS.format("x", '"a"') + "hurry = 1\n", '[[routing.alias]] "x": hurry: unknown key'),
        (ALIAS.format("x", ""), '[[routing.alias]] "x": candidates: must have at least 1 item'),
        (ALIAS.format("x", '"nobody"'), '"x": candidates: \'nobody\' is no model, family, upstream'),
        (ALIAS.format("x", '"aa"'), "did you mean a?"),
        (ALIAS.format("x", '"x"'), "alias 'x' leads back to itself: x → x"),
        (ALIAS.format("x", '"y"') + ALIAS.format("y", '"z"') + ALIAS.format("z", '"x"'), "x → y → z → x"),
        (ALIAS.format("a", '"b"'), 'toml:10: [[routing.alias]] "a": name: the name is taken by a'),
        (ALIAS.format("x", '"a"') + ALIAS.format("x", '"b"'), 'toml:13: [[routing.alias]] "x": name: the'),
        (ALIAS.format(" x", '"a"'), '[[routing.alias]] " x": name: must be at most 128 characters without braces'),
        (ALIAS.format("x", '"a*"'), "candidates[0]: must be at most 128 characters, without any of {}*?"),
        (ALIAS.format("x" * 129, '"a"'), "at most 128"),
        (ALIAS.format("x", '"a"') + 'parameters.set.model = "b"\n', "parameters: set: model is the broker's own"),
        (ALIAS.format("x", '"a"') + 'parameters.strip = ["stream"]\n', "strip: stream is the broker's own"),
        (ALIAS.format("x", '"a"') + "parameters.default.t = nan\n", "parameters: default: holds a value that JSON"),
        (ALIAS.format("x", '"a"') + "parameters.set.t = 2020-01-01\n", "parameters: set: holds a value that JSON"),
        (ALIAS.format("x", '"a"') + "parameters.sett = {}\n", "parameters.sett: unknown key; did you mean set?"),
        (ALIAS.format("x", '"a"') + "deadline_s = 0\n", "deadline_s"),
        (ALIAS.format("x", '"a"') + 'prefer = "best"\n', "prefer"),
        ('[[routing.family]]\nname = "f"\nvariants = ["a", "c"]\n', '"f": variants: \'c\' is no model of'),
        ('[[routing.family]]\nname = "a"\nvariants = ["b"]\n', '[[routing.family]] "a": name: the name is taken by'),
        (UPSTREAM, "model"),
        (UPSTREAM + OFFER.replace("0.15", "-0.15"), "prompt_price"),
        (UPSTREAM + OFFER + UPSTREAM + OFFER, "two entries have the same name"),
        (UPSTREAM + OFFER.replace('"out"', '"a"'), '[[routing.upstream.model]] "a": name: the name is'),
        (UPSTREAM.replace("{key}", "/no/such.key") + OFFER, '"u": api_key_file: /no/such.key cannot be read'),
        (UPSTREAM.replace("https://u", "ftp://u") + OFFER, "base_url"),
        (UPSTREAM.replace("https://u", "https://me:pw@u") + OFFER, "must not contain credentials"),
        (UPSTREAM + 'protocol = "smtp"\n' + OFFER, "protocol"),
        ("[routing]\nprivate_patterns = ['(']\n", "no regular expression"),
        ("[routing]\nprivate_patterns = ['a*']\n", "matches everything"),
        ("[routing]\nday_budget = -1\n", "day_budget"),
        ("[routing]\nindicators = 'all'\n", "indicators"),
        (UPSTREAM.replace('api_key_file = "{key}"\n', "") + OFFER, "set api_key_file or api_key_env"),
        (UPSTREAM + OFFER.replace("prompt_price = 0.15\n", ""), "and reply_price: set both or neither"),
        (UPSTREAM + 'betas = ["my password"]\n' + OFFER, "is no such word"),
        (UPSTREAM.replace("u.example", "api.openai.com") + "inside = true\n" + OFFER,
        "api.openai.com is somebody else's"),
        (UPSTREAM.replace("u.example", "API.Groq.com.") + "inside = true\n" + OFFER, "is somebody else's"),
        (UPSTREAM.replace("u.example", "8.8.8.8") + "inside = true\n" + OFFER, "8.8.8.8 is somebody else's"),
    ],
)  # fmt: skip
def test_mistakes_are_named(tmp_path, text, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        load(tmp_path, LEAST + text)


@pytest.mark.parametrize("content", ["", "\n", "two words\n", "\x00\n"])
def test_a_file_without_a_key_is_refused(tmp_path, content):
    (tmp_path / "k").write_text(content)
    with pytest.raises(ConfigError, match=r"not a key|is empty"):
        load(tmp_path, LEAST + UPSTREAM.replace("{key}", str(tmp_path / "k")) + OFFER)


def test_a_key_others_can_read_is_warned_about(tmp_path):
    assert "others can read" in load(tmp_path, LEAST + UPSTREAM + OFFER, mode=0o644).warnings()[0]


def test_a_key_in_the_clear_is_warned_about(tmp_path):
    away = UPSTREAM.replace("https://u", "http://u")
    assert "in the clear" in load(tmp_path, LEAST + away + OFFER).warnings()[0]
    home = UPSTREAM.replace("https://u.example", "http://127.0.0.1:9")
    assert load(tmp_path, LEAST + home + OFFER).warnings() == ()


OWN = '[[routing.upstream]]\nname = "o"\nbase_url = "http://{}/v1"\ninside = true\n'
FREE = '[[routing.upstream.model]]\nname = "here"\ncontext_tokens = 1000\n'


@pytest.mark.parametrize(
    "host", ["127.0.0.1:11434", "[::1]:1", "192.168.1.5:8080", "10.0.0.2", "100.100.1.2", "[fd00::1]"]
)
def test_a_server_of_ones_own_needs_no_key_and_no_prices(tmp_path, host):
    config = load(tmp_path, LEAST + OWN.format(host) + FREE)
    cloud = config.routing_table().entries["here"].candidates[0]
    assert isinstance(cloud, Cloud)
    assert (cloud.inside, cloud.prices.prompt, cloud.prices.reply) == (True, 0, 0)
    assert config.upstreams()[0].api_key == ""
    assert not config.routing_table().has_cloud, "nothing leaves the house, so nothing is looked through"
    assert not any("own?" in warning for warning in config.warnings())


@pytest.mark.parametrize("host", ["nas.example.org", "openai.com.example.org"])
def test_a_name_that_does_not_say_whose_it_is_is_asked_about(tmp_path, host):
    assert any("a server of your own?" in line for line in load(tmp_path, LEAST + OWN.format(host) + FREE).warnings())
    for near in ("nas", "nas.local", "nas.lan", "box.tail1234.ts.net"):
        assert not any("own?" in line for line in load(tmp_path, LEAST + OWN.format(near) + FREE).warnings())


def test_a_broker_may_have_upstreams_and_no_models(tmp_path):
    config = load(tmp_path, "[broker]\nanonymous = true\n" + UPSTREAM + OFFER)
    assert list(config.routing_table().entries) == ["out"]


@pytest.mark.parametrize(
    "kind, taken",
    [
        ("chat", set(RequestKind) - {RequestKind.EMBEDDINGS}),
        ("completion", set(RequestKind) - {RequestKind.EMBEDDINGS}),
        ("embedding", {RequestKind.EMBEDDINGS, RequestKind.RERANK, RequestKind.OTHER}),
        ("rerank", {RequestKind.RERANK}),
    ],
)
def test_what_a_model_of_a_kind_can_be_asked_for(kind, taken, tmp_path):
    """Servers of embeddings rank too, and have done so under that kind since before rerankers had one."""
    router = Router(table=load(tmp_path, LEAST + f'kind = "{kind}"\n').routing_table(), firewall=Firewall())
    state = RouteState(models={"b": ModelState(ready=True, wait_s=0.0)})
    asked = {one: Described(name="b", kind=one, content=Content()) for one in RequestKind}
    assert {one for one, request in asked.items() if router.route(request, state).choices} == taken
