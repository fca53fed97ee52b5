"""The findings of `inspection` as a page of plain text, at most 100 columns wide."""

import textwrap
from collections.abc import Iterator
from typing import Any

WIDTH = 100
BAR = 40
SHOWN = 10
MOST_ROLES = 5
WAYS = {"random_tiles": "random tiles", "groups": "whole groups", "stain_clusters": "clusters of stain"}


def page(found: dict[str, Any]) -> str:
    """The whole report."""
    parts = (_head, _aside, _classes, _groups, _duplicates, _colour, _roles, _warnings, _section)
    return "\n".join(line.rstrip() for part in parts for line in part(found)) + "\n"


def heading(words: str) -> list[str]:
    """A line and a rule under it."""
    return ["", words, "─" * len(words)]


def folded(words: str, start: str = "", rest: str | None = None) -> list[str]:
    """Words in lines of WIDTH letters."""
    rest = " " * len(start) if rest is None else rest
    return textwrap.wrap(
        words, WIDTH, initial_indent=start, subsequent_indent=rest, break_long_words=True, break_on_hyphens=False
    )


def _counted(counts: dict[str, int]) -> str:
    shown = [f"{name} ({count:,})" if len(counts) > 1 else name for name, count in list(counts.items())[:SHOWN]]
    return ", ".join(shown) + (f" and {len(counts) - SHOWN} more" if len(counts) > SHOWN else "")


def line(name: str, words: str) -> list[str]:
    """What is called `name`, folded."""
    return folded(words, f"  {name:<20}")


def _head(found: dict[str, Any]) -> Iterator[str]:
    yield from folded(found["source"])
    yield "═" * min(WIDTH, len(found["source"]))
    left = f"; {found['left_out']:,} more are left out by their role" if found["left_out"] else ""
    yield from line("tiles", f"{found['usable']:,} usable of {found['tiles']:,}{left}")
    yield from line("files", _counted(found["formats"]))
    yield from line("size in pixels", _counted(found["sizes"]))
    grey, rgb = found["colour"]["grey"], found["colour"]["rgb"]
    yield from line(
        "colour", "all grey" if not rgb else f"{rgb:,} in colour, {grey:,} grey" if grey else "all in colour"
    )


def _aside(found: dict[str, Any]) -> Iterator[str]:
    yield from heading("Set aside")
    if not found["set_aside"]:
        yield "  nothing"
    for reason, of in found["set_aside"].items():
        yield f"  {of['tiles']:>7,}  {reason}"
        more = ", …" if of["tiles"] > len(of["names"]) else ""
        yield from folded(", ".join(of["names"]) + more, " " * 11)


def _classes(found: dict[str, Any]) -> Iterator[str]:
    yield from heading(f"Classes ({len(found['classes'])})")
    most = max(of["tiles"] for of in found["classes"].values())
    wide = min(30, max(len(name) for name in found["classes"]))
    for name, of in found["classes"].items():
        bar = "█" * max(1, round(BAR * of["tiles"] / most))
        in_groups = f"  {of['groups']:,} groups" if found["groups"]["given"] else ""
        yield f"  {_short(name, wide)}  {of['tiles']:>8,}  {bar:<{BAR}}{in_groups}"


def _groups(found: dict[str, Any]) -> Iterator[str]:
    yield from heading("Groups (patient, slide, original)")
    groups = found["groups"]
    if not groups["given"]:
        yield "  none are given: every tile counts as its own"
        return
    yield from line("groups", f"{groups['count']:,}, {groups['singletons']:.0%} of them of a single tile")
    yield from line(
        "tiles in each",
        f"{groups['smallest']:,} to {groups['largest']:,}, median {groups['median']:g}; "
        f"the largest is {groups['largest_name']}",
    )
    if mixed := groups["of_two_classes"]["groups"]:
        yield from line("of two classes", f"{mixed:,}: {', '.join(groups['of_two_classes']['names'])}")


def _duplicates(found: dict[str, Any]) -> Iterator[str]:
    yield from heading("Duplicates (the same pixels)")
    titles = {
        "all": "in all",
        "across_classes": "in two classes",
        "across_roles": "in two given roles",
        "across_groups": "in two groups",
    }
    for key, words in titles.items():
        if key not in found["duplicates"]:
            continue
        of = found["duplicates"][key]
        yield from line(words, f"{of['pictures']:,} pictures in {of['tiles']:,} tiles" if of["pictures"] else "none")
        for names in of["names"][: SHOWN if key == "all" else 3]:
            yield from folded(" = ".join(names), " " * 22)
        if of["pictures"] > len(of["names"]):
            yield " " * 22 + "…"
    yield from _near(found["near_duplicates"])


def _near(near: dict[str, Any] | None) -> Iterator[str]:
    """Copies of one original, turned, mirrored, cropped, zoomed or recoloured."""
    yield from heading("Near-duplicates (turned, mirrored, cropped, zoomed or recoloured)")
    if near is None:
        yield "  not looked for"
        return
    clusters, tiles = near["near_duplicate_clusters"], near["tiles_in_them"]
    largest = f"; the largest holds {near['largest_cluster']:,}" if clusters else ""
    yield from line("in all", f"{tiles:,} tiles in {clusters:,} clusters{largest}")
    titles = {"pairs": "most alike", "across_classes": "in two classes", "across_roles": "in two given roles"}
    for key, words in (titles | {"across_groups": "in two groups"}).items():
        if key not in near:
            continue
        of = near[key]
        if key != "pairs" or not of["count"]:
            yield from line(words, f"{of['count']:,} pairs" if of["count"] else "none")
        for number, names in enumerate(of["names"][:3]):
            start = f"  {words:<20}" if key == "pairs" and number == 0 else " " * 22
            yield from folded(" ~ ".join(names), start, " " * 22)


def _colour(found: dict[str, Any]) -> Iterator[str]:
    yield from heading("Colour alone (mean and spread of R, G, B)")
    colour = found["colour_alone"]
    if colour is None:
        yield "  wants two classes"
        return
    yield from folded(
        f"Mean and spread of colour alone classify this at so much balanced accuracy [95 % interval]; chance is "
        f"{colour['chance']:.1%}. Five-fold cross-validation on {colour['tiles']:,} tiles, holding out",
        "  ",
    )
    yield f"  {'':<20}{'a linear model':<26}{'five nearest neighbours':<26}"
    for way, words in WAYS.items():
        if way not in colour:
            continue
        if colour[way] is None:
            yield from line(words, "a class has fewer than two: cannot be told")
            continue
        cells = [f"{v['value']:6.1%} [{v['low']:.1%}, {v['high']:.1%}]" for v in colour[way].values()]
        yield f"  {words:<20}{cells[0]:<26}{cells[1]:<26}"
    notes = "Clusters of stain are pseudo-groups, no patients; to hold them out is hard on purpose."
    if not found["groups"]["given"]:
        notes += " Without groups, the intervals of random tiles take tiles as independent, and are too narrow."
    if found["roles"]["given"]:
        notes += " Tiles of test and control are not among those seen here."
    yield from folded(notes, "  ")


def _roles(found: dict[str, Any]) -> Iterator[str]:
    roles = found["roles"]
    yield from heading("Roles")
    if roles["trouble"]:
        yield from folded("a run would stop: see below", "  ")
    elif not roles["given"]:
        yield "  none are given; a run would draw them by group, class by class"
    else:
        lacking = f"; {', '.join(roles['drawn'])} would be drawn from train" if roles["drawn"] else ""
        yield f"  given{lacking}"
    if not roles["counts"]:
        return
    wide = min(30, max(len(name) for name in found["classes"]))
    shown = list(roles["counts"])[:MOST_ROLES]
    yield f"  {'':<{wide}}" + "".join(f"  {role[:10]:>10}" for role in shown)
    for name in found["classes"]:
        yield f"  {_short(name, wide)}" + "".join(f"  {roles['counts'][role].get(name, 0):>10,}" for role in shown)
    yield f"  {'in all':<{wide}}" + "".join(f"  {sum(roles['counts'][role].values()):>10,}" for role in shown)


def _short(name: str, wide: int) -> str:
    return f"{name if len(name) <= wide else name[: wide - 1] + '…':<{wide}}"


def _warnings(found: dict[str, Any]) -> Iterator[str]:
    yield from heading("Mind")
    if not found["warnings"]:
        yield "  nothing stands out"
    for words in found["warnings"]:
        yield from folded(words, "  ! ")


def _section(found: dict[str, Any]) -> Iterator[str]:
    yield from heading("For a recipe")
    yield from found["tiles_section"].splitlines()
