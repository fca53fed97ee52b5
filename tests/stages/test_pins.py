"""Pins by hand: read, honoured by every way to choose, told in the facts and in the release."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted_candidates import candidates_of, lay, select
from releasing import make

from stages import images, pins, store
from stages.contracts import UserError
from stages.selection import SelectionSettings

IDS = [f"{number:016x}" for number in range(10)]
PER_CLASS = 10


def csv(path: Path, *rows: tuple[str, str], mark: str = ",") -> Path:
    path.write_text("".join(f"{one}{mark}{two}\n" for one, two in (("tile_id", "reason"), *rows)))
    return path


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    candidates, x_nd, _ = candidates_of(np.random.default_rng(0))
    return lay(tmp_path_factory.mktemp("planted"), candidates, x_nd)


def ids_of(planted: dict[str, Path]) -> list[str]:
    return images.read_table(planted["candidates"] / "images")[0]["tile_id"].tolist()


@pytest.mark.parametrize("mark", [",", ";"])
def test_commas_and_semicolons_are_read_and_the_first_reason_of_a_tile_holds(tmp_path: Path, mark: str) -> None:
    path = csv(tmp_path / "x.csv", (IDS[1], " not  tissue"), (IDS[2].upper(), ""), (IDS[1], "other"), mark=mark)
    found = pins.read(path, None, IDS)
    assert found == pins.Pins({IDS[1]: "not tissue", IDS[2]: "no reason given"}, {})


def test_what_a_spreadsheet_writes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(f'\ufefftile_id;reason;note\r\n{IDS[1]};"a; ""b"""\r\n'.encode())
    assert pins.read(None, path, IDS).keep == {IDS[1]: 'a; "b"'}


def test_unknown_tiles_are_counted_and_named(tmp_path: Path) -> None:
    path = csv(tmp_path / "x.csv", (IDS[1], "a"), ("1.23E+15", "b"), ("beef", "c"))
    with pytest.raises(UserError, match=r"2 of 3 tiles in .*x.csv are no candidates: 1.23e\+15, beef"):
        pins.read(path, None, IDS)


def test_a_tile_in_both_files_is_an_error(tmp_path: Path) -> None:
    one, two = csv(tmp_path / "x.csv", (IDS[1], "a"), (IDS[2], "b")), csv(tmp_path / "k.csv", (IDS[2], "c"))
    with pytest.raises(UserError, match=f"1 tiles are to be left out and to be kept: {IDS[2]}"):
        pins.read(one, two, IDS)


def test_a_column_that_is_missing_and_a_reason_that_is_too_long_are_errors(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("tile,reason\n1,a\n")
    with pytest.raises(UserError, match="has no column 'tile_id'"):
        pins.read(tmp_path / "x.csv", None, IDS)
    with pytest.raises(UserError, match="has 201 characters"):
        pins.read(csv(tmp_path / "y.csv", (IDS[1], "a" * 201)), None, IDS)


def test_an_empty_list_pins_nothing(planted: dict[str, Path], tmp_path: Path) -> None:
    empty = csv(tmp_path / "x.csv")
    plain = select(planted, tmp_path / "a", SelectionSettings(per_class=PER_CLASS, neighbours=6))
    pinned = select(
        planted, tmp_path / "b", SelectionSettings(per_class=PER_CLASS, neighbours=6, exclude=empty, keep=empty)
    )
    assert store.digest_folder(plain) == store.digest_folder(pinned)
    nothing = {"tiles": 0, "reasons": []}
    assert store.read_json(plain / "facts.json")["pins"] == {"excluded": nothing, "kept": nothing}


@pytest.mark.parametrize("method", ["infomap", "kmeans", "random"])
def test_every_way_to_choose_leaves_out_the_excluded_and_takes_the_kept_first(
    method: str, planted: dict[str, Path], tmp_path: Path
) -> None:
    settings = SelectionSettings(method=method, per_class=PER_CLASS, neighbours=6)
    before = images.read(select(planted, tmp_path / "a", settings) / "images").table
    out_ids = before["tile_id"].tolist()[:3]
    kept_ids = sorted(set(ids_of(planted)[:48]) - set(before["tile_id"]))[:2]
    settings = settings.model_copy(
        update={
            "exclude": csv(tmp_path / "x.csv", *((one, "odd") for one in out_ids)),
            "keep": csv(tmp_path / "k.csv", (kept_ids[1], "shows mitoses"), (kept_ids[0], "typical")),
        }
    )
    out = select(planted, tmp_path / "b", settings)
    after = images.read(out / "images").table
    assert not set(out_ids) & set(after["tile_id"])
    assert after["tile_id"].tolist()[:2] == kept_ids  # in the order of content, not of the file
    assert after["label"].tolist() == before["label"].tolist() and after["rank"].tolist() == before["rank"].tolist()
    frame = pd.read_parquet(out / "communities.parquet").assign(tile_id=ids_of(planted)).set_index("tile_id")
    assert len(frame) == 96 and int(frame["chosen"].sum()) == 20
    assert (frame.loc[out_ids, "reason"] == "left out by hand: odd").all()
    assert (frame.loc[out_ids, "community"] == -1).all() and not frame.loc[out_ids, "chosen"].any()
    assert frame.loc[kept_ids, "reason"].tolist() == ["kept by hand: typical", "kept by hand: shows mitoses"]
    assert set(frame[frame["chosen"]].index) == set(after["tile_id"])
    assert (frame["reason"] == "gave its seat to a kept one").sum() == 2
    edges = pd.read_parquet(out / "edges.parquet")
    gone = frame.loc[out_ids, "row"]
    assert not edges["source"].isin(gone).any() and not edges["target"].isin(gone).any()
    told = store.read_json(out / "facts.json")["pins"]
    assert told["excluded"] == {"tiles": 3, "reasons": [{"reason": "odd", "tiles": 3}]}
    assert told["kept"]["tiles"] == 2


def test_the_excluded_are_as_if_they_had_never_been_made(planted: dict[str, Path], tmp_path: Path) -> None:
    candidates, x_nd, _ = candidates_of(np.random.default_rng(0))
    gone = [0, 5, 50]
    left = np.setdiff1d(np.arange(96), gone)
    settings = SelectionSettings(per_class=PER_CLASS, neighbours=6)
    fewer = select(lay(tmp_path / "fewer", candidates.take(left), x_nd[left]), tmp_path / "a", settings)
    path = csv(tmp_path / "x.csv", *((candidates.table["tile_id"][row], "") for row in gone))
    pinned = select(planted, tmp_path / "b", settings.model_copy(update={"exclude": path}))
    one, two = (images.read(out / "images").table for out in (fewer, pinned))
    assert one.drop(columns="candidate").equals(two.drop(columns="candidate"))


def test_copies_of_an_excluded_candidate_are_left_out_with_it(tmp_path: Path) -> None:
    candidates, x_nd, _ = candidates_of(np.random.default_rng(8))
    rows = np.arange(96)
    rows[40:48] = rows[:8]
    inputs = lay(tmp_path, candidates.take(rows), x_nd[rows])
    path = csv(tmp_path / "x.csv", (candidates.table["tile_id"][3], "blurred"))
    out = select(inputs, tmp_path / "out", SelectionSettings(method="random", per_class=39, neighbours=6, exclude=path))
    frame = pd.read_parquet(out / "communities.parquet").set_index("row")
    assert frame.loc[[3, 43], "reason"].tolist() == ["left out by hand: blurred"] * 2
    assert (frame["reason"] == "copy of another candidate").sum() == 7


def test_too_many_kept_and_too_few_left_are_errors(planted: dict[str, Path], tmp_path: Path) -> None:
    path = csv(tmp_path / "x.csv", *((one, "a") for one in ids_of(planted)[:11]))
    settings = SelectionSettings(method="random", per_class=PER_CLASS, neighbours=6)
    with pytest.raises(UserError, match="11 tiles of class a are to be kept, but selection.per_class is 10"):
        select(planted, tmp_path / "a", settings.model_copy(update={"keep": path}))
    with pytest.raises(UserError, match="class a has only 37 different candidates that are not left out by hand"):
        select(planted, tmp_path / "b", settings.model_copy(update={"exclude": path, "per_class": 38}))


def test_a_release_tells_how_many_were_pinned_and_why_but_no_path(story: dict[str, Path], tmp_path: Path) -> None:
    reasons = {IDS[1]: "blurred", IDS[2]: "blurred", IDS[3]: "as in /home/mustermann/list"}
    folder = tmp_path / "selection"
    shutil.copytree(story["selection"], folder)
    told = pins.told(pins.Pins(reasons, {IDS[4]: "rare"}))
    store.write_json(folder / "facts.json", {"method": "infomap", "pins": told})
    dataset = make(story | {"selection": folder}, tmp_path / "out")
    found = store.read_json(dataset / "provenance.json")["steps"]["selection"]["facts"]["pins"]
    assert found["kept"] == {"tiles": 1, "reasons": [{"reason": "rare", "tiles": 1}]}
    assert found["excluded"]["tiles"] == 3
    assert found["excluded"]["reasons"] == [
        {"reason": "blurred", "tiles": 2},
        {"reason": "(a path, left out)", "tiles": 1},
    ]
    card = (dataset / "README.md").read_text()
    assert "A person had left out 3 of them beforehand, and asked for 1 to be kept" in card
    assert "mustermann" not in card and not any(one in card for one in reasons)
    plain = make(story, tmp_path / "plain")
    assert "A person had left out" not in (plain / "README.md").read_text()
