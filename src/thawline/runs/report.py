"""The report of a run: one HTML file that opens without a network, on a phone or on paper, in light or dark.

Everything in it that came from outside (names of files and classes, error texts) is escaped, shortened and counted:
neither a hostile name nor a data set of any size makes the page run code or outgrow `MAX_BYTES`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thawline.evaluation.metric_words import JUDGED_BY, PER_OUTPUT, interval, words_of, written
from thawline.records import OUTPUTS, PARTS
from thawline.runs import report_rows as rows
from thawline.runs.pages import sentence_case, templates
from thawline.runs.report_rows import MAX_STAGES, ReportData
from thawline.showing import printable

if TYPE_CHECKING:
    pass

MAX_BYTES = 5_000_000
MAX_HEAT_CLASSES = 30
"""Up to here the confusion matrix is drawn whole; beyond, its largest entries are listed."""
MAX_ROWS = 500
"""Longest table of classes."""
MAX_SKIPPED = 50
MAX_MISTAKES = 24
MAX_PAIRS = 6
"""Pairs of copies that are shown."""
THUMBNAIL_PX = 144
"""Side of the square that shows a sample."""


def render_report(report: ReportData) -> str:
    """Return the report as one HTML document of at most `MAX_BYTES`; equal input gives equal text."""
    from thawline.runs.charts import accuracy_chart, strength_chart, training_chart

    strengths, strength_name = rows.strengths(report)
    baselines = sorted(report.baselines, key=lambda b: -b.scores.main.value)[:12]
    methods = [("This model", report.test.main)]
    methods += [(printable(sentence_case(b.title), 60), b.scores.main) for b in baselines]
    headline = words_of(report.test.headline)
    return (
        templates()
        .get_template("report.html.j2")
        .render(
            report=report,
            fitting_s=_fitting_s(report),
            baselines=baselines,
            totals=report.sizes or {part: sum(report.counts.get(part, ())) for part in PARTS},
            outputs=OUTPUTS[report.target],
            judged_by=JUDGED_BY[report.target],
            words_of=words_of,
            as_text=written,
            interval=interval,
            per_output=PER_OUTPUT[report.target][1],
            class_rows=rows.class_rows(report)[:MAX_ROWS],
            confusions=rows.confusions(report),
            heat=rows.heat(report) if report.test.confusion.size and len(report.classes) <= MAX_HEAT_CLASSES else None,
            mistakes=report.mistakes[:MAX_MISTAKES],
            skipped=report.skipped[:MAX_SKIPPED],
            copies=report.copies,
            copies_said=rows.copies_said(report),
            accuracy_chart=accuracy_chart(methods, sentence_case(headline.title), is_share=headline.is_share),
            stage_rows=rows.stage_rows(report)[:MAX_STAGES],
            receipt_rows=rows.receipt_rows(report)[:MAX_STAGES],
            load_rows=rows.load_rows(report),
            training_chart=training_chart(curves) if (curves := rows.curves(report)) else None,
            strengths=strengths,
            strength_name=strength_name,
            strength_chart=strength_chart(strength_name, strengths) if len(strengths) > 1 else None,
        )
    )


def _fitting_s(report: ReportData) -> float | None:
    """Return the seconds that the model took besides its features: training if there was any, else solving the head."""
    return report.seconds.get("training" if rows.curves(report) else "head")
