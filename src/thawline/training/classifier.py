"""The scikit-learn face of a head on frozen features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from thawline.backbones import DEFAULT_MODEL, POOLED
from thawline.errors import DataError
from thawline.features import ThawlineFeatures
from thawline.heads import fit_head

if TYPE_CHECKING:
    from sklearn.utils import Tags


class ThawlineClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Pictures -> classes: a frozen pre-trained backbone, and a head whose strength is chosen by cross-validation.

    X is what ``ThawlineFeatures`` takes: a list of paths, of encoded files, of Pillow images or of uint8 arrays.

    Args:
        model: Name of the backbone, as in ``thawline models``.
        layer: ``pooled``, or a layer of the backbone.
        head: ``logistic``, ``ridge`` or ``svm``.
        precision: ``auto``, ``f32`` or ``bf16``.
        batch_size: Samples in one run of the network; does not change the numbers.
        seed: Decides the folds.
    Attributes:
        classes_: (C,) sorted labels.
        features_: The fitted ThawlineFeatures.
        head_: The fitted head.
        strength_: The strength of regularisation that cross-validation chose.
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        layer: str = POOLED,
        head: Literal["logistic", "ridge", "svm"] = "logistic",
        precision: str = "auto",
        batch_size: int = 32,
        seed: int = 0,
    ) -> None:
        self.model = model
        self.layer = layer
        self.head = head
        self.precision = precision
        self.batch_size = batch_size
        self.seed = seed

    def fit(self, X: Any, y: ArrayLike, groups: ArrayLike | None = None) -> ThawlineClassifier:
        """Compute features once and solve for the head.

        Args:
            X: (N,) pictures.
            y: (N,) labels.
            groups: (N,) samples with equal values share a fold.
        Raises:
            DataError: X and y differ in length, or y holds fewer than two classes.
        """
        check_classification_targets(y)
        labels = np.asarray(y)
        if len(labels) != len(X):
            raise DataError(f"X and y must have one entry per sample; got {len(X)} and {len(labels)}.")
        self.classes_, encoded = np.unique(labels, return_inverse=True)
        self.features_ = ThawlineFeatures(
            self.model, layer=self.layer, precision=self.precision, batch_size=self.batch_size
        ).fit(X)
        values = self.features_.transform(X)
        fitted = fit_head(self.head, values, encoded, len(self.classes_), groups=groups, seed=self.seed)
        self.head_, self.strength_ = fitted.head, fitted.chosen
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities (N, C), columns as in ``classes_``."""
        check_is_fitted(self)
        return self.head_.predict_proba(self.features_.transform(X))

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable class of each picture, (N,)."""
        check_is_fitted(self)
        return np.asarray(self.classes_[self.predict_proba(X).argmax(1)])

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        return tags
