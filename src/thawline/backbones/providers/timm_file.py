"""Find a model among the tensors of a file that somebody else saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from thawline.backbones.adapting import first_layer, how
from thawline.backbones.file_kinds import python_command
from thawline.backbones.matching import COUNTER, HEADS, Match, likely_prefix, looks_wrapped, match, prefixes
from thawline.backbones.providers.provider import Description
from thawline.errors import ModelError, WeightsError

if TYPE_CHECKING:
    from torch import nn

    from thawline.backbones.matching import Shapes
    from thawline.backbones.weights import TensorFile, WeightsFile
    from thawline.records import Preparation

    Build = Callable[[str, Mapping[str, Any], Preparation], nn.Module]

_SHOWN = 3


def in_file(
    found: Description, weights: WeightsFile, build: Build, defaults: Callable[[], Mapping[str, Any]]
) -> Description:
    """Take off the prefix that the model's names have in the file, and leave out what is not the model's.

    The architecture is built without memory for this, but only if the names of a file that describes itself look as if
    they needed it.

    Args:
        found: As the file's own description has it.
        build: As in ``Provider``.
        defaults: Returns timm's configuration of the architecture.
    Raises:
        WeightsError: The model is there several times; names the prefixes.
    """
    said = weights.pretrained_cfg
    tensors = found.tensors
    given = replace(tensors, excluded=()).shapes()
    bare = [name for name in given if not name.startswith(tensors.excluded or ("\0",))]
    firsts = {name.partition(".")[0] for name in bare}
    unnamed_head = "classifier" not in said and bool(firsts & HEADS)
    first_conv = said.get("first_conv")
    described = weights.architecture is not None
    wrapped = looks_wrapped(bare, first_conv if isinstance(first_conv, str) else None)
    if described and not wrapped and not unnamed_head:
        return found
    if unnamed_head:
        tensors = replace(tensors, excluded=_heads(defaults()))
    try:
        wanted = _shapes(found, build)
    except ModelError:  # it comes again when the model is built, which may never be
        return found
    try:
        matched = match(given, _as_stored(given, wanted), tensors.excluded)
    except WeightsError as error:
        raise WeightsError(f"{error} ({tensors.shown}). {_keep_one(given, wanted, tensors)}") from error
    if matched is None:  # what differs is said with the names behind the prefix
        return replace(found, tensors=replace(tensors, prefix=likely_prefix(given, wanted)))
    notes = _notes(matched, tensors)
    return replace(found, tensors=replace(tensors, prefix=matched.prefix, foreign=matched.foreign), notes=notes)


def _as_stored(given: Shapes, wanted: Shapes) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the model as the file has them, if these can be adapted."""
    prefix, first = likely_prefix(given, wanted), first_layer(wanted)
    stored = dict(wanted)
    for name, shape in wanted.items():
        own = given.get(prefix + name, shape)
        if own != shape and how(name, own, shape, takes_picture=name == first):
            stored[name] = own
    return stored


def _heads(config: Mapping[str, Any]) -> tuple[str, ...]:
    classifier = config.get("classifier") or ()
    return tuple(f"{name}." for name in ((classifier,) if isinstance(classifier, str) else classifier))


def _shapes(found: Description, build: Build) -> dict[str, tuple[int, ...]]:
    import torch

    from thawline.backbones.outline import without_draws

    with torch.device("meta"), without_draws():
        module = build(found.architecture, found.model_args, found.preparation)
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def _notes(matched: Match, tensors: TensorFile) -> tuple[str, ...]:
    left = [name for name in matched.outside if not name.endswith(COUNTER)]
    others = ""
    if left:
        shown = ", ".join(left[:_SHOWN]) + (", ..." if len(left) > _SHOWN else "")
        others = f"{len(left):,} tensors that are not the model's were left out ({shown})."
    if matched.prefix:
        every = "All names" if not left else "The model's names"
        return (
            f"{every} in {tensors.shown.name} begin with {matched.prefix!r}, which was taken off. {others}".strip(),
        )
    return (f"{tensors.shown.name}: {others}",) if others else ()


def _keep_one(given: Shapes, wanted: Shapes, tensors: TensorFile) -> str:
    """How to write a file that holds the model once."""
    prefix = max(prefixes(given, wanted).items(), key=lambda item: (item[1], item[0]))[0]
    target = tensors.shown.with_name(f"{prefix.strip('.').replace('.', '_')}.safetensors")
    code = (
        "from safetensors import safe_open; from safetensors.torch import save_file; "
        f"f = safe_open({str(tensors.path)!r}, 'pt'); "
        f"t = {{k: f.get_tensor(k) for k in f.keys() if k.startswith({prefix!r})}}; "
        f"save_file(t, {str(target)!r}, f.metadata())"
    )
    return f"Keep one of them in a file of its own: {python_command(code)}"
