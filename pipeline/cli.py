"""Words on the command line -> one call. Heavy modules are imported by the command that needs them."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli_looking import looking
from pipeline.cli_study import studying
from pipeline.cli_words import (
    ROOT,
    NameOption,
    NodeArgument,
    RecipeArgument,
    RootOption,
    SetOption,
    prepare,
    recipe_path,
    run_name,
)

if TYPE_CHECKING:
    from pipeline.runner import Run
    from pipeline.steps import Step

app = typer.Typer(
    help="Turn private histopathology tiles into a small synthetic dataset that may be shared, with the evidence.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(looking)
app.add_typer(studying)


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

    config, this, steps = prepare(recipe, set_, root, name)
    chosen = all_steps.upstream(steps, until) if until else steps
    again = frozenset(s.node for s in all_steps.downstream(steps, from_)) if from_ else frozenset[str]()
    if dry_run:
        _say_states(this, chosen, again)
        return
    from pipeline import logs, releases, report
    from pipeline.config import dump
    from stages import store

    kind: engines.Kind = "processes" if engine == "processes" else "threads"
    with logs.to(this.folder), engines.at_work(kind, workers or engines.cores()) as at_work:
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
    _, this, steps = prepare(recipe, set_, root, name)
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

    path = recipe_path(recipe)
    asked = selecting.Asked(path, root, run_name(name, path), selection, set_ or (), like, upstream)
    print(selecting.drop(asked) if drop else selecting.select(asked), end="")


@app.command()
def explain(
    recipe: RecipeArgument, node: NodeArgument, set_: SetOption = None, root: RootOption = ROOT, name: NameOption = None
) -> None:
    """Say what NODE's result depends on, how it stands, and what changed."""
    import yaml

    from pipeline import runner
    from pipeline.steps import find

    _, this, steps = prepare(recipe, set_, root, name)
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

    config, this, steps = prepare(recipe, set_, root, name)
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

    _, this, steps = prepare(recipe, set_, root, name)
    nodes = [step.node for step in steps] if node == "all" else [node]
    for one in nodes:
        if node == "all" and not runner.acceptable(this, steps, one):
            continue
        print(f"{one}: accepted ({runner.accept(this, steps, one, why)})")


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
