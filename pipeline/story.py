"""The story as data: which steps a recipe asks for, in order, and what each one needs."""

from pipeline.config import Config
from pipeline.steps import Step
from stages import (
    audit_images,
    autoencoder,
    benchmark,
    candidates,
    condensation,
    denoiser,
    embedding,
    judge,
    release,
    selection,
    tiles,
)


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
    for name, condensed in config.condensations.items():
        steps.append(Step(f"condensation/{name}", condensation.run, condensed, condensed_needs(condensed)))
    steps += _benchmarks(config)
    shipped = [config.release.selection] if config.release is not None else []
    for name in config.selections if config.audited == "all" else shipped:
        needs = {"selection": f"selection/{name}", "candidates": "candidates", "tiles": "tiles"}
        steps.append(Step(f"audit_images/{name}", audit_images.run, config.audit_images, needs))
    if config.release is not None:
        steps.append(_release(config))
    return steps


def condensed_needs(condensed: condensation.CondensationSettings) -> dict[str, str]:
    """What a condensation needs, by role: the judge only where it looks through it."""
    return {"tiles": "tiles"} | ({"judge": "judge"} if condensed.method == "herding" else {})


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
    needs = {
        "selection": f"selection/{name}",
        "audit_images": f"audit_images/{name}",
        "candidates": "candidates",
        "denoiser": "denoiser",
        "autoencoder": "autoencoder",
        "embedding": "embedding",
        "tiles": "tiles",
    }
    if config.release.benchmark:
        # The selection itself and what it should be held against; other selections' results would only re-release.
        others = ("all_real", "all_synthetic", *config.condensations)
        needs |= {f"benchmark/{n}": f"benchmark/{n}" for n in (*others, name)}
    return Step("release", release.run, config.release, needs)
