import pytest
import torch

from stages.classify import networks
from stages.distill import student


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("size", "depth"), [(32, 3), (28, 3), (8, 3), (40, 5)])
def test_the_pure_network_is_the_module_parameter_by_parameter(size: int, depth: int) -> None:
    shape = student.Shape(5, size, 8, depth)
    module = networks.build_seeded(student.facts(shape), stream()).double()
    with torch.no_grad():
        for p in module.parameters():  # norms and biases that do something
            p.add_(0.1 * torch.randn(p.shape, generator=stream(1)))
    parameters = [p.detach() for p in module.parameters()]
    assert [p.shape for p in student.draw(shape, stream())] == [p.shape for p in parameters]
    img = torch.randn(4, 3, size, size, generator=stream(2), dtype=torch.float64)
    assert torch.allclose(student.logits(parameters, img), module(img), rtol=1e-10)
    assert torch.allclose(student.features(parameters, img), module.features(img), rtol=1e-10)  # type: ignore[operator]


def test_networks_are_of_their_generator_alone() -> None:
    shape = student.Shape(3, 8, 4)
    torch.manual_seed(7)
    first = student.draw(shape, stream())
    torch.manual_seed(8)
    assert all(torch.equal(a, b) for a, b in zip(first, student.draw(shape, stream()), strict=True))
    assert not torch.equal(first[0], student.draw(shape, stream(1))[0])


def test_cross_entropy_of_one_hot_targets_is_that_of_labels_and_of_soft_ones_their_mean() -> None:
    shape = student.Shape(3, 8, 4)
    parameters, img = student.draw(shape, stream()), torch.randn(6, 3, 8, 8, generator=stream(1))
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    hard = student.cross_entropy(parameters, img, torch.eye(3)[labels])
    assert hard == pytest.approx(float(torch.nn.functional.cross_entropy(student.logits(parameters, img), labels)))
    soft = student.cross_entropy(parameters, img, torch.full((6, 3), 1 / 3))
    each = [float(student.cross_entropy(parameters, img, torch.eye(3)[[c] * 6])) for c in range(3)]
    assert soft == pytest.approx(sum(each) / 3)
