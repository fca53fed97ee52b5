from pathlib import Path
from typing import Any

import numpy as np
import pytest
from textures import Serial, digests, textured, write_tiles

from stages import images, simulation, store
from stages.contracts import UserError

COUNTS = {"train": 30, "val": 9, "test": 12, "control": 9}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two data sets of the same group numbers, in pairs of copies, the second with other pictures."""
    root = tmp_path_factory.mktemp("sets")
    found = {
        "tiles/red": write_tiles(root / "red", COUNTS),
        "tiles/blue": write_tiles(root / "blue", COUNTS, changed=COUNTS),
    }
    return found | {"judge": root}


def run(out: Path, inputs: dict[str, Path], seed: int = 3, **changes: Any) -> images.ImageSet:
    out.mkdir(parents=True)
    settings = simulation.SimulationSettings(**({"share": 0.2, "image_px": 8, "least": 4} | changes))
    simulation.run(settings, inputs, out, seed, Serial())
    return images.read(out / "images")


def test_a_share_of_each_role_of_each_set_is_taken_as_the_class_of_its_name(
    tmp_path: Path, sets: dict[str, Path]
) -> None:
    found = run(tmp_path / "out", sets)
    assert found.classes == ("blue", "red") and found.pixels_nhwc.shape[1:] == (8, 8, 3)
    # of 60, 18, 24, 18 tiles a fifth, but at least four: 12, 4, 5, 4
    counts = found.table.groupby(["role", "label"]).size().to_dict()
    assert counts == {
        (role, c): n for role, n in (("train", 12), ("val", 4), ("test", 5), ("control", 4)) for c in (0, 1)
    }
    facts = store.read_json(tmp_path / "out" / "facts.json")
    assert facts["counts"]["train"] == {"blue": 12, "red": 12} and facts["classes"] == ["blue", "red"]
    assert facts["groups"]["train"] == {"blue": 12, "red": 12}, "one tile of each group before a second of any"


def test_tiles_are_those_of_the_sets_made_smaller_and_keep_their_roles(tmp_path: Path, sets: dict[str, Path]) -> None:
    found = run(tmp_path / "out", sets, image_px=16)
    for label, name in enumerate(found.classes):
        of = images.read_table(sets[f"tiles/{name}"] / "images")[0].set_index("tile_id")
        mine = found.table[found.table["label"] == label]
        assert (of.loc[mine["tile_id"], "role"].to_numpy() == mine["role"]).all()
    small = run(tmp_path / "small", sets)
    means = [tiles.pixels_nhwc.astype(float).mean() for tiles in (found, small)]
    assert means[0] == pytest.approx(means[1], abs=0.6), "areas are averaged, halves rounded up"


def test_groups_stay_whole_and_those_of_two_sets_stay_distinct(tmp_path: Path, sets: dict[str, Path]) -> None:
    found = run(tmp_path / "out", sets, image_px=16, share=1.0)
    by_group = found.table.groupby("group")
    assert by_group["label"].nunique().max() == 1 and by_group["role"].nunique().max() == 1
    assert set(by_group.size()) == {2} and len(by_group) == 2 * sum(COUNTS.values())


def test_equal_seeds_give_equal_bytes_whatever_the_order_of_the_sets_and_others_draw_others(
    tmp_path: Path, sets: dict[str, Path]
) -> None:
    first = run(tmp_path / "a", sets)
    run(tmp_path / "b", dict(reversed(sets.items())))
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert set(first.table["tile_id"]) != set(run(tmp_path / "c", sets, seed=4).table["tile_id"])


def test_a_picture_in_two_sets_is_set_aside_and_counted(tmp_path: Path) -> None:
    inputs = {}
    for place, name in enumerate(("one", "two")):
        pixels, labels, groups = textured(16, 1, place)
        pixels[::4] = 7 * np.arange(4, dtype=np.uint8)[:, None, None, None]  # the same in both
        columns = {"group": groups.tolist(), "role": np.repeat(["train", "val", "test", "control"], 4).tolist()}
        images.write(tmp_path / name / "images", images.make(pixels, labels, ["a", "b", "c"], columns))
        inputs[f"tiles/{name}"] = tmp_path / name
    found = run(tmp_path / "out", inputs, share=1.0, image_px=16)
    assert len(found.table) == 24
    assert store.read_json(tmp_path / "out" / "facts.json")["set_aside"] == {simulation.COPY: 8}


def test_one_set_is_no_problem_to_be_solved(tmp_path: Path, sets: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="two data sets or more.*given 1"):
        run(tmp_path / "out", {"tiles/red": sets["tiles/red"]})


def test_a_set_without_tiles_in_a_role_is_named(tmp_path: Path, sets: dict[str, Path]) -> None:
    bare = write_tiles(tmp_path / "bare", {"train": 9, "val": 9, "test": 9}, changed=("train", "val", "test"))
    with pytest.raises(UserError, match="no image of bare in control"):
        run(tmp_path / "out", {"tiles/red": sets["tiles/red"], "tiles/bare": bare})
