"""Each verb does what its help says: for people, for programs, and on disk."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import thawline as tl
from thawline.cli.app import app
from thawline.planning import read_plan

VERBS = [
    "cache", "compare", "demo", "evaluate", "features", "fit", "ladder", "models", "plan", "predict", "rank", "report",
]  # fmt: skip


@pytest.fixture(autouse=True)
def a_wide_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


def test_fit_prints_the_score_and_where_the_run_lies(thawline, tiny_photos: Path, warm_cache: Path) -> None:
    answer = thawline("fit", tiny_photos, "--run", "here", "--quiet")
    assert answer.code == 0, answer.err
    report = json.loads(Path("here/metrics.json").read_text())
    assert f"{report['test']['accuracy']['value']:.3f}" in answer.out
    assert "here/report.html" in answer.out
    assert report["verdict"].split(",")[0] in " ".join(answer.out.split())


def test_fit_json_is_one_object_and_the_progress_stays_out(thawline, tiny_photos: Path) -> None:
    answer = thawline("fit", tiny_photos, "--json")
    assert answer.json["run"] == "runs/photos-1"
    assert answer.json["features"] == {"computed": 30, "reused": 0}
    again = thawline("fit", tiny_photos, "--json")
    assert again.json["run"] == "runs/photos-2"
    assert again.json["features"] == {"computed": 0, "reused": 30}
    assert again.json["test"] == answer.json["test"]


def test_fit_takes_every_option(thawline, tiny_photos: Path) -> None:
    options = (
        "--head ridge --layer layer3 --split 60/20/20 --seed 3 --precision f32 --engine torch --device cpu --thaw none"
    )
    model = "--model embedded/resnet18_half --input-px 64 --mean 0.4,0.5,0.6 --std 0.25 --interpolation bicubic"
    answer = thawline("fit", tiny_photos, "--run", "here", "--json", *options.split(), *model.split())
    assert answer.code == 0, answer.err
    plan = read_plan(Path("here/plan.toml"))
    assert (plan.head, plan.layer, plan.seed, plan.precision) == ("ridge", "layer3", 3, "f32")
    assert plan.fractions == pytest.approx((0.6, 0.2, 0.2))
    assert plan.model_settings["input_px"] == 64
    assert plan.model_settings["mean"] == [0.4, 0.5, 0.6]
    again = thawline("fit", tiny_photos, "--run", "again", "--plan", "here/plan.toml", "--json")
    assert again.json["test"] == answer.json["test"]
    assert again.json["features"]["computed"] == 0


def test_fit_reads_a_table_with_other_column_names(thawline, tiny_photos: Path, warm_cache: Path) -> None:
    rows = [("where", "species")] + [
        (f"photos/{p.parent.name}/{p.name}", p.parent.name) for p in tiny_photos.rglob("*.png")
    ]
    Path("table.csv").write_text("\n".join(",".join(row) for row in rows))
    answer = thawline("fit", "table.csv", "--file-column", "where", "--label-column", "species", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["classes"] == ["disc", "square", "stripes"]


def test_a_taken_run_folder_needs_force(thawline, tiny_photos: Path, run_folder: Path, warm_cache: Path) -> None:
    answer = thawline("fit", tiny_photos, "--run", run_folder)
    assert answer.code == 2
    assert "add --force to replace it" in " ".join(answer.err.split())
    assert thawline("fit", tiny_photos, "--run", run_folder, "--force", "--quiet").code == 0


def test_predict_gives_csv_json_and_files(thawline, tiny_photos: Path, run_folder: Path) -> None:
    pictures = sorted(tiny_photos.rglob("*.png"))[:4]
    printed = list(csv.DictReader(StringIO(thawline("predict", run_folder, *pictures).out)))
    answer = thawline("predict", run_folder, *pictures, "--json").json
    assert [row["label"] for row in printed] == [p["label"] for p in answer["predictions"]]
    assert [float(row["probability"]) for row in printed] == [p["probability"] for p in answer["predictions"]]
    assert set(answer["predictions"][0]) == {"file", "label", "probability", "top"}
    assert answer["failed"] == []
    thawline("predict", run_folder, *pictures, "--out", "p.csv")
    assert list(csv.DictReader(Path("p.csv").read_text().splitlines())) == printed
    thawline("predict", run_folder, *pictures, "--out", "p.json")
    assert json.loads(Path("p.json").read_text()) == answer


def test_predict_takes_a_table_and_a_folder(thawline, tiny_photos: Path, run_folder: Path) -> None:
    Path("table.csv").write_text("filename\nphotos/disc/disc_00.png\nphotos/square/square_00.png\n")
    answer = thawline("predict", run_folder, "table.csv", "--json")
    assert len(answer.json["predictions"]) == 2
    answer = thawline("predict", run_folder, tiny_photos / "disc", "--json")
    assert len(answer.json["predictions"]) == 10


def test_predict_lists_what_it_could_not_read(thawline, tiny_photos: Path, run_folder: Path) -> None:
    Path("bad.jpg").write_text("no picture")
    good = tiny_photos / "disc" / "disc_00.png"
    answer = thawline("predict", run_folder, good, "bad.jpg", "--json")
    assert answer.code == 0
    assert len(answer.json["predictions"]) == 1
    assert answer.json["failed"][0]["file"].endswith("bad.jpg")
    assert "1 file could not be read and got no prediction. bad.jpg: " in " ".join(answer.err.split())
    assert thawline("predict", run_folder, "bad.jpg").code == 2


def test_evaluate_scores_other_data(thawline, tiny_photos: Path, run_folder: Path) -> None:
    answer = thawline("evaluate", run_folder, tiny_photos, "--json")
    assert answer.json["n"] == 30
    assert {"accuracy", "balanced_accuracy", "macro_f1", "log_loss"} <= set(answer.json["test"])
    n = json.loads((run_folder / "metrics.json").read_text())["n"]
    assert answer.json["n_seen"] == n["train"] + n["val"]
    shown = thawline("evaluate", run_folder, tiny_photos)
    assert f"the model learned from {n['train'] + n['val']} of them" in " ".join(shown.out.split())
    assert f"{answer.json['test']['accuracy']['value']:.3f}" in shown.out
    assert "stripes" in shown.out


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_features_are_written(thawline, tiny_photos: Path, ending: str) -> None:
    out = Path(f"f.{ending}")
    answer = thawline("features", tiny_photos, "--out", out, "--json")
    assert answer.code == 0, answer.err
    data = tl.open_data(tiny_photos)
    expected = tl.extract_features(data, tl.open_backbone()).values
    if ending == "npz":
        with np.load(out, allow_pickle=False) as written:
            values, files, labels = written["values"], list(written["files"]), list(written["labels"])
    else:
        table = pq.read_table(out).to_pydict()
        values, files, labels = np.array(table["values"], np.float32), table["files"], table["labels"]
    assert np.array_equal(values, expected)
    assert files == list(data.files)
    assert labels == [data.classes[label] for label in data.labels]
    assert (answer.json["n"], answer.json["dim"]) == expected.shape


def test_features_of_an_earlier_layer(thawline, tiny_photos: Path) -> None:
    early = thawline("features", tiny_photos, "--layer", "layer1", "--out", "early.npz", "--json")
    assert early.json["dim"] == 32
    assert thawline("features", tiny_photos, "--layer", "layer9", "--out", "no.npz").code == 2
    assert not Path("no.npz").exists()


@pytest.mark.parametrize(
    ("out", "text"),
    [
        ("f.csv", "--out must end in .npz or .parquet"),
        ("no/f.npz", "in a folder that exists"),
        ("old.npz", "Add --force"),
    ],
)
def test_features_refuse_a_place_before_any_work(thawline, tiny_photos: Path, out: str, text: str) -> None:
    Path("old.npz").write_text("")
    answer = thawline("features", tiny_photos, "--out", out)
    assert answer.code == 2
    assert text in " ".join(answer.err.split())


def test_warnings_stand_beside_the_result(thawline, tiny_photos: Path) -> None:
    for path in sorted((tiny_photos / "disc").iterdir())[:4]:
        Image.new("RGB", (40 + len(path.stem), 30)).save(path)
    shown = thawline("fit", tiny_photos, "--run", "here", "--quiet", "--thaw", "none")
    assert "note: 4 of 30 pictures have almost no contrast" in " ".join(shown.out.split())
    assert "4 of 30 pictures have almost no contrast" in " ".join(thawline("report", "here").out.split())


def test_the_report_verb_says_what_fit_said(thawline, run_folder: Path) -> None:
    answer = thawline("report", run_folder)
    assert "clean" in answer.out
    assert (
        thawline("report", run_folder, "--json").json["test"]
        == json.loads((run_folder / "metrics.json").read_text())["test"]
    )


def test_models_lists_what_ships_and_what_matches(thawline) -> None:
    described = thawline("models", "--json").json
    assert [m["name"] for m in described["models"]] == ["embedded/resnet18_half", "embedded/words"]
    assert described["families"]["torchvision"] == len(thawline("models", "torchvision/*", "--json").json["models"])
    page = thawline("models").out
    assert all(text in page for text in ("embedded/resnet18_half", "torchvision/NAME", "timm/NAME", "models resnet50"))
    (swag,) = thawline("models", "vit_b_16*swag_linear*", "--json").json["models"]
    assert swag == {
        "name": "torchvision/vit_b_16.imagenet1k_swag_linear_v1", "parameters": 85_798_656, "flops": 35_126_120_448,
        "input_px": 224, "licence": "cc-by-nc-4.0", "offline": False, "non_commercial": True,
    }  # fmt: skip
    assert "forbids commercial use" in thawline("models", "swag").out
    answer = thawline("models", "test_vit*", "--limit", "1")
    assert "timm/test_vit" in answer.out
    assert "more; narrow the query" in answer.out
    assert "No model matches 'zzz'" in thawline("models", "zzz").out


def test_the_cache_is_shown_and_cleared(thawline, tiny_photos: Path) -> None:
    thawline("features", tiny_photos, "--out", "f.npz")
    shown = thawline("cache", "--json").json
    assert [entry["rows"] for entry in shown["entries"]] == [30, 0]  # features, and the model as it is converted
    assert all(entry["key"][:12] in thawline("cache").out for entry in shown["entries"])
    assert thawline("cache", "clear", "--older-than-days", "1", "--json").json == {"freed_bytes": 0}
    assert thawline("cache", "clear", "--json").json["freed_bytes"] > 0
    assert thawline("cache", "--json").json["entries"] == []
    assert thawline("cache", "clear", "--key", "zz").code == 2


@pytest.mark.slow
def test_the_demo_tells_the_whole_story(thawline) -> None:
    answer = thawline("demo", "--quiet")
    assert answer.code == 0, answer.err
    for text in ("10 of each", "30 of each", "100 of each", "runs/demo-1/100-per-class/report.html"):
        assert text in answer.out
    commands = [line.strip() for line in answer.out.splitlines() if line.strip().startswith("thawline ")]
    assert len(commands) == 3
    for n in (10, 30, 100):
        assert json.loads(Path(f"runs/demo-1/{n}-per-class/metrics.json").read_text())["n"]["train"] <= 10 * n
    last = commands[-1].split()[1:]
    assert thawline(*last).code == 0
    assert thawline("demo", "--run", "runs/demo-1").code == 2


@pytest.mark.slow
def test_the_demo_of_texts_tells_the_same_story(thawline) -> None:
    answer = thawline("demo", "--text", "--quiet", "--run", "words")
    assert answer.code == 0, answer.err
    for text in (
        "10 of each",
        "30 of each",
        "80 of each",
        "tfidf: logistic regression",
        "words/80-per-class/report.html",
    ):
        assert text in answer.out
    measured = [json.loads(Path(f"words/{n}-per-class/metrics.json").read_text()) for n in (10, 30, 80)]
    assert [run["n"]["train"] for run in measured] == [50, 150, 400]
    assert {run["n"]["test"] for run in measured} == {250}
    last = answer.out.splitlines()[-1].split()[1:]
    assert thawline(*last).code == 0


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_examples(thawline, verb: str) -> None:
    answer = thawline(verb, "--help")
    assert answer.code == 0
    assert "Examples:" in answer.out
    assert f"thawline {verb}" in answer.out


def test_every_verb_is_tested_here() -> None:
    from typer.main import get_command

    assert sorted(get_command(app).commands) == VERBS


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from thawline.cli import main\n"
        "sys.argv = ['thawline', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'torch', 'timm', 'PIL', 'scipy', 'sklearn', 'pydantic', 'pyarrow', 'matplotlib', 'jinja2'}\n"
        "heavy |= {'rich.console'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (("fit", "photos", "--run", "again", "--json"), {"pydantic", "jinja2"}),
        (("features", "photos", "--out", "features.npz", "--json"), {"pydantic"}),
        (("predict", "first", "photos/disc", "--json"), {"pydantic", "openvino"}),  # looks for no stored features
        (("report", "first"), {"pydantic", "jinja2"}),
    ],
)
def test_where_all_features_are_stored_nothing_slow_is_imported(
    tiny_photos: Path, run_folder: Path, warm_cache: Path, arguments: tuple[str, ...], allowed: set[str]
) -> None:
    """A budget by module list: what takes a tenth of a second and more to import."""
    run_folder.rename("first")
    slow = "torch timm torchvision openvino sklearn scipy.stats scipy.optimize scipy.sparse pandas pyarrow datasets "
    slow += "huggingface_hub transformers matplotlib pydantic jinja2 tensorboard peft"
    code = (
        "import sys\n"
        "from thawline.cli import main\n"
        f"sys.argv = ['thawline', *{arguments!r}]\n"
        "try: main()\n"
        "except SystemExit as done: assert not done.code, done.code\n"
        f"print(*sorted(set({slow.split()!r}) & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(done.stderr.splitlines()[-1].split()) <= allowed


@pytest.mark.parametrize(
    "arguments",
    [
        ("fit", "photos", "--json"),
        pytest.param(("features", "photos", "--out", "features.npz"), marks=pytest.mark.slow),
    ],
)
def test_the_first_run_of_a_recorded_architecture_needs_no_torch(
    tiny_photos: Path, clean_cache: Path, arguments: tuple[str, ...]
) -> None:
    code = (
        "import sys\n"
        "from thawline.cli import main\n"
        f"sys.argv = ['thawline', *{arguments!r}, '--device', 'cpu', '--precision', 'bf16', '--quiet']\n"
        "try: main()\n"
        "except SystemExit as done: assert not done.code, done.code\n"
        "print(*sorted({'torch', 'timm', 'torchvision', 'matplotlib'} & set(sys.modules)), file=sys.stderr)\n"
    )
    assert not clean_cache.exists()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == ""
    assert list(clean_cache.glob("models/*/graphs.json"))


@pytest.mark.parametrize(("given", "expected"), [(None, "14"), ("20", "20")])
def test_threads_that_wait_sleep_and_nothing_is_collected_at_the_end(given: str | None, expected: str) -> None:
    code = (
        "import atexit, gc, os, sys\n"
        "atexit.register(lambda: print(os.environ['OPENBLAS_THREAD_TIMEOUT'], gc.get_freeze_count() > 0))\n"
        "from thawline.cli import main\n"
        "sys.argv = ['thawline', '--version']\n"
        "main()\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_THREAD_TIMEOUT"}
    environment |= {"OPENBLAS_THREAD_TIMEOUT": given} if given else {}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].split() == [expected, "True"]


def test_the_version(thawline) -> None:
    assert thawline("--version").out.strip() == f"thawline {tl.__version__}"


def test_completion_can_be_installed(thawline) -> None:
    environment = os.environ | {"_THAWLINE_COMPLETE": "complete_bash", "COMP_WORDS": "thawline fe", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv[0] = 'thawline'; from thawline.cli import main; main()"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["features"]
    assert "--install-completion" in thawline("--help").out


def test_predict_answers_a_table_in_its_order(thawline, tiny_photos: Path, run_folder: Path) -> None:
    ids = ["square/square_03", "disc/disc_01", "gone", "disc/disc_00", "disc/disc_01"]
    (tiny_photos / "test.csv").write_text("\n".join(["Image Id,width", *(f"{name},640" for name in ids)]))
    answer = thawline("predict", run_folder, tiny_photos / "test.csv", "--out", "answers.csv")
    assert answer.code == 0
    assert "gone: no such file" in " ".join(answer.err.split())
    rows = list(csv.DictReader(Path("answers.csv").read_text().splitlines()))
    assert [row["Image Id"] for row in rows] == [name for name in ids if name != "gone"]
    assert [row["label"] for row in rows] == ["square", "disc", "disc", "disc"]


def test_tables_of_files_elsewhere_name_the_root(thawline, tiny_photos: Path, run_folder: Path) -> None:
    Path("far away").mkdir()
    names = [f"{kind}/{kind}_{i:02d}.png" for kind in ("disc", "square") for i in range(5)]
    rows = [f"{tiny_photos.absolute() / name},{name.split('/')[0]}" for name in names]
    Path("far away/table.csv").write_text("\n".join(["file,label", *rows]))
    table, root = "far away/table.csv", str(tiny_photos.absolute())
    features = ("features", "--out", "f.npz")
    for verb in (("predict", run_folder), ("evaluate", run_folder), features, ("plan",)):
        answer = thawline(*verb, table, "--json")
        assert answer.code == 2
        message = answer.json["error"]["message"]
        assert f"10 of 10 files lead outside {Path('far away').absolute()}" in message
        assert message.rpartition("--root ")[2] == root
    assert len(thawline("predict", run_folder, table, "--root", root, "--json").json["predictions"]) == 10
    assert thawline("evaluate", run_folder, table, "--root", root, "--json").json["n"] == 10
    assert thawline(*features, table, "--root", root, "--json").json["n"] == 10
