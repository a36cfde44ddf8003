"""Plans: decided, written, read back, and refused when they cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import thawline as tl
from thawline.errors import UsageError
from thawline.planning import Candidate, FitPlan, read_plan, write_plan
from thawline.training.settings import StagePlan, TrainPlan


class Backbone:
    name = "timm/small@weights.safetensors"
    weights_sha256 = "ab" * 32
    preparation, notes, frozen_only, reads_windows = None, (), False, False
    settings = {"mean": (0.5, 0.5, 0.5), "model_args": {"pad_type": "same"}}  # noqa: RUF012

    def prepared_for(self, samples: object) -> Backbone:
        return self


class Data:
    classes = ("ants", "bees")
    digests = ()
    drawn = 0
    targets = None
    target = "class"
    truth = np.zeros(1234, np.int64)

    def __len__(self) -> int:
        return 1234


@pytest.fixture(autouse=True)
def unlooked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-ins have no weights and no pictures to check the preparation with."""
    monkeypatch.setattr("thawline.planning.making.notes_on", lambda data, backbone: backbone.notes)


def test_a_plan_says_what_and_why() -> None:
    plan = tl.plan(Data(), Backbone(), thaw="none", seed=7)  # type: ignore[arg-type]
    assert (plan.model, plan.weights_sha256, plan.seed, plan.thaw) == (
        Backbone.name,
        Backbone.weights_sha256,
        7,
        "none",
    )
    assert plan.model_settings == Backbone.settings
    assert "1,234 samples in 2 classes" in plan.reasons[0]


def test_what_was_asked_for_is_not_measured(tmp_path: Path) -> None:
    for asked in ({"layer": "blocks.4"}, {"head": "ridge"}):
        plan = tl.plan(Data(), Backbone(), thaw="auto", **asked)  # type: ignore[arg-type]
        assert (plan.thaw, plan.candidates, plan.verdict) == ("none", (), "")


def test_a_layer_that_was_asked_for_is_a_reason() -> None:
    assert "Features are read at blocks.4, as asked." in tl.plan(Data(), Backbone(), layer="blocks.4").reasons  # type: ignore[arg-type]


@given(
    seed=st.integers(0, 2**63 - 1),
    model=st.text(st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=("Cs", "Cc")), min_size=1),
    head=st.sampled_from(["logistic", "ridge", "svm"]),
    precision=st.sampled_from(["auto", "f32", "bf16"]),
)
def test_a_plan_survives_its_file(tmp_path_factory: pytest.TempPathFactory, **settings: object) -> None:
    path = tmp_path_factory.mktemp("plan") / "plan.toml"
    plan = FitPlan(model_settings={"mean": [0.5, 0.25, 0.125], "model_args": {"a": True}}, **settings)  # type: ignore[arg-type]
    write_plan(plan, path)
    assert read_plan(path) == plan


shares = st.floats(0.001, 1)


@given(
    training=st.builds(
        TrainPlan,
        optimiser=st.sampled_from(["adamw", "sgd"]),
        lr=st.floats(1e-9, 10),
        momentum=st.floats(0, 0.999),
        batch_size=st.integers(1, 65_536),
        crop_scale=st.tuples(shares, shares).map(lambda pair: (min(pair), max(pair))),
        refit=st.booleans(),
    ),
    stages=st.lists(
        st.builds(
            StagePlan,
            thaw=st.sampled_from(["last:2", r"regex:a\.b|\"c\"", "30%"]),
            rung=st.sampled_from(["pooled", "blocks.1"]),
            epochs=st.integers(1, 100),
            views=st.integers(0, 9),
            adds=st.lists(st.sampled_from(["a.weight", "b.0.bias"]), unique=True).map(tuple),
        ),
        max_size=3,
    ).map(tuple),
)
def test_tables_survive_the_file(
    tmp_path_factory: pytest.TempPathFactory, training: TrainPlan, stages: tuple[StagePlan, ...]
) -> None:
    path = tmp_path_factory.mktemp("plan") / "plan.toml"
    plan = FitPlan(model="embedded/x", thaw="last:2", training=training, stages=stages, reasons=("So.", "And so."))
    write_plan(plan, path)
    assert read_plan(path) == plan


def test_the_file_explains_each_setting(tmp_path: Path) -> None:
    stage = StagePlan(thaw="last:2", rung="blocks.1", epochs=3, views=2, adds=("a",))
    candidate = Candidate(
        name="last layer", thaw="none", layer="pooled", head="logistic", score=0.5, ci95=(0.4, 0.6), log_loss=0.7,
        n=100,
        behind=(0.1, 0.2), seconds=1.5, bytes=0, why="clearly worse",
    )  # fmt: skip
    plan = FitPlan(model="embedded/x", training=TrainPlan(), stages=(stage, stage), candidates=(candidate,))
    write_plan(plan, tmp_path / "plan.toml")
    text = (tmp_path / "plan.toml").read_text()
    for name, field in FitPlan.model_fields.items():
        tables = {"training": "\n[training]", "stages": "\n[[stages]]", "candidates": "\n[[candidates]]"}
        start = tables.get(name, f"{name} = ")
        assert f"# {field.description}\n{start}" in text
    for kind in (TrainPlan, StagePlan, Candidate):
        for name, field in kind.model_fields.items():
            assert text.count(f"# {field.description}\n{name} = ") == 1  # of stages, the first is explained
    assert text.count("[[stages]]") == 2


def test_a_plan_without_training_has_no_tables(tmp_path: Path) -> None:
    write_plan(FitPlan(model="embedded/x"), tmp_path / "plan.toml")
    text = (tmp_path / "plan.toml").read_text()
    assert "[training]" not in text
    assert "stages" not in text


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"thaw": 3}, r"thaw: Input should be a valid string, got 3"),
        ({"head": "forest"}, r"head: Input should be 'logistic', 'ridge', 'svm' or 'mlp', got 'forest'"),
        ({"hidden": (8,)}, r"together: hidden and dropout must come with head mlp; got head logistic"),
        ({"head": "mlp", "hidden": (0,)}, r"hidden: must be at most 8 widths from 1 to 65,536, such as 256,128"),
        ({"head": "mlp", "hidden": (8,) * 9}, r"hidden: must be at most 8 widths"),
        ({"head": "mlp", "dropout": 1.0}, r"dropout: Input should be less than 1, got 1.0"),
        ({"from_scratch": True, "thaw": "last:2"}, r"from_scratch must go with thaw all, .* got thaw last:2"),
        (
            {"thaw": "none", "training": {"lr": 0.1}},
            r"settings of training \(lr\) must have something to train; with thaw none",
        ),
        ({"fractions": (0.5, 0.5, 0.5)}, r"fractions: must be three shares that sum to 1"),
        ({"fractions": (0.9, 0.1, 0.0)}, r"fractions: must be three shares"),
        ({"seed": -1}, r"seed: Input should be greater than or equal to 0"),
        ({"colour": "red"}, r"colour: no such setting\."),
        ({"sede": 1}, r"sede: no such setting. Did you mean 'seed'"),
        ({"head": "forest", "engine": "steam"}, r"head: .*; engine: .*got 'steam' \(the settings given\)"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        tl.plan(Data(), Backbone(), **settings)  # type: ignore[arg-type]


def test_a_file_that_is_no_plan(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    with pytest.raises(UsageError, match=r"plan must be a readable TOML file; .*plan.toml"):
        read_plan(path)
    path.write_text("model = ")
    with pytest.raises(UsageError, match="plan must be a readable TOML file"):
        read_plan(path)
    path.write_text('model = "embedded/x"\n[training]\nlearning_rate = 1\nlr = 11\n[[stages]]\nthaw = "all"')
    problems = r"training.lr: .*, got 11.*training.learning_rate: no such setting.*stages.0.rung: Field required"
    with pytest.raises(UsageError, match=problems):
        read_plan(path)
    path.write_text("seed = 1")
    with pytest.raises(UsageError, match=r"model: Field required.*\(.*plan.toml\)"):
        read_plan(path)
