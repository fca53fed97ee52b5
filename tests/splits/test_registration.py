"""Registration: a known pose is found, a copy scores high however it was changed, an unrelated tile does not."""

import numpy as np
import pytest
import torch
from planted import copies, original, view

from stages.splits import lookalikes, registration
from stages.splits.landmarks import ANGLES, RINGS, SIDE, describe
from stages.splits.registration import Pose, Side


def sides(first: list[np.ndarray], second: list[np.ndarray]) -> tuple[Side, Side]:
    marks = describe(np.stack([*first, *second]))
    vector = lookalikes.compress(marks.invariant_bkd)
    n = len(first)
    return tuple(
        Side(marks.place_bk3[k], marks.rings_bkra[k], vector[k], marks.band_b4hw[k]) for k in (slice(n), slice(n, None))
    )


@pytest.mark.parametrize("steps", [0, 3, 11])
@pytest.mark.parametrize("mirror", [1.0, -1.0])
def test_the_turn_of_rings_is_read_off(steps: int, mirror: float) -> None:
    rings = torch.randn(1, len(RINGS), ANGLES, generator=torch.manual_seed(1))
    other = rings if mirror > 0 else rings.flip(-1).roll(1, -1)  # angle a -> -a
    angle, found = registration.turn(rings, other.roll(steps, -1))
    assert found.item() == mirror
    assert abs((angle.item() - 2 * np.pi * steps / ANGLES + np.pi) % (2 * np.pi) - np.pi) < 0.05


def test_a_tile_laid_on_itself_scores_the_most_there_is() -> None:
    first, _ = sides([view(original(0))], [view(original(1))])
    band = torch.from_numpy(first.band_p4hw).float()
    at = registration.read(band, *(axis[None] for axis in registration.points()))
    middle = (SIDE - 1) / 2
    still = Pose(torch.tensor([[0.0, 0.0, middle, middle]]), torch.ones(1))
    assert registration.score(at, band, still).item() == pytest.approx(np.arctanh(registration.HIGHEST), rel=1e-3)
    away = Pose(torch.tensor([[0.0, 0.0, middle + 60, middle]]), torch.ones(1))
    assert registration.score(at, band, away).item() == 0.0  # too little overlap


def test_copies_score_high_and_strangers_low() -> None:
    made = copies(3)
    alike = registration.agreement(*sides([made[0]] * (len(made) - 1), made[1:]))
    strangers = registration.agreement(
        *sides([view(original(i)) for i in range(30)], [view(original(i)) for i in range(100, 130)])
    )
    assert alike.min() > 0.5, alike
    assert alike[:2].min() > 2.0  # turned by 90 degrees, mirrored
    assert strangers.max() < 0.45 and np.median(strangers) < 0.3


def test_which_tile_comes_first_hardly_matters() -> None:
    made = copies(4)
    there = registration.agreement(*sides(made[:1] * 8, made[1:]))
    back = registration.agreement(*sides(made[1:], made[:1] * 8))
    np.testing.assert_allclose(there, back, rtol=0.2)


def test_exchanging_the_tiles_inverts_the_pose() -> None:
    rng = torch.manual_seed(0)
    pose = Pose(
        torch.cat(
            [
                torch.rand(6, 1, generator=rng) + 0.1,
                torch.randn(6, 1, generator=rng),
                30 + torch.randn(6, 2, generator=rng),
            ],
            1,
        ),
        torch.tensor([1.0, -1.0] * 3),
    )
    band = torch.zeros(6, 4, 4, 4)
    _, back = registration._magnified_first((band, band + 1), pose)
    assert (back.parameters[:, 0] < 0).all()
    middle = (SIDE - 1) / 2

    def put(pose: Pose, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        log_zoom, angle, x0, y0 = pose.parameters.unbind(-1)
        across, down = registration._turned(x - middle, y - middle, log_zoom.exp(), angle, pose.mirror)
        return across + x0, down + y0

    x, y = torch.full((6,), 10.0), torch.full((6,), 50.0)
    again = put(back, *put(pose, x, y))
    assert torch.allclose(again[0], x, atol=1e-3) and torch.allclose(again[1], y, atol=1e-3)
