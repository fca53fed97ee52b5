import math

import pytest
import torch

from stages.learned_images import MOST_BACKOFFS, MOST_OF_RATE, Best, Descent, Learned, Rates

RATES = Rates(image=1.0, momentum=0.5, label=1.0, log_rate=0.1)


def learned(soft: bool = False) -> Learned:
    return Learned(torch.zeros(2, 1, 3, 4, 4), torch.eye(2)[:, None], soft, rate=0.01)


def test_a_step_follows_the_gradient_with_momentum() -> None:
    one = learned()
    descent = Descent(one, RATES, None)
    for wanted in (-1.0, -2.5):  # 1, then 1 + 0.5 · 1 more
        one.image.grad = torch.ones_like(one.image)
        assert descent.step(0.0)
        assert float(one.image.detach()[0, 0, 0, 0, 0]) == wanted


@pytest.mark.parametrize("bad", ["loss", "gradient", "endless"])
def test_what_is_no_number_is_not_followed_and_later_steps_are_half_as_long(bad: str) -> None:
    one = learned()
    descent = Descent(one, RATES, None)
    for _ in range(2):  # to −1, then to −2.5
        one.image.grad = torch.ones_like(one.image)
        descent.step(0.0)
    one.image.grad = torch.full_like(one.image, {"loss": 1.0, "gradient": torch.nan, "endless": torch.inf}[bad])
    assert not descent.step(torch.nan if bad == "loss" else 0.0)
    assert torch.equal(one.image.detach(), torch.full_like(one.image, -1.0)), "back to before the last step"
    assert int(one.backoffs) == 1 and one.image.grad is None
    one.image.grad = torch.ones_like(one.image)
    assert descent.step(0.0)
    assert torch.equal(one.image.detach(), torch.full_like(one.image, -1.5)), "half a step, and no momentum of before"


def test_it_gives_up_when_halving_does_not_help() -> None:
    one = learned()
    descent = Descent(one, RATES, None)
    for _ in range(MOST_BACKOFFS - 1):
        assert not descent.step(torch.nan)
    with pytest.raises(FloatingPointError, match=f"{MOST_BACKOFFS} times"):
        descent.step(torch.nan)


def test_images_are_kept_within_black_and_white() -> None:
    one = learned()
    limits = torch.full((3, 1, 1), -0.25), torch.full((3, 1, 1), 0.5)
    descent = Descent(one, RATES, limits)
    one.image.grad = torch.ones_like(one.image)
    one.image.grad[1] = -1
    descent.step(0.0)
    assert one.image.detach()[0].unique().tolist() == [-0.25] and one.image.detach()[1].unique().tolist() == [0.5]


def test_hard_targets_are_one_hot_and_soft_ones_begin_surely() -> None:
    assert torch.equal(learned().targets(), torch.eye(2)[:, None])
    soft = learned(soft=True).targets()
    assert torch.allclose(soft.sum(2), torch.ones(2, 1)) and float(soft[0, 0, 0].detach()) > 0.9
    assert soft.requires_grad


@pytest.mark.parametrize("pull", [1e4, -1e4, 1e38])
def test_no_single_gradient_throws_the_learning_rate_away(pull: float) -> None:
    one = learned()
    descent = Descent(one, RATES, None)
    for steps, wanted in ((1, 1.0), (2, 2.5)):  # with momentum: 1, then 1 + 0.5 · 1 more
        one.log_rate.grad = torch.tensor(pull)
        assert descent.step(0.0)
        moved = float(one.log_rate.detach()) - math.log(0.01)
        assert moved == pytest.approx(-math.copysign(wanted * MOST_OF_RATE, pull), rel=1e-4), steps


def test_a_small_gradient_moves_the_learning_rate_as_far_as_it_says() -> None:
    one = learned()
    one.log_rate.grad = torch.tensor(0.5)
    Descent(one, RATES, None).step(0.0)
    assert float(one.log_rate.detach()) == pytest.approx(math.log(0.01) - 0.05, rel=1e-5)


def test_labels_and_rate_go_back_with_the_images() -> None:
    one = learned(soft=True)
    descent = Descent(one, RATES, None)
    before = one.label.detach().clone()
    one.label.grad, one.log_rate.grad = torch.ones_like(one.label), torch.tensor(0.5)
    descent.step(0.0)
    assert torch.equal(one.label.detach(), before - 1), "labels follow their gradient"
    one.image.grad = torch.full_like(one.image, torch.nan)
    assert not descent.step(0.0)
    assert torch.equal(one.label.detach(), before)
    assert float(one.log_rate.detach()) == pytest.approx(math.log(0.01))


def test_the_best_is_kept_and_a_tie_keeps_the_earlier() -> None:
    one = learned()
    best = Best(one)
    for place, score in enumerate((0.4, 0.6, 0.6, 0.5)):
        with torch.no_grad():
            one.image.fill_(float(place))
        best.offer(one, score, place)
    assert int(best.step) == 1 and best.image.unique().tolist() == [1.0]
