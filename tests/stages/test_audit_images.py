import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from stages import images, scale_bar, store
from stages.audit_images import PRIVATE, AuditImagesSettings, _as_many, run
from stages.classify import protocol
from stages.contracts import UserError
from stages.images import ImageSet

QUICK = AuditImagesSettings(deals=60, draws=3, resamples=50, planted_tiles=4, power_trials=20, pairs=6, components=64)
CLASSES = ("aca", "scc")


def textures(n: int, seed: int, side: int = 32) -> np.ndarray:
    """Random smooth colour pictures, each unlike the others."""
    coarse = torch.rand((n, 3, 9, 9), generator=torch.Generator().manual_seed(seed))
    img = torch.nn.functional.interpolate(coarse, size=side, mode="bicubic").clamp(0, 1)
    return (255 * img).round().byte().permute(0, 2, 3, 1).numpy()


def real_tiles(control: int = 24) -> ImageSet:
    """60 train groups, 24 control and 10 val groups of two tiles; two tiles of `test`, which nobody may read."""
    roles = ["train"] * 60 + ["control"] * control + ["val"] * 10 + ["test"]
    n = 2 * len(roles)
    group = np.repeat(np.arange(len(roles)), 2)
    return images.make(textures(n, seed=0), group % 2, CLASSES, {"group": group, "role": np.repeat(roles, 2).tolist()})


def synthetic(n: int, seed: int, side: int = 32) -> ImageSet:
    return images.make(textures(n, seed, side), np.arange(n) % 2, CLASSES, {"index": np.arange(n)})


def audit(
    folder: Path, released: ImageSet, tiles: ImageSet | None = None, settings: AuditImagesSettings = QUICK
) -> dict:
    """Run the stage on a selection; the candidates are the selection and 20 more."""
    tiles = real_tiles() if tiles is None else tiles
    more = synthetic(20, seed=9, side=released.pixels_nhwc.shape[1])
    pixels = np.concatenate([released.pixels_nhwc, more.pixels_nhwc])
    everything = images.make(pixels, np.arange(len(pixels)) % 2, CLASSES, {"index": np.arange(len(pixels))})
    for name, content in (("tiles", tiles), ("selection", released), ("candidates", everything)):
        images.write(folder / name / "images", content)
    out = folder / "out"
    out.mkdir()
    run(settings, {name: folder / name for name in ("tiles", "selection", "candidates")}, out, 3, None)  # type: ignore[arg-type]
    return store.read_json(out / "audit.json")


def planted(rows: int, count: int) -> ImageSet:
    """Clean tiles, the first `count` of them replaced by train tiles, turned and a little brighter."""
    pixels = textures(rows, seed=5)
    copies = np.rot90(real_tiles().pixels_nhwc[:count].astype(int), 1, (1, 2)) + 6
    pixels[:count] = np.clip(copies, 0, 255)
    return images.make(pixels, np.arange(rows) % 2, CLASSES, {"index": np.arange(rows)})


def test_a_clean_selection_of_300_is_a_go_and_one_of_fewer_a_review(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    large = audit(tmp_path / "a", synthetic(300, seed=5))
    assert large["verdict"] == "GO", large["reasons"]
    assert large["power"]["alarm"]["value"] >= 0.9
    assert large["control"]["groups_compared_on_each_side"] == 24
    small = audit(tmp_path / "b", synthetic(60, seed=5))
    assert small["verdict"] == "REVIEW"
    assert "60 released tiles" in small["reasons"][0]


def test_an_exact_copy_forbids_the_release(tmp_path: Path) -> None:
    released = synthetic(60, seed=5)
    released.pixels_nhwc[7] = np.rot90(real_tiles().pixels_nhwc[11], 3)
    found = audit(tmp_path, images.make(released.pixels_nhwc, released.labels_n, CLASSES))
    assert found["verdict"] == "NO-GO"
    assert found["tests"][0]["name"] == "exact_copies"
    assert found["tests"][0]["passed"] is False
    assert "1 of 60 released tiles" in found["tests"][0]["meaning"]


def test_planted_near_copies_forbid_the_release(tmp_path: Path) -> None:
    found = audit(tmp_path, planted(rows=300, count=15))
    near = next(test for test in found["tests"] if test["name"] == "near_copies")
    assert found["verdict"] == "NO-GO"
    assert near["value"] == pytest.approx(15 / 300)
    distances = pd.read_parquet(tmp_path / "out" / "distances.parquet")
    assert distances["train_similarity"].nlargest(15).index.tolist() != []
    assert set(distances["train_similarity"].nlargest(15).index) == set(range(15))


def test_without_control_tiles_the_verdict_is_review_at_best(tmp_path: Path) -> None:
    found = audit(tmp_path, synthetic(300, seed=5), real_tiles(control=0))
    assert found["verdict"] == "REVIEW"
    assert any("no control tiles" in reason for reason in found["reasons"])
    assert [test["name"] for test in found["tests"]] == ["exact_copies", "near_copies"]


def test_tiles_of_another_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="same size"):
        audit(tmp_path, synthetic(12, seed=5, side=48))


def test_learned_images_smaller_than_the_real_tiles_are_held_against_these_averaged_down(tmp_path: Path) -> None:
    real = real_tiles()
    half = protocol.resize(real.where(role="train").pixels_nhwc[:15], real.pixels_nhwc.shape[1] // 2)
    small = synthetic(60, seed=5, side=half.shape[1])
    for name in ("clean", "copied"):
        store.write_json(tmp_path / name / "selection" / "facts.json", {"pixels": "learned"})
    clean = audit(tmp_path / "clean", small)
    copied = audit(tmp_path / "copied", small._replace(pixels_nhwc=np.concatenate([half, small.pixels_nhwc[15:]])))
    assert clean["tests"][0]["value"] == 0
    assert copied["verdict"] == "NO-GO" and copied["tests"][0]["value"] == pytest.approx(15 / 60)


def test_pairs_of_a_known_scale_have_a_bar_as_long_as_they_are_enlarged(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    store.write_json(tmp_path / "a" / "tiles" / "facts.json", {"mpp": 0.5})
    audit(tmp_path / "a", synthetic(40, seed=5))
    page = images.pixels((tmp_path / "a" / "out" / "pairs.png").read_bytes())
    row = page[-scale_bar.MARGIN_PX // 2, scale_bar.LEFT_PX :, 0]
    assert np.argmax(row > 0) == 5 / 0.5 * 112 / 32, "5 µm are 10 px of a tile of 32, shown as 112"


def test_two_runs_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        audit(tmp_path / name, planted(rows=40, count=3))
    assert store.digest_folder(tmp_path / "a" / "out") == store.digest_folder(tmp_path / "b" / "out")


def test_what_may_leave_the_house_names_no_real_tile_and_promises_nothing(tmp_path: Path) -> None:
    found = audit(tmp_path, planted(rows=40, count=3))
    text = json.dumps(found)
    assert not any(name in text for name in real_tiles().table["tile_id"])
    assert "anonym" not in text.lower()
    facts = store.read_json(tmp_path / "out" / "facts.json")
    assert sorted(facts["private"]) == sorted(PRIVATE)
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert made == {"audit.json", "facts.json", *PRIVATE}
    for test in found["tests"]:
        assert test["low"] <= test["value"] <= test["high"]
        assert len(test["meaning"]) > 20


def test_soft_labels_ask_for_a_review_and_are_told_as_not_tested(tmp_path: Path) -> None:
    (tmp_path / "hard").mkdir()
    (tmp_path / "soft").mkdir()
    hard = audit(tmp_path / "hard", synthetic(300, seed=5))
    released = synthetic(300, seed=5)
    soft = audit(tmp_path / "soft", released._replace(table=released.table.assign(p0=0.25, p1=0.75)))
    assert (hard["verdict"], hard["soft_labels"]) == ("GO", False) and not any("soft" in x for x in hard["not_tested"])
    assert (soft["verdict"], soft["soft_labels"]) == ("REVIEW", True)
    assert soft["reasons"] == [reason for reason in soft["reasons"] if "carries soft labels" in reason]
    assert "were not tried" in soft["not_tested"][-1] and soft["tests"] == hard["tests"]


def test_the_negative_control_is_as_large_as_what_is_audited_and_of_whole_groups() -> None:
    tiles = images.make(textures(60, seed=1, side=8), np.zeros(60), CLASSES[:1], {"group": np.repeat(np.arange(20), 3)})
    few = _as_many(tiles, 12, np.random.default_rng(0))
    assert few.table["group"].value_counts().tolist() == [3, 3, 3, 3]
    assert _as_many(tiles, 12, np.random.default_rng(1)).table["group"].tolist() != few.table["group"].tolist()
    assert len(_as_many(tiles, 100, np.random.default_rng(0)).table) == 60
