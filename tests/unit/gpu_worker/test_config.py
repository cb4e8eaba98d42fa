"""The worker's configuration: what is accepted, what is refused and how clearly."""

import json

import pytest

from broker.config.broker_config import load_config as load_broker
from gpu_worker.config import OnExit, load_config
from schemas.config.drivers import DRIVERS
from schemas.config.file import ConfigError, ConfigSource, StoreSection
from tests.fakes.drivers import newcomer

GOOD = """
[store]
url = "unix:///run/valkey.sock"
pool = "lab"
[broker]
anything = "of somebody else"
[worker]
name = "host1"
adopt_grace_s = 5
[[worker.slot]]
id = "gpu0"
budget_mib = 1000
[[model]]
name = "a"
memory_mib = 600
command = ["server", "--port", "{port}", "--key", "{api_key_file}"]
"""

THERE_IS = f"there is {', '.join(sorted(DRIVERS))}"
UNKNOWN_DRIVERS = {
    "gguf": THERE_IS,
    "proces": r"did you mean process\?",
    "Process": r"did you mean process\?",
    "": THERE_IS,
}
"""And what is said of each."""


@pytest.fixture
def write(tmp_path):
    def write_file(text):
        path = tmp_path / "hotseat.toml"
        path.write_text(text)
        return path

    return write_file


def test_a_good_file_is_read_with_its_defaults(write):
    config = load_config(write(GOOD), {"PATH": "/bin"})
    assert config.store.pool == "lab"
    assert config.worker.adopt_grace_s == 5.0
    assert config.worker.on_exit is OnExit.LEAVE
    assert config.models[0].expected_name == "a"
    assert config.models[0].lease_limit == 4


def test_what_a_job_under_a_lease_finds_in_its_environment_is_no_setting(write):
    """`hotseat run … -- hotseat worker`, and a shell that has evaluated `hotseat lease --format env`."""
    environ = {"HOTSEAT_LEASE": "L1", "HOTSEAT_NONCE": "n", "HOTSEAT_NOTICE": "/tmp/x/notice"}
    assert load_config(write(GOOD), environ) == load_config(write(GOOD), {})


def test_the_environment_wins(write):
    environ = {"HOTSEAT_WORKER_ADOPT_GRACE_S": "7.5", "HOTSEAT_STORE_POOL": "other", "HOTSEAT_CONFIG": "x"}
    config = load_config(write(GOOD), environ)
    assert (config.worker.adopt_grace_s, config.store.pool) == (7.5, "other")


@pytest.mark.parametrize(
    "old, new, complaint",
    [
        ("adopt_grace_s", "adopt_grace", r"toml:9: \[worker\]: adopt_grace: unknown key; did you mean adopt_grace_s\?"),
        (
            "budget_mib = 1000",
            "budget = 1",
            r'toml:12: \[\[worker.slot\]\] "gpu0": budget: unknown key; did you mean budget_mib\?',
        ),
        ("budget_mib = 1000", "", "set budget_mib, or device_uuid"),
        (
            "budget_mib = 1000",
            "budget_mib = -1",
            r'toml:12: \[\[worker.slot\]\] "gpu0": budget_mib: must be greater than 0',
        ),
        ('id = "gpu0"', 'id = "gpu 0"', "id: must be of letters, digits"),
        ("[broker]", "[brokr]", r"toml:5: \[brokr\]: unknown section; did you mean \[broker\]\?"),
        (
            "memory_mib = 600",
            "memory_mb = 600",
            r'^\S+toml:15: \[\[model\]\] "a": memory_mb: unknown key; did you mean memory_mib\?$',
        ),
        ("{port}", "{prot}", "unknown placeholder {prot}"),
        ("{port}", "8080", "must contain {port}"),
        ("{api_key_file}", "secret", "must contain {api_key_file}, or env {api_key}"),
        ("{api_key_file}", "{api_key}", "belongs in env"),
        ("memory_mib = 600", 'memory_mib = 600\nenv = { K = "{api_kye}" }', "env.K: unknown placeholder {api_kye}"),
        ('"server"', '"server", "{model_path}"', "model_path is not set"),
        ("memory_mib = 600", 'memory_mib = 600\ndriver = "gguf"', f"no driver 'gguf'; {THERE_IS}"),
        ("unix://", "http://", r"\[store\]: url: must begin with"),
        ("unix:///run/valkey.sock", "redis://user:pass@host/0", "must not contain credentials"),
        ("adopt_grace_s = 5", "port_min = 9000", "port_min and port_max"),
        ("[store]", "[store", "hotseat.toml:2: not TOML"),
    ],
)
def test_what_is_wrong_is_refused_by_name(write, old, new, complaint):
    assert old in GOOD
    with pytest.raises(ConfigError, match=complaint):
        load_config(write(GOOD.replace(old, new, 1)), {})


@pytest.mark.parametrize("driver", UNKNOWN_DRIVERS)
def test_a_model_whose_driver_there_is_not_is_refused_by_the_worker_though_it_has_no_command(write, driver):
    text = GOOD + f'[[model]]\nname = "b"\nmemory_mib = 1\ndriver = {json.dumps(driver)}\n'
    meant = UNKNOWN_DRIVERS[driver]
    with pytest.raises(ConfigError, match=rf'toml:20: \[\[model\]\] "b": driver: no driver {driver!r}; {meant}'):
        load_config(write(text), {})


@pytest.mark.parametrize("variable", ["HOTSEAT_WORKER", "HOTSEAT_NONSENSE_X", "HOTSEAT_MODEL_NAME", "HOTSEAT_WORKER_X"])
def test_an_unknown_variable_is_refused(write, variable):
    with pytest.raises(ConfigError):
        load_config(write(GOOD), {variable: "1"})


def test_a_worker_needs_a_slot():
    with pytest.raises(ConfigError, match="at least one"):
        load_config(None, {})


@pytest.mark.parametrize(
    "twice", ['[[model]]\nname = "a"\nmemory_mib = 1\n', '[[worker.slot]]\nid = "gpu0"\nbudget_mib = 1\n']
)
def test_names_are_unique(write, twice):
    with pytest.raises(ConfigError, match=r"another \[\[model\]\] has this name|same id"):
        load_config(write(GOOD + twice), {})


def test_the_password_comes_from_a_file(tmp_path):
    path = tmp_path / "password"
    path.write_text("hunter2\nsecond line\n")
    assert StoreSection(password_file=path).read_password() == "hunter2"
    with pytest.raises(ConfigError, match="cannot be read"):
        StoreSection(password_file=tmp_path / "missing").read_password()
    path.write_text("")
    with pytest.raises(ConfigError, match="empty"):
        StoreSection(password_file=path).read_password()


def test_no_file_means_defaults():
    assert ConfigSource.read(None, {}).section(StoreSection, "store") == StoreSection()


@pytest.mark.parametrize(
    "old, new, doubt",
    [
        ("= 600", "= 1000", ""),
        ("= 600", "= 1001", "memory_mib = 1001 is more than any slot here that may load it has (1000 MiB)"),
        ("= 600", '= 600\nslots = ["gpu1"]', "slots: this worker has none of them; did you mean gpu0?"),
        ("= 600", '= 2000\nslots = ["gpu0", "big"]', ""),
        ("= 600", '= 600\nenv = { CUDA_VISIBLE_DEVICES = "1" }', ""),
        ("= 600", '= 600\nslots = ["big"]\nenv = { CUDA_VISIBLE_DEVICES = "1" }', "worker sets it to the device_uuid"),
    ],
)  # fmt: skip
def test_a_model_that_is_not_loaded_as_its_owner_thinks_is_warned_about(write, old, new, doubt):
    big = '[[worker.slot]]\nid = "big"\ndevice_uuid = "GPU-1"\n' if "big" in new else ""
    warnings = load_config(write(GOOD.replace(old, new) + big), {}).warnings()
    assert len(warnings) == bool(doubt)
    assert doubt in "".join(warnings)


@pytest.mark.parametrize("slots, is_told", [("", True), ('slots = ["gpu0"]', True), ('slots = ["elsewhere"]', False)])
def test_a_model_without_a_command_is_told_where_this_worker_would_serve_it(write, slots, is_told):
    bare = f'[[model]]\nname = "bare"\nmemory_mib = 1\n{slots}\n'
    told = '[[model]] "bare": has no command, so this worker does not serve it'
    assert load_config(write(GOOD + bare), {}).warnings() == ((told,) if is_told else ())


@pytest.mark.parametrize("value", ["{api_key}", "{api_key_file}", "Bearer {api_key}"])
def test_a_server_may_get_its_key_by_its_environment(write, value):
    text = GOOD.replace(', "--key", "{api_key_file}"', "") + f'env = {{ KEY = "{value}", TEMPLATE = "{{x}} {{y}}" }}\n'
    assert load_config(write(text), {}).models[0].env["KEY"] == value


# --------------------------------------------------------------------------------------------- a driver's own table
ATTACHED = """[[model]]
name = "b"
memory_mib = 1
driver = "attach"
[model.attach]
url = "http://127.0.0.1:8080"
"""
"""Of the tests' own driver, from line 17 on."""


@pytest.fixture
def newcomer_known(monkeypatch):
    newcomer.be_known(monkeypatch)


@pytest.mark.usefixtures("newcomer_known")
def test_what_a_driver_is_told_is_its_own_section_in_a_table_of_its_name(write):
    config = load_config(write(GOOD + ATTACHED), {})
    assert [entry.name for entry in config.startable] == ["a", "b"]
    assert config.own["b"].url == "http://127.0.0.1:8080"
    assert config.warnings() == ()


@pytest.mark.usefixtures("newcomer_known")
@pytest.mark.parametrize(
    "old, new, complaint",
    [
        ("url =", "ulr =", r'toml:22: \[\[model\]\] "b": attach.ulr: unknown key; did you mean url\?$'),
        ("url =", "url = 3 #", r'toml:22: \[\[model\]\] "b": attach.url: must be text in quotes$'),
        ("http://127.0.0.1:8080", "box", r'toml:22: \[\[model\]\] "b": attach.url: must begin with http://'),
        ("url =", "# url =", r'toml:21: \[\[model\]\] "b": attach.url: is missing$'),
        (
            "[model.attach]",
            "[model.attahc]",
            r'toml:21: \[\[model\]\] "b": attahc: unknown key; did you mean attach\?$',
        ),
        ("[model.attach]\nurl", "attach", r'toml:21: \[\[model\]\] "b": attach: write \[model.attach\], a table$'),
        (
            'driver = "attach"',
            'command = ["s", "{port}", "{api_key_file}"]',
            r'toml:21: \[\[model\]\] "b": attach: is for models with driver = "attach", and this one\'s is "process"$',
        ),
        ("memory_mib = 1\n", 'memory_mib = 1\ncommand = ["s"]\n', "command: the attach driver reads none$"),
        ("memory_mib = 1\n", 'memory_mib = 1\nenv = { A = "1" }\n', "env: the attach driver reads none$"),
        ("memory_mib = 1\n", 'memory_mib = 1\nmodel_path = "/w"\n', "model_path: the attach driver reads none$"),
        ('driver = "attach"', 'driver = "atach"', r"no driver 'atach'; did you mean attach\?$"),
    ],
)
def test_what_is_wrong_in_a_drivers_table_is_told_with_its_place(write, old, new, complaint):
    assert old in ATTACHED
    with pytest.raises(ConfigError, match=complaint):
        load_config(write(GOOD + ATTACHED.replace(old, new, 1)), {})


@pytest.mark.usefixtures("newcomer_known")
@pytest.mark.parametrize("value", ["3", '"x"', "true", "[]", "[{}]"])
def test_a_drivers_table_that_is_none_is_one_problem(write, value):
    text = GOOD + ATTACHED.replace('[model.attach]\nurl = "http://127.0.0.1:8080"', f"attach = {value}")
    with pytest.raises(ConfigError) as refused:
        load_config(write(text), {})
    assert len(refused.value.problems) == 1


@pytest.mark.usefixtures("newcomer_known")
def test_a_model_without_the_table_that_its_driver_needs_is_told_where_this_worker_would_serve_it(write):
    config = load_config(write(GOOD + ATTACHED.partition("[model.attach]")[0]), {})
    assert [entry.name for entry in config.startable] == ["a"]
    assert config.warnings() == ('[[model]] "b": has no [model.attach], so this worker does not serve it',)


@pytest.mark.usefixtures("newcomer_known")
def test_the_broker_leaves_a_drivers_table_to_the_worker(write):
    text = GOOD.replace('anything = "of somebody else"', "anonymous = true") + ATTACHED.replace("url =", "ulr =")
    assert [entry.name for entry in load_broker(write(text), {}).models] == ["a", "b"]


def test_the_process_drivers_keys_stand_where_they_always_did(write):
    assert load_config(write(GOOD + "[model.process]\n"), {}) == load_config(write(GOOD), {})
    with pytest.raises(
        ConfigError, match=r'\[\[model\]\] "a": process: has no keys; write command, env, key, model_path into'
    ):
        load_config(write(GOOD + "[model.process]\nstop = 3\n"), {})


# ------------------------------------------------------------------------------------- how a server takes its key
COMMAND = 'command = ["server", "--port", "{port}", "--key", "{api_key_file}"]'


@pytest.mark.parametrize(
    "command, key, way",
    [
        (COMMAND, "", ""),
        (COMMAND, 'key = "file"', ""),
        ('command = ["s", "{port}"]', 'key = "environment:VLLM_API_KEY"', "environment:VLLM_API_KEY"),
        ('command = ["s", "{port}", "--api-key", "{api_key}"]', 'key = "argument"', "argument"),
        ('command = ["s", "{port}"]', 'key = "none"', "none"),
        ('command = ["s", "{socket}"]', 'key = "none"', "none"),
    ],
)
def test_a_model_says_how_its_server_takes_its_key(write, command, key, way):
    assert COMMAND in GOOD
    (entry,) = load_config(write(GOOD.replace(COMMAND, f"{command}\n{key}")), {}).models
    assert entry.key_way == way


@pytest.mark.parametrize(
    "command, key, complaint",
    [
        ('command = ["s", "{port}"]', "", 'say how the server takes its key: .*key = "none"'),
        ('command = ["s", "{port}"]', 'key = "file"', "command .or env. must contain {api_key_file}"),
        ('command = ["s", "{port}"]', 'key = "argument"', "command must contain {api_key}"),
        (COMMAND, 'key = "none"', "the server gets no key, so {api_key_file} says nothing"),
        ('command = ["s", "{port}"]', 'key = "environment"', "key: "),
        ('command = ["s", "{port}"]', 'key = "environment:A B"', "key: "),
        ('command = ["s", "{port}"]', 'key = "environment:K"\nenv = { K = "1" }', "env.K says something else"),
        ('command = ["s", "{port}", "{api_key}"]', 'key = "none"', "belongs in env"),
        ('command = ["s", "{socket}", "{api_key_file}"]', "", "is for a server behind a door"),
        ('command = ["s", "{socket}", "{port}"]', 'key = "none"', "one of them"),
        ('command = ["s"]', 'key = "none"', "must contain {port} or {socket}"),
    ],
)
def test_a_key_that_nobody_would_get_is_told(write, command, key, complaint):
    with pytest.raises(ConfigError, match=complaint):
        load_config(write(GOOD.replace(COMMAND, f"{command}\n{key}")), {})
