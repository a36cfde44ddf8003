"""The report: complete, escaped, self-contained, bounded, the same bytes for the same input."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest

from thawline import showing
from thawline.inputs.image.kind import show
from thawline.records import Baseline, ImagePreparation, Score, Scores, Skipped, StageReport
from thawline.runs import pages, report_rows
from thawline.runs import report as report_module
from thawline.runs.charts import accuracy_chart, strength_chart, training_chart
from thawline.runs.pages import MAX_THUMBNAIL_BYTES
from thawline.runs.report import MAX_BYTES, THUMBNAIL_PX, render_report
from thawline.runs.report_rows import CopiesShown, Curve, Mistake, ReportData, Strength, Twin

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)> {{ 7 * 7 }} $\\frac{1}{0}$ \x00\x1b[31m\ud800'
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects tags with attributes and the visible text, and checks that the tags nest."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []
        self.text = re.sub(r"\s+", " ", "".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def make_scores(n_classes: int, n: int, accuracy: float, seed: int) -> Scores:
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % n_classes
    guess = np.where(rng.random(n) < accuracy, truth, (truth + 1) % n_classes)
    confusion = np.zeros((n_classes, n_classes), np.int64)
    np.add.at(confusion, (truth, guess), 1)
    hits, called, n_true = np.diag(confusion), confusion.sum(0), confusion.sum(1)
    per_class = tuple(
        {"precision": h / max(c, 1), "recall": h / max(t, 1), "f1": 2 * h / max(c + t, 1), "n": t}
        for h, c, t in zip(hits.tolist(), called.tolist(), n_true.tolist(), strict=True)
    )
    value = float((truth == guess).mean())
    metrics = {
        name: Score(name, value - 0.01 * k, (value - 0.01 * k - 0.02, value - 0.01 * k + 0.015), n)
        for k, name in enumerate(("accuracy", "balanced_accuracy", "macro_f1", "log_loss"))
    }
    if n_classes >= 6:
        metrics["top5_accuracy"] = Score("top5_accuracy", 0.987, (0.981, 0.992), n)
    return Scores(metrics, per_class, confusion)


def make_report(n_classes: int = 3, n: int = 90, **changes: object) -> ReportData:
    classes = tuple(f"kind {i}" for i in range(n_classes))
    picture = show(np.full((200, 300, 3), (0, 128, 128), np.uint8), THUMBNAIL_PX)
    report = ReportData(
        title="garden",
        verdict="Worth it: 90.0 % against 51.0 %.",
        model="embedded/tiny",
        thaw="none",
        trainable=1203,
        frozen=998_877,
        classes=classes,
        counts={
            "train": [70 + i for i in range(n_classes)],
            "val": [15] * n_classes,
            "test": [n // n_classes] * n_classes,
        },
        split_origin="Drawn with 70 / 15 / 15 % and seed 0.",
        test=make_scores(n_classes, n, 0.9, 1),
        val=make_scores(n_classes, n // 2, 0.9, 2),
        receipt="clean",
        preparation=ImagePreparation(
            input_px=(64, 64), resize_px=72, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
        ),
        skipped=(Skipped("a/broken.jpg", "truncated after 17 bytes"),),
        warnings=("One class has 3 samples.",),
        baselines=(
            Baseline("knn", "nearest neighbours", make_scores(n_classes, n, 0.8, 3), 0.25),
            Baseline("majority", "always the most frequent class", make_scores(n_classes, n, 0.4, 4), 0.01),
        ),
        head_path=tuple({"C": 10.0**e, "log_loss": 0.3 + 0.01 * e**2, "se": 0.02} for e in range(-3, 4)),
        head_c=0.1,
        stages=(
            StageReport(name="probe", trainable=1203, frozen=998_877, score=0.2718, score_name="log loss", seconds=2.5),
        ),
        seconds={"total": 71.0, "features": 65.4},
        computed=123,
        reused=4567,
        mistakes=(Mistake("kind 0/x.jpg", classes[0], classes[1], 0.991, picture),),
        environment={"torch": "9.8.7"},
        commands=(("thawline predict RUN new/*.jpg", "Label new pictures."),),
    )
    return replace(report, **changes)  # type: ignore[arg-type]


def test_every_number_is_there_with_its_interval_and_n() -> None:
    report = make_report(6)
    text = Page(render_report(report)).text
    for score in [*report.test.metrics.values(), *(b.scores["accuracy"] for b in report.baselines)]:
        low, high = score.ci95
        if score.name == "log_loss":
            assert f"{score.value:.3f}" in text and f"{low:.3f} to {high:.3f}" in text
        else:
            assert f"{100 * score.value:.1f} %" in text and f"{100 * low:.1f} to {100 * high:.1f} %" in text
    for said in (
        "n = 90",
        "Worth it: 90.0 % against 51.0 %.",
        "embedded/tiny",
        "1,203",
        "998,877",
        "0.12 % learned",
        "998,877",
        "64 x 64",
        "72 pixels",
        "0.485, 0.456, 0.406",
        "Drawn with 70 / 15 / 15 %",
        "a/broken.jpg",
        "truncated after 17 bytes",
        "One class has 3 samples.",
        "Nearest neighbours",
        "0.2718",
        "1 min 11 s",
        "1 min 05 s",
        "123 computed, 4,567 reused from the cache",
        "99.1 %",
        "kind 0/x.jpg",
        "9.8.7",
        "thawline predict RUN new/*.jpg",
        "435 samples",
        "C = 0.1",
        "0.3100",
        "on the validation set",
        "6: kind 0, kind 1, kind 2, kind 3, kind 4, kind 5 (samples of each)",
        "Clean.",
    ):
        assert said in text, said


def test_the_page_asks_for_nothing_from_outside() -> None:
    page = Page(render_report(make_report()))
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for tag, attrs in page.tags:
        for name in ("src", "href", "xlink:href", "srcset", "action", "background", "poster"):
            value = attrs.get(name)
            assert value is None or value.startswith(("#", "data:image/png;base64,")), (tag, name, value)
        assert not [name for name in attrs if name.startswith("on")]
    html = render_report(make_report())
    assert set(re.findall(r"url\(([^)]{1})", html)) <= {"#"}
    assert "@import" not in html
    assert "default-src 'none'" in html


def test_equal_input_gives_equal_bytes() -> None:
    assert render_report(make_report()) == render_report(make_report())


def test_hostile_names_are_only_text() -> None:
    page = Page(
        render_report(
            make_report(
                title=HOSTILE,
                verdict=HOSTILE,
                model=HOSTILE,
                thaw=HOSTILE,
                split_origin=HOSTILE,
                receipt=HOSTILE,
                classes=(HOSTILE, "b", "\u202ec"),
                warnings=(HOSTILE,),
                skipped=(Skipped(HOSTILE, HOSTILE),),
                mistakes=(
                    Mistake(HOSTILE, HOSTILE, HOSTILE, 0.5),
                    Mistake("f", HOSTILE, "b", 0.5, show(np.zeros((3, 3), np.uint8), THUMBNAIL_PX)),
                ),
                baselines=(Baseline("x", HOSTILE, make_scores(3, 9, 0.5, 0), 1.0),),
                stages=(StageReport(name=HOSTILE, trainable=1, frozen=1, score=0.0, score_name=HOSTILE, seconds=1.0),),
                environment={HOSTILE: HOSTILE},
                commands=((HOSTILE, HOSTILE),),
                seconds={HOSTILE: 1.0},
            )
        )
    )
    assert "script" not in {tag for tag, _ in page.tags}
    assert all(image["src"] != "x" for image in page.named("img"))
    assert "<script>alert(1)</script>" in page.text  # as words to read
    assert "{{ 7 * 7 }}" in page.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\ud800-\udfff]", page.text)
    page.text.encode("utf-8")


def test_a_name_written_from_right_to_left_cannot_turn_the_rest_around() -> None:
    html = render_report(make_report(classes=("\u202e\u05d0", "b", "c"), mistakes=()))
    assert "\u202e" not in html
    assert html.count("\ufffd\u05d0") == html.count("<bdi>\ufffd\u05d0") > 0


def test_ten_thousand_files_and_two_hundred_classes_stay_below_the_limit() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (144, 144, 3), dtype=np.uint8)
    picture = show(noise, THUMBNAIL_PX)
    long = "\u6f22\U0001f98b<&" * 2000
    html = render_report(
        make_report(
            200,
            10_000,
            classes=tuple(f"{i} {long}" for i in range(200)),
            skipped=tuple(Skipped(f"{long}/{i}", long) for i in range(10_000)),
            warnings=(long,) * 1000,
            mistakes=tuple(Mistake(long, long, long, 0.9, picture) for _ in range(1000)),
            stages=(StageReport(name=long, trainable=1, frozen=1, score=0.0, score_name=long, seconds=1.0),) * 1000,
            environment={f"{i}{long}": long for i in range(1000)},
            commands=((long, long),) * 1000,
        )
    )
    assert len(html.encode()) <= MAX_BYTES
    text = Page(html).text
    assert "the first 50 of 10,000" in text
    assert "10,000 files that could not be used" in text
    assert "188 more classes" in text
    assert "and 980 more warnings" in text


def test_the_longest_page_that_can_be_is_below_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "MAX_HEAT_CLASSES", 0)
    n = report_module.MAX_ROWS + 7
    full = b"\x89PNG\r\n\x1a\n" + bytes(MAX_THUMBNAIL_BYTES - 8)
    mistakes = (Mistake("f", "a", "b", 0.9, full),) * report_module.MAX_MISTAKES
    html = render_report(make_report(n, n, classes=tuple(f"{i}{'&' * 99}" for i in range(n)), mistakes=mistakes))
    assert html.count("data:image/png") == report_module.MAX_MISTAKES
    assert len(html.encode()) <= MAX_BYTES
    assert "7 classes with a higher recall are not shown." in Page(html).text


@pytest.mark.parametrize(
    "thumbnail",
    [None, b"GIF89a", b"\x89PNG\r\n\x1a\n" + bytes(MAX_THUMBNAIL_BYTES)],
    ids=["none", "gif", "huge"],
)
def test_a_mistake_without_a_usable_thumbnail_is_still_listed(thumbnail: bytes | None) -> None:
    page = Page(render_report(make_report(mistakes=(Mistake("f.jpg", "a", "b", 0.75, thumbnail),))))
    assert page.named("img") == []
    assert "no picture" in page.text and "75.0 %" in page.text


def test_copies_are_counted_and_shown_side_by_side() -> None:
    picture = show(np.full((20, 30, 3), (0, 128, 128), np.uint8), THUMBNAIL_PX)
    counts = {"sought": "near", "identical": 25, "near": 1900, "alike": 0, "across_given_split": 1}
    pair = Twin("a<b>.jpg", "cat", "training set", picture), Twin("b.jpg", "cat", "test set", picture)
    page = Page(render_report(make_report(copies=CopiesShown(counts, copies=(pair,)), mistakes=())))
    assert "25 repeat the content of another; 1,900 are near copies of another, 1 across the split" in page.text
    assert "Near copies that were found" in page.text and "not taken for copies" not in page.text
    assert len(page.named("img")) == 2
    assert "a<b>.jpg" in page.text and "cat, test set" in page.text
    alike = counts | {"identical": 0, "near": 0, "alike": 60, "across_given_split": 0}
    text = Page(render_report(make_report(copies=CopiesShown(alike, alike=(pair,))))).text
    assert "60 are nearly alike, and not taken for copies" in text and "Near copies that" not in text


@pytest.mark.parametrize(
    ("sought", "said"),
    [
        ("near", "none found"),
        ("exact", "none found; near copies were not sought"),
        ("off", "they are not kept together"),
    ],
)
def test_the_absence_of_copies_is_said(sought: str, said: str) -> None:
    counts = {"sought": sought, "identical": 0, "near": 0, "alike": 0, "across_given_split": 0}
    assert said in Page(render_report(make_report(copies=CopiesShown(counts)))).text


def test_a_violated_receipt_is_said_first() -> None:
    text = Page(render_report(make_report(receipt="conv1.weight changed."))).text
    assert text.index("Do not use this model") < text.index("Accuracy")
    assert "Violated. conv1.weight changed." in text and "Clean." not in text


def test_the_least_that_a_run_can_have_is_a_report_too() -> None:
    bare = make_report(
        2,
        val=None,
        preparation=None,
        skipped=(),
        warnings=(),
        baselines=(),
        head_path=(),
        head_c=None,
        stages=(),
        seconds={},
        mistakes=(),
        environment={},
        commands=(),
        test=make_scores(2, 90, 1.1, 0),
    )
    text = Page(render_report(bare)).text
    assert "No test sample was given a wrong class." in text
    for absent in (
        "Read this before",
        "Skipped files",
        "Stages of training",
        "regularised",
        "time went",
        "try next",
        "Versions and machine",
    ):
        assert absent not in text


def test_the_best_baseline_stands_next_to_the_model() -> None:
    report = make_report()
    text = Page(render_report(replace(report, baselines=report.baselines[::-1]))).text
    assert text.index("Nearest neighbours") < text.index("Always the most frequent class")


def test_without_a_validation_part_it_is_said_what_chose() -> None:
    text = Page(render_report(make_report(counts={"train": [9] * 3, "val": [0] * 3, "test": [9] * 3}))).text
    assert "settings were chosen by cross-validation" in text


def test_a_long_verdict_is_set_smaller() -> None:
    assert 'class="verdict long"' in render_report(make_report(verdict="word " * 40))
    assert 'class="verdict"' in render_report(make_report())


def test_squashed_pictures_are_described_as_such() -> None:
    squash = ImagePreparation(input_px=(64, 48), resize_px=72, crop_mode="squash", mean=(0.5,) * 3, std=(0.5,) * 3)
    text = Page(render_report(make_report(preparation=squash))).text
    assert "Resized to 64 x 48" in text and "72 pixels" not in text


def test_classes_are_listed_with_wilson_intervals_the_hardest_first() -> None:
    report = make_report(4, 120)
    confusion = np.array([[30, 0, 0, 0], [6, 24, 0, 0], [0, 3, 27, 0], [0, 0, 0, 0]])
    per_class = ({"precision": 30 / 36, "recall": 1.0, "f1": 30 / 33, "n": 30}, *report.test.per_class[1:])
    rows = report_rows.class_rows(replace(report, test=replace(report.test, confusion=confusion, per_class=per_class)))
    assert [row.name for row in rows] == ["kind 1", "kind 2", "kind 0", "kind 3"]
    assert [(row.recall.value, row.recall.n) for row in rows] == [(0.8, 30), (0.9, 30), (1.0, 30), (0.0, 0)]
    for row, hits in zip(rows[:3], (24, 27, 30), strict=True):
        assert row.recall.ci95 == pytest.approx(tuple(binomtest(hits, 30).proportion_ci(method="wilson")))
    assert rows[2].counts == (70, 15, 30) and rows[2].f1 == 30 / 33 and rows[2].precision == 30 / 36
    assert rows[3].recall.ci95 == (0.0, 1.0)


def test_a_class_without_test_samples_says_so() -> None:
    report = make_report(3)
    confusion = np.array([[30, 0, 0], [6, 24, 0], [0, 0, 0]])
    assert (
        "no test sample, so nothing was measured"
        in Page(render_report(replace(report, test=replace(report.test, confusion=confusion)))).text
    )


def test_confusions_are_listed_by_how_often() -> None:
    report = make_report(3)
    confusion = np.array([[20, 1, 0], [0, 9, 7], [2, 0, 11]])
    found = report_rows.confusions(replace(report, test=replace(report.test, confusion=confusion)))
    assert [(c.true, c.predicted, c.count, c.of) for c in found] == [
        ("kind 1", "kind 2", 7, 16),
        ("kind 2", "kind 0", 2, 13),
        ("kind 0", "kind 1", 1, 21),
    ]
    assert confusion[0, 0] == 20  # the caller's matrix is left alone


@pytest.mark.parametrize(("n_classes", "drawn"), [(30, True), (31, False)])
def test_the_confusion_matrix_is_drawn_up_to_thirty_classes(n_classes: int, drawn: bool) -> None:
    report = make_report(n_classes, 310)
    cells = [attrs for attrs in Page(render_report(report)).named("td") if "--p:" in (attrs.get("style") or "")]
    assert len(cells) == (n_classes**2 if drawn else 0)
    if drawn:
        right = [i for i, attrs in enumerate(cells) if (attrs["class"] or "").split()[0] == "r"]
        assert right == [i * (n_classes + 1) for i in range(n_classes)]
        n = int(report.test.confusion[0].sum())
        assert cells[0]["style"] == f"--p:{round(100 * (report.test.confusion[0, 0] / n) ** 0.5)}"


def test_tables_and_pictures_can_be_read_aloud() -> None:
    page = Page(render_report(make_report(12)))
    assert all(cell.get("scope") in ("col", "row") for cell in page.named("th"))
    assert [image["alt"] for image in page.named("img")] == ["kind 0/x.jpg, a kind 0 taken for kind 1"]
    charts = page.named("svg")
    assert len(charts) == 2
    assert "nearest neighbours" in (charts[0]["aria-label"] or "").lower()
    assert "The kept one is 0.1, with log loss 0.310" in (charts[1]["aria-label"] or "")
    assert all(chart["role"] == "img" for chart in charts)
    assert page.tags[0] == ("html", {"lang": "en"})


def test_charts_follow_light_and_dark() -> None:
    chart = accuracy_chart(
        [("ours", Score("accuracy", 0.9, (0.8, 0.95), 40)), ("other", Score("accuracy", 0.5, (0.4, 0.6), 40))]
    )
    assert "var(--accent)" in chart and "var(--ink)" in chart
    assert not re.search(r"#0[1-6]0[1-6]0[1-6]", chart)
    assert "<style" not in chart and "<metadata" not in chart
    assert ">ours<" in chart  # text, not outlines


def test_a_chart_draws_each_interval_where_it_is() -> None:
    rows = [("a", Score("accuracy", 0.5, (0.25, 0.75), 40)), ("b", Score("accuracy", 0.1, (0.0, 0.5), 40))]
    lines = re.findall(r'd="M ([\d.]+) ([\d.]+) ?\s*L ([\d.]+) ([\d.]+)\s*"[^>]*stroke-width: 3;', accuracy_chart(rows))
    (a_low, _, a_high, _), (b_low, _, b_high, _) = [[float(x) for x in line] for line in lines]
    unit = (a_high - a_low) / 50
    assert b_high - b_low == pytest.approx(50 * unit, rel=1e-3)
    assert a_low - b_low == pytest.approx(25 * unit, rel=1e-3)


def test_names_without_glyphs_and_with_dollars_are_drawn_without_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chart = accuracy_chart([("\u6f22\u5b57 $\\frac{1}{$ <b>", Score("accuracy", 0.9, (0.8, 0.95), 40))])
    assert "$\\frac{1}{$ &lt;b&gt;" in chart and "<b>" not in chart


def test_the_kept_strength_is_ringed() -> None:
    tried = [Strength(c, 0.3, 0.01, False) for c in (0.1, 1.0, 10.0)]
    assert "var(--warm)" not in strength_chart("C", tried)
    assert "var(--warm)" in strength_chart("C", [*tried, Strength(100.0, 0.2, 0.01, True)])


def test_the_strengths_of_ridge_are_lambdas_and_run_the_other_way() -> None:
    path = tuple({"lambda": 10.0**e, "log_loss": 0.4 + 0.1 * e} for e in (1, 0))
    page = Page(render_report(make_report(head_path=path, head_c=1.0)))
    assert "chosen one, lambda = 1." in page.text and "strong regularisation on the right" in page.text
    assert "standard error wide" not in page.text
    strengths, name = report_rows.strengths(make_report(head_path=path, head_c=1.0))
    assert (strengths, name) == ([Strength(1.0, 0.4, None, True), Strength(10.0, 0.5, None, False)], "lambda")


def test_long_names_keep_both_ends() -> None:
    short = showing.printable("a" * 100 + "/photo_17.jpg")
    assert len(short) == showing.MAX_NAME
    assert short.startswith("aaa") and short.endswith("/photo_17.jpg") and "\u2026" in short
    assert showing.printable("two\n lines\t") == "two lines"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.004, "0.00 s"), (3.14, "3.1 s"), (59.94, "59.9 s"), (185.2, "3 min 05 s"), (7384, "2 h 03 min")],
)
def test_durations(seconds: float, said: str) -> None:
    assert pages._duration(seconds) == said


@pytest.mark.parametrize(
    ("part", "whole", "said"),
    [
        (0, 5, "0 %"),
        (5, 5, "100 %"),
        (1, 10**6, "less than 0.01 %"),
        (999, 1000, "99.90 %"),
        (1, 4, "25.0 %"),
        (0, 0, "0 %"),
    ],
)
def test_shares(part: int, whole: int, said: str) -> None:
    assert pages._share(part, whole) == said


def test_thumbnails_fit_and_keep_their_shape() -> None:
    stored = BytesIO()
    Image.new("CMYK", (400, 80)).save(stored, "TIFF")
    with Image.open(BytesIO(show(stored.getvalue(), 50))) as small:
        assert (small.format, small.size, small.mode) == ("PNG", (50, 10), "RGB")


def test_a_stage_is_named_in_the_chart_if_its_name_fits() -> None:
    long = Curve("refit last:4", 0.0, ((1.0, 0.5, 0.4), (10.0, 0.3, 0.2)), kept=True)
    short = Curve("last:2", 10.0, ((10.5, 0.5, None),), kept=False)
    labels = re.findall(r'font-size="7.5"[^>]*>([^<]*)<', training_chart([long, short]))
    assert labels == ["refit last:4", "2"]
    hostile = replace(long, stage=HOSTILE)
    assert "<script" not in training_chart([hostile])
