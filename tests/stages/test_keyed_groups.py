"""groups.parquet: every group of the source under its keyed id, and no name."""

from pathlib import Path

import numpy as np
import pandas as pd
from made_tiles import KEY, PER_GROUP, as_parquet, digests, rows, run, table_of

from stages import tables
from stages.hashing import keyed
from stages.keyed_groups import FILE, keyed_groups


def test_every_group_is_found_by_its_name_with_its_number_role_and_tiles(tmp_path: Path, parquet: Path) -> None:
    out = run(tmp_path / "out", source=parquet)
    told, made = tables.read(out / FILE, "groups"), table_of(out / "images")
    assert set(told["hash"]) == {keyed(KEY, "group", name) for name in rows()["group"]}
    assert told["number"].tolist() == list(range(20)) and (told["tiles"] == PER_GROUP).all()
    role_of = made.groupby("group")["role"].first()
    assert told["role"].tolist() == role_of.loc[told["number"]].tolist()


def test_two_groups_under_one_number_and_one_group_under_two_each_have_a_row() -> None:
    kept = pd.DataFrame({"row": [0, 1, 2, 4], "number": [0, 0, 1, 1], "role": ["train", "train", "val", "val"]})
    told = keyed_groups(kept, pd.Series(["a", "b", "b", "gone", "b"]), KEY)
    a, b = (keyed(KEY, "group", name) for name in "ab")
    cells = {tuple(row) for row in told.itertuples(index=False)}
    assert cells == {(0, a, "train", 1), (0, b, "train", 1), (1, b, "val", 2)}


def test_the_order_of_the_rows_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    kept = pd.DataFrame({"row": range(30), "number": rng.integers(0, 6, 30)}).assign(role="train")
    names = pd.Series([f"p{n}" for n in kept["number"]])
    wanted = keyed_groups(kept, names, KEY)
    pd.testing.assert_frame_equal(keyed_groups(kept.sample(frac=1, random_state=1), names, KEY), wanted)


def test_another_key_changes_this_file_and_no_other(tmp_path: Path, parquet: Path) -> None:
    one = digests(run(tmp_path / "a", source=parquet))
    two = digests(run(tmp_path / "b", source=parquet, key=bytes(32)))
    assert [name for name in one.keys() | two.keys() if one.get(name) != two.get(name)] == [FILE]


def test_where_no_groups_are_given_there_is_none(tmp_path: Path) -> None:
    path = as_parquet(rows().drop(columns="group"), tmp_path / "t.parquet")
    out = run(tmp_path / "out", source=path, group_column=None, grouping="each")
    assert not (out / FILE).exists()


def test_patients_are_told_by_their_own_names_when_groups_are_found(tmp_path: Path, parquet: Path) -> None:
    out = run(tmp_path / "out", source=parquet, grouping="each")
    told = tables.read(out / FILE, "groups")
    assert len(told) == 20 * PER_GROUP and told["hash"].nunique() == 20 and (told["tiles"] == 1).all()
