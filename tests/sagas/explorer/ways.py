"""How many runs a graph holds."""

import itertools


def count(nodes, sources, targets, ends):
    """Count the ways from node 0 to an end, of which there may be some on the way to others.

    Nodes from each of which one comes to each other are one: a run may go round there for ever, and is
    counted once.

    Arguments:
        nodes: how many there are.
        sources: of each edge, where it begins; in ascending order.
        targets: of each edge, where it leads.
        ends: nodes at which a run may end.
    """
    first = [0] * (nodes + 1)
    for source in sources:
        first[source + 1] += 1
    first = list(itertools.accumulate(first))
    of, groups = _groups(nodes, first, targets)
    ways = [0] * len(groups)
    # Tarjan's: a group is found after all that it leads to.
    for number, group in enumerate(groups):
        edges = (edge for node in group for edge in range(first[node], first[node + 1]))
        ways[number] = sum(node in ends for node in group) + sum(
            ways[of[targets[edge]]] for edge in edges if of[targets[edge]] != number
        )
    return ways[of[0]]


def _groups(nodes, first, targets):
    """The strongly connected components from node 0 on, by Tarjan's algorithm, and which each node is in."""
    found, low = [0] * nodes, [0] * nodes
    of = [-1] * nodes
    groups, open_nodes, number = [], [], 0
    path = [(0, first[0])]
    while path:
        node, edge = path.pop()
        if not found[node]:
            number += 1
            found[node] = low[node] = number
            open_nodes.append(node)
        while edge < first[node + 1]:
            target = targets[edge]
            edge += 1
            if not found[target]:
                path += [(node, edge - 1), (target, first[target])]
                break
            if of[target] < 0:
                low[node] = min(low[node], low[target])
        else:
            if low[node] == found[node]:
                group = []
                while of[node] < 0:
                    group.append(open_nodes.pop())
                    of[group[-1]] = len(groups)
                groups.append(group)
    return of, groups
