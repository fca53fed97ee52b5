"""The findings in plain sentences for a data protection officer."""

from collections.abc import Mapping

from stages.privacy.battery import Finding
from stages.privacy.intervals import upper_bound

NOT_TESTED = (
    "attacks on the generating model itself: it is not released, and this audit looks at images alone",
    "whether membership of a patient can be guessed from the whole set (membership attacks), and linkage to a patient "
    "through traits that no picture shows twice",
    "likeness that survives strong change: of training tiles cropped by more than a tenth or turned by odd angles of "
    "more than about ten degrees the audit misses many",
    "linking with other data that a recipient may hold, and what class names give away",
)
SOFT_LABELS = (
    "what soft labels give away: they are the outputs of a network trained on the private tiles, and attacks through "
    "such outputs (membership, reconstruction) were not tried"
)

METHOD = (
    "Train and control are compared with equal numbers of groups of every class (the average over all draws of that "
    "many groups, computed exactly, or over seeded draws); p-values come from exchanging the roles of whole groups; "
    "intervals from those exchanges together with a bootstrap of whole groups. Thresholds come from how near real "
    "tiles come to training tiles of other groups. The chance of any false alarm among the tests that decide a NO-GO "
    "is held at the level by Holm's correction, and likewise among those that ask for a REVIEW."
)


def not_tested(soft_labels: bool) -> list[str]:
    """What the audit did not try, given whether the selection carries soft labels."""
    return [*NOT_TESTED, SOFT_LABELS] if soft_labels else list(NOT_TESTED)


def meanings(found: Mapping[str, Finding], tiles: int) -> dict[str, str]:
    """One sentence or two for every test, true of its outcome."""
    sentences = {
        "exact_copies": _exact,
        "near_copies": _near,
        "excess_over_control": _excess,
        "closer_to_train": _closer,
        "nearest_ratio": _ratio,
        "inauthentic": _inauthentic,
    }
    return {name: sentences[name](finding, tiles) for name, finding in found.items()}


def zero_of(tiles: int) -> str:
    """What finding no copy among so many tiles supports."""
    return (
        f"No copy among {tiles} tiles supports, at 95 % confidence, that the generator puts out copies at a rate below "
        f"{upper_bound(0, tiles):.2%} (exact binomial bound; the rule of three gives {3 / tiles:.2%})."
    )


def _exact(finding: Finding, tiles: int) -> str:
    count = round(finding.value * tiles)
    if count == 0:
        return f"None of the {tiles} released tiles shows the pixels of a training tile, in any of the 8 orientations."
    return f"{count} of {tiles} released tiles are training tiles, pixel for pixel, perhaps turned or mirrored."


def _near(finding: Finding, tiles: int) -> str:
    count = round(finding.value * tiles)
    if count == 0:
        return (
            "No released tile resembles a training tile more than unrelated tissue does; slightly changed training "
            "tiles were planted to see whether they would be noticed (see power)."
        )
    return (
        f"{count} of {tiles} released tiles resemble a training tile so closely that chance does not explain it; look "
        "at the pairs."
    )


def _excess(finding: Finding, _: int) -> str:
    return (
        f"Of the released tiles, {_points(finding.value)} lie close to training tiles than to equally many control "
        "tiles from people the model never saw. Without leakage the difference is about nought; by the definition of "
        "close, 5 % of real control tiles would count."
    )


def _closer(finding: Finding, _: int) -> str:
    return (
        f"A released tile has its nearest real tile among the training groups in {finding.value:.0%} of equal-size "
        "comparisons; 50 % would be a coin's toss."
    )


def _ratio(finding: Finding, _: int) -> str:
    return (
        f"In {finding.value:.0%} of comparisons a released tile clings more to one single training tile than to one "
        "single control tile (nearest over second nearest distance); 50 % would be a coin's toss."
    )


def _inauthentic(finding: Finding, _: int) -> str:
    return (
        "Share of released tiles that are nearer to a training tile than that tile is to any other real tile, over the "
        f"same share for control tiles: {_points(finding.value)}. Without leakage about nought."
    )


def _points(gap: float) -> str:
    return f"{abs(gap) * 100:.1f} percentage points {'more' if gap >= 0 else 'fewer'}"
