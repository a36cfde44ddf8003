"""Make weights fit an architecture that they do not fit as they lie in their file: adapted, or filled in by name.

What comes of it is written once, as a file of the cache that holds the tensors of the architecture and no others. So
the digest of a backbone covers what was adapted and what is random, and the load receipt tells them apart.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawline.backbones.adapting import POSITIONS, RELATIVE, adapt, first_layer, how
from thawline.backbones.derived import derived
from thawline.backbones.inventory import LIBRARIES, Inventory, Kept, Spec, inventory_of, name_of_kind
from thawline.backbones.load_receipt import ADAPTED, OTHER_SHAPE, RANDOM, SOURCE, SOURCES, UNUSED, Made, why_unused
from thawline.backbones.matching import COUNTER, prefixes
from thawline.backbones.outline import without_draws
from thawline.backbones.providers import provider_of
from thawline.backbones.providers.provider import Description, ModelAsk
from thawline.backbones.weights import FLOATS, TensorFile, read_header
from thawline.errors import ModelError, WeightsError
from thawline.randomness import derived_seed
from thawline.scale.releases import release

if TYPE_CHECKING:
    import torch

_REVISION = 1
_ANTIALIASED = ("timm", "embedded")
"""Providers whose library smooths a grid of positions before it shrinks it."""


@dataclass(frozen=True, slots=True)
class _Fill:
    """Where one tensor of the architecture comes from."""

    name: str
    spec: Spec
    source: str = ""
    """Its name in the file; empty if it is random."""
    how: str = ""
    """How it is adapted, or why it is random."""


def completed(found: Description, asked: ModelAsk, family: str) -> Description:
    """Return a description whose tensors fit its architecture, if they can be made to.

    A first layer for one channel is spread over three. If another input size was asked for, position embeddings are
    interpolated. By name, what matches is loaded and the rest begins random. Anything else is left as it is, and
    refused when the model is built.

    Args:
        found: As its provider describes it.
        family: Name of the provider that builds it.
    Raises:
        WeightsError: By name, no layer of the model is in the file.
    """
    tensors = found.tensors
    if not tensors.is_there or not (asked.weights_by_name or _may_differ(tensors, asked)):
        return found
    try:
        inventory = _inventory(found, family)
    except ModelError:  # it comes again when the model is built, which may never be
        return found
    if asked.weights_by_name and not tensors.prefix:
        tensors = replace(tensors, prefix=_best_prefix(tensors, inventory))
    fills = _fills(tensors, inventory, asked)
    left = tensors.sources().keys() - {fill.name for fill in fills if fill.source}
    if not asked.weights_by_name and (left or any(not fill.source for fill in fills)):
        return found
    if not left and not any(fill.how for fill in fills):
        return found
    if asked.weights_by_name:
        _refuse_strangers(fills, tensors, found.architecture)
    said = _said(fills, tensors)
    described = [_REVISION, family, found.architecture, found.model_args, said, [release(name) for name in LIBRARIES]]
    specs = [[fill.name, fill.spec.shape, fill.spec.kind] for fill in fills]
    purpose = hashlib.sha256(json.dumps([*described, specs], sort_keys=True).encode()).hexdigest()

    def write(path: Path) -> None:
        from safetensors.torch import save_file

        save_file(_filled(fills, tensors, found, family), path, said)

    file = derived(tensors.digest(), f"completed {purpose}", write)
    notes = (*found.notes, *_notes(fills, found, said[SOURCE], asked))
    return replace(found, tensors=TensorFile(file, origin=tensors.shown), notes=notes)


def _may_differ(tensors: TensorFile, asked: ModelAsk) -> bool:
    """Tell from the header whether anything may have to be adapted: to know, the architecture must be built."""
    shapes = tensors.shapes()
    channels = {shape[1] for shape in shapes.values() if len(shape) == 4}
    if 3 not in channels and 1 in channels:
        return True  # no layer takes three
    resized = asked.input_px is not None or "img_size" in (asked.model_args or {})
    return resized and any(POSITIONS.search(name) or RELATIVE.search(name) for name in shapes)


def _inventory(found: Description, family: str) -> Inventory:
    record = Kept.of(family, found.architecture, found.model_args, found.preparation.tensor_shape)
    if (kept := record.read()) is not None:
        return kept
    import torch

    with torch.device("meta"), without_draws():
        inventory = inventory_of(provider_of(family).build(found.architecture, found.model_args, found.preparation))
    record.write(inventory)
    return inventory


def _best_prefix(tensors: TensorFile, inventory: Inventory) -> str:
    """Return the prefix behind which most tensors of the model stand; the shortest of several."""
    found = prefixes(tensors.shapes(), {name: spec.shape for name, spec in inventory.items()})
    return max(found, key=lambda prefix: (found[prefix], -len(prefix)), default="")


def _fills(tensors: TensorFile, inventory: Inventory, asked: ModelAsk) -> list[_Fill]:
    entries, sources = tensors.entries(), tensors.sources()
    first = first_layer({name: spec.shape for name, spec in inventory.items()})
    fills = []
    for name, spec in inventory.items():
        if name not in entries:
            if not name.endswith(COUNTER):
                fills.append(_Fill(name, spec, how="not in the file"))
            continue
        given, kind = tuple(entries[name]["shape"]), entries[name]["dtype"]
        change = how(name, given, spec.shape, takes_picture=name == first)
        if spec.kind in FLOATS and kind not in FLOATS:
            fills.append(_Fill(name, spec, how=f"no weights in the file: {kind}"))
        elif given == spec.shape:
            fills.append(_Fill(name, spec, sources[name]))
        elif change:
            cast = f"cast {name_of_kind(kind)} -> float32, " if kind != "F32" else ""
            fills.append(_Fill(name, spec, sources[name], cast + change))
        else:
            fills.append(_Fill(name, spec, how=f"{OTHER_SHAPE}: {list(given)} in the file"))
    return fills


def _refuse_strangers(fills: list[_Fill], tensors: TensorFile, architecture: str) -> None:
    if any(fill.source and len(fill.spec.shape) > 1 for fill in fills):
        return
    theirs = next((name for name, shape in tensors.shapes().items() if len(shape) > 1), "none")
    ours = next(fill.name for fill in fills if len(fill.spec.shape) > 1)
    raise WeightsError(
        f"weights by name must fill at least one layer; none in {tensors.shown.name} has the name and the shape of one "
        f"of {architecture} (the file's names are such as {theirs!r}, the model's such as {ours!r}). "
        "Give the architecture, and its library, whose names the file has."
    )


def _said(fills: list[_Fill], tensors: TensorFile) -> dict[str, str]:
    """Return the metadata of the new file, which the load receipt is made from."""
    header, _ = read_header(tensors.path)
    made = Made.of(tensors.path, header.pop("__metadata__", None) or {})
    sources = {fill.name: made.sources.get(fill.source, (fill.source,)) for fill in fills if fill.source}
    adapted = {
        fill.name: ", ".join(filter(None, (made.adapted.get(fill.source, ""), fill.how)))
        for fill in fills
        if fill.source
    }
    unused, in_file = {name: list(why) for name, why in made.unused.items()}, tensors.sources()
    used = {fill.source for fill in fills}
    unfit = {in_file[fill.name]: fill.spec.shape for fill in fills if not fill.source and fill.name in in_file}
    for name, entry in header.items():
        if name not in used:
            why = f"{OTHER_SHAPE}: {list(unfit[name])} in the model" if name in unfit else why_unused(name, tensors)
            for source in made.sources.get(name, (name,)):
                unused[source] = [why, entry["shape"]]
    said: dict[str, Mapping[str, Any]] = {
        SOURCES: {name: list(names) for name, names in sources.items() if names != (name,)},
        ADAPTED: {name: change for name, change in adapted.items() if change},
        RANDOM: {fill.name: fill.how for fill in fills if not fill.source},
        UNUSED: unused,
    }
    return {SOURCE: made.source or tensors.shown.name} | {key: json.dumps(value) for key, value in said.items()}


def _filled(fills: list[_Fill], tensors: TensorFile, found: Description, family: str) -> dict[str, torch.Tensor]:
    import torch

    given = tensors.load()
    random: Mapping[str, torch.Tensor] = {}
    if not all(fill.source for fill in fills):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(0, "weights by name"))
            module = provider_of(family).build(found.architecture, found.model_args, found.preparation)
        random = module.state_dict()
    antialias = family in _ANTIALIASED
    return {
        fill.name: random[fill.name].contiguous() if not fill.source
        else adapt(fill.name, given[fill.name], fill.spec.shape, antialias=antialias, resize_table=_resized) if fill.how
        else given[fill.name].contiguous()
        for fill in fills
    }  # fmt: skip


def _resized(table: torch.Tensor, window: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Interpolate a table of relative positions as timm does when it loads weights."""
    from thawline.backbones.providers.timm_import import import_timm

    import_timm()
    from timm.layers import resize_rel_pos_bias_table

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # timm indexes in a way that torch finds slow
        resized: torch.Tensor = resize_rel_pos_bias_table(table, (window, window), shape)
    return resized.contiguous()


def _notes(fills: list[_Fill], found: Description, file: str, asked: ModelAsk) -> list[str]:
    """Say what a user must know of it; all else stands in the load receipt."""
    changes = [f"{fill.name}: {fill.how}" for fill in fills if fill.source and fill.how]
    notes = []
    if changes:
        others = f", and {len(changes) - 1} more" if len(changes) > 1 else ""
        notes.append(f"{file} was adapted to {found.architecture} ({changes[0]}{others}).")
    if asked.weights_by_name:
        filled = [fill for fill in fills if fill.source]
        random = [fill.name for fill in fills if not fill.source]
        share = _numbers(filled) / max(_numbers(fills), 1)
        noise = f" {len(random):,} begin random, first {random[0]}: frozen layers above it compute noise; let it learn."
        notes.append(
            f"{file} fills {len(filled):,} of {len(fills):,} tensors of {found.architecture} by name, {share:.0%} of "
            f"its numbers.{noise if random else ''}"
        )
    return notes


def _numbers(fills: list[_Fill]) -> int:
    return sum(math.prod(fill.spec.shape) for fill in fills)
