"""``hotseat.toml`` as the broker reads it."""

import pytest

from broker.config import load_config
from broker.core.lease import Priority
from schemas.config_file import ConfigError, ModelEntry

MODEL = '[[model]]\nname = "a"\nmemory_mib = 100\n'
ANONYMOUS = "[broker]\nanonymous = true\n"
KEY = f'[[key]]\nname = "k"\nsha256 = "{"0" * 64}"\n'


def load(tmp_path, text: str, **environ: str):
    path = tmp_path / "hotseat.toml"
    path.write_text(text)
    return load_config(path, environ)


def test_the_least_that_works(tmp_path):
    config = load(tmp_path, ANONYMOUS + MODEL)
    assert (config.broker.host, config.broker.port) == ("127.0.0.1", 4687)
    assert config.policy.settings().max_wait_s[Priority.NORMAL] == 600
    assert config.pool_settings().models[0].name == "a"
    assert config.lease_bounds().ttl_default_s == 60


def test_one_class_may_be_set_and_the_others_stay(tmp_path):
    config = load(tmp_path, ANONYMOUS + MODEL + "[policy.max_wait_s]\ninteractive = 60\n")
    settings = config.policy.settings()
    assert (settings.max_wait_s[Priority.INTERACTIVE], settings.max_wait_s[Priority.BATCH]) == (60, 600)


def test_the_environment_wins(tmp_path):
    assert load(tmp_path, ANONYMOUS + MODEL, HOTSEAT_BROKER_PORT="5000").broker.port == 5000


@pytest.mark.parametrize(
    "text, word",
    [
        (MODEL, "key"),
        (ANONYMOUS, "model"),
        ('[broker]\nanonymous = true\nhost = "0.0.0.0"\n' + MODEL, "loopback"),
        ('[broker]\nanonymous = true\nhost = "example.org"\n' + MODEL, "loopback"),
        (ANONYMOUS + "prot = 1\n" + MODEL, "prot"),
        (ANONYMOUS + 'hosts = ["*"]\n' + MODEL, "hosts"),
        (ANONYMOUS + 'hosts = ["http://a.example"]\n' + MODEL, "without scheme"),
        (ANONYMOUS + 'cors_origins = ["*"]\n' + MODEL, "every web page"),
        (ANONYMOUS + 'cors_origins = ["null"]\n' + MODEL, "sandboxed"),
        (ANONYMOUS + 'cors_origins = ["a.example"]\n' + MODEL, "scheme://host"),
        (ANONYMOUS + "[limits]\nttl = 1\n" + MODEL, "ttl"),
        (ANONYMOUS + "[limits]\nttl_min_s = 100\n" + MODEL, "ttl_min_s"),
        (ANONYMOUS + "[limits]\nrepoll_s = 10\nwaiter_ttl_s = 10\n" + MODEL, "repoll_s"),
        (ANONYMOUS + "[policy]\nslice = 1\n" + MODEL, "slice"),
        (ANONYMOUS + "[policy.weights]\nurgent = 1\n" + MODEL, "weights"),
        (ANONYMOUS + "[policy.weights]\nbatch = 0\n" + MODEL, "weights.batch"),
        (ANONYMOUS + "[other]\n" + MODEL, "other"),
        (KEY.replace("0" * 64, "abc") + MODEL, "sha256"),
        (KEY + 'scopes = ["root"]\n' + MODEL, "scopes"),
        (KEY + KEY + MODEL, "same name"),
        (KEY + "colour = 1\n" + MODEL, "colour"),
    ],
)
def test_mistakes_are_named(tmp_path, text, word):
    with pytest.raises(ConfigError, match=word.replace(".", r"\.")):
        load(tmp_path, text)


@pytest.mark.parametrize("name", ["HOTSEAT_BROKER_PROT", "HOTSEAT_NONSENSE", "HOTSEAT_KEY_NAME"])
def test_unknown_variables_are_refused(tmp_path, name):
    with pytest.raises(ConfigError):
        load(tmp_path, ANONYMOUS + MODEL, **{name: "1"})


def test_names_and_origins_are_lists_in_the_file_and_have_commas_in_the_environment(tmp_path):
    text = (
        '[broker]\nhosts = ["GPU.example.org:443", "*.ts.net"]\ncors_origins = ["http://Localhost:5173/", "*"]\n' + KEY
    )
    section = load(tmp_path, text + MODEL).broker
    assert section.hosts == ("gpu.example.org", "*.ts.net")
    assert section.cors_origins == ("http://localhost:5173", "*")
    environ = {"HOTSEAT_BROKER_HOSTS": "a.example, b.example", "HOTSEAT_BROKER_CORS_ORIGINS": "app://obsidian.md"}
    section = load(tmp_path, ANONYMOUS + MODEL, **environ).broker
    assert section.hosts == ("a.example", "b.example")
    assert section.cors_origins == ("app://obsidian.md",)


@pytest.mark.parametrize(
    "words, tokens",
    [
        ((), None),
        (("--ctx-size", "4096"), 4096),
        (("-c", "4096", "--parallel", "2"), 2048),
        (("-c", "many"), None),
        (("-c",), None),
        (("-c", "0"), None),
        (("-c", "4096", "-np", "0"), 4096),
        (("-c", "1", "-np", "2"), None),
        (("--max-model-len", "8192"), 8192),
        (("--max-model-len=8192",), 8192),
    ],
)
def test_where_a_models_context_is_not_given_its_command_tells(words, tokens):
    entry = ModelEntry(name="m", memory_mib=1, driver="other", command=("server", *words))
    assert entry.offered_tokens == tokens
    assert entry.model_copy(update={"context_tokens": 77}).offered_tokens == 77
