"""Stain: pictures of one tissue in two stains become alike; what shows no stain is told apart."""

import io
from pathlib import Path

import numpy as np
import pytest
from made_tiles import as_parquet as write_parquet
from made_tiles import digests, rows, run, table_of
from PIL import Image
from pydantic import ValidationError
from skimage.color import rgb2lab

from stages import decoding, images, stain, store
from stages.contracts import UserError
from stages.decoding import Refused, Wanted
from stages.stain import StainSettings

STRONG = 1.2 * np.array([[0.65, 0.25], [0.70, 0.90], [0.29, 0.35]])
PALE = np.array([[0.50, 0.24], [0.75, 0.75], [0.43, 0.61]])


def rendered(vectors: np.ndarray, side: int = 64, seed: int = 0) -> images.Pixels:
    """Tissue of two stains and some of both, as light of 240 shows it through `vectors` (3 × 2)."""
    rng = np.random.default_rng(seed)
    amount_2n = rng.uniform(0.7, 1.4, (2, side * side))
    only = rng.integers(0, 3, side * side)
    amount_2n[0, only == 1] = amount_2n[1, only == 2] = 0
    light_3n = 240 * np.exp(-vectors @ amount_2n) - 1
    return np.clip(light_3n, 0, 255).round().astype(np.uint8).T.reshape(side, side, 3)


def file(pixels_hwc: images.Pixels, path: Path) -> Path:
    path.write_bytes(images.png(pixels_hwc))
    return path


def test_two_renderings_of_one_picture_become_nearly_equal() -> None:
    one, two = rendered(STRONG), rendered(PALE)
    assert np.abs(one.astype(int) - two).mean() > 20
    after = [stain.stained(picture, stain.own_reference()) for picture in (one, two)]
    assert after[0] is not None and after[1] is not None
    assert np.abs(after[0].astype(int) - after[1]).mean() < 1


def test_macenko_finds_the_vectors_that_a_picture_was_rendered_with() -> None:
    found = stain.told(rendered(STRONG), "macenko")
    assert found is not None
    unit = STRONG / np.linalg.norm(STRONG, axis=0)
    np.testing.assert_allclose(found.vectors, unit, atol=0.01)


def test_reinhard_gives_a_tile_the_mean_and_spread_of_the_target() -> None:
    target, other = rendered(PALE), rendered(STRONG, seed=1)
    wanted = stain.told(target, "reinhard")
    assert wanted is not None
    after = stain.stained(other, wanted)
    assert after is not None
    lab, aim = (rgb2lab(picture).reshape(-1, 3) for picture in (after, target))
    assert np.abs(lab.mean(0) - aim.mean(0)).max() < 1.5 and np.abs(lab.std(0) - aim.std(0)).max() < 1.5


@pytest.mark.parametrize("method", ["macenko", "reinhard"])
@pytest.mark.parametrize("kind", ["white", "a speck", "grey", "one colour", "one stain"])
def test_what_shows_no_two_stains_is_not_told(kind: str, method: stain.Method) -> None:
    tissue = rendered(STRONG)
    speck = np.full_like(tissue, 250)
    speck[:8, :8] = tissue[:8, :8]
    one_stain = rendered(STRONG * [1, 0])
    pictures = {"white": np.full_like(tissue, 255), "a speck": speck, "grey": tissue[..., :1].repeat(3, 2)}
    pictures |= {"one colour": np.full_like(tissue, 120), "one stain": one_stain}
    told = stain.told(pictures[kind], method)
    assert told is None or (kind, method) == ("one stain", "reinhard")


def test_equal_input_gives_equal_output_and_the_input_stays() -> None:
    picture = rendered(STRONG)
    before = picture.copy()
    one, two = (stain.stained(picture, stain.own_reference()) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(picture, before)


def test_a_white_tile_is_refused_and_others_come_in_the_stain_that_is_wanted() -> None:
    wanted = Wanted(None, False, 64, stain.own_reference())
    with pytest.raises(Refused, match="stain cannot be told"):
        decoding.rgb(np.full((64, 64, 3), 255, np.uint8), wanted)
    np.testing.assert_array_equal(
        decoding.rgb(rendered(STRONG), wanted), stain.stained(rendered(STRONG), stain.own_reference())
    )


def test_the_stage_stains_every_tile_and_sets_aside_what_it_cannot(tmp_path: Path) -> None:
    frame = rows()
    pictures = [rendered(STRONG if n % 2 else PALE, 16, n) for n in range(len(frame))]
    frame["content"] = [images.png(picture) for picture in pictures]
    frame.loc[0, "content"] = images.png(np.full((16, 16, 3), 255, np.uint8))
    source = write_parquet(frame, tmp_path / "tiles.parquet")
    target = file(rendered(PALE), tmp_path / "target.png")
    out = run(tmp_path / "out", source=source, stain={"method": "reinhard", "target": target})
    facts = store.read_json(out / "facts.json")
    assert facts["set_aside"] == {"stain cannot be told": 1}
    assert facts["stain"] == {"method": "reinhard", "target": store.digest_file(target)}
    aim = stain.told(rendered(PALE), "reinhard")
    assert aim is not None
    expected = [stain.stained(picture, aim) for picture in pictures[1:]]
    ids = {images.tile_id(picture) for picture in expected if picture is not None}
    assert set(table_of(out / "images")["tile_id"]) == ids and len(ids) == len(frame) - 1


def test_without_a_stain_or_a_scale_no_byte_changes(tmp_path: Path, parquet: Path) -> None:
    plain = run(tmp_path / "plain", source=parquet)
    facts = store.read_json(plain / "facts.json")
    assert not {"stain", "mpp"} & facts.keys()
    told = run(tmp_path / "told", source=parquet, mpp=0.5)
    assert store.read_json(told / "facts.json") == facts | {"mpp": 0.5}
    differ = {name for name, digest in digests(plain).items() if digests(told)[name] != digest}
    assert differ == {"facts.json"}


def test_a_tile_without_a_stain_has_the_bytes_of_its_file() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decoding.rgb(images.png(pixels), Wanted(None, False, 64)), pixels)


def test_reinhard_without_a_target_says_what_to_give() -> None:
    with pytest.raises(ValidationError, match="needs `target`, a picture whose stain is taken"):
        StainSettings(method="reinhard")


def test_a_target_that_shows_no_stain_or_is_none_is_refused(tmp_path: Path) -> None:
    missing = StainSettings(target=tmp_path / "none.png")
    with pytest.raises(UserError, match=r"no picture at .*Mend tiles\.stain\.target"):
        decoding.wanted_stain(missing, 512)
    white = StainSettings(target=file(np.full((64, 64, 3), 255, np.uint8), tmp_path / "white.png"))
    with pytest.raises(UserError, match="cannot be told: it shows too little tissue"):
        decoding.wanted_stain(white, 512)
    (tmp_path / "text.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="cannot be the target of the stain: not an image"):
        decoding.wanted_stain(StainSettings(target=tmp_path / "text.png"), 512)


def test_of_an_oblong_target_the_middle_square_is_taken(tmp_path: Path) -> None:
    square = rendered(STRONG)
    wide = np.concatenate([np.full((64, 20, 3), 255, np.uint8), square, np.full((64, 20, 3), 255, np.uint8)], axis=1)
    found = decoding.wanted_stain(StainSettings(target=file(wide, tmp_path / "wide.png")), 512)
    known = stain.told(square, "macenko")
    assert known is not None
    np.testing.assert_array_equal(found.vectors, known.vectors)


@pytest.mark.parametrize(("sides", "size", "expected"), [([64], 32, 1.0), ([64], 64, 0.5), ([64, 128], 32, None)])
def test_the_scale_follows_the_resizing_where_all_had_one_size(
    sides: list[int], size: int, expected: float | None
) -> None:
    assert decoding.finished_mpp(0.5, sides, size) == expected
    assert decoding.finished_mpp(None, sides, size) is None


def test_the_stage_tells_the_scale_of_finished_tiles(tmp_path: Path) -> None:
    frame = rows()
    wide = [np.asarray(Image.open(io.BytesIO(content)).resize((40, 32))) for content in frame["content"]]
    frame["content"] = [images.png(picture) for picture in wide]
    source = write_parquet(frame, tmp_path / "tiles.parquet")
    out = run(tmp_path / "out", source=source, mpp=0.25, size_px=16, not_square="crop")
    assert store.read_json(out / "facts.json")["mpp"] == 0.5, "32 px of the middle square became 16"
    frame.loc[0, "content"] = images.png(wide[0].repeat(2, 0).repeat(2, 1))
    mixed = write_parquet(frame, tmp_path / "mixed.parquet")
    out = run(tmp_path / "mixed", source=mixed, mpp=0.25, size_px=16, not_square="crop")
    assert "mpp" not in store.read_json(out / "facts.json")
