"""What the pages name is in the tree: files, folders, modules and names in them, the store's functions, other pages."""

import ast
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[2]
LISTING = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
LISTED = subprocess.run(LISTING, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
FILES = {path for path in LISTED if (ROOT / path).exists()}
FOLDERS = {str(folder) for path in FILES for folder in PurePosixPath(path).parents}
PAGES = sorted(path for path in FILES if path.endswith(".md") and not path.startswith(("CHANGELOG", "tests/")))
ABOUT_CODE = [page for page in PAGES if PurePosixPath(page).name in {"internals.md", "design.md", "scheduling.md"}]

PACKAGES = ("hotseat", "broker", "gpu_worker", "hooks", "schemas", "simulator", "harness", "bench", "tests")
ROOTS = "|".join((*PACKAGES, "tools", "deploy", "docs"))
BUILT = "hooks/openclaw/plugin/dist/"
"""What a build puts there is in no commit."""
PLACEHOLDER = re.compile(r"(?:^|/)NAME\b")
"""What a reader puts a name of his own in for."""
CONFIGURATION = "hotseat.toml"
"""A file of the reader's, not a module of ours."""

QUOTED = re.compile(r"`([^`\n]+)`")
SOURCE = re.compile(r"(?:[\w@.-]+/)*[\w-]+\.(?:py|lua|ts)")
PATH = re.compile(rf"(?:{ROOTS})/[\w@./-]*")
MODULE = re.compile(rf"(?:{'|'.join(PACKAGES)})(?:\.[A-Za-z_]\w*)+")
LINK = re.compile(r"\]\(([^)\s]+)\)")


@cache
def text_of(page):
    """The page without its fenced blocks: those show what is typed and printed, and other tests type them."""
    return re.sub(r"^ *```.*?^ *```", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)


def called(name):
    """Files of this path, or whose path ends so."""
    return [path for path in FILES if path == name or path.endswith(f"/{name}")]


@cache
def names_in(path):
    tree = ast.parse((ROOT / path).read_text())
    defined = {n.name for n in ast.walk(tree) if isinstance(n, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)}
    return defined | {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def is_module(dotted):
    """``broker.core``, ``broker.core.lease``, or ``broker.core.lease.TRANSITIONS``."""
    path = dotted.replace(".", "/")
    owner, _, name = path.rpartition("/")
    owners = [file for file in (f"{owner}.py", f"{owner}/__init__.py") if file in FILES]
    return path in FOLDERS or f"{path}.py" in FILES or any(name in names_in(file) for file in owners)


def is_there(word):
    """Is what a page has in backticks in the tree? A word that can mean anything else passes."""
    path, _, name = word.partition(": ")
    if path.startswith(BUILT) or path == CONFIGURATION or PLACEHOLDER.search(path):
        return True
    if SOURCE.fullmatch(path):
        owners = called(path)
        known = not name or not path.endswith(".py") or any(name in names_in(file) for file in owners)
        return bool(owners) and known
    if PATH.fullmatch(path):
        return path.rstrip("/") in FILES | FOLDERS
    return not MODULE.fullmatch(path) or is_module(path)


@pytest.mark.parametrize("page", PAGES)
def test_every_file_and_module_that_a_page_names_exists(page):
    assert [word for word in QUOTED.findall(text_of(page)) if not is_there(word)] == []


@pytest.mark.parametrize("word", ["broker/desk.py", "desk.py", "broker.desk", "lease.py: Purse", "broker/desk/"])
def test_a_name_that_is_not_in_the_tree_is_seen(word):
    assert not is_there(word)


@pytest.mark.parametrize("page", ABOUT_CODE)
def test_every_class_and_store_function_on_the_pages_about_code_exists(page):
    sources = [path for path in FILES if path.endswith((".py", ".lua", ".ts")) and not path.startswith("tests/")]
    text = "\n".join((ROOT / path).read_text() for path in sources)
    classes = set(re.findall(r"`((?:[A-Z][a-z]+){2,})`", text_of(page)))
    assert {
        name for name in classes if not re.search(rf"\b(?:class|type|interface|[A-Z]\w* =) ?{name}\b", text)
    } == set()
    functions = set(re.findall(r"`hotseat1_(\w+)`", text_of(page)))
    assert {name for name in functions if not re.search(rf"['\"_]{name}\b", text)} == set()


def anchors_of(page):
    for title in re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()
        yield re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def leads_somewhere(page, link):
    path, _, anchor = link.partition("#")
    target = (ROOT / page).parent.joinpath(path).resolve() if path else ROOT / page
    return target.exists() and (not anchor or anchor in set(anchors_of(str(target.relative_to(ROOT)))))


@pytest.mark.parametrize("page", PAGES)
def test_every_link_between_pages_leads_somewhere(page):
    links = [link for link in LINK.findall(text_of(page)) if not re.match(r"[a-z]+:", link)]
    assert [link for link in links if not leads_somewhere(page, link)] == []


def test_comments_cite_only_pages_that_are_in_the_repository():
    lost = set()
    for path in FILES - {Path(__file__).relative_to(ROOT).as_posix()}:
        if path.endswith((".py", ".lua", ".ts", ".toml", ".service", "Makefile")):
            text = (ROOT / path).read_text()
            lost |= {(path, page) for page in re.findall(r"\bdocs/[\w/-]+\.md\b", text) if page not in FILES}
            lost |= {(path, page) for page in re.findall(r"\bfacts: [a-z]+,|\bfacts/\w+\.md|\bDESIGN\b", text)}
    assert lost == set()


def test_the_map_has_every_room_of_the_broker_on_its_floor():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(one["layers"] for one in contracts if one.get("containers") == ["broker"])
    floors = {room: len(layers) - at for at, rooms in enumerate(layers) for room in rooms.split(" | ")}
    rows = re.findall(r"^\| (\d+) \| (.*?) \|", text_of("docs/internals.md"), re.MULTILINE)
    drawn = {room: int(floor) for floor, rooms in rows for room in re.findall(r"`broker/(\w+)(?:/|\.py)`", rooms)}
    assert drawn == floors


def fields_of(row):
    """What a row of the pool remembers, wherever in its room it is declared; a statistic stands for three fields."""
    paths = [path for path in FILES if path.startswith("broker/pool/records/") and path.endswith(".py")]
    classes = [node for path in paths for node in ast.parse((ROOT / path).read_text()).body]
    (found,) = [node for node in classes if isinstance(node, ast.ClassDef) and node.name == row]
    return {part.target.id for part in found.body if isinstance(part, ast.AnnAssign)}


@pytest.mark.parametrize(
    "key, row",
    [
        ("P:model:<m>", "ModelRow"),
        ("P:slot:<s>", "SlotRow"),
        ("P:residency:<s>:<m>", "ResidencyRow"),
        ("P:lease:<id>", "LeaseRow"),
    ],
)
def test_the_table_of_keys_has_every_field_of_a_row(key, row):
    (cell,) = re.findall(rf"^\| `{key}` \| hash \| (.*) \|$", text_of("docs/internals.md"), re.MULTILINE)
    told = set(re.findall(r"\w+", " ".join(QUOTED.findall(cell))))
    told |= {word.removesuffix("_ms") for word in told if word.endswith("_ms")} | {"slot"}
    assert fields_of(row) - told == set()
