"""The network and its training: it learns, it uses the class, it goes on bit for bit."""

import pytest
import torch

from stages import compute, training
from stages.diffusion import pipeline, unet
from stages.diffusion.learner import Learner, Recipe
from stages.diffusion.schedule import dpm_solver
from stages.streams import torch_stream

SHAPE = (2, 4, 4)
RECIPE = Recipe(300, 16, 4e-3, 10, 0.0, 1.0, 5.0, 0.1, 0.999, "cosine")


def network() -> torch.nn.Module:
    return unet.build(SHAPE, 2, (32,), 1, (False,), torch_stream(0, "weights"))


def learner(recipe: Recipe = RECIPE) -> Learner:
    """Eight latents, four of each class: class 0 is light, class 1 dark."""
    latents_vnchw = torch.randn((1, 8, *SHAPE), generator=torch_stream(0, "data")) * 0.5
    latents_vnchw[:, :4] += 1.0
    latents_vnchw[:, 4:] -= 1.0
    return Learner(network(), recipe, compute.accelerator("no"), latents_vnchw, torch.arange(8) // 4, seed=0)


@pytest.fixture(scope="module")
def trained() -> tuple[Learner, list[float]]:
    subject = learner()
    return subject, [subject.step(k)["loss"] for k in range(RECIPE.steps)]


def test_an_untrained_network_predicts_nothing_and_draws_no_global_randomness() -> None:
    state = torch.get_rng_state()
    one, two = network(), network()
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    x = torch.randn((3, *SHAPE), generator=torch_stream(0, "x"))
    out = one(x, torch.tensor([0, 500, 999]), class_labels=torch.tensor([0, 1, 2])).sample
    assert out.abs().max() == 0
    assert all(torch.isfinite(weight).all() for weight in one.parameters())


def test_the_network_knows_one_class_more_than_there_are() -> None:
    assert network().class_embedding.num_embeddings == 3


def test_a_latent_that_cannot_be_halved_is_refused_with_advice() -> None:
    with pytest.raises(ValueError, match="no multiple of 4"):
        unet.build((4, 7, 7), 2, (8, 8, 8), 1, (False,) * 3, torch_stream(0, "w"))
    with pytest.raises(ValueError, match="attention flags"):
        unet.build((4, 8, 8), 2, (8, 8), 1, (False,), torch_stream(0, "w"))
    with pytest.raises(ValueError, match="multiples of 8"):
        unet.build((4, 8, 8), 2, (8, 12), 1, (False, False), torch_stream(0, "w"))


def test_a_tiny_network_overfits_eight_latents(trained: tuple[Learner, list[float]]) -> None:
    _, losses = trained
    assert sum(losses[-10:]) / 10 < 0.3 * sum(losses[:5]) / 5


def draw(subject: Learner, y: int, guidance: float) -> torch.Tensor:
    """Sixteen samples of class `y`, always from the same noise."""
    noise = torch.randn((16, *SHAPE), generator=torch_stream(0, "noise"))
    predict = pipeline.guided(subject.ema.network, torch.full((16,), y), 2, guidance)
    return pipeline.sample_latents(predict, dpm_solver("cosine"), noise, 12)


def test_the_class_decides_what_is_drawn(trained: tuple[Learner, list[float]]) -> None:
    light, dark = draw(trained[0], 0, 1.5), draw(trained[0], 1, 1.5)
    assert light.mean() > 0.5 and dark.mean() < -0.5, "from equal noise"


def test_an_overfitted_network_draws_what_it_has_seen(trained: tuple[Learner, list[float]]) -> None:
    seen_nd = trained[0].latents_vnchw[0, :4].flatten(1)
    strangers = torch.randn((16, *SHAPE), generator=torch_stream(0, "strangers")) * 0.5 + 1.0
    distance, by_chance = (
        torch.cdist(z.flatten(1), seen_nd).min(dim=1).values.mean() for z in (draw(trained[0], 0, 1.0), strangers)
    )
    assert distance < 0.6 * by_chance


def test_a_restored_learner_goes_on_bit_for_bit(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("learner")
    unbroken, first, second = learner(), learner(), learner()
    for k in range(6):
        unbroken.step(k)
    for k in range(3):
        first.step(k)
    training.save(folder / "c.safetensors", [], first.modules, first.optimizers)
    training.restore(folder / "c.safetensors", second.modules, second.optimizers)
    for k in range(3, 6):
        second.step(k)
    for name, module in unbroken.modules.items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, second.modules[name].state_dict()[key]), (name, key)


def test_a_step_clips_the_gradient_and_follows_the_learning_rate() -> None:
    subject = learner(RECIPE._replace(clip=1e-3))
    row = subject.step(0)
    assert row["lr"] == pytest.approx(RECIPE.lr / 10)
    assert row["grad_norm"] > 1e-3, "the norm before clipping is told"
    norm = torch.stack([w.grad.norm() for w in subject.unet.parameters() if w.grad is not None]).norm()
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)
