"""Measure the distance to the moments of source features, kept in a small file beside the weights of a backbone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thawline.backbones.weights import read_header
from thawline.errors import ModelError, WeightsError
from thawline.planning.distances import Distance, by_chance, halvings

if TYPE_CHECKING:
    from thawline.backbones import Backbone

N_COMPONENTS = 64
SUFFIX = ".moments.safetensors"
"""Takes the place of ``.safetensors`` in the name of the weights."""


@dataclass(frozen=True, slots=True, eq=False)
class RungMoments:
    """Mean and covariance of the features at one rung over source pictures, in their leading principal components."""

    mean: NDArray[np.float64]
    """(D,)"""
    basis: NDArray[np.float64]
    """(K, D), orthonormal rows; K is 64, or D if that is less."""
    variance: NDArray[np.float64]
    """(K,) along each row of the basis."""


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceMoments:
    """Moments at several rungs of one backbone."""

    rungs: Mapping[str, RungMoments]
    n: int
    """Number of source pictures."""
    source: str
    """What the source pictures were."""


def measure_moments(features: Mapping[str, NDArray[np.floating[Any]]], source: str) -> ReferenceMoments:
    """Compute the moments of features (N, D) at each rung, of the same N source pictures.

    Raises:
        ValueError: Fewer than two pictures.
    """
    n = min(len(values) for values in features.values())
    if n < 2:
        raise ValueError(f"features must be of at least 2 pictures; got {n}")
    rungs = {}
    for rung, values in features.items():
        mean = values.mean(axis=0, dtype=np.float64)
        variance, vectors = np.linalg.eigh(np.cov(values, rowvar=False, dtype=np.float64))
        leading = slice(None, -N_COMPONENTS - 1, -1)
        rungs[rung] = RungMoments(mean, vectors[:, leading].T.copy(), np.maximum(variance[leading], 0))
    return ReferenceMoments(rungs, n, source)


def frechet(values: NDArray[np.floating[Any]], moments: RungMoments, *, seed: int = 0) -> Distance:
    """Return the squared Frechet distance of features (N, D) to the source's, as a share of the source's variance.

    1 means as far from the source as source pictures are from their mean. Both are projected on the source's leading
    components. The null is the distance between two halves of the sample, scaled to the size of the whole.

    Source:
        Dowson and Landau 1982, Journal of Multivariate Analysis 12:450.
    Raises:
        ValueError: Fewer than four pictures, or another width.
    """
    if len(values) < 4 or values.shape[1:] != moments.mean.shape:
        raise ValueError(f"values must be (N, {len(moments.mean)}) with N >= 4; got {values.shape}")
    seen = (values - moments.mean) @ moments.basis.T  # (N, D) -> (N, K)
    total = moments.variance.sum()
    own = np.zeros(len(moments.variance)), np.diag(moments.variance)
    between = [_frechet(_moments(seen[one]), _moments(seen[other])) / total for one, other in halvings(len(seen), seed)]
    return Distance(float(_frechet(own, _moments(seen)) / total), by_chance(between, len(seen)))


_Gaussian = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Mean (K,) and covariance (K, K)."""


def _moments(values: NDArray[np.float64]) -> _Gaussian:
    return values.mean(axis=0), np.atleast_2d(np.cov(values, rowvar=False))


def _frechet(one: _Gaussian, other: _Gaussian) -> float:
    variance, vectors = np.linalg.eigh(one[1])
    root = (vectors * np.sqrt(np.maximum(variance, 0))) @ vectors.T
    mixed = np.linalg.eigvalsh(root @ other[1] @ root)
    shift = np.square(one[0] - other[0]).sum()
    return float(shift + np.trace(one[1]) + np.trace(other[1]) - 2 * np.sqrt(np.maximum(mixed, 0)).sum())


def moments_path(weights: Path) -> Path:
    """Return the path of the moments of a weights file."""
    return weights.with_name(weights.name.removesuffix(".safetensors") + SUFFIX)


def write_moments(path: Path, moments: ReferenceMoments, backbone: Backbone) -> None:
    """Write moments measured with this backbone, the basis in half precision.

    Raises:
        StorageError: The disk is full, or the place cannot be written.
    """
    from safetensors.numpy import save

    from thawline.scale.disk import written_whole

    tensors: dict[str, NDArray[Any]] = {}
    for rung, own in moments.rungs.items():
        tensors[f"{rung}/mean"] = own.mean.astype(np.float32)
        tensors[f"{rung}/basis"] = own.basis.astype(np.float16)
        tensors[f"{rung}/variance"] = own.variance.astype(np.float32)
    metadata = _fingerprint(backbone) | {
        "n": str(moments.n),
        "source": moments.source,
        "rungs": json.dumps(list(moments.rungs)),  # safetensors sorts its tensors
    }
    with written_whole(path, "wb") as file:
        file.write(save(tensors, metadata))


def read_moments(backbone: Backbone) -> ReferenceMoments | str:
    """Return the moments beside the backbone's weights, or the reason why there are none to compare with."""
    path = moments_path(backbone.tensors.shown)
    if not path.is_file():
        return "no moments of source samples come with these weights"
    from safetensors.numpy import load_file

    try:
        metadata = read_header(path)[0].get("__metadata__", {})
        if {name: metadata.get(name) for name in _fingerprint(backbone)} != _fingerprint(backbone):
            return f"{path.name} was made with other weights or another preparation"
        tensors = load_file(path)
        rungs = {
            rung: RungMoments(*(tensors[f"{rung}/{part}"].astype(np.float64) for part in ("mean", "basis", "variance")))
            for rung in json.loads(metadata["rungs"])
        }
        return ReferenceMoments(rungs, int(metadata["n"]), str(metadata["source"]))
    except (WeightsError, KeyError, ValueError, OSError) as error:
        raise ModelError(f"moments must be as write_moments leaves them; {path}: {error}. Delete the file.") from error


def _fingerprint(backbone: Backbone) -> dict[str, str]:
    """Return digests of everything that the features depend on."""
    seen_as = json.dumps(backbone.preparation.in_graphs.described(), sort_keys=True)
    return {"weights_sha256": backbone.weights_sha256, "preprocessing": seen_as}
