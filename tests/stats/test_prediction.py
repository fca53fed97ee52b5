import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from stages.stats import prediction
from stages.stats.prediction import Points


def points(
    x: Sequence[float] | np.ndarray,
    y: Sequence[float] | np.ndarray,
    source: Sequence[str] | np.ndarray,
    method: list[str] | None = None,
    per_class: list[int] | None = None,
) -> Points:
    count = len(x)
    return Points(
        np.asarray(x, float),
        np.asarray(y, float),
        np.array(method or ["dc"] * count),
        np.asarray(per_class or [10] * count, float),
        np.array(source),
    )


def test_on_a_perfect_line_the_model_errs_nowhere_and_its_interval_is_a_point() -> None:
    x = np.linspace(0.2, 0.8, 9)
    line = points(x, 0.3 + 0.5 * x, list("aaabbbccc"))
    told = prediction.tested(line)
    assert told is not None
    assert told.model.mae == pytest.approx(0, abs=1e-12) and told.model.r2 == pytest.approx(1)
    assert told.same.mae == pytest.approx(np.abs(0.3 - 0.5 * x).mean())
    model = prediction.fit(line)
    assert model.named == pytest.approx({"intercept": 0.3, "random": 0.5})
    new = points([0.5], [0], ["new"])
    assert prediction.interval(line, model, new)[0] == pytest.approx((0.55, 0.55, 0.55))


def test_least_squares_are_scipys_and_sources_count_alike_however_many_their_tasks() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0.2, 0.8, (2, 12))
    each = prediction.fit(points(x, y, [str(n) for n in range(12)]))
    theirs = stats.linregress(x, y)
    assert each.beta_p == pytest.approx([theirs.intercept, theirs.slope], abs=1e-12)
    once = prediction.fit(points(x, y, [str(n) for n in range(12)]))
    copied = [0, *range(12), 0, 0]
    again = prediction.fit(points(x[copied], y[copied], [str(n) for n in copied]))
    assert again.beta_p == pytest.approx(once.beta_p)


def test_terms_are_recovered_and_chosen_where_they_help_and_only_there() -> None:
    rng = np.random.default_rng(1)
    sources, method, size = zip(*[(s, m, n) for s in "abcde" for m in ("dc", "dm") for n in (1, 10)], strict=True)
    x = rng.uniform(0.2, 0.6, len(sources))
    shift = np.array([0.2 if m == "dm" else 0.0 for m in method])
    tenfold = np.log10(np.array(size, float))
    with_both = points(x, 0.05 + 0.8 * x + shift + 0.1 * tenfold, sources, list(method), list(size))
    assert prediction.choose_terms(with_both) == ("method", "size")
    named = prediction.fit(with_both, ("method", "size")).named
    wanted = {"intercept": 0.05, "random": 0.8, "method dm": 0.2, "log10 images per class": 0.1}
    assert named == pytest.approx(wanted)
    noise = rng.normal(0, 0.02, len(sources))
    assert prediction.choose_terms(points(x, 0.8 * x + shift + noise, sources, list(method), list(size))) == ("method",)
    assert prediction.choose_terms(with_both.where(with_both.source_n < "c")) == (), "two sources cannot choose"


def test_nothing_of_the_source_that_is_left_out_reaches_its_prediction() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.uniform(0.2, 0.8, (2, 12))
    source = np.repeat(list("abcd"), 3)
    before = prediction.left_out(points(x, y, source))
    other = y.copy()
    other[source == "b"] = rng.uniform(0, 1, 3)
    after = prediction.left_out(points(x, other, source))
    assert np.array_equal(before[source == "b"], after[source == "b"])
    assert not np.allclose(before[source != "b"], after[source != "b"])
    fold = stats.linregress(x[source != "b"], y[source != "b"])
    found = prediction.left_out(points(x, y, source), ())[source == "b"]
    assert found == pytest.approx(np.clip(fold.intercept + fold.slope * x[source == "b"], 0, 1))


def test_the_guesses_are_the_subset_itself_and_the_others_mean_of_the_same_kind() -> None:
    of = points([0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.9, 0.1], list("aabb"), ["dc", "dm", "dc", "dc"])
    assert prediction.others_mean(of) == pytest.approx([0.5, 0.5, 0.5, 0.5])
    assert prediction.others_mean(points([0.1, 0.2], [0.5, 0.7], list("ab"))) == pytest.approx([0.7, 0.5])
    told = prediction.tested(of)
    assert told is not None and told.mean.r2 == pytest.approx(0)
    assert told.same.mae == pytest.approx(np.mean([0.4, 0.4, 0.6, 0.3]))
    assert prediction.tested(of.where(of.source_n == "a")) is None


def test_what_is_unrelated_predicts_no_better_than_the_mean() -> None:
    rng = np.random.default_rng(3)
    found = []
    for _ in range(40):
        told = prediction.tested(points(*rng.uniform(0.2, 0.8, (2, 16)), np.repeat(list("abcdefgh"), 2)))
        assert told is not None
        found.append(told.model.r2)
    assert np.median(found) < 0.05


@pytest.mark.parametrize("sources", [4, 8])
def test_prediction_intervals_cover_new_sources_at_their_level(sources: int) -> None:
    """Sources shift all their tasks together; intervals that took tasks for independent would cover too seldom."""
    rng = np.random.default_rng(4)
    covered = naive = 0
    rounds = 300
    for _ in range(rounds):
        shift = np.repeat(rng.normal(0, 0.06, sources + 1), 4)
        x = rng.uniform(0.3, 0.6, len(shift))
        y = 0.1 + 0.8 * x + shift + rng.normal(0, 0.01, len(shift))
        of = points(x[4:], y[4:], np.repeat([str(n) for n in range(sources)], 4))
        model = prediction.fit(of)
        (found,) = prediction.interval(of, model, points(x[:1], y[:1], ["new"]))
        covered += found.low <= y[0] <= found.high
        residual_n = of.distilled_n - model.predict(of)
        half = stats.t.ppf(0.975, len(residual_n) - 2) * residual_n.std(ddof=2)
        naive += abs(model.predict(points(x[:1], y[:1], ["new"]))[0] - y[0]) <= half
    assert 0.92 <= covered / rounds <= 0.995
    assert naive / rounds < 0.92


def test_few_sources_make_it_wide_and_it_stays_within_nought_and_one() -> None:
    rng = np.random.default_rng(5)
    x = rng.uniform(0.3, 0.6, 6)
    y = x + rng.normal(0, 0.05, 6)
    few = points(x, y, list("aabbcc"))
    (found,) = prediction.interval(few, prediction.fit(few), points([0.5], [0], ["new"]))
    error, sources = prediction.source_rmse(few, prediction.left_out(few))
    assert sources == 3 and found.high - found.value == pytest.approx(min(4.303 * error, 1 - found.value), rel=1e-3)
    (two,) = prediction.interval(few.where(few.source_n < "c"), prediction.fit(few), points([0.5], [0], ["new"]))
    assert (two.low, two.high) == (0, 1) or two.high - two.low > found.high - found.low
    with pytest.raises(ValueError, match="two sources"):
        prediction.interval(few.where(few.source_n == "a"), prediction.fit(few), few)


def test_it_is_said_where_a_new_task_lies_outside_of_what_each_method_was_studied_at() -> None:
    of = points([0.3, 0.6, 0.4, 0.5], [0.3] * 4, list("abab"), ["dc", "dc", "dm", "dm"], [1, 10, 10, 50])
    assert prediction.outside(of, ["dc", "dm"], 0.45, 10) == []
    assert prediction.outside(of, ["dc", "dm"], 0.4, 50) == [("size", ("dc",), 1, 10)]
    assert prediction.outside(of, ["dm"], 0.4, 50) == []
    assert prediction.outside(of, ["dc", "dm"], 0.55, 1) == [("random", ("dm",), 0.4, 0.5), ("size", ("dm",), 10, 50)]
    alike = points([0.3, 0.6, 0.3, 0.6], [0.3] * 4, list("abab"), ["dc", "dc", "dm", "dm"], [1, 10, 1, 10])
    both = ("dc", "dm")
    assert prediction.outside(alike, both, 0.7, 50) == [("random", both, 0.3, 0.6), ("size", both, 1, 10)]


@pytest.mark.parametrize(("sources", "chosen"), [("abc", False), ("abcd", True)])
def test_the_model_that_predicts_is_of_the_kind_whose_errors_are_told(sources: str, chosen: bool) -> None:
    rng = np.random.default_rng(6)
    source, method = zip(*[(s, m) for s in sources for m in ("dc", "dm") for _ in range(2)], strict=True)
    x = rng.uniform(0.3, 0.6, len(source))
    exact = points(x, 0.8 * x + 0.2 * (np.array(method) == "dm"), source, list(method))
    model, told = prediction.fitted(exact), prediction.tested(exact)
    assert model.terms == (("method",) if chosen else ()) and told is not None
    assert prediction.scored(exact, model.predict(exact)).rmse == pytest.approx(told.model.rmse, abs=0.02)
    assert (told.model.rmse < 1e-9) == chosen


def test_scores_without_a_guess_that_errs_have_no_r2() -> None:
    assert math.isnan(prediction.scored(points([0.1], [0.2], ["a"]), np.array([0.2])).r2)
