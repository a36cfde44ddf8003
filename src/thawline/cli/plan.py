"""``thawline plan``: measure, decide, explain; writes a plan that a person can read, edit and replay."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thawline.cli.console import console, listening, plain, print_json, say
from thawline.cli.groups import without
from thawline.cli.opening import opened_together
from thawline.cli.options import ComputeOptions, Data, DataOptions, OutputOptions, TrainingOptions, WholeModel
from thawline.errors import UsageError
from thawline.naming import shell_word

if TYPE_CHECKING:
    from rich.table import Table

    from thawline.planning import FitPlan, Planned
    from thawline.planning.pays_from import PaysFrom
    from thawline.planning.timing import Forecast

EXAMPLES = (
    "Examples:\n\n"
    "thawline plan photos/\n\n"
    "thawline plan photos/ --model timm/mobilenetv2_100@weights.safetensors --out ants.toml\n\n"
    "thawline plan photos/ --budget 10min\n\n"
    "thawline plan table.csv --label-column species --json\n\n"
    "thawline plan reviews.csv --curve   (from how many samples a class fine-tuning pays)\n\n"
    "thawline fit photos/ --plan plan.toml   (does what the plan says)"
)

_WIDTH = 100
"""Columns that the table may need."""


def plan(
    *,
    data: Data,
    out: Annotated[Path, typer.Option(help="File to write the plan to.")] = Path("plan.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace that file if it is there.")] = False,
    curve: Annotated[
        bool,
        typer.Option(
            "--curve",
            help="Also measure from how many samples a class fine-tuning pays: up to seven short trainings more.",
        ),
    ] = False,
    data_options: DataOptions,
    model: WholeModel,
    training: Annotated[TrainingOptions, without("from_scratch", "head", "hidden", "dropout")],
    compute: ComputeOptions,
    output: OutputOptions,
) -> None:
    """Decide by measuring how much to retrain. Writes plan.toml, which `thawline fit --plan` does.

    Heads on frozen features are compared first; then, while that promises more, short trainings with the thaw line at
    several layers. The test set is never looked at.
    """
    from thawline import planning
    from thawline.cli.results import json_of, print_data
    from thawline.planning.fine_tuning_curve import fine_tuning_curve
    from thawline.planning.fit_plan import plan_text
    from thawline.planning.own_statistics import with_own_statistics
    from thawline.planning.timing import forecast
    from thawline.scale.disk import written_whole

    if out.is_dir() or (out.exists() and not force):
        raise UsageError(f"--out must be a new file; {out} is there. Choose another, or replace it with --force.")
    if not out.parent.is_dir():
        raise UsageError(f"--out must lie in a folder that exists; {out.parent} does not. Make it first.")
    asked = planning.Asked.of(
        thaw=training.thaw,
        fractions=data_options.fractions(),
        seed=compute.seed,
        **compute.hardware(),
        training=training.settings(),
        budget=training.spend(),
    )
    with listening(quiet=output.silent) as listener:
        labelled, backbone = opened_together(
            data, data_options, model, listener, own=True, **compute.hardware(), **asked.opening()
        )
        backbone = with_own_statistics(
            labelled, backbone, model.own(), listener, fractions=data_options.fractions(), seed=compute.seed
        )
        labelled = planning.noted(labelled, backbone)
        listener.found(labelled)
        planned = planning.make_plan(labelled, backbone, asked, watcher=listener, explain=True)
        # if nothing was measured, nothing is known yet of what the fit takes
        ahead = None if planned.plan.candidates else forecast(planned.on(labelled), backbone, planned.plan)
        pays = None
        if curve:
            ground = planned.on(labelled)
            pays = fine_tuning_curve(ground, backbone, planned.plan, asked.training, listener)
            reasons = (*planned.plan.reasons, pays.words)
            planned = replace(planned, plan=planned.plan.changed(reasons=reasons))
        with written_whole(out) as file:
            file.write(plan_text(planned.plan))
    if output.json_:
        measured = {"curve": pays.to_json()} if pays else {}
        print_json(contract(planned, out, ahead) | measured | json_of(labelled))
    else:
        print_data(labelled, planned.on(labelled).split)
        say(plain(f"Weights: {backbone.load_receipt().summary}"))
        _print(planned.plan, out, data, ahead, pays)


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


def _print(plan: "FitPlan", path: Path, data: Path, ahead: "Forecast | None", pays: "PaysFrom | None" = None) -> None:
    if plan.verdict:
        say(f"[bold]{plain(plan.verdict)}[/]")
    for reason in plan.reasons:
        say(plain(reason))
    if plan.candidates:
        loss = "squared error" if plan.target == "number" else "log loss"
        console(stderr=False).print(_candidates(plan), crop=False)
        say(
            f"Each candidate is judged on samples that it did not learn from. behind by: its {loss} above that of the "
            "chosen one, on the samples that both were judged on, and the standard error."
        )
    if pays is not None:
        console(stderr=False).print(_curve(pays), crop=False)
    if ahead is not None:
        say(f"It will take {plain(str(ahead))}: timed on a few batches, with an empty cache.")
    command = f"thawline fit {shell_word(data)} --plan {shell_word(path)}"
    say(f"Written: [bold]{plain(path)}[/]   next: {plain(command)}", soft_wrap=True)


def _curve(pays: "PaysFrom") -> "Table":
    """Make a table with a row for each number of samples that was learned from."""
    from thawline.cli.results import table

    rows = table(
        "samples a class", "learned from", "frozen head", "fine-tuned", "log loss saved", "95 % interval", "way"
    )
    for one in pays.reached:
        share, low, high = one.saved
        rows.add_row(
            f"{one.of_class:g}",
            f"{one.n:,}",
            f"{one.frozen_accuracy:.3f}",
            f"{one.tuned_accuracy:.3f}",
            f"{100 * share:+.0f} %",
            f"{100 * low:+.0f} to {100 * high:+.0f} %",
            plain(one.way),
        )
    return rows


def _candidates(plan: "FitPlan") -> "Table":
    """Make a table with a row for each candidate, the best first."""
    from rich import box
    from rich.table import Table

    from thawline.evaluation.metric_words import JUDGED_BY

    # a pipe counts as 80 columns, which would cut numbers
    width = None if console(stderr=False).width >= _WIDTH else _WIDTH
    rows = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), width=width)
    rows.add_column("candidate", overflow="fold")
    loss = "sq. error" if plan.target == "number" else "log loss"
    for column in (JUDGED_BY[plan.target], "95 % interval", "n", loss, "behind by (SE)", "fit s", "cache MB"):
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
