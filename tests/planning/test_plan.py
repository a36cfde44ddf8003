"""Plans: decided, written, read back, and refused when they cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import thawline as tl
from thawline.errors import UsageError
from thawline.planning import FitPlan, read_plan, write_plan


class Backbone:
    name = "timm/small@weights.safetensors"
    weights_sha256 = "ab" * 32
    settings = {"mean": (0.5, 0.5, 0.5), "model_args": {"pad_type": "same"}}  # noqa: RUF012


class Data:
    classes = ("ants", "bees")

    def __len__(self) -> int:
        return 1234


def test_a_plan_says_what_and_why() -> None:
    plan = tl.plan(Data(), Backbone(), seed=7)  # type: ignore[arg-type]
    assert (plan.model, plan.weights_sha256, plan.seed, plan.thaw) == (
        Backbone.name,
        Backbone.weights_sha256,
        7,
        "none",
    )
    assert plan.model_settings == Backbone.settings
    assert "1,234 samples in 2 classes" in plan.reasons[0]


def test_auto_is_resolved_and_written_as_what_it_means(tmp_path: Path) -> None:
    plan = tl.plan(Data(), Backbone(), thaw="auto")  # type: ignore[arg-type]
    write_plan(plan, tmp_path / "plan.toml")
    assert 'thaw = "none"' in (tmp_path / "plan.toml").read_text()


def test_a_layer_that_was_asked_for_is_a_reason() -> None:
    assert "Features are read at blocks.4, as asked." in tl.plan(Data(), Backbone(), layer="blocks.4").reasons  # type: ignore[arg-type]


@given(
    seed=st.integers(0, 2**63 - 1),
    model=st.text(st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=("Cs", "Cc")), min_size=1),
    head=st.sampled_from(["logistic", "ridge"]),
    precision=st.sampled_from(["auto", "f32", "bf16"]),
)
def test_a_plan_survives_its_file(tmp_path_factory: pytest.TempPathFactory, **settings: object) -> None:
    path = tmp_path_factory.mktemp("plan") / "plan.toml"
    plan = FitPlan(model_settings={"mean": [0.5, 0.25, 0.125], "model_args": {"a": True}}, **settings)  # type: ignore[arg-type]
    write_plan(plan, path)
    assert read_plan(path) == plan


def test_the_file_explains_each_setting(tmp_path: Path) -> None:
    write_plan(FitPlan(model="embedded/x"), tmp_path / "plan.toml")
    text = (tmp_path / "plan.toml").read_text()
    for name, field in FitPlan.model_fields.items():
        assert f"# {field.description}\n{name} = " in text


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"thaw": "last:3"}, r"thaw: must be auto or none: .*, got 'last:3'"),
        ({"head": "svm"}, r"head: Input should be 'logistic' or 'ridge', got 'svm'"),
        ({"fractions": (0.5, 0.5, 0.5)}, r"fractions: must be three shares that sum to 1"),
        ({"fractions": (0.9, 0.1, 0.0)}, r"fractions: must be three shares"),
        ({"seed": -1}, r"seed: Input should be greater than or equal to 0"),
        ({"colour": "red"}, r"colour: no such setting\."),
        ({"sede": 1}, r"sede: no such setting. Did you mean 'seed'"),
        ({"head": "svm", "engine": "steam"}, r"head: .*; engine: .*got 'steam' \(the settings given\)"),
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
    path.write_text("seed = 1")
    with pytest.raises(UsageError, match=r"model: Field required.*\(.*plan.toml\)"):
        read_plan(path)
