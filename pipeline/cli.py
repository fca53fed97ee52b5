"""Words on the command line -> one call. Heavy modules are imported by the command that needs them."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.runner import Run
    from pipeline.steps import Step

app = typer.Typer(
    help="Turn private histopathology tiles into a small synthetic dataset that may be shared, with the evidence.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
config_app = typer.Typer(help="Show, check and describe settings.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(config_app, name="config")

RecipeArgument = Annotated[str, typer.Argument(help="A YAML file, or the name of one in ./configs.", metavar="RECIPE")]
NodeArgument = Annotated[str, typer.Argument(help="A node of the story, e.g. selection/infomap_50.", metavar="NODE")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="section.key=value, laid over the recipe; may be repeated.", metavar="KEY=VALUE"),
]
RootOption = Annotated[
    Path, typer.Option("--root", envvar="HISTODISTILL_ROOT", help="Folder of the store and the runs.")
]
NameOption = Annotated[str | None, typer.Option("--name", help="Name of the run, if not the recipe's.")]
ROOT = Path("data")


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Turn private histopathology tiles into a small synthetic dataset that may be shared, with the evidence."""
    # `--debug` itself is read in main(), which must know it even when the rest of the line is wrong.
    del debug


@app.command()
def run(
    recipe: RecipeArgument,
    until: Annotated[str | None, typer.Option(help="Stop after this node; only what it needs is run.")] = None,
    from_: Annotated[str | None, typer.Option("--from", help="Run this node again, and all that follows.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be run, and why.")] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="How many work side by side on what can be cut into chunks; default: cores."),
    ] = None,
    engine: Annotated[str, typer.Option(help="What they are: threads or processes.")] = "threads",
    set_: SetOption = None,
    root: RootOption = ROOT,
    name: NameOption = None,
) -> None:
    """Run what is stale in RECIPE, in order, and write the report."""
    from pipeline import engine as engines
    from pipeline import runner
    from pipeline import steps as all_steps
    from stages.contracts import UserError

    if engine not in ("threads", "processes"):
        raise UserError(f"--engine is threads or processes, not {engine!r}.")

    config, this, steps = _prepare(recipe, set_, root, name)
    chosen = all_steps.upstream(steps, until) if until else steps
    again = frozenset(s.node for s in all_steps.downstream(steps, from_)) if from_ else frozenset[str]()
    if dry_run:
        _say_states(this, chosen, again)
        return
    from pipeline import logs, releases, report
    from pipeline.config import dump
    from stages import store

    at_work = engines.make("processes" if engine == "processes" else "threads", workers or engines.cores())
    with logs.to(this.folder):
        store.write_text(this.folder / "config.yaml", dump(config))
        try:
            sealed = runner.go(this, chosen, at_work, again)
            if "release" in sealed:
                releases.keep(this, sealed["release"])
        finally:  # a report of what there is, also when the audit forbids the release or a stage fails
            page = report.write(this, steps, config)
    release = this.folder / "results" / "release" / "dataset"
    if release.exists() and any(step.stage == "release" for step in chosen):
        print(f"release: {release}")
    print(f"report:  {page}")


@app.command()
def status(recipe: RecipeArgument, set_: SetOption = None, root: RootOption = ROOT, name: NameOption = None) -> None:
    """Show every node: sealed, stale and why, waiting, or missing."""
    _, this, steps = _prepare(recipe, set_, root, name)
    _say_states(this, steps)


@app.command()
def select(
    recipe: RecipeArgument,
    selection: Annotated[str, typer.Argument(help="Name of the selection to add or change.", metavar="NAME")],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Setting of the selection, e.g. method=leiden, or as in run.", metavar="KEY=VALUE"),
    ] = None,
    like: Annotated[str | None, typer.Option(help="Selection from whose settings to start.")] = None,
    drop: Annotated[bool, typer.Option("--drop", help="Forget the selection.")] = False,
    upstream: Annotated[bool, typer.Option("--run", help="Also run what the selection stands on, if stale.")] = False,
    root: RootOption = ROOT,
    name: NameOption = None,
) -> None:
    """Choose anew among the candidates there are, in seconds; the run keeps the selection beside its recipe's."""
    from pipeline import selecting

    path = _recipe_path(recipe)
    asked = selecting.Asked(path, root, name or path.stem, selection, set_ or (), like, upstream)
    print(selecting.drop(asked) if drop else selecting.select(asked), end="")


@app.command()
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

    config, this, steps = _prepare(recipe, set_, root, name)
    print(comparison_results.told(this, steps, config, selections, out, json_), end="")


@app.command()
def explain(
    recipe: RecipeArgument, node: NodeArgument, set_: SetOption = None, root: RootOption = ROOT, name: NameOption = None
) -> None:
    """Say what NODE's result depends on, how it stands, and what changed."""
    import yaml

    from pipeline import runner
    from pipeline.steps import find

    _, this, steps = _prepare(recipe, set_, root, name)
    wanted = find(steps, node).node
    state = next(s for s in runner.states(this, steps) if s.step.node == wanted)
    print(f"{wanted}: {state.word}")
    for reason in state.why:
        print(f"  {reason}")
    if state.seal is not None:
        print(f"  folder: {state.seal.folder}")
    if state.causes is not None:
        print("depends on:")
        print(yaml.safe_dump(state.causes, sort_keys=False, width=120))


@app.command()
def report(recipe: RecipeArgument, set_: SetOption = None, root: RootOption = ROOT, name: NameOption = None) -> None:
    """Write the report of what is sealed, as one HTML page."""
    from pipeline import report as page

    config, this, steps = _prepare(recipe, set_, root, name)
    print(f"report:  {page.write(this, steps, config)}")


@app.command()
def accept(
    recipe: RecipeArgument,
    node: Annotated[str, typer.Argument(help="A node, or all: every node of which only code changed.")],
    why: Annotated[str, typer.Option("--why", help="Why the change of code alters no result; it is recorded.")],
    set_: SetOption = None,
    root: RootOption = ROOT,
    name: NameOption = None,
) -> None:
    """Vouch that a change of code alters no result of NODE, so that it need not run again."""
    from pipeline import runner

    _, this, steps = _prepare(recipe, set_, root, name)
    nodes = [step.node for step in steps] if node == "all" else [node]
    for one in nodes:
        if node == "all" and not runner.acceptable(this, steps, one):
            continue
        print(f"{one}: accepted ({runner.accept(this, steps, one, why)})")


@app.command()
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


@app.command()
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


@app.command()
def doctor(root: RootOption = ROOT) -> None:
    """Check this machine: versions, device, memory, disk, threads, OpenSlide, extras; how to get what is missing."""
    from pipeline import doctor as examination

    good = True
    for line in examination.examine(root):
        mark = {True: "ok  ", False: "BAD ", None: "note"}[line.good]
        print(f"{mark}  {line.what:<12} {line.found}" + (f"\n      -> {line.advice}" if line.advice else ""))
        good = good and line.good is not False
    raise typer.Exit(0 if good else 2)


@app.command()
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


@app.command()
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

    print(configs.dump(configs.load(_recipe_path(recipe), set_ or ())), end="")


@config_app.command("validate")
def config_validate(recipe: RecipeArgument, set_: SetOption = None) -> None:
    """Check RECIPE; say every fault at once."""
    from pipeline import config as configs

    configs.load(_recipe_path(recipe), set_ or ())
    print(f"{recipe}: good")


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON Schema of a recipe, with the meaning and unit of every setting."""
    import json

    from pipeline.config import Config

    print(json.dumps(Config.model_json_schema(), indent=1))


def _recipe_path(recipe: str) -> Path:
    """The YAML file a word means: a path, or the name of a file in ./configs."""
    named = Path("configs") / f"{recipe}.yaml"
    return named if not Path(recipe).suffix and named.is_file() else Path(recipe)


def _prepare(recipe: str, set_: list[str] | None, root: Path, name: str | None) -> "tuple[Config, Run, list[Step]]":
    """The settings, the run and the whole story of a recipe, with the selections that the run keeps beside it."""
    from pipeline import config as configs
    from pipeline import releases, run_selections, runner, story

    path = _recipe_path(recipe)
    kept = run_selections.read(root / "runs" / (name or path.stem))
    config = configs.load(path, set_ or (), kept)
    this = runner.Run(root, name or path.stem, config.seed)
    config = releases.with_previous(config, this)
    return config, this, story.tell(config)


def _say_states(this: "Run", steps: "list[Step]", again: frozenset[str] = frozenset()) -> None:
    from pipeline import runner

    for state in runner.states(this, steps):
        word = "again" if state.step.node in again and state.seal else state.word
        print(f"{word:<8} {state.step.node:<32} {'; '.join(state.why[:4])}".rstrip())


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 our fault, 2 something to mend, 3 the audit says NO-GO, 130 stopped."""
    from pipeline import faults

    debug = "--debug" in sys.argv
    sys.exit(faults.guarded(lambda: app(args=[word for word in sys.argv[1:] if word != "--debug"]), debug))


if __name__ == "__main__":
    main()
