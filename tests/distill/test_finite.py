import math

import torch

from stages.distill import finite


def test_one_number_that_is_none_among_many_tensors_is_found() -> None:
    good = [torch.zeros(3), torch.tensor(1e30), torch.full((2, 2), -4.0)]
    assert finite.all_finite(*good)
    for bad in (math.nan, math.inf, -math.inf):
        assert not finite.all_finite(*good, torch.tensor([0.0, bad]))
