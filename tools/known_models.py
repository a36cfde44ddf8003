"""Write the tables that ``thawline models`` searches: what can be opened, its size, input, licence, and files.

    python tools/known_models.py torchvision
    python tools/known_models.py timm keras hf

Each architecture is built without memory, at each input size that it has weights for; nothing is fetched. What a table
says already is kept: delete it to count anew. timm's take half an hour; ``--count`` chooses some, and the others are
listed without counts.
"""

from __future__ import annotations

import argparse
import functools
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from thawline.backbones import open_backbone
from thawline.backbones.providers.known import Known, known_models, table_of
from thawline.errors import ThawlineError


def timm_models() -> Iterator[Known]:
    """List what timm has on the hub."""
    from thawline.backbones.providers.timm_import import import_timm

    timm = import_timm()
    for name in timm.list_pretrained():
        config = timm.get_pretrained_cfg(name)
        _, height, width = config.input_size
        if config.hf_hub_id and height == width and config.crop_mode in ("center", "squash"):
            file = "" if config.hf_hub_id == f"timm/{name}" else config.hf_hub_id
            yield Known(name, 0, 0, height, _licence(config.license), file)


def torchvision_models() -> Iterator[Known]:
    """List torchvision's weights of classification models."""
    from thawline.backbones.providers import torchvision_architectures as architectures
    from thawline.backbones.providers import torchvision_weights as published

    for name in architectures.names():
        for weights in architectures.known(name, name).get_model_weights(name):
            said = published.described(weights)
            side = said["input_size"][1]
            tagged = f"{name}.{weights.name.lower()}"
            yield Known(tagged, 0, 0, side, _licence(said["license"]), published.file_name(weights))


def hf_models() -> Iterator[Known]:
    """List the usual encoders of the hub."""
    from thawline.backbones.providers.hf_known import KNOWN
    from thawline.backbones.providers.hf_text_known import TEXT_KNOWN

    for name, known in KNOWN.items():
        side = open_backbone(f"hf/{name}", architecture_only=True).preparation.tensor_shape[-1]
        yield Known(name, 0, 0, side, _licence(known.licence), "")
    for name, text in TEXT_KNOWN.items():
        yield Known(name, 0, 0, 0, _licence(text.licence), "")


_KERAS_LICENCES = {
    "DenseNet": "bsd-3-clause",
    "ResNet50": "mit",
    "VGG": "cc-by-4.0",
    "Xception": "mit",
}
"""Beginning of a name -> licence of the weights as Keras's documentation stated it when it named them; the
others have that of Keras."""


def keras_models() -> Iterator[Known]:
    """List the models of ``keras.applications``."""
    from thawline.backbones.providers.keras.applications import imagenet_file
    from thawline.backbones.providers.keras.preparation import APPLICATIONS

    for name, known in APPLICATIONS.items():
        beginning = next((part for part in _KERAS_LICENCES if name.startswith(part) and not name.endswith("V2")), "")
        licence = _KERAS_LICENCES.get(beginning, "apache-2.0")
        yield Known(name, 0, 0, known.px, licence, imagenet_file(name, known.px))


_WRITE_EACH = 20
LISTERS: dict[str, Callable[[], Iterator[Known]]] = {
    "hf": hf_models,
    "keras": keras_models,
    "timm": timm_models,
    "torchvision": torchvision_models,
}
"""Family -> what lists its models."""


@functools.cache
def counted(family: str, model: str, side: int) -> tuple[int, int]:
    """Return (parameters as the library counts them, FLOPs of one picture: 2 for each multiply-add)."""
    name = f"{family}/{model}"
    try:
        backbone = open_backbone(name, input_px=side or None, architecture_only=True)
        module = backbone.blueprint()
        layers = backbone.signature.library_layers(module)
        parameters = (
            sum(parameter.numel() for parameter in module.parameters())
            if layers is None
            else sum(layer.parameters for layer in layers)
        )
        if backbone.preparation.kind == "text":
            return parameters, 0  # it takes texts of any length
        with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
            module(torch.empty(1, *backbone.preparation.tensor_shape))
    except (ThawlineError, RuntimeError, NotImplementedError, ValueError, TypeError, AssertionError) as error:
        print(f"{name} at {side} px is not counted: {str(error)[:200]}", file=sys.stderr)
        return 0, 0
    return parameters, counter.get_total_flops()


def write(family: str, wanted: str) -> None:
    """Write the table of a family; what it says already of a model at an input is kept."""
    models = list(LISTERS[family]())
    before = {}
    if table_of(family).exists():
        before = {(known.name, known.input_px): (known.parameters, known.flops) for known in known_models(family)}
    counts = {model.name: before.get((model.name, model.input_px), (0, 0)) for model in models}
    _write_table(family, models, counts)
    missing = [model for model in models if counts[model.name] == (0, 0) and re.search(wanted, model.name)]
    for n, model in enumerate(missing, 1):
        architecture = model.name if family == "hf" else model.name.partition(".")[0]
        counts[model.name] = counted(family, architecture, model.input_px)
        if n % _WRITE_EACH == 0 or n == len(missing):
            print(f"{family}: {n:,} of {len(missing):,} counted", flush=True)
            _write_table(family, models, counts)
    _write_table(family, models, counts)


def _write_table(family: str, models: Sequence[Known], counts: Mapping[str, tuple[int, int]]) -> None:
    lines = []
    for model in models:
        parameters, flops = counts[model.name]
        lines.append(replace(model, parameters=parameters, flops=flops).line() + "\n")
    table_of(family).write_text("".join(lines), encoding="utf-8")


def _licence(said: str | None) -> str:
    return said if said and said not in ("unknown", "not stated") else ""


def main() -> None:
    """Write the tables of the families that were named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="+", choices=sorted(LISTERS))
    parser.add_argument("--count", default="", metavar="PATTERN", help="regular expression of the names to count")
    asked = parser.parse_args()
    for family in asked.families:
        write(family, asked.count)


if __name__ == "__main__":
    main()
