from pathlib import Path

import numpy as np
import torch

from stages import store
from stages.installed import MISSING, installed


def test_rows_that_are_read_alone_are_those_of_the_whole_and_bits_agree(tmp_path: Path) -> None:
    rows_np = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    store.write_tensors(tmp_path / "a.safetensors", {"rows": rows_np, "other": torch.zeros(2)}, note="kept")
    found = store.read_rows(tmp_path / "a.safetensors", "rows", (4, 0))
    assert torch.equal(torch.stack(found), rows_np[[4, 0]])
    assert store.read_note(tmp_path / "a.safetensors") == "kept"


def test_a_library_that_is_not_there_is_said_so() -> None:
    assert installed("no-such-library") == MISSING and installed("numpy") == np.__version__
