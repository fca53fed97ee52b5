"""Soft labels ship when they are asked for, and never otherwise."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from releasing import AUDIT, lay_story, make

from stages import images, release, release_check, store
from stages.contracts import UserError

TOLD = {"temperature": 1.734, "decimals": 4, "architecture": "resnet18", "judge": "ab" * 32}
METADATA = "train/metadata.parquet"


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A story whose selection carries soft labels."""
    inputs = lay_story(tmp_path_factory.mktemp("store"))
    chosen = images.read(inputs["selection"] / "images")
    p0_n = np.arange(len(chosen.table)) / 100
    soft = chosen._replace(table=chosen.table.assign(p0=p0_n, p1=1 - p0_n))
    images.write(inputs["selection"] / "images", soft)
    store.write_json(inputs["selection"] / "facts.json", {"method": "infomap", "soft_labels": TOLD})
    store.write_json(inputs["audit_images"] / "audit.json", AUDIT | {"not_tested": ["what soft labels give away"]})
    return inputs


@pytest.fixture(scope="module")
def asked(story: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(story, tmp_path_factory.mktemp("release") / "out", soft_labels=True)


@pytest.fixture(scope="module")
def unasked(story: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(story, tmp_path_factory.mktemp("release") / "out")


def test_a_release_that_did_not_ask_has_no_column_of_them(unasked: Path) -> None:
    table = pq.read_table(unasked / METADATA)
    assert tuple(table.column_names) == release_check.COLUMNS
    assert not re.search(r"\bp[01]\b", str(table.schema.metadata))
    assert "soft labels are" not in (unasked / "README.md").read_text() and "soft labels:" not in str(table.schema)
    assert store.read_json(unasked / "provenance.json")["release"]["soft_labels"] is False
    assert release.verify(unasked) == []


def test_a_release_that_asked_has_them_row_for_row(story: dict[str, Path], asked: Path) -> None:
    table = pd.read_parquet(asked / METADATA)
    assert tuple(table.columns) == (*release_check.COLUMNS, "p0", "p1")
    chosen = images.read(story["selection"] / "images").table.set_index("tile_id")
    for column in ("p0", "p1"):
        np.testing.assert_array_equal(table[column], chosen.loc[table["tile_id"], column])
    assert table["p0"].dtype == np.float64 and table["p0"].nunique() == 12
    assert store.read_json(asked / "provenance.json")["release"]["soft_labels"] is True
    assert release.verify(asked) == []


def test_the_card_says_what_they_are_and_where_they_come_from(asked: Path) -> None:
    text = (asked / "README.md").read_text()
    for words in (
        "`p0` to `p1` are soft labels",
        "a classifier (resnet18)",
        "its temperature, 1.73,",
        "rounded to 4 digits",
        "come from private tiles and tell more of them than class names do",
        "Not tested: what soft labels give away",
    ):
        assert words in text, words
    assert not re.search(r"\n\n\n|[ \t]\n|\{\{|\{%", text)


def test_others_load_them_as_columns(asked: Path, tmp_path: Path) -> None:
    import datasets

    data = datasets.load_dataset("imagefolder", data_dir=str(asked), cache_dir=str(tmp_path))["train"]
    assert data["p0"] == pd.read_parquet(asked / METADATA)["p0"].tolist()


def test_what_is_not_there_cannot_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'infomap_6' carries none: set its own soft_labels"):
        make(lay_story(tmp_path / "store"), tmp_path / "out", soft_labels=True)


def changed(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        change(pd.read_parquet(folder / METADATA)).to_parquet(folder / METADATA, index=False)

    return tamper


def undeclared(folder: Path) -> None:
    provenance = store.read_json(folder / "provenance.json")
    provenance["release"]["soft_labels"] = False
    store.write_json(folder / "provenance.json", provenance)


TAMPERINGS: dict[str, tuple[Callable[[Path], None], str]] = {
    "not declared": (undeclared, "holds soft labels .* provenance.json does not declare"),
    "gone": (changed(lambda t: t.drop(columns=["p0", "p1"])), "lacks the soft labels .* that provenance.json declares"),
    "one gone": (changed(lambda t: t.drop(columns="p1")), r"no place in a release \(p0\)"),
    "one more": (changed(lambda t: t.assign(p2=0.0)), r"no place in a release \(p0, p1, p2\)"),
    "another column": (changed(lambda t: t.assign(patient="M.")), r"no place in a release \(p0, p1, patient\)"),
    "no probabilities": (changed(lambda t: t.assign(p0=t["p0"] + 0.1)), "no probabilities that sum to one"),
    "below nought": (changed(lambda t: t.assign(p0=-0.5, p1=1.5)), "no probabilities that sum to one"),
    "lost": (changed(lambda t: t.assign(p0=np.nan)), "no probabilities that sum to one"),
}


@pytest.mark.parametrize("how", TAMPERINGS)
def test_the_check_takes_them_only_as_they_were_declared(
    story: dict[str, Path], asked: Path, tmp_path: Path, how: str
) -> None:
    import shutil

    tamper, finding = TAMPERINGS[how]
    folder = Path(shutil.copytree(asked, tmp_path / "copy"))
    tamper(folder)
    (folder / "checksums.sha256").write_text(release_check.checksums(folder))
    found = release.verify(folder)
    assert any(re.search(finding, line) for line in found), found
