"""Groups that turn out to be one: of patients, cases or sweeps whose pictures are the same."""

from collections.abc import Iterable

from scipy.cluster.hierarchy import DisjointSet


def joined_names(links: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The name of each linked group: the smallest of all names that it is linked with."""
    groups = DisjointSet()
    for one, other in links:
        groups.add(one)
        groups.add(other)
        groups.merge(one, other)
    return {group: min(joined) for joined in groups.subsets() for group in joined}
