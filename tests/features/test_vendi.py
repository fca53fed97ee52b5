import numpy as np
import pytest

from stages.features.vendi import vendi_score


def test_equal_directions_count_as_one_and_orthogonal_ones_as_many() -> None:
    assert vendi_score(np.outer([1.0, 2.0, 5.0], [1.0, 3.0])) == pytest.approx(1.0)
    assert vendi_score(3.0 * np.eye(7)) == pytest.approx(7.0)
    assert vendi_score(np.repeat(np.eye(4), 5, axis=0)) == pytest.approx(4.0)


def test_two_vectors_at_an_angle_have_the_score_of_the_closed_form() -> None:
    cosine = np.cos(0.7)
    eigen = np.array([1 + cosine, 1 - cosine]) / 2
    x_nd = np.array([[1.0, 0.0], [np.cos(0.7), np.sin(0.7)]])
    assert vendi_score(x_nd) == pytest.approx(np.exp(-(eigen * np.log(eigen)).sum()))


@pytest.mark.parametrize("shape", [(30, 8), (8, 30)])
def test_both_sides_of_the_gram_matrix_give_the_definition(shape: tuple[int, int]) -> None:
    x_nd = np.random.default_rng(0).normal(size=shape)
    phi_nd = x_nd / np.linalg.norm(x_nd, axis=1, keepdims=True)
    eigen = np.clip(np.linalg.eigvalsh(phi_nd @ phi_nd.T / len(x_nd)), 1e-300, None)
    assert vendi_score(x_nd) == pytest.approx(np.exp(-(eigen * np.log(eigen)).sum()))
    assert 1 <= vendi_score(x_nd) <= min(shape)


def test_a_spread_out_set_scores_higher_than_one_in_a_corner_and_lengths_do_not_count() -> None:
    rng = np.random.default_rng(1)
    wide_nd, narrow_nd = rng.normal(size=(40, 10)), 5.0 + rng.normal(size=(40, 10))
    assert vendi_score(wide_nd) > 2 * vendi_score(narrow_nd)
    assert vendi_score(wide_nd * rng.uniform(0.1, 9.0, size=(40, 1))) == pytest.approx(vendi_score(wide_nd))


def test_a_vector_without_direction_is_refused() -> None:
    with pytest.raises(ValueError, match="1 of 3 vectors are 0"):
        vendi_score(np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]))
