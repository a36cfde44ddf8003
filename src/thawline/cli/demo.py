"""``thawline demo``: the whole path, offline, on data that ship."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thawline.cli.console import listening, plain, print_json, say
from thawline.cli.groups import only
from thawline.cli.opening import backbone_for
from thawline.cli.options import ModelOptions, OnlySeed, OutputOptions

if TYPE_CHECKING:
    from thawline.cli.console import BarListener, NoteListener
    from thawline.records import Dataset
    from thawline.runs import Run

EXAMPLES = "Examples:\n\nthawline demo\n\nthawline demo --text\n\nthawline demo --run my-demo --json"
N_ASKED = 5
"""Samples that the saved model is asked about."""


@dataclass(frozen=True, kw_only=True)
class _Show:
    """What is shown of one kind of input."""

    per_class: tuple[int, int, int]
    """Labelled samples of each class that the three runs may learn from."""
    title: str
    labelled: str
    asked: str
    """Where the samples are written that the saved model is asked about."""
    files: str
    """What they are, for people."""
    yours: str
    data: str
    stronger: str


_SHOWS = {
    "image": _Show(
        per_class=(10, 30, 100),
        title="Handwritten digits: accuracy on the same 600, which no method learned from",
        labelled="labelled digits",
        asked="pictures",
        files="picture files",
        yours="pictures, one folder per class",
        data="YOUR_FOLDER",
        stronger="timm/mobilenetv2_100",
    ),
    "text": _Show(
        per_class=(10, 30, 80),
        title="What is a Python function for? Accuracy on the same 250 descriptions, which no method learned from",
        labelled="labelled texts",
        asked="texts.csv",
        files="rows of a table",
        yours="texts, a table with columns text and label",
        data="YOUR.csv",
        stronger="hf/sentence-transformers/all-MiniLM-L6-v2",
    ),
}


def demo(
    *,
    text: Annotated[bool, typer.Option("--text", help="Learn from sentences instead of pictures.")] = False,
    run: Annotated[Path | None, typer.Option(help="Folder for the three runs (default: runs/demo-1, -2, ...).")] = None,
    model: Annotated[ModelOptions, only("model")],
    compute: OnlySeed,
    output: OutputOptions,
) -> None:
    """Run the whole path offline, on digits or texts. Learns from 10, 30 and 100 labelled ones a class (80 texts)."""
    from thawline import planning, runs
    from thawline.errors import RunError
    from thawline.runs.folder import first_free

    place = run or first_free(Path("runs"), "demo")
    if place.exists():
        raise RunError(f"--run must be a new folder; {place} is there already. Choose another name.")
    kind = "text" if text else "image"
    backbone, finished = backbone_for(model)(kind), []
    with listening(quiet=output.silent) as listener:
        for n in _SHOWS[kind].per_class:
            data = _open(kind, n, compute.seed)
            plan = planning.plan(data, backbone, thaw="none", seed=compute.seed)
            folder = place / f"{n}-per-class"
            finished.append(runs.fit(data, plan, backbone=backbone, run=folder, listener=listener))
        asked = _ask(finished[-1], data, place / _SHOWS[kind].asked, listener)
    if output.json_:
        print_json({"runs": [one.to_json() for one in finished], **asked})
    else:
        _print(finished, asked, place, _SHOWS[kind])


def _open(kind: str, per_class: int, seed: int) -> Dataset:
    from thawline.data.digits import open_digits
    from thawline.data.docstrings import open_docstrings

    return (open_docstrings if kind == "text" else open_digits)(per_class, seed=seed)


def _ask(run: Run, data: Dataset, place: Path, listener: BarListener | NoteListener) -> dict[str, Any]:
    """Write some test samples as a user has them, and predict them with the saved bundle."""
    from thawline.bundles import load_bundle

    assert data.given is not None
    test = [row for row, part in enumerate(data.given) if part == "test"]
    test = test[:: len(test) // N_ASKED][:N_ASKED] if data.kind == "text" else test[:N_ASKED]  # texts are in order
    labels = [data.classes[data.labels[row]] for row in test]
    what = (_write_texts if data.kind == "text" else _write_pictures)(
        [data.source.read(row) for row in test], labels, place
    )
    answer = load_bundle(run.folder).predict(what, progress=partial(listener.progress, "features")).to_json(n_top=2)
    return answer | {"labels": labels}


def _write_pictures(pictures: list[Any], labels: list[str], folder: Path) -> list[Path]:
    import numpy as np
    from PIL import Image

    folder.mkdir()
    paths = [folder / f"digit-{number}-is-a-{label}.png" for number, label in enumerate(labels, start=1)]
    for path, picture in zip(paths, pictures, strict=True):
        Image.fromarray(np.asarray(picture)).save(path)
    return paths


def _write_texts(texts: list[Any], labels: list[str], path: Path) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerows([("text", "label"), *zip(texts, labels, strict=True)])
    return path


def _print(finished: list[Run], asked: dict[str, Any], place: Path, show: _Show) -> None:
    from thawline.cli.results import table
    from thawline.evaluation.baselines import METHODS

    say(show.title)
    methods = [name for name in METHODS if name in finished[0].report.content["baselines"]]
    rows = table(show.labelled, *methods, "Thawline", "95 % interval")
    for n, run in zip(show.per_class, finished, strict=True):
        simpler = [run.report.content["baselines"][name]["accuracy"]["value"] for name in methods]
        score = run.report.accuracy
        low, high = score.ci95
        values = (f"{value:.3f}" for value in simpler)
        rows.add_row(f"{n} of each", *values, f"[bold]{score.value:.3f}[/]", f"{low:.3f} to {high:.3f}")
    say(rows)
    for name in methods:
        say(f"  {name}: {METHODS[name]}")
    best = finished[-1]
    right = sum(found["label"] == label for found, label in zip(asked["predictions"], asked["labels"], strict=True))
    features = [run.report.content["features"] for run in finished]
    say(f"\nWith {show.per_class[-1]} of each: {plain(best.report.verdict)}")
    say(
        f"The saved model, loaded again, labelled {right} of {len(asked['labels'])} {show.files} correctly. "
        f"{sum(f['computed'] for f in features):,} features computed, {sum(f['reused'] for f in features):,} reused. "
        f"Freeze receipts: {', '.join(run.report.content['receipt'] for run in finished)}."
    )
    say(f"\nReport: [bold]{plain(best.report_path)}[/]\n", soft_wrap=True)
    say(f"Now with your own {show.yours}:")
    say(f"  [bold]thawline fit {show.data}[/]")
    say(f"  [bold]thawline fit {show.data} --model {show.stronger}[/]   a stronger model, from the hub", soft_wrap=True)
    say(f"  [bold]thawline predict {plain(best.folder)} {plain(place / show.asked)}[/]", soft_wrap=True)
