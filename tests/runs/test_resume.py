"""A run that was stopped or killed is resumed, and ends with the bits of one that never was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thawline as tl
from thawline.bundles.spec import GRAPHS_FOLDER
from thawline.data import subset
from thawline.errors import DataError, MissingDataError, RunError, UsageError
from thawline.listening import Silent
from thawline.runs import listener as run_listener
from thawline.runs import open_run
from thawline.runs.folder import CONTENTS, draft_of
from thawline.runs.stopping import Terminated, how_to_resume
from thawline.training_records import Evaluated

KILLED_CHILD = """
import os, signal, sys
import thawline as tl
from thawline.runs import measure, walk, writing
from thawline.listening import Silent

data, run, moment = sys.argv[1:]

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

class Killer(Silent):
    def progress(self, phase, done, total):
        if phase == moment and done:
            die()

if moment == "head":
    measure.fit_probe = die
elif moment == "writing":
    writing.write_plan = lambda plan, path: (path.write_text("half of it, "), die())
elif moment == "moving":
    walk.run_folder._replace = die
tl.fit(data, run=run, listener=Killer())
"""


def kill_at(moment: str, data: Path, run: Path) -> None:
    """Run a fit in a process of its own that dies by ``kill -9`` at a moment."""
    command = [sys.executable, "-c", KILLED_CHILD, str(data), str(run), moment]
    done = subprocess.run(command, env=os.environ.copy(), capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not run.exists()


def timeless(plan: tl.FitPlan) -> dict[str, Any]:
    """Return a plan without the forecasts of seconds and memory, which no two processes have in common."""
    written = plan.model_dump()
    for candidate in written["candidates"]:
        del candidate["seconds"], candidate["memory"]
    return written


def events(run: tl.Run | Path) -> list[dict[str, Any]]:
    folder = run if isinstance(run, Path) else run.folder
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def stop_with(error: BaseException, *, checkpoint: bool = True) -> pytest.MonkeyPatch:
    """Stop the next fits and resumptions in the middle of training; undo() lets them through again."""

    def measure(
        data: object, plan: object, backbone: object, clock: Any, listener: object, state: Path, *, planned: object
    ) -> None:
        with clock.phase("split"):
            if checkpoint:
                (state / "step.safetensors").write_text("weights")
        raise error

    patch = pytest.MonkeyPatch()
    patch.setattr("thawline.runs.walk.measure", measure)
    return patch


@pytest.fixture
def stopped(tiny_photos: Path, tmp_path: Path, warm_cache: Path) -> Path:
    """A run of the tiny photos that Ctrl-C stopped right after a checkpoint."""
    patch = stop_with(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        tl.fit(tiny_photos, run=tmp_path / "run")
    patch.undo()
    return tmp_path / "run"


@pytest.mark.parametrize(
    "moment",
    [
        "features",
        *(pytest.param(moment, marks=pytest.mark.slow) for moment in ("head", "writing", "moving")),
    ],
)
def test_a_killed_run_ends_with_the_bits_of_one_that_was_not(
    tiny_photos: Path, tmp_path: Path, finished_run: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = open_run(finished_run)
    monkeypatch.setenv("THAWLINE_CACHE", str(tmp_path / "another cache"))
    kill_at(moment, tiny_photos, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    run = tl.resume("run")
    assert {path.name for path in run.folder.iterdir()} - {GRAPHS_FOLDER} == set(CONTENTS)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    for name in ("model.safetensors", "predictions.csv", "seen.txt"):
        assert (run.folder / name).read_bytes() == (reference.folder / name).read_bytes()
    # OpenVINO numbers the layers of a graph through the life of a process: names differ, and what they compute does not
    bundles = [json.loads((folder / "bundle.json").read_text()) for folder in (run.folder, reference.folder)]
    assert bundles[0] | {"graphs_sha256": ""} == bundles[1] | {"graphs_sha256": ""}
    assert timeless(run.plan) == timeless(reference.plan)
    names = [event["event"] for event in events(run)]
    assert names.count("start") == names.count("end") == 1
    assert names.count("resume") == (moment != "moving")


def test_the_seconds_are_those_of_all_sessions(stopped: Path) -> None:
    log = draft_of(stopped).folder / "events.jsonl"
    spent = json.loads(log.read_text().splitlines()[-1])["seconds"]
    assert 0 < spent < 30
    log.write_text(log.read_text() + json.dumps({"seconds": 1000.0, "event": "progress"}) + "\n")
    run = tl.resume(stopped)
    seconds = run.report.content["seconds"]
    assert 1000 < seconds["total"] < 1030
    assert [event["event"] for event in events(run)][:5] == [
        "start",
        "plan",
        "phase",
        "progress",
        "resume",
    ]
    assert events(run)[-1]["seconds"] == pytest.approx(seconds["total"], abs=5)


def test_ctrl_c_tells_how_to_resume_and_again(stopped: Path) -> None:
    patch = stop_with(KeyboardInterrupt(), checkpoint=False)
    with pytest.raises(KeyboardInterrupt) as caught:
        tl.resume(stopped)
    patch.undo()
    assert how_to_resume(caught.value) == f"The run was kept; resume it with: thawline fit --resume {stopped}"
    assert (draft_of(stopped).state / "step.safetensors").exists()
    assert tl.resume(stopped).folder == stopped


def test_sigterm_stops_as_ctrl_c_does(tiny_photos: Path, tmp_path: Path) -> None:
    class Terminator(Silent):
        def progress(self, phase: str, done: int, total: int) -> None:
            if phase == "features" and done:
                (draft_of(tmp_path / "run").state / "step.safetensors").write_text("weights")
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Terminated) as caught:
        tl.fit(tiny_photos, run=tmp_path / "run", listener=Terminator())
    assert how_to_resume(caught.value)
    assert tl.resume(tmp_path / "run").report.content["receipt"] == "clean"


def test_the_data_may_have_moved(stopped: Path, tiny_photos: Path, tmp_path: Path) -> None:
    tiny_photos.rename(tmp_path / "elsewhere")
    with pytest.raises(MissingDataError, match="photos does not exist"):
        tl.resume(stopped)
    with pytest.raises(MissingDataError, match="nowhere"):
        tl.resume(stopped, data=tmp_path / "nowhere")
    assert tl.resume(stopped, data=tmp_path / "elsewhere").folder == stopped


def test_arrays_are_given_again(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (24, 8, 8), dtype=np.uint8)
    data = tl.open_data(pixels, [0, 1] * 12)
    plan = tl.plan(data, tl.open_backbone(), thaw="none")
    patch = stop_with(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        tl.fit(data, plan, run=tmp_path / "run")
    patch.undo()
    with pytest.raises(RunError, match=r"Cannot resume .*run by its path alone.*thawline.resume\(run, data=...\)"):
        tl.resume(tmp_path / "run")
    other = tl.open_data(pixels[::-1].copy(), [0, 1] * 12)
    with pytest.raises(DataError, match="the samples or their order have changed"):
        tl.resume(tmp_path / "run", data=other)
    assert tl.resume(tmp_path / "run", data=data).report.content["n"]["train"] > 0


def test_every_option_of_the_data_is_remembered(tiny_photos: Path, tmp_path: Path, monkeypatch) -> None:
    paths = sorted(tiny_photos.rglob("*.png"))
    rows = [f"{p.relative_to(tiny_photos)},{p.parent.name},{p.stem},{'test' if i % 4 == 0 else 'train'},x"
            for i, p in enumerate(paths)]  # fmt: skip
    (tmp_path / "table.csv").write_text("\n".join(["where,kind,session,part,label", *rows]))
    monkeypatch.chdir(tmp_path)
    columns = {"file_column": "where", "label_column": "kind", "group_column": "session", "split_column": "part"}
    data = tl.open_data("table.csv", root="photos", **columns, name="shapes", strict=True)
    patch = stop_with(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        tl.fit(data, run="run")
    patch.undo()
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    run = tl.resume("../run")
    assert run.report.content["n"] == {"train": 22, "val": 0, "test": 8}
    assert run.report.content["classes"] == ["disc", "square", "stripes"]
    assert events(run)[-2]["event"] == "phase" and events(run)[0]["data"] == "shapes"


def test_how_data_were_opened_is_noted_where_it_can_be(tiny_photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_photos.parent)
    data = tl.open_data(
        "photos", groups={"disc/disc_00.png": "a", "disc/disc_01.png": "a"}, class_names=("x", "y", "z")
    )
    assert data.opened is not None
    assert data.opened["what"] == str(tiny_photos)
    assert tl.open_data(**data.opened).groups.tolist() == data.groups.tolist()
    assert json.loads(json.dumps(data.opened)) == data.opened
    assert subset(data, range(3)).opened is None  # it is not what the path leads to
    assert tl.open_data("photos", groups={"disc/disc_00.png": ("a", 1)}).opened is None  # JSON would make it a list
    paths = [tiny_photos / file for file in data.files]
    assert tl.open_data(paths, [data.classes[label] for label in data.labels]).opened is None


def remove_one(photos: Path) -> None:
    (photos / "disc" / "disc_03.png").unlink()


def alter_one(photos: Path) -> None:
    (photos / "disc" / "disc_03.png").write_bytes((photos / "disc" / "disc_04.png").read_bytes())


def relabel_one(photos: Path) -> None:
    (photos / "stripes" / "stripes_00.png").rename(photos / "square" / "square_99.png")  # the order stays


def rename_a_class(photos: Path) -> None:
    (photos / "disc").rename(photos / "circle")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (remove_one, "(photos: there were 30 samples, now there are 29). Restore the data, or start again"),
        (alter_one, "the samples or their order have changed"),
        (relabel_one, "the labels have changed"),
        (rename_a_class, "the classes were disc, square, stripes, now they are circle, square, stripes"),
    ],
)
def test_data_that_changed_are_refused_and_the_run_is_kept(stopped: Path, tiny_photos: Path, change, said: str) -> None:
    change(tiny_photos)
    with pytest.raises(DataError) as caught:
        tl.resume(stopped)
    assert said in str(caught.value)
    assert draft_of(stopped).can_resume


@pytest.mark.parametrize("what", ["given", "groups"])
def test_another_split_or_grouping_is_refused(tiny_photos: Path, tmp_path: Path, what: str) -> None:
    paths = sorted(tiny_photos.rglob("*.png"))
    labels = [path.parent.name for path in paths]
    parts = np.array(["test" if i % 5 == 0 else "train" for i in range(len(paths))])
    before = {"given": parts} if what == "given" else {"groups": [i // 2 for i in range(30)]}
    after = {"given": np.roll(parts, 1)} if what == "given" else {"groups": [i // 3 for i in range(30)]}
    patch = stop_with(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        tl.fit(tl.open_data(paths, labels, **before), run=tmp_path / "run")
    patch.undo()
    said = {"given": "the split into train, val and test has changed", "groups": "the groups have changed"}[what]
    with pytest.raises(DataError, match=said):
        tl.resume(tmp_path / "run", data=tl.open_data(paths, labels, **after))


def test_a_finished_run_says_so(stopped: Path) -> None:
    said: list[str] = []

    class Ear(Silent):
        def note(self, text: str) -> None:
            said.append(text)

    finished = tl.resume(stopped)
    again = tl.resume(stopped, listener=Ear())
    assert again.report.content == finished.report.content
    assert said == [f"{stopped} is finished; there is nothing to resume. Report: {stopped / 'report.html'}"]


def test_what_never_began_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"began no run at .*run. .*: thawline fit DATA --run"):
        tl.resume(tmp_path / "run")
    (tmp_path / ".run.unfinished").mkdir()  # killed before the request was written
    with pytest.raises(RunError, match=r"was stopped before its work began. Start it again: thawline fit DATA --run"):
        tl.resume(tmp_path / "run")


def test_a_new_fit_leaves_an_unfinished_run_alone(stopped: Path, tiny_photos: Path) -> None:
    with pytest.raises(RunError, match=r"thawline fit --resume .*run`, or add --force to start again"):
        tl.fit(tiny_photos, run=stopped)
    assert tl.fit(tiny_photos, run=stopped, force=True).folder == stopped
    assert not draft_of(stopped).folder.exists()


def test_going_on_may_replace_what_the_beginning_might(tiny_photos: Path, tmp_path: Path) -> None:
    old = tl.fit(tiny_photos, run=tmp_path / "run")
    patch = stop_with(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        tl.fit(tiny_photos, tl.plan(tl.open_data(tiny_photos), tl.open_backbone(), seed=1), run=old.folder, force=True)
    patch.undo()
    assert open_run(old.folder).plan.seed == 0
    assert tl.resume(old.folder).plan.seed == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 3, "thawline": "9.0.0"}, r"Thawline 9.0.0 began it in format 3, and .* reads format 2"),
        ({"surprise": 1}, "request.json is damaged"),
        ({"data": None}, "request.json is damaged"),
    ],
)
def test_a_request_of_another_version_is_refused(stopped: Path, change: dict[str, Any], said: str) -> None:
    path = draft_of(stopped).request
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RunError, match=said):
        tl.resume(stopped)
    assert draft_of(stopped).can_resume


def test_a_damaged_request_is_refused(stopped: Path) -> None:
    draft_of(stopped).request.write_text("{")
    with pytest.raises(RunError, match=r"request\.json is damaged"):
        tl.resume(stopped)


def test_weights_by_a_relative_path_are_found_from_elsewhere(
    tiny_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from thawline.backbones.providers.embedded import EMBEDDED

    (tmp_path / "w.safetensors").write_bytes(next(iter(EMBEDDED.values())).path.read_bytes())
    monkeypatch.chdir(tmp_path)
    backbone = tl.open_backbone("timm/resnet18@w.safetensors", input_px=64)
    patch = stop_with(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        tl.fit(tl.open_data("photos"), backbone=backbone, run="run")
    patch.undo()
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    run = tl.resume("../run")
    assert run.report.content["model"] == "timm/resnet18@w.safetensors"
    assert run.plan.model_settings["input_px"] == 64
    (tmp_path / "w.safetensors").unlink()
    assert tl.resume("../run").folder == run.folder  # a finished run needs them no more


def test_other_weights_in_their_place_are_refused(tiny_photos: Path, tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    from thawline.backbones.providers.embedded import EMBEDDED

    weights, path = next(iter(EMBEDDED.values())).path, tmp_path / "w.safetensors"
    with safe_open(weights, "np") as opened:
        described = opened.metadata()
    save_file(load_file(weights), path, described)
    patch = stop_with(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        tl.fit(tiny_photos, backbone=tl.open_backbone(f"timm/resnet18@{path}"), run=tmp_path / "run")
    patch.undo()
    save_file({name: tensor * 2 for name, tensor in load_file(weights).items()}, path, described)
    with pytest.raises(UsageError, match="plan was made for weights"):
        tl.resume(tmp_path / "run")
    assert draft_of(tmp_path / "run").can_resume


def test_curves_are_part_of_the_run_only_when_asked_for(
    tiny_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch = stop_with(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        tl.fit(tiny_photos, run=tmp_path / "run", tensorboard=True)
    patch.undo()
    run = tl.resume(tmp_path / "run")
    assert len(list((run.folder / "tensorboard").iterdir())) == 2  # one file per session
    monkeypatch.setattr(run_listener, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install"):
        tl.fit("no such data", run=tmp_path / "other", tensorboard=True)


def test_evaluations_reach_the_log_and_the_listener(
    tiny_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from thawline.runs import walk

    heard: list[Evaluated] = []

    class Ear(Silent):
        def evaluated(self, row: Evaluated) -> None:
            heard.append(row)

    row = Evaluated(
        stage="head", stage_number=1, n_stages=1, epoch=1.0, step=1, n_steps=2, train_loss=0.5, val_loss=None,
        val_accuracy=None, samples_per_s=1.0, seconds_left=1.0, lr=0.1,
    )  # fmt: skip
    real = walk.measure

    def measure(*asked: Any, planned: Any) -> Any:
        asked[4].evaluated(row)
        return real(*asked, planned=planned)

    monkeypatch.setattr(walk, "measure", measure)
    run = tl.fit(tiny_photos, run=tmp_path / "run", listener=Ear())
    assert heard == [row]
    (written,) = (event for event in events(run) if event["event"] == "evaluation")
    assert written["train_loss"] == 0.5
