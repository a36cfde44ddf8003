"""The whole path as one scikit-learn estimator: pictures and labels in, a fitted model that predicts out."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from thawline.backbones import DEFAULT_MODEL, POOLED, open_backbone
from thawline.bundles import load_bundle
from thawline.data import open_data
from thawline.errors import DataError
from thawline.features import ThawlineFeatures
from thawline.features.transformer import payload_of, pictures_of, texts_of
from thawline.heads import fit_head
from thawline.planning import Asked
from thawline.planning.budget import parse_budget
from thawline.runs import folder as run_folder
from thawline.runs.walk import fit

if TYPE_CHECKING:
    from sklearn.utils import Tags

    from thawline.bundles import Bundle
    from thawline.records import Payload

FRACTIONS = (0.75, 0.15, 0.10)
"""Training, validation and test set where layers learn; what ships has learned from the first two."""

_NOT_THE_MODEL = {
    run_folder.PLAN,
    run_folder.METRICS,
    run_folder.RECEIPT,
    run_folder.LOAD_RECEIPT,
    run_folder.EVENTS,
    run_folder.PREDICTIONS,
    run_folder.SEEN,
    run_folder.REPORT,
}
"""Files of a run folder that predicting does without."""


class ThawlineClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Samples -> classes: a pre-trained backbone and a new head; with ``thaw``, layers of the backbone learn, too.

    X is what ``ThawlineFeatures`` takes: for a model of pictures a list of paths, of encoded files, of Pillow images or
    of uint8 arrays, or one uint8 array; for a model of texts, a list or array of strings.

    Args:
        model: Name of the backbone, as in ``thawline models``.
        thaw: ``none`` solves a head on frozen features of all samples, its strength chosen by cross-validation. Any
            other setting plans and fits as ``thawline fit --thaw`` does: ``auto``, ``all``, ``last:2``,
            ``progressive``, ... Then 15 % of the samples are held out to stop by, and join the others in the end; 10 %
            measure what ships (``report_``) and are never learned from.
        budget: What planning and fitting may take together, such as ``10min``; plans also with ``thaw="none"``.
        layer: ``pooled``, or a layer of the backbone whose features the head reads.
        head: ``logistic``, ``ridge`` or ``svm``.
        precision: ``auto``, ``f32`` or ``bf16``.
        batch_size: Samples in one run of the frozen network; does not change the numbers.
        seed: Decides folds, splits and every draw of training.
    Attributes:
        classes_: (C,) sorted labels.
        head_: The fitted head.
        features_: The fitted ThawlineFeatures; only where nothing was planned.
        strength_: The strength of regularisation that cross-validation chose; only where nothing was planned.
        plan_: What was decided; only where something was planned.
        report_: The numbers of the run, such as ``report_.accuracy``; only where something was planned.
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        thaw: str = "none",
        budget: str | None = None,
        layer: str = POOLED,
        head: Literal["logistic", "ridge", "svm"] = "logistic",
        precision: str = "auto",
        batch_size: int = 32,
        seed: int = 0,
    ) -> None:
        self.model = model
        self.thaw = thaw
        self.budget = budget
        self.layer = layer
        self.head = head
        self.precision = precision
        self.batch_size = batch_size
        self.seed = seed

    def fit(self, X: Any, y: ArrayLike, groups: ArrayLike | None = None) -> ThawlineClassifier:
        """Solve for a head or, with ``thaw`` or ``budget``, plan and fit; no run folder is left behind.

        Args:
            X: (N,) pictures or texts.
            y: (N,) labels.
            groups: (N,) samples with equal values are never on both sides of a fold or split.
        Raises:
            DataError: X and y differ in length, a picture cannot be read, or y holds fewer than two classes.
            UsageError: Settings that cannot be.
        """
        check_classification_targets(y)
        labels = np.asarray(y)
        if len(labels) != len(X):
            raise DataError(f"X and y must have one entry per sample; got {len(X)} and {len(labels)}.")
        self._forget()
        classes, encoded = np.unique(labels, return_inverse=True)
        if self.thaw == "none" and self.budget is None:
            self._fit_head(X, encoded, len(classes), groups)
        else:
            self._fit_plan(X, encoded, groups)
        self.classes_ = classes
        return self

    def _fit_head(self, X: Any, labels: NDArray[np.int64], n_classes: int, groups: ArrayLike | None) -> None:
        """Solve a head on frozen features of all samples."""
        self.features_ = ThawlineFeatures(
            self.model, layer=self.layer, precision=self.precision, batch_size=self.batch_size
        ).fit(X)
        values = self.features_.transform(X)
        fitted = fit_head(self.head, values, labels, n_classes, groups=groups, seed=self.seed)
        self.head_, self.strength_ = fitted.head, fitted.chosen

    def _fit_plan(self, X: Any, labels: NDArray[np.int64], groups: ArrayLike | None) -> None:
        """Plan and fit in a folder of its own, and keep its model in memory."""
        asked = Asked.of(
            thaw=self.thaw,
            layer=self.layer,
            head=self.head,
            precision=self.precision,
            seed=self.seed,
            fractions=FRACTIONS,
            budget=parse_budget(self.budget) if self.budget else None,
        )
        with tempfile.TemporaryDirectory(prefix="thawline-classifier-") as place:
            backbone = open_backbone(self.model)
            self._takes_texts = backbone.preparation.kind == "text"
            data = open_data(
                texts_of(X) if self._takes_texts else _openable(X, Path(place)),
                labels.tolist(),
                kind="texts" if self._takes_texts else "auto",
                groups=None if groups is None else np.asarray(groups).tolist(),
                strict=True,
                **asked.opening(),
            )
            run = fit(data, asked, backbone=backbone, run=Path(place) / "run")
            self.plan_, self.report_ = run.plan, run.report
            self._files = {
                str(path.relative_to(run.folder)): path.read_bytes()
                for path in run.folder.rglob("*")
                if path.is_file() and path.name not in _NOT_THE_MODEL
            }
        self.head_ = self._bundle.head

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return probabilities (N, C), columns as in ``classes_``."""
        check_is_fitted(self)
        if hasattr(self, "features_"):
            return self.head_.predict_proba(self.features_.transform(X))
        if self._takes_texts:
            found = self._bundle.predict(texts_of(X))
        else:
            found = self._bundle.predict([payload_of(picture, i) for i, picture in enumerate(pictures_of(X))])
        if found.failed:
            raise DataError(f"{found.failed[0].file} cannot be read: {found.failed[0].reason}.")
        return found.probabilities

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class of each picture, (N,)."""
        check_is_fitted(self)
        return np.asarray(self.classes_[self.predict_proba(X).argmax(1)])

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_opened"}

    def _forget(self) -> None:
        """Remove what an earlier fit left: other settings leave other attributes."""
        own = ("_files", "_opened", "_takes_texts")
        for name in [name for name in vars(self) if name.endswith("_") or name in own]:
            delattr(self, name)

    @property
    def _bundle(self) -> Bundle:
        """The model that ships; its files lie in a folder that goes when this object or the process does."""
        if not hasattr(self, "_opened"):
            place = Path(tempfile.mkdtemp(prefix="thawline-classifier-"))
            weakref.finalize(self, shutil.rmtree, place, ignore_errors=True)
            for name, content in self._files.items():
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                (place / name).write_bytes(content)
            self._opened = load_bundle(place)
        return self._opened


def _openable(X: Any, place: Path) -> Any:
    """Return X as ``open_data`` takes it: an array as it is, else paths; what has no file gets one in ``place``."""
    pictures = pictures_of(X)
    if isinstance(pictures, np.ndarray) and pictures.dtype.kind not in "OUS":
        return pictures
    if all(isinstance(picture, np.ndarray) for picture in pictures):
        kinds = {(picture.shape, picture.dtype) for picture in pictures}
        if len(kinds) == 1 and next(iter(kinds))[1] != np.uint8:
            return np.stack([payload_of(picture, i) for i, picture in enumerate(pictures)])
    return [_path_of(payload_of(picture, i), place / str(i)) for i, picture in enumerate(pictures)]


def _path_of(payload: Payload | str, place: Path) -> str:
    if isinstance(payload, str):
        return payload
    if isinstance(payload, bytes):
        place.write_bytes(payload)
    elif payload.dtype not in (np.uint8, np.uint16) or (payload.dtype == np.uint16 and payload.ndim == 3):
        raise DataError(
            f"X must be uint8, or one array of all pictures if it is deeper; got single {payload.dtype} "
            f"{payload.shape}. Stack them, or write them to files."
        )
    else:
        Image.fromarray(payload).save(place, "PNG", compress_level=0)
    return str(place)
