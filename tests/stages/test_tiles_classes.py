"""Some classes of a source, and what the seal and the counts know of the others."""

from pathlib import Path

import pandas as pd
import pytest
from made_tiles import as_parquet, digests, rows, run, table_of

from stages import images, store
from stages.contracts import UserError
from stages.dividing import OTHER_CLASS


def three() -> pd.DataFrame:
    """A third class beside the usual two."""
    frame = rows()
    more = frame[frame["label"] == "benign"].copy()
    more["content"] = [bytes(c) for c in rows_of_another_seed(more)]
    more["label"], more["group"] = "necrosis", more["group"] + "n"
    return pd.concat([frame, more], ignore_index=True)


def rows_of_another_seed(frame: pd.DataFrame) -> list[bytes]:
    """Other pictures for the same rows."""
    import numpy as np

    rng = np.random.default_rng(9)
    return [images.png(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)) for _ in range(len(frame))]


def test_two_of_three_classes_are_the_tiles_of_a_source_of_those_two(tmp_path: Path) -> None:
    source = as_parquet(three(), tmp_path / "in" / "three.parquet")
    both = as_parquet(rows(), tmp_path / "in" / "two.parquet")
    some = run(tmp_path / "a", source=source, classes=["tumour", "benign"])
    whole = run(tmp_path / "b", source=both)
    assert digests(some)["images/data-00000.arrow"] == digests(whole)["images/data-00000.arrow"]
    assert images.read_table(some / "images")[1] == ("benign", "tumour")
    facts = store.read_json(some / "facts.json")
    assert facts["classes"] == ["benign", "tumour"] and facts["set_aside"] == {OTHER_CLASS: 30}
    assert len(pd.read_csv(some / "quarantine.csv")) == 0, "nothing is wrong with the others"
    assert len(table_of(run(tmp_path / "c", source=source) / "images")) == 90


def test_what_is_wrong_with_a_class_that_is_not_taken_stops_nothing(tmp_path: Path) -> None:
    frame = three()
    frame = frame[
        (frame["label"] != "necrosis") | (frame["group"] == frame.loc[frame["label"] == "necrosis", "group"].iloc[0])
    ]
    source = as_parquet(frame, tmp_path / "in" / "few.parquet")
    with pytest.raises(UserError, match="necrosis"):
        run(tmp_path / "a", source=source)
    assert len(table_of(run(tmp_path / "b", source=source, classes=["benign", "tumour"]) / "images")) == 60


def test_a_class_that_is_not_there_is_an_error_that_suggests_the_nearest(tmp_path: Path, parquet: Path) -> None:
    with pytest.raises(UserError, match=r"no such class. Did you mean 'tumour'\? It has: benign, tumour"):
        run(tmp_path / "a", source=parquet, classes=["benign", "tumor"])
    with pytest.raises(ValueError, match="at least 2"):
        run(tmp_path / "b", source=parquet, classes=["benign"])
