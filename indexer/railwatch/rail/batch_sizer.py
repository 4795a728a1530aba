"""How many blocks to ask for at once, learned from answers and refusals."""

from abc import ABC, abstractmethod

__all__ = ["BatchSizer", "FittedBatches", "GrowingBatches"]


class BatchSizer(ABC):
    """A width in blocks. It is a cache: no result of a scan depends on it."""

    width: int
    """How many blocks to ask for next."""

    @abstractmethod
    def answered(self, blocks: int, size: int) -> None:
        """Learn that a request for so many ``blocks`` brought ``size`` bytes."""

    @abstractmethod
    def refused(self, blocks: int) -> None:
        """Learn that the node refused so many ``blocks``, or did not answer in time."""


class GrowingBatches(BatchSizer):
    """A width that doubles while answers are small. After the first refusal it grows by an eighth (HAZARDS E21).

    ``size_max``: bytes of an answer above which the width is halved; it grows below a quarter of that.
    """

    def __init__(self, width: int, most: int, size_max: int) -> None:
        self.width, self.most, self.size_max = width, most, size_max
        self.pushed_back = False

    def answered(self, blocks: int, size: int) -> None:
        """Halve the width after a large answer, widen it after a small one: additive increase once refused."""
        if size > self.size_max:
            self.width = max(1, min(self.width, blocks // 2))
        elif blocks >= self.width and size < self.size_max // 4:
            step = max(1, self.width // 8) if self.pushed_back else self.width
            self.width = min(self.most, self.width + step)

    def refused(self, blocks: int) -> None:
        """Halve the width: multiplicative decrease."""
        self.width, self.pushed_back = max(1, min(self.width, blocks // 2)), True


class FittedBatches(BatchSizer):
    """A width at which an answer has about ``size_wanted`` bytes, from the average block of the last answers.

    It begins with one block, and widens at most fourfold an answer: a few empty blocks prove nothing.
    """

    def __init__(self, most: int, size_wanted: int) -> None:
        self.most, self.size_wanted = most, size_wanted
        self._fit(size_wanted)

    def _fit(self, average: int) -> None:
        self.average = average
        self.width = max(1, min(self.most, self.size_wanted // max(1, average)))

    def answered(self, blocks: int, size: int) -> None:
        """Narrow at once after heavier blocks, widen by steps after lighter ones."""
        self._fit(max(size // blocks, self.average // 4))

    def refused(self, blocks: int) -> None:
        """Ask for a quarter next time."""
        self._fit(min(self.size_wanted, self.size_wanted * 4 // self.width))
