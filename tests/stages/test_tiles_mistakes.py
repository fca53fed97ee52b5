"""What a user can get wrong with tiles, and what is then said."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made_tiles import TUMOUR, as_files, as_parquet, roles_csv, rows, run

from stages import tiles
from stages.contracts import UserError


def without(frame: pd.DataFrame, group: int) -> pd.DataFrame:
    return frame[~frame["group"].str.endswith(f"tumour-{group}")]


def broken(frame: pd.DataFrame) -> pd.DataFrame:
    """And a class of three empty files."""
    empty = [{"file": f"{n}.png", "label": "tumour", "group": f"t{n}", "content": b""} for n in range(3)]
    return pd.concat([frame, pd.DataFrame(empty)])


ERRORS: dict[str, tuple[Callable[[Path], dict[str, Any]], str]] = {
    "no source": (lambda t: {"source": t / "none.parquet"}, "There is nothing at .*none.parquet"),
    "no table": (lambda t: {"source": t, "table": t / "none.csv"}, "There is nothing at .*none.csv"),
    "no roles": (
        lambda t: {"source": as_parquet(rows(), t / "t.parquet"), "roles": t / "none.csv"},
        "no table of roles",
    ),
    "no parquet": (lambda t: {"source": Path(__file__)}, "cannot be read as Parquet"),
    "an empty folder": (lambda t: {"source": t}, "No image was found"),
    "a missing column": (
        lambda t: {"source": as_parquet(rows().rename(columns={"label": "lable"}), t / "t.parquet")},
        "no column 'label'. Did you mean 'lable'",
    ),
    "no groups": (
        lambda t: {"source": as_parquet(rows().drop(columns="group"), t / "t.parquet")},
        "no column 'group'.*set tiles.group_column to null",
    ),
    "a missing role column": (
        lambda t: {"source": as_parquet(rows().assign(part="train"), t / "t.parquet"), "role_column": "parts"},
        "no column 'parts'. Did you mean 'part'",
    ),
    "an unknown role": (
        lambda t: {
            "source": as_parquet(rows(), t / "t.parquet"),
            "roles": roles_csv(rows().replace({"label": {}}), t / "r.csv", ["trian", *"tttttvxxc"]),
        },
        "the list of roles has no 'trian'. Did you mean 'train'.*leave_out",
    ),
    "groups without a role": (
        lambda t: {"source": as_parquet(rows(), t / "t.parquet"), "roles": roles_csv(without(rows(), 3), t / "r.csv")},
        "r.csv lacks 1 of the 20 groups: MUSTERMANN-tumour-3",
    ),
    "roles of another label": (
        lambda t: {
            "source": as_parquet(rows(), t / "t.parquet"),
            "roles": roles_csv(rows().replace({"label": {"tumour": "normal"}}), t / "r.csv"),
        },
        "10 groups have another label in r.csv",
    ),
    "a group in two roles": (
        lambda t: {"source": as_parquet(rows().assign(role=["train", "val"] * 30), t / "t.parquet")},
        "20 of 20 groups have tiles in two or more roles",
    ),
    "no tile of a class in a role": (
        lambda t: {
            "source": as_parquet(
                rows().assign(role=[*(["train", "val", "test", "control", "val"] * 6), *TUMOUR]), t / "t.parquet"
            ),
            "group_column": None,
        },
        "no tile of tumour in test, tumour in control",
    ),
    "too few groups": (
        lambda t: {"source": as_parquet(rows()[lambda f: (f["label"] == "benign") | (f.index < 39)], t / "t.parquet")},
        "needs a group for each of the 4 roles .* but tumour has 3",
    ),
    "too few groups of two classes": (
        lambda t: {
            "source": as_parquet(
                rows().assign(label=["a", "b"] * 30, group=[f"g{i % 3}" for i in range(60)]), t / "t.parquet"
            )
        },
        "needs a group for each of the 4 roles .* but a has 3, b has 3",
    ),
    "a patient at two sites": (
        lambda t: {
            "source": as_parquet(rows().assign(site=["x", *["y"] * 59]), t / "t.parquet"),
            "site_column": "site",
        },
        r"1 of 20 groups lie in two or more sites \(MUSTERMANN-benign-0; row 0 in x, row 1 in y\)",
    ),
    "too few sites": (
        lambda t: (
            {"source": as_parquet(rows().assign(site=list("xyz") * 20), t / "t.parquet")}
            | {"site_column": "site", "group_column": None, "grouping": "each"}
        ),
        "needs a site for each of the 4 roles .* but benign has 3, tumour has 3",
    ),
    "no column of sites": (
        lambda t: {"source": as_parquet(rows(), t / "t.parquet"), "site_column": "sight"},
        "no column 'sight'",
    ),
    "one class": (lambda t: {"source": as_parquet(rows()[:30], t / "t.parquet")}, "has one class"),
    "no tile left": (
        lambda t: {"source": as_parquet(rows().assign(content=b"x"), t / "t.parquet")},
        "No tile of .* could be used: 60 × not an image",
    ),
    "a class of damaged files alone": (
        lambda t: {"source": as_parquet(rows()[lambda f: f.index < 30].pipe(broken), t / "t.parquet")},
        "no tile of tumour in train, tumour in val, tumour in test, tumour in control.*Set aside: 3 × empty",
    ),
    "two classes that are the same pictures": (
        lambda t: {"source": as_parquet(pd.concat([rows()[:30], rows()[:30].assign(label="b")]), t / "t.parquet")},
        "no tile of b in train.*Set aside: 60 × the same picture in two classes",
    ),
    "one folder": (
        lambda t: {"source": as_files(rows()[:30].assign(path=[f"a/{i}.png" for i in range(30)]), t / "f", "path")},
        r"has one class \(a\); two or more are wanted",
    ),
    "a folder with too few tiles": (
        lambda t: {
            "source": as_files(rows()[:33].assign(path=[f"{i // 30}/{i}.png" for i in range(33)]), t / "f", "path")
        },
        "needs a group for each of the 4 roles .* but 1 has 3",
    ),
    "a folder without tiles": (
        lambda t: {
            "source": as_files(rows()[:3].assign(content=b"", path=[f"a/{i}.png" for i in range(3)]), t / "f", "path")
        },
        "No tile of .* could be used: 3 × empty",
    ),
    "no label at all": (
        lambda t: {"source": as_parquet(rows().assign(label=""), t / "t.parquet")},
        "No tile is left to decode in .*: 60 × no label",
    ),
}


@pytest.mark.parametrize("fault", ERRORS)
def test_a_users_mistake_is_told(tmp_path: Path, fault: str) -> None:
    settings, message = ERRORS[fault]
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match=message):
        run(tmp_path / "out", **settings(tmp_path / "in"))


def test_fractions_that_do_not_sum_to_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape("sum to 1.1, not to 1")):
        tiles.TilesSettings(source=tmp_path, fractions={"train": 0.7})
