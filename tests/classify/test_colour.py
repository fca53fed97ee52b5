import numpy as np

from stages.classify import colour


def tiles(level: int, n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.clip(rng.normal(level, 20, (n, 8, 8, 3)), 0, 255).astype(np.uint8)


def test_features_are_mean_and_spread_of_each_channel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8)
    found = colour.colour_features(pixels)
    for i in range(2):
        for c in range(3):
            assert np.isclose(found[i, c], pixels[i, :, :, c].mean())
            assert np.isclose(found[i, 3 + c], pixels[i, :, :, c].std())


def test_features_do_not_see_where_a_pixel_is() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3), np.uint8)
    shuffled = np.random.default_rng(1).permutation(pixels.reshape(16, 3)).reshape(1, 4, 4, 3)
    assert np.allclose(colour.colour_features(pixels), colour.colour_features(shuffled))


def test_classes_of_different_colour_are_told_apart_and_a_class_without_images_gets_nothing() -> None:
    train = np.concatenate([tiles(80, 20, 0), tiles(180, 20, 1)]), np.repeat([0, 2], 20)
    val = np.concatenate([tiles(80, 5, 2), tiles(180, 5, 3)]), np.repeat([0, 2], 5)
    model = colour.fit(train, val, 3, (0.1, 10.0))
    p = model.probabilities(val[0])
    assert (p.argmax(1) == val[1]).all()
    assert np.allclose(p.sum(1), 1) and (p[:, 1] == 0).all()
    assert model.penalty == 0.1, "a tie goes to the smaller C"
