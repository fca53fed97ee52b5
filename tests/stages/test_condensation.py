from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from textures import CLASSES, Serial, digests, write_tiles

from stages import condensation, images, models, store
from stages.classify import networks
from stages.condensation_settings import CondensationSettings
from stages.contracts import Inputs, UserError

FACTS = {
    "architecture": "resnet18",
    "classes": list(CLASSES),
    "grey": False,
    "mean": [0.5] * 3,
    "std": [0.2] * 3,
    "size_px": 16,
    "feature_dim": 512,
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    root = tmp_path_factory.mktemp("inputs")
    network = networks.build_seeded(FACTS, torch.Generator().manual_seed(0))
    models.write_network(root / "judge" / "colour", network, FACTS)
    return {"tiles": write_tiles(root / "tiles", {"train": 15, "val": 6, "test": 6}), "judge": root / "judge"}


def run(out: Path, inputs: Inputs, seed: int = 3, **changes: Any) -> images.ImageSet:
    out.mkdir(parents=True)
    condensation.run(CondensationSettings(**changes), inputs, out, seed, Serial())
    return images.read(out / "images")


@pytest.mark.parametrize("method", ["random", "herding"])
def test_it_gives_train_tiles_of_different_groups_class_by_class(tmp_path: Path, inputs: Inputs, method: str) -> None:
    found = run(tmp_path / "out", inputs, method=method, per_class=5)
    assert found.labels_n.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert found.table["rank"].tolist() == [0, 1, 2, 3, 4] * 3
    train = images.read(inputs["tiles"] / "images", role="train")
    origin = train.table.set_index("tile_id").loc[found.table["tile_id"]]
    assert origin["group"].is_unique and (origin["label"].to_numpy() == found.labels_n).all()
    assert np.array_equal(
        found.pixels_nhwc[0], train.pixels_nhwc[train.table["tile_id"] == found.table["tile_id"][0]][0]
    )
    assert set(found.table.columns) == {"label", "tile_id", "rank"}, "neither group nor role is carried along"
    facts = store.read_json(tmp_path / "out" / "facts.json")
    assert facts["pixels"] == "real" and facts["method"] == method and set(facts["groups"].values()) == {5}


@pytest.mark.parametrize("method", ["random", "herding"])
def test_equal_runs_give_equal_bytes_and_a_small_set_begins_a_large(
    tmp_path: Path, inputs: Inputs, method: str
) -> None:
    run(tmp_path / "a", inputs, method=method, per_class=6)
    large = run(tmp_path / "b", inputs, method=method, per_class=6)
    small = run(tmp_path / "c", inputs, method=method, per_class=2)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    first = large.table[large.table["rank"] < 2]
    assert first["tile_id"].tolist() == small.table["tile_id"].tolist()


def test_another_seed_draws_other_tiles_but_herds_the_same(tmp_path: Path, inputs: Inputs) -> None:
    sets = {
        (method, seed): tuple(
            run(tmp_path / f"{method}{seed}", inputs, seed, method=method, per_class=3).table["tile_id"]
        )
        for method in ("random", "herding")
        for seed in (1, 2)
    }
    assert sets["random", 1] != sets["random", 2]
    assert sets["herding", 1] == sets["herding", 2]


def test_more_than_a_class_has_is_an_error_that_says_what_to_do(tmp_path: Path, inputs: Inputs) -> None:
    with pytest.raises(UserError, match="at most 10"):
        run(tmp_path / "out", inputs, per_class=11)
