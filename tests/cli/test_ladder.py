"""``thawline ladder``: for people at 100 columns, for programs, and offline."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from safetensors.torch import save_file

from thawline.backbones import open_backbone
from thawline.backbones.providers.embedded import EMBEDDED
from thawline.backbones.providers.timm_import import import_timm
from thawline.errors import ModelError, UnknownModelError, UsageError

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"
KEYS = {"name", "stage", "kind", "shape", "parameters", "trainable", "flops_below_frac", "bytes_per_sample"}
SHOWN = re.findall(r"^\$ (thawline ladder .*)\n([^$`]+)", DOCS.read_text("utf-8"), re.MULTILINE)


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


def test_the_documentation_shows_two_models() -> None:
    assert len({command.split()[2] for command, _ in SHOWN}) == 2


@pytest.mark.parametrize(("command", "printed"), SHOWN)
def test_what_the_documentation_shows_is_what_is_printed(thawline, command: str, printed: str) -> None:
    answer = thawline(*command.split()[1:])
    assert answer.code == 0, answer.err
    assert lines(answer.out) == lines(printed)
    assert max(map(len, lines(answer.out))) <= 100


def test_json_is_the_contract(thawline) -> None:
    answer = thawline("ladder", "embedded/resnet18_half", "--thaw", "stage:layer4", "--json").json
    assert list(answer) == ["model", "layers", "parameters", "trainable", "frozen", "rungs"]
    assert answer["parameters"] == EMBEDDED["resnet18_half"].parameters == answer["trainable"] + answer["frozen"]
    assert all(set(rung) == KEYS for rung in answer["rungs"])
    module = open_backbone("embedded/resnet18_half").module()
    assert answer["trainable"] == sum(parameter.numel() for parameter in module.layer4.parameters())
    for rung in answer["rungs"]:
        assert rung["trainable"] == (rung["parameters"] if rung["stage"] == "layer4" else 0)
    assert answer["rungs"][-1]["shape"] == [256]


def test_a_head_is_counted_before_and_after(thawline) -> None:
    bare = thawline("ladder", "embedded/resnet18_half", "--json").json
    answer = thawline("ladder", "embedded/resnet18_half", "--head", "10", "--json").json
    head = 256 * 10 + 10
    assert answer == bare | {"head": {"classes": 10, "hidden": [], "parameters": head}}
    total = bare["parameters"]
    rows = [
        re.split(r"  +", line.strip())
        for line in lines(thawline("ladder", "embedded/resnet18_half", "--head", "10").out)
    ]
    assert ["backbone", f"{total:,}", "0", f"{total:,}"] in rows
    assert ["linear head of 10 classes", f"{head:,}", f"{head:,}", "0"] in rows
    assert thawline("ladder", "embedded/resnet18_half", "--head", "1").code == 2
    deep = thawline("ladder", "embedded/resnet18_half", "--head", "10", "--hidden", "64,32", "--json").json
    assert deep["head"]["parameters"] == (256 + 1) * 64 + (64 + 1) * 32 + (32 + 1) * 10
    alone = thawline("ladder", "embedded/resnet18_half", "--hidden", "64")
    assert alone.code == 2 and "--head 4" in alone.err


@pytest.mark.parametrize(
    ("setting", "rung"), [("none", "pooled"), ("all", "input"), ("stage:layer4", "layer3.0"), ("40%", "layer3.0")]
)
def test_the_line_is_drawn_where_it_stands(thawline, setting: str, rung: str) -> None:
    rungs = [rung["name"] for rung in thawline("ladder", "timm/test_resnet", "--json").json["rungs"]]
    rows = [line.split() for line in lines(thawline("ladder", "timm/test_resnet", "--thaw", setting).out)]
    line = next(i for i, row in enumerate(rows) if row[:2] == ["thaw", "line"])
    assert rows[line - 1][0] == rung
    before, after = ([row for row in part if row and row[0] in rungs] for part in (rows[:line], rows[line:]))
    assert [row[0] for row in before + after] == rungs
    assert {row[-1] for row in before} <= {"frozen", "-"}
    assert {row[-1] for row in after} <= {"thawed", "-"}


def test_a_thaw_inside_layers_lists_the_exact_names(thawline) -> None:
    answer = thawline("ladder", "timm/test_resnet", "--thaw", r"regex:layer2\.0\.bn1")
    assert "less than 0.1%" in answer.out or "% of the parameters" in answer.out
    assert "Exactly these learn: layer2.0.bn1.weight, layer2.0.bn1.bias" in answer.out
    assert "3 running statistics of thawed normalisation layers change, too." in answer.out
    row = next(line for line in lines(answer.out) if line.startswith("layer2.0 "))
    assert row.endswith("partly")
    whole = thawline("ladder", "timm/test_resnet", "--thaw", "stage:layer2")
    assert "Exactly these learn" not in whole.out


def test_a_narrow_pipe_cuts_no_number(thawline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    answer = thawline("ladder", "timm/test_resnet", "--thaw", "all")
    for rung in thawline("ladder", "timm/test_resnet", "--json").json["rungs"]:
        if rung["parameters"]:
            row = next(line.split() for line in lines(answer.out) if line.startswith(f"{rung['name']} "))
            assert row[3:5] == ["x".join(map(str, rung["shape"])), f"{rung['parameters']:,}"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["timm/test_resnet", "--thaw", "last:0"], "The nearest that does is last:1"),
        (["timm/test_resnet", "--thaw", "stage:layer9"], "must name a stage of timm/test_resnet; got 'layer9'"),
        (["timm/test_resne"], "Did you mean"),
        (["timm/test_resnet.nobody"], "got tag 'nobody'"),
        (["timm/test_resnet@none.safetensors"], "none.safetensors is not there"),
        (["test_resnet"], "model must be embedded/NAME, timm/NAME or"),
        (["timm/test_resnet", "--sha256", "0" * 64], "those of timm/test_resnet stay on the hub here. Leave it out"),
        (["timm/test_resnet", "--model-arg", "depth=3"], "model arguments must be ones that timm's test_resnet takes"),
    ],
)
def test_what_cannot_be_is_one_sentence(thawline, arguments: list[str], text: str) -> None:
    answer = thawline("ladder", *arguments)
    assert answer.code == 2
    assert text in " ".join(answer.err.split())
    assert answer.out == ""
    assert thawline("ladder", *arguments, "--json").json["error"]["message"]


def test_options_reach_the_model(thawline) -> None:
    small = thawline("ladder", "timm/test_resnet", "--input-px", "64", "--model-arg", "in_chans=3", "--json").json
    assert small["rungs"][0]["shape"] == [3, 64, 64]


def test_a_file_of_weights_says_what_it_is(thawline, tmp_path: Path) -> None:
    model = import_timm().create_model("test_resnet", num_classes=3)
    path = tmp_path / "w.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    answer = thawline("ladder", f"timm/test_resnet@{path}", "--json").json
    assert answer["rungs"] == thawline("ladder", "timm/test_resnet", "--json").json["rungs"]
    assert answer["model"] == f"timm/test_resnet@{path}"


def test_a_backbone_opened_for_its_architecture_cannot_be_run() -> None:
    backbone = open_backbone("timm/test_resnet.r160_in1k", architecture_only=True)
    assert backbone.preparation.input_px == (160, 160)
    for use in (backbone.module, backbone.n_parameters, backbone.tensors.load, lambda: backbone.weights_sha256):
        with pytest.raises(ModelError, match=r"opened for its architecture only; to run it, open it with its weights"):
            use()
    with pytest.raises(UnknownModelError, match="Did you mean"):
        open_backbone("timm/test_resne", architecture_only=True)
    with pytest.raises(UsageError, match="Leave it out"):
        open_backbone("timm/test_resnet", architecture_only=True, sha256="0" * 64)
