"""What a request is by nature, beside what it demands: its task and effort, how far an agent is, how deep its answer.

And the rules of a name over it: the first whose conditions all hold says who serves.
"""

from dataclasses import dataclass
from enum import StrEnum

from broker.routing.request.effort import Effort
from broker.routing.request.purpose import Task
from broker.routing.request.request import Described, RequestKind
from broker.routing.request.task import task_of


class NatureTold(StrEnum):
    """Who said what a request is for, or that it was read from the request."""

    HEADER = "header"
    KEY = "key"
    ALIAS = "alias"
    REQUEST = "request"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nature:
    """What one request is by nature; rules of names look at nothing else."""

    task: Task | None = None
    """What it is for; None: it has no shape that shows a task."""
    told: NatureTold = NatureTold.REQUEST
    effort: Effort | None = None
    """How hard the model is to think; None: the request does not say."""
    tool_calls: int = 0
    schema_depth: int = 0


def nature_of(request: Described, usual: Task | None) -> Nature:
    """Find out what a request is by nature.

    Args:
        request: Its header comes first, then its key.
        usual: What requests by this name are for; None: look at the request.
    """
    content = request.content.read()
    task, told = request.task, NatureTold.HEADER
    if task is None:
        task, told = request.usual_task, NatureTold.KEY
    if task is None:
        task, told = usual, NatureTold.ALIAS
    if task is None:
        task, told = None if request.kind is RequestKind.OTHER else task_of(request.kind, content), NatureTold.REQUEST
    return Nature(
        task=task,
        told=told,
        effort=content.effort,
        tool_calls=content.tool_calls,
        schema_depth=content.form.depth,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """The conditions of a rule; a condition that is left out always holds."""

    tasks: frozenset[Task] = frozenset()
    efforts: frozenset[Effort] = frozenset()
    min_tool_calls: int = 0
    min_schema_depth: int = 0

    def holds(self, nature: Nature) -> bool:
        """Tell whether all conditions hold for a request."""
        return (
            (not self.tasks or nature.task in self.tasks)
            and (not self.efforts or nature.effort in self.efforts)
            and nature.tool_calls >= self.min_tool_calls
            and nature.schema_depth >= self.min_schema_depth
        )
