"""The types that rules and tape speak in."""

from collections.abc import Callable
from typing import Any, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
# A vjp takes the cotangent of a rule's output and gives one gradient for each of its array arguments, in order:
# an array of that argument's shape and dtype, or None where none is wanted.
Vjp: TypeAlias = Callable[[Array], tuple[Array | None, ...]]
RuleResult: TypeAlias = tuple[Array, Vjp]
Rule: TypeAlias = Callable[..., RuleResult]
Dims: TypeAlias = int | tuple[int, ...] | list[int] | None
Pair: TypeAlias = int | tuple[int, int] | list[int]
