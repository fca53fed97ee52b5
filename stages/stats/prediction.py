"""Predicting what a distilled set will reach from what a random real subset of its size reaches.

A linear model distilled ~ random, with terms for the method and for log10 of the images per class where they help, is
tested by leaving one source out: nothing of the source that is predicted, nor of its class subsets, was learned from.
So are two guesses: that the distilled set does as well as the random subset, and that it does as the others' mean.
Shapes: n points (a task × method × size), p columns.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from stages.stats.intervals import Interval

Floats = npt.NDArray[np.float64]
Names = npt.NDArray[np.str_]
Terms = tuple[str, ...]
TERMS: tuple[Terms, ...] = ((), ("method",), ("size",), ("method", "size"))
"""What a model may know beside the random subset; of equal errors the first wins."""
LEAST_TO_CHOOSE = 3
"""Sources without which terms are not chosen: there are none then. See `fitted` for the final model."""


class Points(NamedTuple):
    """What is known of every task, method and size."""

    random_n: Floats
    """What a random real subset reaches."""
    distilled_n: Floats
    """What the distilled set of the same size reaches."""
    method_n: Names
    """How it was distilled."""
    per_class_n: Floats
    """Images per class."""
    source_n: Names
    """Where the task comes from."""

    def where(self, keep_n: npt.NDArray[np.bool_]) -> "Points":
        """Some of them."""
        x_n, y_n, method_n, per_class_n, source_n = self
        return Points(x_n[keep_n], y_n[keep_n], method_n[keep_n], per_class_n[keep_n], source_n[keep_n])


class Model(NamedTuple):
    """distilled = intercept + slope · random + …"""

    terms: Terms
    methods: tuple[str, ...]
    """Those with a term of their own; the first is the one the intercept belongs to."""
    beta_p: Floats
    """Intercept, slope, then a shift for each further method, then that for a tenfold size."""

    def predict(self, points: Points) -> Floats:
        """What it expects of every point, within 0 … 1; a method it does not know counts as its first."""
        return np.clip(design(points, self.terms, self.methods) @ self.beta_p, 0, 1)

    @property
    def named(self) -> dict[str, float]:
        """The coefficients by name."""
        names = ["intercept", "random"]
        names += [f"method {name}" for name in self.methods[1:]] if "method" in self.terms else []
        names += ["log10 images per class"] if "size" in self.terms else []
        return dict(zip(names, self.beta_p.tolist(), strict=True))


class Scores(NamedTuple):
    """How well a way to predict did."""

    mae: float
    """Mean absolute error, every source counting alike."""
    rmse: float
    """Root mean squared error, every source counting alike."""
    r2: float
    """1 − squared error / that of the mean of the others; NaN where that is without error."""


class Beyond(NamedTuple):
    """A range that was studied and that a new task lies outside of."""

    what: str
    """"random": what a random subset reaches; "size": images per class."""
    methods: tuple[str, ...]
    """Those that were studied over just this range."""
    low: float
    high: float


class Tested(NamedTuple):
    """The test by leaving one source out."""

    model: Scores
    """Its terms chosen without the source that is left out."""
    same: Scores
    """Guess: as the random subset."""
    mean: Scores
    """Guess: as the mean of the other sources, of the same method and size where they have it."""
    predicted_n: Floats
    """What the model expected of every point."""


def design(points: Points, terms: Terms, methods: tuple[str, ...]) -> Floats:
    """The matrix of a model, n × p."""
    columns = [np.ones(len(points.random_n)), points.random_n]
    if "method" in terms:
        columns += [(points.method_n == name).astype(np.float64) for name in methods[1:]]
    if "size" in terms:
        columns.append(np.log10(points.per_class_n))
    return np.stack(columns, axis=1)


def fit(points: Points, terms: Terms = ()) -> Model:
    """Least squares, the shortest solution where several fit; every source counts alike, however many its points."""
    methods = tuple(np.unique(points.method_n).tolist())
    root_n = np.sqrt(weights(points.source_n))
    x_np = design(points, terms, methods)
    beta_p, *_ = np.linalg.lstsq(x_np * root_n[:, None], points.distilled_n * root_n, rcond=None)
    return Model(terms, methods, beta_p.astype(np.float64))


def fitted(points: Points) -> Model:
    """The model for tasks of new sources: the one whose errors `tested` and `interval` tell.

    A fold of that test has a source fewer, so terms are chosen only where each fold chooses its own as well: else the
    errors would be those of a plainer kind of model than the one that predicts.
    """
    enough = len(np.unique(points.source_n)) > LEAST_TO_CHOOSE
    return fit(points, choose_terms(points) if enough else ())


def weights(source_n: Names) -> Floats:
    """A weight for every point, 1 for each source and in all the number of points."""
    names, index_n, counts = np.unique(source_n, return_inverse=True, return_counts=True)
    return (len(source_n) / (len(names) * counts))[index_n]


def left_out(points: Points, terms: Terms | None = None) -> Floats:
    """What a model without the point's source expects of every point.

    Args:
        points: of two sources or more.
        terms: of the model; None: chosen anew for each source from the others alone.
    """
    predicted_n = np.full(len(points.random_n), math.nan)
    for source in np.unique(points.source_n):
        out_n = points.source_n == source
        others = points.where(~out_n)
        model = fit(others, choose_terms(others) if terms is None else terms)
        predicted_n[out_n] = model.predict(points.where(out_n))
    return predicted_n


def choose_terms(points: Points) -> Terms:
    """The terms whose model has the least squared error on sources that are left out; none where sources are few."""
    if len(np.unique(points.source_n)) < LEAST_TO_CHOOSE:
        return ()
    errors = [scored(points, left_out(points, terms)).rmse for terms in TERMS]
    return TERMS[int(np.argmin(np.round(errors, 12)))]


def others_mean(points: Points) -> Floats:
    """The mean of the other sources, of the same method and size where they have it, for every point."""
    found = []
    for source, method, count in zip(points.source_n, points.method_n, points.per_class_n, strict=True):
        others = points.where(points.source_n != source)
        alike = others.where((others.method_n == method) & (others.per_class_n == count))
        used = alike if len(alike.random_n) else others
        found.append(float(np.average(used.distilled_n, weights=weights(used.source_n))))
    return np.array(found)


def scored(points: Points, predicted_n: Floats, guess_n: Floats | None = None) -> Scores:
    """Errors of predictions; R² against `guess_n`, by default the mean of the others."""
    weight_n = weights(points.source_n)
    error_n = predicted_n - points.distilled_n
    squared = float(np.average(error_n**2, weights=weight_n))
    guess = 0.0 if guess_n is None else float(np.average((guess_n - points.distilled_n) ** 2, weights=weight_n))
    r2 = 1 - squared / guess if guess > 1e-12 else math.nan
    return Scores(float(np.average(np.abs(error_n), weights=weight_n)), math.sqrt(squared), r2)


def tested(points: Points) -> Tested | None:
    """How well the model and two guesses predict a source they have not seen; None of fewer than two sources."""
    if len(np.unique(points.source_n)) < 2:
        return None
    predicted_n, mean_n = left_out(points), others_mean(points)
    model, same, mean = (scored(points, each, mean_n) for each in (predicted_n, points.random_n, mean_n))
    return Tested(model, same, mean, predicted_n)


def source_rmse(points: Points, predicted_n: Floats) -> tuple[float, int]:
    """Root mean squared error over sources, each by the mean square of its points; and how many sources."""
    sources = np.unique(points.source_n)
    squares = [float(np.mean((predicted_n - points.distilled_n)[points.source_n == s] ** 2)) for s in sources]
    return math.sqrt(float(np.mean(squares))), len(sources)


def interval(points: Points, model: Model, new: Points, level: float = 0.95) -> list[Interval]:
    """What a model expects of tasks from a new source, with a prediction interval.

    Half its width is t_{S−1} · RMS of the errors on the S sources that were left out in turn: all points of a source
    are taken to err together, so a source counts once, and errors to be normal. A rank interval without that
    assumption (split conformal, Vovk et al. 2005) does not exist at 95 % below 19 sources.

    Args:
        points: what was studied; of two sources or more.
        model: of `fitted` on them.
        new: the tasks to be predicted; what they reach and where they come from is not looked at.
        level: coverage aimed at.

    Raises:
        ValueError: fewer than two sources.
    """
    if len(np.unique(points.source_n)) < 2:
        raise ValueError("a prediction interval needs tasks of two sources or more")
    error, sources = source_rmse(points, left_out(points))
    half = float(stats.t.ppf((1 + level) / 2, sources - 1)) * error
    return [Interval(v, max(0.0, v - half), min(1.0, v + half)) for v in model.predict(new).tolist()]


def outside(points: Points, methods: Sequence[str], value: float, per_class: float) -> list[Beyond]:
    """The ranges that a new task lies outside of, method by method; those of methods with one range are one.

    Args:
        points: what was studied.
        methods: what the new task is foretold of; each has points.
        value: what a random subset of the new task reaches.
        per_class: images per class.
    """
    found: dict[tuple[str, float, float], list[str]] = {}
    for what, given in (("random", value), ("size", per_class)):
        for method in methods:
            of = points.where(points.method_n == method)
            studied = of.random_n if what == "random" else of.per_class_n
            low, high = float(studied.min()), float(studied.max())
            if not low <= given <= high:
                found.setdefault((what, low, high), []).append(method)
    return [Beyond(what, tuple(names), low, high) for (what, low, high), names in found.items()]
