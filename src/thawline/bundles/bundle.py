"""A model that predicts."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from thawline.backbones.names import layers_in
from thawline.bundles.answers import CLASSES, EVEN, Answers, Threshold, check_threshold, predictions_of
from thawline.bundles.predictions import Predictions
from thawline.records import Dataset, Precision, Skipped

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thawline.backbones import Backbone
    from thawline.data.listing import Listing
    from thawline.engines.choices import Engine
    from thawline.engines.graphs import StoredGraphs
    from thawline.heads import Head
    from thawline.inputs.settled import Beyond
    from thawline.listening import Progress


class _Asked(NamedTuple):
    """What somebody asks about."""

    files: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    """What cannot be predicted."""
    prepare: Callable[[int], NDArray[np.uint8]]
    """Reads and prepares the sample of a row."""
    warnings: tuple[str, ...] = ()
    column: str = "file"


class Bundle:
    """Backbone, head, classes, and how a sample must be prepared; several threads may predict at once."""

    def __init__(
        self,
        *,
        backbone: Backbone,
        head: Head,
        classes: Sequence[str],
        layer: str,
        precision: Precision,
        engine: str = "auto",
        device: str = "auto",
        graphs: StoredGraphs | None = None,
        answers: Answers = CLASSES,
    ) -> None:
        """Put a bundle together; nothing is built.

        Args:
            layer: ``pooled``, a layer, or several with commas whose features stand side by side.
            engine: What runs the backbone if there are no graphs; see ``BundleSpec``.
            device: ``auto``, ``cpu``, ``mps``, ``cuda`` or ``cuda:N``; graphs run on the processor only.
            graphs: The backbone up to its layers, converted.
            answers: What the head puts out; ``classes`` are the names of its labels or numbers if it is of these.
        """
        self.backbone = backbone
        self.head = head
        self.classes = tuple(classes)
        self.layer = layer
        self.precision = precision
        self.engine = engine
        self.device = device
        self.graphs = graphs
        self.answers = answers
        self._opened: Engine | None = None
        self._opening = threading.Lock()

    def predict(
        self,
        what: Any,
        *,
        file_column: str | None = None,
        image_column: str | None = None,
        text_column: str | None = None,
        root: str | os.PathLike[str] | None = None,
        follow_links: bool = False,
        threshold: Threshold = EVEN,
        progress: Progress | None = None,
    ) -> Predictions:
        """Predict the class of each sample. Needs no cache and writes nothing.

        Every file is read and decoded once. The bits are those of the run on the same machine, whatever else is
        predicted in the same call.

        Args:
            what: A model of pictures takes a path, a folder of pictures, a table, a PIL picture, an array, the bytes of
                a file, an open binary file, a list of these, a column of a pandas or polars table, a Hugging Face data
                set, or a ``Dataset``. A model of texts takes a text, a list or column of texts, files, folders, tables
                and data sets of them, or an open binary file with a text on each line.
            file_column, image_column, text_column, root: How a table names its samples, as in ``open_data``.
            follow_links: In a folder, follow links that lead outside it, or to folders.
            threshold: Of a model of labels: probability from which a label is given, or ``best``: each label from its
                own, at which its F1 was best on samples held out.
            progress: Called with (pictures done, pictures in all).
        Returns:
            Labels and probabilities (N, C), in the order given; what cannot be read stands in ``failed``. A picture
            without a name is called ``picture 1``, ``picture 2``, ... by its place.
        Raises:
            DataError: There is nothing to predict, or a sample of a ``Dataset`` has changed since it was opened.
            ModelError: The backbone gives NaN or infinity, or needs torch, which is not installed.
            UsageError: An item that is no picture, or a threshold that cannot be.
        """
        import numpy as np

        from thawline.bundles.batches import in_blocks
        from thawline.heads.head import BLOCK_ROWS
        from thawline.inputs import kind_of

        preparation = self.backbone.preparation
        check_threshold(threshold, self.answers)
        beyond = kind_of(preparation.kind).beyond()
        how: dict[str, Any] = {"root": root, "follow_links": follow_links}
        how |= {"file_column": file_column, "image_column": image_column, "text_column": text_column}
        asked = self._asked(what, how, beyond)
        files, skipped, prepare = asked.files, asked.skipped, asked.prepare
        if not files:
            nothing = np.empty((0, len(self.classes)))
            return predictions_of(
                self.answers, (), self.classes, nothing, skipped, warnings=asked.warnings, threshold=threshold
            )
        rows: list[int] = []
        failed: list[Skipped] = []
        values = self._values(files, prepare, rows, failed, progress)
        # Blocks as a head cuts many rows itself: a nearest-neighbours head rounds by the size of its blocks.
        blocks = [self.head.predict_proba(block) for block in in_blocks(values, BLOCK_ROWS)]
        return predictions_of(
            self.answers,
            tuple(files[row] for row in rows),
            self.classes,
            np.concatenate([*blocks, np.empty((0, len(self.classes)))]),
            (*skipped, *failed),
            threshold=threshold,
            warnings=(*asked.warnings, *beyond.remarks(preparation.scales)),
            column=asked.column,
        )

    def _asked(self, what: Any, how: Mapping[str, Any], beyond: Beyond) -> _Asked:
        """List what is asked about; nothing is read yet."""
        from thawline.inputs import kind_of

        preparation = self.backbone.preparation
        kind = kind_of(preparation.kind)
        if isinstance(what, Dataset):
            from thawline.features.prepared import read_sample

            data = what
            return _Asked(
                data.files,
                data.skipped,
                lambda row: read_sample(data, row, lambda payload: kind.prepare(payload, preparation, beyond)),
            )
        listing = _listed(what, preparation.kind, how)
        return _Asked(
            listing.files,
            listing.skipped,
            lambda row: kind.prepare(listing.source.read(row), preparation, beyond),
            listing.warnings,
            listing.columns.get("file", "file"),
        )

    def _values(
        self,
        files: Sequence[str],
        prepare: Callable[[int], NDArray[np.uint8]],
        rows: list[int],
        failed: list[Skipped],
        progress: Progress | None,
    ) -> Iterator[NDArray[np.float32]]:
        """Yield features (n, D) of the samples that can be read; note their rows, and what failed."""
        import numpy as np

        from thawline.bundles.batches import run_over
        from thawline.engines.batches import refuse_non_finite

        report = progress or (lambda done, total: None)
        report(0, len(files))
        done = 0
        with closing(run_over(self._engine(len(files)), len(files), prepare)) as batches:
            for batch in batches:
                failed += [Skipped(files[row], reason) for row, reason in batch.failures]
                rows += batch.rows
                if batch.rows:
                    named = [files[row] for row in batch.rows]
                    finite = np.asarray(np.isfinite(batch.values).all(axis=1))
                    model, again = self.backbone.name, "Fit again with --precision f32."
                    refuse_non_finite(finite, named, model, self.layer, self.precision, lower=again)
                    yield batch.values
                done += len(batch)
                report(done, len(files))

    def _engine(self, n: int) -> Engine:
        """Return the engine that every call runs on; the first call builds it."""
        from thawline.bundles.engine import open_engine

        with self._opening:
            if self._opened is None:
                self._opened = open_engine(
                    self.backbone,
                    layers_in(self.layer),
                    self.graphs,
                    n,
                    engine=self.engine,
                    precision=self.precision,
                    device=self.device,
                )
            return self._opened


def _listed(what: Any, kind: str, how: Mapping[str, Any]) -> Listing:
    """List what somebody asks a model about; nothing is read yet."""
    if kind == "text":
        from thawline.data.doors import list_unlabelled
        from thawline.data.tables.columns import Columns

        root, columns = how["root"], Columns(file=how["file_column"], text=how["text_column"])
        place = None if root is None else Path(root).expanduser()
        if hasattr(what, "read"):
            from thawline.data.streams import list_stream

            return list_stream(what, columns)
        return list_unlabelled(what, columns, place, follow_links=how["follow_links"], input_kind=kind)
    from thawline.bundles.pictures import list_pictures

    return list_pictures(what, **{name: value for name, value in how.items() if name != "text_column"})
