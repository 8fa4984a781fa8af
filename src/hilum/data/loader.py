"""Batches of views: the step's number is the loader's whole state."""

import logging
import signal
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hilum.data.batch import Batch
from hilum.data.boxes import BoxSource
from hilum.data.partners import Partners
from hilum.data.views import ViewRecipe, draw_batch, matrices
from hilum.errors import ConfigError, HilumError, RecordsError
from hilum.images.chance import hashed
from hilum.images.shrink import forkable
from hilum.images.store import Store
from hilum.records.table import Records

log = logging.getLogger(__name__)

_ORDER = 2**31  # in the place of a view's number: the order of an epoch shares no bits with any view


class Loader:
    """An endless stream of radiographs, cut into full batches.

    The stream is one permutation of all radiographs after another, each a function of (seed, epoch).
    Step t holds places t·B to (t+1)·B of it: nothing is dropped, and the step's number says where it stands.
    A view is a function of (seed, epoch, row, place in the recipe). Neither depends on `workers` or `world`.

    Args:
        store: the films.
        records: which of them, with their labels.
        recipe: the views.
        batch_size: radiographs per step, over all ranks.
        seed: of order and augmentation.
        workers: processes that prepare batches; 0 prepares them in this process.
        columns: columns of the records whose cells become `Batch.codes`.
        partners: which other film every second view shows; None: the same film.
        boxes: those of each radiograph, to be carried along as `Batch.boxes`; None: none are.
        rank: which of `world` equal, contiguous slices of each batch to yield.
        world: number of processes that train together.

    Raises:
        RecordsError: there are no radiographs, or some are not in the store.
        ConfigError: `world` does not divide `batch_size`.
    """

    def __init__(
        self,
        store: Store,
        records: Records,
        recipe: ViewRecipe,
        *,
        batch_size: int,
        seed: int,
        workers: int = 0,
        columns: Sequence[str] = (),
        partners: Partners | None = None,
        boxes: BoxSource | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch_size % world:
            raise ConfigError(f"batch_size {batch_size} cannot be split among {world} processes evenly")
        self.num_images = len(records)
        if batch_size > self.num_images:
            log.warning(
                "a batch of %d holds some of the %d radiographs more than once; give a smaller --batch-size",
                batch_size,
                self.num_images,
            )
        self.workers = workers
        share = batch_size // world
        source = _Source(store, records, recipe, seed, columns=columns, partners=partners, boxes=boxes)
        self._steps = _Steps(source, batch_size, slice(rank * share, (rank + 1) * share))

    def batches(self, first_step: int, last_step: int) -> Iterator[Batch]:
        """The batches of steps `first_step` to `last_step`, the last excluded."""
        return _batches(self._steps, range(first_step, last_step), self.workers)


def in_order(
    store: Store, records: Records, recipe: ViewRecipe, *, batch_size: int, workers: int = 0
) -> Iterator[Batch]:
    """Every radiograph once, in the order of the records; the last batch may be smaller."""
    source = _Source(store, records, recipe, seed=0)
    return _batches(_Parts(source, batch_size), range(-(-len(records) // batch_size)), workers)


class _Source:
    """Views of given rows of the records, and what is known of them."""

    def __init__(
        self,
        store: Store,
        records: Records,
        recipe: ViewRecipe,
        seed: int,
        *,
        columns: Sequence[str] = (),
        partners: Partners | None = None,
        boxes: BoxSource | None = None,
    ) -> None:
        if not len(records):
            raise RecordsError("there are no radiographs to load; see the column split of the records")
        self.store = store
        self.films = store.rows(records.table["image"].tolist())
        self.labels = np.array(records.labels, np.float32)
        self.texts = records.table["text"].to_numpy(object) if "text" in records.table else None
        self.codes = {name: codes_of(records.table[name]) for name in columns}
        self.partners = partners
        self.boxes = boxes
        self.recipe = recipe
        self.seed = seed

    def __len__(self) -> int:
        return len(self.films)

    def read(self, rows: NDArray[np.int64], epochs: NDArray[np.int64]) -> Batch:
        films = self._films(rows)
        paired = rows if self.partners is None else self.partners.of(rows, epochs, seed=self.seed)
        others = None if self.partners is None else self._films(paired)
        views = [torch.empty((len(rows), side, side), dtype=torch.uint8) for side in self.recipe.sides]
        slots = [view.numpy() for view in views]
        draw_batch(self.recipe, films, rows=rows, epochs=epochs, seed=self.seed, partners=others, out=slots)
        return Batch(
            tuple(view.unsqueeze(1) for view in views),
            torch.from_numpy(self.labels[rows]),
            torch.from_numpy(rows),
            torch.from_numpy(epochs),
            {name: torch.from_numpy(code[rows]) for name, code in self.codes.items()},
            {name: torch.from_numpy(code[paired]) for name, code in self.codes.items()},
            () if self.texts is None else tuple(self.texts[rows].tolist()),
            None if self.boxes is None else self._boxes(self.boxes, films, rows, epochs),
            self.seed,
        )

    def _boxes(
        self,
        boxes: BoxSource,
        films: Sequence[NDArray[np.uint8]],
        rows: NDArray[np.int64],
        epochs: NDArray[np.int64],
    ) -> Float[Tensor, "B M 5"]:
        sizes = np.array([film.shape for film in films], np.int64)
        warps = matrices(self.recipe, sizes, rows=rows, epochs=epochs, seed=self.seed)[0]
        found = [
            boxes.on_view(*pair, self.recipe.sides[0]) for pair in zip(rows.tolist(), warps, strict=True)
        ]
        return torch.from_numpy(np.stack(found).astype(np.float32))

    def _films(self, rows: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        return [self.store[film] for film in self.films[rows].tolist()]


class _Steps(Dataset[Batch]):
    """The stream's batches by the number of their step."""

    def __init__(self, source: _Source, batch_size: int, share: slice) -> None:
        self.source = source
        self.batch_size = batch_size
        self.share = share

    def __getitem__(self, step: int) -> Batch:
        places = np.arange(step * self.batch_size, (step + 1) * self.batch_size)[self.share]
        epochs, within = np.divmod(places, len(self.source))
        orders = {epoch: order(self.source.seed, epoch, len(self.source)) for epoch in set(epochs.tolist())}
        rows = np.array(
            [orders[epoch][at] for epoch, at in zip(epochs.tolist(), within.tolist(), strict=True)]
        )
        return self.source.read(rows, epochs)


class _Parts(Dataset[Batch]):
    """The records in their own order, by the number of the batch."""

    def __init__(self, source: _Source, batch_size: int) -> None:
        self.source = source
        self.batch_size = batch_size

    def __getitem__(self, part: int) -> Batch:
        rows = np.arange(part * self.batch_size, min((part + 1) * self.batch_size, len(self.source)))
        return self.source.read(rows, np.zeros_like(rows))


@lru_cache(maxsize=4)
def order(seed: int, epoch: int, num_images: int) -> NDArray[np.int64]:
    """The order in which an epoch meets all rows: sorted by the hash of each."""
    return np.argsort(hashed(seed, epoch, np.arange(num_images), _ORDER), kind="stable")


def _batches(source: "_Steps | _Parts", numbers: range, workers: int) -> Iterator[Batch]:
    if workers == 0:
        yield from (source[number] for number in numbers)
        return
    # One number is one whole batch (batch_size=None): workers hand over ready batches, nothing is collated.
    # fork: a worker starts in milliseconds and shares the store's map and the labels.
    loader = DataLoader(
        source,
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        prefetch_factor=4,
        generator=torch.Generator(),  # or it would draw from torch's own, and workers would change results
        pin_memory=torch.cuda.is_available(),
        multiprocessing_context="fork",
        worker_init_fn=_leave_signals_to_main,
    )
    # Blocked while workers start, or a signal could meet one before it ignores it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        with forkable():
            ready = iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        yield from ready
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise HilumError(
            f"a process that prepares batches died ({error}); the machine may be out of memory or of shared "
            "memory: try fewer --workers, or --workers 0"
        ) from error


def codes_of(column: pd.Series) -> NDArray[np.int64]:
    """A number for each different cell, in the order of their texts; -1 for an empty one.

    >>> codes_of(pd.Series(["PA", "", "AP", "PA"])).tolist()
    [1, -1, 0, 1]
    """
    return pd.factorize(column.where(column != "", None), sort=True)[0].astype(np.int64)


def _leave_signals_to_main(_: int) -> None:
    # A terminal and a scheduler signal every process; the main one saves first, then ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
