"""Words that several commands share: their arguments, and the recipe and run they mean."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stages.contracts import UserError

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.runner import Run
    from pipeline.steps import Step

RecipeArgument = Annotated[str, typer.Argument(help="A YAML file, or the name of one in ./configs.", metavar="RECIPE")]
NodeArgument = Annotated[str, typer.Argument(help="A node of the story, e.g. selection/infomap_50.", metavar="NODE")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="section.key=value, laid over the recipe; may be repeated.", metavar="KEY=VALUE"),
]
RootOption = Annotated[
    Path, typer.Option("--root", envvar="HISTODISTILL_ROOT", help="Folder of the store and the runs.")
]
SelectionArgument = Annotated[str, typer.Argument(help="Name of a selection, e.g. infomap_50.", metavar="NAME")]
NameOption = Annotated[str | None, typer.Option("--name", help="Name of the run, if not the recipe's.")]
ROOT = Path("data")


def recipe_path(recipe: str) -> Path:
    """The YAML file a word means: a path, or the name of a file in ./configs."""
    named = Path("configs") / f"{recipe}.yaml"
    return named if not Path(recipe).suffix and named.is_file() else Path(recipe)


def run_name(name: str | None, recipe: Path) -> str:
    """What a run is called: as the person says, or else as its recipe's file; a folder of `runs/`, never above it.

    Raises:
        UserError: it is no name of one folder.
    """
    said = recipe.stem if name is None else name
    if not said.strip() or said.startswith(".") or any(letter in "/\\" or not letter.isprintable() for letter in said):
        given = f"--name {said!r}" if name is not None else f"{recipe}, whose run would be called {said!r},"
        raise UserError(
            f"{given} does not name a folder of the root's runs. Wanted is one name without / and \\ that does not "
            "begin with a dot, for example --name second_try."
        )
    return said


def prepare(recipe: str, set_: list[str] | None, root: Path, name: str | None) -> "tuple[Config, Run, list[Step]]":
    """The settings, the run and the whole story of a recipe, with the selections that the run keeps beside it."""
    from pipeline import config as configs
    from pipeline import releases, run_selections, runner, story

    path = recipe_path(recipe)
    called = run_name(name, path)
    kept = run_selections.read(root / "runs" / called)
    config = configs.load(path, set_ or (), kept)
    this = runner.Run(root, called, config.seed)
    config = releases.with_previous(config, this)
    return config, this, story.tell(config)
