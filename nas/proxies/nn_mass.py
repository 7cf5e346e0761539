"""NN-Mass: the density of long-range links of a network times its width. Topology only; no weights, no torch.

In the paper, a cell is a chain of d layers of width w. Beside the link to the next layer there may be long-range links
to later layers. The density ρ of a cell is the share of the possible long-range links that exist, counted in channels:
ρ = 2 Σ_{i=2}^{d−1} min{w(i−1), t} / (w(d−1)(d−2)) if a layer has at most t candidates. The mass is m = Σ ρwd over
cells. Cells of high mass propagate gradients like wider ones. In the authors' code for ResNets and MobileNets, with
skips that add, a cell is a block, and wd is the width that its layers read.

Our definition for any graph of feature maps gives the paper's m for one cell, and the authors' for their blocks:

- Layers are the live maps of an operating point, with their active channels. A concat is no layer: an operation that
  reads it reads its sources. The depth of a map is the number of learned operations on the longest path to it.
- A cell reaches from one map on every path to the next such map. Blocks with a skip are cells, and a skip across two
  blocks makes them one cell. A chain without skips has cells of one layer, with mass 0.
- An operation of any kind is a long-range link if it leads at least two depths further. It carries the channels of its
  source. Parallel operations are one link.
- If a cell of two maps has a skip beside its only operation, a case that the paper does not mention, the skip is the
  only possible link: density 1.
- A map that ends one cell and begins another cell with mass counts in the latter.

The mass is not monotone in skips: a skip that makes one cell of two blocks can lower it. A network without skips has
mass 0, and so has a network with no more than parallel branches.

References
----------
Bhardwaj, Li & Marculescu, How Does Topology Influence Gradient Propagation and Model Performance of Deep Networks with
    DenseNet-Type Skip Connections?, CVPR 2021, arXiv 1910.00780; code: SLDGroup/NN_Mass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import ClassVar, Literal

from nas.errors import UserError
from nas.proxies.contract import Needs
from nas.representation.architecture import Architecture
from nas.representation.elements import Subnetwork
from nas.representation.kinds import kind
from nas.representation.topology import Topology


@dataclass(frozen=True, kw_only=True)
class NNMass:
    """NN-Mass: density of long-range links times width, summed over cells.

    Parameters
    ----------
    levels : {"largest", "mean"}
        Score the largest operating point, which is closest to the paper's single network, or take the mean over all
        points.
    """

    needs: ClassVar[Needs] = "topology"
    levels: Literal["largest", "mean"] = "largest"

    def __post_init__(self) -> None:
        if self.levels not in ("largest", "mean"):
            raise UserError(f"levels must be 'largest' or 'mean'. Got {self.levels!r}.")

    def __call__(self, architecture: Architecture) -> float:
        points = architecture.points if self.levels == "mean" else architecture.points[-1:]
        return fmean(nn_mass(architecture.topology, point) for point in points)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """The maps from one map on every path to the next, with both, and the density of their long-range links."""

    maps: tuple[int, ...]
    density: float


def nn_mass(topology: Topology, point: Subnetwork) -> float:
    """Sum over cells of their density times the active channels of their maps, each map counted once."""
    all_cells, widths = cells(topology, point), topology.active(point)
    mass = 0.0
    for index, cell in enumerate(all_cells):
        shared = index + 1 < len(all_cells) and all_cells[index + 1].density > 0
        mass += cell.density * sum(widths[m] for m in (cell.maps[:-1] if shared else cell.maps))
    return mass


def cells(topology: Topology, point: Subnetwork) -> tuple[Cell, ...]:
    """The cells of a subnetwork, from its input to its output.

    Notes
    -----
    A map is on every path if and only if no link leads past it in topological order: one pass over the links. Densities
    compare all maps of a cell: quadratic in its size.
    """
    widths, links = topology.active(point), set(_links(topology, point))
    depth: dict[int, int] = {0: 0}
    for source, target, learned in sorted(links, key=lambda link: link[1]):
        depth[target] = max(depth.get(target, 0), depth[source] + learned)
    live, reach, cuts = sorted(depth), 0, []
    furthest = dict.fromkeys(live, 0)
    for source, target, _ in links:
        furthest[source] = max(furthest[source], target)
    for index in live:
        if reach <= index:
            cuts.append(index)
        reach = max(reach, furthest[index])
    return tuple(
        Cell(maps=inside, density=_density(inside, widths, depth, links))
        for start, end in pairwise(cuts)
        if (inside := tuple(m for m in live if start <= m <= end))
    )


def _density(
    inside: tuple[int, ...], widths: list[int], depth: dict[int, int], links: set[tuple[int, int, bool]]
) -> float:
    if len(inside) == 2:
        kinds = {learned for source, target, learned in links if (source, target) == inside}
        return float(len(kinds) == 2)
    possible = sum(widths[s] for s in inside for t in inside if depth[t] - depth[s] >= 2)
    between = {(s, t) for s, t, _ in links if inside[0] <= s and t <= inside[-1] and depth[t] - depth[s] >= 2}
    return sum(widths[s] for s, _ in between) / possible if possible else 0.0


def _links(topology: Topology, point: Subnetwork) -> Iterator[tuple[int, int, bool]]:
    """(source, target, learned) of the live operations, with the sources of a concat in place of the concat."""
    live = set(point.operations)

    def sources(index: int) -> Iterator[int]:
        if topology.maps[index].merge != "concat":
            yield index
            return
        for o in topology.incoming[index]:
            if o in live:
                yield from sources(topology.operations[o].source)

    for o in point.operations:
        operation = topology.operations[o]
        if topology.maps[operation.target].merge != "concat":
            for source in sources(operation.source):
                yield source, operation.target, kind(operation.kind).learned
