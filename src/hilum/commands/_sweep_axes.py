"""The axes of a sweep: what differs between its cells, from flags or a YAML file."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

RANGE = re.compile(r"(?P<low>[^.].*?)\.\.(?P<high>.+?)(?P<log>:log)?")
BOUNDS = {"low", "high", "log"}


@dataclass(frozen=True)
class Value:
    """One value of an axis: how it is called, and the settings that it stands for."""

    label: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high` to draw from, in equal ratios where `log`."""

    low: float
    high: float
    log: bool = False

    def at(self, share: float, *, whole: bool) -> float:
        """The number at a share of the way from `low` to `high`, as `exact` rounds it."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        place = low + share * (high - low)
        return self.exact(math.exp(place) if self.log else place, whole=whole)

    def exact(self, number: float, *, whole: bool) -> float:
        """A whole number, or four digits: what a folder can be called and a person can type again."""
        rounded = round(number) if whole else float(f"{number:.4g}")
        return min(max(rounded, self.low), self.high)


@dataclass(frozen=True)
class Axis:
    """What is varied. Its values are a list, or numbers drawn from a range."""

    name: str
    values: tuple[Value, ...] = ()
    range: Range | None = None
    named: bool = False
    """Whether values stand for several settings each, under a name."""


Picks: TypeAlias = Mapping[str, Value]
"""One value of every axis."""


def axes_of(given: Mapping[str, Any], wrong: list[str]) -> list[Axis]:
    """The axes; what is wrong with them is added to `wrong`.

    `given` maps a setting to its values: a list, `a,b`, `low..high`, `low..high:log`, a mapping with `low`
    and `high`, or a mapping of names to several settings each.
    """
    axes = []
    for name, content in given.items():
        axis = _axis(name.replace("-", "_"), content, wrong)
        if axis is not None:
            axes.append(axis)
            _refuse_repetition(axis, wrong)
    setters: dict[str, str] = {}
    for axis in axes:
        for setting in settings_of_axis(axis):
            if setters.setdefault(setting, axis.name) != axis.name:
                wrong.append(f"axes {setters[setting]} and {axis.name} both set {setting}; one may")
    if not given:
        wrong.append("axes is empty; a sweep varies a setting or more, for example --axes lr=1e-4,1e-3")
    return axes


def settings_of_axis(axis: Axis) -> set[str]:
    """The settings that an axis sets."""
    return {name for value in axis.values for name in value.settings} if axis.range is None else {axis.name}


def value_of(axis: Axis, content: Any) -> Value:
    """A value of an axis that sets the setting of the axis's name."""
    return Value(label_of(content), {axis.name: content})


def label_of(value: Any) -> str:
    """What a value is called: numbers in their shortest spelling.

    >>> label_of("1e-3"), label_of(0.1), label_of([512, 512]), label_of("runs/simclr"), label_of("")
    ('0.001', '0.1', '512-512', 'runs/simclr', 'none')
    """
    if isinstance(value, list):
        return "-".join(map(label_of, value)) or "none"
    if isinstance(value, Mapping):
        return "-".join(f"{name}={label_of(inner)}" for name, inner in value.items()) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value) or "none"
    short = f"{number:g}"
    return short if float(short) == number else str(value)


def _axis(name: str, content: Any, wrong: list[str]) -> Axis | None:
    if name == "out":
        wrong.append("axes.out: every cell has a folder of its own in --out; leave it out of the axes")
        return None
    if isinstance(content, str):
        bounds = RANGE.fullmatch(content)
        if bounds and "," not in content:
            content = bounds.groupdict() | {"log": bool(bounds["log"])}
        else:
            content = content.split(",")
    if isinstance(content, Mapping):
        return _range(name, content, wrong) if content.keys() <= BOUNDS else _named(name, content, wrong)
    if not isinstance(content, list) or not content:
        wrong.append(
            f"axes.{name} is {content!r}; expected a list of values, a range (low, high, log), or a mapping "
            "of names to settings"
        )
        return None
    return Axis(name, tuple(Value(label_of(one), {name: one}) for one in content))


def _range(name: str, content: Mapping[str, Any], wrong: list[str]) -> Axis | None:
    try:
        found = Range(float(content["low"]), float(content["high"]), bool(content.get("log", False)))
    except (KeyError, TypeError, ValueError):
        wrong.append(
            f"axes.{name} is {dict(content)}; a range has numbers low and high, and log: true or not"
        )
        return None
    if not (math.isfinite(found.low) and math.isfinite(found.high) and found.low < found.high):
        wrong.append(f"axes.{name} goes from {found.low:g} to {found.high:g}; low is below high")
        return None
    if found.log and found.low <= 0:
        wrong.append(f"axes.{name} goes from {found.low:g} by ratios (log); low must be above 0")
        return None
    return Axis(name, range=found)


def _named(name: str, content: Mapping[str, Any], wrong: list[str]) -> Axis | None:
    odd = [str(key) for key, settings in content.items() if not isinstance(settings, Mapping) or not settings]
    if odd:
        wrong.append(
            f"axes.{name}: {', '.join(odd)} stands for no settings; expected `name: {{setting: value}}`"
        )
        return None
    values = tuple(
        Value(str(key), {setting.replace("-", "_"): value for setting, value in settings.items()})
        for key, settings in content.items()
    )
    if any("out" in value.settings for value in values):
        wrong.append(f"axes.{name} sets out; every cell has a folder of its own in --out")
        return None
    return Axis(name, values, named=True)


def _refuse_repetition(axis: Axis, wrong: list[str]) -> None:
    labels = [value.label for value in axis.values]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        wrong.append(f"axes.{axis.name} has {', '.join(twice)} twice; a value is given once")
