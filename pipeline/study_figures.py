"""The figures of a study: curves of accuracy against size, the condensed images, and distilled against random."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipeline.study_config import ALL_REAL
from stages import images
from stages.stats import prediction
from stages.stats.prediction import Model, Points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = 4
"""Panels in a row of curves."""
SHOWN_IN_A_ROW = 6
SIDE_PX = 48
MARKS = "os^DvPX*<>hp"
DPI = 150


def _figure(
    rows: int, columns: int, width: float, height: float, heights: Sequence[float] | None = None
) -> "tuple[Figure, Any]":
    """A figure of so many inches and its axes, rows × columns (rows as tall as `heights` say), without a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawn)
    return drawn, drawn.subplots(rows, columns, squeeze=False, height_ratios=heights)


def _save(drawn: "Figure", path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path, dpi=DPI, metadata={"Software": None})


def curves(frame: pd.DataFrame, path: Path) -> None:
    """Accuracy against images per class: a panel for each task, a line for each method, all real tiles dashed.

    Args:
        frame: of `study_results.means`.
        path: the PNG.
    """
    tasks = list(dict.fromkeys(zip(frame["setup"], frame["task"], strict=True)))
    methods = [method for method in dict.fromkeys(frame["method"]) if method != ALL_REAL]
    columns = min(PANELS, len(tasks))
    rows = -(-len(tasks) // columns)
    drawn, axes = _figure(rows, columns, 0.6 + 2.7 * columns, 0.7 + 2.3 * rows)
    for axis, (setup, task) in zip(axes.ravel(), tasks, strict=False):
        _panel(axis, frame[(frame["setup"] == setup) & (frame["task"] == task)], methods)
        axis.set_title(task if setup == "each" else "simulation: all data sets", fontsize=9)
        axis.set_xlabel("images per class", fontsize=8)
    for axis in axes.ravel()[len(tasks) :]:
        axis.set_axis_off()
    told = {label: line for axis in axes.ravel() for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    drawn.legend(
        list(told.values()), list(told), loc="outside lower center", ncols=min(6, max(1, len(told))), fontsize=8
    )
    drawn.supylabel("balanced accuracy, real test tiles", fontsize=9)
    _save(drawn, path)


def _panel(axis: "Axes", of: pd.DataFrame, methods: Sequence[str]) -> None:
    """One task."""
    sizes = sorted(of["per_class"].dropna().astype(int).unique())
    for number, method in enumerate(methods):
        line = of[(of["method"] == method) & of["value"].notna()].sort_values("per_class")
        if line.empty:
            continue
        at = line["per_class"].to_numpy(np.float64) * 1.04 ** (number - (len(methods) - 1) / 2)
        value, low, high = (line[name].to_numpy(np.float64) for name in ("value", "low", "high"))
        spread = np.maximum([value - low, high - value], 0)
        mark = MARKS[number % len(MARKS)]
        axis.errorbar(at, value, spread, fmt=f"{mark}-", ms=3.5, lw=1.1, capsize=2, color=f"C{number}", label=method)
    for real in of.loc[(of["method"] == ALL_REAL) & of["value"].notna(), "value"]:
        axis.axhline(real, color="0.25", lw=1, ls="--", label="all real")
    for chance in of["chance"].dropna().head(1):
        axis.axhline(chance, color="0.6", lw=0.8, ls=":", label="chance")
    axis.set_xscale("log")
    if sizes:
        axis.set_xlim(sizes[0] / 1.5, sizes[-1] * 1.5)
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.minorticks_off()
    axis.set_ylim(0, 1.02)
    axis.tick_params(labelsize=8)


def condensed(folders: Mapping[tuple[str, str], Path], path: Path) -> None:
    """The first image of every class that each method made of each task: rows are tasks, columns methods.

    Args:
        folders: result of the condensation, by task and method.
        path: the PNG.
    """
    tasks, methods = (list(dict.fromkeys(key[place] for key in folders)) for place in (0, 1))
    blocks = {key: block(images.read(folder / "images", rank=0)) for key, folder in folders.items()}
    wide = max(shown.shape[1] for shown in blocks.values())
    tall = [max(shown.shape[0] for (of, _), shown in blocks.items() if of == task) for task in tasks]
    inch = 0.4 / SIDE_PX
    width, height = 1.3 + len(methods) * (inch * wide + 0.15), 0.6 + sum(inch * px + 0.15 for px in tall)
    drawn, axes = _figure(len(tasks), len(methods), width, height, tall)
    for (row, task), (column, method) in itertools.product(enumerate(tasks), enumerate(methods)):
        axis = axes[row, column]
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_frame_on(False)
        if (task, method) in blocks:
            axis.imshow(_padded(blocks[task, method], tall[row], wide), interpolation="nearest")
        if column == 0:
            axis.set_ylabel(task, fontsize=8, rotation=0, ha="right", va="center")
        if row == 0:
            axis.set_title(method, fontsize=9, loc="left")
    drawn.suptitle("first image of each class", fontsize=9)
    _save(drawn, path)


def _padded(shown_hwc: images.Pixels, height: int, width: int) -> images.Pixels:
    """A picture in the upper left corner of a larger white one, so that all are drawn at one scale."""
    sheet = np.full((height, width, 3), 255, np.uint8)
    sheet[: shown_hwc.shape[0], : shown_hwc.shape[1]] = shown_hwc
    return sheet


def block(tiles: images.ImageSet) -> images.Pixels:
    """Images side by side on white, some in a row, each brought to one side."""
    from stages.classify import protocol

    small_nhwc = protocol.resize(tiles.pixels_nhwc, SIDE_PX - 2)
    columns = min(SHOWN_IN_A_ROW, len(small_nhwc))
    sheet = np.full((-(-len(small_nhwc) // columns) * SIDE_PX, columns * SIDE_PX, 3), 255, np.uint8)
    for number, pixels_hwc in enumerate(small_nhwc):
        row, column = divmod(number, columns)
        sheet[row * SIDE_PX : (row + 1) * SIDE_PX - 2, column * SIDE_PX : (column + 1) * SIDE_PX - 2] = pixels_hwc
    return sheet


def foretold(points: Points, path: Path) -> None:
    """Distilled against random: colours are methods, shapes sources, lines the fitted model at each method."""
    methods, sources = np.unique(points.method_n).tolist(), np.unique(points.source_n).tolist()
    drawn, axes = _figure(1, 1, 5.4, 4.4)
    axis = axes[0, 0]
    model = prediction.fitted(points)
    axis.plot([0, 1], [0, 1], color="0.6", lw=0.8, ls=":", label="as random")
    for m, method in enumerate(methods):
        for s, source in enumerate(sources):
            of = points.where((points.method_n == method) & (points.source_n == source))
            area = 18 + 14 * np.log10(of.per_class_n)
            axis.scatter(
                of.random_n, of.distilled_n, s=area, marker=MARKS[s % len(MARKS)], color=f"C{m}", alpha=0.8, lw=0
            )
        _line(axis, model, points.where(points.method_n == method), f"C{m}", method)
    for s, source in enumerate(sources):
        axis.scatter([], [], marker=MARKS[s % len(MARKS)], color="0.4", label=source)
    axis.set_xlabel("random real subset: balanced accuracy, test")
    axis.set_ylabel("distilled set of the same size")
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    drawn.legend(loc="outside right upper", fontsize=8)
    _save(drawn, path)


def _line(axis: "Axes", model: Model, points: Points, colour: str, method: str) -> None:
    """What the model expects over the range of a method, at its middle size."""
    x_m = np.linspace(points.random_n.min(), points.random_n.max(), 20)
    middle = 10 ** np.log10(points.per_class_n).mean()
    names = (np.full(20, method), np.full(20, middle), np.full(20, points.source_n[0]))
    axis.plot(x_m, model.predict(Points(x_m, x_m, *names)), color=colour, lw=1.2, label=method)
