"""What a user can get wrong with tiles, and what is then said."""

import re
from pathlib import Path

import pandas as pd
import pytest
from made_tiles import run

from stages import tiles
from stages.contracts import UserError


def without(frame: pd.DataFrame, group: int) -> pd.DataFrame:
    return frame[~frame["group"].str.endswith(f"tumour-{group}")]


@pytest.mark.parametrize("fault", ERRORS)
def test_a_users_mistake_is_told(tmp_path: Path, fault: str) -> None:
    settings, message = ERRORS[fault]
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match=message):
        run(tmp_path / "out", **settings(tmp_path / "in"))


def test_fractions_that_do_not_sum_to_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape("sum to 1.1, not to 1")):
        tiles.TilesSettings(source=tmp_path, fractions={"train": 0.7})
