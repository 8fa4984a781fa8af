"""Which settings runs differ in, besides what a comparison is about."""

from collections.abc import Sequence

from pydantic import JsonValue

from hilum.report.cells import Cell
from hilum.report.report import as_json
from hilum.run import FREE

AXES = {"label_fraction", "shots", "seeds"}
"""Settings that the page has on its axes."""

SHOWN = ("init", "fit")
"""Settings that say what a run is, and are shown even where they are equal."""


def differing(cells: Sequence[Cell]) -> dict[str, dict[str, JsonValue]]:
    """Every setting that is not the same in all runs, and its value in each; init and fit come first.

    A setting that is not even the same in all cells of a run is the list of its values; one that
    a run does not have is None.
    """
    said = [(cell.init, as_json(cell.settings)) for cell in cells if cell.settings]
    names = dict.fromkeys([*SHOWN, *(name for _, settings in said for name in settings)])
    table: dict[str, dict[str, JsonValue]] = {}
    for name in names:
        if name in FREE or name in AXES or not any(name in settings for _, settings in said):
            continue
        values: dict[str, list[JsonValue]] = {}
        for init, settings in said:
            mine, value = values.setdefault(init, []), settings.get(name)
            if value not in mine:
                mine.append(value)
        row: dict[str, JsonValue] = {
            init: some[0] if len(some) == 1 else some for init, some in values.items()
        }
        if name in SHOWN or len({repr(value) for value in row.values()}) > 1:
            table[name] = row
    return table
