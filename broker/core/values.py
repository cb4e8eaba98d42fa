"""Values that are made with every call."""

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def hot_value(kind: type[T]) -> type[T]:
    """A frozen, slotted, keyword-only dataclass; that nobody changes it is left to the type checker.

    To freeze one at run time takes longer than all else about it: 18 us against 5 for 25 fields (Python 3.11).
    """
    return dataclass(slots=True, kw_only=True, unsafe_hash=True)(kind)
