"""Ranking backbones: the embedded model and models known to be worse, on made pictures; and what cannot be asked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

import thawline as tl
from thawline.backbones import DEFAULT_MODEL
from thawline.backbones.lines import depth_rungs
from thawline.backbones.providers.embedded import EMBEDDED
from thawline.backbones.providers.timm_import import import_timm
from thawline.errors import ModelError, UsageError
from thawline.heads.head import softmax
from thawline.inputs.image.decode import prepare
from thawline.planning import Ranking
from thawline.planning.contenders import names_of, on_disk, open_contender
from thawline.planning.halving import probe_order, round_sizes
from thawline.planning.scores import LeftOut, knn_left_out, leep, log_evidence, ridge_left_out
from thawline.records import Dataset

WEIGHTS = next(iter(EMBEDDED.values())).path
RANDOM = "random/test_resnet"
TOY = "random/resnet18"

pytestmark = pytest.mark.usefixtures("shared_cache")


@pytest.fixture(scope="module")
def photos(_tiny_photos: Path) -> Dataset:
    return tl.open_data(_tiny_photos)


@pytest.fixture(scope="module")
def many() -> Dataset:
    """300 pictures, one colour a class: some are darker than others."""
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    pixels = rng.integers(0, 120, (300, 24, 24, 3), dtype=np.uint8)
    pixels[np.arange(300), :, :, labels] += rng.integers(30, 120, 300, dtype=np.uint8)[:, None, None]
    return tl.open_data(pixels, [f"colour {label}" for label in labels], name="colours")


@pytest.fixture(scope="module")
def noise() -> Dataset:
    """120 pictures that have nothing to do with their classes."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (120, 24, 24, 3), dtype=np.uint8)
    return tl.open_data(pixels, rng.permutation(["a", "b"] * 60).tolist(), name="noise")


def ranked(data: Dataset, models, **options) -> Ranking:
    """With the engine that has nothing to convert."""
    return tl.rank(data, models, **({"engine": "torch", "precision": "f32"} | options))


class OnlySome:
    """A source that refuses all rows but some."""

    def __init__(self, source, allowed) -> None:
        self._source, self._allowed = source, set(allowed)

    def __len__(self) -> int:
        return len(self._source)

    def read(self, index: int):
        assert index in self._allowed, f"row {index} was read, which is not of the training part"
        return self._source.read(index)


def test_the_trained_model_is_ranked_before_random_weights(photos: Dataset) -> None:
    ranking = tl.rank(photos, [TOY, DEFAULT_MODEL])
    assert [model.name for model in ranking.models] == [DEFAULT_MODEL, TOY]
    first, second = ranking.models
    assert first.behind is None
    assert first.tied
    assert second.behind is not None
    assert second.behind.value == pytest.approx(second.log_loss - first.log_loss)
    assert ranking.failed == ()
    assert ranking.rounds == ((2, 20),)
    assert ranking.verdict.startswith("embedded/resnet18_half suits photos best: accuracy ")


def test_the_numbers_are_those_of_the_scores(photos: Dataset) -> None:
    first = ranked(photos, [TOY, DEFAULT_MODEL]).models[0]
    train = tl.split_data(photos).train
    rows = train[probe_order(photos.labels[train], 0)][:20]
    values = tl.extract_features(photos, tl.open_backbone(), engine="torch", precision="f32").values[rows]
    ridge = ridge_left_out([values], photos.labels[rows], 3, groups=photos.groups[rows])
    assert first.score.value == ridge.accuracy
    assert first.score.n == 20
    assert first.scores["log_evidence"] == pytest.approx(log_evidence(values, photos.labels[rows]), abs=1e-6)


def test_leep_asks_the_classifier_that_the_weights_hold(photos: Dataset) -> None:
    import torch

    with_head = ranked(photos, [TOY, DEFAULT_MODEL])
    assert with_head.models[1].scores["leep"] is None
    model = import_timm().create_model("resnet18", num_classes=200, **tl.open_backbone().model_args).eval()
    model.load_state_dict(load_file(WEIGHTS))
    backbone = tl.open_backbone()
    train = tl.split_data(photos).train
    rows = train[probe_order(photos.labels[train], 0)][:20]
    pixels = np.stack([prepare(photos.source.read(int(row)), backbone.preparation) for row in rows])
    with torch.inference_mode():
        logits = model((torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5).double().numpy()
    assert with_head.models[0].scores["leep"] == pytest.approx(leep(softmax(logits), photos.labels[rows]), abs=1e-4)


def test_only_the_training_part_is_read(many: Dataset, clean_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    monkeypatch.setenv("THAWLINE_CACHE", str(clean_cache))  # nothing is there yet, so everything is read
    train = tl.split_data(many).train
    guarded = replace(many, source=OnlySome(many.source, train.tolist()))
    assert ranked(guarded, [DEFAULT_MODEL, RANDOM], share=1).models[0].score.n == len(train)


def test_models_in_front_are_shown_more(many: Dataset) -> None:
    models = [DEFAULT_MODEL, *(tl.open_backbone("embedded/resnet18_half", input_px=px) for px in (32, 40, 48, 56))]
    for model, px in zip(models[1:], (32, 40, 48, 56), strict=True):
        model.name = f"{px} px"
    ranking = ranked(many, models, share=0.2)
    (n_first, first), (n_second, second) = ranking.rounds
    assert n_first == 5
    assert n_second in (2, 3)
    assert first < second
    assert [model.rounds for model in ranking.models] == [2] * n_second + [1] * (5 - n_second)
    assert [model.score.n for model in ranking.models] == [second] * n_second + [first] * (5 - n_second)
    for going_on in (ranking.models[:n_second], ranking.models[n_second:]):
        losses = [model.log_loss for model in going_on]
        assert losses == sorted(losses)
    assert DEFAULT_MODEL in [model.name for model in ranking.models[:n_second]]  # computes most: always goes on
    behind = ranking.models[-1].behind
    assert behind is not None
    assert behind.n == first  # compared on what both have seen
    assert ranking.models[1].behind is not None
    assert ranking.models[1].behind.n == second
    assert 0.15 < ranking.work_frac <= 0.2


def test_small_data_get_a_least_number_of_pictures_and_large_ones_a_largest(many: Dataset) -> None:
    assert ranked(many, [DEFAULT_MODEL, RANDOM], share=0.001).rounds == ((2, 20),)
    assert ranked(many, [DEFAULT_MODEL, RANDOM], share=1, n_probe=33).rounds == ((2, 33),)


def test_equal_models_are_not_told_apart(photos: Dataset, tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(WEIGHTS.read_bytes())
    ranking = ranked(photos, [DEFAULT_MODEL, str(copy)])
    assert all(model.tied for model in ranking.models)
    assert f"not distinguishable on these pictures from timm/resnet18@{copy.name}" in ranking.verdict


def test_where_nothing_is_learned_the_verdict_says_so(noise: Dataset) -> None:
    ranking = ranked(noise, [DEFAULT_MODEL, RANDOM])
    assert "But always naming the commonest class reaches 0.5" in ranking.verdict
    low, high = ranking.models[0].score.ci95
    assert low <= 0.5 <= high


def test_random_weights_lead_only_where_they_are_clearly_better(photos: Dataset, monkeypatch) -> None:
    def favouring(loss_of_random: float):
        def ridge(depths, labels, n_classes, *, groups=None):
            right = loss_of_random if depths[0].shape[1] != 256 else 0.5
            logits = np.log(np.full((len(labels), n_classes), (1 - np.exp(-right)) / (n_classes - 1)))
            spread = np.linspace(-0.3, 0.3, len(labels)) * (1 if right == 0.5 else -1)
            logits[np.arange(len(labels)), labels] = -right + spread
            return LeftOut(logits, labels)

        return ridge

    for loss, first in ((0.49, DEFAULT_MODEL), (0.01, RANDOM)):
        monkeypatch.setattr("thawline.planning.halving.ridge_left_out", favouring(loss))
        monkeypatch.setattr(
            "thawline.planning.halving.knn_left_out",
            lambda values, labels, n_classes, groups, loss=loss: favouring(loss)([values], labels, n_classes),
        )
        assert ranked(photos, [RANDOM, DEFAULT_MODEL]).models[0].name == first


def test_several_depths_are_judged_where_asked(noise: Dataset) -> None:
    deep = ranked(noise, [DEFAULT_MODEL, RANDOM], depths=True, n_probe=40, share=1).models
    assert {model.name for model in deep} == {DEFAULT_MODEL, RANDOM}
    own = next(model for model in deep if model.name == DEFAULT_MODEL)
    train = tl.split_data(noise).train
    rows = train[probe_order(noise.labels[train], 0)][:40]
    backbone = tl.open_backbone()
    depths = tl.extract_rungs(noise, backbone, depth_rungs(backbone.ladder), engine="torch", precision="f32")
    ridge = ridge_left_out([depth.values[rows] for depth in depths], noise.labels[rows], 2)
    knn = knn_left_out(depths[-1].values[rows], noise.labels[rows], 2)
    assert own.log_loss == pytest.approx((ridge.log_loss + knn.log_loss) / 2, abs=1e-6)
    assert own.score.value == ridge.accuracy
    assert ridge.log_loss != ridge_left_out([depths[-1].values[rows]], noise.labels[rows], 2).log_loss


def test_one_seed_one_ranking(photos: Dataset) -> None:
    def numbers(ranking: Ranking) -> list[object]:
        return [(model.name, model.score, model.log_loss, dict(model.scores)) for model in ranking.models]

    models = [DEFAULT_MODEL, RANDOM]
    assert numbers(ranked(photos, models, seed=3)) == numbers(ranked(photos, models, seed=3))
    assert numbers(ranked(photos, models, seed=3)) != numbers(ranked(photos, models, seed=4))


def test_json_is_the_contract(photos: Dataset) -> None:
    found = ranked(photos, [DEFAULT_MODEL, TOY, "timm/no_such_model"]).to_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert list(found) == ["models", "failed", "verdict", "n_train", "rounds", "work_frac", "seconds", "warnings"]
    assert list(found["models"][0])[:4] == ["name", "score", "ci95", "seconds"]
    assert set(found["models"][0]["scores"]) == {"knn", "log_evidence", "h_score", "leep", "nleep"}


def test_a_model_that_cannot_be_opened_is_a_line_and_no_end(photos: Dataset, tmp_path: Path) -> None:
    bare = tmp_path / "bare.safetensors"
    save_file(load_file(WEIGHTS), bare)
    wrong = f"timm/resnet18@{bare}"
    ranking = ranked(photos, [DEFAULT_MODEL, "timm/resnet18.a1_in1k", "timm/resne", str(bare), wrong, RANDOM])
    assert {model.name for model in ranking.models} == {DEFAULT_MODEL, RANDOM}
    reasons = {model.name: model.reason for model in ranking.failed}
    assert "must be fetched from the model hub" in reasons["timm/resnet18.a1_in1k"]
    assert "must be one that timm knows" in reasons["timm/resne"]
    assert "does not. Write timm/ARCHITECTURE@" in reasons[str(bare)]
    assert "tensors differ" in reasons[wrong]


def test_where_none_can_be_opened_every_reason_is_told(photos: Dataset) -> None:
    with pytest.raises(ModelError, match=r"none could\. timm/a: .*timm/b: "):
        ranked(photos, "timm/a,timm/b")


@pytest.mark.parametrize(
    ("models", "options", "text"),
    [
        (DEFAULT_MODEL, {}, f"at least two, to be compared; got {DEFAULT_MODEL}"),
        ([], {}, "at least two, to be compared; got none"),
        ("timm/a,timm/b,timm/a", {}, "models must be different; got timm/a 2 times"),
        ("all", {}, f"this disk holds only {DEFAULT_MODEL}"),
        ("a,b", {"share": 0}, "share must be above 0 and at most 1; got 0"),
        ("a,b", {"share": 15}, "Write 0.1 for 10 %"),
        ("a,b", {"n_probe": 5}, r"n_probe \(--probe\) must be at least 20 samples; got 5"),
        (f"{DEFAULT_MODEL},{RANDOM}", {"engine": "steam"}, "engine must be auto"),
        (f"{DEFAULT_MODEL},{RANDOM}", {"fractions": (0.0, 0.5, 0.5)}, "fractions must be three shares"),
    ],
)
def test_what_cannot_be_asked_is_refused(photos: Dataset, models, options, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        ranked(photos, models, **options)


def test_candidates_are_files_folders_and_what_is_on_this_disk(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.safetensors").write_bytes(WEIGHTS.read_bytes())
    files = [str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors")]
    assert names_of(str(tmp_path)) == files
    assert names_of(f"all, {tmp_path}") == [DEFAULT_MODEL, *files]
    assert names_of(f"{DEFAULT_MODEL}, all, {files[0]}") == [DEFAULT_MODEL, files[0]]
    assert open_contender(files[0], 0).name == f"timm/resnet18@{files[0]}"
    assert on_disk() == [DEFAULT_MODEL]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds none"):
        names_of(f"all,{tmp_path / 'empty'}")


def test_what_the_hub_cache_holds_is_on_this_disk(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "models--timm--test_resnet.r160_in1k").mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(
        "thawline.backbones.providers.hub.is_fetched", lambda repository: repository == "timm/test_resnet.r160_in1k"
    )
    assert on_disk() == [DEFAULT_MODEL, "timm/test_resnet.r160_in1k"]


def test_random_weights_are_drawn_by_the_seed_and_described_by_a_file() -> None:
    first, again, other = (open_contender(TOY, seed) for seed in (0, 0, 1))
    assert first.weights_sha256 == again.weights_sha256 != other.weights_sha256
    assert first.name == TOY
    described = open_contender(f"random/resnet18@{WEIGHTS}", 0)
    assert described.preparation == tl.open_backbone().preparation != first.preparation
    with pytest.raises(ModelError, match="must be one that timm knows"):
        open_contender("random/nothing", 0)
    with pytest.raises(ModelError, match="model must be random/ARCHITECTURE"):
        open_contender("random/", 0)


def test_every_beginning_holds_the_classes_in_proportion() -> None:
    labels = np.repeat([0, 1, 2, 3], [400, 150, 40, 2])
    order = probe_order(labels, 0)
    assert sorted(order) == list(range(592))
    assert np.array_equal(np.bincount(labels[order[:8]]), [2, 2, 2, 2])
    for n in (60, 150, 300):
        held = np.bincount(labels[order[:n]])[:3]
        assert held == pytest.approx(n * np.array([400, 150, 40]) / 592, abs=4)
    assert not np.array_equal(order, probe_order(labels, 1))


def test_a_third_goes_on_and_never_fewer_than_two() -> None:
    assert round_sizes(2) == [2]
    assert round_sizes(3) == [3]
    assert round_sizes(5) == [5, 2]
    assert round_sizes(20) == [20, 7, 3]
