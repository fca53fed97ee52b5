"""The average of weights."""

import pytest
import torch
from torch import nn

from stages.diffusion.ema import Ema, decay


def test_decay_warms_up_and_stops_at_its_longest() -> None:
    assert [decay(n, 0.9) for n in (0, 8, 80, 10_000)] == pytest.approx([0.1, 0.5, 0.9, 0.9])


def test_the_average_is_the_recursion_written_out() -> None:
    network = nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(2.0)
    average = Ema(network, longest=0.3)
    by_hand = 2.0
    for n, value in enumerate([5.0, -1.0, 4.0, 4.0]):
        network.weight.data.fill_(value)
        average.update(network)
        part = decay(n, 0.3)
        by_hand = part * by_hand + (1 - part) * value
        assert float(average.network.weight) == pytest.approx(by_hand, rel=1e-6)


def test_a_restored_average_goes_on_where_it_was() -> None:
    network = nn.Linear(3, 2)
    one, two = Ema(network, 0.99), Ema(network, 0.99)
    for _ in range(5):
        network.weight.data.add_(1.0)
        one.update(network)
    two.load_state_dict(one.state_dict())
    network.weight.data.add_(1.0)
    one.update(network)
    two.update(network)
    assert torch.equal(one.network.weight, two.network.weight)
    assert int(two.updates) == 6


def test_a_short_run_is_not_held_back_by_its_first_weights() -> None:
    network = nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(1.0)
    average = Ema(network, 0.995)
    network.weight.data.fill_(0.0)
    for _ in range(30):
        average.update(network)
    assert float(average.network.weight) < 1e-6, "a flat 0.995 would keep 0.86"
