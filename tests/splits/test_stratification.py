"""Groups of several classes: shares as near as whole groups allow, and every class in every role where that can be."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest

from stages.splits.roles import apportion, draw_roles
from stages.splits.stratification import counts, indivisible, mended, searched, stratify

FOUR = {"train": 0.6, "val": 0.1, "test": 0.15, "control": 0.15}
SHARES = list(FOUR.values())


def stream_of(label: object) -> np.random.Generator:
    return np.random.default_rng([7, *str(label).encode()])


def wants(holds_gk: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    sizes = holds_gk.sum(axis=0)
    return np.array([apportion(int(n), SHARES) for n in sizes]), np.array(apportion(len(holds_gk), SHARES))


def drawn(holds_gk: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    return stratify(holds_gk, *wants(holds_gk), stream_of)


def patients(rng: np.random.Generator, odds_k: list[float], n: int) -> tuple[list[str], list[str]]:
    """Labels and groups of tiles; patient p holds class k by the odds, every patient at least one class."""
    labels, groups = [], []
    for p in range(n):
        held = np.flatnonzero(rng.random(len(odds_k)) < odds_k)
        for k in held if len(held) else [0]:
            labels += [f"class{k}"] * int(rng.integers(1, 5))
            groups += [f"p{p:03d}"] * (len(labels) - len(groups))
    return labels, groups


def test_where_every_group_holds_every_class_the_shares_are_exact() -> None:
    holds_gk = np.ones((20, 3), np.bool_)
    np.testing.assert_array_equal(counts(holds_gk, drawn(holds_gk), 4), [[12, 2, 3, 3]] * 3)


def test_where_every_group_holds_one_class_each_class_has_its_own_shares() -> None:
    sizes = [20, 7, 41]
    holds_gk = np.repeat(np.eye(3, dtype=np.bool_), sizes, axis=0)
    np.testing.assert_array_equal(counts(holds_gk, drawn(holds_gk), 4), [apportion(n, SHARES) for n in sizes])


def test_the_rarest_class_is_divided_first_and_exactly() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        holds_gk = rng.random((60, 3)) < [0.15, 0.6, 0.9]
        holds_gk[:, 2] |= ~holds_gk.any(axis=1)
        wanted_kr, _ = wants(holds_gk)
        rarest = int(np.argmin(holds_gk.sum(axis=0)))
        if holds_gk[:, rarest].sum() >= 4:
            np.testing.assert_array_equal(counts(holds_gk, drawn(holds_gk), 4)[rarest], wanted_kr[rarest])


def test_a_group_goes_to_the_role_that_lacks_most_of_its_class_and_then_to_the_one_that_lacks_most_groups() -> None:
    holds_gk = np.array([[True]])
    for wanted_r, total_r, role in (([1, 2, 1], [9, 0, 9], 1), ([2, 2, 1], [3, 5, 9], 1), ([2, 0, 2], [5, 9, 5], None)):
        found = {
            int(stratify(holds_gk, np.array([wanted_r]), np.array(total_r), lambda k, s=s: np.random.default_rng(s))[0])
            for s in range(40)
        }
        assert found == ({0, 2} if role is None else {role}), "a tie that is left goes to the stream"


def test_shares_are_nearer_than_a_blind_draw_brings_them_and_every_class_is_in_every_role() -> None:
    rng = np.random.default_rng(1)
    off: dict[str, list[int]] = {"drawn": [], "blind": []}
    for _ in range(30):
        labels, groups = patients(rng, [0.9, 0.5, 0.3, 0.15], 80)
        roles = draw_roles(labels, groups, FOUR, stream_of)
        shuffled = rng.permutation(sorted(roles))
        blind = dict(zip(shuffled, np.repeat(list(FOUR), apportion(len(roles), SHARES)), strict=True))
        assert set(roles) == set(groups)
        for label in set(labels):
            held = {g for g, other in zip(groups, labels, strict=True) if other == label}
            for way, role_of in (("drawn", roles), ("blind", blind)):
                found = [sum(role_of[g] == role for g in held) for role in FOUR]
                assert way == "blind" or min(found) >= 1
                off[way] += np.abs(np.subtract(found, apportion(len(held), SHARES))).tolist()
        total = [list(roles.values()).count(role) for role in FOUR]
        assert np.abs(np.subtract(total, apportion(len(roles), SHARES))).max() <= 4
    assert np.mean(off["drawn"]) < 0.1 * np.mean(off["blind"]) and max(off["drawn"]) <= 1


def test_the_order_of_the_rows_changes_no_groups_role() -> None:
    rng = np.random.default_rng(2)
    labels, groups = patients(rng, [0.8, 0.5, 0.2], 40)
    once = draw_roles(labels, groups, FOUR, stream_of)
    for _ in range(10):
        order = rng.permutation(len(labels))
        assert draw_roles([labels[i] for i in order], [groups[i] for i in order], FOUR, stream_of) == once


def test_another_stream_draws_other_roles_and_over_many_every_patient_plays_every_role() -> None:
    labels, groups = patients(np.random.default_rng(3), [0.8, 0.6, 0.4], 20)
    trains = np.zeros(20)
    for seed in range(200):
        roles = draw_roles(labels, groups, FOUR, lambda label, s=seed: np.random.default_rng([s, *label.encode()]))
        trains += [roles[f"p{p:03d}"] == "train" for p in range(20)]
    assert trains.min() > 0.35 * 200 and trains.max() < 0.85 * 200


def divisible(holds_gk: npt.NDArray[np.bool_], n_roles: int) -> bool:
    """By trying every division."""
    every = itertools.product(range(n_roles), repeat=len(holds_gk))
    return any((counts(holds_gk, np.array(role_g), n_roles) > 0).all() for role_g in every)


def test_a_division_is_found_exactly_where_trying_them_all_finds_one() -> None:
    rng = np.random.default_rng(4)
    seen = {True: 0, False: 0}
    for _ in range(150):
        holds_gk = rng.random((int(rng.integers(4, 8)), int(rng.integers(2, 5)))) < 0.55
        start_g = rng.integers(0, 3, len(holds_gk))
        wanted = divisible(holds_gk, 3)
        seen[wanted] += 1
        for found in (mended(holds_gk, start_g, 3), searched(holds_gk, start_g, 3)):
            assert (found is not None) == wanted
            assert found is None or (counts(holds_gk, found, 3) > 0).all()
    assert min(seen.values()) > 20


def test_what_is_whole_is_left_as_it_is_and_a_swap_keeps_the_size_of_the_roles() -> None:
    holds_gk = np.ones((8, 1), np.bool_)
    whole_g = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    np.testing.assert_array_equal(mended(holds_gk, whole_g, 4), whole_g)
    two_gk = np.array([[1, 1], [1, 1], [1, 1], [1, 1], [1, 0], [1, 0]], np.bool_)
    start_g = np.array([0, 0, 1, 2, 0, 3])  # the second class has no group in role 3
    mended_g = mended(two_gk, start_g, 4)
    assert mended_g is not None and (counts(two_gk, mended_g, 4) > 0).all()
    assert sorted(mended_g) == sorted(start_g) and (mended_g != start_g).sum() == 2


def test_classes_that_share_their_groups_so_that_it_cannot_be_are_named_with_their_counts() -> None:
    """Four groups must have four roles; so a fifth that may replace one of them has that one's, and they clash in c."""
    of = {"a": "1234", "b": "1235", "c": "4567", "d": "12345678"}
    labels = [label for label, groups in of.items() for _ in groups]
    groups = [group for groups in of.values() for group in groups]
    with pytest.raises(ValueError, match=r"each of the 4 roles .*, but a has 4, b has 4, c has 4, most of them shared"):
        draw_roles(labels, groups, FOUR, stream_of)
    apart = [g if g != "4" or label != "c" else "9" for label, g in zip(labels, groups, strict=True)]
    roles = draw_roles(labels, apart, FOUR, stream_of)
    assert roles["4"] == roles["5"] and {roles[g] for g in "9567"} == set(FOUR)


def test_a_class_with_too_few_groups_among_mixed_ones_is_named() -> None:
    labels, groups = ["a"] * 8 + ["b"] * 3, [*"12345678", *"123"]
    with pytest.raises(ValueError, match="each of the 4 roles .* but b has 3"):
        draw_roles(labels, groups, FOUR, stream_of)


def test_the_smallest_classes_that_clash_are_those_to_name() -> None:
    columns = ("1111000000", "1110100000", "0001111000", "1111111111")
    holds_gk = np.array([[c == "1" for c in column] for column in columns]).T
    assert sorted(indivisible(holds_gk, 4)) == [0, 1, 2]
