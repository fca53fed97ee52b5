"""YAML and `--set` words -> frozen settings, strictly; an unknown key stops the run, the nearest is suggested."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, ValidationError

from stages.audit_images import AuditImagesSettings
from stages.autoencoder import AutoencoderSettings
from stages.benchmark import BenchmarkSettings
from stages.candidates import CandidatesSettings
from stages.condensation_settings import CondensationSettings
from stages.contracts import UserError
from stages.denoiser import DenoiserSettings
from stages.distillation_settings import LEARNED
from stages.embedding import EmbeddingSettings
from stages.experts import ExpertsSettings
from stages.judge import JudgeSettings
from stages.pins import PinsSettings
from stages.release import ReleaseSettings
from stages.selection import SelectionSettings
from stages.settings import SCHEME, Name, Settings, is_external
from stages.tiles import TilesSettings


class Config(Settings):
    """One field per stage, in the order of the story."""

    seed: int = Field(0, ge=0)
    """Every random stream of the run derives from this number."""
    tiles: TilesSettings
    """Where the tiles come from and which part each plays."""
    autoencoder: AutoencoderSettings
    """Pixels to latents and back: give a folder, or set the mode to train."""
    judge: JudgeSettings = JudgeSettings()
    """The one classifier trained on real tiles."""
    denoiser: DenoiserSettings = DenoiserSettings()
    """The class-conditional latent diffusion model."""
    candidates: CandidatesSettings = CandidatesSettings()
    """How many synthetic tiles, and how they are sampled."""
    embedding: EmbeddingSettings = EmbeddingSettings()
    """Tiles as vectors."""
    selections: dict[Name, SelectionSettings] = Field(default_factory=lambda: {"infomap_50": SelectionSettings()})
    """Choices among the candidates, by name."""
    pins: PinsSettings = PinsSettings()
    """Candidates left out and kept by hand, for every selection that does not name files of its own."""
    experts: ExpertsSettings = ExpertsSettings()
    """Networks whose training the condensations mtt and tesla follow; trained if there is one of these."""
    condensations: dict[Name, CondensationSettings] = Field(default_factory=dict)
    """Small sets by name, contestants of the benchmark: real tiles (random, herding), which are never released, or
    images that are learned (dc, dsa, dm, mtt, tesla), which may be."""
    benchmark: BenchmarkSettings = BenchmarkSettings()
    """What is trained on every contestant, and how it is measured."""
    audit_images: AuditImagesSettings = AuditImagesSettings()
    """The privacy tests that need images alone."""
    audited: Literal["all", "released"] = "all"
    """Which selections, and which condensations that are learned, are attacked: all, or the one that ships alone (with
    many tiles an audit takes minutes)."""
    release: ReleaseSettings | None = None
    """Which selection (or learned condensation) ships, under which licence; without this section the story ends before
    the release."""


def load(
    recipe: Path, overrides: Sequence[str] = (), added: Mapping[str, SelectionSettings] = MappingProxyType({})
) -> Config:
    """The recipe with `overrides` ("section.key=value", the value in YAML) laid over it, checked as a whole.

    Relative paths are relative to the recipe's folder, those in overrides to the working folder.

    Args:
        recipe: the YAML file.
        overrides: laid over the recipe and the selections of the run.
        added: selections that the run has beside those of the recipe.

    Raises:
        UserError: no such recipe, no YAML, an unknown key, or a value out of its bounds; all faults in one message. Or
            the recipe has an added selection by its name, with other settings.
    """
    raw = with_selections(anchored(read_yaml(recipe), Config, recipe.resolve().parent), added, recipe)
    for word in overrides:
        raw = overlaid(raw, word)
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{recipe} cannot be used:\n" + "\n".join(faults(error))) from error
    check_names(config)
    return config


def check_names(config: Config) -> None:
    """Names that must differ or exist: contestants among themselves, the selection that ships."""
    both = set(config.selections) & set(config.condensations)
    both |= {"all_real", "all_synthetic"} & (set(config.selections) | set(config.condensations))
    if both:
        raise UserError(f"{sorted(both)} names two contestants of the benchmark; give one of them another name.")
    if config.release:
        _check_release(config, config.release)


def _check_release(config: Config, release: ReleaseSettings) -> None:
    """What ships is there, is no set of real tiles, and has the soft labels that are to ship with it."""
    name = release.selection
    if name in config.condensations and name not in learned(config):
        raise UserError(
            f"release.selection is {name!r}, a condensation of real tiles (method "
            f"{config.condensations[name].method}). Real tiles never ship: name a selection, or a condensation whose "
            f"method is one of {', '.join(LEARNED)}."
        )
    if name not in config.selections and name not in config.condensations:
        known = sorted([*config.selections, *learned(config)])
        raise UserError(f"release.selection is {name!r}, but what can ship is {known}.")
    if name in config.selections:
        where, soft = f"selections.{name}", config.selections[name].soft_labels
    else:
        where, soft = f"condensations.{name}.distillation", config.condensations[name].distillation.soft_labels
    if release.soft_labels and not soft:
        raise UserError(
            f"release.soft_labels is set, but {where}.soft_labels is not: {name} has none to ship. "
            "Set both, or neither."
        )


def learned(config: Config) -> list[str]:
    """The condensations whose images are learned: audited, and free to ship if the audit allows."""
    return [name for name, condensed in config.condensations.items() if condensed.method in LEARNED]


def own_selections(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The selections a recipe speaks of, as it gives them; the default where it speaks of none."""
    given = raw.get("selections")
    if given is None:
        return {name: {} for name in Config.model_fields["selections"].get_default(call_default_factory=True)}
    return given  # type: ignore[no-any-return] # of any kind until it is checked


def with_selections(raw: dict[str, Any], added: Mapping[str, SelectionSettings], recipe: Path) -> dict[str, Any]:
    """`raw` with the `added` selections beneath its own; an added one that the recipe has as well must not differ."""
    own = own_selections(raw)
    if not added or not isinstance(own, dict):  # what is wrong with it is said once it is checked
        return raw
    for name in added.keys() & own.keys():
        if differing(own[name], added[name]):
            raise UserError(
                f"{name} is a selection of {recipe}, and the run has another of that name ({_told(added[name])}). "
                f"Forget the run's with histodistill select RECIPE {name} --drop, or rename the recipe's."
            )
    beneath = {name: settings.model_dump() for name, settings in added.items() if name not in own}
    return raw | {"selections": own | beneath}


def differing(given: Any, settings: SelectionSettings) -> bool:
    """Whether the settings a recipe gives, where they are good, are others than `settings`."""
    try:
        return SelectionSettings.model_validate(given) != settings
    except ValidationError:
        return False  # what is wrong with them is said once the whole is checked


def plain(settings: BaseModel) -> dict[str, Any]:
    """What differs from the defaults, as values that YAML holds."""
    return settings.model_dump(mode="json", exclude_defaults=True)


def _told(settings: SelectionSettings) -> str:
    return ", ".join(f"{key}: {value}" for key, value in plain(settings).items()) or "the defaults"


def read_yaml(recipe: Path) -> dict[str, Any]:
    """The mapping in a YAML file; a key given twice is an error, as it is always a slip."""
    if not recipe.is_file():
        raise UserError(f"There is no recipe {recipe}. Give the path of a YAML file, or the name of one in ./configs.")
    try:
        raw = yaml.load(recipe.read_text(), Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise UserError(f"{recipe} is not YAML: {error}") from error
    if not isinstance(raw or {}, dict):
        raise UserError(f"{recipe} should hold a mapping of stages to settings, not a {type(raw).__name__}.")
    return raw or {}


class _StrictLoader(yaml.SafeLoader):
    """A SafeLoader that refuses a key given twice."""


def _mapping_without_twins(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    twins = {key for key in keys if keys.count(key) > 1}
    if twins:
        raise yaml.YAMLError(f"key given twice: {sorted(map(str, twins))} near line {node.start_mark.line + 1}")
    return {key: loader.construct_object(value, deep=True) for key, (_, value) in zip(keys, node.value, strict=True)}


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_twins)


def overlaid(raw: dict[str, Any], word: str, model: type[BaseModel] = Config) -> dict[str, Any]:
    """`raw`, of what `model` describes, with one "a.b.c=value" laid over it."""
    dotted, equals, text = word.partition("=")
    keys = dotted.split(".")
    if not equals or not all(keys):
        raise UserError(f"--set takes section.key=value, for example selections.infomap_50.per_class=20; got {word!r}.")
    value = yaml.safe_load(text) if text else None
    for key in reversed(keys[1:]):
        value = {key: value}
    return merged(raw, anchored({keys[0]: value}, model, Path.cwd()))


def merged(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two nested mappings as one; where both speak, `above` wins."""
    result = dict(below)
    for key, value in above.items():
        inner = result.get(key)
        result[key] = merged(inner, value) if isinstance(inner, dict) and isinstance(value, Mapping) else value
    return result


def anchored(raw: dict[str, Any], model: type[BaseModel], folder: Path) -> dict[str, Any]:
    """`raw` with relative paths of outside files made absolute from `folder`."""
    result = dict(raw)
    for key, value in raw.items():
        field = model.model_fields.get(key)
        if field is None or value is None:
            continue
        if isinstance(value, str) and SCHEME not in value and is_external(field.annotation, field.metadata):
            result[key] = str(folder / Path(value).expanduser())
        for inner in _models(field.annotation):
            if isinstance(value, dict) and get_origin(field.annotation) is dict:
                result[key] = {n: anchored(v, inner, folder) if isinstance(v, dict) else v for n, v in value.items()}
            elif isinstance(value, dict):
                result[key] = anchored(value, inner, folder)
    return result


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The settings models inside a type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def faults(error: ValidationError, model: type[BaseModel] = Config) -> list[str]:
    """One line for each fault: where, what is wrong, what was given, and the nearest key of `model` for an unknown."""
    lines = []
    for fault in error.errors():
        where = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            known = _keys_at(fault["loc"][:-1], model)
            near = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"the keys here are {', '.join(known)}."
            lines.append(f"  unknown key {where!r}; {hint}")
        elif fault["type"] == "missing":
            lines.append(f"  {where} is required and was not given.")
        elif not where:  # of the whole, which need not be repeated
            lines.append(f"  {fault['msg'].removeprefix('Value error, ')}.")
        else:
            lines.append(f"  {where}: {fault['msg']}; given {fault['input']!r}.")
    return lines


def _keys_at(location: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    """The keys that settings know at `location` below `model`."""
    skip = False
    for part in location:
        if skip:  # the name of a selection or a condensation
            skip = False
            continue
        field = model.model_fields.get(str(part))
        inner = _models(field.annotation) if field else []
        if field is None or not inner:
            continue
        model, skip = inner[0], get_origin(field.annotation) is dict
    return list(model.model_fields)


def dump(config: BaseModel) -> str:
    """The resolved whole as YAML, in the order of the story."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
