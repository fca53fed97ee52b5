"""The table of a study for people: Markdown and LaTeX, a part for each set-up."""

import re
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd

from pipeline.study_config import ALL_REAL

TITLES = {"simulation": "Simulation: which data set does a tile come from?", "each": "Each data set on its own"}
REASON_LETTERS = 60
SPECIAL = {letter: rf"\{letter}" for letter in "_%&#${}"} | {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "–": r"\textendash{}",
    "…": "...",
}
"""How LaTeX prints what it would take for a command, or may lack."""


class Part(NamedTuple):
    """The table of one set-up."""

    title: str
    head: list[str]
    rows: list[list[str]]


def parts(frame: pd.DataFrame) -> Iterator[Part]:
    """The tables: a row for each task and method, a column for each size, all real tiles last.

    Args:
        frame: of `study_results.means`.
    """
    for setup, title in TITLES.items():
        of = frame[frame["setup"] == setup]
        if of.empty:
            continue
        sizes = sorted(int(size) for size in of["per_class"].dropna().unique())
        rows = []
        for (task, method), cells in of.groupby(["task", "method"], sort=False):
            by_size = dict(zip(_sizes(cells), cells.to_dict("records"), strict=True))
            named = "all real" if method == ALL_REAL else str(method)
            rows.append([str(task), named, *(_cell(by_size.get(size)) for size in [*sizes, None])])
        yield Part(title, ["task", "method", *(f"{size} per class" for size in sizes), "all"], rows)


def _sizes(cells: pd.DataFrame) -> list[int | None]:
    return [None if size is pd.NA else int(size) for size in cells["per_class"].tolist()]


def _cell(row: Mapping[Hashable, Any] | None) -> str:
    """A mean with its interval, or why there is none; empty where none was asked for."""
    if row is None:
        return ""
    value, low, high, reason, seeds = (row[name] for name in ("value", "low", "high", "reason", "seeds"))
    if seeds == 0:
        return f"–, {short(str(reason))}"
    fewer = f" ({_seeds(seeds)})" if isinstance(reason, str) else ""
    return f"{value:.3f} [{low:.3f}, {high:.3f}]{fewer}"


def _seeds(count: int) -> str:
    return f"{count} {'seed' if count == 1 else 'seeds'}"


def short(reason: str) -> str:
    """The first line of a reason, cut where it is long."""
    line = reason.partition("\n")[0]
    return line if len(line) <= REASON_LETTERS else line[: REASON_LETTERS - 1].rstrip() + "…"


def note(frame: pd.DataFrame, level: float, seeds: int) -> str:
    """What the numbers are; of one seed, nothing can be said of another."""
    over = "groups × seeds" if seeds > 1 else "groups alone"
    if seeds > 1 and (frame["seeds"] == 1).any():
        over += "; of one seed, over groups alone"
    mean = f"mean of {_seeds(seeds)}" if seeds > 1 else "of one seed"
    return (
        f"Balanced accuracy of {frame['network'].iloc[0]} on real test tiles, {mean} "
        f"[{100 * level:g} % interval over {over}]."
    )


def markdown(frame: pd.DataFrame, level: float, seeds: int) -> str:
    """All parts in Markdown."""
    lines = [note(frame, level, seeds)]
    for part in parts(frame):
        rows = [part.head, ["---", "---"] + ["---:"] * (len(part.head) - 2), *part.rows]
        lines += ["", f"## {part.title}", "", *(_line(row) for row in rows)]
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    """A row in Markdown, where a bar inside a cell would begin another."""
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def latex(frame: pd.DataFrame, level: float, seeds: int) -> str:
    """All parts as LaTeX tables; they need the package booktabs."""
    lines = ["% \\usepackage{booktabs}"]
    for part in parts(frame):
        lines += [
            r"\begin{table}",
            rf"\caption{{{escaped(part.title.rstrip('?'))}. {escaped(note(frame, level, seeds))}}}",
            rf"\begin{{tabular}}{{ll{'r' * (len(part.head) - 2)}}}",
            r"\toprule",
            *(" & ".join(escaped(cell) for cell in row) + r" \\" for row in [part.head]),
            r"\midrule",
            *(" & ".join(escaped(cell) for cell in row) + r" \\" for row in part.rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Text that LaTeX prints as it is; two hyphens stay two, as in --download."""
    return re.sub("(?<=-)-", "{}-", "".join(SPECIAL.get(letter, letter) for letter in text))
