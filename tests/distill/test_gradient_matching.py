import pytest
import torch

from stages.classify import dsa
from stages.distill import formation, starting, student
from stages.distill import gradient_matching as gm

SHAPE = student.Shape(3, 8, 6)
PLAIN = gm.gradients("plain", chunk=4)


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def parameters(seed: int = 0) -> student.Parameters:
    return [p.double() for p in student.draw(SHAPE, stream(seed))]


def images(n: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(n, 3, 8, 8, generator=stream(seed), dtype=torch.float64)


def soft(n: int, seed: int = 2) -> torch.Tensor:
    return torch.randn(n, 3, generator=stream(seed), dtype=torch.float64).softmax(1)


def one_class(label: int, n: int, seed: int = 1) -> gm.Batch:
    return gm.Batch(images(n, seed), torch.eye(3, dtype=torch.float64)[[label] * n])


def plain_distance(real: list[torch.Tensor], synthetic: list[torch.Tensor]) -> float:
    """One output after another."""
    total = 0.0
    for r, s in zip(real, synthetic, strict=True):
        for place in range(len(r) if r.ndim > 1 else 0):
            a, b = r[place].flatten(), s[place].flatten()
            total += 1 - float(a @ b) / (float(a.norm() * b.norm()) + 1e-6)
    return total


def plain_gradient(p: student.Parameters, img: torch.Tensor, target: torch.Tensor) -> list[torch.Tensor]:
    """By the tape of autograd, of all parameters, differentiable once more."""
    leaves = [each.detach().requires_grad_() for each in p]
    return list(torch.autograd.grad(student.cross_entropy(leaves, img, target), leaves, create_graph=True))


def test_rows_alike_are_at_0_opposite_ones_at_2_and_empty_ones_at_1() -> None:
    rows = torch.randn(5, 2, 3, 3, generator=stream()) + 1
    one = torch.zeros(5, 7)
    one[:, 2] = 3
    assert gm.distance([rows, one], [rows, one]) == pytest.approx(0, abs=1e-5)
    assert gm.distance([rows, one], [2 * rows, -one]) == pytest.approx(10, abs=1e-5)
    assert gm.distance([rows], [0 * rows]) == 5
    assert gm.distance([rows, torch.ones(4)], [rows, -torch.ones(4)]) == pytest.approx(0, abs=1e-5)


def test_the_distance_is_that_of_a_loop_over_rows() -> None:
    a, b = (gm.parameter_gradient(parameters(), images(4, seed), soft(4)) for seed in (1, 2))
    assert gm.distance(a, b) == pytest.approx(plain_distance(a, b))
    assert gm.distance([1e-3 * x for x in a], b) == pytest.approx(plain_distance([1e-3 * x for x in a], b))


def test_a_network_that_gives_no_gradient_gives_none_to_the_images_and_no_nan() -> None:
    dead = [torch.zeros_like(p) for p in parameters()]
    real = gm.class_gradient(parameters(), images(4), soft(4))
    _, d_img, d_target = gm.matching(dead, real, images(2), soft(2))
    assert not d_img.any() and torch.isfinite(d_target).all()


def test_the_class_gradient_is_autograds_of_weights_and_the_other_one_that_of_all() -> None:
    wanted = plain_gradient(parameters(), images(4), soft(4))
    found = gm.parameter_gradient(parameters(), images(4), soft(4))
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(found, wanted, strict=True))
    of_weights = gm.class_gradient(parameters(), images(4), soft(4))
    assert all(torch.equal(a, b) for a, b in zip(of_weights, [g for g in found if g.ndim > 1], strict=True))


def test_a_gradient_in_chunks_is_that_of_the_whole_whatever_the_last_chunk_holds() -> None:
    for n in (1, 4, 7, 9):
        batch = gm.Batch(images(n), soft(n))
        whole = gm.parameter_gradient(parameters(), *batch)
        for chunk in (1, 4, 16):
            found = gm.in_chunks(gm.parameter_gradient, parameters(), batch, chunk)
            assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(found, whole, strict=True))


def test_image_and_target_gradients_are_those_of_autograd_twice() -> None:
    real = gm.class_gradient(parameters(), images(5, 3), soft(5, 4))
    value, d_img, d_target = gm.matching(parameters(), real, images(3), soft(3))
    img, target = images(3).requires_grad_(), soft(3).requires_grad_()
    mine = [g for g in plain_gradient(parameters(), img, target) if g.ndim > 1]
    loss = gm.distance(real, mine)
    wanted = torch.autograd.grad(loss, (img, target))
    assert value == pytest.approx(float(loss.detach()))
    assert torch.allclose(d_img, wanted[0], rtol=1e-9) and torch.allclose(d_target, wanted[1], rtol=1e-9)


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("augmented", [False, True])
def test_the_gradient_of_a_step_is_that_of_finite_differences(factor: int, augmented: bool) -> None:
    real = [one_class(label, 5, label) for label in range(3)]
    alike = [dsa.draw(1, stream(label + 3), siamese=True) for label in range(3)] if augmented else None
    img, target = images(6, 9).view(3, 2, 3, 8, 8), soft(6).view(3, 2, 3)

    def at(img: torch.Tensor, target: torch.Tensor) -> gm.Matched:
        return gm.step(PLAIN, parameters(), real, img, target, alike, formation.decoder(factor))

    found = at(img, target)
    for seed in range(3):
        d_img, d_target = 1e-6 * images(6, 20 + seed).view_as(img), 1e-6 * torch.rand_like(target)
        ahead, behind = at(img + d_img, target + d_target), at(img - d_img, target - d_target)
        slope = float((found.img_kmchw * d_img).sum() + (found.target_kmk * d_target).sum())
        assert float(ahead.loss - behind.loss) / 2 == pytest.approx(slope, rel=1e-4)


def test_equal_images_are_at_distance_0_under_any_augmentation_that_both_sides_share() -> None:
    img = torch.stack([images(4, label) for label in range(3)])
    target = starting.targets(3, 4).double()
    real = [gm.Batch(img[label].flip(0), target[label]) for label in range(3)]
    operations = set()
    for seed in range(12):
        alike = [dsa.draw(1, stream(10 * seed + label), siamese=True) for label in range(3)]
        operations |= {tuple(bool(x.any()) for x in (p.reach_n, p.cut_side_n, p.flip_n, p.warped_n)) for p in alike}
        assert gm.step(PLAIN, parameters(), real, img, target, alike).loss < 0.1
    assert len(operations) >= 4
    other = [dsa.draw(1, stream(label), siamese=True) for label in range(3)]
    moved = [b._replace(img_bchw=dsa.apply(b.img_bchw, p)) for b, p in zip(real, other, strict=True)]
    assert gm.step(PLAIN, parameters(), moved, img, target).loss > 5


def test_classes_in_another_order_have_the_same_sum_and_images_the_same_gradient() -> None:
    real = [one_class(label, 3 + label, label) for label in range(3)]
    img, target = images(6, 9).view(3, 2, 3, 8, 8), starting.targets(3, 2).double()
    orders = ([0, 1, 2], [2, 0, 1])
    found, turned = (gm.step(PLAIN, parameters(), [real[c] for c in o], img[o], target[o]) for o in orders)
    assert found.loss == pytest.approx(float(turned.loss))
    assert torch.allclose(found.img_kmchw[[2, 0, 1]], turned.img_kmchw)


def test_images_that_are_given_stay_as_they_are() -> None:
    img, target = images(3, 9).view(3, 1, 3, 8, 8), starting.targets(3, 1).double()
    real = [one_class(label, 4) for label in range(3)]
    p = parameters()
    kept = [x.clone() for x in (img, target, *(b.img_bchw for b in real), *p)]
    gm.step(PLAIN, p, real, img, target)
    gm.train_on(PLAIN, p, real[0], 2, 0.1, 3, stream())
    assert all(torch.equal(a, b) for a, b in zip((img, target, *(b.img_bchw for b in real), *p), kept, strict=True))


def test_the_inner_loop_is_plain_gradient_descent_of_torch() -> None:
    batch = gm.Batch(images(7), soft(7))
    found = gm.train_on(PLAIN, parameters(), batch, 3, 0.05, 3, stream(5))
    leaves = [p.requires_grad_() for p in parameters()]
    optimizer, order = torch.optim.SGD(leaves, 0.05), stream(5)
    for _ in range(3):
        for rows in torch.randperm(7, generator=order).split(3):
            optimizer.zero_grad()
            student.cross_entropy(leaves, images(7)[rows], soft(7)[rows]).backward()
            optimizer.step()
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(found, leaves, strict=True))


def test_the_inner_loop_draws_from_its_generator_alone_and_augments_when_asked() -> None:
    batch = gm.Batch(images(7), soft(7))

    def once(seed: int, strength: dsa.Strength | None) -> torch.Tensor:
        return gm.train_on(PLAIN, parameters(), batch, 1, 0.05, 3, stream(seed), strength)[0]

    assert torch.equal(once(5, dsa.Strength()), once(5, dsa.Strength()))
    assert not torch.equal(once(5, dsa.Strength()), once(6, dsa.Strength()))
    assert not torch.equal(once(5, dsa.Strength()), once(5, None))
