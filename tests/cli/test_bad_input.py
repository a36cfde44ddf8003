"""Whatever a user can mend is one clear sentence and exit code 2, and leaves nothing behind."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from thawline.backbones.providers.embedded import EMBEDDED
from thawline.runs.folder import require_complete

WEIGHTS = next(iter(EMBEDDED.values())).path


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def refused(answer, text: str) -> None:
    """Exit code 2, one sentence on standard error, nothing on standard output, nothing on disk."""
    said = " ".join(answer.err.split())
    assert answer.code == 2, said
    assert said.count("error: ") == 1
    assert text in said
    assert "Traceback" not in said
    assert answer.out == ""
    assert not list(Path().rglob("*metrics.json"))
    assert not [path for path in Path().rglob("*") if path.name.endswith((".partial", ".unfinished"))]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--model", "timm/mobilenetv2_10"], "Did you mean"),
        (["--model", "mobilenet"], "model must be embedded/NAME, timm/NAME or timm/NAME@FILE"),
        (["--model", "timm/resnet18@none.safetensors"], "none.safetensors is not there"),
        (["--model", "timm/resnet18.a1_in1k"], "must be fetched from the model hub"),
        (["--model", f"timm/resnet34@{WEIGHTS}"], "says it holds 'resnet18'"),
        (["--model", f"timm/resnet18@{WEIGHTS}", "--sha256", "0" * 64], "must have SHA-256 000"),
        (
            ["--model", f"timm/resnet18@{WEIGHTS}", "--model-arg", "stem_kernel_size"],
            "--model-arg must be NAME=VALUE",
        ),
        (["--mean", "a"], "--mean must be one number or three"),
        (["--std", "1,2"], "--std must be one number or three"),
        (["--split", "70/30"], "--split must be three shares such as 70/15/15; got '70/30'"),
        (["--split", "100/0/0"], "must be three shares that sum to 1"),
        (["--thaw", "last:0"], "thaw last:0 unlocks nothing"),
        (
            ["--thaw", "stage:layer9"],
            "must name a stage of embedded/resnet18_half; got 'layer9'. Did you mean 'layer4'",
        ),
        (["--head", "forest"], "head: Input should be 'logistic', 'ridge', 'svm' or 'mlp', got 'forest'"),
        (
            ["--head", "mlp", "--hidden", "256;128"],
            "--hidden must be widths with commas, such as 256,128; got '256;128'",
        ),
        (["--hidden", "256"], "hidden and dropout must come with head mlp; got head logistic"),
        (["--thaw", "none", "--epochs", "3"], "must have something to train"),
        (["--thaw", "last:1", "--lr", "-1"], "lr: Input should be greater than 0"),
        (
            ["--thaw", "last:1", "--set", "ephocs=3"],
            "--set must name a setting of training; got 'ephocs'. Did you mean 'epochs'",
        ),
        (
            ["--thaw", "last:1", "--set", "optimiser"],
            "--set must be NAME=VALUE, such as optimiser=sgd; got 'optimiser'",
        ),
        (["--thaw", "last:1", "--set", "optimiser=adam"], "optimiser: Input should be 'adamw' or 'sgd', got 'adam'"),
        (["--lr", "0.1", "--set", "lr=0.2"], "lr must be set once; got --set lr and --lr. Leave one out."),
        (["--layer", "layer9"], "a layer of resnet18; got 'layer9'"),
        (["--precision", "f8"], "got 'f8'"),
        (["--engine", "steam"], "got 'steam'"),
        (["--device", "abacus"], "got 'abacus'"),
        (["--plan", "none.toml"], "plan must be a readable TOML file"),
    ],
)
def test_options_that_cannot_be(thawline, tiny_photos: Path, options: list[str], text: str) -> None:
    refused(thawline("fit", tiny_photos, "--quiet", *options), text)


def test_weights_of_another_architecture(thawline, tiny_photos: Path, tmp_path: Path) -> None:
    save_file(load_file(WEIGHTS), tmp_path / "bare.safetensors")
    answer = thawline("fit", tiny_photos, "--quiet", "--model", f"timm/resnet18@{tmp_path / 'bare.safetensors'}")
    refused(answer, "tensors differ")


def test_data_that_cannot_be(thawline, tmp_path: Path) -> None:
    refused(thawline("fit", "no-such-folder"), "no-such-folder does not exist")
    (tmp_path / "empty").mkdir()
    refused(thawline("fit", tmp_path / "empty"), "empty")
    (tmp_path / "latin.csv").write_bytes("filename,label\n\xe9.png,a\n".encode("latin-1"))
    refused(thawline("fit", tmp_path / "latin.csv"), "UTF-8")


def test_errors_are_json_too_when_json_was_asked(thawline) -> None:
    answer = thawline("fit", "no-such-folder", "--json")
    assert answer.code == 2
    assert answer.json["error"]["kind"] == "MissingDataError"
    assert "no-such-folder does not exist" in answer.json["error"]["message"]


def test_strict_refuses_what_is_otherwise_skipped(thawline, tiny_photos: Path) -> None:
    (tiny_photos / "disc" / "zero.jpg").write_bytes(b"")
    refused(thawline("fit", tiny_photos, "--quiet", "--strict"), "zero.jpg")
    answer = thawline("fit", tiny_photos, "--json")
    assert answer.code == 0
    assert [skipped["file"] for skipped in answer.json["skipped"]] == ["disc/zero.jpg"]


@pytest.mark.parametrize("verb", ["report", "evaluate", "predict"])
def test_a_run_folder_that_is_none(thawline, tiny_photos: Path, verb: str) -> None:
    more = [] if verb == "report" else [tiny_photos]
    refused(thawline(verb, "nowhere", *more), f"nowhere {'does not exist' if verb == 'predict' else 'is not there'}")


@pytest.mark.parametrize("verb", ["report", "evaluate", "predict"])
def test_a_run_folder_that_is_incomplete_or_newer(thawline, tiny_photos: Path, run_folder: Path, verb: str) -> None:
    more = [] if verb == "report" else [tiny_photos]
    target = run_folder / ("metrics.json" if verb == "report" else "bundle.json")
    text = target.read_text()
    target.write_text(json.dumps(json.loads(text) | {"format": 99}))
    answer = thawline(verb, run_folder, *more)
    assert answer.code == 2
    assert "pip install -U thawline" in " ".join(answer.err.split())
    target.unlink()
    answer = thawline(verb, run_folder, *more)
    assert answer.code == 2
    assert f"lacks {target.name}" in " ".join(answer.err.split())


def test_unknown_options_and_verbs_are_usage_errors(thawline) -> None:
    assert thawline("fit").code == 2
    assert thawline("fitt").code == 2
    assert thawline("fit", "x", "--colour", "red").code == 2


def test_a_defect_says_that_it_is_one(thawline, tiny_photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("thawline.runs.measure._train", broken)
    answer = thawline("fit", tiny_photos, "--quiet")
    assert answer.code == 1
    assert "This is a defect in Thawline" in answer.err
    assert "ZeroDivisionError: oops" in answer.err


@pytest.mark.parametrize(
    "after_s", [0.0, 1.0, *(pytest.param(after_s, marks=pytest.mark.slow) for after_s in (0.2, 2.0, 3.0, 4.0))]
)
def test_ctrl_c_at_any_moment_leaves_nothing_half_written(tiny_photos: Path, after_s: float) -> None:
    """Wherever it strikes: during imports, reading, features, the head, the last move or the printing."""
    # Ready once main() has begun to load the verbs: before that, what strikes Python itself no code of ours can catch.
    code = """
import sys
from thawline.cli import main
def tell(event, details):
    if event == "import" and details[0] == "thawline.cli.app":
        print("ready", flush=True)
sys.addaudithook(tell)
main()
"""
    command = [sys.executable, "-c", code, "fit", str(tiny_photos), "--run", "here"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy()
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    left = [path.name for path in Path().iterdir()]
    assert left in ([], ["here"]), err
    if left:  # the run was in its place before the signal came
        require_complete(Path("here"))
        assert process.returncode in (0, 130, -signal.SIGINT)
    else:
        assert process.returncode == 130, err
        assert "Traceback" not in err


def test_a_plan_and_what_it_decides_cannot_both_be_given(thawline, tiny_photos: Path, run_folder: Path) -> None:
    plan = run_folder / "plan.toml"
    refused(
        thawline("fit", tiny_photos, "--plan", plan, "--seed", "9", "--head", "ridge"),
        "--head, --seed was typed as well",
    )
    trained = "--from-scratch --hidden 8 --dropout 0.1 --epochs 1 --lr 0.1 --batch-size 8 --views 2 --set refit=false"
    refused(
        thawline("fit", tiny_photos, "--plan", plan, *trained.split()),
        "--from-scratch, --hidden, --dropout, --epochs, --lr, --batch-size, --views, --set was typed as well",
    )


def test_pictures_that_cannot_be_read_are_named(thawline, run_folder: Path) -> None:
    Path("zero.jpg").write_bytes(b"")
    answer = thawline("predict", run_folder, "zero.jpg")
    assert answer.code == 2
    assert "zero.jpg: the file is empty (0 bytes)" in " ".join(answer.err.split())


def test_predict_takes_pictures_or_one_folder_or_one_table(thawline, tiny_photos: Path, run_folder: Path) -> None:
    picture = tiny_photos / "disc" / "disc_00.png"
    answer = thawline("predict", run_folder, picture, tiny_photos)
    assert answer.code == 2
    assert "is a folder, given among other files" in " ".join(answer.err.split())
    answer = thawline("predict", run_folder, "nope.jpg")
    assert "nope.jpg does not exist. Give a picture, a folder of pictures" in " ".join(answer.err.split())


def test_predictions_are_not_written_over_other_files(thawline, tiny_photos: Path, run_folder: Path) -> None:
    picture = tiny_photos / "disc" / "disc_00.png"
    Path("old.csv").write_text("mine")
    assert thawline("predict", run_folder, picture, "--out", "old.csv").code == 2
    assert Path("old.csv").read_text() == "mine"
    assert thawline("predict", run_folder, picture, "--out", "new.txt").code == 2
    assert thawline("predict", run_folder, picture, "--out", "old.csv", "--force").code == 0
    assert Path("old.csv").read_text().startswith("file,label")


def test_a_run_given_as_data_is_recognised(thawline, run_folder: Path) -> None:
    answer = thawline("fit", run_folder, "--run", "new")
    assert answer.code == 2
    assert "is a run folder, not data" in " ".join(answer.err.split())


def test_a_mistyped_layer_leaves_no_trace_in_the_cache(thawline, tiny_photos: Path) -> None:
    refused(
        thawline("features", tiny_photos, "--layer", "nope", "--out", "f.npz"),
        "Its stages are conv1, bn1, act1, maxpool, layer1, layer2",
    )
    assert thawline("cache", "--json").json["entries"] == []


def test_a_disk_that_cannot_be_written_is_one_sentence(
    thawline, tiny_photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.mkdir

    def refuse(self: Path, *asked: Any, **options: Any) -> None:
        if self.name.endswith(".unfinished"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        real(self, *asked, **options)

    monkeypatch.setattr(Path, "mkdir", refuse)
    refused(
        thawline("fit", tiny_photos, "--quiet", "--run", "deep/run"),
        "Read-only file system. Choose a place that can be written",
    )
    assert not Path("deep").exists()
