import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xtalgen.explorer import projection
from xtalgen.explorer.projection import UmapConfig, nearest, neighbours, principal_components, project


def blobs(n, seed=0):
    generator = np.random.default_rng(seed)
    return np.repeat(np.array([[0.0] * 6, [9.0] * 6, [-9.0] * 6]), n, axis=0) + generator.normal(size=(3 * n, 6))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.floats(0.1, 50), st.floats(-50, 50))
def test_components_do_not_depend_on_units(seed, factor, shift):
    found = blobs(8, seed)
    changed = found.copy()
    changed[:, 2] = factor * changed[:, 2] + shift
    first, second = (np.abs(principal_components(matrix, UmapConfig())) for matrix in (found, changed))
    assert first == pytest.approx(second, abs=1e-6)


def test_features_that_never_vary_or_lone_crystals_do_no_harm():
    assert principal_components(np.ones((5, 3)), UmapConfig()).tolist() == [[0.0]] * 5
    assert principal_components(np.ones((1, 3)), UmapConfig()).shape == (1, 1)
    mixed = np.hstack([np.ones((20, 2)), np.random.default_rng(0).normal(size=(20, 1))])
    assert np.isfinite(principal_components(mixed, UmapConfig())).all()


@pytest.mark.parametrize("n", [1, 2, 15])
def test_few_crystals_are_drawn_by_their_components(n):
    points, components = project(np.random.default_rng(0).normal(size=(n, 4)), UmapConfig())
    assert points.shape == (n, 2)
    assert np.isfinite(points).all()
    assert len(components) == n


def test_exact_neighbours_are_those_of_scikit_learn(monkeypatch):
    from sklearn.neighbors import NearestNeighbors

    monkeypatch.setattr(projection, "BLOCK", 7)
    points = np.random.default_rng(0).normal(size=(50, 3))
    indices, distances, _ = neighbours(points, 5)
    wanted, places = NearestNeighbors(n_neighbors=5).fit(points).kneighbors(points)
    assert indices.tolist() == places.tolist()
    assert distances == pytest.approx(wanted, abs=1e-3)


def test_every_row_is_its_own_first_neighbour_even_among_equals():
    indices, distances, _ = neighbours(np.zeros((6, 2)), 3)
    assert indices[:, 0].tolist() == list(range(6))
    assert distances[:, 0].tolist() == [0.0] * 6


def test_nearest_reference():
    references = np.array([[0.0, 0.0], [5.0, 5.0]])
    assert nearest(np.array([[4.0, 4.0], [0.5, 0.0]]), references).tolist() == [1, 0]


@pytest.mark.slow
def test_map_separates_groups_is_seeded_and_kept(tmp_path, monkeypatch):
    found = blobs(30)
    points, _ = project(found, UmapConfig(seed=3), tmp_path)
    again, _ = project(found, UmapConfig(seed=3))
    assert np.array_equal(points, again)
    centres = points.reshape(3, 30, 2).mean(axis=1)
    spread = points.reshape(3, 30, 2).std(axis=1).max()
    apart = min(np.linalg.norm(centres[a] - centres[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    assert apart > 3 * spread
    monkeypatch.setattr(projection, "_umap", None)  # a second call must not project again
    kept, _ = project(found, UmapConfig(seed=3), tmp_path)
    assert np.array_equal(points, kept)
    with pytest.raises(TypeError):
        project(found, UmapConfig(seed=4), tmp_path)


def test_equal_crystals_share_one_point():
    others = blobs(20)
    copies = np.repeat(np.full((1, 6), 4.0), 100, axis=0)
    mixed = np.concatenate([others[:30], copies, others[30:]])
    points, components = project(mixed, UmapConfig())
    assert np.ptp(points[30:130], axis=0).tolist() == [0.0, 0.0]
    assert np.ptp(components[30:130], axis=0).max() == 0.0
    distinct = np.concatenate([others[:30], copies[:1], others[30:]])
    assert np.array_equal(project(distinct, UmapConfig())[0], points[[*range(31), *range(130, 160)]])
