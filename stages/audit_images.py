"""Attack what would be shared: are released tiles copies of training tiles, or nearer to them than to a control?

Everything but `audit.json` and `facts.json` shows or describes real tiles and stays in the house (`private` in the
facts). Needs nothing but images; seconds.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from stages import compute, images, scale_bar, store, streams
from stages.contracts import Engine, Inputs, UserError
from stages.images import ImageSet
from stages.settings import Settings

if TYPE_CHECKING:
    from stages.privacy.battery import Finding, Power, Real
    from stages.privacy.exchange import Deals
    from stages.privacy.reference import Reference
    from stages.privacy.similarity import Nearness
    from stages.privacy.verdict import Verdict

PRIVATE = ["pairs.png", "distances.parquet"]
POWER_DEALS = 200


class AuditImagesSettings(Settings):
    """How hard the released tiles are attacked, and what a GO asks for."""

    level: float = Field(default=0.05, gt=0, le=0.2)
    """Chance of a false NO-GO on clean tiles, over the statistical tests together (Holm); likewise of the soft ones."""
    least_tiles_for_go: int = Field(default=300, ge=1)
    """Released tiles below which the verdict is REVIEW at best. Candidates that are not released do not count."""
    least_control_groups: int = Field(default=20, ge=1)
    """Control groups (patients, slides, originals) below which the verdict is REVIEW at best."""
    least_power: float = Field(default=0.8, ge=0, le=1)
    """Share of trials with planted copies that must raise an alarm; below, the verdict is REVIEW at best."""
    most_twins: float = Field(default=0.05, ge=0, le=1)
    """Share of control groups that may have a double among the train groups (they are left out) before REVIEW."""
    components: int = Field(default=192, ge=8, le=432)
    """Numbers that describe a tile when two are compared."""
    deals: int = Field(default=500, ge=40, le=100_000)
    """Exchanges of roles between train and control groups behind a p-value; its smallest value is 1 / deals."""
    draws: int = Field(default=20, ge=1, le=1000)
    """Equal-size draws of groups over which the nearest ratio and authenticity are averaged."""
    resamples: int = Field(default=1000, ge=40, le=100_000)
    """Bootstrap resamples of groups behind an interval."""
    planted_share: float = Field(default=0.05, gt=0, le=1)
    """Share of the released tiles that is replaced by altered train tiles when power is measured."""
    planted_tiles: int = Field(default=24, ge=1, le=1000)
    """Train tiles that are altered in each of the eight ways, to be planted."""
    power_trials: int = Field(default=100, ge=10, le=10_000)
    """Sets with planted copies on which the alarms are counted."""
    pairs: int = Field(default=24, ge=1, le=200)
    """Pairs shown in `pairs.png`."""


class Material(NamedTuple):
    """What the audit reads."""

    released: ImageSet
    others: ImageSet
    """Candidates that are not released."""
    train: ImageSet
    control: ImageSet
    val: ImageSet


class Findings(NamedTuple):
    """What the audit found."""

    released: "dict[str, Finding]"
    adjusted: dict[str, float]
    hold_out: "dict[str, Finding]"
    """The same tests on validation tiles in place of the released ones: the negative control."""
    hold_out_adjusted: dict[str, float]
    candidates: dict[str, float]
    """Adjusted p-values of the hard tests on all candidates."""
    candidates_near: int
    power: "Power"
    common: int


def run(settings: AuditImagesSettings, inputs: Inputs, out: Path, seed: int, engine: Engine) -> None:
    """Audit a selection: write `audit.json`, `pairs.png`, `distances.parquet` and `facts.json`."""
    with compute.one_thread():  # equal bytes on any number of cores; thousands of small steps, and cores are shared
        _run(settings, inputs, out, seed)


def _run(settings: AuditImagesSettings, inputs: Inputs, out: Path, seed: int) -> None:
    from stages.privacy.pairs import TILE_PX
    from stages.privacy.reference import assemble

    material = _read(inputs, seed)
    real_set = [material.train, material.control]
    groups = [s.table["group"].to_numpy(np.int64) for s in real_set]
    pixels_rhwc = np.concatenate([s.pixels_nhwc for s in real_set if len(s.table)])
    is_train_r = np.repeat([True, False], [len(g) for g in groups])
    try:
        labels_r = np.concatenate([s.labels_n for s in real_set])
        reference = assemble(pixels_rhwc, np.concatenate(groups), labels_r, is_train_r, settings.components)
    except ValueError as error:
        raise UserError(f"The tiles cannot serve as reference of an audit: {error}.") from error
    near = {name: reference.nearness(getattr(material, name).pixels_nhwc) for name in ("released", "others")}
    found = _attack(settings, material, reference, near, seed)
    verdict = _judge(settings, found, reference, material.released)
    store.write_json(out / "audit.json", _audit(settings, found, reference, verdict, material))
    _write_distances(out / "distances.parquet", material, reference, near)
    page = _pairs(settings.pairs, material.released, pixels_rhwc, reference, near["released"])
    side_px, mpp = pixels_rhwc.shape[1], scale_bar.known_mpp(inputs["tiles"], pixels_rhwc.shape[1])
    store.write_bytes(out / "pairs.png", images.png(scale_bar.under(page, mpp, side_px, TILE_PX / side_px), level=6))
    facts = {"verdict": verdict.word, "released": len(material.released.table), "private": PRIVATE}
    store.write_json(out / "facts.json", facts)


def _read(inputs: Inputs, seed: int) -> Material:
    """Read what is audited and what it is compared with; the role test is not touched.

    Of the val tiles, the negative control, as many are taken as are audited: whole groups, by lot.
    """
    released = images.read(inputs["selection"] / "images")
    candidates = images.read(inputs["candidates"] / "images")
    others = candidates.take(np.flatnonzero(~candidates.table["tile_id"].isin(released.table["tile_id"])))
    real = {role: images.read(inputs["tiles"] / "images", role=role) for role in ("train", "control", "val")}
    real["val"] = _as_many(real["val"], len(released.table), streams.numpy_stream(seed, "audit_images", "hold-out"))
    material = Material(released, others, **real)
    if not len(material.train.table):
        raise UserError("The tiles hold no train role: there is nothing that could have been copied.")
    sizes = {s.pixels_nhwc.shape[1:] for s in material if len(s.table)}
    if _learned(inputs["selection"]):
        return Material(*(_sized(part, released.pixels_nhwc.shape[1]) for part in material))
    if len(sizes) > 1:
        raise UserError(
            f"Released and real tiles must have the same size; found {sorted(sizes)}. "
            "Run the audit on the tiles that the candidates were made from."
        )
    return material


def _learned(folder: Path) -> bool:
    """Whether the images were learned: these have a size of their own, to which real tiles are brought."""
    facts = folder / "facts.json"
    return facts.is_file() and store.read_json(facts).get("pixels") == "learned"


def _sized(part: ImageSet, size_px: int) -> ImageSet:
    """Tiles at the size of those that are audited, as they were when these were learned from them."""
    from stages.classify import protocol

    return part._replace(pixels_nhwc=protocol.resize(part.pixels_nhwc, size_px)) if len(part.table) else part


def _as_many(tiles: ImageSet, count: int, rng: np.random.Generator) -> ImageSet:
    """The tiles of groups drawn by lot until there are `count`; the last group is cut, few tiles are taken whole."""
    groups_n = tiles.table["group"].to_numpy(np.int64)
    names = rng.permutation(np.unique(groups_n))
    place = {group: number for number, group in enumerate(names.tolist())}
    order_n = np.argsort([place[group] for group in groups_n.tolist()], kind="stable")
    return tiles.take(np.sort(order_n[:count]))


def _attack(
    settings: AuditImagesSettings,
    material: Material,
    reference: "Reference",
    near: "Mapping[str, Nearness]",
    seed: int,
) -> Findings:
    """Run the battery on the released tiles, on hold-out tiles, on all candidates and on planted sets."""
    from stages.privacy import battery
    from stages.privacy.copies import exact_copies
    from stages.privacy.exchange import deal_roles

    real, effort = reference.real, _effort(settings)
    has_control = bool((~real.groups.is_train_g).any()) and real.groups.drawn_s.sum() > 0
    rng = streams.numpy_stream(seed, "audit_images", "battery")
    dealt_gb = deal_roles(real.groups, rng, settings.deals) if has_control else None
    audited = [s.pixels_nhwc for s in (material.released, material.val) if len(s.table)]
    exact_n = exact_copies(np.concatenate(audited), material.train.pixels_nhwc) >= 0
    exact_n, exact_v = np.split(exact_n, [len(material.released.table)])
    released = battery.run(near["released"], exact_n, real, dealt_gb, effort, rng)
    hold_out: dict[str, Finding] = {}
    if len(material.val.table):
        clusters = material.val.table["group"].to_numpy(np.int64)
        near_val = reference.nearness(material.val.pixels_nhwc)
        hold_out = battery.run(near_val, exact_v, real, dealt_gb, effort, rng, clusters)
    every_ng = np.concatenate([n.similarity_ng for n in near.values()])
    hard = battery.hard_p_values(every_ng, real, dealt_gb, settings.level)
    return Findings(
        released,
        battery.adjust(released),
        hold_out,
        battery.adjust(hold_out) if hold_out else {},
        dict(zip(battery.HARD[1:], hard, strict=False)),
        int(battery.near_copies(every_ng, real, settings.level / 2).flagged_n.sum()),
        _power(settings, material.train, reference, near["released"], dealt_gb, seed),
        int(battery.near_copies(near["released"].similarity_ng, real, settings.level / 2).common_n.sum()),
    )


def _effort(settings: AuditImagesSettings) -> Any:
    from stages.privacy.battery import Effort

    return Effort(settings.deals, settings.draws, settings.resamples, settings.level)


def _power(
    settings: AuditImagesSettings,
    train: ImageSet,
    reference: "Reference",
    released: "Nearness",
    dealt_gb: "Deals | None",
    seed: int,
) -> "Power":
    """Alter some train tiles in every way, plant them, and count the alarms."""
    from stages.privacy import battery
    from stages.privacy.alterations import ALTERATIONS
    from stages.privacy.similarity import to_tensor

    rng = streams.numpy_stream(seed, "audit_images", "planted")
    chosen = rng.choice(len(train.table), min(settings.planted_tiles, len(train.table)), replace=False)
    img_nchw = to_tensor(train.pixels_nhwc[chosen])
    altered = {
        name: alteration(img_nchw, streams.torch_stream(seed, "audit_images", name))
        for name, alteration in ALTERATIONS.items()
    }
    pixels = np.concatenate([(255 * img).round().byte().permute(0, 2, 3, 1).numpy() for img in altered.values()])
    near_ng = reference.nearness(pixels).similarity_ng
    planted = dict(zip(altered, np.split(near_ng, len(altered)), strict=True))
    return battery.power(
        released.similarity_ng,
        planted,
        reference.real,
        None if dealt_gb is None else dealt_gb[:, :POWER_DEALS],
        settings.planted_share,
        settings.power_trials,
        settings.level,
        rng,
    )


def _judge(settings: AuditImagesSettings, found: Findings, reference: "Reference", released: ImageSet) -> "Verdict":
    """Collect the evidence and read the table of rules."""
    from stages.privacy.battery import HARD, SOFT
    from stages.privacy.verdict import Evidence, Limits, verdict

    def failed(adjusted: Mapping[str, float], names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in names if adjusted.get(name, 1.0) <= settings.level)

    hard, (control, unmatched) = failed(found.adjusted, HARD), _control(reference.real)
    audited = len(released.table)
    evidence: Evidence = Evidence(
        audited=audited,
        exact_copies=round(found.released["exact_copies"].value * audited),
        near_copies="near_copies" in hard,
        excess="excess_over_control" in hard,
        soft=failed(found.adjusted, SOFT),
        common=found.common,
        candidates=failed(found.candidates, HARD),
        control_groups=control,
        twin_share=reference.twins / max(1, control + reference.twins),
        unmatched=unmatched,
        power=found.power.alarm.value,
        false_alarms=failed(found.hold_out_adjusted, HARD),
        soft_labels=_carries_soft_labels(released),
    )
    limits = Limits(
        settings.least_tiles_for_go, settings.least_control_groups, settings.least_power, settings.most_twins
    )
    return verdict(evidence, limits)


def _carries_soft_labels(released: ImageSet) -> bool:
    """Whether the selection has a probability for each class beside every tile."""
    return "p0" in released.table


def _control(real: "Real") -> tuple[int, int]:
    """Control groups, and classes that have train groups but no control group."""
    classes = {int(s) for s in real.groups.stratum_g[real.groups.is_train_g]}
    matched = {int(s) for s in real.groups.stratum_g[~real.groups.is_train_g]}
    return int((~real.groups.is_train_g).sum()), len(classes - matched)


def _audit(
    settings: AuditImagesSettings, found: Findings, reference: "Reference", verdict: "Verdict", material: Material
) -> dict[str, Any]:
    """Everything that may be told outside the house: numbers and sentences, no name of a real tile."""
    from stages.privacy import wording
    from stages.privacy.battery import HARD

    audited, sentences = len(material.released.table), wording.meanings(found.released, len(material.released.table))
    tests = [
        {
            "name": name,
            **_rounded(finding._asdict()),
            "p_adjusted": round(found.adjusted[name], 6),
            "control": round(found.hold_out[name].value, 6) if name in found.hold_out else None,
            "passed": found.adjusted[name] > settings.level,
            "decides": "NO-GO" if name in HARD else "REVIEW",
            "meaning": sentences[name],
        }
        for name, finding in found.released.items()
    ]
    power = found.power
    return {
        "verdict": verdict.word,
        "reasons": list(verdict.reasons),
        "tests": tests,
        "power": {
            "alarm": _rounded(power.alarm._asdict()),
            "planted_share": settings.planted_share,
            "seen_single": _rounded(power.seen._asdict()),
            "seen_by_change": _rounded(power.seen_by_change),
            "no_copy_supports": wording.zero_of(audited),
        },
        "audited": audited,
        "candidates": {
            "tiles": audited + len(material.others.table),
            "near_copies": found.candidates_near,
            "p_adjusted": _rounded(found.candidates),
        },
        "control": _told_control(found, reference, settings),
        "thresholds": _thresholds(settings, reference, audited),
        "method": wording.METHOD,
        "not_tested": wording.not_tested(_carries_soft_labels(material.released)),
        "soft_labels": _carries_soft_labels(material.released),
    }


def _told_control(found: Findings, reference: "Reference", settings: AuditImagesSettings) -> dict[str, Any]:
    groups = reference.real.groups
    alarms = [name for name, p in found.hold_out_adjusted.items() if p <= settings.level]
    return {
        "train_groups": int(groups.is_train_g.sum()),
        "control_groups": int((~groups.is_train_g).sum()),
        "groups_compared_on_each_side": int(groups.drawn_s.sum()),
        "control_groups_left_out_as_twins": reference.twins,
        "alarms_on_hold_out": alarms,
    }


def _thresholds(settings: AuditImagesSettings, reference: "Reference", audited: int) -> dict[str, float]:
    from stages.privacy.copies import one_of

    tail = reference.real.tail
    near = tail.threshold(one_of(settings.level / 2, audited))
    return _rounded({"near_copy": near, "clean_999": tail.threshold(0.001), "clean_95": reference.real.line})


def _rounded(numbers: Mapping[str, float]) -> dict[str, float]:
    return {name: round(float(number), 6) for name, number in numbers.items()}


def _write_distances(path: Path, material: Material, reference: "Reference", near: "Mapping[str, Nearness]") -> None:
    """One row per candidate: its similarity to the nearest train and control tile. Private."""
    from stages.privacy.battery import nearest

    is_train_g, parts = reference.real.groups.is_train_g, []
    for name, images_of in (("released", material.released), ("others", material.others)):
        part = images_of.table[["tile_id", "label"]].copy()
        part["released"] = name == "released"
        part["train_similarity"] = np.round(nearest(near[name].similarity_ng, is_train_g).astype(np.float64), 5)
        part["control_similarity"] = np.round(nearest(near[name].similarity_ng, ~is_train_g).astype(np.float64), 5)
        parts.append(part)
    pd.concat(parts, ignore_index=True).to_parquet(path, index=False)


def _pairs(
    most: int,
    released: ImageSet,
    pixels_rhwc: npt.NDArray[np.uint8],
    reference: "Reference",
    near: "Nearness",
) -> images.Pixels:
    """The most similar pairs: released tile, nearest train tile, nearest control tile. Private."""
    from stages.privacy.battery import nearest
    from stages.privacy.pairs import draw

    is_train_g = reference.real.groups.is_train_g
    order = np.argsort(-nearest(near.similarity_ng, is_train_g), kind="stable")[:most]
    triples, captions = [], []
    for rank, row in enumerate(order, start=1):
        tiles: list[npt.NDArray[np.uint8] | None] = [released.pixels_nhwc[row]]
        words = [f"{rank}. {released.classes[released.labels_n[row]]}"[:18]]
        for members_g in (is_train_g, ~is_train_g):
            groups = np.flatnonzero(members_g)
            best = groups[near.similarity_ng[row, groups].argmax()] if len(groups) else None
            tiles.append(None if best is None else pixels_rhwc[near.tile_ng[row, best]])
            words.append("none" if best is None else f"{near.similarity_ng[row, best]:.3f}")
        triples.append(tiles)
        captions.append(words)
    return draw(triples, captions, columns=2)
