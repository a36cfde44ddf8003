"""Charts of the report, as inline SVG. Colours are the variables of the page, which follow light and dark mode.

No plotting library draws them: loading one and drawing three charts took half the time of a run whose features are all
stored. Equal input gives equal bytes. Text stays text: it can be read aloud, selected and searched, and no position
depends on its width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

from markupsafe import Markup, escape

from thawline.showing import printable

if TYPE_CHECKING:
    from thawline.records import Score
    from thawline.runs.report_rows import Curve, Strength

_WIDTH = 374.0
"""Width of every chart in points; the page scales it."""
_FONT, _SMALL = 9.5, 8.5
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 8.0, 8.0, 34.0
"""Space around an area with axes."""
_MOST_TICKS = 7
_LETTER = 4.5
"""Points that a letter of a stage's name may take; the widest letters take more, the average one less."""

Point = tuple[float, float]


def accuracy_chart(rows: Sequence[tuple[str, Score]], what: str = "Accuracy", *, is_share: bool = True) -> Markup:
    """Draw one dot with its 95 % interval per method, from 0 to 100 %; the first row is the one in colour.

    Args:
        what: Name of the score, at most 1.
        is_share: Whether it is written as per cent. One that is not may be below 0; what is, is drawn at 0.
    """
    pitch, margin = 37.0, 12.0
    height = 8 + pitch * len(rows) + 16
    along = _Scale(0, 1, margin, _WIDTH - margin)

    def x(value: float) -> float:
        return along(min(max(value, 0.0), 1.0))

    def shown(value: float, *, unit: bool = True) -> str:
        return f"{100 * value:.1f}{' %' if unit else ''}" if is_share else f"{value:.3f}"

    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(_line([(x(tick), 4), (x(tick), height - 16)], "line", 0.8))
        anchor = "end" if tick == 1 else "start" if tick == 0 else "middle"  # no text leaves the drawing
        said = f"{100 * tick:.0f} %" if is_share else f"{tick:g}"
        parts.append(_text(x(tick), height - 6, said, "muted", anchor=anchor, size=_SMALL))
    for number, (title, score) in enumerate(rows):
        colour, bold = ("accent", True) if number == 0 else ("muted", False)
        y = 18 + pitch * number
        parts.append(_text(x(0), y, title, "ink", bold=bold))
        parts.append(_text(x(1), y, shown(score.value), "ink", anchor="end", bold=bold))
        low, high = score.ci95
        parts.append(_line([(x(low), y + 12), (x(high), y + 12)], colour, 3))
        parts.append(_dot((x(score.value), y + 12), 3.8, fill=colour, stroke="card"))
    spoken = "; ".join(
        f"{title}: {shown(s.value)}, interval {shown(s.ci95[0], unit=False)} to {shown(s.ci95[1])}" for title, s in rows
    )
    return _svg(height, parts, f"{what} of each method with its 95 % interval. {spoken}.")


def strength_chart(name: str, tried: Sequence[Strength]) -> Markup:
    """Draw the cross-validated log loss of each strength, with one standard error if known; ring the kept one.

    Args:
        name: ``C`` (the inverse of the strength) or ``lambda``.
        tried: In ascending order.
    """
    height = 194.0
    errors = [s.standard_error or 0.0 for s in tried]
    low = min(s.log_loss - error for s, error in zip(tried, errors, strict=True))
    high = max(s.log_loss + error for s, error in zip(tried, errors, strict=True))
    across = _Scale(math.log10(tried[0].value), math.log10(tried[-1].value), _LEFT + 8, _WIDTH - _RIGHT - 8)
    y = _up(low, high, height)

    def at(s: Strength, shift: float = 0.0) -> Point:
        return across(math.log10(s.value)), y(s.log_loss + shift)

    strong, weak = ("left", "right") if name == "C" else ("right", "left")
    parts = [*_grid(y), _y_title("log loss (lower is better)", height)]
    parts.append(_x_title(f"{name}: strong regularisation on the {strong}, weak on the {weak}", height))
    for power in _powers(across):
        label = Markup('10<tspan dy="-3.5" font-size="6.5">{}</tspan>').format(
            f"{power}".replace("-", "\N{MINUS SIGN}")
        )
        parts.append(_text(across(power), height - 20, label, "muted", anchor="middle", size=_SMALL))
    above = [at(s, error) for s, error in zip(tried, errors, strict=True)]
    below = [at(s, -error) for s, error in zip(tried, errors, strict=True)]
    parts.append(_area([*above, *reversed(below)], "accent"))
    parts.append(_line([at(s) for s in tried], "accent", 1.6))
    parts += [_dot(at(s), 2.3, fill="accent") for s in tried]
    spoken = f"Cross-validated log loss for {len(tried)} values of {name}."
    for s in tried:
        if s.kept:
            parts.append(_dot(at(s), 6.5, stroke="warm", width=2.2))
            spoken += f" The kept one is {s.value:.4g}, with log loss {s.log_loss:.3f}."
    return _svg(height, parts, spoken)


def training_chart(curves: Sequence[Curve]) -> Markup:
    """Draw training loss and validation loss over the epochs of all stages, one after the other."""
    height = 208.0
    losses = [loss for curve in curves for _, *both in curve.points for loss in both if _is_drawn(loss)] or [0.0]
    x = _Scale(0, curves[-1].points[-1][0], _LEFT, _WIDTH - _RIGHT - 8)
    y = _up(min(losses), max(losses), height)
    parts = [*_grid(y), _y_title("loss (lower is better)", height)]
    parts.append(_x_title("epochs, stages one after the other", height))
    for tick in _ticks(x):
        parts.append(_text(x(tick), height - 20, f"{tick:g}", "muted", anchor="middle", size=_SMALL))
    for number, curve in enumerate(curves, 1):
        if number > 1:
            parts.append(_line([(x(curve.start), _TOP), (x(curve.start), height - _BOTTOM)], "line", 1))
        label = _stage_label(number, curve, x(curve.points[-1][0]) - x(curve.start) - 6)
        parts.append(_text(x(curve.start) + 3, _TOP + 6, label, "muted", size=7.5))
    for curve in curves:
        depth = 1.0 if curve.kept else 0.35
        trained = [(x(epoch), y(loss)) for epoch, loss, _ in curve.points if _is_drawn(loss)]
        judged = [(x(epoch), y(loss)) for epoch, _, loss in curve.points if _is_drawn(loss)]
        parts += [_line(trained, "muted", 1.4, depth)] if trained else []
        parts += [_line(judged, "accent", 1.8, depth)] if judged else []
        parts += [_dot(point, 1.8, fill="accent", depth=depth) for point in judged]
    spoken = "; ".join(_spoken_curve(number, curve) for number, curve in enumerate(curves, 1))
    return _svg(height, parts, f"Loss by epoch in {len(curves)} stages. {spoken}.")


def _stage_label(number: int, curve: Curve, width: float) -> str:
    """Return the name of a stage, or its number if the name is wider than ``width`` points."""
    name = printable(curve.stage)
    return name if len(name) * _LETTER <= width else str(number)


def _is_drawn(loss: float | None) -> TypeGuard[float]:
    """Say whether a loss was measured and is finite."""
    return loss is not None and math.isfinite(loss)


def _spoken_curve(number: int, curve: Curve) -> str:
    first, last = curve.points[0], curve.points[-1]
    spoken = f"Stage {number}, {curve.stage}: training loss from {first[1]:.3f} to {last[1]:.3f}"
    if first[2] is not None and last[2] is not None:
        spoken += f", validation loss from {first[2]:.3f} to {last[2]:.3f}"
    return spoken + ("" if curve.kept else ", rolled back")


@dataclass(frozen=True, slots=True)
class _Scale:
    """A linear scale from values to positions."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (self.end - self.start) * (value - self.low) / ((self.high - self.low) or 1.0)


def _up(low: float, high: float, height: float) -> _Scale:
    """Return the vertical scale of an area with axes, with 6 % of space at both ends."""
    room = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
    return _Scale(low - room, high + room, height - _BOTTOM, _TOP)


def _ticks(scale: _Scale) -> list[float]:
    """Return at most ``_MOST_TICKS`` round values, 1, 2 or 5 times a power of ten apart."""
    least = ((scale.high - scale.low) or 1.0) / (_MOST_TICKS - 1)
    power = 10.0 ** math.floor(math.log10(least))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least)
    first, last = math.ceil(scale.low / step - 1e-9), math.floor(scale.high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _powers(scale: _Scale) -> list[int]:
    """Return at most ``_MOST_TICKS`` whole exponents on a scale of exponents; the nearest one if there is none."""
    first, last = math.ceil(scale.low - 1e-9), math.floor(scale.high + 1e-9)
    every = max(1, math.ceil((last - first + 1) / _MOST_TICKS))
    return list(range(first, last + 1, every)) or [round(scale.low)]


def _grid(y: _Scale) -> Iterator[Markup]:
    """Yield a line across the area and its value for each tick."""
    for tick in _ticks(y):
        yield _line([(_LEFT, y(tick)), (_WIDTH - _RIGHT, y(tick))], "line", 0.8)
        yield _text(_LEFT - 5, y(tick), f"{tick:.4g}", "muted", anchor="end", size=_SMALL)


def _x_title(text: str, height: float) -> Markup:
    return _text((_LEFT + _WIDTH - _RIGHT) / 2, height - 6, text, "muted", anchor="middle", size=_SMALL)


def _y_title(text: str, height: float) -> Markup:
    turned = _text(0, 0, text, "muted", anchor="middle", size=_SMALL)
    return Markup('<g transform="translate(8 {}) rotate(-90)">{}</g>').format(_n((_TOP + height - _BOTTOM) / 2), turned)


def _n(value: float) -> str:
    return f"{value:.2f}"


def _line(points: Sequence[Point], colour: str, width: float, depth: float = 1.0) -> Markup:
    return Markup(
        '<path d="M {}" style="fill: none; stroke: var(--{}); stroke-width: {}; stroke-linecap: round; '
        'stroke-linejoin: round; opacity: {}"/>'
    ).format(" L ".join(f"{_n(x)} {_n(y)}" for x, y in points), colour, f"{width:g}", f"{depth:g}")


def _area(points: Sequence[Point], colour: str) -> Markup:
    place = " L ".join(f"{_n(x)} {_n(y)}" for x, y in points)
    return Markup('<path d="M {} Z" style="fill: var(--{}); opacity: 0.18"/>').format(place, colour)


def _dot(
    centre: Point,
    radius: float,
    *,
    fill: str | None = None,
    stroke: str | None = None,
    width: float = 1,
    depth: float = 1,
) -> Markup:
    inside, around = ("none" if colour is None else f"var(--{colour})" for colour in (fill, stroke))
    return Markup(
        '<circle cx="{}" cy="{}" r="{}" style="fill: {}; stroke: {}; stroke-width: {}; opacity: {}"/>'
    ).format(_n(centre[0]), _n(centre[1]), f"{radius:g}", inside, around, f"{width:g}", f"{depth:g}")


def _text(
    x: float, y: float, text: str, colour: str, *, anchor: str = "start", size: float = _FONT, bold: bool = False
) -> Markup:
    """Return text whose middle line is at ``y``; escaped unless it is markup."""
    weight = Markup(' font-weight="700"') if bold else ""
    return Markup(
        '<text x="{}" y="{}" dy="0.34em" text-anchor="{}" font-size="{}"{} style="fill: var(--{})">{}</text>'
    ).format(_n(x), _n(y), anchor, f"{size:g}", weight, colour, text)


def _svg(height: float, parts: Sequence[Markup], spoken: str) -> Markup:
    """Return an ``<svg>`` that scales with the page and is read aloud as ``spoken``."""
    start = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}" xmlns="http://www.w3.org/2000/svg">\n').format(
        f"{_WIDTH:g}", f"{height:g}", escape(spoken)
    )
    return start + Markup("\n").join(parts) + Markup("\n</svg>")
