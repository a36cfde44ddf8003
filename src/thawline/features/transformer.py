"""Frozen features as a scikit-learn transformer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from thawline.backbones import DEFAULT_MODEL, POOLED, open_backbone
from thawline.data.arrays import DEEP_TYPES, as_pixels
from thawline.data.sources import FileSource
from thawline.errors import DataError, ModelError, UndecodableError
from thawline.features.extract import extract_features
from thawline.inputs.image.decode import payload_from
from thawline.inputs.image.kind import scales_of
from thawline.inputs.kind import digest_of

if TYPE_CHECKING:
    from thawline.backbones import Backbone
    from thawline.records import Payload, ValueScale


class ThawlineFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turn pictures or texts into the features of a frozen pre-trained backbone; stored features are found by content.

    For a backbone of texts, X is a list or array of strings. For one of pictures, X is a list of paths, of encoded
    files (``bytes``), of Pillow images or of arrays, or one array (N, H, W) or (N, H, W, 3): uint8, or deeper, such as
    uint16 and float32.

    Args:
        model: Name of the backbone, as in ``thawline models``.
        layer: ``pooled``, or a layer of the backbone.
        precision: ``auto``, ``f32`` or ``bf16``.
        batch_size: Samples in one run of the network; does not change the numbers.
    Attributes:
        weights_sha256_: The backbone that was fitted with; another one of the same name is refused.
        scales_: One for each type of number deeper than 8 bits among the pictures.
        n_features_out_: D.
    Example:
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.pipeline import make_pipeline
        >>> classifier = make_pipeline(ThawlineFeatures(), LogisticRegression())
    """

    def __init__(
        self, model: str = DEFAULT_MODEL, *, layer: str = POOLED, precision: str = "auto", batch_size: int = 32
    ) -> None:
        self.model = model
        self.layer = layer
        self.precision = precision
        self.batch_size = batch_size

    def fit(self, X: Any, y: object = None) -> ThawlineFeatures:
        """Open the backbone and run the first sample; learn only how pictures deeper than 8 bits become 8.

        Raises:
            ModelError: The backbone cannot be opened, or has no such layer.
            DataError: X is none of what is taken, or its first sample cannot be read.
        """
        self._backbone = open_backbone(self.model)
        self.weights_sha256_ = self._backbone.weights_sha256
        samples = self._samples(X)
        self.scales_ = () if self._takes_texts else scales_of(self._payloads(samples))
        self.n_features_out_ = self._rows(samples[:1]).shape[1]
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Pictures -> float32 (N, D).

        Raises:
            DataError: X is none of what is taken, or a sample cannot be read; names it.
            ModelError: The model of this name now has other weights.
        """
        check_is_fitted(self)
        return self._rows(self._samples(X))

    @property
    def _takes_texts(self) -> bool:
        return self._opened().preparation.kind == "text"

    def _samples(self, X: Any) -> NDArray[Any] | list[Any]:
        return texts_of(X) if self._takes_texts else pictures_of(X)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "weights_sha256_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []  # always float32
        return tags

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_backbone"}

    @property
    def _n_features_out(self) -> int:
        return int(self.n_features_out_)

    @staticmethod
    def _payloads(pictures: NDArray[Any] | list[Any]) -> Iterator[Payload]:
        """Yield the pictures that may be deeper than 8 bits, one at a time; one that cannot be read is none."""
        for i, picture in enumerate(pictures):
            payload = payload_of(picture, i)
            if isinstance(payload, str):
                if payload.lower().endswith((".jpg", ".jpeg")):
                    continue
                try:
                    payload = FileSource((payload,)).read(0)
                except UndecodableError:
                    continue  # ``transform`` says which, and why
            yield payload

    def _rows(self, samples: NDArray[Any] | list[Any]) -> NDArray[np.float32]:
        return extract_features(
            _described_texts(samples) if self._takes_texts else described(samples, getattr(self, "scales_", ())),
            self._opened(),
            rung=self.layer,
            precision=self.precision,
            batch_size=self.batch_size,
        ).values

    def _opened(self) -> Backbone:
        """Return the backbone of ``fit``; open it again if this estimator was copied or loaded."""
        if not hasattr(self, "_backbone"):
            backbone = open_backbone(self.model)
            if backbone.weights_sha256 != self.weights_sha256_:
                raise ModelError(f"{self.model} must have the weights it was fitted with; it has others. Fit again.")
            self._backbone = backbone
        return self._backbone


@dataclass(frozen=True, slots=True, eq=False)
class _Pictures:
    """Pictures, each in memory or on disk."""

    payloads: tuple[Payload | str, ...]
    """Encoded bytes, pixels, or the path of a file."""

    def __len__(self) -> int:
        return len(self.payloads)

    def read(self, index: int) -> Payload:
        payload = self.payloads[index]
        return FileSource((payload,)).read(0) if isinstance(payload, str) else payload


@dataclass(frozen=True, slots=True, eq=False)
class _Texts:
    """Texts in memory."""

    payloads: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.payloads)

    def read(self, index: int) -> Payload:
        return self.payloads[index]


@dataclass(frozen=True, slots=True, eq=False)
class _Described:
    files: tuple[str, ...]
    source: _Pictures | _Texts
    digests: tuple[str, ...]
    scales: tuple[ValueScale, ...]


def pictures_of(X: Any) -> NDArray[Any] | list[Any]:
    """Check X as a whole and return it as something to index.

    Raises:
        DataError: X is one picture, holds none, or is an array of another type or shape.
    """
    if isinstance(X, str | bytes | Path | Image.Image) or not isinstance(X, Iterable):
        raise DataError(f"X must be a list of pictures or a uint8 array; got one {type(X).__name__}. Write [picture].")
    if isinstance(X, np.ndarray) and X.dtype.kind not in "OUS":
        if X.dtype.name not in ("uint8", *DEEP_TYPES) or not (X.ndim == 3 or (X.ndim == 4 and X.shape[3] == 3)):
            raise DataError(
                f"X must be uint8 (N, H, W) or (N, H, W, 3), or a deeper type; got {X.dtype} {X.shape}. "
                "Convert it, for one to float32, or move the channels last."
            )
    elif isinstance(X, np.ndarray) and X.ndim != 1:
        raise DataError(f"X must be one list of pictures; got an array of {X.ndim} dimensions.")
    pictures = X if isinstance(X, np.ndarray) else list(X)
    if not len(pictures):
        raise DataError("X must hold at least one picture; got 0 samples, shape (0,).")
    return pictures


def texts_of(X: Any) -> list[str]:
    """Check X as a whole and return it as a list of texts.

    Raises:
        DataError: X is one text, holds none, or holds something else; names it.
    """
    if isinstance(X, str | bytes) or not isinstance(X, Iterable):
        raise DataError(f"X must be a list of texts; got one {type(X).__name__}. Write [text].")
    texts = list(X)
    if not texts:
        raise DataError("X must hold at least one text; got 0 samples, shape (0,).")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"X[{i}] must be a text; got {type(text).__name__}. Convert it, or leave it out.")
    return [str(text) for text in texts]


def _described_texts(texts: NDArray[Any] | list[Any]) -> _Described:
    source = _Texts(tuple(texts))
    digests = tuple(map(digest_of, source.payloads))
    return _Described(tuple(f"X[{i}]" for i in range(len(source))), source, digests, ())


def described(pictures: NDArray[Any] | list[Any], scales: tuple[ValueScale, ...] = ()) -> _Described:
    """Name and digest each picture, so that features can be extracted from them.

    Args:
        scales: By which deeper pictures become 8 bits.

    Raises:
        DataError: Names the picture that is none, or cannot be read.
    """
    source = _Pictures(tuple(payload_of(picture, i) for i, picture in enumerate(pictures)))
    files = tuple(p if isinstance(p, str) else f"X[{i}]" for i, p in enumerate(source.payloads))
    digests = []
    for i, file in enumerate(files):
        try:
            digests.append(digest_of(source.read(i)))
        except UndecodableError as error:
            raise DataError(f"{file} cannot be read: {error}.") from error
    return _Described(files, source, tuple(digests), scales)


def payload_of(picture: Any, position: int) -> Payload | str:
    """Return a picture as it is stored: the path of its file, encoded bytes, or pixels.

    Args:
        position: Of the picture in X, for the message.
    Raises:
        DataError: It is none of these.
    """
    match picture:
        case str() | Path():
            return str(picture)
        case bytes():
            return picture
        case Image.Image():
            return _decoded(picture, position)
        case np.ndarray() if (
            picture.dtype.name in ("uint8", *DEEP_TYPES) and picture.ndim in (2, 3) and picture.shape[2:] in ((), (3,))
        ):
            return as_pixels(picture)
        case _:
            kind = f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
            raise DataError(
                f"X[{position}] must be a path, bytes, a Pillow image or uint8 (H, W[, 3]); got {kind}. "
                "Convert it, or leave it out."
            )


def _decoded(image: Image.Image, position: int) -> Payload:
    """Return the pixels that the file of a Pillow image would give."""
    try:
        return payload_from(image)
    except UndecodableError as error:
        raise DataError(f"X[{position}] cannot be read: {error}.") from error
