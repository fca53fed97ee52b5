"""Image sets go to disk and back without loss, and equal sets give equal bytes."""

from pathlib import Path

import numpy as np
import pytest

from stages import images, store


def some(n: int = 7, size: int = 8) -> images.ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    roles = ["train" if i % 2 else "val" for i in range(n)]
    return images.make(pixels, np.arange(n) % 2, ["a", "b"], {"role": roles, "group": np.arange(n), "score": [0.5] * n})


def test_an_image_set_survives_the_disk(tmp_path: Path) -> None:
    images.write(tmp_path / "set", some())
    back = images.read(tmp_path / "set")
    assert np.array_equal(back.pixels_nhwc, some().pixels_nhwc)
    assert back.classes == ("a", "b")
    assert back.table[sorted(back.table)].equals(some().table[sorted(back.table)].astype(back.table.dtypes))


def test_other_tools_open_it_as_pictures_with_labels(tmp_path: Path) -> None:
    import datasets

    images.write(tmp_path / "set", some())
    data = datasets.load_from_disk(str(tmp_path / "set"))
    assert data.features["label"].names == ["a", "b"]
    assert np.array_equal(np.asarray(data[3]["image"]), some().pixels_nhwc[3])


def test_shards_are_joined_in_order(tmp_path: Path) -> None:
    whole = some(10)
    images.write_chunks(tmp_path / "set", (whole.take(range(i, min(i + 3, 10))) for i in range(0, 10, 3)))
    assert len(list((tmp_path / "set").glob("*.arrow"))) == 4
    assert images.read(tmp_path / "set").table["group"].tolist() == list(range(10))


def test_only_the_wanted_rows_are_read(tmp_path: Path) -> None:
    images.write(tmp_path / "set", some())
    train = images.read(tmp_path / "set", role="train")
    assert train.table["group"].tolist() == [1, 3, 5]
    assert np.array_equal(train.pixels_nhwc, some().pixels_nhwc[[1, 3, 5]])
    assert np.array_equal(some().where(role="train").pixels_nhwc, train.pixels_nhwc)


def test_equal_sets_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        images.write(tmp_path / name, some())
    assert store.digest_folder(tmp_path / "one") == store.digest_folder(tmp_path / "two")


def test_a_tile_is_named_by_its_pixels_alone() -> None:
    pixels = some().pixels_nhwc
    assert images.tile_id(pixels[0]) == images.tile_id(pixels[0].copy()) == some().table["tile_id"][0]
    changed = pixels[0].copy()
    changed[0, 0, 0] ^= 1
    assert images.tile_id(changed) != images.tile_id(pixels[0])
    assert images.tile_id(np.zeros((2, 8, 3), np.uint8)) != images.tile_id(np.zeros((4, 4, 3), np.uint8))


def test_an_empty_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one image"):
        images.write(tmp_path / "set", some().take([]))
