"""Charts of the report, as inline SVG whose colours are the variables of the page, so that they follow light and dark.

matplotlib draws with stand-in colours, which are then replaced by CSS variables. Equal input gives equal bytes: no
date, no random identifiers. Text stays text, so that it can be read aloud, selected and searched.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from io import StringIO
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from thawline.records import Score
    from thawline.runs.report import Curve, Strength

INK, MUTED, LINE, CARD, ACCENT, WARM = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
_VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", CARD: "card", ACCENT: "accent", WARM: "warm"}
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
_WIDTH_IN = 5.2
_FONT_PT = 9.5


def accuracy_chart(rows: Sequence[tuple[str, Score]]) -> Markup:
    """Draw one dot with its 95 % interval per method, from 0 to 100 %; the first row is the one in colour."""
    figure, axes = _figure(height_in=0.45 + 0.52 * len(rows))
    axes.set_xlim(0, 100)
    axes.set_ylim(len(rows) - 0.35, -0.75)
    axes.set_xticks(range(0, 101, 25), [f"{x} %" for x in range(0, 101, 25)])
    axes.set_yticks([])
    axes.grid(axis="x", color=LINE, linewidth=0.8)
    for y, (title, score) in enumerate(rows):
        colour, weight = (ACCENT, "bold") if y == 0 else (MUTED, "normal")
        low, high = (100 * bound for bound in score.ci95)
        axes.text(0, y - 0.3, title, color=INK, weight=weight, ha="left", va="center", parse_math=False)
        value = f"{100 * score.value:.1f} %"
        axes.text(100, y - 0.3, value, color=INK, weight=weight, ha="right", va="center", parse_math=False)
        axes.plot(
            [low, high], [y + 0.12] * 2, color=colour, linewidth=3, solid_capstyle="round", clip_on=False, zorder=3
        )
        axes.plot(
            [100 * score.value],
            [y + 0.12],
            "o",
            color=colour,
            markersize=7,
            markeredgecolor=CARD,
            clip_on=False,
            zorder=4,
        )
    spoken = "; ".join(
        f"{title}: {100 * s.value:.1f} %, interval {100 * s.ci95[0]:.1f} to {100 * s.ci95[1]:.1f} %"
        for title, s in rows
    )
    return _svg(figure, "accuracy", f"Accuracy of each method with its 95 % interval. {spoken}.")


def strength_chart(name: str, tried: Sequence[Strength]) -> Markup:
    """Draw the cross-validated log loss of each strength, with one standard error where known, and ring the kept one.

    Args:
        name: ``C`` (the inverse of the strength) or ``lambda``.
        tried: In ascending order.
    """
    x, loss = [s.value for s in tried], [s.log_loss for s in tried]
    figure, axes = _figure(height_in=2.7)
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    errors = [s.standard_error or 0.0 for s in tried]
    below, above = (
        [m - e for m, e in zip(loss, errors, strict=True)],
        [m + e for m, e in zip(loss, errors, strict=True)],
    )
    axes.fill_between(x, below, above, color=ACCENT, alpha=0.18, linewidth=0)
    axes.plot(x, loss, "o-", color=ACCENT, linewidth=1.6, markersize=4.5, markeredgewidth=0)
    spoken = f"Cross-validated log loss for {len(tried)} values of {name}."
    for s in tried:
        if s.kept:
            axes.plot(
                [s.value], [s.log_loss], "o", color="none", markeredgecolor=WARM, markeredgewidth=2.2, markersize=13
            )
            spoken += f" The kept one is {s.value:.4g}, with log loss {s.log_loss:.3f}."
    strong, weak = ("left", "right") if name == "C" else ("right", "left")
    label = f"{name}: strong regularisation on the {strong}, weak on the {weak}"
    axes.set_xlabel(label, color=MUTED, fontsize=_FONT_PT - 1)
    axes.set_ylabel("log loss (lower is better)", color=MUTED, fontsize=_FONT_PT - 1)
    return _svg(figure, "strength", spoken)


def training_chart(curves: Sequence[Curve]) -> Markup:
    """Draw the loss in training and on the validation part over the epochs of all stages, one after the other."""
    figure, axes = _figure(height_in=2.9)
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    for number, curve in enumerate(curves):
        epochs = [point[0] for point in curve.points]
        alpha = 1.0 if curve.kept else 0.35
        axes.plot(epochs, [point[1] for point in curve.points], color=MUTED, linewidth=1.4, alpha=alpha)
        judged = [(epoch, loss) for epoch, _, loss in curve.points if loss is not None]
        if judged:
            axes.plot(*zip(*judged, strict=True), "o-", color=ACCENT, linewidth=1.8, markersize=3.5, alpha=alpha)
        if number:
            axes.axvline(curve.start, color=LINE, linewidth=1)
        axes.annotate(
            str(number + 1), (curve.start, 1), xycoords=("data", "axes fraction"), xytext=(3, -2),
            textcoords="offset points", color=MUTED, fontsize=_FONT_PT - 2, va="top",
        )  # fmt: skip
    axes.set_xlim(0, curves[-1].points[-1][0])
    axes.set_xlabel("epochs, all stages one after the other", color=MUTED, fontsize=_FONT_PT - 1)
    axes.set_ylabel("loss (lower is better)", color=MUTED, fontsize=_FONT_PT - 1)
    spoken = "; ".join(_spoken_curve(number, curve) for number, curve in enumerate(curves, 1))
    return _svg(figure, "training", f"Loss by epoch in {len(curves)} stages. {spoken}.")


def _spoken_curve(number: int, curve: Curve) -> str:
    first, last = curve.points[0], curve.points[-1]
    spoken = f"Stage {number}, {curve.stage}: in training from {first[1]:.3f} to {last[1]:.3f}"
    if first[2] is not None and last[2] is not None:
        spoken += f", on the validation part from {first[2]:.3f} to {last[2]:.3f}"
    return spoken + ("" if curve.kept else ", rolled back")


def _figure(height_in: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")
    axes = figure.add_subplot()
    figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.tick_params(length=0, colors=MUTED, labelsize=_FONT_PT - 1, pad=6)
    axes.set_axisbelow(True)
    return figure, axes


def _svg(figure: Figure, name: str, spoken: str) -> Markup:
    """Write ``figure`` as an ``<svg>`` that scales with the page and is read aloud as ``spoken``."""
    import matplotlib

    buffer = StringIO()
    style = matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": f"thawline-{name}", "font.size": _FONT_PT})
    with warnings.catch_warnings(), style:
        # The reader's browser has the glyphs that the font used for measuring may lack.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", metadata=_NO_METADATA)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(
        r"<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL
    )  # it would style the page
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    box = re.search(r'viewBox="[^"]+"', text)
    assert box is not None, "matplotlib writes a viewBox"
    start = f'<svg {box[0]} role="img" aria-label="{escape(spoken)}" xmlns:xlink="http://www.w3.org/1999/xlink">'
    return Markup(start + text[text.index(">") + 1 :].strip())
