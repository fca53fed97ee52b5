"""Regenerate: another choice among the candidates that a run has, without a change of its recipe.

The selection is kept with the run (`run_selections`), so that every later command of the run knows it. All that comes
before it is taken as it is sealed.
"""

import difflib
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipeline import config as configs
from pipeline import run_selections
from stages import store
from stages.contracts import UserError
from stages.selection import SelectionSettings

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.run_selections import Kept
    from pipeline.runner import State

STAGES = ("selection", "audit_images", "benchmark")
"""Stages of which a selection has a node of its own."""


class Asked(NamedTuple):
    """What a person wants."""

    recipe: Path
    root: Path
    run: str
    """Name of the run."""
    selection: str
    """Name of the selection."""
    words: Sequence[str] = ()
    """"key=value": settings of the selection; "section.key=value": of the recipe, as `histodistill run` takes them."""
    like: str | None = None
    """The selection from whose settings to start."""
    upstream: bool = False
    """Whether to bring what the selection stands on up to date as well."""

    @property
    def folder(self) -> Path:
        """The run's."""
        return self.root / "runs" / self.run


def select(asked: Asked) -> str:
    """Choose anew, keep the selection with the run, and tell in a page of text what was chosen.

    Raises:
        UserError: settings that cannot be used, a name of the recipe's own, or something the selection stands on that
            is not sealed (unless `upstream`). Nothing is kept then.
    """
    from pipeline import engine, logs, runner, steps, story

    kept, config = _wanted(asked)
    run = runner.Run(asked.root, asked.run, config.seed)
    node = f"selection/{asked.selection}"
    chosen = steps.upstream(story.tell(config), node)
    if not asked.upstream:
        _check_upstream(list(runner.states(run, chosen))[:-1])
    started = time.monotonic()
    with logs.to(run.folder):
        seal = runner.go(run, chosen, engine.make("threads", engine.cores()))[node]
    run_selections.write(run.folder, kept)
    store.write_text(run.folder / "config.yaml", configs.dump(config))
    return page(asked.selection, seal.folder, run.folder / "results" / node, time.monotonic() - started)


def drop(asked: Asked) -> str:
    """Forget a selection of the run. Its results stay in the store until `histodistill clean --yes`.

    Raises:
        UserError: the run has none of that name, or it is the one that ships.
    """
    from pipeline import runner

    kept = run_selections.read(asked.folder)
    if asked.selection not in kept:
        if asked.selection in _own(asked.recipe):
            raise UserError(f"{asked.selection} is a selection of {asked.recipe} itself. Take it out there.")
        raise UserError(
            f"The run {asked.run} keeps no selection {asked.selection!r}. "
            + _nearest(asked.selection, kept, "It keeps")
        )
    left = {name: settings for name, settings in kept.items() if name != asked.selection}
    config = configs.load(asked.recipe, asked.words, left)
    run_selections.write(asked.folder, left)
    if (asked.folder / "run.json").exists():
        store.write_text(asked.folder / "config.yaml", configs.dump(config))
        runner.drop(runner.Run(asked.root, asked.run, config.seed), [f"{s}/{asked.selection}" for s in STAGES])
    return f"{asked.selection}: forgotten. histodistill clean shows what no run uses any more.\n"


def _wanted(asked: Asked) -> "tuple[Kept, Config]":
    """What the run keeps from now on, and the settings of the whole."""
    kept, name = run_selections.read(asked.folder), asked.selection
    of_selection = [word for word in asked.words if not _of_recipe(word)]
    of_recipe = [word for word in asked.words if _of_recipe(word)]
    own = _own(asked.recipe)
    before = kept.get(name, SelectionSettings())
    kept = {other: settings for other, settings in kept.items() if other != name}
    config = configs.load(asked.recipe, of_recipe, kept if name in own else kept | {name: before})
    if asked.like is not None and asked.like not in config.selections:
        raise UserError(
            f"There is no selection {asked.like!r}. " + _nearest(asked.like, config.selections, "The run has")
        )
    new = _settings(name, config.selections[asked.like or name], of_selection)
    if name not in own:
        kept = kept | {name: new}
        return kept, configs.load(asked.recipe, of_recipe, kept)
    if new != config.selections[name]:
        raise UserError(
            f"{name} is a selection of {asked.recipe} itself, with other settings. Give the new one another name "
            f"(--like {name} starts from its settings), or change selections.{name} in the recipe."
        )
    return kept, config


def _own(recipe: Path) -> list[str]:
    """Names of the selections that the recipe itself has."""
    given = configs.own_selections(configs.read_yaml(recipe))
    return list(given) if isinstance(given, dict) else []


def _of_recipe(word: str) -> bool:
    """Whether a "key=value" speaks of the recipe, by its first key; all others speak of the selection."""
    return word.partition("=")[0].partition(".")[0] in configs.Config.model_fields


def _settings(name: str, start: SelectionSettings, words: Iterable[str]) -> SelectionSettings:
    """The settings `start` with `words` laid over them."""
    raw = {"selections": {name: start.model_dump()}}
    for word in words:
        if "=" not in word:
            raise UserError(f"--set takes key=value, for example per_class=20; got {word!r}.")
        raw = configs.overlaid(raw, f"selections.{name}.{word}")
    return run_selections.checked(raw["selections"], f"selection {name}", Path.cwd())[name]


def _nearest(name: str, known: Iterable[str], begin: str) -> str:
    """The nearest of the `known` names, and all of them behind `begin`."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"Did you mean {near[0]}? " if near else ""
    return f"{hint}{begin}: {', '.join(names) or 'none'}."


def _check_upstream(states: "Sequence[State]") -> None:
    """Everything a selection stands on is sealed."""
    unready = [state for state in states if state.seal is None]
    if not unready:
        return
    first, last = unready[0], states[-1].step.node
    raise UserError(
        f"{first.step.node} is {first.word} ({'; '.join(first.why[:3])}), and a selection stands on it. Run first: "
        f"histodistill run RECIPE --until {last}; or give --run, which does both."
    )


def page(name: str, folder: Path, link: Path, seconds: float) -> str:
    """What was chosen, class by class, for people."""
    facts = store.read_json(folder / "facts.json")
    lines = [f"selection/{name}: {facts['method']}, {facts['per_class']} of each class, in {seconds:.1f} s", ""]
    wide = min(30, max(5, *(len(of_class) for of_class in facts["classes"])))
    titles = ("class", "candidates", "chosen", "communities", "reached", "stability")
    lines.append("  {:<{wide}}  {:>10}  {:>6}  {:>11}  {:>7}  {:>9}".format(*titles, wide=wide))
    for of_class, told in facts["classes"].items():
        stable = "–" if told["stability"] is None else f"{told['stability']:.2f}"
        lines.append(
            f"  {of_class[:wide]:<{wide}}  {told['candidates']:>10,}  {facts['per_class']:>6,}  "
            f"{told['communities']:>11,}  {told['communities_reached']:>7,}  {stable:>9}"
        )
    lines += ["", *(f"! {warning}" for warning in facts["warnings"])]
    lines += [
        f"contact sheet: {link / 'contact.png'}",
        f"side by side:  histodistill compare RECIPE OTHER {name}",
        f"to ship it:    histodistill run RECIPE --set release.selection={name}",
    ]
    return "\n".join(lines) + "\n"
