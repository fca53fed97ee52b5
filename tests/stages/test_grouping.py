"""Grouping: copies stay on one side, in the stage itself, whatever is given and whoever works."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_tiles import as_parquet, digests, run, table_of
from planted import copies, original, view

from pipeline.engine import Threads
from stages import images, store
from stages.tables import ROLES

COPIES = 3


def planted(originals: int = 12) -> pd.DataFrame:
    """Two classes of so many originals in three views each."""
    rows = []
    for number in range(2 * originals):
        label = ("benign", "tumour")[number % 2]
        for place, pixels in enumerate(copies(number)[::3]):
            rows.append(
                {"file": f"{number}-{place}.png", "label": label, "original": number, "content": images.png(pixels)}
            )
    return pd.DataFrame(rows)


def source_of(frame: pd.DataFrame, folder: Path) -> Path:
    return as_parquet(frame, folder / "tiles.parquet")


def made(
    tmp_path: Path, frame: pd.DataFrame, name: str = "out", **settings: Any
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The stage's table and what it tells of grouping; `name` is the folder."""
    source = tmp_path / "in" / f"{name}.parquet"
    out = run(tmp_path / name, source=as_parquet(frame, source), **({"group_column": None} | settings))
    return table_of(out / "images"), store.read_json(out / "facts.json")


def test_without_groups_the_copies_of_an_original_play_one_role(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table, facts = made(tmp_path, planted())
    assert facts["grouping"]["rule"] == "near_duplicates" and "near copies are sought" in caplog.text
    assert table["group"].nunique() == facts["grouping"]["groups"] == 24
    assert (table.groupby("group").size() == COPIES).all() and (table.groupby("group")["role"].nunique() == 1).all()
    assert facts["grouping"]["near_duplicate_clusters"] == 24 and facts["grouping"]["tiles_in_them"] == 72


def test_each_leaves_every_tile_alone_and_given_is_what_is_given(tmp_path: Path) -> None:
    frame = planted(6)
    assert made(tmp_path, frame, "each", grouping="each")[0]["group"].nunique() == len(frame)
    frame["pair"] = [f"{label}-{i // 6}" for i, label in enumerate(frame["label"])]
    given, facts = made(tmp_path, frame, "given", group_column="pair")
    assert facts["grouping"]["rule"] == "given" and given["group"].nunique() == frame["pair"].nunique()


def test_given_groups_and_near_duplicates_are_united_when_both_are_asked_for(tmp_path: Path) -> None:
    frame = planted(8)
    frame["slide"] = [
        f"{row.label}-{row.original // 4}" if row.Index % COPIES == 0 else f"own-{row.Index}"
        for row in frame.itertuples()
    ]
    table, facts = made(tmp_path, frame, group_column="slide", grouping="near_duplicates")
    assert facts["grouping"]["groups"] == table["group"].nunique() == 8  # two originals of a class share a slide
    assert (table.groupby("group").size() == 2 * COPIES).all()


def test_stain_groups_hold_near_copies_whole_and_stay_within_a_class(tmp_path: Path) -> None:
    frame = planted()
    table, facts = made(tmp_path, frame, grouping="stain", find_groups={"tiles_per_stain": 4})
    assert 2 <= facts["grouping"]["groups"] < 24
    assert (table.groupby("group")["label"].nunique() == 1).all()
    assert (table.groupby("group").size() % COPIES == 0).all()


def test_a_near_copy_of_a_test_tile_leaves_train_and_test_stays_whole(tmp_path: Path) -> None:
    frame = planted()
    frame["role"] = [ROLES[(number // 2) % 4] for number in frame["original"]]
    leak = (frame["original"] == 4) & frame["file"].str.endswith("-0.png")
    assert set(frame.loc[frame["original"] == 4, "role"]) == {"test"}
    frame.loc[leak, "role"] = "train"
    table, facts = made(tmp_path, frame)
    assert facts["grouping"]["near_copies_in_two_roles"] == 1
    assert facts["set_aside"] == {"near copy of a tile in test": 1}
    assert (table["role"] == "test").sum() == (frame["role"] == "test").sum()
    assert (table.groupby("group")["role"].nunique() == 1).all()


def test_near_copies_in_two_classes_are_set_aside_as_exact_ones_are(tmp_path: Path) -> None:
    frame = planted()
    wrong = (frame["original"] == 6) & frame["file"].str.endswith("-1.png")
    frame.loc[wrong, "label"] = "tumour"
    _, facts = made(tmp_path, frame)
    assert facts["set_aside"] == {"near copy of a tile in another class": COPIES}
    assert facts["grouping"]["near_copies_in_two_classes"] == COPIES


def test_any_engine_and_any_order_of_rows_give_the_same_bytes(tmp_path: Path) -> None:
    frame = planted(5)
    known = digests(run(tmp_path / "a", source=source_of(frame, tmp_path / "in-a"), group_column=None))
    turned = frame.sample(frac=1, random_state=1)
    settings = {"source": source_of(turned, tmp_path / "in-b"), "group_column": None}
    again = digests(run(tmp_path / "b", engine=Threads(2), **settings))
    assert again == known


def test_a_group_may_not_pass_the_largest_and_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    picture = original(50)
    many = [
        {"file": f"m{i}.png", "label": "benign", "content": images.png(view(picture, angle=3.0 * i))} for i in range(25)
    ]
    frame = pd.concat([planted(8), pd.DataFrame(many)])
    with caplog.at_level(logging.WARNING):
        table, facts = made(tmp_path, frame, find_groups={"largest": 0.01})
    assert table.groupby("group").size().max() <= 20 and facts["grouping"]["links_refused"] > 0
    assert "largest" in caplog.text
    assert np.isin(facts["grouping"]["largest_cluster"], range(5, 21))
