"""Draws ``docs/state-machines.md`` from the transition tables, so that the picture cannot lie.

``python -m tools.state_diagrams`` writes it; ``--check`` fails when it is out of step.
"""

import argparse
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from broker.core.lease import TRANSITIONS
from broker.core.slot import RESIDENCY_TRANSITIONS, SLOT_TRANSITIONS
from broker.gateway.trust import deaths, suspicion

TARGET = Path(__file__).parent.parent / "docs" / "state-machines.md"

HEAD = """# State machines

Drawn from the tables in `broker/core/lease.py`, `broker/core/slot.py`, `broker/gateway/trust/suspicion.py` and
`broker/gateway/trust/deaths.py` by `python -m tools.state_diagrams`; those of the core also stand at the head of the
store's function library.
"""


def diagram(title: str, table: Mapping[StrEnum, Mapping[StrEnum, StrEnum]]) -> str:
    """One Mermaid state diagram; arrows between the same two states share a line."""
    lines = [f"\n## {title}\n", "```mermaid", "stateDiagram-v2"]
    lines.append(f"    [*] --> {next(iter(table))}")
    for state, arrows in table.items():
        targets: dict[StrEnum, list[str]] = {}
        for event, target in arrows.items():
            targets.setdefault(target, []).append(event.value)
        lines += [f"    {state} --> {target}: {', '.join(events)}" for target, events in targets.items()]
        if not arrows:
            lines.append(f"    {state} --> [*]")
    return "\n".join([*lines, "```", ""])


def page() -> str:
    """The whole file."""
    return (
        HEAD
        + diagram("Lease (a ticket is a lease that is queued)", TRANSITIONS)
        + diagram("Slot", SLOT_TRANSITIONS)
        + diagram("Residency", RESIDENCY_TRANSITIONS)
        + diagram("Trust in a model's answers", suspicion.TRANSITIONS)
        + diagram("Ban of what a model's server dies of", deaths.BAN_TRANSITIONS)
    )


def main() -> int:
    """Write or check the file; exit status 1 when it is out of step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare")
    if parser.parse_args().check:
        return 0 if TARGET.read_text(encoding="utf-8") == page() else 1
    TARGET.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
