"""Roles that a source lacks are drawn from its train groups; those it has stay as they are."""

import logging
from pathlib import Path

import pandas as pd
import pytest

from stages.contracts import UserError
from stages.dividing import Fractions, divide, given_roles

GROUPS = {"train": 20, "val": 3, "test": 5, "control": 4}


def table(**groups: int) -> pd.DataFrame:
    """Two classes, with so many groups of two tiles in each role."""
    found = [
        {"name": f"{label}-{role}-{g}-{t}", "label": label, "group": f"{label}-{role}-{g}", "role": role}
        for label in ("benign", "tumour")
        for role, count in groups.items()
        for g in range(count)
        for t in range(2)
    ]
    return pd.DataFrame(found, dtype=object).assign(reason=None, tile_id=lambda f: f["name"])


def only(*roles: str) -> pd.DataFrame:
    return table(**{role: GROUPS[role] for role in roles})


def of(frame: pd.DataFrame, label: str = "benign") -> dict[str, int]:
    return frame[frame["label"] == label].groupby("role")["group"].nunique().to_dict()


def test_control_gets_its_share_among_trains_and_its_own() -> None:
    frame = only("train", "val", "test")
    assert divide(frame, Fractions(), "draw_from_train", 3, given=True) == ("control",)
    for label in ("benign", "tumour"):
        assert of(frame, label) == {"train": 16, "val": 3, "test": 5, "control": 4}  # .15 / .75 of 20
    assert (frame.groupby("group")["role"].nunique() == 1).all()
    assert all(
        f"-{role}-" in name or role == "control" for name, role in zip(frame["name"], frame["role"], strict=True)
    )
    assert frame.loc[frame["role"] == "control", "name"].str.contains("-train-").all()


def test_two_or_three_roles_are_drawn_at_once() -> None:
    frame = only("train", "test")
    fractions = Fractions(train=0.5, val=0.25, test=0.125, control=0.125)
    assert divide(frame, fractions, "draw_from_train", 3, given=True) == ("val", "control")
    assert of(frame) == {"train": 11, "val": 6, "test": 5, "control": 3}  # of 20: 11.4, 5.7, 2.9
    alone = only("train")
    divide(alone, Fractions(), "draw_from_train", 3, given=True)
    assert of(alone) == {"train": 12, "val": 2, "test": 3, "control": 3}


def test_nothing_is_drawn_where_all_four_are_given() -> None:
    frame = only("train", "val", "test", "control")
    before = frame.copy()
    assert divide(frame, Fractions(), "draw_from_train", 3, given=True) == ()
    pd.testing.assert_frame_equal(frame, before)


def test_the_draw_follows_the_seed_and_not_the_order_of_the_rows() -> None:
    one, other, later = (
        only("train", "test"),
        only("train", "test").sample(frac=1, random_state=1),
        only("train", "test"),
    )
    for frame, seed in ((one, 3), (other, 3), (later, 4)):
        divide(frame, Fractions(), "draw_from_train", seed, given=True)
    roles = [dict(zip(frame["name"], frame["role"], strict=True)) for frame in (one, other, later)]
    assert roles[0] == roles[1] != roles[2]


def test_what_is_set_aside_is_no_group_to_draw() -> None:
    frame = only("train", "val", "test")
    frame.loc[frame["group"].str.endswith(("train-0", "train-1")), "reason"] = "empty"
    divide(frame, Fractions(), "draw_from_train", 3, given=True)
    assert of(frame[frame["reason"].isna()])["control"] == 4  # 3.6 of 18
    assert of(frame[frame["reason"].isna()])["train"] == 14


def test_a_draw_is_told_with_its_share_and_counts(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        divide(only("train", "val", "test"), Fractions(), "draw_from_train", 3, given=True)
    assert "no control: 20.0 % of the groups of train are drawn for it (benign 4, tumour 4)" in caplog.text


def test_a_missing_role_may_be_refused() -> None:
    with pytest.raises(UserError, match=r"roles are train, test; val, control is missing.*missing_roles"):
        divide(only("train", "test"), Fractions(), "refuse", 3, given=True)


def test_train_is_never_drawn_from_other_roles() -> None:
    with pytest.raises(UserError, match=r"roles are val, test; no tile is left with the role train"):
        divide(only("val", "test"), Fractions(), "draw_from_train", 3, given=True)


def test_a_class_with_too_few_train_groups_is_told() -> None:
    with pytest.raises(UserError, match=r"each of the 3 roles \(train, val, control\), but benign has 2, tumour has 2"):
        divide(table(train=2, test=4), Fractions(), "draw_from_train", 3, given=True)


def test_a_table_of_roles_may_lack_roles_too(tmp_path: Path) -> None:
    frame = only("train", "test")
    (tmp_path / "roles.csv").write_text(frame[["group", "role"]].drop_duplicates().to_csv(index=False))
    frame["role"] = None
    assert given_roles(frame, tmp_path / "roles.csv", ()) == (True, 0)
    assert divide(frame, Fractions(), "draw_from_train", 3, given=True) == ("val", "control")
