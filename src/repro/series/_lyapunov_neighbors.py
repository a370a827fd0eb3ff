"""Nearest neighbours among the delay vectors of a chunk of series, by the rules of nolds or of TISEAN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["NeighborSearch", "Rules"]

#: Two squares this close, in relative terms, may have the same square root in float64.
SAME_ROOT = 2.0**-49
#: Bytes of squared differences that are worked on at once on a CPU: a few series, to stay in its caches.
CACHED = 2**22


@dataclass(frozen=True)
class Rules:
    """Which delay vectors are compared, and how far they are followed.

    nolds takes the least distance, of equal ones the earliest. TISEAN passes over identical vectors and those at
    a distance of 1 or more, compares squared distances, and of equal ones takes the latest.
    """

    emb_dim: int
    lag: int
    min_tsep: int
    n_steps: int
    like_tisean: bool = False

    def n_vectors(self, n_times: int) -> int:
        """Vectors that can be followed to the end: the references, and the candidates."""
        return n_times - (self.emb_dim - 1) * self.lag - self.n_steps + 1

    def width(self, n_times: int) -> int:
        """Columns of the matrices of squared differences: beyond the vectors there is room for what spills over.

        Coordinates of the last vectors, and the band of excluded pairs, reach beyond the last column that counts;
        a multiple of 8 starts every row on a cache line.
        """
        spill = max((self.emb_dim - 1) * self.lag, self.min_tsep)
        return -(-(self.n_vectors(n_times) + spill) // 8) * 8

    def series_at_once(self, n_times: int, device: torch.device, max_bytes: int) -> int:
        """Series whose squared distances are worked on together: three arrays of them in ``max_bytes``."""
        bytes_a_series = 8 * self.width(n_times) ** 2
        most = max_bytes // 3 if device.type != "cpu" else min(max_bytes // 3, CACHED)
        return max(1, most // bytes_a_series)


class NeighborSearch:
    """Exhaustive search in series of one length; it keeps its working memory from call to call."""

    def __init__(self, rules: Rules, n_times: int, device: torch.device, max_bytes: int) -> None:
        self.rules = rules
        self.n_vectors = rules.n_vectors(n_times)
        self.width = rules.width(n_times)
        self.n_at_once = rules.series_at_once(n_times, device, max_bytes)
        self._reach = (rules.emb_dim - 1) * rules.lag
        n_rows = self.n_vectors + self._reach
        self._columns = torch.full(
            (self.n_at_once, self.width), torch.inf, dtype=torch.float64, device=device
        )
        self._squares = torch.zeros(
            self.n_at_once, n_rows * self.width + self._reach, dtype=torch.float64, device=device
        )
        self._distances = self._squares
        if rules.emb_dim > 1:
            self._distances = self._squares.new_empty(self.n_at_once, self.n_vectors * self.width)

    def __call__(self, series: Tensor) -> tuple[Tensor, Tensor]:
        """Return each vector's neighbour, int64, and whether it has one: ``(N, n)`` for series ``(N, T)``.

        A vector without a neighbour is given an arbitrary one.
        """
        n = self.n_vectors
        # read backwards, the latest of equally near ones comes first
        values = series[:, : self.n_vectors + self._reach]
        if self.rules.like_tisean:
            values = values.flip(1)
        parts = [self._search(part) for part in values.split(self.n_at_once)]
        neighbours, found = (torch.cat(each) for each in zip(*parts, strict=True))
        if self.rules.like_tisean:
            return n - 1 - neighbours.flip(1), found.flip(1)
        return neighbours, found

    def _search(self, series: Tensor) -> tuple[Tensor, Tensor]:
        distances = self._squared_distances(series)
        n = self.n_vectors
        neighbours = _first_minimum(distances)
        least = distances.gather(2, neighbours[:, :, None])
        if self.rules.like_tisean:
            again = least[:, :, 0] == 0
            if again.any():
                rows = distances[again]
                rows.masked_fill_(rows == 0, torch.inf)
                neighbours[again] = closest = _first_minimum(rows)
                least[again] = rows.gather(1, closest[:, None])
            return neighbours, least[:, :, 0] < 1
        distances.scatter_(2, neighbours[:, :, None], torch.inf)
        again = distances.amin(2) <= least[:, :, 0] * (1 + SAME_ROOT)
        if again.any():
            rows = distances[again].scatter_(1, neighbours[again][:, None], least[again])
            neighbours[again] = _first_minimum(_root(rows))
        return neighbours, torch.ones(len(series), n, dtype=torch.bool, device=series.device)

    def _squared_distances(self, series: Tensor) -> Tensor:
        """Squared distances ``(N, n, width)``, infinite between vectors that are not compared and beyond the last.

        They are sums down the diagonals of the squared differences in time. All of it runs over flat memory, which
        is several times faster than over rows of a view: entry ``i * width + j`` belongs to times i and j, and the
        next coordinate's lies ``lag * (width + 1)`` further on.
        """
        n_series, n_rows = series.shape
        n, width = self.n_vectors, self.width
        columns = self._columns[:n_series]
        columns[:, :n_rows] = series
        squares = self._squares[:n_series]
        matrices = squares[:, : n_rows * width].view(n_series, n_rows, width)
        torch.sub(series[:, :, None], columns[:, None, :], out=matrices).square_()
        distances = self._distances[:n_series]
        if self.rules.emb_dim > 1:
            shifts = [c * self.rules.lag * (width + 1) for c in range(self.rules.emb_dim)]
            terms = [squares[:, at : at + n * width] for at in shifts]
            _sum_in_order(terms[::-1] if self.rules.like_tisean else terms, distances)
        distances = distances.view(n_series, n, width)
        distances[:, :, n:] = torch.inf
        self._exclude_band(distances)
        return distances

    def _exclude_band(self, distances: Tensor) -> None:
        """Make pairs of vectors infinitely distant that are ``min_tsep`` or fewer steps apart."""
        near, n = self.rules.min_tsep, self.n_vectors
        for i in range(min(near, n)):
            distances[:, i, : i + near + 1] = torch.inf
        if near < n:
            # row by row the band moves one column on; where it leaves the vectors there is room for it
            strides = (distances.stride(0), self.width + 1, 1)
            shape = (len(distances), n - near, 2 * near + 1)
            distances.as_strided(shape, strides, near * self.width).fill_(torch.inf)


def _sum_in_order(terms: Sequence[Tensor], out: Tensor) -> None:
    """The sum with NumPy's order of additions, on which it hangs which of two distances is the smaller."""
    if len(terms) < 8:
        torch.add(terms[0], terms[1], out=out)
        rest = terms[2:]
    else:
        whole = len(terms) - len(terms) % 8
        lanes = [sum(terms[i + 8 : whole : 8], terms[i]) for i in range(8)]
        pairs = [lanes[i] + lanes[i + 1] for i in range(0, 8, 2)]
        torch.add(pairs[0] + pairs[1], pairs[2] + pairs[3], out=out)
        rest = terms[whole:]
    for term in rest:
        out += term


def _first_minimum(values: Tensor) -> Tensor:
    """Where the least value of each row is, the first of equal ones; torch's argmin does not promise which."""
    if values.device.type == "cpu":
        return torch.from_numpy(values.numpy().argmin(-1))
    places = torch.arange(values.shape[-1], device=values.device)
    return torch.where(values == values.amin(-1, keepdim=True), places, len(places)).amin(-1)


def _root(values: Tensor) -> Tensor:
    """Square root in place, right to the last bit: on a CPU PyTorch's is MKL's, which is not on every processor."""
    if values.device.type != "cpu":
        return values.sqrt_()
    np.sqrt(values.numpy(), out=values.numpy())
    return values
