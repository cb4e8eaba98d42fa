"""Which programs a command line starts: containers and services of somebody else, wrappers, shells, model servers."""

import re
from itertools import pairwise
from pathlib import PurePath

from hotseat.migration.command_lines.kinds import EVERY

CONTAINERS = frozenset({
    "docker", "podman", "nerdctl", "apptainer", "singularity", "docker-compose", "podman-compose", "distrobox",
    "distrobox-enter", "toolbox", "enroot", "lxc", "lxc-attach", "incus", "systemd-nspawn", "nvidia-docker", "udocker",
})  # fmt: skip
ELSEWHERE = {
    **dict.fromkeys(CONTAINERS, "starts a container, and there is no driver for containers yet"),
    **dict.fromkeys(("systemctl", "systemd-run", "service", "launchctl"), "has a service manager start it"),
    **dict.fromkeys(("ssh", "kubectl", "wsl", "wsl.exe"), "starts it on another machine"),
    **dict.fromkeys(
        ("sudo", "doas", "su", "runuser"), "starts it as another user, whose programs the worker cannot end"
    ),
    **dict.fromkeys(("cmd", "powershell", "pwsh"), "is for Windows; the worker is for Linux"),
}
"""Programs whose children are not the worker's, and why they cannot be carried over."""
SHELLS = frozenset({"sh", "bash", "zsh", "dash", "ash", "ksh", "fish"})
WRAPPERS = frozenset({
    "env", "exec", "taskset", "nice", "ionice", "chrt", "numactl", "stdbuf", "nohup", "time", "timeout", "setsid",
    "prlimit", "command", "unbuffer", "catchsegv", "gamemoderun", "mangohud",
})  # fmt: skip
"""Programs that start the one behind their own options."""
RUNNERS = frozenset({
    "python", "python3", "uv", "uvx", "node", "npx", "conda", "mamba", "micromamba", "pixi", "poetry", "pipx", "nix",
    "perl", "ruby", "run", "shell", "-m",
})  # fmt: skip
"""What is said before the name of a program in some language."""
_RUNS_CONTAINERS = frozenset({"run", "start", "exec", "compose", "container"})
_LLAMA = re.compile(r"llama[-_.]?(cpp[-_.])?server", re.IGNORECASE)
_SCRIPT = re.compile(r"\.(sh|bash|zsh|py|pl|js|rb)$", re.IGNORECASE)
_OTHER_KIND = re.compile(
    r"whisper|speaches|parakeet|moonshine|faster-?whisper|kokoro|piper|tts\b|tts-|-tts|xtts|bark|chatterbox|orpheus"
    r"|stable-?diffusion|(^|[/_-])sd(-server)?$|sdcpp|sd-server|comfyui|flux|diffusers|musicgen|demucs|rvc",
    re.IGNORECASE,
)
_WINDOWS = re.compile(r"^[A-Za-z]:[\\/]|\.exe$|\.bat$|\.ps1$", re.IGNORECASE)


_OTHER_MAKERS = re.compile(r"kobold|ollama|mistral|exllama|mlx|sglang|tabby|aphrodite|lmdeploy", re.IGNORECASE)


class CommandError(ValueError):
    """The command cannot be ours; the message says why."""


class ElsewhereError(CommandError):
    """What it starts would be no child of the worker's."""


class OtherKindError(CommandError):
    """It serves what no kind of model of ours is."""


def name_of(word: str) -> str:
    """The program that a word names, without its folder."""
    return PurePath(word.replace("\\", "/")).name


def is_script(word: str) -> bool:
    """Is it a program in a language that its author may have put anything into?"""
    return _SCRIPT.search(word) is not None


def is_of_another_maker(word: str) -> bool:
    """Is it known to take other options than llama-server?"""
    return _OTHER_MAKERS.search(name_of(word)) is not None


def is_llama_server(word: str) -> bool:
    """llama.cpp's server, a fork of it, or a build under a longer name; no script around one."""
    name = name_of(word)
    if is_script(name) or name.lower().endswith((".log", ".gguf", ".service", ".pid", ".json", ".yaml")):
        return False
    is_old_name = name.lower() == "server" and "llama" in word.lower()
    return is_old_name or _LLAMA.search(name) is not None


def program_in(words: list[str]) -> str:
    """The program that a command line is about, for people: no wrapper and no interpreter."""
    passed = SHELLS | WRAPPERS | RUNNERS
    for before, word in pairwise(["", *words]):
        is_value = before == "-n"  # of nice and of conda
        if not is_value and not word.startswith("-") and "=" not in word and name_of(word) not in passed:
            return name_of(word)
    return name_of(words[0])


def vllm_at(words: list[str]) -> int | None:
    """Where vLLM's own arguments begin; None: it is not vLLM."""
    for index, word in enumerate(words[:-1]):
        if name_of(word) == "vllm" and words[index + 1] == "serve":
            return index + 2
        if word == "-m" and words[index + 1] in {"vllm.entrypoints.openai.api_server", "vllm.entrypoints.api_server"}:
            return index + 2
    return None


def refuse_elsewhere(words: list[str]) -> None:
    """Look at what is started, through the wrappers around it.

    Raises:
        ElsewhereError: It would be no child of the worker's.
    """
    if _WINDOWS.search(words[0]):
        raise ElsewhereError("is for Windows; the worker is for Linux")
    for word in words:
        program = name_of(word).lower()
        if program in ELSEWHERE:
            raise ElsewhereError(f"{program!r} {ELSEWHERE[program]}")
        if program not in WRAPPERS and not _is_argument_of_wrapper(word):
            break
    for word, after in pairwise(words):
        if name_of(word) in {"docker", "podman", "nerdctl"} and after in _RUNS_CONTAINERS:
            raise ElsewhereError(f"{name_of(word)!r} {ELSEWHERE['docker']}")


def refuse_other_kinds(words: list[str]) -> None:
    """Look at what is started and in which folder, and at what it is given first.

    Raises:
        OtherKindError: It speaks, listens or paints.
    """
    programs = [word for word in words if not word.startswith("-")][:4]
    if other := next((word for word in programs if _OTHER_KIND.search("/".join(word.split("/")[-2:]))), None):
        raise OtherKindError(f"{name_of(other)!r} serves sound or pictures: kinds are {EVERY}")


def _is_argument_of_wrapper(word: str) -> bool:
    return word.startswith("-") or "=" in word or not re.search(r"[A-Za-z]", word)
