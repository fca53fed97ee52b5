import torch
from torch import Tensor
from torch.nn import functional as F

from stages.classify import dsa, networks
from stages.distill import experts, flat, rates, student, trajectory_adjoint, trajectory_matching
from stages.distill.trajectory_matching import Batch

SHAPE = student.Shape(3, 16, 16)
GRADIENTS = trajectory_matching.gradients(SHAPE, "plain")
DESCENT = GRADIENTS.descent


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(n: int, seed: int, noise: float) -> tuple[Tensor, Tensor]:
    """One pattern a class under noise so strong that one image tells little of it, and one-hot targets."""
    classes = torch.arange(n) % 3
    pattern = torch.randn(3, 3, 16, 16, generator=stream())
    img = pattern[classes] + noise * torch.randn(n, 3, 16, 16, generator=stream(seed))
    return img / (1 + noise**2) ** 0.5, F.one_hot(classes, 3).float()


def start(seed: int = 0) -> Tensor:
    return flat.flatten(student.draw(SHAPE, stream(seed)))


def epoch(
    theta_p: Tensor, img: Tensor, target: Tensor, rate: float, batch: int, generator: torch.Generator, augment: bool
) -> Tensor:
    def shown(rows_b: Tensor) -> Batch:
        return Batch(img[rows_b], target[rows_b])

    strength = dsa.Strength() if augment else None
    return experts.epoch(DESCENT, theta_p, shown, len(img), rate, batch, generator, strength)


def test_an_epoch_gives_a_vector_of_its_own_and_leaves_what_it_was_given() -> None:
    img, target = blobs(20, 1, 1.0)
    start_p = start()
    first = epoch(start_p, img, target, 0.05, 8, stream(), True)
    assert torch.equal(start_p, start()) and first.data_ptr() != start_p.data_ptr()
    assert not torch.equal(first, start_p) and torch.equal(first, epoch(start_p, img, target, 0.05, 8, stream(), True))


def test_an_epoch_is_that_of_torch_sgd_with_its_smaller_last_batch() -> None:
    img, target = blobs(20, 1, 1.0)
    network = networks.build_seeded(student.facts(SHAPE), stream())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    for rows in torch.randperm(20, generator=stream(3)).split(8):
        optimizer.zero_grad()
        F.cross_entropy(network(img[rows]), target[rows]).backward()
        optimizer.step()
    ours = epoch(start(), img, target, 0.05, 8, stream(3), False)
    torch.testing.assert_close(ours, flat.flatten(list(network.parameters())), rtol=1e-4, atol=1e-6)


def test_blank_images_that_fill_a_batch_change_no_gradient() -> None:
    img, target = (value.double() for value in blobs(5, 1, 1.0))
    theta_p = start().double()
    filled = experts.filled(Batch(img, target), 8)
    assert len(filled.img_bchw) == len(filled.target_bk) == 8
    torch.testing.assert_close(DESCENT(theta_p, *filled), DESCENT(theta_p, img, target), rtol=1e-10, atol=1e-13)


def accuracy(theta_p: Tensor) -> float:
    img, target = blobs(600, 2, 1.2)
    of_classes = student.logits(flat.unflatten(theta_p, flat.sizes(SHAPE)), img)
    return float((of_classes.argmax(1) == target.argmax(1)).float().mean())


def taught(img: Tensor, rate: Tensor) -> float:
    """Mean accuracy of four fresh students after 60 steps on one image a class."""
    batches = [Batch(img, torch.eye(3))] * 60
    ends = [trajectory_matching.student_steps(DESCENT, start(90 + k), batches, rate)[-1] for k in range(4)]
    return sum(map(accuracy, ends)) / len(ends)


def test_one_matched_image_a_class_teaches_nearly_as_much_as_all_images_and_a_real_one_does_not() -> None:
    img, target = blobs(300, 1, 1.2)
    paths = [[start(10 + e)] for e in range(3)]
    for e, path in enumerate(paths):
        generator = stream(e)
        for _ in range(4):
            path.append(epoch(path[-1], img, target, 0.1, 32, generator, False))
    synthetic, log_rate, generator = img[:3].clone(), torch.tensor(0.2).log(), stream()
    motion, losses = torch.zeros_like(synthetic), []
    for i in range(30):
        path, moment = paths[i % 3], int(torch.randint(2, (1,), generator=generator))
        batches = [Batch(synthetic, torch.eye(3))] * 8
        matched = trajectory_adjoint.adjoint(GRADIENTS, path[moment], path[moment + 2], batches, rates.rate(log_rate))
        motion = 0.5 * motion + torch.stack(matched.d_images).sum(0)
        synthetic = synthetic - 50.0 * motion
        log_rate = log_rate - 0.1 * rates.in_log(matched.d_rate, log_rate)
        losses.append(float(matched.loss))
    everything = sum(accuracy(path[-1]) for path in paths) / 3
    real = max(taught(img[:3], torch.tensor(rate)) for rate in (0.05, 0.1, 0.2))
    assert taught(synthetic, rates.rate(log_rate)) >= 0.95 * everything > real + 0.02
    assert losses[-1] < 0.5 * losses[0]
