from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from stages.classify import networks
from stages.distill import compiled, flat, student, trajectory_adjoint, trajectory_matching
from stages.distill.trajectory_matching import Batch, Gradients, Matched

Way = Callable[[Gradients, Tensor, Tensor, list[Batch], Tensor], Matched]
MODES: tuple[compiled.Mode, compiled.Mode] = ("plain", "exact")
SHAPES = (student.Shape(3, 8, 5), student.Shape(4, 16, 8))


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def walk(shape: student.Shape, steps: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, list[Batch]]:
    """A start, a target a way off, and mini-batches in which images come back (7 images, 4 a batch)."""
    generator = stream()
    start_p = flat.flatten(student.draw(shape, generator)).to(dtype)
    target_p = start_p + 0.02 * torch.randn(start_p.shape, generator=generator, dtype=dtype)
    img = torch.randn(7, 3, shape.size_px, shape.size_px, generator=generator, dtype=dtype)
    target = torch.softmax(2 * torch.randn(7, shape.classes, generator=generator, dtype=dtype), 1)
    rows = trajectory_matching.minibatches(7, 4, steps, generator)
    return start_p, target_p, [Batch(img[r], target[r]) for r in rows]


def both(matched: Matched) -> list[Tensor]:
    """Every result as a vector: images, targets, rate."""
    return [torch.cat([d.flatten() for d in part]) for part in (matched.d_images, matched.d_targets, [matched.d_rate])]


def apart(ours: Tensor, others: Tensor) -> float:
    return float((ours - others).norm() / others.norm())


def rate(value: float = 0.05) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def test_the_loss_is_one_where_the_student_stands_still_and_zero_on_the_target_and_a_quarter_halfway() -> None:
    start_p, target_p = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 0.0, 3.0])
    losses = [
        trajectory_matching.loss(end_p, start_p, target_p) for end_p in (start_p, target_p, (start_p + target_p) / 2)
    ]
    assert [float(value) for value in losses] == [1.0, 0.0, 0.25]


def test_a_vector_of_parameters_comes_apart_into_what_it_was_put_together_from() -> None:
    parameters = student.draw(SHAPES[1], stream())
    back = flat.unflatten(flat.flatten(parameters), flat.sizes(SHAPES[1]))
    assert all(torch.equal(ours, given) for ours, given in zip(back, parameters, strict=True))
    with pytest.raises(RuntimeError, match="split"):
        flat.unflatten(flat.flatten(parameters)[:-1], flat.sizes(SHAPES[1]))


def test_every_image_is_seen_once_before_one_is_seen_again() -> None:
    rows = trajectory_matching.minibatches(7, 3, 8, stream())
    assert [len(r) for r in rows] == [3, 3, 1, 3, 3, 1, 3, 3]
    assert sorted(torch.cat(rows[:3]).tolist()) == sorted(torch.cat(rows[3:6]).tolist()) == list(range(7))
    assert not torch.equal(torch.cat(rows[:3]), torch.cat(rows[3:6]))
    assert [len(r) for r in trajectory_matching.minibatches(3, 256, 2, stream())] == [3, 3]
    with pytest.raises(ValueError, match="at least one image"):
        trajectory_matching.minibatches(0, 3, 8, stream())


def test_the_students_steps_are_those_of_torch_sgd_on_the_network_as_a_module() -> None:
    shape = SHAPES[1]
    start_p, _, batches = walk(shape, 5, torch.float32)
    network = networks.build_seeded(student.facts(shape), stream())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    thetas = trajectory_matching.student_steps(
        trajectory_matching.gradients(shape, "plain").descent, start_p, batches, torch.tensor(0.05)
    )
    for theta_p, batch in zip(thetas[1:], batches, strict=True):
        optimizer.zero_grad()
        F.cross_entropy(network(batch.img_bchw), batch.target_bk).backward()
        optimizer.step()
        torch.testing.assert_close(theta_p, flat.flatten(list(network.parameters())), rtol=1e-4, atol=1e-6)
    assert len({theta_p.data_ptr() for theta_p in thetas}) == 6


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_adjoint_equals_full_back_propagation(shape: student.Shape, steps: int) -> None:
    start_p, target_p, batches = walk(shape, steps)
    gradients = trajectory_matching.gradients(shape, "plain")
    exact = trajectory_matching.unrolled(gradients, start_p, target_p, batches, rate())
    ours = trajectory_adjoint.adjoint(gradients, start_p, target_p, batches, rate())
    assert apart(ours.loss, exact.loss) < 1e-12
    assert max(apart(*pair) for pair in zip(both(ours), both(exact), strict=True)) < 1e-10


def test_full_back_propagation_equals_autograd_on_the_network_as_a_module() -> None:
    shape, steps = SHAPES[0], 3
    start_p, target_p, batches = walk(shape, steps)
    network = networks.build_seeded(student.facts(shape), stream()).double()
    names = [name for name, _ in network.named_parameters()]
    images, targets = ([b[place].clone().requires_grad_() for b in batches] for place in (0, 1))
    lr, theta = rate().requires_grad_(), flat.unflatten(start_p.clone().requires_grad_(), flat.sizes(shape))
    for img, target in zip(images, targets, strict=True):
        risk = F.cross_entropy(functional_call(network, dict(zip(names, theta, strict=True)), (img,)), target)
        slopes = torch.autograd.grad(risk, theta, create_graph=True)
        theta = [value - lr * slope for value, slope in zip(theta, slopes, strict=True)]
    end_p = torch.cat([value.flatten() for value in theta])
    trajectory_matching.loss(end_p, start_p, target_p).backward()
    ours = trajectory_matching.unrolled(
        trajectory_matching.gradients(shape, "plain"), start_p, target_p, batches, rate()
    )
    theirs = Matched(end_p, [i.grad for i in images], [t.grad for t in targets], lr.grad)  # type: ignore[misc, arg-type]
    assert max(apart(*pair) for pair in zip(both(ours), both(theirs), strict=True)) < 1e-10


def test_the_derivatives_are_those_of_finite_differences() -> None:
    shape = SHAPES[0]
    start_p, target_p, batches = walk(shape, 4)
    gradients = trajectory_matching.gradients(shape, "plain")
    ours = trajectory_adjoint.adjoint(gradients, start_p, target_p, batches, rate())

    def loss(moved: list[Batch], lr: Tensor) -> Tensor:
        return trajectory_matching.loss(
            trajectory_matching.student_steps(gradients.descent, start_p, moved, lr)[-1], start_p, target_p
        )

    generator, h = stream(1), 1e-6
    for place, slopes in ((0, ours.d_images), (1, ours.d_targets)):
        ways = [torch.randn(d.shape, generator=generator, dtype=d.dtype) for d in slopes]
        ends = []
        for sign in (h, -h):
            parts = [list(b) for b in batches]
            for part, way in zip(parts, ways, strict=True):
                part[place] = part[place] + sign * way
            ends.append(loss([Batch(*part) for part in parts], rate()))
        expected = sum((d * way).sum() for d, way in zip(slopes, ways, strict=True))
        torch.testing.assert_close((ends[0] - ends[1]) / (2 * h), expected, rtol=1e-5, atol=1e-9)
    slope = (loss(batches, rate(0.05 + h)) - loss(batches, rate(0.05 - h))) / (2 * h)
    torch.testing.assert_close(slope, ours.d_rate, rtol=1e-5, atol=1e-9)


def test_tesla_is_exact_for_one_step_and_only_near_for_more() -> None:
    shape = SHAPES[1]
    gradients = trajectory_matching.gradients(shape, "plain")
    start_p, target_p, batches = walk(shape, 1)
    exact, near = (
        way(gradients, start_p, target_p, batches, rate())
        for way in (trajectory_adjoint.adjoint, trajectory_adjoint.tesla)
    )
    assert max(apart(*pair) for pair in zip(both(near), both(exact), strict=True)) < 1e-12
    start_p, target_p, batches = walk(shape, 10)
    exact, near = (
        way(gradients, start_p, target_p, batches, rate())
        for way in (trajectory_adjoint.adjoint, trajectory_adjoint.tesla)
    )
    images, expected = both(near)[0], both(exact)[0]
    assert apart(near.loss, exact.loss) < 1e-12
    assert apart(images, expected) > 0.01
    assert float(torch.cosine_similarity(images, expected, 0)) > 0.5


def test_compiled_derivatives_equal_the_plain_ones() -> None:
    from torch._inductor import cpp_builder, exc

    try:
        cpp_builder.get_cpp_compiler()
    except exc.InvalidCxxCompiler:
        pytest.skip("torch.compile needs a C++ compiler")
    shape = SHAPES[0]
    start_p, target_p, batches = walk(shape, 3, torch.float32)
    batches = [Batch(b.img_bchw[:3], b.target_bk[:3]) for b in batches]
    plain, ours = (
        trajectory_adjoint.adjoint(
            trajectory_matching.gradients(shape, mode), start_p, target_p, batches, torch.tensor(0.05)
        )
        for mode in MODES
    )
    assert max(apart(*pair) for pair in zip(both(ours), both(plain), strict=True)) < 1e-5
