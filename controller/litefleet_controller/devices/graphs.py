"""Where the graphs of models lie, and the models with their graphs turned: two versions have more in common then.

What exact copies leave of a model that was converted again is its graph.  An attribute that is added there moves nearly all of
its long offsets; counted from the graph's end (the agent's releases/graph_offsets.py) most of them stay as they are.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from litefleet_agent.formats.nb.flatbuffer import NbError
from litefleet_agent.formats.nb.header import HEADER_SIZE, read_header
from litefleet_agent.releases.graph_offsets import MAX_GRAPHS, Graph, turned

from .near_copies import Content

_MOST = 64 << 20  # bytes of a file and its bases, which are held in memory: of larger ones the graph is a thousandth


def graphs_of(data: Content, bases: Sequence[Content]) -> tuple[Graph, ...]:
    """Return where the graphs of a file and of its bases lie; none where no two of them have one, or where they are too large."""
    if len(data) + sum(map(len, bases)) > _MOST:
        return ()
    first, *others = graphs = tuple(map(_graph, (data, *bases)))
    fit = first.size and any(graph.size for graph in others) and sum(graph.size for graph in graphs) <= MAX_GRAPHS
    return graphs if fit else ()


def graph_to_turn(data: Content) -> Graph:
    """Return where a .nb has its graph if that compresses better turned, an empty one otherwise."""
    graph = _graph(data)
    if not 0 < graph.size <= MAX_GRAPHS:
        return Graph()
    there = data[graph.start : graph.end]
    return graph if len(zlib.compress(turned(there))) < len(zlib.compress(there)) else Graph()


def _graph(data: Content) -> Graph:
    """Return where a .nb has its graph, an empty one for other files."""
    with memoryview(data) as view:
        try:
            return Graph(HEADER_SIZE, read_header(view).topology_size)
        except NbError:
            return Graph()


def with_turned_graph(data: Content, graph: Graph) -> Content:
    """Return the file with its graph turned."""
    if not graph.size:
        return data
    return data[: graph.start] + turned(data[graph.start : graph.end]) + data[graph.end :]
