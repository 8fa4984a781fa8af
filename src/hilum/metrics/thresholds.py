"""From which probability on a finding is called present; chosen on labels that are not scored afterwards."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped

from hilum.metrics.classification import roc_curve


@dataclass(frozen=True)
class Criterion:
    """What a threshold is chosen for: youden, f1, or a sensitivity or specificity to reach."""

    name: str
    target: float | None = None

    @classmethod
    def parse(cls, text: str) -> "Criterion":
        """The criterion that a setting spells; `hilum.config.ScoringConfig` has checked it.

        >>> Criterion.parse("sensitivity=0.9")
        Criterion(name='sensitivity', target=0.9)
        """
        name, _, target = text.partition("=")
        assert name in ("youden", "f1", "sensitivity", "specificity"), text
        assert bool(target) == (name in ("sensitivity", "specificity")), text
        return cls(name, float(target) if target else None)

    @property
    def words(self) -> str:
        """The criterion as the end of "the threshold with the …"."""
        return {
            "youden": "largest sensitivity + specificity (Youden)",
            "f1": "largest F1",
            "sensitivity": f"largest specificity among those of sensitivity {self.target or 0:g} or more",
            "specificity": f"largest sensitivity among those of specificity {self.target or 0:g} or more",
        }[self.name]

    def threshold(self, truth: Shaped[np.ndarray, " N"], score: Shaped[np.ndarray, " N"]) -> float:
        """The score t for which `score >= t` meets the criterion best; of equally good ones the highest.

        NaN without both classes, or where no score has the specificity that is asked for.
        """
        false, true, levels = roc_curve(truth, score)
        if len(levels) < 2 or np.isnan(false[-1]) or np.isnan(true[-1]):
            return float("nan")
        false, true, levels = false[1:], true[1:], levels[1:]
        if self.name == "youden":
            return float(levels[np.argmax(true - false)])
        if self.name == "f1":
            known = truth[~np.isnan(truth)] if truth.dtype.kind == "f" else truth
            positives, negatives = float((known == 1).sum()), float((known == 0).sum())
            hits, alarms = true * positives, false * negatives
            return float(levels[np.argmax(2 * hits / (hits + alarms + positives))])
        assert self.target is not None
        # Rates are quotients of counts; 0.9 asked for and 9 of 10 reached must agree.
        if self.name == "sensitivity":
            return float(levels[np.argmax(true >= self.target - 1e-12)])
        reached = np.flatnonzero(1 - false >= self.target - 1e-12)
        if not len(reached):
            return float("nan")
        return float(levels[reached[np.argmax(true[reached])]])
