"""torchvision's pre-trained weights: their names, the pictures that they were trained on, and where their files lie."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from thawline.backbones.names import DEFAULT_MODEL
from thawline.backbones.providers.provider import ModelAsk
from thawline.backbones.providers.timm_preparation import preparation_from
from thawline.backbones.providers.torchvision_architectures import known
from thawline.errors import HubError, UnknownModelError, WeightsError, nearest
from thawline.records import ImagePreparation
from thawline.scale.disk import file_sha256, storage_errors

if TYPE_CHECKING:
    from enum import Enum

_DIGEST = re.compile(r"-([0-9a-f]{8,})\.pth$")
"""Ends the names of torchvision's files: the beginning of their SHA-256."""


def choose(architecture: str, tag: str, name: str) -> Enum:
    """Return the entry of torchvision's enum that a tag names, in any case; without one, torchvision's default.

    Args:
        tag: Such as ``imagenet1k_v2``.
        name: What the user typed, for the message.
    Raises:
        UnknownModelError: No such weights; names those that there are.
    """
    enum = known(architecture, name).get_model_weights(architecture)
    found = {entry.name.lower(): entry for entry in enum}
    if tag.lower() in ("", "default"):
        return cast("Enum", enum.DEFAULT)
    if tag.lower() not in found:
        raise UnknownModelError(
            f"torchvision's {architecture} comes as {', '.join(found)}; got {tag!r}.{nearest(tag.lower(), found)}"
        )
    return cast("Enum", found[tag.lower()])


def with_file(architecture: str, path: Path) -> Enum | None:
    """Return the weights that torchvision publishes under the name of a file, whatever its suffix; None if none."""
    enum = known(architecture, architecture).get_model_weights(architecture)
    return next((entry for entry in enum if Path(file_name(entry)).stem == path.stem), None)


def file_name(weights: Enum) -> str:
    """Return the name that torchvision gives to a file of weights."""
    return str(weights.value.url).rpartition("/")[2]


def described(weights: Enum) -> dict[str, Any]:
    """Return how pictures were prepared for weights, in timm's words, and their licence if torchvision states one."""
    transforms = weights.value.transforms()
    (side,), (resized,) = transforms.crop_size, transforms.resize_size
    return {
        "input_size": [3, side, side],
        "mean": list(transforms.mean),
        "std": list(transforms.std),
        "interpolation": transforms.interpolation.value,
        "crop_pct": side / resized,
        "resize_px": resized,
        "license": "cc-by-nc-4.0" if "SWAG" in weights.name else "bsd-3-clause",
    }


def preparation(config: Mapping[str, Any], asked: ModelAsk, where: str) -> ImagePreparation:
    """Join how weights say that pictures are prepared with what was asked.

    Args:
        config: As ``described`` gives it.
        where: Named in errors.
    Raises:
        ModelError: A value cannot be.
    """
    settings = asked.given()
    merged = dict(config) | {
        key: settings[key] for key in ("mean", "std", "interpolation", "crop_pct") if key in settings
    }
    if asked.input_px is not None:
        merged["input_size"] = [3, asked.input_px, asked.input_px]
    found = preparation_from(merged, where)
    if merged["input_size"][1] == config["input_size"][1] and "crop_pct" not in settings:
        return replace(found, resize_px=config["resize_px"])  # the share is not exact: 224 / (224 / 232) is below 232
    return found


def checkpoints() -> Path:
    """Return the folder in which torch keeps what its hub fetched; torch itself is not imported for that.

    Source:
        torch.hub.get_dir: ``$TORCH_HOME/hub``, else ``$XDG_CACHE_HOME/torch/hub``, else ``~/.cache/torch/hub``.
    """
    if "torch" in sys.modules:
        import torch

        return Path(torch.hub.get_dir()) / "checkpoints"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return Path(os.environ.get("TORCH_HOME") or cache / "torch").expanduser() / "hub" / "checkpoints"


def fetch(weights: Enum, name: str) -> Path:
    """Return torchvision's own file of weights, from torch's cache or else from the network.

    Args:
        name: The model as the user wrote it, for the errors.
    Raises:
        HubError: Not in the cache, and not reachable; names what works offline.
        WeightsError: The file has another digest than its name says.
    """
    path = checkpoints() / file_name(weights)
    if not path.is_file():
        _download(str(weights.value.url), path, name)
    promised = _DIGEST.search(path.name)
    if promised and not (digest := file_sha256(path)).startswith(promised[1]):
        raise WeightsError(
            f"weights must have a SHA-256 that begins with {promised[1]}, as their name says; got {digest[:16]}... "
            f"({path}). Delete the file and fetch it again."
        )
    return path


def _download(url: str, path: Path, name: str) -> None:
    from torch.hub import download_url_to_file

    promised = _DIGEST.search(path.name)
    try:
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
            raise ConnectionError("HF_HUB_OFFLINE is set, so that nothing is asked")
        with storage_errors(path, elsewhere="set TORCH_HOME to a folder"):
            path.parent.mkdir(parents=True, exist_ok=True)
        download_url_to_file(url, str(path), promised[1] if promised else None, progress=sys.stderr.isatty())
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise HubError(
            f"{name} must be fetched from {url}, which did not give it: {reason}. Offline: put that file into "
            f"{path.parent}, or give one with --model torchvision/NAME@FILE, or --model {DEFAULT_MODEL}."
        ) from error
