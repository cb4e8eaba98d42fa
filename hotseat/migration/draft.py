"""A draft of our configuration: what an import fills in, what it could not carry over, and the text of it all."""

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

from hotseat.migration.reading import DocumentTable
from hotseat.migration.toml_text import NoTomlError, toml, toml_quoted
from hotseat.migration.yaml_file import ImportFailedError, one_line
from schemas.config.parameters import OURS
from schemas.names import ALIAS_PATTERN, NAME_PATTERN

NAME_LIMIT = 128
REMOTE_NAME_LIMIT = 256
"""Longest name that a model server or an upstream knows a model by, characters."""
KEY_SETTINGS = ("apiKeys", "general_settings.master_key")
UNKNOWN = "has no counterpart, or is not known to this import"
NOTHING_AT_HOME = "none is started here, so there is nothing to lease: upstreams and budgets alone"
MOST_TOLD = 2000
"""Most remarks that one import tells; further ones are dropped."""
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._:/@-]+")
_NAME = re.compile(NAME_PATTERN)
_ALIAS = re.compile(ALIAS_PATTERN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Something that was not carried over, or not as it was."""

    where: str
    why: str

    def line(self) -> str:
        """Write it as one line for people, whatever the file held."""
        return f"{one_line(self.where)}: {one_line(self.why, 300)}"


@dataclass(slots=True, kw_only=True)
class DraftParameters:
    """The ``parameters`` table of a name."""

    strip: list[str] = field(default_factory=list)
    default: dict[str, Any] = field(default_factory=dict)
    set: dict[str, Any] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Write them as they stand in the file."""
        tables = (("strip", self.strip), ("default", self.default), ("set", self.set))
        return [f"parameters.{name} = {toml(table)}" for name, table in tables if table]


@dataclass(slots=True, kw_only=True)
class DraftModel:
    """One ``[[model]]`` of the draft."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)
    parameters: DraftParameters = field(default_factory=DraftParameters)
    comments: list[str] = field(default_factory=list)
    memory_mib: int | None = None
    """Memory that it needs, MiB; None: that is unknown, so all of the slot is declared."""
    memory_note: str = ""
    """Comment on the memory instead of the usual words; empty: the usual ones."""


@dataclass(slots=True, kw_only=True)
class DraftAlias:
    """One ``[[routing.alias]]`` of the draft."""

    candidates: tuple[str, ...]
    fields: dict[str, Any] = field(default_factory=dict)
    parameters: DraftParameters = field(default_factory=DraftParameters)


@dataclass(slots=True, kw_only=True)
class DraftUpstream:
    """One ``[[routing.upstream]]`` of the draft, with its models."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)
    models: list[DraftModel] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class DraftSlot:
    """One ``[[worker.slot]]`` of the draft."""

    id: str
    fields: dict[str, Any] = field(default_factory=dict)
    cards: int = 1
    """How many cards it stands for together."""


@dataclass(slots=True, kw_only=True)
class Draft:
    """What an import found. ``leave`` is called for whatever has no place here, ``change`` for what means another."""

    source: str
    models: list[DraftModel] = field(default_factory=list)
    aliases: dict[str, DraftAlias] = field(default_factory=dict)
    """Other names of models; ``settle`` looks whether they are free."""
    upstreams: list[DraftUpstream] = field(default_factory=list)
    slots: list[DraftSlot] = field(default_factory=list)
    keys: list[tuple[str, str, str]] = field(default_factory=list)
    """Name, SHA-256 and scope of each API key."""
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Plain fields of ``broker``, ``worker``, ``gateway`` and ``routing``."""
    left: list[Left] = field(default_factory=list)
    changed: list[Left] = field(default_factory=list)
    guarded: bool = False
    """The source lets in only those who have a key."""

    def leave(self, where: str, why: str) -> None:
        """Say that something was not carried over."""
        _tell(self.left, where, why)

    def change(self, where: str, why: str) -> None:
        """Say that something was carried over and means something else."""
        _tell(self.changed, where, why)

    def leave_unasked(self, document: DocumentTable) -> None:
        """Say so of everything in the document that nobody asked for."""
        for path in document.unasked():
            self.leave(path, UNKNOWN)

    def leave_known(self, table: DocumentTable, reasons: dict[str, str]) -> None:
        """Say why something known has no counterpart; what is off or empty there is nothing here."""
        for key, why in reasons.items():
            if table.get(key) not in (None, "", False, {}, []):
                self.leave(table.path(key), why)

    def texts(self, table: DocumentTable, key: str) -> list[str]:
        """Return the texts of a list; whatever else is in it is told."""
        values = table.get(key)
        if values is not None and not isinstance(values, list):
            self.leave(table.path(key), "not a list of texts")
            return []
        for index, value in enumerate(values or []):
            if not isinstance(value, str):
                self.leave(f"{table.path(key)}[{index}]", "is no text")
        return [value for value in values or [] if isinstance(value, str)]

    def put(self, section: str, name: str, value: object) -> None:
        """Fill in a plain field of a section."""
        self.sections.setdefault(section, {})[name] = value

    def add_key(self, name: str, secret: str, *, scope: str) -> None:
        """Let clients go on with the key they have: only its hash is written."""
        digest = hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
        if all(known != digest for _, known, _ in self.keys):
            self.keys.append((name, digest, scope))

    def set_parameter(self, target: dict[str, Any], name: str, value: object, where: str) -> None:
        """Fill in a parameter, unless it is the broker's own or TOML has no form for its value."""
        if name in OURS:
            self.leave(where, f"{name} is the broker's own")
            return
        try:
            toml(value)
        except (NoTomlError, RecursionError) as error:
            what = str(error) if isinstance(error, NoTomlError) else "a value too deep"
            self.leave(where, f"{what} cannot be written here")
            return
        target[name] = value

    # ------------------------------------------------------------------------------------------------------- names
    def new_model(self, name: str, where: str) -> DraftModel | None:
        """Add a model by this name, made fit for ours, with the name as an alias; None, and said so: it cannot be."""
        fit = fit_name(name)
        if not fit:
            self.leave(where, "its name has no letter or digit")
            return None
        if fit in self.names():
            self.leave(where, f"the name {fit!r} is taken; Hotseat has one entry per name")
            return None
        model = DraftModel(name=fit)
        self.models.append(model)
        if fit != name:
            if self.add_alias(name, DraftAlias(candidates=(fit,)), where):
                self.change(
                    where, f"is the model {fit!r} now, for names of models have no blanks; its name leads there"
                )
            else:
                self.change(where, f"its name is {fit!r} now: names are of letters, digits and ._:/@-")
        return model

    def names(self) -> set[str]:
        """Return all names that are taken, without aliases."""
        outside = (model.name for upstream in self.upstreams for model in upstream.models)
        return {*(model.name for model in self.models), *outside}

    def add_alias(self, name: str, alias: DraftAlias, where: str) -> bool:
        """Add another name; False, and said so where it matters, if it is none or leads elsewhere already."""
        if not _ALIAS.fullmatch(name):
            return False
        known = self.aliases.setdefault(name, alias)
        if known.candidates != alias.candidates:
            self.leave(where, f"the name {one_line(name)!r} stands for another model already")
            return False
        return True

    def settle(self) -> None:
        """Leave out aliases that are taken and upstreams without a model. Call it when all names are known."""
        self.upstreams = [upstream for upstream in self.upstreams if upstream.models]
        for name in [name for name in self.aliases if name in self.names()]:
            self.leave(f"the alias {name}", "a model has this name")
            del self.aliases[name]

    # -------------------------------------------------------------------------------------------------------- text
    def text(self, *, budget_mib: int) -> str:
        """Write the file. ``budget_mib`` is what each card has.

        Raises:
            ImportFailedError: Whoever has no key was kept out, and no key could be read; it is not opened up instead.
        """
        if self.guarded and not self.keys:
            told = [left.line() for left in self.left if left.where.startswith(KEY_SETTINGS)]
            raise ImportFailedError(
                f"it asks for API keys and none can be read ({'; '.join(told) or 'they are no text'})"
            )
        slots = self.slots or [DraftSlot(id="gpu0")]
        lines = [f"# From {self.source} by `hotseat import`. Read it before you use it: comments say what to check."]
        lines += ["", "[store]", 'url = "redis://127.0.0.1:6379/0"', *self._broker(), *self._section("gateway")]
        lines += self._worker(slots, budget_mib)
        for name, digest, scope in self.keys:
            lines += ["", "[[key]]", f"name = {toml_quoted(name)}", f'sha256 = "{digest}"', f'scopes = ["{scope}"]']
        for model in self.models:
            lines += ["", *_model_lines(model, _room_of(model, slots, budget_mib))]
        lines += self._routing()
        for title, remarks in (("Not carried over:", self.left), ("Carried over, but not as it was:", self.changed)):
            if remarks:
                lines += ["", f"# {title}", *(f"# - {remark.line()}" for remark in remarks)]
        return "\n".join(lines) + "\n"

    def _section(self, name: str) -> list[str]:
        fields = self.sections.get(name, {})
        return ["", f"[{name}]", *(f"{key} = {toml(value)}" for key, value in fields.items())] if fields else []

    def _broker(self) -> list[str]:
        lines = ["", "[broker]"]
        if not self.keys:
            lines += ["# No API key was found: only this machine can connect. For others: hotseat key new NAME."]
            lines += ["anonymous = true"]
        return [*lines, *self._section("broker")[2:]]

    def _worker(self, slots: list[DraftSlot], budget_mib: int) -> list[str]:
        lines = ["", "[worker]", *self._section("worker")[2:]]
        for slot in slots:
            lines += ["", "[[worker.slot]]", f"id = {toml_quoted(slot.id)}"]
            lines += [f"{name} = {toml(value)}" for name, value in slot.fields.items()]
            lines.append(
                "# What models may use of the GPU together; or device_uuid = "
                '"GPU-…" (nvidia-smi -L), then it is measured.'
                if slot.cards == 1
                else f"# What models may use of these {slot.cards} cards together."
            )
            lines.append(f"budget_mib = {budget_mib * slot.cards}")
        return lines

    def _routing(self) -> list[str]:
        lines = self._section("routing")
        for upstream in self.upstreams:
            lines += ["", "[[routing.upstream]]", f"name = {toml_quoted(upstream.name)}"]
            lines += [f"{name} = {toml(value)}" for name, value in upstream.fields.items()]
            for model in upstream.models:
                lines += ["", "[[routing.upstream.model]]", f"name = {toml_quoted(model.name)}"]
                lines += [f"{name} = {toml(value)}" for name, value in model.fields.items()]
                lines += [*model.parameters.lines(), *_comments(model)]
        for name, alias in self.aliases.items():
            lines += ["", "[[routing.alias]]", f"name = {toml_quoted(name)}", f"candidates = {toml(alias.candidates)}"]
            lines += [f"{key} = {toml(value)}" for key, value in alias.fields.items()]
            lines += alias.parameters.lines()
        return lines


def fit_name(name: str) -> str:
    """Turn a name into one that models may have; empty: nothing is left of it."""
    fit = _NOT_IN_NAMES.sub("-", name).lstrip("-._:/@")[:NAME_LIMIT].rstrip("-")
    return fit if _NAME.fullmatch(fit) else ""


def _tell(remarks: list[Left], where: str, why: str) -> None:
    remark = Left(where=where, why=why)
    if len(remarks) < MOST_TOLD and remark not in remarks[-50:]:
        remarks.append(remark)
    elif len(remarks) == MOST_TOLD:
        remarks.append(Left(where="…", why=f"more than {MOST_TOLD}; the rest is not told"))


def _room_of(model: DraftModel, slots: list[DraftSlot], budget_mib: int) -> int:
    """Return what the slot has, or the smallest slot that may load it, MiB."""
    wanted = model.fields.get("slots") or [slot.id for slot in slots]
    return budget_mib * min(slot.cards for slot in slots if slot.id in wanted)


def _model_lines(model: DraftModel, room_mib: int) -> list[str]:
    lines = ["[[model]]", f"name = {toml_quoted(model.name)}"]
    if model.memory_note:
        lines.append(f"# {model.memory_note}")
    elif model.memory_mib is None:
        lines.append("# Not known: declared as the whole slot, so that it is alone there. Enter what it really takes.")
    elif model.memory_mib > room_mib:
        lines.append(f"# Estimated at {model.memory_mib} MiB, more than the slot has.")
    else:
        lines.append("# Estimated from the size of its file; enter what it really takes.")
    lines.append(f"memory_mib = {min(model.memory_mib or room_mib, room_mib)}")
    lines += [f"{name} = {toml(value)}" for name, value in model.fields.items()]
    return [*lines, *model.parameters.lines(), *_comments(model)]


def _comments(model: DraftModel) -> list[str]:
    return [f"# {one_line(comment, 400)}" for comment in model.comments]
