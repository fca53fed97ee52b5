"""Whole slides: tiles lie exactly where they should, show exactly the slide, and are rejected for the right reason.

Shares of tissue are those of the mask, whose pixels are 4 × 4 px of level 0 here: true to one of them along a border.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from laid_slides import (
    BARE,
    COHORT,
    HEIGHT,
    LITTLE,
    TAKEN,
    TILE,
    WIDTH,
    blocks,
    coordinates,
    cut_slides,
    lay,
    places,
    slide_id,
)
from made_slides import Slide, generic_slide, reduced
from made_tiles import digests
from painted_tissue import Box, Scene, scene
from PIL import Image

from pipeline.engine import Processes, Threads
from stages import images, store
from stages.contracts import UserError

T = TILE
TROUBLED = "tumour/T5_a.tiff"
REASONS = {"blurred": 6, "dark or folded": 10, "pen": 4, "too little tissue": 15}


def troubled() -> Scene:
    """One piece of 8 × 6 tiles; of it 6 are blurred, 10 folded, 2 under green ink; 2 tiles of glass under blue ink."""
    return scene(
        11 * T,
        10 * T,
        (Box(T + 8, T + 8, 9 * T + 8, 7 * T + 8),),
        {"blue": Box(2 * T, 8 * T, 4 * T, 9 * T), "green": Box(8 * T, 3 * T, 9 * T, 5 * T)},
        fold=Box(5 * T, 2 * T, 7 * T, 7 * T),
        blurred=Box(T, T, 4 * T, 3 * T),
        seed=38,  # its fold is dark all over
    )


class Cut:
    """The cohort and a troubled slide, cut once."""

    def __init__(self, root: Path) -> None:
        self.source = root / "slides"
        self.slides: dict[str, Slide] = lay(self.source)
        self.slides[TROUBLED] = generic_slide(self.source / TROUBLED, troubled(), downsamples=(1, 4))
        self.out = cut_slides(root / "out", self.source)
        self.facts = store.read_json(self.out / "facts.json")


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Cut:
    return Cut(tmp_path_factory.mktemp("cut"))


def test_tiles_lie_on_the_grid_wherever_there_is_tissue_and_tissue_is_covered_once(cut: Cut) -> None:
    for name in COHORT:
        table, truth = coordinates(cut.out, name), cut.slides[name].scene.tissue_hw
        grid = {(x, y) for x in range(0, WIDTH, T) for y in range(0, HEIGHT, T) if truth[y : y + T, x : x + T].any()}
        assert places(table) == grid and len(table) == len(grid) == TAKEN + LITTLE
        taken = table[[reason is None for reason in table["reason"]]]
        mostly = blocks(truth) >= 0.5
        assert places(taken) == {(int(x) * T, int(y) * T) for y, x in np.argwhere(mostly)} and len(taken) == TAKEN
        assert (set(table["side_px"]), set(table["mpp"])) == ({T}, {0.5})
        count = np.zeros(truth.shape, int)
        for x, y in places(table):
            count[y : y + T, x : x + T] += 1
        assert (count[truth] == 1).all() and count.max() == 1


def test_shares_of_tissue_are_true_to_a_pixel_of_the_mask_along_each_border(cut: Cut) -> None:
    pixel = 4 / T  # of the mask, in tiles
    for name in COHORT:
        truth = blocks(cut.slides[name].scene.tissue_hw)
        for x, y, share in coordinates(cut.out, name)[["x_px", "y_px", "tissue"]].itertuples(index=False):
            wanted = truth[y // T, x // T]
            assert abs(share - wanted) <= (0 if wanted == 1 else 2 * pixel), (name, x, y)
    shares = pd.concat([coordinates(cut.out, name) for name in COHORT])["tissue"].astype(float)
    assert (shares == 1).sum() == 12 * len(COHORT) and ((shares - 0.875).abs() < 1e-9).mean() > 1 / 8


def test_blur_folds_pens_and_glass_are_told_by_reason_tile_by_tile(cut: Cut) -> None:
    truth = cut.slides[TROUBLED].scene
    share = blocks(truth.tissue_hw)
    wanted = {}
    for (row, column), tissue in np.ndenumerate(share):
        middle = (column * T + T // 2, row * T + T // 2)

        def under(box: Box | None, middle: tuple[int, int] = middle) -> bool:
            assert box is not None
            return box.left < middle[0] < box.right and box.top < middle[1] < box.bottom

        inked = any(map(under, truth.ink.values()))
        if tissue == 0 and not inked:
            continue
        faults = {"pen": inked, "too little tissue": tissue < 0.5, "dark or folded": under(truth.fold)}
        faults |= {"blurred": under(truth.blurred)}
        wanted[column * T, row * T] = next((reason for reason, found in faults.items() if found), None)
    table = coordinates(cut.out, TROUBLED)
    assert dict(zip(zip(table["x_px"], table["y_px"], strict=True), table["reason"], strict=True)) == wanted
    assert pd.Series(list(wanted.values())).value_counts().to_dict() == REASONS
    assert (table["tile_id"].notna() == table["reason"].isna()).all()


def test_the_facts_count_every_position_and_every_reason(cut: Cut) -> None:
    told, slides = cut.facts["slides"], len(COHORT)
    assert told["slides"] == slides + 1 and told["slides_set_aside"] == {}
    assert told["positions"] == 42 * slides + 110
    assert told["rejected"] == REASONS | {"too little tissue": REASONS["too little tissue"] + LITTLE * slides}
    assert cut.facts["set_aside"] == told["rejected"]
    assert told["background"] == BARE * slides + 110 - 8 * 6 - 15 - 2
    assert told["effective_mpp"] == [0.5, 0.5] and cut.facts["mpp"] == 0.5 and cut.facts["size_px"] == T
    counts = {
        label: sum(cut.facts["counts"][role][label] for role in cut.facts["counts"]) for label in ("normal", "tumour")
    }
    assert counts == {"normal": TAKEN * 5, "tumour": TAKEN * 5 + 48 - 6 - 10 - 2}
    assert len(pd.read_csv(cut.out / "quarantine.csv")) == 0


def test_pixels_are_the_slides_own_where_nothing_is_resampled(cut: Cut) -> None:
    found = images.read(cut.out / "images")
    by_id = dict(zip(found.table["tile_id"], found.pixels_nhwc, strict=True))
    labels = dict(zip(found.table["tile_id"], found.table["label"], strict=True))
    seen = 0
    for name, slide in cut.slides.items():
        table = coordinates(cut.out, name)
        for x, y, tile_id in table.loc[table["tile_id"].notna(), ["x_px", "y_px", "tile_id"]].itertuples(index=False):
            truth = slide.levels[0][y : y + T, x : x + T]
            np.testing.assert_array_equal(by_id[tile_id], truth)
            assert images.tile_id(truth) == tile_id and found.classes[labels[tile_id]] == name.split("/")[0]
            seen += 1
    assert seen == len(found.table) == len(by_id)


def test_previews_and_coordinates_call_slides_by_keyed_hashes_and_nothing_else(cut: Cut) -> None:
    assert {p.name for p in (cut.out / "previews").iterdir()} == {f"{slide_id(name)}.png" for name in cut.slides}
    assert set(coordinates(cut.out)["slide"]) == {slide_id(name) for name in cut.slides}
    for name in cut.slides:
        with Image.open(cut.out / "previews" / f"{slide_id(name)}.png") as preview:
            assert not preview.info and preview.height <= 1024
    for path in (p for p in cut.out.rglob("*") if p.is_file() and p.name != "quarantine.csv"):
        content = path.read_bytes()
        assert not [word for word in (b"N1_", b"T1_", b".tiff", str(cut.source).encode()) if word in content], path.name


def test_a_preview_shows_each_taken_tile_in_its_classs_colour(cut: Cut) -> None:
    from stages.slide_previews import CLASS_COLOURS, REASON_COLOURS

    name = "tumour/T1_a.tiff"
    with Image.open(cut.out / "previews" / f"{slide_id(name)}.png") as preview:
        drawn = np.asarray(preview.convert("RGB")).astype(int)
    step = T // 4  # the thumbnail has 4 px of level 0 in a pixel
    for x, y, reason in coordinates(cut.out, name)[["x_px", "y_px", "reason"]].itertuples(index=False):
        corner = drawn[y // T * step, x // T * step]
        wanted = CLASS_COLOURS[1] if reason is None else REASON_COLOURS[reason]
        assert np.abs(corner - wanted).max() <= (0 if reason is None else 25), (x, y)


@pytest.mark.parametrize("engine", [Threads(3), Processes(2)], ids=["threads", "processes"])
def test_any_engine_and_any_chunk_give_the_same_bytes(cut: Cut, engine: object, tmp_path: Path) -> None:
    again = cut_slides(tmp_path / "out", cut.source, engine, chunk_tiles=7)
    assert digests(again) == digests(cut.out)


def finer(
    folder: Path, slides: dict[str, object], downsamples: tuple[int, ...] = (1, 4)
) -> tuple[Path, dict[str, Slide]]:
    laid = lay(folder / "slides", mpp=0.25, downsamples=downsamples)
    return cut_slides(folder / "out", folder / "slides", slides=slides), laid


def test_slides_of_a_finer_scale_are_reduced_by_the_mean_of_squares(tmp_path: Path) -> None:
    limits = {"smallest_um2": 5000, "tile_px": 32}  # 0.25 µm per pixel: 64 px of level 0 make a tile of 32
    out, laid = finer(tmp_path, limits)
    found = images.read(out / "images")
    by_id = dict(zip(found.table["tile_id"], found.pixels_nhwc, strict=True))
    for name, slide in laid.items():
        table = coordinates(out, name)
        taken = table[table["tile_id"].notna()]
        assert len(taken) == TAKEN and set(table["side_px"]) == {T} and set(table["mpp"]) == {0.5}
        half = reduced(slide.levels[0], 2)
        for x, y, tile_id in taken[["x_px", "y_px", "tile_id"]].itertuples(index=False):
            np.testing.assert_array_equal(by_id[tile_id], half[y // 2 : y // 2 + 32, x // 2 : x // 2 + 32])


def test_the_nearest_finer_level_is_read_and_its_pixels_are_the_tiles(tmp_path: Path) -> None:
    out, laid = finer(tmp_path, {"smallest_um2": 5000, "tile_px": 32}, (1, 2, 4))
    found = images.read(out / "images")
    ids = set(found.table["tile_id"])
    truth = {
        images.tile_id(slide.levels[1][y // 2 : y // 2 + 32, x // 2 : x // 2 + 32])
        for name, slide in laid.items()
        for x, y in places(coordinates(out, name).query("reason.isnull()"))
    }
    assert ids == truth and len(truth) == TAKEN * len(COHORT)


def test_overlap_covers_the_inside_of_the_tissue_as_often_as_it_should(tmp_path: Path, cut: Cut) -> None:
    out = cut_slides(tmp_path / "out", cut.source, slides={"overlap_px": T // 2})
    for name in COHORT[:2]:
        table = coordinates(out, name)
        truth, steps = cut.slides[name].scene.tissue_hw, range(0, WIDTH - T + 1, T // 2)
        inside = {(x, y) for x in steps for y in range(0, HEIGHT - T + 1, T // 2) if truth[y : y + T, x : x + T].any()}
        assert places(table) == inside
        count = np.zeros(truth.shape, int)
        for x, y in places(table):
            count[y : y + T, x : x + T] += 1
        assert (count[truth] == 4).all()


def test_a_scale_that_no_whole_pixel_meets_is_recorded_as_it_is(tmp_path: Path) -> None:
    lay(tmp_path / "slides", mpp=0.499)
    out = cut_slides(tmp_path / "out", tmp_path / "slides", slides={"tile_px": 128, "smallest_um2": 0})
    table = coordinates(out)
    assert set(table["side_px"]) == {128}
    assert table["mpp"].astype(float).to_numpy() == pytest.approx(0.499, abs=1e-4)
    facts = store.read_json(out / "facts.json")
    assert facts["slides"]["effective_mpp"] == pytest.approx([0.499, 0.499], abs=1e-4) and facts["size_px"] == 128


def test_an_unknown_scale_is_an_error_that_names_the_slide(tmp_path: Path) -> None:
    lay(tmp_path / "slides")
    generic_slide(tmp_path / "slides" / "normal" / "N9_x.tiff", troubled(), mpp=None)
    with pytest.raises(UserError, match=r"1 slides do not say .* normal/N9_x\.tiff\. .*mpp_override.*column mpp"):
        cut_slides(tmp_path / "out", tmp_path / "slides")


def test_a_scale_may_be_given_for_all_slides_or_slide_by_slide(tmp_path: Path) -> None:
    lay(tmp_path / "slides", mpp=None)
    all_alike = cut_slides(tmp_path / "a", tmp_path / "slides", slides={"mpp_override": 0.5})
    assert set(coordinates(all_alike)["side_px"]) == {T}
    rows = [f"{name},{name.split('/')[1][:2]},{0.25 if '_a' in name else 0.5}" for name in COHORT]
    (tmp_path / "table.csv").write_text("\n".join(["file,group,mpp", *rows]) + "\n")
    given = {"source": tmp_path / "slides", "table": tmp_path / "table.csv"}
    one_by_one = cut_slides(tmp_path / "b", **given, slides={"smallest_um2": 5000, "mpp_override": 0.4})
    for name in COHORT:
        assert set(coordinates(one_by_one, name)["side_px"]) == ({2 * T} if "_a" in name else {T})
    (tmp_path / "table.csv").write_text("\n".join(["file,group,mpp", *rows[:-1], f"{COHORT[-1]},T4,20x"]) + "\n")
    with pytest.raises(UserError, match=r"mpp of tumour/T4_a\.tiff is '20x', which is no number"):
        cut_slides(tmp_path / "c", **given)


def test_a_slide_too_coarse_for_the_tiles_is_set_aside_by_name(tmp_path: Path) -> None:
    lay(tmp_path / "slides")
    generic_slide(tmp_path / "slides" / "normal" / "N9_x.tiff", troubled(), mpp=1.0)
    out = cut_slides(tmp_path / "out", tmp_path / "slides")
    aside = pd.read_csv(out / "quarantine.csv")
    assert aside["tile"].tolist() == ["normal/N9_x.tiff"] and "coarser than the 0.5 wanted" in aside["reason"][0]
    assert set(coordinates(out)["slide"]) == {slide_id(name) for name in COHORT}
