"""`hotseat import FILE`: another program's configuration as ours, with a list of what could not be carried over."""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from broker.config.broker_config import load_config as load_broker
from gpu_worker.config import load_config as load_worker
from hotseat.migration.draft import Draft
from hotseat.migration.litellm.file import from_litellm
from hotseat.migration.llama_swap.file import from_llama_swap
from hotseat.migration.yaml_file import ImportFailedError, YamlTable, one_line, read_yaml
from hotseat.terminal import arguments as words
from schemas.command_line import CommandLine
from schemas.config.file import ConfigError

READERS = ("litellm", "llama-swap")
LITELLM_SECTIONS = frozenset({"litellm_settings", "router_settings", "general_settings"})
BUDGET_MIB = 24_000
MOST_BUDGET_MIB = 16 * 1024 * 1024
FAILED, USAGE, INCOMPLETE = 1, 2, 3
FILE_MODE = 0o600
MAX_PRICES_BYTES = 64 * 1024 * 1024


def main(argv: list[str]) -> int:
    """Print the configuration, and on standard error what is not in it.

    Returns:
        0: printed; 1: the file cannot be imported; 2: usage; 3: with ``--strict``, something was not carried over.
    """
    arguments = _parser().parse_args(argv)
    try:
        document = read_yaml(arguments.file)
        kind = arguments.source or kind_of(document)
        draft = _drafted(kind, document, arguments.prices)
        text = draft.text(budget_mib=arguments.budget_mib)
        check(text)
        if arguments.output is None:
            print(text, end="")
        else:
            _write(arguments.output, text)
    except ImportFailedError as error:
        print(f"hotseat import: {one_line(error, 400)}", file=sys.stderr)
        return FAILED
    _tell(draft, kind)
    return INCOMPLETE if draft.left and arguments.strict else 0


def _drafted(kind: str, document: YamlTable, prices: Path | None) -> Draft:
    if kind == "llama-swap":
        return from_llama_swap(document, os.environ)
    return from_litellm(document, os.environ, None if prices is None else _prices(prices))


def _prices(path: Path) -> YamlTable:
    """LiteLLM's own table, ``model_prices_and_context_window.json``.

    Raises:
        ImportFailedError: It cannot be read, or is no such table.
    """
    try:
        with path.open("rb") as file:
            table = json.loads(file.read(MAX_PRICES_BYTES))
    except OSError as error:
        raise ImportFailedError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ImportFailedError(f"{path}: not JSON, or larger than {MAX_PRICES_BYTES} bytes") from None
    if not isinstance(table, dict):
        raise ImportFailedError(f"{path}: must be a table of models")
    return table


def kind_of(document: YamlTable) -> str:
    """Whose configuration it is, by its top-level keys.

    Raises:
        ImportFailedError: Nobody's that is known.
    """
    if isinstance(document.get("model_list"), list):
        return "litellm"
    if isinstance(document.get("models"), dict) or isinstance(document.get("peers"), dict):
        return "llama-swap"
    if not LITELLM_SECTIONS.isdisjoint(document):
        return "litellm"
    raise ImportFailedError(
        "neither llama-swap's (a table `models`) nor LiteLLM's (a list `model_list`); --from names one"
    )


def check(text: str) -> None:
    """Read the text as broker and worker will.

    Raises:
        ImportFailedError: They would refuse it.
    """
    with tempfile.TemporaryDirectory(prefix="hotseat-import-") as folder:
        path = Path(folder) / "hotseat.toml"
        path.write_text(text, encoding="utf-8", errors="replace")
        try:
            config = load_broker(path, {})
            load_broker(path, {name: "a-key" for one in config.routing.upstream if (name := one.api_key_env)})
            load_worker(path, {})
        except ConfigError as error:
            told = "; ".join(str(replace(problem, file="", line=None)) for problem in error.problems[:3])
            raise ImportFailedError(f"a value does not fit: {told}") from None


def _parser() -> argparse.ArgumentParser:
    parser = CommandLine(
        prog="hotseat import",
        description="Turn a rival's configuration into a hotseat.toml, and say what could not be carried over.",
    )
    parser.add_argument("file", type=Path, help="llama-swap's or LiteLLM's config.yaml")
    parser.add_argument("--from", dest="source", choices=sorted(READERS), help="whose it is (default: by its content)")
    parser.add_argument("--output", "-o", type=Path, help="write a new file instead of standard output")
    parser.add_argument(
        "--budget-mib",
        type=words.whole(1, MOST_BUDGET_MIB),
        default=BUDGET_MIB,
        help="memory of each GPU for models, MiB (default: %(default)s)",
    )
    parser.add_argument(
        "--prices", type=Path, help="LiteLLM's model_prices_and_context_window.json, for clouds whose prices it knows"
    )
    parser.add_argument("--strict", action="store_true", help="exit with 3 if something could not be carried over")
    return parser


def _write(path: Path, text: str) -> None:
    """A new file for this user only: it holds hashes of keys and the environment of model servers."""
    try:
        with open(path, "x", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, FILE_MODE)) as file:
            file.write(text)
    except OSError as error:
        raise ImportFailedError(f"{path}: {error.strerror}") from error


def _tell(draft: Draft, kind: str) -> None:
    count, outside = len(draft.models), sum(len(upstream.models) for upstream in draft.upstreams)
    told = f"{count} model{'' if count == 1 else 's'}" + (f" and {outside} of upstreams" if outside else "")
    print(f"hotseat import: {told} from {kind}'s configuration", file=sys.stderr)
    for title, remarks in (("not carried over", draft.left), ("carried over, but not as it was", draft.changed)):
        if remarks:
            print(f"{title}:", file=sys.stderr)
            for remark in remarks:
                print(f"  - {remark.line()}", file=sys.stderr)
