"""Plans of training on texts: rates, epochs and views that suit them, rows as long as they are, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.toy_text import WIDTH, Texts, text_dataset, toy_encoder

from thawline.backbones import Backbone, open_backbone
from thawline.errors import UsageError
from thawline.features.text_lengths import rounded_lengths
from thawline.planning import FitPlan, Ground, settle, stage_plans
from thawline.planning.fit_plan import check_plan
from thawline.planning.kept_rows import ladder_for
from thawline.planning.stage_plans import FEWEST_OF_TEXTS, TEXT_LR
from thawline.planning.timing import time_stage
from thawline.records import Dataset
from thawline.training.settings import TrainAsk


@pytest.fixture
def encoder() -> Backbone:
    return toy_encoder()


def settled(encoder: Backbone, thaw: str, data: Dataset | None = None, **asked: Any) -> FitPlan:
    data = text_dataset(60) if data is None else data
    bare = check_plan(
        {"model": encoder.name, "weights_sha256": encoder.weights_sha256, "thaw": thaw, "precision": "f32"}, "a test"
    )
    return settle(bare, Ground.of(data, bare), encoder, TrainAsk(**asked))


def test_texts_learn_at_a_rate_of_their_own_and_are_kept_once(encoder: Backbone) -> None:
    plan = settled(encoder, "last:1")
    assert plan.training is not None
    assert plan.training.lr == TEXT_LR
    assert [stage.views for stage in plan.stages] == [1]
    assert [stage.views for stage in settled(encoder, "from:embeddings").stages] == [0]  # nothing lies below
    assert [stage.views for stage in settled(encoder, "last:1", views=0).stages] == [0]


def test_vectors_of_words_learn_faster_than_blocks() -> None:
    plan = settled(open_backbone("embedded/words"), "all")
    assert plan.training is not None
    assert plan.training.lr == 1e-3


def test_many_texts_are_shown_a_few_times(encoder: Backbone) -> None:
    few = text_dataset(60)
    times = 200
    many = replace(
        few,
        files=few.files * times,
        labels=np.tile(few.labels, times),
        source=Texts([few.source.read(i) for i in range(len(few))] * times),
        digests=few.digests * times,
        sketches=np.tile(few.sketches, (times, 1)),
        groups=np.arange(len(few) * times),
    )
    (stage,) = settled(encoder, "last:1", many).stages
    assert stage.epochs + stage.joint_epochs == FEWEST_OF_TEXTS


def test_rows_are_as_long_as_the_texts(encoder: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    for longest in (4, 60):
        data = text_dataset(60, longest=longest)
        mean = float(rounded_lengths(data, encoder.preparation, range(60)).mean())
        rungs = {rung.name: rung for rung in ladder_for(encoder, data).rungs}
        assert rungs["blocks.0"].row_bytes("f32") == pytest.approx(mean * WIDTH * 4, rel=1e-3)
        assert rungs["blocks.0"].row_bytes("bf16") == pytest.approx(mean * WIDTH * 2, rel=1e-3)
        assert rungs["input"].row_bytes("f32") == pytest.approx(mean * 4, rel=0.1)
        assert rungs["pooled"].row_bytes("f32") == WIDTH * 4
    # what does not fit is computed anew
    monkeypatch.setattr(stage_plans, "CACHE_BYTES", round(60 * mean * WIDTH * 4 * 0.6))
    assert [stage.views for stage in settled(encoder, "last:1", text_dataset(60, longest=60)).stages] == [0]
    assert [stage.views for stage in settled(encoder, "last:1", text_dataset(60, longest=4)).stages] == [1]


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"views": 4}, "views must be 0 or 1 for texts, which are not augmented; got 4. 1 keeps each text"),
        ({"flip": False, "colour": 0.2}, r"got colour, flip, which augment pictures. Leave them out"),
        ({"cutmix": 1.0}, r"got cutmix, which augment pictures. Leave it out"),
    ],
)
def test_what_only_pictures_have_is_refused(encoder: Backbone, asked: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        settled(encoder, "last:1", **asked)


def test_a_stage_on_texts_is_timed(encoder: Backbone) -> None:
    plan, data = settled(encoder, "last:1", batch_size=8), text_dataset(60)
    paces = time_stage(data, encoder, plan, plan.stages[0], WIDTH)
    assert paces.step_s > 0
    assert paces.row_s > 0
