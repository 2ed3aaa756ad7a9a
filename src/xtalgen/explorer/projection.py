"""Map positions from descriptors: standardisation, PCA, UMAP (McInnes et al. 2018, arXiv:1802.03426)."""

import hashlib
import json
import logging
import warnings
import zipfile
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from xtalgen.runtime.atomic import unfinished

log = logging.getLogger(__name__)
METHOD = "standardise-pca-umap/1"
FEWEST = 16  # crystals; below, UMAP has too few neighbours and PCA is used
MOST_EXACT = 60_000  # crystals whose neighbours are searched exhaustively
BLOCK = 1024


@dataclass(frozen=True)
class UmapConfig:
    """Principal components kept; UMAP's number of neighbours and minimum distance; seed."""

    components: int = 32
    neighbours: int = 15
    min_dist: float = 0.1
    seed: int = 0


def project(
    descriptors: Float[np.ndarray, "n features"], config: UmapConfig, cache: Path | None = None
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n components"]]:
    """Returns the positions on the map and the underlying principal components.

    The projection is seeded and single-threaded, so the same descriptors give the same map. Equal descriptors share one
    position; UMAP would spread copies out, since each has only the others as neighbours. `cache` is a folder that keeps
    results under a hash of descriptors, configuration and versions. Fewer than 16 distinct crystals are placed by their
    first two principal components.
    """
    _, first, inverse = np.unique(descriptors, axis=0, return_index=True, return_inverse=True)
    in_order = np.argsort(first)  # distinct rows in the order of their first occurrence
    rank = np.argsort(in_order)
    points, components = _project_distinct(descriptors[first[in_order]], config, cache)
    rows = rank[inverse.ravel()]
    return points[rows], components[rows]


def _project_distinct(
    descriptors: Float[np.ndarray, "n features"], config: UmapConfig, cache: Path | None
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n components"]]:
    kept = None if cache is None else cache / f"{_key(descriptors, config)}.npz"
    if kept is not None and (found := _read(kept, len(descriptors))) is not None:
        return found
    components = principal_components(descriptors, config)
    points = _umap(components, config) if len(descriptors) >= FEWEST else _plane(components)
    if kept is not None:
        with unfinished(kept.with_suffix(".npz")) as part:
            np.savez(part, points=points, components=components)
    return points, components


def _read(kept: Path, rows: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns what a file of the cache keeps; None where it is not there or damaged, with a warning."""
    if not kept.is_file():
        return None
    try:
        with np.load(kept) as found:
            points, components = found["points"].reshape(rows, 2), found["components"].reshape(rows, -1)
    # NotImplementedError: zipfile's word for a flipped bit in a version or a compression method.
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        log.warning("%s: damaged (%s); it is made again", kept, error)
        return None
    return points, components


def principal_components(
    descriptors: Float[np.ndarray, "n features"], config: UmapConfig
) -> Float[np.ndarray, "n components"]:
    """Returns the first principal components of the standardised descriptors; constant features are left out."""
    deviation = descriptors.std(axis=0)
    varies = deviation > 1e-9 * np.maximum(1.0, np.abs(descriptors).max(axis=0, initial=0.0))
    if len(descriptors) < 2 or not varies.any():
        return np.zeros((len(descriptors), 1))
    from sklearn.decomposition import PCA

    scaled = (descriptors[:, varies] - descriptors[:, varies].mean(axis=0)) / deviation[varies]
    count = min(config.components, *scaled.shape)
    return PCA(count, svd_solver="full" if len(scaled) < 500 else "covariance_eigh").fit_transform(scaled)


def nearest(
    components: Float[np.ndarray, "n components"], references: Float[np.ndarray, "m components"]
) -> Int[np.ndarray, " n"]:
    """Returns the index of the nearest reference of each row."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=1, algorithm="auto", n_jobs=1).fit(references)
    return search.kneighbors(components, return_distance=False)[:, 0].astype(np.int64)


def neighbours(
    components: Float[np.ndarray, "n components"], count: int
) -> tuple[Int[np.ndarray, "n count"], Float[np.ndarray, "n count"], None]:
    """Returns indices and distances of the nearest rows of each row, itself first, in UMAP's format.

    Exact, by blocks of matrix products: up to well beyond 20,000 rows this is faster than UMAP's own approximate
    search, which also takes half a minute to compile.
    """
    rows = components.astype(np.float32)
    squares = np.einsum("nk,nk->n", rows, rows)
    indices = np.empty((len(rows), count), dtype=np.int64)
    distances = np.empty((len(rows), count), dtype=np.float32)
    for start in range(0, len(rows), BLOCK):
        block = slice(start, min(start + BLOCK, len(rows)))
        squared = squares[block, None] - 2 * rows[block] @ rows.T + squares
        squared[np.arange(squared.shape[0]), np.arange(block.start, block.stop)] = -1.0
        nearest_first = np.argpartition(squared, count - 1, axis=1)[:, :count]
        found = np.take_along_axis(squared, nearest_first, axis=1)
        order = np.lexsort((nearest_first, found), axis=1)
        indices[block] = np.take_along_axis(nearest_first, order, axis=1)
        distances[block] = np.sqrt(np.maximum(np.take_along_axis(found, order, axis=1), 0))
    return indices, distances, None


def _plane(components: np.ndarray) -> np.ndarray:
    points = np.zeros((len(components), 2))
    points[:, : min(2, components.shape[1])] = components[:, :2]
    return points


def _umap(components: np.ndarray, config: UmapConfig) -> np.ndarray:
    count = min(config.neighbours, len(components) - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # UMAP warns that a seed implies one thread
        import umap

        mapper = umap.UMAP(
            n_neighbors=count,
            min_dist=config.min_dist,
            init="pca" if components.shape[1] >= 2 else "random",
            random_state=config.seed,
            n_jobs=1,
            precomputed_knn=neighbours(components, count) if len(components) <= MOST_EXACT else (None, None, None),
        )
        return np.asarray(mapper.fit_transform(components.astype(np.float32)), dtype=np.float64)


def _key(descriptors: np.ndarray, config: UmapConfig) -> str:
    facts = {**asdict(config), "method": METHOD, "shape": descriptors.shape}
    facts |= {package: version(package) for package in ("umap-learn", "scikit-learn", "pynndescent", "numpy")}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(descriptors, dtype=np.float64).tobytes())
    return digest.hexdigest()[:24]
