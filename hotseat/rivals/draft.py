"""A draft of our configuration: what an import fills in, what it could not carry over, and the text of it all."""

import hashlib
import json
import re
from dataclasses import dataclass, field

from hotseat.rivals.yaml_file import ImportFailedError, one_line

NAME_LIMIT = 128
KEY_SETTINGS = ("apiKeys", "general_settings.master_key")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._:/@-]+")

Value = str | int | float | bool | tuple[str, ...] | dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Something that was not carried over."""

    where: str
    why: str

    def line(self) -> str:
        """For people; one line whatever the file held."""
        return f"{one_line(self.where)}: {one_line(self.why, 240)}"


@dataclass(slots=True, kw_only=True)
class DraftModel:
    """One ``[[model]]``."""

    name: str
    fields: dict[str, Value] = field(default_factory=dict)
    comments: list[str] = field(default_factory=list)
    memory_mib: int | None = None
    """None: unknown, so it is declared as all of the slot."""


@dataclass(slots=True, kw_only=True)
class Draft:
    """What an import found. ``leave`` is called for everything that has no place in our configuration."""

    source: str
    models: list[DraftModel] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    """Other names for its models; ``settle`` looks whether they are free."""
    keys: list[tuple[str, str, str]] = field(default_factory=list)
    """Name, SHA-256, scope."""
    worker: dict[str, Value] = field(default_factory=dict)
    log_level: str | None = None
    left: list[Left] = field(default_factory=list)
    guarded: bool = False
    """The source lets in only who has a key."""

    def leave(self, where: str, why: str) -> None:
        """Say that something was not carried over."""
        self.left.append(Left(where=where, why=why))

    def leave_unknown(self, where: str, table: dict[str, object], known: frozenset[str]) -> None:
        """Say so of every key that no part of the import looks at."""
        for key in table:
            if key not in known:
                self.leave(f"{where}{key}", "has no counterpart, or is not known to this import")

    def add_key(self, name: str, secret: str, *, scope: str) -> None:
        """Let clients go on with the key they have: only its hash is written."""
        digest = hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
        if all(known != digest for _, known, _ in self.keys):
            self.keys.append((name, digest, scope))

    def new_model(self, name: object, where: str) -> DraftModel | None:
        """A model by this name, made fit for ours; None, and said so, where it cannot be."""
        text = name if isinstance(name, str) else str(name)
        fit = _NOT_IN_NAMES.sub("-", text).lstrip("-._:/@")[:NAME_LIMIT]
        if not fit:
            self.leave(where, "its name has no letter or digit")
            return None
        if any(model.name == fit for model in self.models):
            self.leave(where, f"the name {fit!r} is taken; Hotseat has one entry per name")
            return None
        if fit != text:
            self.leave(where, f"its name is {fit!r} now: names are of letters, digits and ._:/@-")
        model = DraftModel(name=fit)
        self.models.append(model)
        return model

    def settle(self) -> None:
        """Call when all models are known: an alias that is no name, or is taken, is left out."""
        taken = {model.name for model in self.models}
        for alias in list(self.aliases):
            if alias in taken or _NOT_IN_NAMES.search(alias) or not alias[:1].isalnum() or len(alias) > NAME_LIMIT:
                self.leave(f"the alias {alias}", "a model has this name, or it is no name for ours")
                del self.aliases[alias]

    def text(self, *, budget_mib: int) -> str:
        """The file.

        Raises:
            ImportFailedError: Whoever has no key was kept out, and no key could be read; it is not opened up instead.
        """
        if self.guarded and not self.keys:
            why = (
                "; ".join(left.line() for left in self.left if left.where.startswith(KEY_SETTINGS))
                or "they are no text"
            )
            raise ImportFailedError(f"it asks for API keys and none can be read ({why})")
        lines = [f"# From {self.source} by `hotseat import`. Read it before you use it: comments say what to check."]
        lines += ["", "[store]", 'url = "redis://127.0.0.1:6379/0"', *self._broker(), *self._worker(budget_mib)]
        for name, digest, scope in self.keys:
            lines += ["", "[[key]]", f"name = {quoted(name)}", f'sha256 = "{digest}"', f'scopes = ["{scope}"]']
        for model in self.models:
            lines += ["", *_model_lines(model, budget_mib)]
        for alias, model_name in self.aliases.items():
            lines += ["", "[[routing.alias]]", f"name = {quoted(alias)}", f"candidates = [{quoted(model_name)}]"]
        if self.left:
            lines += ["", "# Not carried over:", *(f"# - {left.line()}" for left in self.left)]
        return "\n".join(lines) + "\n"

    def _broker(self) -> list[str]:
        lines = ["", "[broker]"]
        if not self.keys:
            lines += ["# No API key was found: only this machine can connect. For others: hotseat key new NAME."]
            lines += ["anonymous = true"]
        if self.log_level:
            lines.append(f'log_level = "{self.log_level}"')
        return lines

    def _worker(self, budget_mib: int) -> list[str]:
        lines = ["", "[worker]", *(f"{name} = {_toml(value)}" for name, value in self.worker.items())]
        if self.log_level:
            lines.append(f'log_level = "{self.log_level}"')
        lines += ["", "[[worker.slot]]", 'id = "gpu0"']
        lines += [
            '# What models may use of the GPU together; or device_uuid = "GPU-…" (nvidia-smi -L), then it is measured.'
        ]
        return [*lines, f"budget_mib = {budget_mib}"]


def _model_lines(model: DraftModel, budget_mib: int) -> list[str]:
    lines = ["[[model]]", f"name = {quoted(model.name)}"]
    if model.memory_mib is None:
        lines.append("# Not known: declared as the whole slot, so that it is alone there. Enter what it really takes.")
    elif model.memory_mib > budget_mib:
        lines.append(f"# Estimated at {model.memory_mib} MiB, more than the slot has.")
    else:
        lines.append("# Estimated from the size of its file; enter what it really takes.")
    lines.append(f"memory_mib = {min(model.memory_mib or budget_mib, budget_mib)}")
    lines += [f"{name} = {_toml(value)}" for name, value in model.fields.items()]
    return [*lines, *(f"# {one_line(comment, 400)}" for comment in model.comments)]


def quoted(text: str) -> str:
    """Text as a TOML string in which every character can be seen: a stranger's may hide text or turn it around."""
    plain = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else _escaped(char) for char in plain)


def _escaped(char: str) -> str:
    number = ord(char)
    if 0xD800 <= number < 0xE000:
        return "\\uFFFD"
    return f"\\u{number:04X}" if number < 0x10000 else f"\\U{number:08X}"


def _toml(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, tuple):
        words = ", ".join(quoted(word) for word in value)
        return f"[{words}]" if len(words) < 90 else "[\n" + "".join(f"  {line},\n" for line in _lines(value)) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{quoted(name)} = {quoted(text)}" for name, text in value.items()) + " }"
    return repr(value)


def _lines(words: tuple[str, ...]) -> list[str]:
    """One line per option, its value beside it."""
    lines: list[str] = []
    for word in words:
        text = quoted(word)
        if not lines or word.startswith("-") or not lines[-1].startswith('"-') or '", "' in lines[-1]:
            lines.append(text)
        else:
            lines[-1] += f", {text}"
    return lines
