"""The card of a release: what it tells, and that its tables are whole."""

import re
import shutil
from pathlib import Path
from typing import Any

from releasing import SETTINGS, make, write_benchmark

from stages import release_card, release_check, store


def test_the_card_tells_the_verdict_the_numbers_and_what_is_missing(story: dict[str, Path], shipped: Path) -> None:
    text = (shipped / "README.md").read_text()
    head = release_check.front_matter(text)
    assert head["license"] == "cc-by-4.0" and head["size_categories"] == ["n<1K"] and "synthetic" in head["tags"]
    for words in (
        "Verdict of the audit: **REVIEW**",
        "12 tiles were audited; 300 are wanted for GO",
        "| near copies | 0.01 | [0, 0.05] | 0.02 | 0.5 | passed |",
        "benchmark: none",
        "| alpha/beta | `train/alpha_beta` | 6 | 3 |",
        "trained on 10 real tiles of 10 groups",
        "It drew 30 candidates",
        "What this does not show",
        "pathology@example.org",
    ):
        assert words in text, words
    assert not re.search(r"\n\n\n|[ \t]\n|\{\{|\{%", text)


def test_the_card_tells_the_kind_of_denoiser_and_where_the_autoencoder_is_from(
    story: dict[str, Path], tmp_path: Path
) -> None:
    origin = "stabilityai/sd-vae-ft-mse, commit 31f26fdeee1355a5c34592e401dd41e45d25a493"
    extra = {name: tmp_path / name for name in ("denoiser", "autoencoder")}
    store.write_json(extra["denoiser"] / "facts.json", {"network": "U-ViT"})
    store.write_json(extra["autoencoder"] / "facts.json", {"mode": "folder", "origin": origin})
    shipped = make(story | extra, tmp_path / "out")
    text = (shipped / "README.md").read_text()
    assert "(a class-conditional latent diffusion model, its denoiser a U-ViT) was trained" in text
    assert f"given, and taken as it is; origin {origin}." in text
    assert release_check.verify(shipped) == []


def of_slides(story: dict[str, Path], folder: Path, **told: Any) -> str:
    """The card of a release whose tiles were cut from slides."""
    tiles = folder / "tiles"
    shutil.copytree(story["tiles"], tiles)
    numbers = {"slides": 8, "patients": 5, "pseudo_patients": False, "positions": 12000, "background": 9000}
    slides = numbers | {"rejected": {"pen": 700, "blurred": 550}} | told
    of_roles = dict.fromkeys(("train", "val", "test", "control"), 5)
    facts = store.read_json(tiles / "facts.json") | {"slides": slides, "groups_in_all": of_roles}
    store.write_json(tiles / "facts.json", facts)
    return (make(story | {"tiles": tiles}, folder / "out") / "README.md").read_text()


def test_the_card_tells_in_numbers_that_slides_were_cut_and_counts_each_patient_once(
    story: dict[str, Path], tmp_path: Path
) -> None:
    text = of_slides(story, tmp_path)
    assert "trained on 10 real tiles of 5 groups" in text
    assert "The real tiles were cut from 8 whole slides of 5 patients. 12,000 places were looked at: 9,000 were" in text
    assert "9,000 were background, 1,250 were not taken for other reasons." in text
    assert not re.search(r"\n\n\n|[ \t]\n|\{\{|\{%", text)


def test_the_card_says_when_pieces_of_slides_stood_for_patients(story: dict[str, Path], tmp_path: Path) -> None:
    text = of_slides(story, tmp_path, slides=1, pseudo_patients=True)
    assert "were cut from 1 whole slide, pieces of which stood for patients: no figure below says" in text


def test_tables_of_the_card_are_whole(story: dict[str, Path], tmp_path: Path) -> None:
    extra = {f"benchmark/{name}": write_benchmark(tmp_path / name, 0.7) for name in ("all_real", "infomap_6")}
    text = (make(story | extra, tmp_path / "out") / "README.md").read_text()
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        lines = block.splitlines()
        assert len(lines) > 2 and set(lines[1]) <= set("|-: ")
        assert len({line.count("|") for line in lines}) == 1, block


def test_a_benchmark_goes_into_the_card_and_into_a_file_of_its_own(story: dict[str, Path], tmp_path: Path) -> None:
    extra = {"benchmark/all_real": write_benchmark(tmp_path / "a", 0.9)}
    extra["benchmark/infomap_6"] = write_benchmark(tmp_path / "b", 0.8)
    folder = make(story | extra, tmp_path / "out")
    text = (folder / "README.md").read_text()
    assert "\nConvNet-3, 32 px (`convnet3`):\n" in text
    assert "| **infomap_6 (this release)** | 12 | 0.8 [0.7, 0.9] |" in text
    assert "| all real training tiles | 12 | 0.9 [0.8, 1] |" in text and "benchmark: none" not in text
    assert set(store.read_json(folder / "benchmark.json")) == {"all_real", "infomap_6"}
    without = make(story | extra, tmp_path / "without", benchmark=False)
    assert "benchmark: none" in (without / "README.md").read_text() and not (without / "benchmark.json").exists()


def test_the_card_has_a_table_for_each_network_under_its_title_colour_and_the_judge_last() -> None:
    def measured(value: float, *names: str) -> dict[str, Any]:
        of = {name: {"test": {"accuracy": {"value": value, "low": 0, "high": 1}}} for name in sorted(names)}
        return {"metrics": of, "images": 9, "networks": [{"name": name, "title": f"A {name}"} for name in names]}

    contestants = {
        "all_real": measured(0.9, "vit", "convnet3", "colour", "judge"),
        "mine": measured(0.5, "vit", "vit_soft", "convnet3", "colour"),
        "older": {"metrics": {"net": {"test": {}}}, "images": 3},
    }
    tables = release_card.benchmark_tables(contestants, "mine")
    assert [(t["name"], t["title"], [row["cells"] for row in t["rows"]]) for t in tables[:3]] == [
        ("vit", "A vit", [["0.9 [0, 1]"], ["0.5 [0, 1]"]]),
        ("vit_soft", "A vit_soft", [["0.5 [0, 1]"]]),
        ("convnet3", "A convnet3", [["0.9 [0, 1]"], ["0.5 [0, 1]"]]),
    ]
    assert [t["name"] for t in tables[3:]] == ["colour", "judge", "net"]


def test_licences_by_identifier_and_by_text() -> None:
    assert "SPDX-License-Identifier: ODbL-1.0" in release_card.licence("odbl-1.0")[1]
    assert release_card.head(SETTINGS | {"licence": "odbl-1.0", "title": "T", "version": "1"}, [], 5).startswith(
        "license: odbl"
    )
    long = "You may use this\nfor teaching.\n" * 5
    assert release_card.licence(long) == ("Terms of its own.", long)
    assert "license: other" in release_card.head(SETTINGS | {"licence": long, "title": "T", "version": "1"}, [], 5)


ENCODER = {
    "encoder": "transformers",
    "name": "transformers: Little DINO (dinov2, cls)",
    "licence": "cc-by-nc-4.0",
    "licence_restricts": True,
    "licence_warning": "The tiles are chosen by the encoder Little DINO, and its licence allows no commercial use.",
    "digest": "cd" * 32,
    "dim": 384,
    "reduced": {"method": "umap", "dim": 10, "components": 1},
}


def test_the_encoder_is_told_with_licence_and_digest_and_its_warning_is_loud(
    story: dict[str, Path], shipped: Path, tmp_path: Path
) -> None:
    store.write_json(tmp_path / "embedding" / "facts.json", ENCODER)
    folder = make(story | {"embedding": tmp_path / "embedding"}, tmp_path / "out")
    text = (folder / "README.md").read_text()
    told = f"(licence: cc-by-nc-4.0; weights' SHA-256: {'cd' * 32}), shortened to 10 numbers by UMAP"
    assert f"the features of: transformers: Little DINO (dinov2, cls) {told}" in text
    assert f"**Mind the licence of the encoder.** {ENCODER['licence_warning']}" in text
    assert "Mind the licence of the encoder" not in (shipped / "README.md").read_text()
    facts = store.read_json(tmp_path / "out" / "facts.json")
    assert facts["warnings"] == [ENCODER["licence_warning"]]
    assert store.read_json(folder / "provenance.json")["steps"]["embedding"]["facts"]["digest"] == "cd" * 32


def test_what_was_brought_to_a_section_of_the_settings_is_told_by_content(
    story: dict[str, Path], tmp_path: Path
) -> None:
    store.write_json(tmp_path / "embedding" / "facts.json", ENCODER)
    settings = {"encoder": "timm", "timm": {"model": "resnet18", "weights": "content 0a1b"}}
    causes = {"seed": 3, "settings": settings, "code": {}}
    store.write_json(tmp_path / "embedding" / "seal.json", {"causes": causes, "result": "0" * 64})
    folder = make(story | {"embedding": tmp_path / "embedding"}, tmp_path / "out")
    step = store.read_json(folder / "provenance.json")["steps"]["embedding"]
    assert step["given"] == {"timm.weights": "content 0a1b"} and step["told_settings"] == settings
