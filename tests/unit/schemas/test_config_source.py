"""What is wrong with a configuration is told at once, with its place and what was meant."""

import copy
import tomllib

import pytest

from broker.config.broker_config import load_config as load_broker
from gpu_worker.config import load_config as load_worker
from hooks.openclaw.poller.config import load_config as load_poller
from schemas.config.file import ConfigError, ConfigSource
from schemas.config.problems import MOST_SHOWN

WRONG = """[broker]
anonymus = true
port = 70000

[[model]]
name = "qwen"
memory_mib = "much"
fallbacks = ["gemma"]

[[model]]
name = "gema"
memory_mib = 100
kind = "chatt"

[[key]]
name = "k"
sha256 = "abc"
scopes = ["opserve"]
models = ["qwenn"]

[[routing.alias]]
name = "fast"
candidates = ["quen"]

[polcy]
"""
QUEN = (
    """23: [[routing.alias]] "fast": candidates: 'quen' is no model, family, upstream model or alias; """
    "did you mean qwen?"
)


def problems(load, text, tmp_path, environ=None):
    path = tmp_path / "hotseat.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path, environ or {})
    return str(caught.value).replace(str(tmp_path) + "/", "")


def test_every_problem_is_told_at_once_with_line_and_table_and_what_was_meant(tmp_path):
    found = problems(load_broker, WRONG, tmp_path, {"HOTSEAT_GATEWAY_MAXBODY_MIB": "3"}).splitlines()
    assert [line.removeprefix("  hotseat.toml:") for line in found] == [
        "11 problems",
        "2: [broker]: anonymus: unknown key; did you mean anonymous?",
        "3: [broker]: port: must be less than or equal to 65535",
        '7: [[model]] "qwen": memory_mib: must be a whole number',
        """8: [[model]] "qwen": fallbacks: 'gemma' is not in the catalogue; did you mean gema?""",
        '13: [[model]] "gema": kind: must be one of chat, completion, embedding, rerank; did you mean chat?',
        '17: [[key]] "k": sha256: must be 64 hexadecimal digits in lower case',
        '18: [[key]] "k": scopes[0]: must be one of lease, observe, operate, admin; did you mean observe?',
        """19: [[key]] "k": models: 'qwenn' is no model; did you mean qwen?""",
        QUEN,
        "25: [polcy]: unknown section; did you mean [policy]?",
        "  HOTSEAT_GATEWAY_MAXBODY_MIB: unknown environment variable; did you mean HOTSEAT_GATEWAY_MAX_BODY_MIB?",
    ]


@pytest.mark.parametrize("load", [load_broker, load_worker, lambda path, environ: load_poller(path, environ, {})])
def test_one_problem_is_one_line(load, tmp_path):
    found = problems(load, '[store]\nurl = "http://x"\n[brokr]\n[worker]\n[[worker.slot]]\nid = "a"\n', tmp_path)
    assert "hotseat.toml:2: [store]: url: must begin with redis://, rediss:// or unix://" in found
    assert problems(load_poller_alone, "[poller]\nperiod_s = 0\n", tmp_path) == (
        "hotseat.toml:2: [poller]: period_s: must be greater than or equal to 1"
    )


def load_poller_alone(path, environ):
    return load_poller(path, environ, {})


def test_a_flag_is_named_as_it_was_given(tmp_path):
    with pytest.raises(ConfigError, match=r"^--source: must be one of auto, .*; did you mean sqlite\?$"):
        load_poller(None, {}, {"source": "sqlit"})
    with pytest.raises(ConfigError, match=r"^--broker-url: has a port"):
        load_poller(None, {}, {"broker_url": "http://h:99999"})


@pytest.mark.parametrize(
    "text, told",
    [
        ("[broker\n", "hotseat.toml:1: not TOML: Expected ']' at the end of a table declaration, column 8"),
        ("a = 1\na = 2\n", "hotseat.toml:2: not TOML: "),
        ("x = [\n", "hotseat.toml: not TOML: "),
        ("port = 1\n", "hotseat.toml:1: [port]: stands outside of every section"),
        ("[model]\nname = 'x'\n", "hotseat.toml:1: [[model]]: write [[model]], a table for each"),
        ("[[broker]]\nport = 1\n", "hotseat.toml:1: [broker]: must be a table"),
        ("broker = 5\n", "hotseat.toml:1: [broker]: must be a table"),
        ("model = [5]\n", "must be a table"),
        ("[[modle]]\n", "hotseat.toml:1: [modle]: unknown section; did you mean [[model]]?"),
        ('[broker]\nanonymous = "maybe"\n', "hotseat.toml:2: [broker]: anonymous: must be true or false"),
        ('[broker]\nport = "a"\n', "hotseat.toml:2: [broker]: port: must be a whole number"),
        ("[broker]\nport = 1.5\n", "hotseat.toml:2: [broker]: port: must be a whole number"),
        ("[broker]\nhosts = 5\n", "hotseat.toml:2: [broker]: hosts: must be a list in square brackets"),
        (
            '[[routing.upstream]]\nname = "up"\nbase_url = "https://up/v1"\nmodel = "gpt"\n',
            "model: must be tables of its own, each headed [[routing.upstream.model]]",
        ),
        (
            '[[routing.upstream]]\nname = "up"\nbase_url = "https://up/v1"\nmodel = ["gpt"]\n',
            "model[0]: must be tables of its own, each headed [[routing.upstream.model]]",
        ),
        ("[limits]\nload_retry_s = []\n", "hotseat.toml:2: [limits]: load_retry_s: must be a number"),
        ('[routing]\nunknown_names = "gpt-*"\n', "[routing]: unknown_names: must be a list in square brackets"),
        ("[store]\nurl = 5\n", "hotseat.toml:2: [store]: url: must be text in quotes"),
        ('[[model]]\nname = "a"\nenv = ["A=B"]\n', 'hotseat.toml:3: [[model]] "a": env: must be a table'),
        ("[policy.weights]\nbatsh = 1\n", "hotseat.toml:2: [policy]: weights.batsh: must be one of"),
    ],
)
def test_what_is_written_wrongly_is_told_where_it_stands(text, told, tmp_path):
    assert told in problems(load_broker, text, tmp_path)


def test_a_file_that_cannot_be_used_is_told_in_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.toml: No such file or directory$"):
        load_broker(tmp_path / "nowhere.toml", {})
    with pytest.raises(ConfigError, match="Is a directory"):
        load_broker(tmp_path, {})
    (tmp_path / "latin.toml").write_bytes(b"# \xe9\n")
    with pytest.raises(ConfigError, match=r"latin\.toml: is not UTF-8$"):
        load_broker(tmp_path / "latin.toml", {})
    (tmp_path / "deep.toml").write_text("a = " + "[" * 5000 + "]" * 5000)
    with pytest.raises(ConfigError, match="not TOML: nested too deeply"):
        load_broker(tmp_path / "deep.toml", {})


def test_a_mark_at_the_front_and_line_ends_of_windows_change_nothing(tmp_path):
    (tmp_path / "w.toml").write_bytes(b"\xef\xbb\xbf[store]\r\npool = 'x'\r\n")
    assert ConfigSource.read(tmp_path / "w.toml", {}).raw == {"store": {"pool": "x"}}


def test_no_value_is_told_for_it_may_be_a_secret(tmp_path):
    text = '[store]\nurl = "redis://me:s3cret@h/0"\npassword_file = 7\n[[key]]\nname = "k"\n'
    text += 'sha256 = "s3cret"\nscopes = "s3cret"\n'
    assert "s3cret" not in problems(load_broker, text, tmp_path, {"HOTSEAT_BROKER_PORT": "s3cret"})


def test_what_is_missing_under_a_mistyped_name_is_told_once(tmp_path):
    text = '[broker]\nanonymous = true\n[[model]]\nname = "a"\nmemory = 5\n'
    assert problems(load_broker, text, tmp_path).count("\n") == 0


def test_a_thousand_problems_are_counted_and_not_all_shown(tmp_path):
    text = "[broker]\nanonymous = true\n" + "".join(f'[[model]]\nname = "m{n}"\n' for n in range(200))
    found = problems(load_broker, text, tmp_path).splitlines()
    assert (found[0], found[-1]) == ("200 problems", f"  and {200 - MOST_SHOWN} more")


OF_KUBERNETES = {
    "HOTSEAT_PORT": "tcp://10.43.7.9:4687",
    "HOTSEAT_PORT_4687_TCP": "tcp://10.43.7.9:4687",
    "HOTSEAT_PORT_4687_TCP_ADDR": "10.43.7.9",
    "HOTSEAT_PORT_4687_TCP_PORT": "4687",
    "HOTSEAT_PORT_4687_TCP_PROTO": "tcp",
    "HOTSEAT_SERVICE_HOST": "10.43.7.9",
    "HOTSEAT_SERVICE_PORT": "4687",
    "HOTSEAT_SERVICE_PORT_HTTP": "4687",
    "HOTSEAT_BROKER_PORT": "tcp://10.43.7.10:4687",
    "HOTSEAT_BROKER_PORT_4687_TCP_ADDR": "10.43.7.10",
    "HOTSEAT_BROKER_SERVICE_HOST": "10.43.7.10",
    "HOTSEAT_STORE_SERVICE_PORT_REDIS": "6379",
    "HOTSEAT_MY_REDIS_PORT_6379_TCP": "tcp://10.43.7.11:6379",
    "HOTSEAT_WORKER_PORT_53_UDP": "udp://10.43.7.12:53",
}
GOOD = """[broker]
anonymous = true
[worker]
[[worker.slot]]
id = "gpu0"
budget_mib = 1
[[model]]
name = "a"
memory_mib = 1
"""


def test_variables_of_a_kubernetes_service_stop_no_start_and_change_nothing(tmp_path):
    path = tmp_path / "hotseat.toml"
    path.write_text(GOOD)
    assert load_broker(path, OF_KUBERNETES) == load_broker(path, {})
    assert load_worker(path, OF_KUBERNETES) == load_worker(path, {})
    assert load_poller(path, OF_KUBERNETES, {}) == load_poller(path, {}, {})


@pytest.mark.parametrize(
    "variable, value, told",
    [
        ("HOTSEAT_BROKER_PORT", "http", "HOTSEAT_BROKER_PORT: must be a whole number"),
        ("HOTSEAT_BROKER_PROT", "1", "unknown environment variable; did you mean HOTSEAT_BROKER_PORT?"),
        ("HOTSEAT_BROKR_PORT", "1", "unknown environment variable; did you mean HOTSEAT_BROKER_PORT?"),
        ("HOTSEAT_PORT", "4687", "HOTSEAT_PORT: unknown environment variable"),
        ("HOTSEAT_MODEL_NAME", "x", "[[model]] is for the file alone"),
        ("HOTSEAT_BROKER", "x", "HOTSEAT_BROKER: unknown environment variable"),
    ],
)
def test_any_other_variable_is_still_refused(variable, value, told, tmp_path):
    assert told in problems(load_broker, GOOD, tmp_path, {variable: value})


@pytest.mark.parametrize(
    "url, told",
    [
        ("redis://h:port/0", "has a port that is no number from 1 to 65535"),
        ("redis://h:99999/0", "has a port that is no number from 1 to 65535"),
        ("redis://h:0/0", "has a port that is no number from 1 to 65535"),
        ("redis:///0", "name a host"),
        ("redis://[::1/0", "is not an address"),
        ("redis://h/mydb", "must end in the number of a database"),
        ("redis://h/0?ssl=1", "may ask for nothing but ?db="),
        ("unix://run/valkey.sock", "the whole path of a socket"),
        ("unix:///", "the whole path of a socket"),
    ],
)
def test_a_store_that_cannot_be_reached_so_is_refused_at_the_start(url, told, tmp_path):
    assert told in problems(load_broker, GOOD + f'[store]\nurl = "{url}"\n', tmp_path)


@pytest.mark.parametrize("url", ["redis://h", "redis://h:1/", "rediss://h:6380/15", "unix:///run/v.sock?db=3"])
def test_other_addresses_of_stores_are_taken(url, tmp_path):
    path = tmp_path / "hotseat.toml"
    path.write_text(GOOD + f'[store]\nurl = "{url}"\n')
    assert load_broker(path, {}).store.url == url


EVERYTHING = """
[store]
url = "redis://127.0.0.1:6379/0"
[broker]
anonymous = true
port = 4687
hosts = ["box"]
[limits]
ttl_default_s = 60.0
[policy]
slice_min_s = 5.0
[gateway]
first_byte_s = 60.0
[worker]
[[worker.slot]]
id = "gpu0"
budget_mib = 1000
[[model]]
name = "a"
memory_mib = 100
slots = ["gpu0"]
fallbacks = ["b"]
env = { A = "1" }
command = ["serve", "{host}", "{port}", "{served_name}", "{api_key_file}"]
parameters = { strip = ["x"], default = { y = 1 }, set = { z = [1] } }
[[model]]
name = "b"
memory_mib = 100
driver = "process"
[[key]]
name = "k"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
scopes = ["lease"]
models = ["a"]
[routing]
day_budget = 1.0
[[routing.family]]
name = "f"
variants = ["a", "b"]
[[routing.alias]]
name = "auto"
candidates = ["f", "u/m"]
parameters = { set = { z = 1 } }
[[routing.upstream]]
name = "u"
base_url = "https://u.example/v1"
api_key_env = "U_KEY"
[[routing.upstream.model]]
name = "u/m"
prompt_price = 1.0
reply_price = 1.0
[poller]
default_model = "a"
"""
STRANGE = (
    None,
    [],
    {},
    [[]],
    ["a"],
    [{}],
    {"a": {}},
    {"a": ["a"]},
    [3],
    3,
    -1,
    1e400,
    True,
    "",
    "a",
    "\x00",
    "é" * 300,
    10**30,
)


def places(value, path=()):
    if path:
        yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def put(document, path, value):
    """The document with something else at a place; None: with nothing there."""
    changed = copy.deepcopy(document)
    place = changed
    for step in path[:-1]:
        place = place[step]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = copy.deepcopy(value)
    return changed


@pytest.mark.parametrize("load", [load_broker, load_worker, lambda path, environ: load_poller(path, environ, {})])
def test_whatever_stands_anywhere_is_taken_or_told_and_never_a_crash(load, monkeypatch):
    document = tomllib.loads(EVERYTHING)
    for path in places(document):
        for value in STRANGE:
            raw = put(document, path, value)
            monkeypatch.setattr(ConfigSource, "read", classmethod(lambda cls, *_, raw=raw: cls(raw)))
            try:
                load(None, {"U_KEY": "k"})
            except ConfigError as error:
                told = error.problems
            except Exception as error:
                raise AssertionError(path, value) from error
            else:
                continue
            assert told, (path, value)
