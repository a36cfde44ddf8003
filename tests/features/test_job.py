"""What is to be extracted is a record that another process can carry out, to the same bits."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import thawline as tl
from thawline.errors import DataError, ModelError
from thawline.features.job import ExtractionJob
from thawline.records import Dataset
from thawline.scale import LocalExecutor
from thawline.store.store import FeatureStore

_RUN = LocalExecutor.run
_OTHER_PROCESS = """
import pickle, sys
from pathlib import Path
from thawline.scale import executor
executor().run(pickle.loads(Path(sys.argv[1]).read_bytes()), progress=lambda done, total: print(done, total))
"""


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[ExtractionJob]:
    """The jobs that the executor is given; none of them runs."""
    given: list[ExtractionJob] = []
    monkeypatch.setattr(LocalExecutor, "run", lambda _, job, opened=None, progress=None: given.append(job))
    return given


def _job(jobs: list[ExtractionJob], data: Dataset, backbone: object, **how: object) -> ExtractionJob:
    with pytest.raises(KeyError):  # nothing is stored, as nothing has run
        tl.extract_features(data, backbone, precision="f32", device="cpu", **how)
    return jobs.pop()


def test_another_process_stores_the_rows_that_this_one_would(
    jobs: list[ExtractionJob], tiny_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_photos.parent)
    data, backbone = tl.open_data("photos"), tl.open_backbone()
    job = _job(jobs, data, backbone, engine="openvino")
    assert len(job.digests) == len(data)
    monkeypatch.setattr(LocalExecutor, "run", _RUN)
    here = tl.extract_features(data, backbone, precision="f32", device="cpu", engine="openvino")
    assert here.computed == len(data)

    there = replace(job, cache=tmp_path / "there", digests=job.digests[::-1])
    (tmp_path / "job").write_bytes(pickle.dumps(there))
    command = [sys.executable, "-c", _OTHER_PROCESS, str(tmp_path / "job")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-2:] == [str(len(data))] * 2
    stored = FeatureStore(tmp_path / "there").gather(job.keys[0], data.digests)
    assert np.asarray(stored, np.float32).tobytes() == here.values.tobytes()


def test_only_what_is_missing_is_in_the_job(jobs: list[ExtractionJob], toy: ModuleType) -> None:
    data = toy.toy_dataset(8)
    job = _job(jobs, data, toy.ToyBackbone())
    assert job.digests == data.digests and job.data is None
    FeatureStore().append(job.keys[0], data.digests[:5], np.zeros((5, 24), np.float32))
    assert _job(jobs, data, toy.ToyBackbone()).digests == data.digests[5:]


def test_what_no_other_process_can_open_is_refused(
    jobs: list[ExtractionJob], tiny_photos: Path, toy: ModuleType
) -> None:
    with pytest.raises(DataError, match="in the memory of one process"):
        _job(jobs, toy.toy_dataset(3), toy.ToyBackbone()).open()
    job = _job(jobs, tl.open_data(tiny_photos), tl.open_backbone())
    other = replace(job, keys=(replace(job.keys[0], weights_sha256="0" * 64),))
    with pytest.raises(ModelError, match="has other weights than when the job was made"):
        other.open()
