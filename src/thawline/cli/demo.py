"""``thawline demo``: the whole path, offline, on data that ship with scikit-learn."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thawline.cli.console import listening, plain, print_json, say
from thawline.cli.groups import only
from thawline.cli.opening import opened_backbone
from thawline.cli.options import ModelOptions, OnlySeed, OutputOptions

if TYPE_CHECKING:
    from thawline.cli.console import BarListener, NoteListener
    from thawline.runs import Run

EXAMPLES = "Examples:\n\nthawline demo\n\nthawline demo --run my-demo --json"

PER_CLASS = (10, 30, 100)
"""Labelled digits of each kind that the three runs may learn from."""
N_PICTURES = 5


def demo(
    *,
    run: Annotated[Path | None, typer.Option(help="Folder for the three runs (default: runs/demo-1, -2, ...).")] = None,
    model: Annotated[ModelOptions, only("model")],
    compute: OnlySeed,
    output: OutputOptions,
) -> None:
    """Run the whole path offline, on digits. Learns from 10, 30 and 100 labelled handwritten digits of each kind."""
    from thawline import planning, runs
    from thawline.data.digits import open_digits
    from thawline.errors import RunError
    from thawline.runs.folder import first_free

    place = run or first_free(Path("runs"), "demo")
    if place.exists():
        raise RunError(f"--run must be a new folder; {place} is there already. Choose another name.")
    backbone = opened_backbone(model)
    finished = []
    with listening(quiet=output.silent) as listener:
        for n in PER_CLASS:
            data = open_digits(n, seed=compute.seed)
            plan = planning.plan(data, backbone, thaw="none", seed=compute.seed)
            folder = place / f"{n}-per-class"
            finished.append(runs.fit(data, plan, backbone=backbone, run=folder, listener=listener))
        asked = _ask(finished[-1], place / "pictures", listener, compute.seed)
    if output.json_:
        print_json({"runs": [one.to_json() for one in finished], **asked})
    else:
        _print(finished, asked, place)


def _ask(run: Run, folder: Path, listener: BarListener | NoteListener, seed: int) -> dict[str, Any]:
    """Write some test digits as picture files and predict them with the saved bundle, as a user would."""
    import numpy as np
    from PIL import Image

    from thawline.bundles import load_bundle
    from thawline.data.digits import open_digits

    data = open_digits(PER_CLASS[-1], seed=seed)
    folder.mkdir()
    test = [row for row in range(len(data)) if data.given is not None and data.given[row] == "test"][:N_PICTURES]
    paths = []
    for number, row in enumerate(test):
        paths.append(folder / f"digit-{number + 1}-is-a-{data.classes[data.labels[row]]}.png")
        Image.fromarray(np.asarray(data.source.read(row))).save(paths[-1])
    answer = load_bundle(run.folder).predict(paths, progress=partial(listener.progress, "features"))
    return answer.to_json(n_top=2)


def _print(finished: list[Run], asked: dict[str, Any], place: Path) -> None:
    from thawline.cli.results import table
    from thawline.evaluation.baselines import METHODS

    say("Handwritten digits: accuracy on the same 600, which no method learned from")
    rows = table("labelled digits", *METHODS, "Thawline", "95 % interval")
    for n, run in zip(PER_CLASS, finished, strict=True):
        simpler = [run.report.content["baselines"][name]["accuracy"]["value"] for name in METHODS]
        score = run.report.accuracy
        low, high = score.ci95
        values = (f"{value:.3f}" for value in simpler)
        rows.add_row(f"{n} of each", *values, f"[bold]{score.value:.3f}[/]", f"{low:.3f} to {high:.3f}")
    say(rows)
    for name, title in METHODS.items():
        say(f"  {name}: {title}")
    best = finished[-1]
    right = sum(f"is-a-{p['label']}." in p["file"] for p in asked["predictions"])
    features = [run.report.content["features"] for run in finished]
    say(f"\nWith 100 of each: {plain(best.report.verdict)}")
    say(
        f"The saved model, loaded again, labelled {right} of {len(asked['predictions'])} picture files correctly. "
        f"{sum(f['computed'] for f in features):,} features computed, {sum(f['reused'] for f in features):,} reused. "
        f"Freeze receipts: {', '.join(run.report.content['receipt'] for run in finished)}."
    )
    say(f"\nReport: [bold]{plain(best.report_path)}[/]\n", soft_wrap=True)
    say("Now with your own pictures, one folder per class:")
    say("  [bold]thawline fit YOUR_FOLDER[/]")
    say("  [bold]thawline fit YOUR_FOLDER --model timm/mobilenetv2_100[/]   a stronger model, from the hub")
    say(f"  [bold]thawline predict {plain(best.folder)} {plain(place / 'pictures')}[/]", soft_wrap=True)
