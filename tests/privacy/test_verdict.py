from itertools import product

import pytest

from stages.privacy.verdict import RULES, Evidence, Limits, Rule, verdict

CLEAN = Evidence(audited=300, control_groups=80, power=1.0)
LIMITS = Limits()
TRIGGERS: dict[str, dict[str, object]] = {
    "exact copies": {"exact_copies": 1},
    "near copies": {"near_copies": True},
    "excess over control": {"excess": True},
    "few tiles": {"audited": 299},
    "no control": {"control_groups": 0},
    "few control groups": {"control_groups": 19},
    "classes without control": {"unmatched": 1},
    "leaking split": {"twin_share": 0.06},
    "power not measured": {"power": None},
    "low power": {"power": 0.79},
    "false alarms": {"false_alarms": ("near_copies",)},
    "candidates": {"candidates": ("near_copies",)},
    "soft signals": {"soft": ("closer_to_train",)},
    "common pictures": {"common": 1},
    "soft labels": {"soft_labels": True},
}


def test_every_rule_has_its_trigger_here() -> None:
    assert [rule.name for rule in RULES] == list(TRIGGERS)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_each_rule_alone_gives_its_word_and_its_reason(rule: Rule) -> None:
    found = verdict(CLEAN._replace(**TRIGGERS[rule.name]), LIMITS)
    assert found.word == rule.word
    assert len(found.reasons) == 1


def test_every_combination_takes_the_gravest_word_and_tells_all_reasons() -> None:
    for switches in product((False, True), repeat=len(RULES)):
        chosen = [rule for rule, on in zip(RULES, switches, strict=True) if on]
        changes = {key: value for rule in reversed(chosen) for key, value in TRIGGERS[rule.name].items()}
        found = verdict(CLEAN._replace(**changes), LIMITS)
        words = {rule.word for rule in chosen}
        assert found.word == ("NO-GO" if "NO-GO" in words else "REVIEW" if words else "GO")
        hidden = sum(
            a in {r.name for r in chosen} and b in {r.name for r in chosen}
            for a, b in (("no control", "few control groups"), ("power not measured", "low power"))
        )
        hidden += {"no control", "classes without control"} <= {r.name for r in chosen}
        assert len(found.reasons) == max(1, len(chosen) - hidden)


@pytest.mark.parametrize("audited", [1, 30, 150, 299])
def test_under_300_tiles_there_is_never_a_go(audited: int) -> None:
    assert verdict(CLEAN._replace(audited=audited), LIMITS).word == "REVIEW"


def test_a_clean_audit_with_power_and_control_is_a_go() -> None:
    assert verdict(CLEAN, LIMITS).word == "GO"


def test_no_sentence_promises_anonymity() -> None:
    everything = [verdict(CLEAN._replace(**change), LIMITS).reasons for change in TRIGGERS.values()]
    assert "anonym" not in str(everything).lower()
