"""The worker's configuration: what is accepted, what is refused and how clearly."""

import pytest

from gpu_worker.config import OnExit, load_config
from schemas.config_file import ConfigError, StoreSection, load_toml, section_of

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
        ("adopt_grace_s", "adopt_grace", "worker.adopt_grace: Extra inputs are not permitted"),
        ("budget_mib = 1000", "budget = 1", "worker.slot.0.budget"),
        ("budget_mib = 1000", "", "set budget_mib, or device_uuid"),
        ("budget_mib = 1000", "budget_mib = -1", "worker.slot.0.budget_mib: Input should be greater than 0"),
        ('id = "gpu0"', 'id = "gpu 0"', "worker.slot.0.id"),
        ("[broker]", "[brokr]", r"unknown section \[brokr\]"),
        ("memory_mib = 600", "memory_mb = 600", r"model\[0\]"),
        ("{port}", "{prot}", "unknown placeholder {prot}"),
        ("{port}", "8080", "must contain {port}"),
        ("{api_key_file}", "secret", "must contain {api_key_file}"),
        ('"server"', '"server", "{model_path}"', "model_path is not set"),
        ("memory_mib = 600", 'memory_mib = 600\ndriver = "podman"', "no driver 'podman'"),
        ("unix://", "http://", "store.url: must begin with"),
        ("unix:///run/valkey.sock", "redis://user:pass@host/0", "must not contain credentials"),
        ("adopt_grace_s = 5", "port_min = 9000", "port_min and port_max"),
        ("[store]", "[store", "hotseat.toml"),
    ],
)
def test_what_is_wrong_is_refused_by_name(write, old, new, complaint):
    assert old in GOOD
    with pytest.raises(ConfigError, match=complaint):
        load_config(write(GOOD.replace(old, new, 1)), {})


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
    with pytest.raises(ConfigError, match=r"twice|same id"):
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
    assert section_of(StoreSection, load_toml(None, {}), "store") == StoreSection()
