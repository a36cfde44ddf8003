"""Resolve a thaw setting: from every way to say where the line stands to the exact parameters that learn.

A setting counts layers as the ladder prints them: rungs that have parameters. Pooling, activation and dropout have
none and never count. Names in a setting are whole names: ``layer1`` is never ``layer10``.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import accumulate
from typing import TYPE_CHECKING

from thawline.backbones.counted import FIRST_FROZEN, LAST, counted_on, in_words, nearest_that_learns
from thawline.backbones.names import STATISTICS
from thawline.errors import UsageError, nearest

if TYPE_CHECKING:
    from torch import nn

    from thawline.backbones.ladder import Ladder

FORMS = (
    "none", "all", "last:N", "first-frozen:K", "stage:NAME", "from:LAYER", "P%", "regex:PATTERN", "last-keras:N",
    "first-frozen-keras:K",
)  # fmt: skip
"""Every way to say where one line stands."""

MOST_APART = 24
"""Most layers that the first layer of a backbone counts as away from the head. Some libraries list blocks, others each
convolution: where a hundred layers each learn 15 % more slowly than the next, the first would not learn at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thaw:
    """A thaw setting applied to one model: exactly what learns and what does not."""

    setting: str
    rung: str
    """Where the line stands: the highest rung with nothing below it that learns, so the best place for a cache."""
    thawed: tuple[str, ...]
    """Names of the parameters that learn, in the model's order."""
    distance: tuple[float, ...]
    """How far each of ``thawed`` is from the head, in layers that have parameters: 1 for the last layer. In ladders of
    more than ``MOST_APART`` layers, the first is that far away, and the others in proportion."""
    frozen: tuple[str, ...]
    """Names of all others."""
    buffers: tuple[str, ...]
    """Running statistics of thawed normalisation layers; they may move where those run in training mode."""
    n_trainable: int
    """Size of what learns, summed; the new head is not counted."""
    n_frozen: int
    """Size of all other parameters."""
    trainable_at: tuple[int, ...]
    """The part of ``n_trainable`` at each rung of the ladder, in its order."""
    said: str = ""
    """What a user should know of how the setting counts; empty if it counts as the ladder does."""


def resolve_thaw(ladder: Ladder, setting: str, module: nn.Module) -> Thaw:
    """Turn a thaw setting into the exact lists of what learns and what stays frozen.

    Args:
        ladder: The rungs of ``module``.
        setting: One of ``none``; ``all``; ``last:N`` (the last N layers that have parameters learn); ``first-frozen:K``
            (the first K are frozen, the others learn); ``stage:NAME`` and ``from:LAYER`` (that one and everything after
            it; LAYER may be a module that holds layers); ``30%`` (the highest line with at least 30 % of the parameters
            above it); ``regex:PATTERN`` (exactly the parameters where the pattern matches the whole name of the layer,
            of a module that holds it, or of the parameter itself); ``last-keras:N`` and ``first-frozen-keras:K`` (as
            ``model.layers[-N:]`` and ``model.layers[:K]`` count in Keras: with the layers that have no weights).
        module: The backbone, on any device; ``meta`` will do. A parameter that several layers share belongs to the
            lowest of them, and a pattern must match it under every name: what is below the line could move otherwise.
    Raises:
        UsageError: No such setting, not in this model, or nothing would learn; names the nearest that would do.
    """
    setting = setting.strip()
    model = _Model(ladder, module)
    chosen = _chosen(setting, model)
    if setting != "none" and not chosen & model.sizes.keys():
        raise _unlocks_nothing(setting, model)
    resolved = model.thaw(setting, chosen)
    if setting.partition(":")[0] not in (LAST, FIRST_FROZEN):
        return resolved
    return replace(resolved, said=in_words(counted_on(setting, ladder, module), tuple(model.sizes)))


def _chosen(setting: str, model: _Model) -> set[str]:
    """Names of the parameters and statistics above the line, or that a pattern picks."""
    kind, _, value = setting.partition(":")
    if setting == "none":
        return set()
    if setting == "all":
        return model.above(0)
    if match := re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?%", setting):
        return model.above(_start_of_share(Decimal(match[1]), model))
    if kind == "regex" and value:
        return model.matching(_compiled(value))
    if kind in (LAST, FIRST_FROZEN):
        layers = counted_on(setting, model.ladder, model.module)
        return model.above(0) & {name for layer in layers for name in layer.tensors}
    if kind in _STARTS and value:
        return model.above(_STARTS[kind](value, model))
    raise _unknown(setting, model)


class _Model:
    """The tensors of a module, each at the rung that it belongs to."""

    def __init__(self, ladder: Ladder, module: nn.Module) -> None:
        self.ladder, self.module = ladder, module
        self.name = ladder.model
        self.rungs = ladder.rungs
        self.modules = [name for name, _ in module.named_modules() if name]
        sizes = {name: parameter.numel() for name, parameter in module.named_parameters()}
        self.unused = {name: sizes.pop(name) for name in ladder.unused}
        self.sizes = sizes
        self.aliases = _aliases(module)
        by_name = _places_by_name([rung.name for rung in ladder.rungs], list(_names(module)))
        self.place = {name: min(by_name[alias] for alias in self.aliases[name]) for name in self.sizes}
        if self._sizes_at(self.sizes) != [rung.parameters for rung in ladder.rungs]:
            places = _places_by_forward(ladder, module)
            self.place = {name: places[name] for name in self.sizes}
        beside = {name.rpartition(".")[0]: place for name, place in self.place.items()}
        above = {name.rpartition(".")[0] for name in self.unused}
        self._statistics = {
            name: beside.get(name.rpartition(".")[0], place)
            for name, place in by_name.items()
            if name.endswith(STATISTICS) and name.rpartition(".")[0] not in above
        }
        self.size_at = self._sizes_at(self.sizes)
        self.layers = [place for place, size in enumerate(self.size_at) if size]

    def above(self, start: int) -> set[str]:
        """Everything at rung ``start`` and after it."""
        return {name for name, place in (self.place | self._statistics).items() if place >= start}

    def matching(self, pattern: re.Pattern[str]) -> set[str]:
        """Everything whose own name, or that of a module around it, the pattern matches as a whole."""
        return {
            name
            for name in self.place | self._statistics
            if all(any(map(pattern.fullmatch, _paths(alias))) for alias in self.aliases.get(name, [name]))
        }

    def thaw(self, setting: str, chosen: Collection[str]) -> Thaw:
        """Complete the record; the line stands just below the lowest parameter that learns."""
        thawed = tuple(name for name in self.sizes if name in chosen)
        line = min((self.place[name] for name in thawed), default=len(self.rungs)) - 1
        trainable_at = self._sizes_at(thawed)
        n = len(self.layers)
        apart = 1 if n <= MOST_APART else MOST_APART / n
        return Thaw(
            setting=setting,
            rung=self.rungs[line].name,
            thawed=thawed,
            distance=tuple((n - bisect_left(self.layers, self.place[name])) * apart for name in thawed),
            frozen=(*(name for name in self.sizes if name not in chosen), *self.unused),
            buffers=tuple(name for name, place in self._statistics.items() if name in chosen and place > line),
            n_trainable=sum(trainable_at),
            n_frozen=sum(self.size_at) - sum(trainable_at) + sum(self.unused.values()),
            trainable_at=tuple(trainable_at),
        )

    def _sizes_at(self, names: Iterable[str]) -> list[int]:
        """Sum the sizes of parameters by rung."""
        sizes = [0] * len(self.rungs)
        for name in names:
            sizes[self.place[name]] += self.sizes[name]
        return sizes


def _names(module: nn.Module) -> Iterator[str]:
    """Every name of every parameter and buffer, in the order in which the model registered them."""
    for prefix, part in module.named_modules(remove_duplicate=False):
        for name, _ in part.named_parameters(prefix, recurse=False, remove_duplicate=False):
            yield name
        for name, _ in part.named_buffers(prefix, recurse=False, remove_duplicate=False):
            yield name


def _paths(name: str) -> list[str]:
    """``a.b.weight`` -> ``a``, ``a.b``, ``a.b.weight``."""
    return list(accumulate(name.split("."), "{}.{}".format))


def _aliases(module: nn.Module) -> dict[str, list[str]]:
    """First name of each parameter -> all its names."""
    names = defaultdict(list)
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names[id(parameter)].append(name)
    return {same[0]: same for same in names.values()}


def _places_by_name(rungs: list[str], names: list[str]) -> dict[str, int]:
    """Rung of each tensor: the one of its own name, or the innermost whose layer holds it.

    What no rung holds belongs to the one registered next; where that is wrong, the sums of the ladder say so.
    """
    index = {rung: place for place, rung in enumerate(rungs)}
    places: dict[str, int] = {}
    following = len(rungs) - 1
    for name in reversed(names):
        following = next((index[path] for path in reversed(_paths(name)) if path in index), following)
        places[name] = following
    return places


def _places_by_forward(ladder: Ladder, module: nn.Module) -> dict[str, int]:
    """Rung of each parameter: the lowest with everything that the forward pass has used up to there.

    Needed where a layer has no rung of its own (parallel branches) and runs in another order than it was registered.
    """
    from thawline.backbones.graph import LayerGraph

    graph = LayerGraph(module, ladder.model, ladder.signature)
    if [line.layer for line in graph.lines] != [rung.name for rung in ladder.rungs]:
        raise ValueError(f"the ladder of {ladder.model} is not one of this {type(module).__name__}")
    places: dict[str, int] = {}
    for place, line in enumerate(graph.lines):
        below = graph.parameters_below(line.position)
        for name, parameter in graph.module.named_parameters():
            if name not in places and (parameter in below or place == len(graph.lines) - 1):
                places[name] = place
    return places


def _last(value: str, model: _Model) -> int:
    n = _count(f"last:{value}", len(model.layers), model)
    return model.layers[-n] if n else len(model.rungs)


def _first_frozen(value: str, model: _Model) -> int:
    k = _count(f"first-frozen:{value}", len(model.layers) - 1, model)
    return model.layers[k] if k < len(model.layers) else len(model.rungs)


def _count(setting: str, most: int, model: _Model) -> int:
    """Read the number of layers in a setting, of which ``most`` is the highest that makes sense."""
    kind, _, value = setting.partition(":")
    if not re.fullmatch("[0-9]{1,9}", value):
        raise UsageError(f"thaw {setting} must count layers with a whole number, at most {kind}:{most}.")
    if int(value) > len(model.layers):
        raise UsageError(
            f"thaw {setting} counts more layers than there are: {model.name} has {len(model.layers)} that have "
            f"parameters. The most is {kind}:{most}."
        )
    return int(value)


def _start_of_stage(value: str, model: _Model) -> int:
    stages = list(dict.fromkeys(rung.stage for rung in model.rungs))
    if value in stages:
        return next(place for place, rung in enumerate(model.rungs) if rung.stage == value)
    if _holds(value, model):
        raise UsageError(f"thaw stage:{value} names a layer, not a stage. Write from:{value}.")
    near = nearest(value, stages) or f" Stages: {', '.join(stages)}."
    raise UsageError(f"thaw stage:NAME must name a stage of {model.name}; got {value!r}.{near}")


def _start_of_layer(value: str, model: _Model) -> int:
    if held := _holds(value, model):
        return held[0]
    names = [rung.name for rung in model.rungs]
    around = [name for name in names if value.startswith(f"{name}.")]
    if around and value in model.modules:
        raise UsageError(
            f"thaw from:{value} must name a layer that `thawline ladder` prints; {value!r} lies inside {around[-1]!r}. "
            f"Write from:{around[-1]}, or regex:{re.escape(value)} to thaw that part alone."
        )
    near = nearest(value, names) or " `thawline ladder` prints them all."
    raise UsageError(f"thaw from:LAYER must name a layer of {model.name}; got {value!r}.{near}")


def _holds(name: str, model: _Model) -> list[int]:
    """Places of the rungs of that name, or inside a module of that name."""
    return [place for place, rung in enumerate(model.rungs) if f"{rung.name}.".startswith(f"{name}.")]


def _start_of_share(percent: Decimal, model: _Model) -> int:
    """Find the highest rung from which on at least this share of the parameters lies."""
    if percent > 100:
        raise UsageError(f"thaw {percent}% must be a share of the parameters, above 0 % and up to 100 %.")
    total, above = sum(model.sizes.values()), 0
    for place in reversed(model.layers):
        above += model.size_at[place]
        if percent and above * 100 >= percent * total:
            return place
    return len(model.rungs)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(f"thaw regex:PATTERN must be a regular expression; got {pattern!r}: {error}.") from error


_STARTS: dict[str, Callable[[str, _Model], int]] = {
    "last": _last,
    "first-frozen": _first_frozen,
    "stage": _start_of_stage,
    "from": _start_of_layer,
}
"""Settings of the form ``KIND:VALUE`` -> place of the lowest rung that learns."""


def _unknown(setting: str, model: _Model) -> UsageError:
    """Refuse what is no setting; say what may have been meant."""
    said = f"thaw must be one of {', '.join(FORMS)}; got {setting!r}."
    if setting in ("auto", "progressive"):
        return UsageError(f"{said} It moves the line while it measures; give the one line that you want to see.")
    if any(rung.stage == setting for rung in model.rungs):
        return UsageError(f"{said} Did you mean 'stage:{setting}'?")
    if _holds(setting, model):
        return UsageError(f"{said} Did you mean 'from:{setting}'?")
    return UsageError(said + nearest(setting, [*FORMS, "last:1", "first-frozen:1"], n=1))


def _unlocks_nothing(setting: str, model: _Model) -> UsageError:
    """Refuse a thaw under which nothing would learn; name the nearest that does something, in the user's own form."""
    if not model.layers:
        return UsageError(
            f"thaw {setting} unlocks nothing: {model.name} can only be used frozen, as none of its parameters can "
            "learn. Write none."
        )
    kind, _, value = setting.partition(":")
    if kind in (LAST, FIRST_FROZEN):
        why = "no layer of those that Keras counts there has weights"
        near = nearest_that_learns(setting, model.ladder, model.module, tuple(model.sizes))
    elif kind == "regex":
        why = "the pattern must match the whole name of something that has parameters"
        near = _nearest_pattern(value, model)
    else:
        top = model.rungs[model.layers[-1]]
        why = "no layer that has parameters comes after that line"
        near = {
            "first-frozen": f"first-frozen:{len(model.layers) - 1}",
            "stage": f"stage:{top.stage}",
            "from": f"from:{top.name}",
        }.get(kind, "last:1")
    size = sum(model.sizes.get(name, 0) for name in _chosen(near, model))
    return UsageError(
        f"thaw {setting} unlocks nothing: {why}. The nearest that does is {near}, which thaws {size:,} parameters; "
        "none keeps everything frozen."
    )


def _nearest_pattern(pattern: str, model: _Model) -> str:
    """Widen a pattern to parts of names where that finds something; else take the name that looks most like it."""
    flags, inner = re.findall(r"(?s)^((?:\(\?[a-zA-Z]+\))?)(.*)", pattern)[0]  # flags must stay in front
    wider = f"{flags}.*(?:{inner}).*"
    with contextlib.suppress(re.error):
        if model.matching(re.compile(wider)) & model.sizes.keys():
            return f"regex:{wider}"
    known = {path for name in model.sizes if len(model.aliases[name]) == 1 for path in _paths(name)}
    closest = difflib.get_close_matches(re.sub(r"\W", ".", pattern), sorted(known), n=1, cutoff=0)
    return f"regex:{re.escape(closest[0])}" if closest else "last:1"
