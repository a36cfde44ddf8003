"""What the commands say of how weights were loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

import thawline as tl
from thawline.backbones.providers.embedded import EMBEDDED
from thawline.runs import open_run

SMALL = ("--model-arg", f"channels={json.dumps([32, 64, 128, 256])}", "--input-px", "32")
DEEPER = ("--model-arg", "layers=[2,2,2,3]")
"""A third block in the last stage, which no file has."""


@pytest.fixture
def model(tmp_path: Path) -> str:
    """The weights of the embedded model, without what they say of themselves."""
    path = tmp_path / "w.safetensors"
    save_file(load_file(next(iter(EMBEDDED.values())).path), path)
    return f"timm/resnet18@{path}"


def in_one_line(text: str) -> str:
    return " ".join(text.split())


def test_fit_and_plan_say_how_the_weights_were_loaded(thawline, tiny_photos: Path, tmp_path: Path) -> None:
    summary = tl.open_backbone().load_receipt().summary
    fitted = thawline("fit", tiny_photos, "--thaw", "none", "--run", tmp_path / "run", "--quiet")
    assert f"Weights: {summary}" in in_one_line(fitted.out)
    assert "tensors were" not in fitted.out
    planned = thawline("plan", tiny_photos, "--thaw", "none", "--out", tmp_path / "plan.toml", "--quiet")
    assert f"Weights: {summary}" in in_one_line(planned.out)
    assert f"<dt>Load receipt</dt><dd>{summary.replace('>', '&gt;')}</dd>" in (tmp_path / "run/report.html").read_text()


def test_fit_by_name_prints_what_did_not_match(thawline, model: str, tiny_photos: Path, tmp_path: Path) -> None:
    asked = ("fit", tiny_photos, "--model", model, *SMALL, *DEEPER, "--thaw", "none", "--run", tmp_path / "run")
    refused = thawline(*asked)
    assert refused.code == 2 and "must fit the architecture" in refused.err
    fitted = thawline(*asked, "--weights-by-name", "--quiet")
    assert fitted.code == 0, fitted.err
    told = json.loads((tmp_path / "run/load_receipt.json").read_text())
    assert told["tensors"]["random"] == 10 and told["tensors"]["unused"] == 2
    assert {row["name"].rpartition(".")[0] for row in told["each"] if row["fate"] == "random"} == {
        f"layer4.2.{layer}" for layer in ("conv1", "conv2", "bn1", "bn2")
    }
    shown = in_one_line(fitted.out)
    assert f"Weights: {told['summary']}" in shown
    assert "tensors were how, or why tensors numbers such as" in shown and "random not in the file 10" in shown
    assert "10 begin random, first layer4.2.conv1.weight" in shown
    assert open_run(tmp_path / "run").load_receipt.to_json() == told
    replayed = thawline("fit", tiny_photos, "--plan", tmp_path / "run/plan.toml", "--run", tmp_path / "again", "--json")
    assert replayed.json["load_receipt"] == told["tensors"] | {"summary": told["summary"]}


def test_ladder_prints_each_tensor_that_was_not_loaded_as_stored(thawline, model: str) -> None:
    asked = ("ladder", model, *SMALL, *DEEPER, "--weights-by-name")
    answer = thawline(*asked, "--receipt")
    assert answer.code == 0, answer.err
    rows = [line for line in answer.out.splitlines() if "layer4.2.conv1.weight" in line]
    assert any("random" in row and "256 x 256 x 3 x 3" in row and "not in the file" in row for row in rows)
    assert "Weights:" not in thawline(*asked).out
    receipt = thawline(*asked, "--receipt", "--json").json["load_receipt"]
    assert receipt["tensors"]["random"] == 10
    assert len(receipt["each"]) == sum(receipt["tensors"].values())


def test_by_name_needs_a_file(thawline, tiny_photos: Path) -> None:
    answer = thawline("fit", tiny_photos, "--weights-by-name")
    assert answer.code == 2 and "weights by name must come from a file" in answer.err
