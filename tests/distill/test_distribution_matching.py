import pytest
import torch

from stages.classify import dsa
from stages.distill import distribution_matching as dm
from stages.distill import formation, student

SHAPE = student.Shape(3, 8, 6)
PLAIN = dm.embeddings("plain", chunk=4)
OF_PIXELS = dm.Embeddings(lambda _, img: img.flatten(1), lambda _, d, img: of_pixels(d, img), 4)
"""A network that passes pixels on as they are."""


def of_pixels(wanted_d: torch.Tensor, img: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    gap = img.flatten(1).mean(0) - wanted_d
    return gap.square().sum(), (2 * gap / len(img)).view(img.shape[1:]).expand_as(img)


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def parameters() -> student.Parameters:
    """With shifts of norms that make something of an image of zeros."""
    drawn, noise = student.draw(SHAPE, stream()), stream(7)
    return [p.double() + 0.1 * torch.randn(p.shape, generator=noise, dtype=torch.float64) for p in drawn]


def images(n: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(n, 3, 8, 8, generator=stream(seed), dtype=torch.float64)


def test_with_pixels_for_features_the_loss_is_the_squared_distance_of_mean_images_and_descent_is_exact() -> None:
    real = [images(5, 1), images(9, 2)]
    img = images(6, 3).view(2, 3, 3, 8, 8)
    gaps = torch.stack([img[c].mean(0) - real[c].mean(0) for c in range(2)])
    found = dm.step(OF_PIXELS, [], real, img)
    assert found.loss == pytest.approx(float(gaps.square().sum()))
    assert torch.allclose(found.img_kmchw, (2 / 3) * gaps[:, None].expand_as(img))
    assert dm.step(OF_PIXELS, [], real, img - 1.5 * found.img_kmchw).loss < 1e-20


def test_features_are_compared_at_the_mean() -> None:
    found = dm.step(PLAIN, parameters(), [images(5), images(6, 2)], images(4, 3).view(2, 2, 3, 8, 8))
    mean = [student.features(parameters(), x).mean(0) for x in (images(5), images(6, 2), *images(4, 3).split(2))]
    assert found.loss == pytest.approx(float((mean[0] - mean[2]).square().sum() + (mean[1] - mean[3]).square().sum()))


def test_the_real_ones_themselves_in_any_order_are_at_distance_0_whatever_augmentation_both_share() -> None:
    img = torch.stack([images(6), images(6, 2)])
    for seed in range(8):
        alike = [dsa.draw(1, stream(10 * seed + c), siamese=True) for c in range(2)]
        found = dm.step(PLAIN, parameters(), [img[0].flip(0), img[1].roll(2, 0)], img, alike)
        assert found.loss < 1e-20 and found.img_kmchw.abs().max() < 1e-10


@pytest.mark.parametrize("n", [1, 4, 7, 9])
def test_the_mean_feature_in_chunks_is_that_of_the_whole(n: int) -> None:
    found = dm.mean_features(PLAIN, parameters(), images(n))
    assert torch.allclose(found, student.features(parameters(), images(n)).mean(0), rtol=1e-10)


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("augmented", [False, True])
def test_the_image_gradient_is_that_of_the_tape(factor: int, augmented: bool) -> None:
    real = [images(5), images(6, 2)]
    alike = [dsa.draw(1, stream(c + 3), siamese=True) for c in range(2)] if augmented else None
    img = images(6, 3).view(2, 3, 3, 8, 8)
    found = dm.step(PLAIN, parameters(), real, img, alike, formation.decoder(factor))
    img.requires_grad_()
    loss = torch.zeros((), dtype=torch.float64)
    for c in range(2):
        sides = [real[c], formation.decode(img[c], factor)]
        if alike is not None:
            sides = [dsa.apply(x, alike[c]) for x in sides]
        a, b = (student.features(parameters(), x).mean(0) for x in sides)
        loss = loss + (a - b).square().sum()
    (wanted,) = torch.autograd.grad(loss, img)
    assert found.loss == pytest.approx(float(loss.detach())) and torch.allclose(found.img_kmchw, wanted, rtol=1e-9)


def test_the_image_gradient_is_that_of_finite_differences() -> None:
    real, img = [images(5), images(6, 2)], images(4, 3).view(2, 2, 3, 8, 8)
    found = dm.step(PLAIN, parameters(), real, img)
    way = 1e-6 * images(4, 8).view_as(img)
    ahead, behind = (dm.step(PLAIN, parameters(), real, img + s * way).loss for s in (1, -1))
    assert float(ahead - behind) / 2 == pytest.approx(float((found.img_kmchw * way).sum()), rel=1e-4)
