"""How many labels a run saw: the axis of label efficiency."""

from typing import NamedTuple

from hilum.report.words import percent


class Budget(NamedTuple):
    """A share of the training patients, or so many films of each finding (`shots`, when it is not 0)."""

    fraction: float
    shots: int = 0

    @property
    def amount(self) -> float:
        """Its place on the axis that it belongs to."""
        return self.shots or self.fraction

    @property
    def words(self) -> str:
        """The budget in a table.

        >>> Budget(0.01).words, Budget(1, shots=5).words
        ('1\u202f%', '5 shots')
        """
        return f"{self.shots} shot{'s' * (self.shots != 1)}" if self.shots else percent(self.fraction)

    @property
    def order(self) -> tuple[bool, float]:
        """Few labels first: shots, then shares."""
        return not self.shots, self.amount
