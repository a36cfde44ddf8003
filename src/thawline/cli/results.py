"""Print results for people: sentences and tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from thawline.cli.console import plain, say
from thawline.cli.found import found_by, found_in
from thawline.evaluation.baselines import GUIDES, METHODS, OF_TARGETS
from thawline.evaluation.metric_words import JUDGED_BY, PER_OUTPUT, SHOWN, words_of
from thawline.showing import counted

if TYPE_CHECKING:
    from thawline.records import Dataset, Split
    from thawline.runs import Evaluation, Run

_PROBE = {"probe": "a new linear head on the frozen model"}
"""A simpler method of runs that thawed something."""


def weights_line(content: Mapping[str, Any]) -> str:
    """Return the line that says how the weights were loaded; empty for a run of a release that did not know."""
    loaded = content.get("load_receipt")
    return f"Weights: {loaded['summary']}" if loaded else ""


def table(*columns: str, left: Sequence[str] = ()) -> Table:
    """Make a plain table; its first column and those named in ``left`` are set to the left, the others to the right."""
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        grid.add_column(column, justify="left" if index == 0 or column in left else "right", overflow="fold")
    return grid


def print_data(data: Dataset, split: Split | None = None) -> None:
    """Print how many samples of which classes were found, if they are split the size of each set, and every note."""
    say(plain(found_in(data, split)))
    print_notes(data.warnings)


def print_data_of(content: Mapping[str, Any]) -> None:
    """Print the same of the data of a run, from its report, without the notes."""
    say(plain(found_by(content)))


def print_notes(warnings: Iterable[str]) -> None:
    """Print what a user must know before believing a number."""
    for warning in warnings:
        say(f"[yellow]note:[/] {plain(warning)}")


def json_of(data: Dataset) -> dict[str, Any]:
    """Return what ``--json`` says of data: the classes, the notes, and the files that are left out."""
    return {
        "classes": list(data.outputs),
        "warnings": list(data.warnings),
        "skipped": [{"file": skipped.file, "reason": skipped.reason} for skipped in data.skipped],
    }


def print_run(run: Run) -> None:
    """Print what a fit reached, beside the simpler methods, and where everything lies."""
    content, target = run.report.content, run.report.target
    features, seconds = content["features"], content["seconds"]
    stages = content["stages"]
    trained = [stage for stage in stages if "epochs" in stage["details"]]
    last = next((stage for stage in reversed(trained) if stage["details"].get("kept", True)), stages[0])
    what = "thawed, including the new head" if last in trained else "in the new head"
    kept = content.get("thawed", content["thaw"])
    came_to = "" if kept == content["thaw"] else f", which came to {kept}"
    say(
        f"[bold]{plain(content['model'])}[/], thaw {plain(content['thaw'] + came_to)} "
        f"({last['frozen']:,} parameters frozen, {last['trainable']:,} {what})"
    )
    print_data_of(content)
    if line := weights_line(content):
        say(plain(line))
    if decided := run.plan.verdict:
        say(f"Decided on samples held out of the training set: {plain(decided[0].lower() + decided[1:])}")
    if trained:
        say(_stages(stages, JUDGED_BY[target]))
    headline, *others = SHOWN[target]
    rows = table("on the test set", words_of(headline).title, "95 % interval", *(words_of(n).title for n in others))
    methods = {"[bold]this model[/]": content["test"]}
    titles = METHODS | GUIDES | _PROBE | dict(OF_TARGETS[target])
    methods |= {titles.get(name, name): metrics for name, metrics in content["baselines"].items()}
    for title, metrics in methods.items():
        low, high = metrics[headline]["ci95"]
        values = (f"{metrics[name]['value']:.3f}" for name in others)
        rows.add_row(title, f"{metrics[headline]['value']:.3f}", f"{low:.3f} to {high:.3f}", *values)
    say(rows)
    print_notes(content["warnings"])
    say(plain(content["verdict"]))
    planning = f"planning {seconds['planning']:.1f}, " if seconds.get("planning", 0) >= 0.05 else ""
    training = f"training {seconds['training']:.1f}" if trained else f"head {seconds['head']:.1f}"
    say(
        f"{features['computed']:,} features computed, {features['reused']:,} reused. Freeze receipt: "
        f"{content['receipt']}. {seconds['total']:.1f} s: data {seconds['data']:.1f}, features "
        f"{seconds['features']:.1f}, {planning}{training}, evaluation and simpler methods {seconds['evaluation']:.1f}."
    )
    say(
        f"Run folder: [bold]{plain(run.folder)}[/]   report: [bold]{plain(run.report_path)}[/]",
        soft_wrap=True,
    )


def _stages(stages: Sequence[Mapping[str, Any]], judged_by: str) -> Table:
    """Make a table with a row for each stage of training; a dash stands for an unknown value."""
    rows = table("stage", "thaw line", "thawed", "epochs", f"val {judged_by} (95 %)", "val loss", "s", "kept")
    rows.padding = (0, 0, 0, 1)  # names such as blocks.5.2 must fit into 100 columns
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
    say(f"[bold]{plain(evaluation.run)}[/] judged on {counted(evaluation.n, 'sample')} of {plain(evaluation.data)}")
    if evaluation.n_seen:
        say(
            f"[yellow]note:[/] the model learned from {evaluation.n_seen:,} of them (same content), "
            "so the scores flatter it."
        )
    print_metrics(evaluation.to_json()["test"])
    what, keys = PER_OUTPUT[evaluation.target]
    rows = table(what, "n", *(words_of(key).title if key != "f1" else "F1" for key in keys))
    for name, row in zip(evaluation.classes, evaluation.scores.per_class, strict=True):
        values = (f"{row[key]:.3f}" if row["n"] else "-" for key in keys)
        rows.add_row(plain(name), f"{row['n']:.0f}", *values)
    say(rows)


def print_metrics(metrics: Mapping[str, Any]) -> None:
    """Print metrics with their intervals."""
    rows = table("metric", "value", "95 % interval")
    for name, metric in metrics.items():
        low, high = metric["ci95"]
        words = words_of(name)
        rows.add_row(words.title + words.note, f"{metric['value']:.3f}", f"{low:.3f} to {high:.3f}")
    say(rows)
