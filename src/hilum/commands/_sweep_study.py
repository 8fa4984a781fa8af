"""Which cell is next: every combination, random draws, or what Optuna's TPE proposes."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from hilum.commands._sweep_axes import Axis, Picks
from hilum.commands._sweep_cells import Maker, SweepCell
from hilum.errors import ConfigError, DependencyError

MOST_DRAWS = 1000
"""Draws in a row that may repeat earlier cells before a random search says that there are no others."""


class Study(Protocol):
    """Gives cells one by one and hears what became of them."""

    total: int
    """Cells in all."""
    before: Sequence[SweepCell]
    """Those that an earlier sweep was done with, and that are not asked for again."""

    def ask(self) -> SweepCell | None:
        """The next cell; None when there is no other."""

    def watch(self, cell: SweepCell, values: Sequence[float]) -> bool:
        """Whether a running cell is so bad, by its validations so far, that it should end."""

    def tell(self, cell: SweepCell, score: float | None, *, pruned: bool = False) -> None:
        """What a cell scored on validation; None: it failed."""


class Listed:
    """Cells that are known from the start, and none of them depends on another."""

    def __init__(self, cells: Sequence[SweepCell]) -> None:
        """In this order."""
        self.total = len(cells)
        self.before: Sequence[SweepCell] = ()
        self._cells = iter(cells)

    def ask(self) -> SweepCell | None:
        """The next cell; None when there is no other."""
        return next(self._cells, None)

    def watch(self, cell: SweepCell, values: Sequence[float]) -> bool:
        """Never: what is listed is run."""
        return False

    def tell(self, cell: SweepCell, score: float | None, *, pruned: bool = False) -> None:
        """Makes no difference."""


class Tpe:
    """Optuna's tree of Parzen estimators with its median pruner, kept in `study.db`."""

    def __init__(self, maker: Maker, trials: int, *, seed: int, minimise: bool) -> None:
        """Begins the study of the sweep's folder, or goes on with it.

        Raises:
            DependencyError: Optuna is not installed.
            ConfigError: the study there is of other axes.
        """
        try:
            import optuna
        except ImportError:
            raise DependencyError(
                "--search tpe needs Optuna: pip install 'hilum[sweep]'. --search random does without it"
            ) from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._states = optuna.trial.TrialState
        self._maker = maker
        self._space = {axis.name: _distribution(optuna, maker, axis) for axis in maker.axes}
        storage = f"sqlite:///{(maker.out / 'study.db').absolute()}"
        self._study = optuna.create_study(
            study_name="sweep",
            storage=storage,
            load_if_exists=True,
            direction="minimize" if minimise else "maximize",
            pruner=optuna.pruners.MedianPruner(),
        )
        self._refuse_other_axes()
        self.total = trials
        self._running: dict[str, Any] = {}
        self._told: dict[str, int] = {}
        kept = self._go_on()
        # A sampler that began with the same seed again would propose the same first trials again.
        self._study.sampler = optuna.samplers.TPESampler(
            seed=seed + len(self._study.get_trials(deepcopy=False))
        )
        self.before: Sequence[SweepCell] = kept
        self._left = trials - len(kept)

    def ask(self) -> SweepCell | None:
        """The next cell; None when there were enough."""
        while self._left > 0:
            self._left -= 1
            trial = self._study.ask(self._space)
            picks = self._picks(trial.params)
            cell = self._maker.cell(picks)
            assert cell is not None, self._maker.wrong
            if cell.name in self._running:
                self._study.tell(trial, state=self._states.FAIL)  # the same numbers are being tried now
                continue
            self._running[cell.name] = trial
            return cell
        return None

    def watch(self, cell: SweepCell, values: Sequence[float]) -> bool:
        """Whether the median of the trials before was better at this validation."""
        trial = self._running[cell.name]
        told = self._told.get(cell.name, 0)
        for place, value in enumerate(values[told:], start=told):
            trial.report(value, place)
        self._told[cell.name] = len(values)
        return bool(values) and bool(trial.should_prune())

    def tell(self, cell: SweepCell, score: float | None, *, pruned: bool = False) -> None:
        """What a cell scored."""
        trial = self._running.pop(cell.name)
        if pruned:
            self._study.tell(trial, state=self._states.PRUNED)
        elif score is None:
            self._study.tell(trial, state=self._states.FAIL)
        else:
            self._study.tell(trial, score)

    def _go_on(self) -> list[SweepCell]:
        """The cells that are done with; those that were running or failed are asked for again."""
        again, kept = {}, {}
        for trial in self._study.get_trials(deepcopy=False):
            if not trial.params:
                continue
            cell = self._maker.cell(self._picks(trial.params))
            if cell is None:
                raise ConfigError("\n".join(self._maker.wrong))
            if trial.state in (self._states.COMPLETE, self._states.PRUNED):
                kept[cell.name] = cell
            else:
                again[cell.name] = trial.params
            if trial.state == self._states.RUNNING:
                self._study.tell(trial.number, state=self._states.FAIL)
        waiting = self._study.get_trials(deepcopy=False, states=(self._states.WAITING,))
        if not waiting:
            for name, params in again.items():
                if name not in kept:
                    self._study.enqueue_trial(params)
        return list(kept.values())

    def _picks(self, params: dict[str, Any]) -> Picks:
        picks = {}
        for axis in self._maker.axes:
            found = params[axis.name]
            known = {value.label: value for value in axis.values}
            picks[axis.name] = self._maker.drawn(axis, found) if axis.range else known[found]
        return picks

    def _refuse_other_axes(self) -> None:
        space = {name: str(distribution) for name, distribution in self._space.items()}
        before = self._study.user_attrs.get("axes", space)
        if before != space:
            raise ConfigError(
                f"{self._maker.out}: holds a study of other axes ({before}); give another --out, "
                "or its own axes"
            )
        self._study.set_user_attr("axes", space)


def grid(axes: Sequence[Axis]) -> Iterator[Picks]:
    """Every combination, the last axis fastest."""
    for values in itertools.product(*(axis.values for axis in axes)):
        yield {axis.name: value for axis, value in zip(axes, values, strict=True)}


def draws(maker: Maker, trials: int, *, seed: int) -> list[Picks]:
    """Different random combinations; more trials begin with those of fewer. Fewer where there are no more."""
    found: dict[tuple[str, ...], Picks] = {}
    number = repeated = 0
    while len(found) < trials and repeated < MOST_DRAWS:
        chance = np.random.default_rng([seed, number])
        picks = {
            axis.name: (
                maker.drawn(axis, axis.range.at(chance.random(), whole=maker.whole(axis)))
                if axis.range
                else axis.values[int(chance.integers(len(axis.values)))]
            )
            for axis in maker.axes
        }
        key = tuple(value.label for value in picks.values())
        repeated = repeated + 1 if key in found else 0
        found.setdefault(key, picks)
        number += 1
    return list(found.values())


def corners(maker: Maker) -> Iterator[Picks]:
    """Combinations in which every value of every axis, and both ends of every range, appear."""
    ends = [
        [maker.drawn(axis, end) for end in (axis.range.low, axis.range.high)]
        if axis.range
        else list(axis.values)
        for axis in maker.axes
    ]
    for place in range(max(map(len, ends), default=0)):
        yield {axis.name: some[place % len(some)] for axis, some in zip(maker.axes, ends, strict=True)}


def _distribution(optuna: Any, maker: Maker, axis: Axis) -> Any:
    kinds = optuna.distributions
    if axis.range is None:
        return kinds.CategoricalDistribution([value.label for value in axis.values])
    if maker.whole(axis):
        return kinds.IntDistribution(round(axis.range.low), round(axis.range.high), log=axis.range.log)
    return kinds.FloatDistribution(axis.range.low, axis.range.high, log=axis.range.log)
