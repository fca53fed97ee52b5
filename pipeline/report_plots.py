"""Plots of the report as inline SVG: pure functions from numbers to markup, coloured by the page's style sheet.

Positions along a width are per cent of the drawing, so a plot is as wide as its column and its text keeps its size
at any width; heights are CSS pixels. Only classes, no colours, stand here: light, dark and print are the page's affair.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

CURVE_PX = 150
MAP_PX = 320
MARK_PX = 18


class Domain(NamedTuple):
    """The range of an axis."""

    low: float
    high: float

    def percent(self, value: float) -> float:
        """Where `value` lies on the axis, 0 at `low`, 100 at `high`; values outside are put on the edge."""
        share = (value - self.low) / (self.high - self.low)
        return 100 * min(max(share, 0.0), 1.0)


class Mark(NamedTuple):
    """A value with its interval, to be drawn."""

    value: float
    low: float
    high: float
    kind: str
    """Its classes in the style sheet."""


class Point(NamedTuple):
    """One image on the map."""

    x: float
    y: float
    colour: int
    """Number of the colour in the page's palette, from 0; negative for "none of them"."""
    chosen: bool
    picture: int
    """Place of its picture in the sprite sheet; negative for none."""
    says: str
    """What is said of it when it is pointed at."""


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers within [low, high], steps of 1, 2 or 5 times a power of ten, nearest to `about` of them."""
    if not high > low:
        return [low]
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((power * m for m in (1, 2, 5, 10)), key=lambda s: abs(math.log(s / raw)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def _words(values: Sequence[float]) -> list[str]:
    """Ticks as text, all with as many decimals as the finest needs."""
    decimals = max((len(f"{value:.6g}".partition(".")[2]) for value in values if abs(value) >= 1e-4), default=0)
    small = any(0 < abs(value) < 1e-4 for value in values)
    return [f"{value:g}" if small else f"{value:.{decimals}f}" for value in values]


def around(values: Iterable[float], step: float = 0.1, floor: float = 0.0, ceiling: float = 1.0) -> Domain:
    """The smallest range of whole `step`s that holds `values` with some air, within [floor, ceiling]."""
    known = [value for value in values if math.isfinite(value)] or [floor, ceiling]
    low = max(floor, math.floor((min(known) - step / 4) / step) * step)
    high = min(ceiling, math.ceil((max(known) + step / 4) / step) * step)
    return Domain(round(low, 9), round(max(high, low + step), 9))


def intervals(marks: Sequence[Mark], domain: Domain, guides: Sequence[float] = ()) -> Markup:
    """One row of an interval plot: for every mark a line over its interval and a sign at its value, one below another.

    Args:
        marks: at least one; "hollow" in the kind of one draws an open diamond instead of a disc, "square" a square, and
            "ring" leaves it to the style sheet to open the disc.
        domain: the axis shared by all rows.
        guides: values that every row marks with a thin upright line, such as chance.
    """
    parts = [
        Markup('<line class="guide" x1="{0:.2f}%" x2="{0:.2f}%" y1="-25%" y2="125%"/>').format(domain.percent(guide))
        for guide in guides
    ]
    for place, mark in enumerate(marks):
        at, left, right = (domain.percent(x) for x in (mark.value, mark.low, mark.high))
        y = MARK_PX * (place + 0.5)
        whisker = '<line class="whisker {0}" x1="{1:.2f}%" x2="{2:.2f}%" y1="{3:g}" y2="{3:g}"/>'
        parts.append(Markup(whisker).format(mark.kind, left, right, y))
        disc = '<circle class="mark {}" cx="{:.2f}%" cy="{:g}" r="5"/>'
        square = '<svg x="{1:.2f}%" y="{2:g}"><path class="mark {0}" d="M-4.5-4.5H4.5V4.5H-4.5Z"/></svg>'
        diamond = '<svg x="{1:.2f}%" y="{2:g}"><path class="mark {0}" d="M0-5 5 0 0 5-5 0Z"/></svg>'
        sign = diamond if "hollow" in mark.kind else square if "square" in mark.kind else disc
        parts.append(Markup(sign).format(mark.kind, at, y))
    return Markup('<svg class="row" width="100%" height="{}" aria-hidden="true">{}</svg>').format(
        MARK_PX * len(marks), Markup("").join(parts)
    )


def axis(domain: Domain) -> Markup:
    """The axis below the rows of an interval plot."""
    places = ticks(*domain)
    marks = Markup("").join(
        Markup(
            '<line class="tick" x1="{0:.2f}%" x2="{0:.2f}%" y1="0" y2="5"/><text x="{0:.2f}%" y="18">{1}</text>'
        ).format(domain.percent(value), word)
        for value, word in zip(places, _words(places), strict=True)
    )
    line = Markup('<line class="tick" x1="0" x2="100%" y1="0.5" y2="0.5"/>')
    return Markup('<svg class="row axis" width="100%" height="22" aria-hidden="true">{}{}</svg>').format(line, marks)


def bar(share: float) -> Markup:
    """A horizontal bar of `share` (0 to 1) of the width."""
    wide = 100 * min(max(share, 0.0), 1.0)
    return Markup(
        '<svg class="row" width="100%" height="12" aria-hidden="true">'
        '<rect class="bar" width="{:.2f}%" height="12" rx="2"/></svg>'
    ).format(wide)


def curve(xs: Sequence[float], ys: Sequence[float], name: str) -> Markup:
    """A line through (x, y) with its scale; single points are marked where there are few.

    Args:
        xs: steps, ascending; at least one.
        ys: values, finite, as many.
        name: what it is, for those who do not see it.
    """
    x_domain = Domain(min(xs), max(max(xs), min(xs) + 1))
    span = (max(ys) - min(ys)) or abs(max(ys)) or 1.0
    y_domain = Domain(min(ys) - 0.06 * span, max(ys) + 0.06 * span)
    height = [100 - y_domain.percent(y) for y in ys]
    path = " ".join(f"{x_domain.percent(x):.2f},{h:.2f}" for x, h in zip(xs, height, strict=True))
    places = ticks(*y_domain, about=3)
    grid = Markup("").join(
        Markup('<line class="guide" x1="0" x2="100%" y1="{0:.2f}%" y2="{0:.2f}%"/>'
               '<text x="100%" y="{0:.2f}%" dy="-3">{1}</text>').format(100 - y_domain.percent(value), word)
        for value, word in zip(places, _words(places), strict=True)
    )  # fmt: skip
    dots = Markup("")
    if len(xs) <= 20:
        dots = Markup("").join(
            Markup('<circle class="dot" cx="{:.2f}%" cy="{:.2f}%" r="3"/>').format(x_domain.percent(x), h)
            for x, h in zip(xs, height, strict=True)
        )
    said = f"{name}: from {ys[0]:.4g} at step {xs[0]:g} to {ys[-1]:.4g} at step {xs[-1]:g}"
    return Markup(
        '<svg class="curve" width="100%" height="{}" role="img" aria-label="{}">{}'
        '<svg width="100%" height="100%" viewBox="0 0 100 100" preserveAspectRatio="none">'
        '<polyline class="line" points="{}"/></svg>{}</svg>'
    ).format(CURVE_PX, said, grid, path, dots)


def scatter(points: Sequence[Point], places: Sequence[tuple[float, float, str]], name: str) -> Markup:
    """A map: a disc for every point, a ring round the chosen ones, drawn last; words at `places`.

    Args:
        points: in any units; the map is scaled to hold them all, equally in x and y.
        places: (x, y, word) in the same units.
        name: what it shows, for those who do not see it.
    """
    to = _fit([(p.x, p.y) for p in points])
    parts = []
    for point in sorted(points, key=lambda p: p.chosen):
        x, y = to(point.x, point.y)
        shade = f"c{point.colour}" if point.colour >= 0 else "c-none"
        parts.append(
            f'<circle class="{shade}{" chosen" if point.chosen else ""}" cx="{x:.1f}" cy="{y:.1f}" '
            f'r="{5 if point.chosen else 3.2}" data-p="{point.picture}" data-s="{escape(point.says)}"/>'
        )
    for px, py, word in places:
        x, y = to(px, py)
        parts.append(f'<text x="{x:.1f}" y="{y:.1f}">{escape(word)}</text>')
    return Markup(
        '<svg class="map" viewBox="0 0 {0} {0}" role="img" tabindex="0" aria-label="{1}">{2}</svg>'
    ).format(MAP_PX, name, Markup("".join(parts)))  # fmt: skip


class _Fit(NamedTuple):
    """From the units of the points to pixels of the map; up is up."""

    left: float
    top: float
    scale: float
    shift_x: float
    shift_y: float

    def __call__(self, x: float, y: float) -> tuple[float, float]:
        return (x - self.left) * self.scale + self.shift_x, (self.top - y) * self.scale + self.shift_y


def _fit(xy: Sequence[tuple[float, float]], margin: float = 12) -> _Fit:
    xs, ys = [x for x, _ in xy] or [0.0], [y for _, y in xy] or [0.0]
    wide, high = max(xs) - min(xs), max(ys) - min(ys)
    room = MAP_PX - 2 * margin
    scale = room / (max(wide, high) or 1.0)
    return _Fit(min(xs), max(ys), scale, margin + (room - wide * scale) / 2, margin + (room - high * scale) / 2)
