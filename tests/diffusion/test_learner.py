"""The three networks and their training: they learn, they use the class, they go on bit for bit."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from stages import compute, training
from stages.diffusion import dit, pipeline, unet, uvit
from stages.diffusion.learner import Learner, Recipe
from stages.diffusion.schedule import dpm_solver
from stages.streams import torch_stream

SHAPE = (2, 4, 4)
RECIPE = Recipe(300, 16, 4e-3, 10, 0.0, 1.0, 5.0, 0.1, 0.999, "cosine")
BUILD: dict[str, Callable[[torch.Generator], Any]] = {
    "unet": lambda weights: unet.build(SHAPE, 2, (32,), 1, (False,), weights),
    "dit": lambda weights: dit.build(SHAPE, 2, 64, 2, 2, 2, weights),
    "uvit": lambda weights: uvit.build(SHAPE, 2, 64, 3, 4, 2, 4.0, weights),
}
LONGER = {"unet": RECIPE, "dit": RECIPE, "uvit": RECIPE._replace(steps=550, lr=3e-3, warmup=50)}
"""A U-ViT learns eight latents by heart more slowly."""
each = pytest.mark.parametrize("name", BUILD)


def network(name: str) -> Any:
    return BUILD[name](torch_stream(0, "weights"))


def learner(name: str = "unet", recipe: Recipe = RECIPE) -> Learner:
    """Eight latents, four of each class: class 0 is light, class 1 dark."""
    latents_vnchw = torch.randn((1, 8, *SHAPE), generator=torch_stream(0, "data")) * 0.5
    latents_vnchw[:, :4] += 1.0
    latents_vnchw[:, 4:] -= 1.0
    return Learner(network(name), recipe, compute.accelerator("no"), latents_vnchw, torch.arange(8) // 4, seed=0)


@pytest.fixture(scope="module", params=BUILD)
def trained(request: pytest.FixtureRequest) -> tuple[Learner, list[float]]:
    recipe = LONGER[request.param]
    subject = learner(request.param, recipe)
    return subject, [subject.step(k)["loss"] for k in range(recipe.steps)]


@each
def test_an_untrained_network_predicts_nothing_and_draws_no_global_randomness(name: str) -> None:
    state = torch.get_rng_state()
    one, two = network(name), network(name)
    assert torch.equal(state, torch.get_rng_state())
    other = BUILD[name](torch_stream(1, "weights"))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    x = torch.randn((3, *SHAPE), generator=torch_stream(0, "x"))
    out = one(x, torch.tensor([0, 500, 999]), class_labels=torch.tensor([0, 1, 2])).sample
    assert out.abs().max() == 0 and out.shape == x.shape
    assert all(torch.isfinite(weight).all() for weight in one.parameters())


def test_every_network_knows_one_class_more_than_there_are() -> None:
    assert network("unet").class_embedding.num_embeddings == 3
    assert {b.norm1.emb.class_embedder.embedding_table.num_embeddings for b in network("dit").transformer_blocks} == {3}
    assert network("uvit").class_embed.num_embeddings == 3


def test_a_latent_that_cannot_be_halved_is_refused_with_advice() -> None:
    with pytest.raises(ValueError, match="no multiple of 4"):
        unet.build((4, 7, 7), 2, (8, 8, 8), 1, (False,) * 3, torch_stream(0, "w"))
    with pytest.raises(ValueError, match="attention flags"):
        unet.build((4, 8, 8), 2, (8, 8), 1, (False,), torch_stream(0, "w"))
    with pytest.raises(ValueError, match="multiples of 8"):
        unet.build((4, 8, 8), 2, (8, 12), 1, (False, False), torch_stream(0, "w"))


def test_a_latent_that_is_no_square_of_whole_patches_is_refused_with_advice() -> None:
    for shape in ((4, 7, 7), (4, 8, 4)):
        with pytest.raises(ValueError, match=r"denoiser\.dit\.patch"):
            dit.build(shape, 2, 8, 1, 2, 2, torch_stream(0, "w"))
        with pytest.raises(ValueError, match=r"denoiser\.uvit\.patch"):
            uvit.build(shape, 2, 8, 1, 2, 2, 4.0, torch_stream(0, "w"))
    with pytest.raises(ValueError, match="heads 3"):
        dit.build((4, 8, 8), 2, 8, 1, 3, 2, torch_stream(0, "w"))
    with pytest.raises(ValueError, match="depth 2 odd"):
        uvit.build((4, 8, 8), 2, 8, 2, 2, 2, 4.0, torch_stream(0, "w"))


def test_a_tiny_network_overfits_eight_latents(trained: tuple[Learner, list[float]]) -> None:
    _, losses = trained
    assert sum(losses[-10:]) / 10 < 0.4 * sum(losses[:5]) / 5


def draw(subject: Learner, y: int, guidance: float) -> torch.Tensor:
    """Sixteen samples of class `y`, always from the same noise."""
    noise = torch.randn((16, *SHAPE), generator=torch_stream(0, "noise"))
    predict = pipeline.guided(subject.ema.network, torch.full((16,), y), 2, guidance)
    return pipeline.sample_latents(predict, dpm_solver("cosine"), noise, 12)


@pytest.mark.parametrize("guidance", [1.0, 1.5])
def test_from_equal_noise_the_class_asked_for_is_the_class_a_classifier_sees(
    trained: tuple[Learner, list[float]], guidance: float
) -> None:
    seen_nd = trained[0].latents_vnchw[0].flatten(1)
    classifier = LogisticRegression().fit(seen_nd, np.arange(8) // 4)
    told = [float(classifier.predict(draw(trained[0], y, guidance).flatten(1)).mean()) for y in (0, 1)]
    assert told[0] < 0.1 and told[1] > 0.9, "of sixteen at most one is taken for the other class"


def test_the_null_class_is_a_class_of_its_own(trained: tuple[Learner, list[float]]) -> None:
    """Told nothing, the network lies between the classes; guidance would do nothing if it were one of them."""
    x = torch.randn((64, *SHAPE), generator=torch_stream(0, "x"))
    t = torch.full((64,), 900)
    with torch.no_grad():
        v0, v1, null = (trained[0].ema.network(x, t, class_labels=torch.full((64,), y)).sample.mean() for y in range(3))
    assert v0 + 0.3 < null < v1 - 0.3, "v is about minus the clean latent where noise prevails"


def test_an_overfitted_network_draws_what_it_has_seen(trained: tuple[Learner, list[float]]) -> None:
    seen_nd = trained[0].latents_vnchw[0, :4].flatten(1)
    strangers = torch.randn((16, *SHAPE), generator=torch_stream(0, "strangers")) * 0.5 + 1.0
    distance, by_chance = (
        torch.cdist(z.flatten(1), seen_nd).min(dim=1).values.mean() for z in (draw(trained[0], 0, 1.0), strangers)
    )
    assert distance < 0.8 * by_chance


def test_a_dit_leaves_labels_alone_in_training() -> None:
    """diffusers would hide a tenth of them, drawn from the global generator, on top of those our training hides."""
    subject = network("dit").train()
    for block in subject.transformer_blocks:
        torch.nn.init.normal_(block.norm1.linear.weight, std=0.1, generator=torch_stream(0, "awake"))
    torch.nn.init.normal_(subject.proj_out_2.weight, std=0.1, generator=torch_stream(0, "awake"))
    x = torch.randn((1, *SHAPE), generator=torch_stream(0, "x")).expand(256, -1, -1, -1)
    state = torch.get_rng_state()
    with torch.no_grad():
        known, null = (
            subject(x, torch.full((256,), 500), class_labels=torch.full((256,), y)).sample.flatten(1) for y in (0, 2)
        )
    assert torch.equal(state, torch.get_rng_state())
    assert (known - known[:1]).abs().max() < 1e-5 < (known - null).abs().max()


def test_every_long_skip_of_a_uvit_joins_a_shallow_block_to_its_mirror_image_and_matters() -> None:
    subject = uvit.build(SHAPE, 2, 16, 5, 2, 2, 2.0, torch_stream(0, "w"))
    torch.nn.init.normal_(subject.head.weight, generator=torch_stream(0, "awake"))
    handed: list[torch.Tensor] = []
    read: list[torch.Tensor] = []
    hooks = [block.register_forward_hook(lambda _, __, out: handed.append(out)) for block in subject.shallow]
    hooks += [join.register_forward_hook(lambda _, given, __: read.append(given[0])) for join in subject.joins]
    x, t, y = (
        torch.randn((4, *SHAPE), generator=torch_stream(0, "x")),
        torch.full((4,), 500),
        torch.tensor([0, 1, 2, 0]),
    )
    with torch.no_grad():
        whole = subject(x, t, class_labels=y).sample
        assert len(handed) == len(read) == 2
        for skip, joined in zip(reversed(handed), read, strict=True):
            assert torch.equal(joined[..., 16:], skip) and not torch.equal(joined[..., :16], skip)
        for hook in hooks:
            hook.remove()
        for join in subject.joins:
            kept = join.weight.clone()
            join.weight[:, 16:] = 0.0
            assert (subject(x, t, class_labels=y).sample - whole).abs().max() > 1e-3
            join.weight.copy_(kept)


def test_patches_of_a_uvit_lie_where_they_were_cut() -> None:
    """A head that undoes the cutting gives the image back."""
    subject = uvit.build((2, 6, 6), 2, 8, 1, 2, 2, 1.0, torch_stream(0, "w"))
    x = torch.randn((3, 2, 6, 6), generator=torch_stream(0, "x"))
    cut_bcn = torch.nn.functional.unfold(x, 2, stride=2)  # (b, c · p · p, n), colour first
    patches_bnd = cut_bcn.transpose(1, 2).unflatten(2, (2, 4)).transpose(2, 3).flatten(2)
    assert torch.equal(subject._unpatched(patches_bnd), x)


@each
def test_a_saved_network_is_the_same_when_read_back(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp(name)
    subject = network(name)
    for weight in subject.parameters():
        weight.data.normal_(std=0.1, generator=torch_stream(0, "awake"))
    subject.save_pretrained(folder)
    again = type(subject).from_pretrained(folder, local_files_only=True, use_safetensors=True)
    x = torch.randn((3, *SHAPE), generator=torch_stream(0, "x"))
    with torch.no_grad():
        one, two = (
            net.eval()(x, torch.tensor([0, 500, 999]), class_labels=torch.arange(3)).sample for net in (subject, again)
        )
    assert torch.equal(one, two) and one.abs().max() > 0


@each
def test_a_restored_learner_goes_on_bit_for_bit(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("learner")
    unbroken, first, second = learner(name), learner(name), learner(name)
    for k in range(6):
        unbroken.step(k)
    for k in range(3):
        first.step(k)
    training.save(folder / "c.safetensors", [], first.modules, first.optimizers)
    training.restore(folder / "c.safetensors", second.modules, second.optimizers)
    for k in range(3, 6):
        second.step(k)
    for part, module in unbroken.modules.items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, second.modules[part].state_dict()[key]), (part, key)


def test_a_step_clips_the_gradient_and_follows_the_learning_rate() -> None:
    subject = learner(recipe=RECIPE._replace(clip=1e-3))
    row = subject.step(0)
    assert row["lr"] == pytest.approx(RECIPE.lr / 10)
    assert row["grad_norm"] > 1e-3, "the norm before clipping is told"
    norm = torch.stack([w.grad.norm() for w in subject.network.parameters() if w.grad is not None]).norm()
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)
