"""Groups that turn out to be one: of patients, cases or sweeps whose pictures are the same."""


class JoinedGroups:
    """Groups by name, some of which were joined; a joined group has the smallest of the names.

    A forest of disjoint sets with path halving: Tarjan and van Leeuwen, "Worst-case Analysis of Set
    Union Algorithms", Journal of the ACM 31(2), 1984.
    """

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}

    def name(self, group: str) -> str:
        """The name of the group that `group` is a part of; its own where it was never joined."""
        parents = self._parents
        while (parent := parents.setdefault(group, group)) != group:
            parents[group] = group = parents[parent]
        return group

    def join(self, one: str, other: str) -> None:
        """Makes one group of those that the two names are a part of."""
        low, high = sorted((self.name(one), self.name(other)))
        self._parents[high] = low
