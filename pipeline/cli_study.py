"""Commands of the feasibility study: many data sets and methods at once, and what to expect of new data."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli_words import ROOT, NameOption, RecipeArgument, RootOption, SetOption, recipe_path, run_name

studying = typer.Typer()
WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="How many cells are made side by side, one thread each; default: cores.")
]


@studying.command()
def study(
    recipe: RecipeArgument,
    set_: SetOption = None,
    root: RootOption = ROOT,
    name: NameOption = None,
    workers: WorkersOption = None,
    download: Annotated[
        bool, typer.Option("--download", help="Bring official MedMNIST files that are missing, md5 checked.")
    ] = False,
    until_minutes: Annotated[
        float, typer.Option("--until-minutes", min=0, help="Begin nothing after so many minutes.")
    ] = float("inf"),
) -> None:
    """Study which data can be distilled: every task × method × images per class × seed of RECIPE that is not made yet.

    Stopped, by Ctrl-C or otherwise, it keeps every finished cell; the same command continues. Tables and figures of
    what there is are written each time. A cell that breaks is set aside, and tried again by the same command.
    """
    import time

    from pipeline import engine as engines
    from pipeline import logs, runner, study_config, study_report
    from pipeline.config import dump
    from pipeline.faults import Broken
    from pipeline.study import Study, begin, made, work
    from stages import store
    from stages.contracts import Interrupted

    until, path = time.monotonic() + 60 * until_minutes, recipe_path(recipe)
    called = run_name(name, path)
    config = study_config.load(path, set_ or ())
    this = runner.Run(root, called, config.seed)
    with logs.to(this.folder), engines.at_work("threads", workers or engines.cores()) as at_work:
        told = Study(config, this, tuple(study_config.tasks_of(config, download)))
        store.write_text(this.folder / "config.yaml", dump(config))
        ledger = begin(told, until, go_on=True)
        try:
            work(told, ledger, at_work)
        finally:  # of what there is, also when the study is stopped at once or something breaks
            out = study_report.write(told, measured := made(told, ledger))
    print((out / "table.md").read_text())
    print(f"study: {out}")
    cells, left = len(measured.outcomes), measured.left
    if measured.stopped and left:
        raise Interrupted(f"study stopped with {left} of {cells} cells left; run the same command again to continue")
    if left:
        print(f"{left} of {cells} cells are left; run the same command again to continue")
    if measured.broken:
        raise Broken(study_report.broken(measured, this.folder / "log.txt"))


@studying.command()
def predict(
    data: Annotated[
        str, typer.Argument(help="A Parquet file, npz, folder or address; or a recipe (.yaml).", metavar="DATA")
    ],
    ipc: Annotated[int, typer.Option("--ipc", min=1, help="Images per class of the distilled set.")],
    method: Annotated[
        list[str] | None, typer.Option("--method", help="Method of the study; may be repeated. Default: all.")
    ] = None,
    study: Annotated[
        Path | None,
        typer.Option("--study", help="results.csv of a study.", metavar="RESULTS.csv"),
    ] = None,
    label_column: Annotated[str | None, typer.Option(help="Column with the classes, if not `label`.")] = None,
    group_column: Annotated[
        str | None, typer.Option(help="Column with the groups, if not `group`; an empty word: there are none.")
    ] = None,
    medmnist: Annotated[str | None, typer.Option(help="The set of MedMNIST that an npz is, e.g. bloodmnist.")] = None,
    size: Annotated[int | None, typer.Option(help="Side to which tiles are resized, in pixels.")] = None,
    root: RootOption = ROOT,
    workers: WorkersOption = None,
) -> None:
    """Tell what a distilled set of DATA would reach, before any distillation, with a prediction interval.

    Trains three networks on random real subsets of that size, and asks a study how its distilled sets did beside such.
    """
    from pipeline import engine as engines
    from pipeline import inspection, logs, predicting, study_experience

    words = {"label_column": label_column, "medmnist": medmnist, "size_px": size}
    given: dict[str, object] = {name: value for name, value in words.items() if value is not None}
    if group_column is not None:
        given["group_column"] = group_column or None
    known = study_experience.experience(study, root)
    settings, guess = inspection.settings_of(data, given)
    run = predicting.run_of(data, root)
    with logs.to(run.folder), engines.at_work("threads", workers or engines.cores()) as at_work:
        answer = predicting.predict(settings, guess, ipc, known, run, at_work, method or ())
    print(predicting.page(answer), end="")
