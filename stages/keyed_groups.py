"""Which of the source's groups hide behind the numbers of an image set, told by keyed ids.

`groups.parquet` answers one question, asked by whoever knows a patient's name and holds the root's key: is that patient
in here? To everybody else it is numbers. No later stage reads it.
"""

from pathlib import Path

import pandas as pd

from stages import hashing, tables

FILE = "groups.parquet"
KIND = "group"


def keyed_groups(kept: pd.DataFrame, names_n: "pd.Series[str]", key: bytes) -> pd.DataFrame:
    """A row for each of the source's groups and each number and role under which its tiles lie.

    Where tiles are grouped by what they show, one number may hold several of the source's groups; where every tile is
    its own group, one of the source's groups has many numbers.

    Args:
        kept: the tiles of the image set, with `row` (of the source), `number` and `role`.
        names_n: the source's name of the group of each of its rows.
        key: the root's.

    Returns:
        number, hash, role, tiles; by number and hash, so the order of the rows changes nothing.
    """
    names = names_n.iloc[kept["row"]].tolist()
    ids = {name: hashing.keyed(key, KIND, name) for name in set(names)}
    told = pd.DataFrame({"number": kept["number"].to_numpy(), "hash": [ids[name] for name in names]})
    told["role"] = kept["role"].tolist()
    return told.groupby(["number", "hash", "role"], as_index=False).size().rename(columns={"size": "tiles"})


def write(out: Path, kept: pd.DataFrame, names_n: "pd.Series[str]", key: Path) -> None:
    """Write `groups.parquet` into `out`; arguments as in `keyed_groups`, with the key's file."""
    tables.write(out / FILE, keyed_groups(kept, names_n, hashing.read_key(key)), "groups")
