"""Tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from thawline.cli.console import plain, say
from thawline.evaluation.baselines import METHODS

if TYPE_CHECKING:
    from thawline.runs import Evaluation, Run

_PROBE = {"probe": "a new linear head on the frozen model"}
"""Stands beside them where something was thawed."""
_METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "log_loss": "log loss (nats, lower is better)",
    "top5_accuracy": "top-5 accuracy",
}


def table(*columns: str) -> Table:
    """A plain table; every column but the first is set to the right."""
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        grid.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    return grid


def print_run(run: Run) -> None:
    """Print what a fit reached, beside the simpler methods, and where everything lies."""
    content = run.report.content
    n, features, seconds = content["n"], content["features"], content["seconds"]
    stages = content["stages"]
    trained = [stage for stage in stages if "epochs" in stage["details"]]
    last = next((stage for stage in reversed(trained) if stage["details"].get("kept", True)), stages[0])
    what = "thawed, the new head among them" if last in trained else "in the new head"
    kept = content.get("thawed", content["thaw"])
    came_to = "" if kept == content["thaw"] else f", which came to {kept}"
    say(
        f"[bold]{plain(content['model'])}[/], thaw {plain(content['thaw'] + came_to)} "
        f"({last['frozen']:,} parameters frozen, {last['trainable']:,} {what})"
    )
    say(
        f"{len(content['classes'])} classes; {n['train']:,} to train, {n['val']:,} to validate, {n['test']:,} to test; "
        f"files skipped: {len(content['skipped'])}"
    )
    if decided := run.plan.verdict:
        say(f"Decided on samples held out of the training part: {plain(decided[0].lower() + decided[1:])}")
    if trained:
        say(_stages(stages))
    rows = table("on the test part", "accuracy", "95 % interval", "macro F1", "log loss")
    methods = {"[bold]this model[/]": content["test"]}
    titles = METHODS | _PROBE
    methods |= {titles.get(name, name): metrics for name, metrics in content["baselines"].items()}
    for title, metrics in methods.items():
        accuracy = metrics["accuracy"]
        low, high = accuracy["ci95"]
        rows.add_row(
            title,
            f"{accuracy['value']:.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{metrics['macro_f1']['value']:.3f}",
            f"{metrics['log_loss']['value']:.3f}",
        )
    say(rows)
    for warning in content["warnings"]:
        say(f"[yellow]note:[/] {plain(warning)}")
    say(plain(content["verdict"]))
    planning = f"planning {seconds['planning']:.1f}, " if seconds.get("planning", 0) >= 0.05 else ""
    training = f"training {seconds['training']:.1f}" if trained else f"head {seconds['head']:.1f}"
    say(
        f"Features: {features['computed']:,} computed, {features['reused']:,} from the cache. Receipt: "
        f"{content['receipt']}. {seconds['total']:.1f} s: data {seconds['data']:.1f}, features "
        f"{seconds['features']:.1f}, {planning}{training}, evaluation and simpler methods {seconds['evaluation']:.1f}."
    )
    say(
        f"Run folder: [bold]{plain(run.folder)}[/]   report: [bold]{plain(run.report_path)}[/]",
        soft_wrap=True,
    )


def _stages(stages: Sequence[Mapping[str, Any]]) -> Table:
    """One row per stage of training; what a stage does not say of itself is a dash."""
    rows = table("stage", "thaw line", "thawed", "epochs", "val accuracy (95 %)", "val loss", "s", "kept")
    rows.padding = (0, 0, 0, 1)  # so that names such as blocks.5.2 fit into 100 columns
    for column in rows.columns[1:]:
        column.no_wrap = True
    for stage in stages:
        details = stage["details"]
        by_validation = "validation" in stage["score_name"] and stage["score"] is not None
        kept = details.get("kept")
        rows.add_row(
            plain(stage["name"]),
            plain(details.get("rung", details.get("thaw", "-"))),
            _parameters(stage["trainable"]),
            f"{details['epochs']:g}" if "epochs" in details else "-",
            _with_interval(details.get("val_accuracy"), details.get("val_ci95")),
            f"{stage['score']:.4f}" if by_validation else "-",
            f"{stage['seconds']:.1f}",
            "-" if kept is None else "yes" if kept else "no",
        )
    return rows


def _parameters(n: int) -> str:
    return f"{n:,}" if n < 1e6 else f"{n / 1e6:,.1f} M"


def _with_interval(value: float | None, ci95: Sequence[float] | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" + (f" ({ci95[0]:.3f} to {ci95[1]:.3f})" if ci95 else "")


def print_evaluation(evaluation: Evaluation) -> None:
    """Print the scores of a run on other data."""
    say(f"[bold]{plain(evaluation.run)}[/] on {plain(evaluation.data)}, {evaluation.n:,} samples")
    if evaluation.n_seen:
        say(
            f"[yellow]note:[/] the model learned from {evaluation.n_seen:,} of them (same content): "
            "the scores flatter it."
        )
    print_metrics(evaluation.to_json()["test"])
    rows = table("class", "n", "recall", "precision", "F1")
    for name, row in zip(evaluation.classes, evaluation.scores.per_class, strict=True):
        values = (f"{row[key]:.3f}" if row["n"] else "-" for key in ("recall", "precision", "f1"))
        rows.add_row(plain(name), f"{row['n']:.0f}", *values)
    say(rows)


def print_metrics(metrics: Mapping[str, Any]) -> None:
    """Print metrics with their intervals."""
    rows = table("metric", "value", "95 % interval")
    for name, metric in metrics.items():
        low, high = metric["ci95"]
        rows.add_row(_METRICS.get(name, name), f"{metric['value']:.3f}", f"{low:.3f} to {high:.3f}")
    say(rows)
