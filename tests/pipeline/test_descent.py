"""Who stands on whom, on a story small enough to know by heart."""

import random
from typing import Any

import pytest

from pipeline.descent import Result, holds, orphans, standing_on, touched

NEEDS = {
    "tiles": (),
    "autoencoder": ("tiles",),
    "judge": ("tiles",),
    "denoiser": ("tiles", "autoencoder"),
    "candidates": ("autoencoder", "denoiser"),
    "embedding": ("candidates", "tiles"),
    "selection": ("embedding", "candidates"),
    "benchmark": ("tiles", "judge", "selection"),
    "audit_images": ("selection", "candidates", "tiles"),
    "release": ("selection", "audit_images", "candidates", "tiles", "benchmark"),
}


def story(tale: str, without: tuple[str, ...] = (), **settings: Any) -> dict[str, Result]:
    return {
        stage: Result(
            stage, tale, f"{tale}:{stage}", frozenset(f"{tale}:{n}" for n in needs if n not in without), settings
        )
        for stage, needs in NEEDS.items()
    }


def reached(results: list[Result], tiles: Result, role: str) -> set[str]:
    return {result.stage for result in touched(results, tiles, role)}


def test_by_role_all_the_figures_or_the_audits_are_touched() -> None:
    one, other = story("one"), story("other")
    results = [*one.values(), *other.values()]
    everything = set(NEEDS) - {"tiles"}
    assert reached(results, one["tiles"], "train") == reached(results, one["tiles"], "val") == everything
    assert reached(results, one["tiles"], "test") == {"benchmark", "release"}
    assert reached(results, one["tiles"], "control") == {"audit_images", "release"}
    assert {r.folder for r in touched(results, one["tiles"], "train")} == {"one"}


def test_a_release_without_a_benchmark_stands_on_no_test_tile() -> None:
    one = story("one", without=("benchmark",))
    assert reached(list(one.values()), one["tiles"], "test") == {"benchmark"}


def test_the_order_of_the_results_changes_nothing_but_their_order() -> None:
    one = story("one")
    results = list(one.values())
    for seed in range(20):
        random.Random(seed).shuffle(results)
        found = standing_on(results, [one["denoiser"]])
        assert found == [r for r in results if r in found]
        wanted = {"denoiser", "candidates", "embedding", "selection", "benchmark", "audit_images", "release"}
        assert {r.stage for r in found} == wanted


def test_two_results_of_equal_bytes_are_both_followed() -> None:
    one = story("one")
    twin = Result("denoiser", "twin", one["denoiser"].digest, one["denoiser"].inputs, {})
    assert one["candidates"] in standing_on([*one.values(), twin], [twin])


def test_results_made_from_what_is_gone_are_orphans() -> None:
    one = story("one")
    rest = [result for result in one.values() if result.stage != "denoiser"]
    assert orphans(one.values()) == [] and [r.stage for r in orphans(rest)] == ["candidates"]


@pytest.mark.parametrize(
    ("stage", "mode", "role", "word"),
    [
        ("autoencoder", "folder", "train", "copies"),
        ("autoencoder", "train", "train", "influence"),
        ("autoencoder", "finetune", "train", "influence"),
        ("autoencoder", "train", "val", "copies"),
        ("denoiser", None, "train", "influence"),
        ("release", None, "val", "choices"),
        ("benchmark", None, "test", "figures"),
        ("release", None, "control", "audits"),
    ],
)
def test_what_a_result_holds_follows_from_the_role_and_whether_it_learned(
    stage: str, mode: str | None, role: str, word: str
) -> None:
    assert holds(story("one", **({} if mode is None else {"mode": mode}))[stage], role) == word
