"""Commands that look and tell, and change no result: what is in data, selections, releases, this machine."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli_words import (
    ROOT,
    NameOption,
    RecipeArgument,
    RootOption,
    SelectionArgument,
    SetOption,
    prepare,
    recipe_path,
)

looking = typer.Typer()
config_app = typer.Typer(help="Show, check and describe settings.", no_args_is_help=True, rich_markup_mode=None)
looking.add_typer(config_app, name="config")


@looking.command()
def compare(
    recipe: RecipeArgument,
    selections: Annotated[list[str], typer.Argument(help="Names; the first is held against.", metavar="NAME...")],
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of a page.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="File to write as well: .html, .md or .csv.")] = None,
    set_: SetOption = None,
    root: RootOption = ROOT,
    name: NameOption = None,
) -> None:
    """Selections side by side: what they share and reach, how near to real val tiles, benchmark and audit if sealed."""
    from pipeline import comparison_results

    config, this, steps = prepare(recipe, set_, root, name)
    print(comparison_results.told(this, steps, config, selections, out, json_), end="")


@looking.command()
def explore(
    recipe: RecipeArgument,
    selection: SelectionArgument,
    out: Annotated[Path | None, typer.Option("--out", help="File to write; default: in the run's folder.")] = None,
    set_: SetOption = None,
    root: RootOption = ROOT,
    name: NameOption = None,
) -> None:
    """Write a page on which all candidates of a selection can be looked at and marked; synthetic tiles alone."""
    from pipeline import explorer

    _, this, steps = prepare(recipe, set_, root, name)
    print(f"explorer: {explorer.write(this, steps, selection, out)}")


@looking.command()
def graph(
    recipe: RecipeArgument,
    selection: SelectionArgument,
    out: Annotated[Path, typer.Option("--out", help="File to write; .graphml or .gexf.")],
    set_: SetOption = None,
    root: RootOption = ROOT,
    name: NameOption = None,
) -> None:
    """Write the graph of a selection as GraphML or GEXF, for Gephi, Cytoscape, networkx and the like."""
    from pipeline import graph_files

    _, this, steps = prepare(recipe, set_, root, name)
    print(f"graph: {graph_files.write(this, steps, selection, out)}")


@looking.command()
def clean(
    root: RootOption = ROOT,
    yes: Annotated[bool, typer.Option("--yes", help="Delete what is shown.")] = False,
) -> None:
    """Show the results that no run uses any more, and leftovers of stopped runs; delete them with --yes."""
    from pipeline import cleaning

    found = cleaning.unused(root)
    for path, size in found:
        print(f"{size / 2**20:9.1f} MiB  {path}")
    total = sum(size for _, size in found) / 2**20
    if not found:
        print("Nothing to delete: every result is used by a run.")
    elif yes:
        cleaning.delete(path for path, _ in found)
        print(f"Deleted {len(found)}, {total:.1f} MiB.")
    else:
        print(f"{len(found)} in all, {total:.1f} MiB. Delete them with: histodistill clean --yes")


@looking.command()
def forget(
    patient: Annotated[
        str, typer.Argument(help="The group's name, as in the source's column of groups.", metavar="PATIENT")
    ],
    root: RootOption = ROOT,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of a page.")] = False,
) -> None:
    """Find everything that stands on a patient who withdraws consent, and say what to do; deletes nothing."""
    import json

    from pipeline import forgetting, forgetting_text

    found = forgetting.forget(root, patient)
    print(json.dumps(found, indent=1) if json_ else forgetting_text.page(found, root), end="\n" if json_ else "")


@looking.command()
def doctor(root: RootOption = ROOT) -> None:
    """Check this machine: versions, device, memory, disk, threads, OpenSlide, extras; how to get what is missing."""
    from pipeline import doctor as examination

    good = True
    for line in examination.examine(root):
        mark = {True: "ok  ", False: "BAD ", None: "note"}[line.good]
        print(f"{mark}  {line.what:<12} {line.found}" + (f"\n      -> {line.advice}" if line.advice else ""))
        good = good and line.good is not False
    raise typer.Exit(0 if good else 2)


@looking.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="A release folder, or a run's folder.", metavar="DIR")],
) -> None:
    """Check a release, or every result of a run, by hashing every file in full."""
    from pipeline import verification

    findings = verification.verify(folder)
    for finding in findings:
        print(finding)
    print(f"{folder}: " + ("whole" if not findings else f"{len(findings)} findings"))
    raise typer.Exit(2 if findings else 0)


@looking.command()
def inspect(
    data: Annotated[
        str, typer.Argument(help="A Parquet file, npz, folder or address; or a recipe (.yaml).", metavar="DATA")
    ],
    label_column: Annotated[str | None, typer.Option(help="Column with the classes, if not `label`.")] = None,
    group_column: Annotated[
        str | None, typer.Option(help="Column with the groups, if not `group`; an empty word: there are none.")
    ] = None,
    role_column: Annotated[str | None, typer.Option(help="Column with the roles, if not `role`.")] = None,
    table: Annotated[Path | None, typer.Option(help="CSV of a folder's images: file, label, group.")] = None,
    medmnist: Annotated[str | None, typer.Option(help="The set of MedMNIST that an npz is, e.g. bloodmnist.")] = None,
    size: Annotated[
        int | None, typer.Option(help="Side to which tiles are resized, or of tiles cut from slides, in pixels.")
    ] = None,
    mpp: Annotated[float | None, typer.Option(help="Micrometres per pixel of tiles cut from slides.")] = None,
    previews: Annotated[Path | None, typer.Option(help="Folder to draw a preview of each slide in.")] = None,
    fast: Annotated[bool, typer.Option(help="Do not look for near-duplicates, which takes the longest.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of a page.")] = False,
) -> None:
    """Look at DATA before anything is trained: what is in it, duplicates, groups, roles, how far colour alone goes.

    Of whole slides (a slide, or a folder of them): what they hold, what they hide, and what would be taken.
    """
    import json
    import tempfile

    from pipeline import engine as engines
    from pipeline import inspection, inspection_slides, inspection_text

    words = {"label_column": label_column, "role_column": role_column, "table": table, "medmnist": medmnist}
    given: dict[str, object] = {name: value for name, value in words.items() if value is not None}
    if size is not None:
        given["size_px"] = size
    if group_column is not None:
        given["group_column"] = group_column or None
    settings, guess = inspection.settings_of(data, given, {"mpp": mpp, "tile_px": size})
    if inspection.of_slides(settings):
        seen = inspection_slides.inspect(settings, engines.make("threads", engines.cores()), previews)
        print(json.dumps(seen, indent=1, ensure_ascii=False) if json_ else inspection_slides.page(seen), end="")
        return
    with tempfile.TemporaryDirectory(prefix="histodistill-") as scratch:
        at_work = engines.make("threads", engines.cores())
        found = inspection.inspect(settings, guess, at_work, Path(scratch), near=not fast)
    print(json.dumps(found, indent=1, ensure_ascii=False) if json_ else inspection_text.page(found), end="")


@config_app.command("show")
def config_show(recipe: RecipeArgument, set_: SetOption = None) -> None:
    """Print the resolved whole of RECIPE as YAML."""
    from pipeline import config as configs

    print(configs.dump(configs.load(recipe_path(recipe), set_ or ())), end="")


@config_app.command("validate")
def config_validate(recipe: RecipeArgument, set_: SetOption = None) -> None:
    """Check RECIPE; say every fault at once."""
    from pipeline import config as configs

    configs.load(recipe_path(recipe), set_ or ())
    print(f"{recipe}: good")


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON Schema of a recipe, with the meaning and unit of every setting."""
    import json

    from pipeline.config import Config

    print(json.dumps(Config.model_json_schema(), indent=1))
