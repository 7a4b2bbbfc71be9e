"""Arguments in tuples, lists and dicts, and in those within them."""

from collections.abc import Callable
from typing import Any


def is_nest(value: Any) -> bool:
    """Whether there may be others in it."""
    return isinstance(value, (tuple, list, dict))


def _inside(value: Any) -> list[tuple[Any, Any]]:
    """The items of a tuple, list or dict by place; those of a dict in the order of its keys, however it was filled."""
    return sorted(value.items(), key=lambda item: str(item[0])) if isinstance(value, dict) else list(enumerate(value))


def flattened(value: Any) -> list[Any]:
    """List what is in a value, or the value itself where it is none of these."""
    return [leaf for _, item in _inside(value) for leaf in flattened(item)] if is_nest(value) else [value]


def places(value: Any, at: str = "") -> list[str]:
    """Where each of flattened(value) is, as it would be indexed."""
    return [place for key, item in _inside(value) for place in places(item, f"{at}[{key!r}]")] if is_nest(value) else [at]


def rebuilt(value: Any, replace: Callable[[Any], Any]) -> Any:
    """The same value with all that is in it replaced, in the order of `flattened`."""
    if not is_nest(value):
        return replace(value)
    if isinstance(value, dict):
        made = {key: rebuilt(item, replace) for key, item in _inside(value)}
        return {key: made[key] for key in value}
    items = [rebuilt(item, replace) for item in value]
    return value._make(items) if hasattr(value, "_make") else type(value)(items)
