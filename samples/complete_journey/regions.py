"""Fourteen pseudo-regions: recursive bisection of the graph 'households that shop in both stores'."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from samples.complete_journey.journey import Floats, Ints

_ISOLATED = 1e-3  # weight between any two stores, so that the graph is connected
_DECIMALS = 9  # the last bits of an eigenvector differ between machines; they must not decide


def shared_households(household: Ints, store: Ints, stores: Ints) -> Floats:
    """Return the cosine between the household sets of every pair of `stores` (0 where none is shared)."""
    column = np.searchsorted(stores, store)
    column[column == len(stores)] = 0
    mine = stores[column] == store
    _, row = np.unique(household[mine], return_inverse=True)
    visits = np.zeros((int(row.max()) + 1, len(stores)))
    visits[row, column[mine]] = 1.0
    both = visits.T @ visits
    size = np.sqrt(np.diag(both))
    cosine: Floats = both / np.outer(size, size)
    np.fill_diagonal(cosine, 0.0)
    return cosine


def bisect(affinity: Floats, parts: int) -> Ints:
    """Cut the graph into `parts` areas of nearly equal size; return the area number of every node."""
    area = np.zeros(len(affinity), dtype=np.int64)
    _cut(affinity, np.arange(len(affinity)), parts, 0, area)
    return area


def _cut(affinity: Floats, nodes: Ints, parts: int, first: int, area: Ints) -> None:
    if parts == 1:
        area[nodes] = first
        return
    left_parts = parts // 2
    ordered = nodes[_spectral_order(affinity[np.ix_(nodes, nodes)])]
    size = round(len(nodes) * left_parts / parts)
    _cut(affinity, np.sort(ordered[:size]), left_parts, first, area)
    _cut(affinity, np.sort(ordered[size:]), parts - left_parts, first + left_parts, area)


def _spectral_order(affinity: Floats) -> npt.NDArray[np.intp]:
    weight = affinity + _ISOLATED
    np.fill_diagonal(weight, 0.0)
    scale = 1.0 / np.sqrt(weight.sum(axis=1))
    laplacian = np.eye(len(weight)) - weight * np.outer(scale, scale)
    _, vectors = np.linalg.eigh(laplacian)
    fiedler = np.round(vectors[:, 1] * scale, _DECIMALS)
    if fiedler[np.argmax(np.abs(fiedler))] < 0:
        fiedler = -fiedler
    return np.argsort(fiedler, kind="stable")
