"""Which of several overlapping runs of pieces to join."""

from __future__ import annotations

from collections.abc import Sequence

Run = tuple[int, ...]


def compatible_runs(runs: Sequence[tuple[Run, float]]) -> list[Run]:
    """Runs that do not overlap: of each cluster of overlapping ones the cheapest set.

    Sets are grown greedily in the order of the runs, as the published scorer does; the one with the
    lowest mean cost wins.

    Args:
        runs: Each with its cost, the distance to the block it was proposed for.

    >>> compatible_runs([((0, 1), 0.2), ((1, 2), 0.1), ((4,), 0.3)])
    [(1, 2), (4,)]
    """
    chosen: list[Run] = []
    for cluster in clusters(sorted(runs, key=lambda run: run[0][0])):
        sets: list[dict[Run, float]] = []
        for run, cost in cluster:
            fits = False
            for members in sets:
                if run in members:
                    members[run] = min(cost, members[run])
                    fits = True
                elif not any(set(run) & set(member) for member in members):
                    members[run] = cost
                    fits = True
            if not fits:
                sets.append({run: cost})
        cheapest = min(sets, key=mean_cost)
        chosen += cheapest
    return chosen


def mean_cost(members: dict[Run, float]) -> float:
    """Of the runs of a set."""
    return sum(members.values()) / len(members)


def clusters(runs: Sequence[tuple[Run, float]]) -> list[list[tuple[Run, float]]]:
    """Runs sorted by their start, parted where one overlaps none of the cluster before it."""
    found: list[list[tuple[Run, float]]] = []
    for run, cost in runs:
        if found and any(set(run) & set(member) for member, _ in found[-1]):
            found[-1].append((run, cost))
        else:
            found.append([(run, cost)])
    return found
