"""The quality gate: which candidates are left out before any choice, because they do not look like their class.

Shapes: n candidates, t real train tiles, d features, k classes.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from stages import classifiers, images, models, store
from stages.contracts import Engine, UserError
from stages.settings import Settings

if TYPE_CHECKING:
    from stages.features.distances import Vectors

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
CHUNK = 1024
"""Candidates that are decoded and shown to the judge at once."""
DOUBTED, OUTSIDE = "the judge doubts its class", "outside the real manifold"
"""Why a candidate was left out, in `communities.parquet`; the first reason counts."""


class GateSettings(Settings):
    """What a candidate must pass to be chosen from. Off by default."""

    agreement: float | None = Field(None, ge=0, le=1)
    """Least calibrated probability of a candidate's own class, by the judge's grey twin where it exists, else by the
    judge; None: it is not asked. The twin is the row `judge_grey` of the benchmark's contestant all_real (the judge:
    `judge`). It does not grade: the benchmark trains networks of its own on each contestant. Its agreement with the
    tiles chosen is no evidence any more, though, as they were chosen by it."""
    manifold: bool = False
    """Whether candidates are left out that no real train tile's ball holds, which reaches to its `neighbours`-th
    nearest other one (Kynkäänniemi et al. 2019), by the embedding's features. Copies of real tiles make small balls;
    and it favours what is near to real train tiles, which the audit must then clear."""
    neighbours: int = Field(3, ge=1, le=200)
    """Which of its nearest a real tile's ball reaches to."""

    @property
    def off(self) -> bool:
        """Whether everything passes."""
        return self.agreement is None and not self.manifold


class Gate(NamedTuple):
    """Who is left out, and what to tell of it."""

    doubted_n: Bools
    outside_n: Bools
    told: dict[str, Any] | None
    """Which classifier, and how many of each class by reason; None where the gate is off."""

    def left(self, rows_n: Ints) -> Ints:
        """Those of `rows_n` that passed."""
        return rows_n[~(self.doubted_n | self.outside_n)[rows_n]]

    def explain(self, rows_n: Ints, reasons: Sequence[str]) -> list[str]:
        """Why every candidate was chosen or not: for those left out here, because of what."""
        words_n = np.select([self.doubted_n, self.outside_n], [DOUBTED, OUTSIDE], default="")[rows_n]
        return [str(word) or reason for word, reason in zip(words_n, reasons, strict=True)]

    def blame(self, label: int) -> str:
        """For an error: how many of a class were left out, and by which setting; empty where none were."""
        of_class = None if self.told is None else list(self.told["left_out"].values())[label]
        settings = {DOUBTED: "selection.gate.agreement", OUTSIDE: "selection.gate.manifold"}
        parts = [f"{of_class[why]} by {name}" for why, name in settings.items() if of_class and of_class[why]]
        return f" ({' and '.join(parts)} left out)" if parts else ""


def judged(
    settings: GateSettings,
    candidates: Path,
    vectors: Mapping[str, Any],
    judge: Path | None,
    kept_n: Bools,
    engine: Engine,
) -> Gate:
    """Show all candidates the gate.

    Args:
        settings: of the gate.
        candidates: their image set.
        vectors: the embedding's, of candidates (candidates_nd) and real train tiles (train_td, as train_nd).
        judge: the judge's result; needed for the agreement.
        kept_n: candidates that a person keeps; they pass.
        engine: shows the candidates to the judge, chunk by chunk.

    Raises:
        UserError: the judge knows other classes, or there are too few real tiles.
    """
    table, classes = images.read_table(candidates)
    labels_n = table["label"].to_numpy(np.int64)
    doubted_n, outside_n = np.zeros(len(table), bool), np.zeros(len(table), bool)
    if settings.off:
        return Gate(doubted_n, outside_n, None)
    network = None
    if settings.agreement is not None:
        assert judge is not None, "the story gives the judge to a selection that asks it"
        network = "grey" if (judge / "grey").exists() else "colour"
        p_n = _own_class(judge / network, candidates, labels_n, classes, engine)
        doubted_n = (p_n < settings.agreement) & ~kept_n
    if settings.manifold:
        outside_n = _outside(vectors["candidates_nd"], vectors["train_nd"], settings.neighbours) & ~kept_n
    left_out = {
        name: {
            DOUBTED: int((doubted_n & (labels_n == label)).sum()),
            OUTSIDE: int((outside_n & ~doubted_n & (labels_n == label)).sum()),
        }
        for label, name in enumerate(classes)
    }
    return Gate(doubted_n, outside_n, {"classifier": network, "left_out": left_out})


def _own_class(folder: Path, candidates: Path, labels_n: Ints, classes: Sequence[str], engine: Engine) -> Floats:
    """The calibrated probability that one of the judge's networks gives every candidate's own class, to 6 digits."""
    known = store.read_json(folder / "network.json")["classes"]
    if list(known) != list(classes):
        raise UserError(f"The judge knows the classes {known}, the candidates have {list(classes)}.")
    starts = range(0, len(labels_n), CHUNK)
    chunks = [np.arange(start, min(start + CHUNK, len(labels_n))) for start in starts]
    p_nk = np.concatenate(list(engine.map(partial(ask, folder, candidates), chunks)))
    return np.asarray(p_nk[np.arange(len(p_nk)), labels_n].round(6), np.float64)


def ask(folder: Path, candidates: Path, rows_n: Ints) -> Floats:
    """What one of the judge's networks says of the candidates at `rows_n`, at the temperature that fits val; n × k."""
    from stages.classify import networks
    from stages.classify.calibration import soften

    network, facts = models.read_network(folder, networks.build)
    shown = images.read(candidates, rows=rows_n)
    p_nk = classifiers.ask(network, facts, shown.pixels_nhwc, bf16=False)
    return soften(np.log(np.maximum(p_nk, np.finfo(np.float64).tiny)), float(facts["temperature"]))


def _outside(candidates_nd: "Vectors", train_td: "Vectors", neighbours: int) -> Bools:
    """Which candidates no real tile's ball holds."""
    from stages.features.distances import check_clouds
    from stages.features.manifold import inside

    if len(train_td) <= neighbours:
        raise UserError(
            f"selection.gate.neighbours is {neighbours}, but there are only {len(train_td)} real train tiles: lower it"
        )
    x_nd, real_td = check_clouds(candidates_nd, train_td)
    return ~inside(x_nd, real_td, neighbours)
