"""The words of a release: its card with the Hugging Face head, its licence, and the page a person signs."""

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import yaml

from stages import scale_bar

LICENCES = (
    *("Apache-2.0", "BSD-3-Clause", "MIT", "CC0-1.0", "PDDL-1.0", "ODbL-1.0", "ODC-By-1.0"),
    *("CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-ND-4.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "CC-BY-NC-ND-4.0"),
    *("CDLA-Permissive-2.0", "CDLA-Sharing-1.0"),
)
"""SPDX identifiers of licences that data sets carry."""
HUB_NAMES = {"ODbL-1.0": "odbl", "ODC-By-1.0": "odc-by", "PDDL-1.0": "pddl"}
"""What the Hugging Face hub calls those that it does not call by their SPDX identifier in small letters."""
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
CONTESTANTS = {"all_real": "all real training tiles", "all_synthetic": "all candidates"}


def card(
    settings: Mapping[str, Any],
    classes: Sequence[Mapping[str, Any]],
    size_px: int,
    candidates: int,
    facts: Mapping[str, Mapping[str, Any]],
    audit: Mapping[str, Any],
    measured: Mapping[str, Any],
    changes: Mapping[str, Any] | None = None,
    mpp: float | None = None,
) -> tuple[str, str]:
    """The card (Markdown under a YAML head) and the text of the licence.

    Args:
        settings: the release's settings.
        classes: name, folder, tiles and communities of each.
        size_px: side of a tile.
        candidates: how many there were.
        facts: of the stages below, by name.
        audit: as released.
        measured: contestant -> metrics and images; empty: not benchmarked.
        changes: since the release before, of `release_changes`; None where there is none.
        mpp: micrometres per pixel of what ships; None where it is not known.
    """
    import jinja2

    n = sum(int(c["tiles"]) for c in classes)
    sentence, licence_text = licence(settings["licence"])
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    template = environment.from_string(files("stages").joinpath("release_card.md.jinja").read_text(encoding="utf-8"))
    text = template.render(
        settings=settings,
        head=head(settings, classes, n),
        classes=classes,
        n=n,
        size_px=size_px,
        scale=scale_bar.told(mpp),
        candidates=candidates,
        real=_sums(facts["tiles"], "train"),
        slides=facts["tiles"].get("slides"),
        test=_sums(facts["tiles"], "test"),
        method=facts["selection"].get("method"),
        learned=_learned(facts["selection"]),
        pins=facts["selection"].get("pins"),
        encoder=_encoder(facts["embedding"]),
        denoiser=facts["denoiser"].get("network"),
        encoder_warning=facts["embedding"].get("licence_warning"),
        soft_labels=facts["selection"].get("soft_labels") if settings.get("soft_labels") else None,
        autoencoder=_autoencoder(facts["autoencoder"]),
        benchmark=benchmark_tables(measured, settings["selection"]),
        audit={"reasons": [], "not_tested": []} | dict(audit),
        tests=[_test(test) for test in audit.get("tests", [])],
        licence=sentence,
        changes=changes,
    )
    return re.sub(r"\n{3,}", "\n\n", text), licence_text


def head(settings: Mapping[str, Any], classes: Sequence[Mapping[str, Any]], n: int) -> str:
    """The YAML that tells the Hugging Face hub and `datasets` what lies here; keys in a fixed order."""
    spdx = next((known for known in LICENCES if known.lower() == settings["licence"].strip().lower()), None)
    if spdx is None:
        licence_keys = {"license": "other", "license_name": "see-license-txt", "license_link": "LICENSE.txt"}
    else:
        licence_keys = {"license": HUB_NAMES.get(spdx, spdx.lower())}
    value = licence_keys | {
        "pretty_name": settings["title"],
        "version": settings["version"],
        "tags": ["synthetic", "histopathology", "medical", "dataset-distillation"],
        "annotations_creators": ["machine-generated"],
        "task_categories": ["image-classification"],
        "size_categories": [next((name for limit, name in SIZES if n < limit), "n>1M")],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": ["train/**/*.png", "train/metadata.parquet"]}],
            }
        ],
    }
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1000)


def licence(given: str) -> tuple[str, str]:
    """A sentence for the card and the text of LICENSE.txt, from an SPDX identifier or from the licence itself."""
    given = given.strip()
    spdx = next((known for known in LICENCES if known.lower() == given.lower()), None)
    if spdx is not None:
        address = f"https://spdx.org/licenses/{spdx}.html"
        text = f"SPDX-License-Identifier: {spdx}\n\nThis data set is licensed under {spdx}. The full text: {address}\n"
        return f"[{spdx}]({address}).", text
    return (f"{given}." if len(given) < 80 and "\n" not in given else "Terms of its own."), given + "\n"


def benchmark_tables(measured: Mapping[str, Any], shipped: str) -> list[dict[str, Any]]:
    """A table for each network: a row for each contestant, a cell for each metric with its interval."""
    titles = _titles(measured)
    named = {network for of in measured.values() for network in of["metrics"]}
    networks = sorted(named, key=lambda network: ([*titles, network].index(network), network))
    tables = []
    for network in networks:
        results = {
            name: of["metrics"][network].get("test", {}) for name, of in measured.items() if network in of["metrics"]
        }
        metrics = list(dict.fromkeys(metric for values in results.values() for metric in values))
        rows = [
            {
                "name": f"**{name} (this release)**" if name == shipped else CONTESTANTS.get(name, name),
                "images": said(measured[name]["images"]),
                "cells": [_interval(values.get(metric)) for metric in metrics],
            }
            for name, values in results.items()
        ]
        heads = [metric.replace("_", " ") for metric in metrics]
        tables.append({"name": network, "title": titles.get(network, network), "metrics": heads, "rows": rows})
    return tables


def _titles(measured: Mapping[str, Any]) -> dict[str, str]:
    """What each network is, in the order of their results, each before its soft twin; colour and the judge last."""
    told: dict[str, str] = {}
    for of in sorted(measured.values(), key=lambda of: -len(of.get("networks") or [])):
        told |= {row["name"]: row["title"] for row in of.get("networks") or [] if row["name"] not in told}
    last = ("colour", "judge", "judge_grey")
    named = [name.removesuffix("_soft") for name in told]
    places = {name: (name in last and last.index(name) + 1, named.index(name.removesuffix("_soft"))) for name in told}
    return {name: told[name] for name in sorted(told, key=lambda name: (places[name], name))}


def said(value: Any) -> str:
    """A JSON value as people write it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _interval(value: Any) -> str:
    if not isinstance(value, Mapping):
        return said(value)
    return f"{said(value.get('value'))} [{said(value.get('low'))}, {said(value.get('high'))}]"


def _sums(tiles: Mapping[str, Any], role: str) -> dict[str, int]:
    """Tiles of a role, and groups; a group of two classes counts once where the facts tell so."""
    groups = tiles.get("groups_in_all", {}).get(role, sum(tiles["groups"][role].values()))
    return {"tiles": sum(tiles["counts"][role].values()), "groups": groups}


def _encoder(facts: Mapping[str, Any]) -> str | None:
    """The encoder with its licence and the digest of its weights, and whether its vectors were shortened."""
    if "encoder" not in facts:
        return None
    told = {"licence": facts.get("licence"), "weights' SHA-256": facts.get("digest")}
    behind = "; ".join(f"{key}: {value}" for key, value in told.items() if value)
    reduced = facts.get("reduced")
    short = f", shortened to {reduced['dim']} numbers by {reduced['method'].upper()}" if reduced else ""
    return f"{facts.get('name') or facts['encoder']}{f' ({behind})' if behind else ''}{short}"


def _autoencoder(facts: Mapping[str, Any]) -> str:
    """Where the autoencoder comes from, as far as its facts tell."""
    modes = {
        "folder": "given, and taken as it is",
        "train": "trained on the same real tiles",
        "finetune": "given, and trained further on the same real tiles",
    }
    parts = [modes.get(str(facts.get("mode")), "")]
    more = facts.get("trained_on", {}).get("unlabelled")
    parts += [f"and on {more} more of their groups that have no class"] if more else []
    parts += [f"{key} {facts[key]}" for key in ("origin", "licence", "digest") if facts.get(key)]
    return "; ".join(part for part in parts if part) or "see provenance.json"


START = {
    "noise": "They began as noise.",
    "candidates": "They began as random synthetic tiles of a generative model that was trained on the same real tiles.",
    "real": "They began as random real tiles, of which traces may have stayed; the audit below looked for them.",
}


def _learned(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """How the images were learned, where they were."""
    if facts.get("pixels") != "learned":
        return None
    return {"title": facts["title"], "start": START[facts["start"]], "steps": facts["kept_after"]}


def _test(test: Mapping[str, Any]) -> dict[str, str]:
    """One test of the audit, every cell as text."""
    passed = test.get("passed")
    low, high = test.get("low"), test.get("high")
    return {
        "name": str(test.get("name", "")).replace("_", " "),
        "meaning": str(test.get("meaning", "")),
        "interval": "–" if low is None or high is None else f"[{said(low)}, {said(high)}]",
        "outcome": "not run" if passed is None else ("passed" if passed else "failed"),
        **{key: said(test.get(key)) for key in ("value", "control", "guess")},
    }


def review_page(title: str, version: str, audit: Mapping[str, Any]) -> str:
    """The page a person signs before a release with the verdict REVIEW is shared."""
    reasons = "".join(f"* {reason}\n" for reason in audit.get("reasons", [])) or "* no reason is told\n"
    return (
        f"# To be reviewed before sharing: {title} {version}\n\n"
        f"The audit's verdict is **REVIEW**:\n\n{reasons}\n"
        "I have looked at every tile beside its nearest real tiles (`pairs.png` of the audit, which never leaves the\n"
        "house), at `audit.json` and at the card, and approve of sharing this folder:\n\n"
        "Name: ______________________________\n\n"
        "Role: ______________________________\n\n"
        "Date: ______________________________\n\n"
        "Signature: ______________________________\n\n"
        "(This page alone has no line in `checksums.sha256`, so that it can be signed.)\n"
    )
