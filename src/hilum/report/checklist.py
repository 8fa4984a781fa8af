"""What two reporting guidelines ask for, and which of it a report answers by itself.

CLAIM, 2024 update: Tejani and others, Radiology: Artificial Intelligence 6(4), e240300, 2024,
https://doi.org/10.1148/ryai.240300 (44 items). TRIPOD+AI: Collins and others, BMJ 385, e078378, 2024,
https://doi.org/10.1136/bmj-2023-078378 (27 items, 52 with their letters). Numbers are those of the
publications; the topics are in words of our own, and the publications say what each of them means.
"""

from dataclasses import dataclass
from typing import Literal

from hilum.report.checklist_facts import facts
from hilum.report.report import Report

State = Literal["filled by the tool", "filled in part", "you must fill"]


@dataclass(frozen=True)
class Item:
    """One item: who fills it, with what, and the section of the page (its id) that says more."""

    number: str
    topic: str
    state: State
    words: str
    section: str = ""


@dataclass(frozen=True)
class Checklist:
    """A guideline's items under its headings."""

    name: str
    source: str
    parts: tuple[tuple[str, tuple[Item, ...]], ...]

    @property
    def items(self) -> tuple[Item, ...]:
        """All items, in the guideline's order."""
        return tuple(item for _, items in self.parts for item in items)

    @property
    def summary(self) -> str:
        """How many items are filled, in part, and left."""
        states = [item.state for item in self.items]
        filled, part = states.count("filled by the tool"), states.count("filled in part")
        return f"{filled} of {len(states)} filled, {part} in part, {len(states) - filled - part} left for you"


def checklists(report: Report, *, training: bool = False) -> tuple[Checklist, Checklist]:
    """Both guidelines, filled with what the report knows; `training` says whether the page shows that."""
    known = facts(report, training=training)

    def filled(
        table: dict[str, tuple[tuple[str, str, str], ...]],
    ) -> tuple[tuple[str, tuple[Item, ...]], ...]:
        return tuple(
            (heading, tuple(_item(number, topic, known.get(key)) for number, topic, key in rows))
            for heading, rows in table.items()
        )

    return (
        Checklist(
            "CLAIM, 2024 update", "Radiology: Artificial Intelligence 2024;6(4):e240300", filled(CLAIM)
        ),
        Checklist("TRIPOD+AI", "BMJ 2024;385:e078378", filled(TRIPOD)),
    )


def _item(number: str, topic: str, known: tuple[bool, str, str] | None) -> Item:
    if known is None:
        return Item(number, topic, "you must fill", "")
    whole, words, section = known
    return Item(number, topic, "filled by the tool" if whole else "filled in part", words, section)


CLAIM = {
    "Title and introduction": (
        ("1", "Named as a study of AI, with the kind of method", ""),
        ("2", "Structured summary", ""),
        ("3", "Background, intended use and role", ""),
        ("4", "Aims and hypotheses", ""),
    ),
    "Study design": (("5", "Prospective or retrospective", ""), ("6", "Goal of the study", "")),
    "Data": (
        ("7", "Sources of the data", ""),
        ("8", "Inclusion and exclusion criteria", ""),
        ("9", "Preprocessing", "preprocessing"),
        ("10", "Selection of subsets", "subset"),
        ("11", "De-identification", ""),
        ("12", "Missing data", "missing"),
        ("13", "How the images were acquired", ""),
    ),
    "Reference standard": (
        ("14", "Definition", ""),
        ("15", "Why it was chosen", ""),
        ("16", "Who annotated", ""),
        ("17", "Annotation of the test set", ""),
        ("18", "Agreement between and within annotators", ""),
    ),
    "Partitions and sample size": (
        ("19", "How data were assigned to partitions", "partitions"),
        ("20", "Level at which partitions are disjoint", "disjoint"),
        ("21", "Intended size of the test sample", ""),
    ),
    "Model and training": (
        ("22", "The model in detail", "model"),
        ("23", "Software", "software"),
        ("24", "Initial weights", "initialisation"),
        ("25", "How it was trained", "training"),
        ("26", "How the final model was chosen", "selection"),
        ("27", "Ensembles", ""),
    ),
    "Evaluation": (
        ("28", "Metrics", "metrics"),
        ("29", "Uncertainty and significance", "uncertainty"),
        ("30", "Robustness", "robustness"),
        ("31", "Explanations of decisions", ""),
        ("32", "Internal data", "internal"),
        ("33", "External data", "external"),
        ("34", "Trial registration", ""),
    ),
    "Results": (
        ("35", "Numbers included and excluded", "flow"),
        ("36", "Characteristics of each partition", "characteristics"),
        ("37", "Performance with its uncertainty", "performance"),
        ("38", "Estimates of diagnostic performance, and their precision", "decisions"),
        ("39", "Analysis of failures", "failures"),
    ),
    "Discussion and other information": (
        ("40", "Limitations", ""),
        ("41", "What it means for practice", ""),
        ("42", "Where the protocol is", ""),
        ("43", "Availability of software, model and data", "availability"),
        ("44", "Funding", ""),
    ),
}
"""Heading → number, topic, key of the fact that fills it (empty: none can)."""

TRIPOD = {
    "Title, abstract and introduction": (
        ("1", "Title", ""),
        ("2", "Abstract", ""),
        ("3a", "Healthcare context and rationale", ""),
        ("3b", "Target population, purpose and users", ""),
        ("3c", "Known health inequalities", ""),
        ("4", "Objectives", ""),
    ),
    "Methods": (
        ("5a", "Sources of the data", ""),
        ("5b", "Dates", ""),
        ("6a", "Setting and centres", ""),
        ("6b", "Eligibility", ""),
        ("6c", "Treatments", ""),
        ("7", "Preparation and quality of the data", "preprocessing"),
        ("8a", "Definition of the outcome", ""),
        ("8b", "Who assessed the outcome", ""),
        ("8c", "Blinding of that assessment", ""),
        ("9a", "Choice of predictors", ""),
        ("9b", "Definition of predictors", ""),
        ("9c", "Who assessed the predictors", ""),
        ("10", "Sample size", ""),
        ("11", "Missing data", "missing"),
        ("12a", "How the data were used and partitioned", "partitions"),
        ("12b", "Handling of predictors", "preprocessing"),
        ("12c", "Type of model, how it was built and tuned", "training"),
        ("12d", "Heterogeneity across clusters", "clusters"),
        ("12e", "Measures and plots of performance", "metrics"),
        ("12f", "Updating of the model", "updating"),
        ("12g", "How predictions were calculated", "model"),
        ("13", "Class imbalance", "imbalance"),
        ("14", "Approaches to fairness", ""),
        ("15", "Output and thresholds", "thresholds"),
        ("16", "Differences between development and evaluation data", ""),
        ("17", "Ethical approval", ""),
    ),
    "Open science and involvement": (
        ("18a", "Funding", ""),
        ("18b", "Conflicts of interest", ""),
        ("18c", "Protocol", ""),
        ("18d", "Registration", ""),
        ("18e", "Data sharing", ""),
        ("18f", "Code sharing", "availability"),
        ("19", "Patient and public involvement", ""),
    ),
    "Results": (
        ("20a", "Flow of participants, with and without the outcome", "flow"),
        ("20b", "Characteristics, overall and by group", "characteristics"),
        ("20c", "Comparison with the development data", ""),
        ("21", "Participants and events in each analysis", "counts"),
        ("22", "The full model, for others to use", "model"),
        ("23a", "Performance with intervals, by subgroup too", "subgroups"),
        ("23b", "Heterogeneity of performance across clusters", "clusters"),
        ("24", "Results of updating", "updating"),
    ),
    "Discussion": (
        ("25", "Interpretation, with issues of fairness", ""),
        ("26", "Limitations", ""),
        ("27a", "Poor or unavailable input", ""),
        ("27b", "What users must do and know", ""),
        ("27c", "Next steps", ""),
    ),
}
"""As `CLAIM`."""
