"""Rebuild a head from its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast, get_args

import numpy as np
from numpy.typing import NDArray

from thawline.errors import RunError
from thawline.heads.head import Head, LinearHead, NeighboursHead, check_temperature
from thawline.records import Target


def head_from_tensors(kind: str, tensors: Mapping[str, NDArray[np.generic]], settings: Mapping[str, object]) -> Head:
    """Rebuild a head from what its ``tensors()`` and ``settings()`` gave; it predicts the same bits.

    Raises:
        RunError: The kind is not known, or a tensor or setting is absent or has the wrong shape or type.
    """
    try:
        if kind in ("linear", "logistic", "ridge", "svm"):
            plain = _linear_head(kind, tensors["weight"], tensors["bias"], _number(settings["temperature"]))
            return replace(plain, target=_target(settings))
        if kind == "mlp":
            from thawline.heads.mlp import mlp_from_tensors  # which stands on this module

            temperature, dropout = _number(settings["temperature"]), _number(settings["dropout"])
            return mlp_from_tensors(tensors, temperature, dropout, _target(settings))
        if kind == "knn":
            classes_n, k = int(cast(int, settings["classes_n"])), int(cast(int, settings["k"]))
            return _neighbours_head(tensors["values"], tensors["labels"], classes_n, k)
    except KeyError as error:
        raise RunError(f"A {kind} head must hold {error}; it is absent. Fit the run again.") from error
    except (TypeError, ValueError) as error:
        raise RunError(f"The saved {kind} head is damaged: {error}. Fit the run again.") from error
    raise RunError(
        f"Head must be linear, mlp, logistic, ridge, svm or knn; got {kind!r}. Was the run written by a newer version?"
    )


def _target(settings: Mapping[str, object]) -> Target:
    """Return what a head was fitted to predict; one that says nothing of it, classes."""
    target = settings.get("target", "class")
    if target not in get_args(Target):
        raise ValueError(f"target must be one of {', '.join(get_args(Target))}; got {target!r}")
    return cast(Target, target)


def _linear_head(kind: str, weight: NDArray[np.generic], bias: NDArray[np.generic], temperature: float) -> LinearHead:
    if weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise ValueError(f"weight must be (C, D) and bias (C,); got {weight.shape} and {bias.shape}")
    return LinearHead(kind, weight.astype(np.float64), bias.astype(np.float64), check_temperature(temperature))


def _number(setting: object) -> float:
    return float(cast(float, setting))


def _neighbours_head(
    values: NDArray[np.generic], labels: NDArray[np.generic], classes_n: int, k: int
) -> NeighboursHead:
    if values.ndim != 2 or labels.shape != values.shape[:1]:
        raise ValueError(f"values must be (M, D) and labels (M,); got {values.shape} and {labels.shape}")
    numbers = labels.astype(np.int64)
    if k < 1 or not len(numbers) or numbers.min() < 0 or numbers.max() >= classes_n:
        raise ValueError(f"k must be at least 1 and labels lie in 0..{classes_n - 1}; got k = {k}")
    return NeighboursHead(values.astype(np.float32), numbers, classes_n, k)
