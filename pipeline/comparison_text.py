"""A comparison of selections for people: a page of text at most 100 columns wide, Markdown, HTML, or a table (CSV)."""

import base64
import csv
import html
import io
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

WIDTH, NAME = 100, 28
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:.5rem 0}"
    "td,th{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #ccc}"
    "td:first-child,th:first-child{text-align:left}img{max-width:100%}p{color:#555}.wide{overflow-x:auto}"
)
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


class Table(NamedTuple):
    """A table for people."""

    title: str
    head: list[str]
    rows: list[list[str]]
    notes: list[str]


def text(found: Mapping[str, Any]) -> str:
    """All tables, aligned."""
    lines = [_title(found), "═" * min(WIDTH, len(_title(found)))]
    for table in tables(found):
        title = textwrap.wrap(table.title, WIDTH)
        lines += ["", *title, "─" * max(map(len, title)), *_aligned(table)]
        for note in table.notes:
            lines += textwrap.wrap(note, WIDTH - 2, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def markdown(found: Mapping[str, Any]) -> str:
    """All tables in Markdown."""
    lines = [f"# {_title(found)}"]
    for table in tables(found):
        rows = [table.head, ["---"] + ["---:"] * (len(table.head) - 1), *table.rows]
        lines += ["", f"## {table.title}", "", *("| " + " | ".join(row) + " |" for row in rows)]
        lines += [line for note in table.notes for line in ("", note)]
    return "\n".join(lines) + "\n"


def page(found: Mapping[str, Any], sheets: Mapping[str, bytes]) -> str:
    """All tables and the contact sheets as one HTML file that needs no other."""
    title = html.escape(_title(found))
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><title>{title}</title><style>{STYLE}</style>'
        f"<h1>{title}</h1>"
    ]
    for table in tables(found):
        rows = ["".join(f"<th scope=col>{html.escape(cell)}</th>" for cell in table.head)]
        rows += ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in table.rows]
        parts.append(f"<h2>{html.escape(table.title)}</h2><div class=wide><table>")
        parts += [f"<tr>{row}</tr>" for row in rows] + ["</table></div>"]
        parts += [f"<p>{html.escape(note)}</p>" for note in table.notes]
    for name, png in sheets.items():
        source = base64.b64encode(png).decode()
        parts.append(f'<h2>{html.escape(name)}</h2><img alt="Tiles of {name}" src="data:image/png;base64,{source}">')
    return "\n".join(parts) + "\n"


def csv_table(found: Mapping[str, Any]) -> str:
    """One line for each selection and measure: its value and, where it has one, its interval."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["selection", "measure", "value", "low", "high"])
    names = [row["name"] for row in found["selections"]]
    for row, jaccard in zip(found["selections"], found["overlap"]["jaccard"], strict=True):
        measures: dict[str, Any] = {key: row[key] for key in ("tiles", "communities", "candidates", "flow")}
        measures |= {key: row[key] for key in ("vendi", "kid", "precision", "recall", "audit")}
        measures |= {f"judge {network}": value for network, value in (row["judge"] or {}).items()}
        if row["benchmark"]:
            measures |= {f"benchmark {found['metric']}": row["benchmark"]}
            measures |= {f"benchmark difference to {names[0]}": row["benchmark"].get("difference")}
        measures |= {f"jaccard with {name}": value for name, value in zip(names, jaccard, strict=True)}
        for measure, value in measures.items():
            of = value if isinstance(value, Mapping) else {"value": value}
            writer.writerow([row["name"], measure, *(of.get(key) for key in ("value", "low", "high"))])
    return buffer.getvalue()


def tables(found: Mapping[str, Any]) -> Iterator[Table]:
    """What is told, table by table."""
    rows, first = found["selections"], found["selections"][0]["name"]
    equal = f"of {found['equal_count']} tiles each"
    yield Table(
        "What they hold",
        ["selection", "method", "tiles", "communities", "candidates", "flow", "Vendi"],
        [
            [
                row["name"],
                row["method"],
                str(row["tiles"]),
                *_numbers(row, "communities", "candidates", "flow", "vendi"),
            ]
            for row in rows
        ],
        [
            f"Communities, candidates and flow: shares that are reached of those of {first}. Vendi score: how many "
            f"different tiles a selection effectively holds, {equal}."
        ],
    )
    real = {"name": "real train tiles"} | found["real"]
    yield Table(
        f"Against {found['val_tiles']} real val tiles",
        ["selection", f"KID [{_percent(found)}]", "precision", "recall"],
        [[row["name"], _estimate(row["kid"], 4), *_numbers(row, "precision", "recall")] for row in [*rows, real]],
        [
            f"By the features of {found['encoder']}; precision and recall {equal}, balls to the third neighbour. Less "
            "KID is nearer. Selections hold every class equally, val tiles need not."
        ],
    )
    yield _shared(found)
    yield from _judged(found)


def _shared(found: Mapping[str, Any]) -> Table:
    names = [row["name"] for row in found["selections"]]
    of, lots = found["overlap"], []
    for i, row in enumerate(of["by_lot"]):
        lots += [value for j, value in enumerate(row) if j != i]
    cells = [[f"{i + 1} {name}", *(f"{value:.2f}" for value in of["jaccard"][i])] for i, name in enumerate(names)]
    lot = " to ".join(sorted({f"{min(lots):.2f}", f"{max(lots):.2f}"}))
    note = f"Tiles in both over tiles in either (Jaccard). Drawn by lot, selections of these sizes would have {lot}."
    return Table("What they share", ["selection", *(str(i + 1) for i in range(len(names)))], cells, [note])


def _judged(found: Mapping[str, Any]) -> Iterator[Table]:
    """What classifiers say: the judge of the tiles, the benchmark of what can be learned from them; and the audit."""
    rows, first = found["selections"], found["selections"][0]["name"]
    judge = [[_estimate((row["judge"] or {}).get(n), 3) for n in ("colour", "grey")] for row in rows]
    yield Table(
        "Judge and audit",
        ["selection", f"judge agrees [{_percent(found)}]", "its grey twin", "audit"],
        [[row["name"], *cells, row["audit"] or "not run"] for row, cells in zip(rows, judge, strict=True)],
        _to_run(rows, "audit", "audit_images", "" if found["audited"] == "all" else " --set audited=all"),
    )
    title, of = found["network"]["title"], [row["benchmark"] or {} for row in rows]
    cells = [[_estimate(b, 3, "not run"), _signed(b.get("difference"))] for b in of]
    yield Table(
        f"Benchmark: balanced accuracy of {title} on real test tiles",
        ["selection", f"reached [{_percent(found)}]", f"more than {_short(first, NAME)}"],
        [[row["name"], *pair] for row, pair in zip(rows, cells, strict=True)],
        _to_run(rows, "benchmark", "benchmark"),
    )


def _to_run(rows: Sequence[Mapping[str, Any]], key: str, stage: str, more: str = "") -> list[str]:
    """How to get what is not there, a line for each selection."""
    missing = [row["name"] for row in rows if row[key] is None]
    return [f"not run: histodistill run RECIPE --until {stage}/{name}{more}" for name in missing]


def _aligned(table: Table) -> Iterator[str]:
    """A table in columns; the first to the left, and shortened where it is long."""
    rows = [[_short(row[0], NAME), *row[1:]] for row in [table.head, *table.rows]]
    wide = [max(len(row[i]) for row in rows) for i in range(len(table.head))]
    for row in rows:
        cells = [f"{row[0]:<{wide[0]}}", *(f"{cell:>{w}}" for cell, w in zip(row[1:], wide[1:], strict=True))]
        yield "  " + "  ".join(cells)


def _short(name: str, wide: int) -> str:
    """A name of at most `wide` letters, shortened in its middle."""
    half = (wide - 1) // 2
    return name if len(name) <= wide else f"{name[: wide - 1 - half]}…{name[-half:]}"


def _title(found: Mapping[str, Any]) -> str:
    return (
        f"{len(found['selections'])} selections of {found['run']}: {found['candidates']:,} candidates, "
        f"{len(found['classes'])} classes"
    )


def _percent(found: Mapping[str, Any]) -> str:
    return f"{100 * found['level']:g} %"


def _numbers(row: Mapping[str, Any], *keys: str) -> list[str]:
    return ["–" if row[key] is None else f"{row[key]:.3f}" for key in keys]


def _estimate(value: Mapping[str, float] | None, digits: int, absent: str = "–") -> str:
    """A number with its interval."""
    if not value:
        return absent
    return f"{value['value']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"


def _signed(value: Mapping[str, float] | None) -> str:
    """A difference with its interval."""
    return "" if value is None else f"{value['value']:+.3f} [{value['low']:+.3f}, {value['high']:+.3f}]"
