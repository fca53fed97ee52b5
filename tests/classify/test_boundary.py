import pytest
import torch

from stages.classify.boundary import boundaries, boundary_loss


def logits_of(p: list[list[float]]) -> torch.Tensor:
    return torch.tensor(p, dtype=torch.float64).log().requires_grad_()


def test_the_boundary_loss_equals_the_one_worked_out_by_hand() -> None:
    # Class 0: own .9 .5, rank max(1, ⌊1.8⌋) = 1, boundary .9; own at most that: .9 .5 -> (0 + .4) / 2 = .2;
    #          others .2 .7, of which at least .6: .7 -> .1.
    # Class 1: own .8 .3, boundary .8: (0 + .5) / 2 = .25; others .1 .5, at least .5: .5 -> 0.
    logits = logits_of([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [0.7, 0.3]])
    assert float(boundary_loss(logits, torch.tensor([0, 0, 1, 1])).detach()) == pytest.approx(0.2 + 0.1 + 0.25)


@pytest.mark.parametrize(
    ("count", "rank"), [(1, 1), (2, 1), (3, 2), (9, 8), (10, 9), (11, 9), (20, 18), (30, 27), (100, 90)]
)
def test_the_boundary_is_the_value_at_nine_tenths_of_the_own_images_at_least_the_first(count: int, rank: int) -> None:
    own = torch.linspace(0.95, 0.5, count, dtype=torch.float64)
    p = torch.cat([own, torch.full((3,), 0.99, dtype=torch.float64)])  # higher, but of another class
    labels = torch.tensor([0] * count + [1] * 3)
    shuffled = torch.randperm(count + 3, generator=torch.Generator().manual_seed(count))
    found = boundaries(torch.stack([p, 1 - p], 1)[shuffled], labels[shuffled])
    assert float(found[0]) == float(own[rank - 1])


def test_only_own_images_at_most_at_the_boundary_and_others_near_it_are_moved() -> None:
    # Ten own images: the boundary is the ninth, .55; only it and the tenth are pulled. Of the others .1 lies below .25.
    own = [0.99, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6, 0.55, 0.35]
    logits = logits_of([[p, 1 - p] for p in [*own, 0.1, 0.3]])
    labels = torch.tensor([0] * 10 + [1, 1])
    b_1, rank = 0.9, 1  # of class 1: own .9 .7, rank ⌊1.8⌋ = 1
    assert rank == 1 and boundaries(logits.softmax(1), labels).tolist() == pytest.approx([0.55, b_1])
    of_0 = (0 + 0.2) / 2 + (0.3 - 0.25)
    of_1 = (0 + 0.2) / 2 + (0.65 - 0.6)  # others of class 1: .01 … .45 .65, of which at least .6: .65
    assert float(boundary_loss(logits, labels).detach()) == pytest.approx(of_0 + of_1)


def test_no_gradient_passes_through_the_boundary() -> None:
    logits = logits_of([[0.9, 0.1], [0.5, 0.5], [0.05, 0.95]])
    boundary_loss(logits, torch.tensor([0, 0, 1])).backward()
    # With b fixed the loss of class 0 is const − (p_0 + p_1) / 2, plus .5 − (b_1 − .3) < 0 kept out of class 1.
    p = logits.detach().softmax(1).requires_grad_()
    free = logits.detach().clone().requires_grad_()
    z = free.softmax(1)
    (-(z[0, 0] + z[1, 0]) / 2 - z[2, 1]).backward()
    assert p.shape == (3, 2) and torch.allclose(logits.grad, free.grad)
    assert logits.grad.abs().sum() > 0.1


def test_classes_without_an_image_and_batches_of_one_class_give_finite_losses() -> None:
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = boundary_loss(logits, torch.tensor([2, 2, 2, 2, 2]))
    loss.backward()
    z = logits.detach().softmax(1)[:, 2]
    b = z.sort(descending=True).values[3]
    assert float(loss.detach()) == pytest.approx(float((b - z[z <= b]).mean()))
    assert logits.grad.isfinite().all() and logits.grad.any()


def test_it_is_applied_once_to_the_softmax_so_a_perfect_batch_costs_nothing() -> None:
    logits = 50 * torch.nn.functional.one_hot(torch.tensor([0, 1, 2, 0]), 3).double()
    assert float(boundary_loss(logits, torch.tensor([0, 1, 2, 0]))) < 1e-12


def test_shifting_all_logits_of_an_image_changes_nothing() -> None:
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels, shift = torch.tensor([0, 1, 2, 0, 1, 2]), torch.randn(6, 1, generator=torch.Generator().manual_seed(1))
    assert float(boundary_loss(logits + shift, labels)) == pytest.approx(float(boundary_loss(logits, labels)))
