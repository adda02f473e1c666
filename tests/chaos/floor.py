"""Numbers that may only rise, and who told them: what was surely known at an instant, to a leader of some epoch.

A leader that is cut off from the others goes on answering, with what it knew and with its own, lower epoch. What others
were told meanwhile says nothing about its answers: each is held against what leaders of epochs up to its own had told.
"""

from bisect import bisect_left, bisect_right
from itertools import accumulate

from chaos.events import NOWHERE


class Terms:
    """The leader epochs of a partition, as its records and answers tell them."""

    def __init__(self) -> None:
        self._newest = NOWHERE
        self._sent: list[tuple[int, float]] = []
        self._epochs: list[int] = []
        self._until: list[float] = []

    def saw(self, epoch: int) -> None:
        """There is such an epoch."""
        self._newest = max(self._newest, epoch)

    def appended(self, epoch: int, sent_at: float) -> None:
        """A record that was sent at this time is in the log, in this epoch: no later leader had told anything before."""
        self.saw(epoch)
        self._sent.append((epoch, sent_at))
        self._until = []

    def at_most(self, at: float) -> int:
        """The newest epoch whose leader can have told something until then."""
        if not self._until:
            self._sent.sort()
            self._epochs = [epoch for epoch, _ in self._sent]
            self._until = list(accumulate((sent_at for _, sent_at in self._sent), max))
        index = bisect_right(self._until, at)
        return self._epochs[index] if index < len(self._epochs) else self._newest


class Floor:
    """A number that may only rise, as it became known over time; asked for what was surely known at an instant."""

    def __init__(self, terms: Terms | None = None) -> None:
        self._terms = terms
        self._told: list[tuple[float, int, str, int | None]] = []
        self._risen: dict[int, list[tuple[float, int, str]]] = {}
        self._times: dict[int, list[float]] = {}

    def know(self, at: float, value: int, why: str, epoch: int | None = None) -> None:
        """From `at` on the number is at least this, by a leader of this epoch; None: of whichever led."""
        self._told.append((at, value, why, epoch))
        self._times = {}

    def before(self, asked: float, epoch: int | None = None) -> tuple[int, str]:
        """The highest value known before `asked`, and where from; (-1, "") when nothing was known.

        With an epoch: of what leaders up to that one have certainly told.
        """
        if not self._times:
            self._rise()
        best = (NOWHERE, "")
        for told_in, times in self._times.items():
            index = bisect_left(times, asked)
            if index and (epoch is None or told_in <= epoch):
                best = max(best, self._risen[told_in][index - 1][1:], key=lambda known: known[0])
        return best

    def _rise(self) -> None:
        """Keeps, of each epoch, the facts that were news, in order of time."""
        self._risen = {}
        for at, value, why, epoch in sorted(self._told, key=lambda fact: fact[:3]):
            told_in = epoch if epoch is not None else self._terms.at_most(at) if self._terms else NOWHERE
            risen = self._risen.setdefault(told_in, [])
            if not risen or value > risen[-1][1]:
                risen.append((at, value, why))
        self._times = {epoch: [fact[0] for fact in risen] for epoch, risen in self._risen.items()}
