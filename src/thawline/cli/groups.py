"""Groups of options: a verb takes a record of them as one parameter, and Typer sees each option.

    def fit(*, data_options: DataOptions, compute: Annotated[ComputeOptions, without("seed")]) -> None: ...

A group is a frozen dataclass. Each field is an option: its annotation holds the help, its default is the option's.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, get_args, get_origin


class _Choice:
    """Which options of its group a parameter takes."""

    def __init__(self, names: tuple[str, ...], *, taken: bool) -> None:
        self._names, self._taken = names, taken

    def of(self, group: type) -> list[str]:
        known = option_names(group)
        assert set(self._names) <= set(known), f"{group.__name__} lacks {sorted(set(self._names) - set(known))}"
        return [name for name in known if (name in self._names) == self._taken]


def only(*names: str) -> _Choice:
    """Mark a parameter that takes these options of its group; the others keep their defaults."""
    return _Choice(names, taken=True)


def without(*names: str) -> _Choice:
    """Mark a parameter that takes all options of its group but these, which keep their defaults."""
    return _Choice(names, taken=False)


def option_names(group: type) -> list[str]:
    """Names of the parameters that a group of options becomes, in the order of its help."""
    return [field.name for field in fields(group)]


def grouped(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb whose parameters are groups the signature that Typer reads: one parameter for each option."""
    signature = inspect.signature(verb, eval_str=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, tuple[type, list[str]]] = {}
    for parameter in signature.parameters.values():
        group, choice = _group_of(parameter.annotation)
        if group is None:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        names = choice.of(group)
        groups[parameter.name] = group, names
        parameters.extend(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=getattr(group, name),
                annotation=group.__annotations__[name],
            )
            for name in names
        )

    @functools.wraps(verb)
    def run(**typed: Any) -> None:
        records = {
            parameter: group(**{name: typed.pop(name) for name in names})
            for parameter, (group, names) in groups.items()
        }
        verb(**typed, **records)

    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {}  # the signature holds them; Typer would evaluate these once more
    return run


def _group_of(annotation: Any) -> tuple[type | None, _Choice]:
    """The group that a parameter takes, if it takes one, and which of its options."""
    choice = without()
    if get_origin(annotation) is Annotated:
        annotation, *marks = get_args(annotation)
        choice = next((mark for mark in marks if isinstance(mark, _Choice)), choice)
    return (annotation, choice) if isinstance(annotation, type) and is_dataclass(annotation) else (None, choice)
