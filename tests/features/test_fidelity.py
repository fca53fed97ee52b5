import numpy as np

from stages.features.fidelity import fidelity


def clouds(rng: np.random.Generator, shift: float) -> tuple[np.ndarray, ...]:
    group_t, group_v = np.repeat(np.arange(60), 3), np.repeat(np.arange(60, 100), 2)
    centre_gd = rng.normal(size=(100, 8))
    train_td = centre_gd[group_t] + 0.3 * rng.normal(size=(180, 8))
    val_vd = centre_gd[group_v] + 0.3 * rng.normal(size=(80, 8))
    return rng.normal(shift, 1.05, size=(90, 8)), train_td, group_t, val_vd, group_v


def test_good_candidates_come_near_the_real_reference_and_bad_ones_do_not() -> None:
    rng = np.random.default_rng(0)
    good = fidelity(*clouds(rng, 0.0), rng, at_most=600, resamples=100)
    bad = fidelity(*clouds(rng, 3.0), rng, at_most=600, resamples=100)
    assert good["kid"]["low"] < 0.05 and bad["kid"]["low"] > good["kid"]["high"]
    assert good["manifold"]["recall"] > good["manifold_train"]["recall"] - 0.1
    assert bad["manifold"]["precision"] < 0.3 < good["manifold"]["precision"]
    assert good["manifold"]["count"] == 90


def test_at_most_so_many_vectors_enter_and_too_few_leave_numbers_out() -> None:
    rng = np.random.default_rng(1)
    x_nd, train_td, group_t, val_vd, group_v = clouds(rng, 0.0)
    found = fidelity(x_nd, train_td, group_t, val_vd, group_v, rng, at_most=20, resamples=50)
    assert found["manifold"]["count"] == 20
    few = fidelity(x_nd[:3], train_td[:3], group_t[:3], val_vd[:2], group_v[:2], rng, at_most=20, resamples=50)
    assert few == {}
