"""The cells of a sweep: each a run, or a pretraining and the run of transfer that scores it."""

import hashlib
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hilum import commands
from hilum.commands._sweep_axes import Axis, Picks, Range, Value, settings_of_axis
from hilum.config import Config, RecordsConfig, StoreConfig, flag
from hilum.errors import ConfigError, OutputError
from hilum.find import did_you_mean
from hilum.run import CONFIG, Run

HANDED_ON = {
    *RecordsConfig.model_fields,
    *StoreConfig.model_fields,
    "device",
    "precision",
    "threads",
    "workers",
}
"""Settings of a pretraining that the transfer after it shares, unless it is told otherwise."""
LONGEST = 150
"""Characters of a folder's name; file systems take 255."""


@dataclass(frozen=True)
class Stage:
    """One command of a cell."""

    command: str
    config: Config
    folder: Path


@dataclass(frozen=True)
class SweepCell:
    """One combination of the axes' values. Its last stage is what is scored."""

    name: str
    picks: Picks
    stages: tuple[Stage, ...]

    @property
    def run(self) -> Path:
        """The run that is scored."""
        return self.stages[-1].folder

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return all(Run(stage.folder).finished for stage in self.stages)

    @property
    def labels(self) -> dict[str, str]:
        """How the value of each axis is called."""
        return {axis: value.label for axis, value in self.picks.items()}


@dataclass
class Maker:
    """Makes cells from values of the axes; what is wrong with any of them is collected."""

    command: str
    base: Mapping[str, Any]
    then: Mapping[str, Any]
    out: Path
    axes: list[Axis]
    wrong: list[str] = field(default_factory=list)
    _classes: dict[tuple[str, str], type[Config]] = field(default_factory=dict)

    def cell(self, picks: Picks) -> SweepCell | None:
        """The cell of these values; None if its settings are wrong."""
        settings: dict[str, Any] = dict(self.base)
        for value in picks.values():
            for name, content in value.settings.items():
                _put(settings, name, content)
        name = name_of(picks)
        known = len(self.wrong)
        stages = []
        if self.then:
            before = self.out / "pretrained" / name
            stages.append(self._stage(self.command, settings, before))
            shared = {key: value for key, value in settings.items() if key in HANDED_ON}
            after = shared | dict(self.then) | {"init": str(before)}
            stages.append(self._stage("transfer", after, self.out / "cells" / name))
        else:
            stages.append(self._stage(self.command, settings, self.out / "cells" / name))
        if len(self.wrong) > known or None in stages:
            return None
        return SweepCell(name, picks, tuple(stage for stage in stages if stage is not None))

    def fields(self) -> dict[str, Any]:
        """Every setting that the cells' command knows, over all methods or detectors that it is given."""
        key = commands.constant(self.command, "TAKES")
        kinds = {commands.chosen_by(self.command, self.base)}
        if key in commands.KINDS:
            kinds |= {str(v.settings[key]) for a in self.axes for v in a.values if key in v.settings}
        found: dict[str, Any] = {}
        for kind in sorted(kinds):
            try:
                found |= self._settings_of(self.command, kind).model_fields
            except ConfigError as error:
                self._say(f"{flag(key)}: {error}")
        return found

    def whole(self, axis: Axis) -> bool:
        """Whether an axis's numbers are whole."""
        annotation = self.fields()[axis.name.partition(".")[0]].annotation
        arguments = typing.get_args(annotation)
        return (arguments[-1] if arguments else annotation) is int

    def drawn(self, axis: Axis, number: float) -> Value:
        """A value of a range."""
        assert isinstance(axis.range, Range)
        exact = axis.range.exact(number, whole=self.whole(axis))
        content = int(exact) if self.whole(axis) else exact
        return Value(f"{content:g}" if isinstance(content, float) else str(content), {axis.name: content})

    @property
    def called(self) -> str:
        """The command, with the method or detector where there is one."""
        return f"{self.command} {commands.chosen_by(self.command, self.base)}".strip()

    def check_names(self) -> None:
        """Says of axes which of them name nothing, and goes on without those."""
        known = self.fields()
        for axis in list(self.axes):
            nameless = [
                name for name in sorted(settings_of_axis(axis)) if name.partition(".")[0] not in known
            ]
            for name in nameless:
                near = did_you_mean(name, known)
                self._say(f"axes.{axis.name}: {self.called} has no setting {name!r}{near}")
            whole = [name for name in settings_of_axis(axis) - {*nameless} if "." in name]
            for name in whole:
                if typing.get_origin(known[name.partition(".")[0]].annotation) is not dict:
                    nameless.append(name)
                    self._say(f"axes.{axis.name}: {name.partition('.')[0]} has no parts, found {name!r}")
            if nameless:
                self.axes.remove(axis)

    def _stage(self, command: str, settings: Mapping[str, Any], folder: Path) -> Stage | None:
        try:
            cls = self._settings_of(command, commands.chosen_by(command, settings))
            config = cls.build(fitted(cls, settings) | {"out": folder}, command)
        except ConfigError as error:
            for line in str(error).splitlines():
                self._say(line)
            return None
        start = str(getattr(config, "init", ""))
        ours = Path(start).parent == self.out / "pretrained"
        if "/" in start and "://" not in start and not ours and not Path(start).expanduser().exists():
            self._say(f"{command}: --init is {start!r}; there is no such run or file")
        if (folder / CONFIG).exists():
            try:
                Run.open(folder, config, {}).close()
            except OutputError as error:
                if "another process" not in str(error):  # an earlier cell may still be saving
                    self._say(str(error))
        return Stage(command, config, folder)

    def _settings_of(self, command: str, method: str) -> type[Config]:
        if (command, method) not in self._classes:  # reading one takes longer than making a cell of it
            self._classes[command, method] = commands.settings_of(command, method)
        return self._classes[command, method]

    def _say(self, line: str) -> None:
        if line not in self.wrong:
            self.wrong.append(line)


def fitted(cls: type[Config], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with single values as lists and `a=1,b=2` as mappings, where the class wants those."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        field_of = cls.model_fields.get(name)
        kind = typing.get_origin(field_of.annotation) if field_of else None
        if kind is list and not isinstance(value, list):
            value = value.split(",") if isinstance(value, str) else [value]
        elif kind is dict and isinstance(value, str):
            value = dict(pair.partition("=")[::2] for pair in value.split(",") if pair)
        found[name] = value
    return found


def name_of(picks: Picks) -> str:
    """The folder of a cell: its values, in letters that every file system takes."""
    whole = ",".join(f"{axis}={value.label}" for axis, value in picks.items())
    safe = re.sub(r"[^\w.+=,-]", "-", whole)
    if len(safe) <= LONGEST:
        return safe
    return f"{safe[: LONGEST - 9]}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def refuse_equal_names(cells: list[SweepCell], wrong: list[str]) -> None:
    """Says which different cells would share a folder."""
    seen: dict[str, SweepCell] = {}
    for cell in cells:
        other = seen.setdefault(cell.name, cell)
        if other.labels != cell.labels:
            wrong.append(
                f"cells {other.labels} and {cell.labels} would share the folder {cell.name}; give the values "
                f"names of their own: {flag('config')} with axes: {{NAME: {{VALUE: {{setting: …}}}}}}"
            )


def _put(settings: dict[str, Any], name: str, content: Any) -> None:
    whole, dot, part = name.partition(".")
    if dot:
        before = settings.get(whole) or {}
        if isinstance(before, str):
            before = dict(pair.partition("=")[::2] for pair in before.split(","))
        settings[whole] = {**before, part: content}
    else:
        settings[name] = content
