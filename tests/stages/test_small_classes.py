"""Classes of too few patients are left out whole; the rest is as if they had never been there."""

import logging
from pathlib import Path

import pandas as pd
import pytest
from made_tiles import as_parquet, rows, run, table_of

from stages import dividing, store
from stages.contracts import UserError
from stages.dividing import Fractions
from stages.small_classes import REASON, divide


def patients(role: str | None = None, **counts: int) -> pd.DataFrame:
    """Classes of so many patients of two tiles each."""
    found = [
        {"name": f"{label}-{g}-{t}", "label": label, "group": f"{label}-{g}", "role": role}
        for label, count in counts.items()
        for g in range(count)
        for t in range(2)
    ]
    return pd.DataFrame(found, dtype=object).assign(reason=None, tile_id=lambda f: f["name"])


EVEN = Fractions(train=0.4, val=0.2, test=0.2, control=0.2)


def divided(frame: pd.DataFrame, least: int, given: bool = False) -> dict[str, int]:
    return divide(frame, EVEN, "draw_from_train", 3, given, least).left_out


def test_with_one_nothing_is_left_out_and_all_is_as_without() -> None:
    one, other = patients(a=10, b=5), patients(a=10, b=5)
    assert divided(one, 1) == {}
    dividing.divide(other, EVEN, "draw_from_train", 3, given=False)
    pd.testing.assert_frame_equal(one, other)
    with pytest.raises(UserError, match="each of the 4 roles .* but b has 3"):
        divided(patients(a=10, b=3), 1)


@pytest.mark.parametrize(("count", "left_out"), [(3, {"c": 3}), (6, {"c": 6}), (7, {"c": 3}), (10, {})])
def test_a_class_is_left_out_that_cannot_or_does_not_have_enough_in_train(count: int, left_out: dict[str, int]) -> None:
    """Of 6 groups train cannot have 4, of 7 it could but gets 3 (2.8), of 10 it gets 4."""
    frame = patients(a=20, b=10, c=count)
    assert divided(frame, 4) == left_out
    aside = frame[frame["label"] == "c"]["reason"]
    assert aside.isna().all() if not left_out else (aside == REASON).all()
    alone = patients(a=20, b=10)
    divided(alone, 4)
    assert frame[frame["label"] != "c"]["role"].tolist() == alone["role"].tolist()


def test_where_roles_are_given_the_groups_of_train_count() -> None:
    frame = pd.concat(
        [patients(role, a=5, b=5, c=c) for role, c in (("train", 2), ("val", 9), ("test", 9), ("control", 9))]
    )
    frame["group"] += frame["role"]
    frame = frame.reset_index(drop=True).assign(tile_id=lambda f: [str(i) for i in f.index])
    assert divided(frame.copy(), 2, given=True) == {}
    assert divided(frame.copy(), 3, given=True) == {"c": 2}
    frame.loc[(frame["label"] == "c") & (frame["role"] == "train"), "role"] = "val"
    assert divided(frame, 3, given=True) == {"c": 0}


def test_where_roles_lack_those_that_are_drawn_from_train_count() -> None:
    def frame() -> pd.DataFrame:
        found = pd.concat([patients("train", a=20, b=20, c=5), patients("test", d=1).assign(label="a")])
        return found.reset_index(drop=True)

    assert divided(frame(), 3, given=True) == {}, "one each for val and control, three for train"
    assert divided(frame(), 4, given=True) == {"c": 5}


def test_it_is_told_with_names_and_counts(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        divided(patients(a=20, b=10, c=7, d=2), 4)
    assert "class d is left out: it has 2 patients, 7 are wanted: 4 in train, and one for each other" in caplog.text
    assert "class c is left out: it has 3 patients, 4 are wanted in train" in caplog.text


def test_fewer_than_two_classes_are_an_error() -> None:
    with pytest.raises(
        UserError, match=r"Of 2 classes 1 would be left.*b has 5 patients, but 7 are wanted.*which is 4"
    ):
        divided(patients(a=20, b=5), 4)


def test_the_tiles_stage_counts_them_and_the_other_classes_keep_their_numbers(tmp_path: Path) -> None:
    frame = rows()
    rare = frame[frame["group"].str.endswith(("n-0", "n-1", "n-2"))].assign(
        label="aa", group=lambda f: f["group"] + "r"
    )
    rare["content"] = frame["content"].iloc[30:39].tolist()
    source = as_parquet(pd.concat([frame.drop(index=range(30, 39)), rare]), tmp_path / "t.parquet")
    with pytest.raises(UserError, match="aa has 3"):
        run(tmp_path / "error", source=source)
    out = run(tmp_path / "out", source=source, min_patients_per_class=2)
    facts = store.read_json(out / "facts.json")
    assert facts["classes"] == ["benign", "tumour"] and facts["classes_left_out"] == {"aa": 3}
    assert facts["set_aside"] == {REASON: 9} and len(table_of(out / "images")) == 51
