"""From findings to a verdict: a table of rules, read from the top. Never a word of anonymity: only measured risks.

NO-GO: do not share. REVIEW: a person responsible must look and decide. GO: nothing was found by an audit that has
shown that it would have found planted copies.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

Word = Literal["GO", "REVIEW", "NO-GO"]


class Evidence(NamedTuple):
    """All that the verdict depends on."""

    audited: int
    """Released tiles audited."""
    exact_copies: int = 0
    near_copies: bool = False
    """Significantly near copies among the released tiles."""
    excess: bool = False
    """Significantly more released tiles near train than near an equal-size control."""
    soft: tuple[str, ...] = ()
    """Names of significant softer tests on the released tiles."""
    common: int = 0
    """Released tiles as near to a control tile as to a train tile, both beyond the threshold."""
    candidates: tuple[str, ...] = ()
    """Names of significant hard tests on all candidates."""
    control_groups: int = 0
    twin_share: float = 0.0
    """Share of control groups that have a near copy among the train tiles."""
    unmatched: int = 0
    """Classes without control groups."""
    power: float | None = None
    """Share of sets with planted copies in which the audit alarmed; None: not measured."""
    false_alarms: tuple[str, ...] = ()
    """Names of hard tests that alarmed on hold-out tiles."""
    soft_labels: bool = False
    """Whether the selection carries class probabilities of a network that was trained on the private tiles."""


class Limits(NamedTuple):
    """What the verdict asks of an audit."""

    tiles: int = 300
    control_groups: int = 20
    power: float = 0.8
    twin_share: float = 0.05


class Rule(NamedTuple):
    """One line of the table."""

    name: str
    word: Word
    applies: Callable[[Evidence, Limits], bool]
    reason: Callable[[Evidence, Limits], str]


class Verdict(NamedTuple):
    """The word, and every reason for it that is as grave as the word itself, then the lesser ones."""

    word: Word
    reasons: tuple[str, ...]


RULES: tuple[Rule, ...] = (
    Rule(
        "exact copies",
        "NO-GO",
        lambda e, _: e.exact_copies > 0,
        lambda e, _: f"{e.exact_copies} released tile(s) show exactly the pixels of a real training tile.",
    ),
    Rule(
        "near copies",
        "NO-GO",
        lambda e, _: e.near_copies,
        lambda *_: "Released tiles resemble training tiles more closely than unrelated tissue ever does by chance.",
    ),
    Rule(
        "excess over control",
        "NO-GO",
        lambda e, _: e.excess,
        lambda *_: "More released tiles lie close to training tiles than to control tiles that the model never saw.",
    ),
    Rule(
        "few tiles",
        "REVIEW",
        lambda e, limits: e.audited < limits.tiles,
        lambda e, limits: (
            f"Only {e.audited} released tiles were audited; below {limits.tiles} a rare leak can go unnoticed, so "
            "that a person has to decide."
        ),
    ),
    Rule(
        "no control",
        "REVIEW",
        lambda e, _: e.control_groups == 0,
        lambda *_: "There are no control tiles: nothing tells how alike unrelated tissue is.",
    ),
    Rule(
        "few control groups",
        "REVIEW",
        lambda e, limits: 0 < e.control_groups < limits.control_groups,
        lambda e, limits: (
            f"Only {e.control_groups} control groups (patients, slides); {limits.control_groups} are wanted."
        ),
    ),
    Rule(
        "classes without control",
        "REVIEW",
        lambda e, _: e.control_groups > 0 and e.unmatched > 0,
        lambda e, _: f"{e.unmatched} class(es) have training groups but no control groups.",
    ),
    Rule(
        "leaking split",
        "REVIEW",
        lambda e, limits: e.twin_share > limits.twin_share,
        lambda e, _: (
            f"{e.twin_share:.0%} of the control groups have near copies among the training tiles: the division into "
            "groups does not keep people apart."
        ),
    ),
    Rule(
        "power not measured",
        "REVIEW",
        lambda e, _: e.power is None,
        lambda *_: "It was not measured whether this audit would find planted copies.",
    ),
    Rule(
        "low power",
        "REVIEW",
        lambda e, limits: e.power is not None and e.power < limits.power,
        lambda e, limits: (
            f"The audit noticed planted copies in only {e.power:.0%} of the trials; {limits.power:.0%} are wanted. "
            "That it found nothing means little."
        ),
    ),
    Rule(
        "false alarms",
        "REVIEW",
        lambda e, _: bool(e.false_alarms),
        lambda e, _: (
            f"The audit also alarms on real tiles that were not trained on ({_names(e.false_alarms)}): the division "
            "into groups leaks, or the alarm is false."
        ),
    ),
    Rule(
        "candidates",
        "REVIEW",
        lambda e, _: bool(e.candidates),
        lambda e, _: f"Among all candidates, released or not, the audit alarms ({_names(e.candidates)}).",
    ),
    Rule(
        "soft signals",
        "REVIEW",
        lambda e, _: bool(e.soft),
        lambda e, _: f"The released tiles as a whole lean towards the training tiles ({_names(e.soft)}).",
    ),
    Rule(
        "common pictures",
        "REVIEW",
        lambda e, _: e.common > 0,
        lambda e, _: (
            f"{e.common} released tile(s) are as near to a control tile as to a training tile: probably a common "
            "picture, but someone should look."
        ),
    ),
    Rule(
        "soft labels",
        "REVIEW",
        lambda e, _: e.soft_labels,
        lambda *_: (
            "The selection carries soft labels. They come from a network that was trained on the private tiles and "
            "tell more of them than class names do; this audit looked at images alone. A release leaves them out "
            "unless it was asked for them."
        ),
    ),
)


def verdict(evidence: Evidence, limits: Limits) -> Verdict:
    """Read the table: the gravest rule that applies gives the word, all that apply give reasons, gravest first."""
    found = [rule for rule in RULES if rule.applies(evidence, limits)]
    if not found:
        return Verdict("GO", ("Every test passed, and the audit has shown that it would have noticed planted copies.",))
    word: Word = "NO-GO" if any(rule.word == "NO-GO" for rule in found) else "REVIEW"
    return Verdict(word, tuple(rule.reason(evidence, limits) for rule in found))


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(name.replace("_", " ") for name in names)
