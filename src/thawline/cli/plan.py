"""``thawline plan``: measure, decide, explain; writes a plan that a person can read, edit and replay."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thawline.cli import options
from thawline.cli.console import console, listening, plain, print_json, say
from thawline.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from thawline.planning import FitPlan, Planned
    from thawline.planning.timing import Forecast

EXAMPLES = (
    "Examples:\n\n"
    "thawline plan photos/\n\n"
    "thawline plan photos/ --model timm/mobilenetv2_100@weights.safetensors --out ants.toml\n\n"
    "thawline plan photos/ --budget 10min\n\n"
    "thawline plan table.csv --label-column species --json\n\n"
    "thawline fit photos/ --plan plan.toml   (does what was decided)"
)

_WIDTH = 100
"""Columns that the table needs at most."""


def plan(
    data: Annotated[
        Path, typer.Argument(help="Folder of class folders, CSV/TSV/Parquet table, or folder of train/test tables.")
    ],
    model: options.Model = None,
    out: Annotated[Path, typer.Option(help="Where to write the plan.")] = Path("plan.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace a plan that stands there.")] = False,
    thaw: options.Thaw = "auto",
    budget: options.BudgetText = None,
    epochs: options.Epochs = None,
    lr: options.Lr = None,
    batch_size: options.BatchSize = None,
    views: options.ViewCount = None,
    set_: options.Set = None,
    label_column: options.LabelColumn = None,
    file_column: options.FileColumn = None,
    image_column: options.ImageColumn = None,
    group_column: options.GroupColumn = None,
    split_column: options.SplitColumn = None,
    root: options.Root = None,
    strict: options.Strict = False,
    split: options.Split = "70/15/15",
    model_arg: options.ModelArg = None,
    input_px: options.InputPx = None,
    mean: options.Mean = None,
    std: options.Std = None,
    interpolation: options.Interpolation = None,
    crop_pct: options.CropPct = None,
    sha256: options.Sha256 = None,
    seed: options.Seed = 0,
    engine: options.Engine = "auto",
    precision: options.Precision = "auto",
    device: options.Device = "auto",
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Decide by measuring how much to retrain. Writes plan.toml, which `thawline fit --plan` does.

    Heads on frozen features are compared first; then, while that promises more, short trainings with the thaw line at
    several layers. The test part is never looked at.
    """
    from thawline import planning
    from thawline.backbones import DEFAULT_MODEL, open_backbone
    from thawline.data import open_data
    from thawline.planning.timing import forecast
    from thawline.scale.disk import storage_errors

    if out.is_dir() or (out.exists() and not force):
        raise UsageError(f"--out must be a new file; {out} is there. Choose another, or replace it with --force.")
    if not out.parent.is_dir():
        raise UsageError(f"--out must lie in a folder that exists; {out.parent} does not. Make it first.")
    settings = options.model_settings(model_arg, input_px, mean, std, interpolation, crop_pct, sha256)
    training = options.training_settings(set_, epochs=epochs, lr=lr, batch_size=batch_size, views=views)
    shares = options.fractions(split)
    spend = options.budget(budget)
    with listening(quiet=quiet or json_) as listener:
        backbone = open_backbone(model or DEFAULT_MODEL, **settings)
        opened = open_data(
            data,
            label_column=label_column,
            file_column=file_column,
            image_column=image_column,
            group_column=group_column,
            split_column=split_column,
            root=root,
            strict=strict,
            **planning.Asked(settings={"seed": seed}, budget=spend).opening(),
            progress=partial(listener.progress, "reading"),
        )
        planned = planning.make_plan(
            opened,
            backbone,
            watcher=listener,
            explain=True,
            budget=spend,
            thaw=thaw,
            training=training,
            fractions=shares,
            seed=seed,
            engine=engine,
            precision=precision,
            device=device,
        )
        # where nothing was measured, nothing is known yet of what it takes
        ahead = None if planned.plan.candidates else forecast(opened, backbone, planned.plan)
        with storage_errors(out):
            planning.write_plan(planned.plan, out)
    if json_:
        print_json(contract(planned, out, ahead))
    else:
        _print(planned.plan, out, data, ahead)


def contract(planned: "Planned", path: Path, ahead: "Forecast | None") -> dict[str, Any]:
    """Return what ``--json`` prints."""
    plan = planned.plan
    evidence = {} if planned.evidence is None else planned.evidence.to_json()
    chosen = {
        "model": plan.model,
        "thaw": plan.thaw,
        "layer": plan.layer,
        "head": plan.head,
        "stages": [stage.model_dump(mode="json") for stage in plan.stages],
    }
    return {
        "plan": str(path),
        "chosen": chosen,
        "verdict": plan.verdict,
        "reasons": list(plan.reasons),
        "candidates": [candidate.model_dump(mode="json") for candidate in plan.candidates],
        "forecast": None if ahead is None else asdict(ahead),
        **evidence,
    }


def _print(plan: "FitPlan", path: Path, data: Path, ahead: "Forecast | None") -> None:
    if plan.verdict:
        say(f"[bold]{plain(plan.verdict)}[/]")
    for reason in plan.reasons:
        say(plain(reason))
    if plan.candidates:
        console(stderr=False).print(_candidates(plan), crop=False)
        say(
            "Judged on samples that they did not learn from. behind by: log loss above that of the chosen one on the "
            "samples that both were judged on, and its standard error."
        )
    if ahead is not None:
        say(f"It will take {plain(str(ahead))}: timed on a few batches, with nothing stored beforehand.")
    say(f"Written: [bold]{plain(path)}[/]   do it: thawline fit {plain(data)} --plan {plain(path)}", soft_wrap=True)


def _candidates(plan: "FitPlan") -> "Table":
    """One row per candidate, best first."""
    from rich import box
    from rich.table import Table

    # a pipe counts as 80 columns, which would cut numbers
    width = None if console(stderr=False).width >= _WIDTH else _WIDTH
    rows = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), width=width)
    rows.add_column("candidate", overflow="fold")
    for column in ("accuracy", "95 % interval", "n", "log loss", "behind by (SE)", "fit s", "cache MB"):
        rows.add_column(column, justify="right", no_wrap=True)
    for one in plan.candidates:
        chosen = one.behind is None
        rows.add_row(
            f"[bold green]{plain(one.name)}[/]" if chosen else plain(one.name),
            f"{one.score:.3f}",
            f"{one.ci95[0]:.3f} to {one.ci95[1]:.3f}",
            f"{one.n:,}",
            f"{one.log_loss:.3f}",
            "[bold green]chosen[/]" if one.behind is None else f"{one.behind[0]:+.3f} ({one.behind[1]:.3f})",
            f"{one.seconds:,.0f}" if one.seconds >= 10 else f"{one.seconds:.1f}",
            f"{one.bytes / 1e6:,.0f}" if one.bytes else "-",
        )
    return rows
