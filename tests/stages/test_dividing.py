"""Roles that a source lacks are drawn from its train groups; those it has stay as they are."""

import logging
from pathlib import Path

import pandas as pd
import pytest

from stages.contracts import UserError
from stages.dividing import Fractions, check_sites, divide, given_roles

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


def at_sites(sites: int = 20, patients: int = 3) -> pd.DataFrame:
    """Sites of some patients each, every patient with tiles of both classes; no role yet."""
    found = [
        {"name": f"s{s}-p{p}-{label}", "label": label, "group": f"s{s}-p{p}", "site": f"s{s}", "role": None}
        for s in range(sites)
        for p in range(patients)
        for label in ("benign", "tumour")
    ]
    return pd.DataFrame(found, dtype=object).assign(reason=None, tile_id=lambda f: f["name"])


def test_all_patients_of_a_site_play_one_role_and_sites_are_shared_by_the_fractions() -> None:
    frame = at_sites()
    divide(frame, Fractions(), "draw_from_train", 3, given=False)
    assert (frame.groupby("site")["role"].nunique() == 1).all()
    assert frame.groupby("role")["site"].nunique().to_dict() == {"train": 12, "val": 2, "test": 3, "control": 3}
    without = frame.assign(role=None, site=None)
    divide(without, Fractions(), "draw_from_train", 3, given=False)
    assert without.groupby("site", dropna=False)["role"].nunique().max() == 4
    assert without.groupby("role")["group"].nunique().to_dict() == {"train": 36, "val": 6, "test": 9, "control": 9}


def test_a_role_that_is_missing_is_drawn_by_site_from_train() -> None:
    frame = at_sites()
    frame["role"] = ["test" if site in ("s0", "s1") else "train" for site in frame["site"]]
    divide(frame, Fractions(), "draw_from_train", 3, given=True)
    assert (frame.groupby("site")["role"].nunique() == 1).all()
    assert frame.groupby("role")["site"].nunique().to_dict() == {"train": 13, "val": 2, "test": 2, "control": 3}


def test_a_site_with_two_given_roles_is_an_error() -> None:
    frame = at_sites()
    frame["role"] = ["test" if group == "s4-p1" else "train" for group in frame["group"]]
    with pytest.raises(
        UserError, match=r"Sites count as groups.* 1 of 20 groups have tiles in two or more roles \(s4\)"
    ):
        divide(frame, Fractions(), "draw_from_train", 3, given=True)


def test_tiles_without_a_site_are_set_aside_and_a_source_without_any_is_refused() -> None:
    frame = at_sites()
    frame.loc[3, "site"] = None
    before = frame["reason"].copy()
    check_sites(frame, None)
    pd.testing.assert_series_equal(frame["reason"], before)
    check_sites(frame, "hospital")
    assert frame["reason"].value_counts().to_dict() == {"no site": 1} and frame.loc[3, "reason"] == "no site"
    with pytest.raises(UserError, match="No tile has a site, though tiles.site_column is 'hospital'"):
        check_sites(frame.assign(site=None), "hospital")


def test_found_groups_that_reach_over_two_sites_are_named_by_their_tiles() -> None:
    frame = at_sites().assign(group=lambda f: f["group"].replace({"s1-p0": "found-7", "s2-p0": "found-7"}))
    with pytest.raises(UserError, match=r"1 of 59 groups .*\(found-7; s1-p0-benign in s1, s2-p0-benign in s2\)"):
        divide(frame, Fractions(), "draw_from_train", 3, given=False)
