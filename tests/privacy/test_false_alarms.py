"""Clean and planted sets of real tiles, audited many times: how often is there an alarm?

Run as a script for the table: `python tests/privacy/test_false_alarms.py`. In every trial the groups of the shipped
sample are dealt anew to train (300), control (79) and an audited set made of tiles of the other groups, as they are
or smoothed as an autoencoder would. Two groups that double another one are left out.
"""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from stages.privacy import battery, similarity
from stages.privacy.alterations import ALTERATIONS
from stages.privacy.exchange import Groups, deal_roles
from stages.privacy.reference import calibrate, strata
from stages.privacy.similarity import Nearness
from stages.stats.intervals import clopper_pearson

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
TRAIN, CONTROL, DEALS, LEVEL = 300, 79, 200, 0.05


class Everything(NamedTuple):
    group_r: np.ndarray
    stratum_g: np.ndarray
    own: Nearness
    altered: dict[str, Nearness]


def compare_everything() -> Everything:
    tiles = pd.read_parquet(SAMPLE / "lung.parquet")
    roles = pd.read_csv(SAMPLE / "roles.csv").set_index("group")["role"]
    tiles = tiles[tiles["group"].map(roles) != "public"].reset_index(drop=True)
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(cell["bytes"])).convert("RGB")) for cell in tiles["image"]])
    group_r, label_r = pd.factorize(tiles["group"])[0], pd.factorize(tiles["label"], sort=True)[0]
    img = similarity.to_tensor(pixels)
    description = similarity.fit_description(img, 192)
    references = similarity.prepare(description, img, group_r)
    near = similarity.nearness(description, img, references)
    own = Nearness(similarity.without_own_group(near.similarity_ng, group_r), near.tile_ng)
    altered = {
        name: similarity.nearness(description, change(img, torch.Generator().manual_seed(1)), references)
        for name, change in ALTERATIONS.items()
    }
    twins = np.unique(group_r[own.similarity_ng.max(1) > 0.8])
    dropped = [g for g in twins if g > own.similarity_ng[group_r == g].max(0).argmax()]
    kept = np.setdiff1d(np.arange(group_r.max() + 1), dropped)
    rows, number = np.isin(group_r, kept), np.searchsorted(kept, group_r)

    def cut(n: Nearness) -> Nearness:
        return Nearness(n.similarity_ng[rows][:, kept], np.cumsum(rows)[n.tile_ng[rows][:, kept]] - 1)

    number = number[rows]
    return Everything(number, strata(number, label_r[rows]), cut(own), {k: cut(n) for k, n in altered.items()})


def one_trial(
    world: Everything, rng: np.random.Generator, tiles: int, planted: int = 0, blurred: bool = False
) -> dict[str, float]:
    """Adjusted p-values of every test, on a clean set or one with planted copies."""
    places = rng.permutation(len(world.stratum_g))
    members, is_train_g = np.sort(places[: TRAIN + CONTROL]), np.isin(np.arange(len(places)), places[:TRAIN])
    inside_r = np.isin(world.group_r, members)
    number_r = np.searchsorted(members, world.group_r[inside_r])
    groups = Groups(is_train_g[members], world.stratum_g[members])
    drawn = calibrate(world.own.similarity_ng[inside_r][:, members], number_r, groups)
    columns = members[drawn.kept_g]
    dealt = deal_roles(drawn.real.groups, rng, DEALS)
    source = world.altered["blurred"] if blurred else world.own
    rows = rng.choice(np.flatnonzero(~inside_r), tiles - planted, replace=False)
    found, tile = source.similarity_ng[rows][:, columns], source.tile_ng[rows][:, columns]
    for _ in range(planted):
        near = world.altered[rng.choice(list(world.altered))]
        row = rng.choice(np.flatnonzero(is_train_g[world.group_r]))
        found = np.concatenate([found, near.similarity_ng[[row]][:, columns]])
        tile = np.concatenate([tile, near.tile_ng[[row]][:, columns]])
    tile = np.minimum(np.cumsum(inside_r)[tile] - 1, inside_r.sum() - 1)
    effort = battery.Effort(DEALS, 10, 50, LEVEL)
    none = np.zeros(len(found), bool)
    return battery.adjust(battery.run(Nearness(found, tile), none, drawn.real, dealt, effort, rng))


def count(world: Everything, trials: int, **what: object) -> dict[str, int]:
    alarms = dict.fromkeys([*battery.HARD[1:], *battery.SOFT, "any hard", "any soft"], 0)
    for trial in range(trials):
        adjusted = one_trial(world, np.random.default_rng([trial, 7]), **what)  # type: ignore[arg-type]
        failed = {name for name, p in adjusted.items() if p <= LEVEL}
        for name in failed:
            alarms[name] += 1
        alarms["any hard"] += bool(failed & set(battery.HARD))
        alarms["any soft"] += bool(failed & set(battery.SOFT))
    return alarms


@pytest.mark.slow
def test_clean_tiles_seldom_alarm_and_planted_copies_nearly_always_do() -> None:
    world = compare_everything()
    for blurred in (False, True):
        alarms = count(world, 200, tiles=300, blurred=blurred)
        assert clopper_pearson(alarms["any hard"], 200).low <= LEVEL
        assert clopper_pearson(alarms["any soft"], 200).low <= LEVEL
    assert count(world, 50, tiles=300, planted=15)["any hard"] >= 49


if __name__ == "__main__":
    torch.set_num_threads(1)
    everything = compare_everything()
    for trials, what in (
        (200, {"tiles": 150}),
        (200, {"tiles": 300}),
        (200, {"tiles": 300, "blurred": True}),
        (100, {"tiles": 30, "planted": 1}),
        (100, {"tiles": 150, "planted": 1, "blurred": True}),
        (100, {"tiles": 150, "planted": 7}),
        (100, {"tiles": 300, "planted": 15}),
    ):
        result = count(everything, trials, **what)
        shares = {
            name: "{:.3f} [{:.3f}, {:.3f}]".format(*clopper_pearson(hits, trials)) for name, hits in result.items()
        }
        print(what, shares, flush=True)
