"""Whole slides: which class a tile has, whose it is, what role it plays, and what becomes of tiles without a class."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from laid_slides import (
    COHORT,
    HEIGHT,
    TAKEN,
    TILE,
    TISSUE,
    WIDTH,
    blocks,
    boxed,
    coordinates,
    cut_slides,
    group_id,
    lay,
    places,
    slide_id,
    write_regions,
)
from made_tiles import digests, table_of
from painted_tissue import Box

from stages import images, store
from stages.contracts import UserError
from stages.tables import ROLES

T = TILE
DRAWN = tuple(f"P{n}_{part}.tiff" for n in range(1, 7) for part in "ab"[: 1 + (n == 1)])
"""Six patients with annotated slides; the first has two."""
PATIENT = {"patient_pattern": r"(P\d+)_"}
TUMOUR, HOLES = (
    Box(T, T, 3 * T + 40, 5 * T),
    (Box(2 * T, 2 * T, 3 * T, 3 * T), Box(T + 10, 3 * T + 10, T + 50, 3 * T + 50)),
)
NORMAL = Box(3 * T + 8, T, 6 * T, 4 * T)


def drawn_truth() -> dict[tuple[int, int], str | None]:
    """The class of every tile that is taken, counted pixel by pixel: the larger share, if it is half of the tile."""
    masks = {name: np.zeros((HEIGHT, WIDTH), bool) for name in ("normal", "tumour")}
    for name, box in (("normal", NORMAL), ("tumour", TUMOUR)):
        masks[name][box.top : box.bottom, box.left : box.right] = True
    for hole in HOLES:
        masks["tumour"][hole.top : hole.bottom, hole.left : hole.right] = False
    shares = {name: blocks(mask) for name, mask in masks.items()}
    found: dict[tuple[int, int], str | None] = {}
    for y in range(1, 5):
        for x in range(1, 6):
            best = max(shares, key=lambda name: shares[name][y, x])
            found[x * T, y * T] = best if shares[best][y, x] >= 0.5 else None
    return found


def annotate(folder: Path, names: tuple[str, ...] = DRAWN) -> Path:
    lay(folder, names)
    for name in names:
        write_regions(
            (folder / name).with_suffix(".geojson"), ("tumour", boxed(TUMOUR, HOLES)), ("normal", boxed(NORMAL))
        )
    return folder


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slides with regions beside them; and P7 with a slide without any."""
    folder = annotate(tmp_path_factory.mktemp("drawn") / "slides")
    lay(folder / "scratch", (*DRAWN, "P7_a.tiff"))
    (folder / "scratch" / "P7_a.tiff").rename(folder / "P7_a.tiff")
    for left in (folder / "scratch").iterdir():
        left.unlink()
    (folder / "scratch").rmdir()
    return folder


@pytest.fixture(scope="module")
def cut(annotated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cut_slides(tmp_path_factory.mktemp("cut") / "out", annotated, slides=PATIENT)


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cohort, whose folders are its classes."""
    folder = tmp_path_factory.mktemp("cohort") / "slides"
    lay(folder)
    return folder


def assert_groups_are(out: Path, patient_of: Mapping[str, str]) -> dict[str, str]:
    """`groups.parquet` tells number, role and tiles of each patient as `coordinates.parquet` does; the roles."""
    told = pd.read_parquet(out / "groups.parquet").set_index("hash")
    sets = [table_of(out / "images"), *(table_of(out / s) for s in ("unlabelled",) if (out / s).exists())]
    tiles = pd.concat(sets).set_index("tile_id")
    wanted: dict[str, set[str]] = {}
    for name, patient in patient_of.items():
        wanted.setdefault(patient, set()).update(coordinates(out, name).query("reason.isnull()")["tile_id"])
    wanted = {patient: ids for patient, ids in wanted.items() if ids}
    assert set(told.index) == {group_id(patient) for patient in wanted}
    for patient, ids in wanted.items():
        row = told.loc[group_id(patient)]
        assert set(tiles.index[tiles["group"] == row["number"]]) == ids and row["tiles"] == len(ids)
        assert set(tiles.loc[list(ids), "role"]) == {row["role"]}
    return {patient: told.loc[group_id(patient), "role"] for patient in wanted}


def bare_tiles(out: Path) -> set[str]:
    """Patients, by slide id, whose tiles the autoencoder sees though they have no class."""
    table = coordinates(out)
    return set(
        table.loc[
            [label is None and r is None for label, r in zip(table["label"], table["reason"], strict=True)], "slide"
        ]
    )


def test_a_tile_has_the_class_that_covers_most_of_it_holes_excepted(cut: Path) -> None:
    truth = drawn_truth()
    assert pd.Series(truth.values()).value_counts().to_dict() == {"normal": 9, "tumour": 8}
    for name in DRAWN:
        table = coordinates(cut, name)
        table = table[table["reason"] != "too little tissue"]
        labels = dict(zip(zip(table["x_px"], table["y_px"], strict=True), table["label"], strict=True))
        assert labels == truth


def test_the_share_that_a_class_must_cover_is_heeded(annotated: Path, tmp_path: Path) -> None:
    out = cut_slides(tmp_path / "out", annotated, slides=PATIENT | {"least_annotated": 0.7})
    place = {"x_px": T, "y_px": 3 * T}  # a hole takes 39 % of it
    table = coordinates(out, DRAWN[0])
    assert table.loc[(table[list(place)] == pd.Series(place)).all(axis=1), "label"].tolist() == [None]


def test_tiles_without_a_class_serve_only_if_their_patient_is_learned_from(cut: Path) -> None:
    roles = assert_groups_are(cut, {name: name[:2] for name in [*DRAWN, "P7_a.tiff"]})
    assert set(roles.values()) == set(ROLES) and roles["P7"] == "train"
    train = {slide_id(name) for name in [*DRAWN, "P7_a.tiff"] if roles[name[:2]] == "train"}
    assert bare_tiles(cut) == train
    unlabelled, labelled = images.read(cut / "unlabelled"), table_of(cut / "images")
    assert unlabelled.classes == ("unlabelled",) and set(unlabelled.table["role"]) == {"train"}
    assert not set(unlabelled.table["tile_id"]) & set(labelled["tile_id"])
    held_out = labelled.loc[labelled["role"] != "train", "group"]
    assert not set(unlabelled.table["group"]) & set(held_out)
    ids = coordinates(cut).query("label.isnull() and reason.isnull()")["tile_id"]
    assert sorted(unlabelled.table["tile_id"]) == sorted(ids)
    assert len(ids) == 3 * sum(roles[name[:2]] == "train" for name in DRAWN) + TAKEN
    facts = store.read_json(cut / "facts.json")
    assert facts["slides"]["unlabelled"] == len(ids)
    assert facts["slides"]["rejected"]["no class"] == 3 * sum(roles[name[:2]] != "train" for name in DRAWN)


def test_pixels_of_tiles_without_a_class_are_the_slides(cut: Path, annotated: Path) -> None:
    import tifffile

    name = "P7_a.tiff"
    pixels = tifffile.imread(annotated / name)
    found = images.read(cut / "unlabelled")
    by_id = dict(zip(found.table["tile_id"], found.pixels_nhwc, strict=True))
    table = coordinates(cut, name).query("reason.isnull()")
    for x, y, tile_id in table[["x_px", "y_px", "tile_id"]].itertuples(index=False):
        np.testing.assert_array_equal(by_id[tile_id], pixels[y : y + T, x : x + T])


def test_tiles_without_a_class_may_be_left_out(annotated: Path, tmp_path: Path, cut: Path) -> None:
    out = cut_slides(tmp_path / "out", annotated, slides=PATIENT | {"unlabelled": "leave_out"})
    assert not (out / "unlabelled").exists()
    assert digests(out / "images") == digests(cut / "images")
    assert store.read_json(out / "facts.json")["slides"]["rejected"]["no class"] == 3 * len(DRAWN) + TAKEN


@pytest.mark.parametrize("told_by", ["roles.csv", "the table", "folders", "sites"])
def test_who_is_held_out_lends_no_tile_though_none_of_theirs_has_a_class(
    annotated: Path, tmp_path: Path, told_by: str
) -> None:
    roles = dict(zip(("P1", "P2", "P3", "P4", "P5", "P6", "P7"), (*ROLES, "train", "train", "test"), strict=True))
    names, source, more = [*DRAWN, "P7_a.tiff"], annotated, dict[str, Any]()
    if told_by == "folders":
        source = tmp_path / "slides"
        for name in names:
            folder = source / roles[name[:2]]
            folder.mkdir(parents=True, exist_ok=True)
            for file in annotated.glob(f"{name[:-5]}*"):
                (folder / file.name).symlink_to(file)
    elif told_by == "roles.csv":
        (tmp_path / "roles.csv").write_text("group,role\n" + "".join(f"{p},{role}\n" for p, role in roles.items()))
        more["roles"] = tmp_path / "roles.csv"
    else:
        rows = "".join(f"{p},{role if told_by == 'the table' else 'train'},{role}\n" for p, role in roles.items())
        role = "role" if told_by == "the table" else "old_role"
        (tmp_path / "table.csv").write_text(f"group,{role},site\n{rows}")
        more |= {"table": tmp_path / "table.csv"} | ({"site_column": "site"} if told_by == "sites" else {})
    out = cut_slides(tmp_path / "out", source, slides=PATIENT, **more)
    slide = {p: f"{roles[p] + '/' if told_by == 'folders' else ''}{p}_a.tiff" for p in roles}
    drawn = dict(pd.read_parquet(out / "groups.parquet")[["hash", "role"]].itertuples(index=False))
    assert drawn[group_id("P1")] == drawn[group_id("P5")], "P1 and P5 share a role and a site"
    lent = bare_tiles(out)
    for patient in ("P1", "P2", "P3", "P4", "P5", "P6"):
        assert (slide_id(slide[patient]) in lent) == (drawn[group_id(patient)] == "train")
    assert (slide_id(slide["P7"]) in lent) == (drawn[group_id("P3")] == "train"), "P7 belongs to the side of P3"


def test_who_is_held_out_lends_no_tile_where_copies_are_sought_too(annotated: Path, tmp_path: Path) -> None:
    out = cut_slides(tmp_path / "out", annotated, slides=PATIENT, grouping="near_duplicates")
    assert store.read_json(out / "facts.json")["grouping"]["rule"] == "near_duplicates"
    roles = pd.read_parquet(out / "groups.parquet").set_index("hash")["role"]
    wanted = {slide_id(name) for name in [*DRAWN, "P7_a.tiff"] if roles[group_id(name[:2])] == "train"}
    assert set(roles) == set(ROLES) and bare_tiles(out) == wanted


def test_a_patient_whom_a_cap_leaves_out_lends_no_tile_of_another_role(annotated: Path, tmp_path: Path) -> None:
    plan = "P1,train\nP2,val\nP3,test\nP4,control\nP5,test\nP6,test\nP7,train\n"
    (tmp_path / "roles.csv").write_text("group,role\n" + plan)
    out = cut_slides(tmp_path / "out", annotated, slides=PATIENT, roles=tmp_path / "roles.csv", max_groups=1)
    assert bare_tiles(out) == {slide_id("P1_a.tiff"), slide_id("P1_b.tiff"), slide_id("P7_a.tiff")}
    assert len(pd.read_parquet(out / "groups.parquet")) == 5


def test_patients_are_told_by_pattern_by_table_by_folder_or_slide_by_slide(slides: Path, tmp_path: Path) -> None:
    pattern = cut_slides(tmp_path / "pattern", slides)
    of = {name: name.split("/")[1][:2] for name in COHORT}
    assert set(assert_groups_are(pattern, of).values()) == set(ROLES)
    (tmp_path / "slides.csv").write_text("file,group\n" + "".join(f"{name},{of[name]}\n" for name in COHORT))
    table = cut_slides(tmp_path / "table", slides, slides={"patient_pattern": None}, table=tmp_path / "slides.csv")
    assert digests(table) == digests(pattern)
    for name in COHORT:
        label, file = name.split("/")
        folder = tmp_path / "folders" / label / of[name]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file).symlink_to(slides / name)
    folders = cut_slides(tmp_path / "by_folder", tmp_path / "folders", slides={"patient_pattern": "^[^/]+/([^/]+)/"})
    assert_groups_are(folders, {f"{name.split('/')[0]}/{of[name]}/{name.split('/')[1]}": of[name] for name in COHORT})
    pd.testing.assert_frame_equal(table_of(folders / "images"), table_of(pattern / "images"))
    alone = cut_slides(tmp_path / "alone", slides, slides={"patient_pattern": None})
    assert_groups_are(alone, {name: name for name in COHORT})


def test_a_table_of_patients_gives_classes_to_slides_that_a_pattern_finds(slides: Path, tmp_path: Path) -> None:
    rows = "".join(f"{p}{n},{'good' if p == 'N' else 'bad'}\n" for p in "NT" for n in range(1, 5))
    (tmp_path / "patients.csv").write_text("group,label\n" + rows)
    out = cut_slides(tmp_path / "out", slides, table=tmp_path / "patients.csv")
    assert store.read_json(out / "facts.json")["classes"] == ["bad", "good"]
    for name in COHORT:
        labels = set(coordinates(out, name)["label"])
        assert labels == {"good" if "N" in name else "bad"}


def test_roles_are_drawn_by_patient_and_every_class_has_each(slides: Path, tmp_path: Path) -> None:
    out = cut_slides(tmp_path / "out", slides)
    table = coordinates(out).dropna(subset=["role"])
    of = {slide_id(name): name.split("/")[1][:2] for name in COHORT}
    table["patient"] = table["slide"].map(of)
    assert (table.groupby("patient")["role"].nunique() == 1).all()
    assert table.groupby("label")["role"].nunique().tolist() == [4, 4]
    facts = store.read_json(out / "facts.json")
    assert facts["groups"] == {role: {"normal": 1, "tumour": 1} for role in ROLES}


def test_roles_that_folders_tell_are_obeyed_and_public_slides_are_left_out(slides: Path, tmp_path: Path) -> None:
    role_of = dict(zip(("1", "2", "3", "4"), ROLES, strict=True))
    for name in COHORT:
        path = tmp_path / "slides" / role_of[name.split("/")[1][1]] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(slides / name)
    out = cut_slides(tmp_path / "out", tmp_path / "slides")
    facts = store.read_json(out / "facts.json")
    assert facts["roles"] == "given" and facts["classes"] == ["normal", "tumour"]
    for name in COHORT:
        role = role_of[name.split("/")[1][1]]
        assert set(coordinates(out, f"{role}/{name}")["role"]) == {role, None}
    rows = "".join(f"{p}{n},{'public' if n == 5 else role_of[str(n)]}\n" for p in "NT" for n in range(1, 6))
    (tmp_path / "roles.csv").write_text("group,role\n" + rows)
    more = lay(tmp_path / "more", (*COHORT, "normal/N5_a.tiff"))
    fewer = cut_slides(tmp_path / "left_out", tmp_path / "more", roles=tmp_path / "roles.csv")
    assert len(more) == 11 and store.read_json(fewer / "facts.json")["left_out"] == 1
    assert set(coordinates(fewer)["slide"]) == {slide_id(name) for name in COHORT}


def test_a_site_plays_one_role_and_a_patient_of_two_sites_is_refused(slides: Path, tmp_path: Path) -> None:
    site = {"1": "north", "2": "south", "3": "east", "4": "west"}
    rows = [f"{name},{name.split('/')[1][:2]},{site[name.split('/')[1][1]]}" for name in COHORT]
    given = {"table": tmp_path / "table.csv", "site_column": "hospital", "slides": {"patient_pattern": None}}
    (tmp_path / "table.csv").write_text("\n".join(["file,group,hospital", *rows]) + "\n")
    out = cut_slides(tmp_path / "out", slides, **given)
    roles = {s: set() for s in site.values()}
    for name in COHORT:
        roles[site[name.split("/")[1][1]]] |= set(coordinates(out, name)["role"].dropna())
    assert sorted(map(tuple, roles.values())) == sorted((role,) for role in ROLES)
    (tmp_path / "table.csv").write_text(
        "\n".join(["file,group,hospital", *rows]).replace("N1,north", "N1,east", 1) + "\n"
    )
    with pytest.raises(UserError, match=r"1 of 8 groups lie in two or more sites \(N1; normal/N1_a\.tiff in east"):
        cut_slides(tmp_path / "torn", slides, **given)


def test_at_most_so_many_tiles_of_a_class_come_from_a_slide_and_from_a_patient(annotated: Path, tmp_path: Path) -> None:
    by_slide = cut_slides(tmp_path / "slide", annotated, slides=PATIENT | {"max_per_slide": 2})
    table = coordinates(by_slide)
    good = table[[reason in (None, "no class") for reason in table["reason"]]]
    counts = good.assign(label=good["label"].fillna("")).groupby(["slide", "label"]).size()
    assert set(counts) == {2} and len(counts) == 3 * len(DRAWN) + 1
    by_patient = cut_slides(tmp_path / "patient", annotated, slides=PATIENT, max_per_group=5)
    labelled = table_of(by_patient / "images")
    assert set(labelled.groupby(["group", "label"]).size()) == {5} and labelled["group"].nunique() == 6
    assert table_of(by_patient / "unlabelled").groupby("group").size().max() == 5
    told = store.read_json(by_patient / "facts.json")["slides"]["rejected"]
    table = coordinates(by_patient)
    assert told["over the cap"] == (table["reason"] == "over the cap").sum() > (17 - 10) * 7


def test_a_class_of_too_few_patients_is_left_out_with_all_its_tiles(tmp_path: Path) -> None:
    names = (*COHORT, "rare/R1_a.tiff", "rare/R1_b.tiff")
    lay(tmp_path / "slides", names)
    given = {"patient_pattern": r"([NTR]\d_.)"}  # five patients of the two classes: two of them in train
    out = cut_slides(tmp_path / "out", tmp_path / "slides", slides=given, min_patients_per_class=2)
    facts = store.read_json(out / "facts.json")
    assert facts["classes"] == ["normal", "tumour"] and facts["classes_left_out"] == {"rare": 2}
    for name in names[-2:]:
        table = coordinates(out, name)
        assert not table["role"].notna().any() and not table["reason"].isna().any()
    assert len(pd.read_parquet(out / "groups.parquet")) == len(COHORT)


def test_a_cap_takes_the_same_tiles_whatever_lies_beside_the_slide(slides: Path, tmp_path: Path) -> None:
    lay(tmp_path / "more", (*COHORT, "tumour/T0_a.tiff"))
    out = cut_slides(tmp_path / "a", slides, slides={"max_per_slide": 3})
    more = cut_slides(tmp_path / "b", tmp_path / "more", slides={"max_per_slide": 3})
    for name in COHORT:
        one, other = (places(coordinates(o, name).query("reason.isnull()")) for o in (out, more))
        assert one == other and len(one) == 3
    assert len({frozenset(places(coordinates(out, name).query("reason.isnull()"))) for name in COHORT}) == 1


def test_the_piece_of_tissue_is_where_the_truth_of_these_tests_says() -> None:
    assert (TISSUE.left, TISSUE.right) == (T + 8, 6 * T + 8) and TAKEN == 20
