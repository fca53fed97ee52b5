"""The story as data: which steps a recipe asks for, in order, and what each one needs."""

from collections.abc import Mapping
from types import MappingProxyType

from pipeline.config import Config, learned
from pipeline.steps import Step
from stages import (
    audit_images,
    autoencoder,
    benchmark,
    candidates,
    condensation,
    denoiser,
    distillation,
    embedding,
    experts,
    judge,
    release,
    selection,
    tiles,
)
from stages.condensation_settings import CondensationSettings
from stages.distillation_settings import LEARNED, TRAJECTORIES


def tell(config: Config) -> list[Step]:
    """The steps of a recipe, every one after those it needs."""
    steps = [
        Step("tiles", tiles.run, config.tiles, secrets=("key",)),
        Step("autoencoder", autoencoder.run, config.autoencoder, {"tiles": "tiles"}),
        Step("judge", judge.run, config.judge, {"tiles": "tiles"}),
        Step("denoiser", denoiser.run, config.denoiser, {"tiles": "tiles", "autoencoder": "autoencoder"}),
        Step("candidates", candidates.run, config.candidates, {"autoencoder": "autoencoder", "denoiser": "denoiser"}),
        Step(
            "embedding",
            embedding.run,
            config.embedding,
            {"candidates": "candidates", "tiles": "tiles"} | _encoder(config),
        ),
    ]
    for name, selected in config.selections.items():
        needs = {"embedding": "embedding", "candidates": "candidates"}
        if selected.soft_labels or selected.gate.agreement is not None:
            needs["judge"] = "judge"
        steps.append(Step(f"selection/{name}", selection.run, _pinned(config, selected), needs))
    if any(condensed.method in TRAJECTORIES for condensed in config.condensations.values()):
        steps.append(Step("experts", experts.run, config.experts, {"tiles": "tiles"}))
    for name, condensed in config.condensations.items():
        steps.append(condense(f"condensation/{name}", condensed))
    steps += _benchmarks(config)
    shipped = [config.release.selection] if config.release is not None else []
    for name in [*config.selections, *learned(config)] if config.audited == "all" else shipped:
        needs = _images_of(config, name) | {"tiles": "tiles"}
        steps.append(Step(f"audit_images/{name}", audit_images.run, config.audit_images, needs))
    if config.release is not None:
        steps.append(_release(config))
    return steps


def condense(node: str, condensed: CondensationSettings, at: Mapping[str, str] = MappingProxyType({})) -> Step:
    """The step of a condensation; `at` says which node gives a role, where it is not called like it."""
    how = distillation.run if condensed.method in LEARNED else condensation.run
    return Step(node, how, condensed, {role: at.get(role, role) for role in condensed_needs(condensed)})


def condensed_needs(condensed: CondensationSettings) -> list[str]:
    """What a condensation needs: the judge to herd by, candidates to begin with, experts to follow."""
    needs = ["tiles"]
    needs += ["judge"] if condensed.method == "herding" else []
    needs += ["candidates"] if condensed.method in LEARNED and condensed.distillation.start == "candidates" else []
    needs += ["experts"] if condensed.method in TRAJECTORIES else []
    return needs


def _images_of(config: Config, name: str) -> dict[str, str]:
    """What may ship under `name`, and the candidates it was chosen from; what is learned stands for these itself."""
    if name in config.selections:
        return {"selection": f"selection/{name}", "candidates": "candidates"}
    return {"selection": f"condensation/{name}", "candidates": f"condensation/{name}"}


def _encoder(config: Config) -> dict[str, str]:
    """The encoder among the steps; those that ship or are brought are none of them."""
    name = config.embedding.encoder
    return {name: name} if name in ("judge", "autoencoder") else {}


def _pinned(config: Config, selected: selection.SelectionSettings) -> selection.SelectionSettings:
    """The settings of a selection, with the recipe's own pins where it names none."""
    given = {"exclude": selected.exclude or config.pins.exclude, "keep": selected.keep or config.pins.keep}
    return selected.model_copy(update=given)


def contestants(config: Config) -> dict[str, str]:
    """Every contestant of the benchmark, by name, with the node that holds its images."""
    return (
        {"all_real": "tiles", "all_synthetic": "candidates"}
        | {name: f"condensation/{name}" for name in config.condensations}
        | {name: f"selection/{name}" for name in config.selections}
    )


def _benchmarks(config: Config) -> list[Step]:
    return [
        Step(
            f"benchmark/{name}",
            benchmark.run,
            config.benchmark,
            {"tiles": "tiles", "judge": "judge", "contestant": node},
        )
        for name, node in contestants(config).items()
    ]


def _release(config: Config) -> Step:
    assert config.release is not None
    name = config.release.selection
    needs = _images_of(config, name) | {"audit_images": f"audit_images/{name}", "tiles": "tiles"}
    if name in config.selections:
        needs |= {node: node for node in ("denoiser", "autoencoder", "embedding")}
    if config.release.benchmark:
        # The selection itself and what it should be held against; other selections' results would only re-release.
        others = ("all_real", "all_synthetic", *config.condensations)
        needs |= {f"benchmark/{n}": f"benchmark/{n}" for n in dict.fromkeys([*others, name])}
    return Step("release", release.run, config.release, needs)
