"""What is typed about training reaches the plan, and what training says reaches the screen."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from thawline.cli import console as screen
from thawline.cli.results import print_run
from thawline.data import open_data
from thawline.planning import Asked, FitPlan, make_plan
from thawline.runs import Run, RunReport, open_run
from thawline.training_records import Evaluated

ROW = Evaluated(
    stage="from:blocks.6.0",
    stage_number=1,
    n_stages=3,
    epoch=1.5,
    step=30,
    n_steps=60,
    train_loss=0.5,
    val_loss=0.25,
    val_accuracy=0.875,
    samples_per_s=1234.0,
    seconds_left=72.4,
    lr=1e-3,
)


@pytest.fixture
def planned(thawline, tiny_photos: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Type a fit and return what it would have done, without doing it."""

    def type_it(*options: object) -> tuple[FitPlan, dict[str, Any]]:
        asked: list[Any] = []

        def fit(data: Path, plan: FitPlan | Asked, *, backbone: Any, **others: Any) -> Run:
            if isinstance(plan, Asked):
                labelled = open_data(data)
                backbone = backbone(labelled.kind)
                plan = make_plan(labelled, backbone, plan).plan
            asked.extend((plan, others | {"backbone": backbone}))
            return open_run(run_folder)

        monkeypatch.setattr("thawline.runs.walk.fit", fit)
        answer = thawline("fit", tiny_photos, "--json", *options)
        assert answer.code == 0, answer.err
        return asked[0], asked[1]

    return type_it


def test_settings_of_training_reach_the_plan(planned) -> None:
    options = (
        "--thaw last:2 --epochs 3 --lr 0.01 --batch-size 16 --views 2 --set optimiser=sgd --set crop_scale=[0.5,1] "
        "--set refit=false --set warmup_frac=0.2"
    )
    plan, others = planned(*options.split())
    assert plan.thaw == "last:2"
    assert [(stage.epochs, stage.views) for stage in plan.stages] == [(3, 2)]
    training = plan.training
    assert training is not None
    assert (training.lr, training.batch_size, training.optimiser) == (0.01, 16, "sgd")
    assert (training.crop_scale, training.refit, training.warmup_frac) == ((0.5, 1.0), False, 0.2)
    assert others["tensorboard"] is False
    assert planned("--thaw", "last:1", "--tensorboard")[1]["tensorboard"] is True


def test_views_may_be_fresh_each_epoch(planned) -> None:
    plan, _ = planned("--thaw", "last:2", "--views", "0")
    assert [stage.views for stage in plan.stages] == [0]


def test_an_mlp_head(planned) -> None:
    plan, _ = planned("--head", "mlp", "--hidden", "256,128", "--dropout", "0.2")
    assert (plan.head, plan.hidden, plan.dropout, plan.thaw) == ("mlp", (256, 128), 0.2, "none")


def test_from_scratch_fetches_no_weights(planned) -> None:
    plan, others = planned("--from-scratch", "--model", "timm/test_resnet", "--input-px", "64")
    assert (plan.from_scratch, plan.thaw, plan.weights_sha256) == (True, "all", "")
    assert others["backbone"].architecture == "test_resnet"


def test_a_plan_from_scratch_is_replayed_without_weights(planned, tmp_path: Path) -> None:
    from thawline.planning import write_plan

    plan, _ = planned("--from-scratch", "--model", "timm/test_resnet", "--input-px", "64")
    write_plan(plan, tmp_path / "plan.toml")
    assert planned("--plan", tmp_path / "plan.toml")[0] == plan


def test_progressive_has_stages(planned) -> None:
    plan, _ = planned("--thaw", "progressive")
    assert plan.thaw == "progressive"
    assert len(plan.stages) > 2


def show(monkeypatch: pytest.MonkeyPatch, *, terminal: bool, quiet: bool = False) -> str:
    """What stands on standard error after some training."""
    written = StringIO()
    wide = Console(file=written, width=100, force_terminal=terminal, force_interactive=terminal)
    monkeypatch.setattr(screen, "console", lambda *, stderr: wide)
    with screen.listening(quiet=quiet) as listener:
        listener.progress("features", 90, 90)
        for number, stage in enumerate(
            ("from:blocks.6.0", "refit from:blocks.6.0", "a name that [bold]has[/] no end"), 1
        ):
            for step in (30, 60):
                listener.progress(stage, step, 60)
                row = replace(ROW, stage=stage, stage_number=number, step=step)
                listener.evaluated(row if number == 1 else replace(row, val_loss=None, val_accuracy=None))
    return written.getvalue()


HEADER = "stage                            epoch  train loss  val loss  val accuracy  samples/s     left"
LINE_1 = "1/3 from:blocks.6.0                1.5      0.5000    0.2500         0.875      1,234  0:01:12"
LINE_2 = "2/3 refit from:blocks.6.0          1.5      0.5000         -             -      1,234  0:01:12"
LINE_3 = "3/3 a name that [bold]has[/...     1.5      0.5000         -             -      1,234  0:01:12"


def test_on_a_pipe_the_table_is_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    text = show(monkeypatch, terminal=False)
    assert "\x1b" not in text and "\r" not in text
    assert text.splitlines()[:7] == [HEADER, LINE_1, LINE_1, LINE_2, LINE_2, LINE_3, LINE_3]
    assert len(HEADER) == len(LINE_3) <= 100


def test_on_a_terminal_the_table_stands_above_the_bar_of_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    text = show(monkeypatch, terminal=True)
    plain = without_codes(text)
    assert plain.count(HEADER) == 1
    assert plain.count(LINE_1) == plain.count(LINE_2) == plain.count(LINE_3) == 2
    frame = without_codes(text[text.rindex("\x1b[2K") :]).splitlines()  # what stays when all is done
    assert [line.split(" ━")[0].rstrip() for line in frame] == ["features", "a name that [bold]has[/] no end"]
    assert "60/60" in frame[1]
    assert max(map(len, frame)) <= 100


def without_codes(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "")


@pytest.mark.parametrize("terminal", [False, True])
def test_quiet_is_quiet(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    assert show(monkeypatch, terminal=terminal, quiet=True) == ""


HEAD = {"name": "head", "trainable": 30, "frozen": 2_000_000, "score": 0.4, "seconds": 0.2,
        "score_name": "cross-validated log loss on the training set", "details": {"kind": "logistic"}}  # fmt: skip
STAGE = {"name": "from:blocks.6.0", "trainable": 1_234_567, "frozen": 765_433, "score": 0.3456, "seconds": 12.34,
         "score_name": "log loss on the validation part, after a temperature",
         "details": {"thaw": "from:blocks.6.0", "rung": "blocks.5.2", "epochs": 9.0, "steps": 90, "kept": True,
                     "val_accuracy": 0.9, "val_ci95": [0.8, 0.95]}}  # fmt: skip
REFUSED = {**STAGE, "name": "from:blocks.5.0", "trainable": 1_900_000, "frozen": 100_000,
           "details": {**STAGE["details"], "kept": False}}  # fmt: skip
BARE = {"name": "refit", "trainable": 5, "frozen": 6, "score": None, "score_name": "", "seconds": 0, "details": {}}


def printed(run_folder: Path, stages: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, **more: object) -> str:
    written = StringIO()
    monkeypatch.setattr("thawline.cli.console.console", lambda *, stderr: Console(file=written, width=100))
    run = open_run(run_folder)
    print_run(Run(run.folder, RunReport(run.report.content | {"stages": stages} | more)))
    return written.getvalue()


def test_the_stages_are_a_table(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = printed(run_folder, [HEAD, STAGE, REFUSED, BARE], monkeypatch, thaw="progressive", thawed="from:blocks.6.0")
    rows = {line.split()[0]: line.split() for line in reversed(said.splitlines()) if line.strip()}
    assert rows["head"] == "head - 30 - - - 0.2 -".split()
    shown = "blocks.5.2 1.2 M 9 0.900 (0.800 to 0.950) 0.3456 12.3"
    assert rows["from:blocks.6.0"] == ["from:blocks.6.0", *shown.split(), "yes"]
    assert rows["from:blocks.5.0"][-1] == "no"
    assert rows["refit"] == "refit - 5 - - - 0.0 -".split()
    first = " ".join(said.split())
    assert "thaw progressive, which came to from:blocks.6.0 (765,433 parameters frozen, 1,234,567 thawed" in first
    assert "training " in first


def test_without_training_there_is_no_table_of_stages(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = printed(run_folder, [HEAD], monkeypatch)
    assert "thaw line" not in said
    assert "thaw none (2,000,000 parameters frozen, 30 in the new head)" in said
