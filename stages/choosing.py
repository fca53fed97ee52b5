"""How the candidates of one class are chosen from: the settings, and the way from vectors to the chosen.

Shapes: n candidates of one class in the order of their content, d features, s chosen, m communities.
"""

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from stages.contracts import UserError
from stages.settings import Settings
from stages.streams import derive, numpy_stream

if TYPE_CHECKING:
    from stages.graph import detection
    from stages.graph.communities import Partition
    from stages.graph.knn import Graph, Neighbours
    from stages.graph.representing import Chosen
    from stages.graph.search import Search

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
DETECTORS = ("infomap", "leiden", "louvain", "label_propagation", "spectral")
WORDS = {
    "random": ("drawn by lot", "not drawn"),
    "kmeans": ("medoid of a k-means cluster", "not a medoid"),
    "k_center": ("farthest from those before it", "near to one taken"),
    "herding": ("brings the mean nearest to the mean of all", "not needed for the mean"),
    "facility_location": ("nearest to many not near yet", "near enough to one taken"),
    "probability_cover": ("covers most of those not covered yet", "not needed to cover"),
}
"""Why a baseline chose a candidate, and why not."""


class ChoosingSettings(Settings):
    """How the graph is drawn, how it is cut, who stands for a community, and how many tiles are kept."""

    method: Literal[
        "infomap",
        "leiden",
        "louvain",
        "label_propagation",
        "spectral",
        "random",
        "kmeans",
        "k_center",
        "herding",
        "facility_location",
        "probability_cover",
    ] = "infomap"
    """The first five find communities in the graph, and the most central of each are chosen, by quota. The others look
    at vectors alone: by lot, medoids of k-means, the farthest next, the mean, and two ways to cover all."""
    per_class: int = Field(50, ge=1, le=100_000)
    """Tiles kept of every class."""
    graph: Literal["directed", "mutual", "symmetric", "umap", "infodist_fixed", "infodist_median"] = "directed"
    """`directed`: every candidate points at its nearest, weights by its own scale; `mutual` keeps edges both ends want,
    `symmetric` those either wants; `umap`: its fuzzy graph; the last two are the rule of the InfoDist code with its two
    thresholds, for reproduction: they compare all pairs, and degenerate easily."""
    neighbours: int = Field(10, ge=1, le=200)
    """Nearest neighbours every candidate points at."""
    exact_to: int = Field(20_000, ge=1, le=1_000_000)
    """Candidates of a class up to which neighbours are searched exactly; above, approximately, with measured recall."""
    trials: int = Field(5, ge=1, le=100)
    """Runs of Infomap, of which the shortest description wins."""
    levels: Literal["two", "coarsest", "finest"] = "two"
    """Whether Infomap looks for one level of communities, or nests them and the coarsest or the finest level counts."""
    markov_time: float = Field(1.0, gt=0, le=100)
    """Steps of Infomap's walk per code word; more make fewer, larger communities."""
    resolution: float = Field(1.0, gt=0, le=1000)
    """Of Leiden; more makes more, smaller communities."""
    spectral_communities: int = Field(10, ge=1, le=10_000)
    """Communities that `spectral` makes."""
    stability_seeds: int = Field(3, ge=1, le=50)
    """Seeds whose partitions are compared to tell how stable communities are; 1 to leave it out. All but the first get
    a single run of Infomap, so what is told is rather too low than too high."""
    representative: Literal["modular_centrality", "flow", "pagerank", "degree", "medoid", "typicality"] = (
        "modular_centrality"
    )
    """Which candidates stand best for their community: by their part in Infomap's code, the walk's time there,
    PageRank, the weight that arrives, the distance to all members, or the distance to their neighbours."""
    central_share: float = Field(0.0, ge=0, le=1)
    """Share of a community, most central first, among which the farthest from those taken comes next; 0: by centrality
    alone."""
    near_identical: float = Field(0.1, ge=0, le=10)
    """Two candidates nearer to one another than this never both stand for communities; in units of the median distance
    to the nearest neighbour. 0 to allow it."""
    quota: Literal["equal", "proportional", "sqrt", "uncertainty"] = "equal"
    """What the share of a community goes by: nothing, its size, its root, or the judge's mean entropy there."""
    smallest_community: int = Field(3, ge=1, le=1000)
    """Communities with fewer candidates are outliers: not represented, unless needed to reach `per_class`."""
    kmeans_starts: int = Field(4, ge=1, le=100)
    """Runs of k-means, of which the tightest wins."""


class Choice(NamedTuple):
    """What was decided in one class; row numbers are places among the nodes of that class."""

    search: "Search"
    graph: "Graph"
    partition: "Partition"
    again: list[Ints]
    """Partitions of the same graph from other seeds."""
    score_n: Floats
    """What representatives go by; higher is better."""
    chosen_s: Ints
    reason_n: list[str]


def choose(
    settings: ChoosingSettings,
    vectors_nd: npt.NDArray[np.floating],
    seed: int,
    name: str,
    doubt_n: Floats | None = None,
) -> Choice:
    """Choose among the candidates of the class called `name`, given in the order of their content.

    Args:
        settings: how.
        vectors_nd: of the candidates.
        seed: of the selection; every part has a stream of its own.
        name: of the class.
        doubt_n: uncertainty about every candidate; for the quota by uncertainty.

    Raises:
        UserError: settings that these candidates cannot meet.
    """
    from stages.graph import baselines, centrality, detection, search

    x_nd = np.asarray(vectors_nd, np.float64)
    found = search.nearest(x_nd, settings.neighbours, derive(seed, "neighbours", name), settings.exact_to)
    graph = draw(settings, x_nd, found.neighbours)
    detector: detection.Detector = "infomap"
    if settings.method in DETECTORS:
        detector = settings.method  # type: ignore[assignment] # narrowed by the line above
    first = _detected(settings, graph, detector, derive(seed, detector, name), settings.trials)
    again = [
        _detected(settings, graph, detector, derive(seed, detector, name, turn), trials=1).community_n
        for turn in range(1, settings.stability_seeds)
    ]
    score_n = centrality.scores(settings.representative, x_nd, found.neighbours, graph, first)
    about = Choice(found, graph, first, again, score_n, np.zeros(0, np.int64), [])
    if settings.method in DETECTORS:
        return _by_community(settings, x_nd, about, name, doubt_n)
    stream = numpy_stream(seed, settings.method, name)
    baseline: baselines.Baseline = settings.method  # type: ignore[assignment] # all that are not detectors
    chosen_s = baselines.choose(baseline, x_nd, settings.per_class, stream, settings.kmeans_starts)
    taken, left = WORDS[settings.method]
    reason_n = np.where(np.isin(np.arange(len(x_nd)), chosen_s), taken, left)
    return about._replace(chosen_s=chosen_s, reason_n=reason_n.tolist())


def draw(settings: ChoosingSettings, x_nd: Floats, neighbours: "Neighbours") -> "Graph":
    """The graph of the candidates by the rule in the settings."""
    from stages.graph import infodist_rule, knn, variants

    match settings.graph:
        case "directed":
            return knn.neighbour_graph(neighbours)
        case "mutual":
            return variants.mutual(knn.neighbour_graph(neighbours))
        case "symmetric":
            return variants.symmetric(knn.neighbour_graph(neighbours))
        case "umap":
            return variants.fuzzy(neighbours)
        case "infodist_fixed":
            return infodist_rule.infodist_original(x_nd, "fixed")
        case "infodist_median":
            return infodist_rule.infodist_original(x_nd, "median")


def _detected(
    settings: ChoosingSettings, graph: "Graph", detector: "detection.Detector", seed: int, trials: int
) -> "Partition":
    """The communities of the graph; those of one seed."""
    from stages.graph import detection

    if detector == "spectral" and settings.spectral_communities >= graph.nodes:
        raise UserError(
            f"selection.spectral_communities is {settings.spectral_communities}, but a class has only {graph.nodes} "
            "different candidates: lower it"
        )
    return detection.detect(
        graph,
        detector,
        seed,
        trials=trials,
        levels=settings.levels,
        markov_time=settings.markov_time,
        resolution=settings.resolution,
        communities=settings.spectral_communities,
    )


def _by_community(settings: ChoosingSettings, x_nd: Floats, about: Choice, name: str, doubt_n: Floats | None) -> Choice:
    """The most central of every community, by quota."""
    from stages.graph import quotas, representing

    neighbours, partition = about.search.neighbours, about.partition
    community_n, wanted = partition.community_n, settings.per_class
    place_n = quotas.by_centrality(community_n, about.score_n, partition.flow_n)
    if settings.central_share > 0:
        place_n = representing.spread_places(x_nd, community_n, place_n, settings.central_share, wanted)
    doubt_m = None if doubt_n is None else np.bincount(community_n, weights=doubt_n) / partition.sizes_m
    weight_m = quotas.share_weights(settings.quota, partition.sizes_m, settings.smallest_community, doubt_m)
    apart = settings.near_identical * representing.typical_gap(neighbours)
    try:
        found = representing.represent(x_nd, neighbours, community_n, place_n, weight_m, wanted, apart)
    except ValueError as error:
        raise UserError(
            f"class {name}: {error}. Lower selection.per_class or selection.near_identical "
            f"({settings.near_identical}), or raise candidates.per_class"
        ) from error
    return about._replace(chosen_s=found.chosen_s, reason_n=_reasons(found))


def _reasons(found: "Chosen") -> list[str]:
    """Why every candidate was chosen, or was not."""
    chosen_n = np.isin(np.arange(len(found.place_n)), found.chosen_s)
    kinds = [chosen_n & found.outlier_n, chosen_n & found.fair_n, chosen_n, found.twin_n, found.outlier_n]
    words = [
        "outlier, to fill up",
        "quota of its community",
        "shortage elsewhere",
        "near-identical to one before it",
        "outlier",
    ]
    reasons: list[str] = np.select(kinds, words, default="beyond the quota of its community").tolist()
    return reasons
