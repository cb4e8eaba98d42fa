"""`hotseat import FILE`: a rival's configuration as ours, with a list of what could not be carried over."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from broker.config import load_config as load_broker
from gpu_worker.config import load_config as load_worker
from hotseat.rivals.draft import Draft
from hotseat.rivals.litellm import from_litellm
from hotseat.rivals.llama_swap import from_llama_swap
from hotseat.rivals.yaml_file import ImportFailedError, Table, one_line, read_yaml
from schemas.config_file import ConfigError

READERS = {"llama-swap": from_llama_swap, "litellm": from_litellm}
BUDGET_MIB = 24_000
FAILED, USAGE, INCOMPLETE = 1, 2, 3
FILE_MODE = 0o600


def main(argv: list[str]) -> int:
    """Print the configuration, and on standard error what is not in it.

    Returns:
        0: printed; 1: the file cannot be imported; 2: usage; 3: with ``--strict``, something was not carried over.
    """
    arguments = _parser().parse_args(argv)
    try:
        document = read_yaml(arguments.file)
        kind = arguments.source or kind_of(document)
        draft = READERS[kind](document, os.environ)
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


def kind_of(document: Table) -> str:
    """Whose configuration it is, by its top-level keys.

    Raises:
        ImportFailedError: Nobody's that is known.
    """
    if isinstance(document.get("model_list"), list):
        return "litellm"
    if isinstance(document.get("models"), dict):
        return "llama-swap"
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
            load_broker(path, {})
            load_worker(path, {})
        except ConfigError as error:
            raise ImportFailedError(f"a value does not fit: {str(error).removeprefix(f'{path}: ')}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hotseat import",
        description="Turn a rival's configuration into a hotseat.toml, and say what could not be carried over.",
    )
    parser.add_argument("file", type=Path, help="llama-swap's or LiteLLM's config.yaml")
    parser.add_argument("--from", dest="source", choices=sorted(READERS), help="whose it is (default: by its content)")
    parser.add_argument("--output", "-o", type=Path, help="write a new file instead of standard output")
    parser.add_argument("--budget-mib", type=_budget, default=BUDGET_MIB, help="memory of the GPU for models, MiB")
    parser.add_argument("--strict", action="store_true", help="exit with 3 if something could not be carried over")
    return parser


def _budget(text: str) -> int:
    value = int(text)
    if not 0 < value <= 16 * 1024 * 1024:
        raise ValueError(text)
    return value


def _write(path: Path, text: str) -> None:
    """A new file for this user only: it holds hashes of keys and the environment of model servers."""
    try:
        with open(path, "x", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, FILE_MODE)) as file:
            file.write(text)
    except OSError as error:
        raise ImportFailedError(f"{path}: {error.strerror}") from error


def _tell(draft: Draft, kind: str) -> None:
    count = len(draft.models)
    print(f"hotseat import: {count} model{'' if count == 1 else 's'} from {kind}'s configuration", file=sys.stderr)
    if draft.left:
        print("not carried over:", file=sys.stderr)
        for left in draft.left:
            print(f"  - {left.line()}", file=sys.stderr)
