"""The OpenVINO engine: runs converted graphs on processors, without torch or timm."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawline.engines.choices import check_batch
from thawline.engines.graphs import Converted, StoredGraphs
from thawline.engines.lengths import TOGETHER, TOKENS_AT_ONCE, run_by_length
from thawline.errors import ModelError
from thawline.records import ArraySpec, Precision
from thawline.scale.openvino_core import core
from thawline.scale.openvino_import import ov
from thawline.scale.processors import usable_processors


def compile_graphs(graphs: Sequence[tuple[ov.Model | Path, Precision]]) -> tuple[ov.CompiledModel, ...]:
    """Compile graphs for this processor: one thread for each batch, as many batches at once as there are processors.

    One thread adds up in the same order however many there are, so the numbers do not depend on that.
    """
    opened, n = core(), usable_processors()
    threads = {"NUM_STREAMS": n, "INFERENCE_NUM_THREADS": n}
    return tuple(
        opened.compile_model(
            opened.read_model(graph) if isinstance(graph, Path) else graph,
            "CPU",
            threads | {"INFERENCE_PRECISION_HINT": precision},
        )
        for graph, precision in graphs
    )


class OpenVINOEngine:
    """Runs converted graphs, one thread for each batch; any number of threads may run batches at once.

    One thread adds up in the same order however many there are, so the numbers depend on neither their number nor the
    other samples of a batch.
    """

    name = "openvino"
    workers: int
    """Threads that may run batches at once without waiting for each other."""

    def __init__(self, graphs: StoredGraphs | Converted, precision: Precision) -> None:
        """Compile graphs for this processor, unless they were converted, and so compiled, just now. Needs no torch.

        Raises:
            ModelError: OpenVINO refuses them.
        """
        self.precision = precision
        self.workers = usable_processors()
        self._compiled = graphs.compiled if isinstance(graphs, Converted) else _compiled(graphs)
        # The first array that OpenVINO is given makes it look for numpy's functions, under a lock and the interpreter's
        # own, in the one order or the other: two threads that are first together would wait for each other for ever.
        _ = ov.Tensor(np.zeros(1, np.uint8)).data
        self.widths = tuple(output.get_partial_shape()[1].get_length() for output in self._compiled[-1].outputs)
        self._pad = graphs.pad
        if self._pad is None:
            self._size, *shape = self._compiled[0].input(0).get_shape()
            self._spec = ArraySpec(tuple(shape), "uint8")
        self.at_once: int | None = self._size if self._pad is None else None
        self.together = 0 if self._pad is None else TOGETHER
        self._requests = threading.local()

    def run(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Prepared samples (B, *spec.shape) -> features float32 (B, D), those of several rungs side by side."""
        if self._pad is not None:
            return run_by_length(batch, self._pad, TOKENS_AT_ONCE, self._run_part)
        check_batch(batch, self._spec)
        rows = np.empty((len(batch), sum(self.widths)), np.float32)
        size = self._size
        for start in range(0, len(batch), size):
            part = batch[start : start + size]
            n = len(part)
            if n < size:
                part = np.concatenate([part, np.repeat(part[-1:], size - n, axis=0)])
            # the graph has one shape: rows beyond n repeat the last sample, and are dropped
            np.concatenate([found[:n] for found in self._infer(part)], axis=1, out=rows[start : start + n])
        return rows

    def _run_part(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """Samples of one length (n, length) -> features (n, D)."""
        return np.concatenate(self._infer(samples), axis=1)

    def _infer(self, samples: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Run all graphs once; this thread's next run overwrites the arrays that are returned."""
        requests = self._of_this_thread()
        requests[0].infer([np.ascontiguousarray(samples)], share_inputs=True)
        for request in requests[1:]:
            request.infer()
        return [requests[-1].get_output_tensor(i).data for i in range(len(self.widths))]

    def _of_this_thread(self) -> list[ov.InferRequest]:
        """Return this thread's requests, one for each graph; each takes the outputs of the one before."""
        if not hasattr(self._requests, "chain"):
            made = [compiled.create_infer_request() for compiled in self._compiled]
            for below, above in pairwise(made):
                for i in range(len(above.model_inputs)):
                    above.set_input_tensor(i, below.get_output_tensor(i))
            self._requests.chain = made
        chain: list[ov.InferRequest] = self._requests.chain
        return chain


def _compiled(graphs: StoredGraphs) -> tuple[ov.CompiledModel, ...]:
    try:
        return compile_graphs(tuple(zip(graphs.files, graphs.precisions, strict=True)))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ModelError(f"OpenVINO cannot run the graphs in {graphs.folder}: {reason}.") from error
