"""What is compiled gives what is written; skipped where no compiler is."""

import pytest
import torch
from torch._inductor import cpp_builder, exc

from stages.distill import distribution_matching as dm
from stages.distill import gradient_matching as gm
from stages.distill import starting, student

SHAPE = student.Shape(3, 16, 16)


def has_compiler() -> bool:
    try:
        return bool(cpp_builder.get_cpp_compiler())
    except exc.InvalidCxxCompiler:
        return False


pytestmark = [
    pytest.mark.skipif(not has_compiler(), reason="torch.compile needs a C++ compiler on this machine"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # torch's own, where it compiles
]


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, 3, 16, 16, generator=stream(seed))


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), 0))


def of_gradients(ready: gm.Gradients) -> gm.Matched:
    """A step and its image gradient; three classes, six real images and two synthetic ones each."""
    target = starting.targets(3, 6)
    real = [gm.Batch(images(6, label), target[label]) for label in range(3)]
    return gm.step(ready, student.draw(SHAPE, stream(0)), real, images(6, 9).view(3, 2, 3, 16, 16), target[:, :2])


def test_an_exact_step_of_gradient_matching_equals_the_plain_one() -> None:
    ready = gm.gradients("plain", chunk=4)
    plain = of_gradients(ready)
    exact = of_gradients(
        ready._replace(matching=gm.gradients("exact").matching)
    )  # the one that is differentiated twice
    assert exact.loss == pytest.approx(float(plain.loss), rel=1e-5)
    for a, b in ((exact.img_kmchw, plain.img_kmchw), (exact.target_kmk, plain.target_kmk)):
        assert float((a - b).norm() / b.norm()) < 1e-5


def test_a_fast_step_of_distribution_matching_points_the_way_of_the_plain_one() -> None:
    real, img = [images(6, label) for label in range(3)], images(6, 9).view(3, 2, 3, 16, 16)
    p = student.draw(SHAPE, stream(0))
    plain, fast = (dm.step(dm.embeddings(mode, chunk=4), p, real, img) for mode in ("plain", "fast"))
    assert fast.loss == pytest.approx(float(plain.loss), rel=0.05)
    assert cosine(fast.img_kmchw, plain.img_kmchw) > 0.99
