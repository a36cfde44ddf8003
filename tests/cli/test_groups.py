"""Each option is defined once, and a verb gets what was typed as records."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import pytest
from typer.main import get_command

from thawline.backbones import DEFAULT_MODEL
from thawline.cli.app import app
from thawline.cli.groups import grouped, only, option_names, without
from thawline.cli.options import ComputeOptions, DataOptions, ModelOptions, OutputOptions, TrainingOptions

GROUPS = (DataOptions, ModelOptions, TrainingOptions, ComputeOptions, OutputOptions)


def test_an_option_is_the_same_in_every_verb() -> None:
    verbs: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    shared = {name for group in GROUPS for name in option_names(group)}
    seen: dict[str, tuple[object, ...]] = {}
    own = {("ladder", name) for name in ("model", "thaw", "head", "hidden")}  # a model alone, and no `auto`
    for verb, command in verbs.items():
        for option in command.params:
            if option.name in shared and (verb, option.name) not in own:
                about = (option.opts, option.default, option.help, option.rich_help_panel)
                assert seen.setdefault(option.name, about) == about, (verb, option.name)
    assert set(seen) == shared


def test_the_help_names_the_default_model() -> None:
    fit: Any = get_command(app).commands["fit"]  # type: ignore[attr-defined]
    (model,) = (option for option in fit.params if option.name == "model")
    assert f"(default: {DEFAULT_MODEL})" in model.help


def test_a_verb_gets_records() -> None:
    got: list[Any] = []

    def verb(name: str, *, compute: Annotated[ComputeOptions, without("seed")], output: OutputOptions) -> None:
        got.extend((name, compute.seed, compute.device, output.silent))

    spread = grouped(verb)
    parameters = inspect.signature(spread).parameters
    assert list(parameters) == ["name", "engine", "precision", "device", "json_", "quiet"]
    assert parameters["device"].default == "auto"
    spread(name="x", engine="torch", precision="f32", device="cpu", json_=False, quiet=True)
    assert got == ["x", 0, "cpu", True]


def test_a_choice_of_options_that_are_none_is_refused() -> None:
    def verb(*, output: Annotated[OutputOptions, only("jsno")]) -> None:
        pass

    with pytest.raises(AssertionError, match="OutputOptions lacks"):
        grouped(verb)
