"""Roles: whole groups, class by class, whatever the order of the rows."""

import re

import numpy as np
import pytest

from stages.splits.roles import apportion, draw_roles, groups_of_classes, role_of_groups

FOUR = {"train": 0.6, "val": 0.1, "test": 0.15, "control": 0.15}

FROZEN = {
    "train": ["c0-g0", "c0-g1", "c0-g2", "c0-g5", "c1-g2", "c1-g3"],
    "val": ["c0-g4", "c1-g0"],
    "test": ["c0-g6", "c1-g4"],
    "control": ["c0-g3", "c1-g1"],
}


def stream_of(label: str) -> np.random.Generator:
    return np.random.default_rng([7, *label.encode()])


def tiles(rng: np.random.Generator, groups_per_class: list[int]) -> tuple[list[str], list[str]]:
    labels, groups = [], []
    for number, count in enumerate(groups_per_class):
        for group in range(count):
            n = int(rng.integers(1, 6))
            labels += [f"class{number}"] * n
            groups += [f"c{number}-g{group}"] * n
    return labels, groups


def test_shares_are_exact_where_they_divide() -> None:
    assert apportion(100, [0.6, 0.1, 0.15, 0.15]) == [60, 10, 15, 15]
    assert apportion(20, [0.6, 0.1, 0.15, 0.15]) == [12, 2, 3, 3]


def test_largest_remainders_get_the_rest_and_ties_go_to_the_earlier() -> None:
    assert apportion(10, [0.55, 0.25, 0.20]) == [6, 2, 2]  # 5.5, 2.5, 2.0: one seat left, tie, the first takes it
    assert apportion(7, [0.5, 0.3, 0.2]) == [4, 2, 1]  # 3.5, 2.1, 1.4


def test_every_share_gets_at_least_one() -> None:
    assert apportion(4, [0.97, 0.01, 0.01, 0.01]) == [1, 1, 1, 1]
    assert apportion(6, [0.97, 0.01, 0.01, 0.01]) == [3, 1, 1, 1]


def test_apportioning_keeps_the_total_and_stays_within_one_of_the_share() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        shares = rng.dirichlet(np.ones(4) * 5)
        total = int(rng.integers(40, 400))
        counts = apportion(total, shares.tolist())
        assert sum(counts) == total and min(counts) >= 1
        if min(shares) * total >= 1:
            assert np.abs(np.array(counts) - shares * total).max() < 1


def test_every_group_of_every_class_gets_one_role_by_its_fraction() -> None:
    rng = np.random.default_rng(1)
    for _ in range(30):
        sizes = rng.integers(4, 60, size=3).tolist()
        labels, groups = tiles(rng, sizes)
        roles = draw_roles(labels, groups, FOUR, stream_of)
        assert set(roles) == set(groups)
        for number, size in enumerate(sizes):
            drawn = [role for group, role in roles.items() if group.startswith(f"c{number}-")]
            assert [drawn.count(role) for role in FOUR] == apportion(size, list(FOUR.values()))


def test_the_order_of_the_rows_changes_no_groups_role() -> None:
    rng = np.random.default_rng(2)
    labels, groups = tiles(rng, [20, 11, 7])
    once = draw_roles(labels, groups, FOUR, stream_of)
    for _ in range(10):
        order = rng.permutation(len(labels))
        again = draw_roles([labels[i] for i in order], [groups[i] for i in order], FOUR, stream_of)
        assert again == once


def test_another_class_changes_nothing_for_the_others() -> None:
    labels, groups = tiles(np.random.default_rng(3), [20, 11])
    both = draw_roles(labels, groups, FOUR, stream_of)
    first = [i for i, label in enumerate(labels) if label == "class0"]
    alone = draw_roles([labels[i] for i in first], [groups[i] for i in first], FOUR, stream_of)
    assert alone == {group: role for group, role in both.items() if group.startswith("c0-")}


def test_each_class_draws_from_its_own_stream_alone() -> None:
    labels, groups = tiles(np.random.default_rng(3), [20, 20])
    asked: list[str] = []
    draw_roles(labels, groups, FOUR, lambda label: asked.append(label) or stream_of(label))
    assert sorted(asked) == ["class0", "class1"]


def test_another_stream_draws_other_roles() -> None:
    labels, groups = tiles(np.random.default_rng(4), [40])
    other = draw_roles(labels, groups, FOUR, lambda label: np.random.default_rng(99))
    assert other != draw_roles(labels, groups, FOUR, stream_of)


def test_over_many_streams_every_group_plays_every_role_at_its_rate() -> None:
    groups = [f"g{i}" for i in range(10)]
    trains = np.zeros(10)
    for seed in range(400):
        roles = draw_roles(["a"] * 10, groups, FOUR, lambda label, s=seed: np.random.default_rng(s))
        trains += [roles[group] == "train" for group in groups]
    assert np.abs(trains / 400 - 0.6).max() < 4 * np.sqrt(0.6 * 0.4 / 400)


def test_a_class_with_too_few_groups_is_an_error_with_the_numbers() -> None:
    labels, groups = tiles(np.random.default_rng(5), [8, 3, 2])
    with pytest.raises(ValueError, match=re.escape("each of the 4 roles") + ".*class1 has 3, class2 has 2"):
        draw_roles(labels, groups, FOUR, stream_of)


def test_a_class_has_its_groups_by_name_and_a_group_may_have_two_classes() -> None:
    assert groups_of_classes(["b", "a", "a", "b", "a"], ["g3", "g3", "g1", "g2", "g1"]) == {
        "a": ["g1", "g3"],
        "b": ["g2", "g3"],
    }


def test_groups_of_one_class_are_drawn_as_ever() -> None:
    """Frozen when groups of several classes came: whoever has such a draw keeps it."""
    labels, groups = tiles(np.random.default_rng(6), [7, 5])
    roles = draw_roles(labels, groups, FOUR, stream_of)
    assert {role: sorted(g for g in roles if roles[g] == role) for role in FOUR} == FROZEN


def test_groups_torn_between_roles_are_an_error_that_counts_them() -> None:
    assert role_of_groups(["g", "g", "h"], ["train", "train", "val"]) == {"g": "train", "h": "val"}
    with pytest.raises(ValueError, match=r"1 of 2 groups have tiles in two or more roles \(g\)"):
        role_of_groups(["g", "g", "h"], ["train", "val", "val"])
