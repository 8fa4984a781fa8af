"""Settings of scoring."""

from typing import Literal

from pydantic import field_validator

from hilum.config.base import Config


class ScoringConfig(Config):
    """How decisions and probabilities are judged on the test split."""

    threshold: str = "youden"
    """What the threshold of each finding is chosen for, on the validation split: youden (sensitivity +
    specificity), f1, or a rate to reach, as in sensitivity=0.95 or specificity=0.9."""
    prevalence: dict[str, float] = {}
    """Findings' prevalence elsewhere, as in Effusion=0.02: predictive values are also given for there."""
    calibrate: Literal["none", "temperature", "platt", "isotonic"] = "none"
    """A correction of the probabilities, fitted on the validation split; the report shows calibration on the
    test split before and after. Nothing else changes."""
    subgroups: list[str] = []
    """Columns whose groups are scored apart, any of the table. Empty: those of sex, age, view and site that
    there are; none: no groups."""
    age_bands: list[int] = [18, 40, 60, 80]
    """The first year of every band of age but the first."""
    match: dict[str, str] = {}
    """Findings that the predictions and other records name differently, as in "Opacity=Lung Lesion". Names of
    one meaning (Effusion, Pleural Effusion) are found without."""

    @field_validator("threshold")
    @classmethod
    def _check_threshold(cls, given: str) -> str:
        name, equals, target = given.partition("=")
        try:
            reached = not equals or 0 < float(target) < 1
        except ValueError:
            reached = False
        if not reached or name not in ({"sensitivity", "specificity"} if equals else {"youden", "f1"}):
            raise ValueError(
                "expected youden, f1, or a rate between 0 and 1 to reach, as in sensitivity=0.95 or "
                "specificity=0.9"
            )
        return given

    @field_validator("prevalence")
    @classmethod
    def _check_prevalence(cls, given: dict[str, float]) -> dict[str, float]:
        for finding, share in given.items():
            if not 0 < share < 1:
                raise ValueError(f"{finding}={share:g}; a prevalence is between 0 and 1")
        return given
