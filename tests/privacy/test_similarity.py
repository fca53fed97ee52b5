import numpy as np
import pytest
import torch

from stages.privacy import similarity
from stages.privacy.alterations import ALTERATIONS


def textures(n: int, seed: int = 0, side: int = 32) -> np.ndarray:
    """Random smooth colour pictures, each unlike the others."""
    coarse = torch.rand((n, 3, 9, 9), generator=torch.Generator().manual_seed(seed))
    img = torch.nn.functional.interpolate(coarse, size=side, mode="bicubic").clamp(0, 1)
    return (255 * img).round().byte().permute(0, 2, 3, 1).numpy()


@pytest.fixture(scope="module")
def world() -> tuple[torch.Tensor, similarity.Description, similarity.References]:
    img = similarity.to_tensor(textures(60))
    description = similarity.fit_description(img, 192)
    group = np.random.default_rng(0).permutation(np.arange(60) // 3)
    return img, description, similarity.prepare(description, img, group)


def test_a_turned_copy_has_similarity_one_to_its_tile_and_no_other(world: tuple) -> None:
    img, description, references = world
    turned = torch.rot90(img[:5], 1, (2, 3)).flip(3)
    near = similarity.nearness(description, turned, references)
    assert near.similarity_ng.max(1) == pytest.approx(1.0, abs=1e-4)
    assert near.tile_ng[np.arange(5), near.similarity_ng.argmax(1)].tolist() == list(range(5))
    assert np.sort(near.similarity_ng, axis=1)[:, -2].max() < 0.8


def test_turning_the_audited_tiles_changes_nothing(world: tuple) -> None:
    _, description, references = world
    img = similarity.to_tensor(textures(7, seed=3))
    straight = similarity.nearness(description, img, references).similarity_ng
    for turned in similarity.orientations(img):
        assert similarity.nearness(description, turned, references).similarity_ng == pytest.approx(straight, abs=1e-4)


def test_every_group_gives_its_nearest_tile_as_a_plain_loop_finds_it(world: tuple) -> None:
    img, description, references = world
    audited = similarity.to_tensor(textures(3, seed=4))
    near = similarity.nearness(description, audited, references)
    for n, tile in enumerate(audited):
        scores = torch.stack(
            [
                similarity.describe(description, similarity.thumbnails(turned))
                @ similarity.describe(description, similarity.thumbnails(view)).T
                for turned in similarity.orientations(tile[None])
                for view in similarity.crops(img)
            ]
        ).amax(0)[0]
        group_r = np.empty(60, int)
        group_r[references.order_r] = np.repeat(np.arange(20), references.sizes_g)
        for g in range(20):
            members = np.flatnonzero(group_r == g)
            assert near.similarity_ng[n, g] == pytest.approx(float(scores[members].max()), abs=1e-5)
            assert near.tile_ng[n, g] == members[int(scores[members].argmax())]


@pytest.mark.parametrize("name", ALTERATIONS)
def test_altered_tiles_stay_nearer_to_their_source_than_any_clean_tile(world: tuple, name: str) -> None:
    img, description, references = world
    clean = similarity.nearness(description, similarity.to_tensor(textures(100, seed=5)), references)
    altered = ALTERATIONS[name](img[:20], torch.Generator().manual_seed(0))
    assert altered.shape == img[:20].shape
    assert altered.min() >= 0 and altered.max() <= 1
    near = similarity.nearness(description, altered, references).similarity_ng.max(1)
    assert (near > clean.similarity_ng.max()).mean() >= 0.9


def test_a_cast_of_colour_is_no_likeness(world: tuple) -> None:
    _, description, _ = world
    flat = torch.full((2, 3, 32, 32), 0.7) + torch.tensor([0.1, -0.2, 0.0]).view(1, 3, 1, 1)
    assert similarity.describe(description, similarity.thumbnails(flat)).abs().max() == pytest.approx(0, abs=1e-3)


def test_a_real_tile_is_never_its_own_neighbour() -> None:
    masked = similarity.without_own_group(np.ones((2, 3), np.float32), np.array([2, 0]))
    assert masked.tolist() == [[1, 1, -1], [-1, 1, 1]]


def test_the_components_are_half_whitened(world: tuple) -> None:
    img, description, _ = world
    flat = similarity.orientations(similarity.thumbnails(img)).flatten(0, 1).flatten(1).double()
    variance = torch.linalg.eigvalsh(flat.T @ flat / len(flat)).flip(0)[: description.basis_dk.shape[1]]
    projected = flat @ description.basis_dk.double()
    moment = projected.T @ projected / len(projected)
    assert moment.diag().numpy() == pytest.approx(variance.sqrt().numpy(), rel=1e-3)
    assert (moment - moment.diag().diag()).abs().max() < 1e-3 * float(moment.max())
