"""A public name stands for one thing: who meets it in one room knows it in the next."""

import ast
import contextlib
import importlib
import importlib.util
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("broker", "gpu_worker", "hotseat", "hooks", "schemas")
SAME = {
    "Failing": "the core's words for what the worker's are: neither may import the other, a test holds them together",
    "Load": "what the policy decides, and the worker's step that carries it out",
    "Unload": "as Load",
    "Problem": "msgspec's and Pydantic's answer to one body",
    "ActivityRequest": "as Problem",
    "SpanRequest": "as Problem",
    "StoreAddress": "two parts that may not import each other say where their store is",
    "load_config": "each part reads its own sections of one file",
}
"""Names that are there twice and mean the same, and why they are."""
TWINS = {"broker.api.views", "schemas.http.api"}
"""The hot paths' bodies are structs with the names of the documented models; a test holds them together."""


def modules():
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "node_modules" not in path.parts:
                yield ".".join(path.relative_to(ROOT).with_suffix("").parts), ast.parse(path.read_text("utf-8"))


def defined(tree):
    for node in tree.body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.Assign(targets=targets):
                yield from (target.id for target in targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name


def is_kind(name):
    return name[0].isupper() and not name.isupper()


def test_a_public_name_stands_for_one_thing():
    """Of classes and kinds any, of functions and constants those that some other module imports by their name."""
    homes, imported = defaultdict(set), set()
    for module, tree in modules():
        for name in defined(tree):
            if not name.startswith("_"):
                homes[name].add(module)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                imported |= {(node.module, alias.name) for alias in node.names}
    twice = {}
    for name, where in homes.items():
        public = where if is_kind(name) else {home for home in where if (home, name) in imported}
        if len(public) > 1 and public != TWINS:
            twice[name] = sorted(public)
    assert {name: where for name, where in twice.items() if name not in SAME} == {}
    assert set(SAME) <= set(twice), "of these there is only one by now"


IMPORTED = re.compile(r"from ((?:broker|gpu_worker|hotseat|hooks|schemas|harness)(?:\.\w+)+) import ([\w, ]+)")


def is_there(module, name):
    if hasattr(importlib.import_module(module), name):
        return True
    with contextlib.suppress(ModuleNotFoundError):
        return importlib.util.find_spec(f"{module}.{name}") is not None
    return False


def test_what_a_text_imports_is_there():
    """Tests hand programs to interpreters of their own as text, which no other check reads."""
    texts = {path.name: path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py")}
    wanted = [
        (file, module, word.strip().split(" as ")[0])
        for file, text in texts.items()
        for module, names in IMPORTED.findall(text)
        for word in names.split(",")
        if word.strip()
    ]
    assert wanted
    assert [one for one in wanted if not is_there(*one[1:])] == []
