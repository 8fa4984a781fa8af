"""Grades of severity put together from their findings "this grade or more", and how well they agree."""

import numpy as np
from jaxtyping import Float

from hilum.metrics.bootstrap import Estimate
from hilum.metrics.ordinal import bootstrap_kappa, grades
from hilum.records.ordinal import severity_groups
from hilum.report.join import Scored
from hilum.report.report import Confusion


def severities(
    test: Scored, decided: Float[np.ndarray, "N F"], *, replicates: int, seed: int
) -> tuple[list[Estimate], tuple[Confusion, ...]]:
    """Quadratic kappa of every severity, and its table of grades where they can be decided.

    A grade is how many of the findings "grade k or more" are called present.
    """
    found, tables = [], list[Confusion]()
    for name, parts in severity_groups(test.findings).items():
        columns = [test.findings.index(part) for part in parts]
        true, called = grades(test.truth[:, columns]), grades(decided[:, columns])
        found.append(
            bootstrap_kappa(
                true, called, patients=test.patients, finding=name, replicates=replicates, seed=seed
            )
        )
        known = ~np.isnan(true) & ~np.isnan(called)
        if known.any():
            counts = np.zeros((len(parts) + 1,) * 2, int)
            np.add.at(counts, (true[known].astype(int), called[known].astype(int)), 1)
            labels = tuple(str(grade) for grade in range(len(parts) + 1))
            tables.append(Confusion(name, labels, tuple(map(tuple, counts.tolist()))))
    return found, tuple(tables)
