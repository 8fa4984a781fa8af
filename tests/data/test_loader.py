import os
import signal

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data._utils.pin_memory import pin_memory

from hilum.data.batch import Batch
from hilum.data.loader import Loader, in_order, order
from hilum.data.views import CXR, PLAIN, draw
from hilum.errors import ConfigError, HilumError, RecordsError
from hilum.images.spec import InputSpec
from hilum.images.store import build_store
from hilum.records.table import Records
from tests import toys

NUM = 13
SPEC = InputSpec(side=24)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A store of fifteen films and a table of thirteen of them, in another order."""
    folder = tmp_path_factory.mktemp("films")
    rng = np.random.default_rng(0)
    images = []
    for number in range(NUM + 2):
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), rng.integers(0, 256, (40 + number, 60 - number), np.uint8))
        images.append(str(path))
    store = build_store(images, folder=folder, size=36, quiet=True)
    table = pd.DataFrame(
        {
            "image": images[1:-1][::-1],
            "patient": [f"p{n}" for n in range(NUM)],
            "split": "train",
            "Edema": np.array([1, 0, np.nan] * 5, np.float32)[:NUM],
            "Mass": np.array([0, 1, 1, np.nan] * 4, np.float32)[:NUM],
        }
    )
    return store, Records(table, ("Edema", "Mass"))


def loader(source, **settings):
    return Loader(*source, CXR.at(SPEC), **{"batch_size": 4, "seed": 3} | settings)


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.rows, b.rows)
        and torch.equal(a.labels.nan_to_num(9), b.labels.nan_to_num(9))
        and all(torch.equal(x, y) for x, y in zip(a.views, b.views, strict=True))
        for a, b in zip(one, other, strict=True)
    )


def test_a_batch_holds_views_labels_and_rows_that_belong_together(source):
    store, records = source
    batch = next(loader(source).batches(2, 3))
    assert len(batch) == 4
    assert [view.shape for view in batch.views] == [(4, 1, 24, 24)] * 2
    assert {view.dtype for view in batch.views} == {torch.uint8}
    stream = np.concatenate([order(3, 0, NUM), order(3, 1, NUM)])
    assert batch.rows.tolist() == stream[8:12].tolist()
    assert np.array_equal(batch.labels.numpy(), records.labels[batch.rows.numpy()], equal_nan=True)
    for place, row in enumerate(batch.rows.tolist()):
        film = store[int(store.rows([records.table["image"][row]])[0])]
        drawn = draw(CXR.at(SPEC), film, row=row, epoch=0, seed=3)
        for view, expected in zip(batch.views, drawn, strict=True):
            assert np.array_equal(view[place, 0].numpy(), expected)


def test_each_epoch_meets_each_radiograph_once_in_its_own_order(source):
    stream = torch.cat([batch.rows for batch in loader(source).batches(0, NUM)]).reshape(4, NUM)
    assert (stream.sort(1).values == torch.arange(NUM)).all()
    assert len({tuple(epoch) for epoch in stream.tolist()}) == 4
    other = torch.cat([batch.rows for batch in loader(source, seed=4).batches(0, NUM)])
    assert not torch.equal(other, stream.flatten())


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(source, workers):
    alone = list(loader(source).batches(0, 9))
    state = torch.get_rng_state()
    assert same(alone, list(loader(source, workers=workers).batches(0, 9)))
    assert torch.equal(state, torch.get_rng_state())  # nor does it draw from torch's random numbers


def test_the_slices_of_all_ranks_make_the_batches_of_one_process(source):
    whole = list(loader(source).batches(0, 8))
    ranks = [list(loader(source, rank=rank, world=2).batches(0, 8)) for rank in range(2)]
    for batch, first, second in zip(whole, *ranks, strict=True):
        assert same([batch.part(0, 2), batch.part(1, 2)], [first, second])


def test_a_loader_started_anywhere_goes_on_bit_for_bit(source):
    whole = list(loader(source).batches(0, 10))
    assert same(whole[6:], list(loader(source).batches(6, 10)))
    assert same(whole[6:], list(loader(source, workers=1).batches(6, 10)))


def test_in_order_gives_each_radiograph_once_and_a_smaller_last_batch(source):
    for workers in (0, 2):
        batches = list(in_order(*source, PLAIN.at(SPEC), batch_size=5, workers=workers))
        assert [len(batch) for batch in batches] == [5, 5, 3]
        assert torch.cat([batch.rows for batch in batches]).tolist() == list(range(NUM))


def test_views_are_normalised_as_the_encoder_wants(source):
    spec = InputSpec(side=24, mean=0.3, std=0.2)
    batch = next(loader(source).batches(0, 1))
    ready = batch.to("cpu", spec)
    for view, raw in zip(ready.views, batch.views, strict=True):
        assert view.dtype == torch.float32
        torch.testing.assert_close(view, (raw / 255 - 0.3) / 0.2, atol=1e-6, rtol=1e-6)
    assert torch.equal(ready.rows, batch.rows)


def test_parts_are_contiguous_and_make_the_batch(source):
    batch = next(loader(source).batches(0, 1))
    parts = [batch.part(index, 2) for index in range(2)]
    assert [len(part) for part in parts] == [2, 2]
    assert torch.equal(torch.cat([part.views[1] for part in parts]), batch.views[1])
    with pytest.raises(AssertionError, match="no 3 equal parts"):
        batch.part(0, 3)


def test_a_batch_may_be_larger_than_the_set(source):
    (batch,) = loader(source, batch_size=2 * NUM).batches(0, 1)
    assert sorted(batch.rows.tolist()) == sorted(2 * list(range(NUM)))
    twice = torch.nonzero(batch.rows == 0).flatten().tolist()
    assert not torch.equal(batch.views[0][twice[0]], batch.views[0][twice[1]])


def test_what_cannot_be_loaded_is_refused(source):
    store, records = source
    with pytest.raises(ConfigError, match="batch_size 4 cannot be split among 3"):
        loader(source, world=3)
    with pytest.raises(RecordsError, match="no radiographs"):
        loader((store, Records(records.table.iloc[:0], records.findings)))
    with pytest.raises(RecordsError, match="not in the store"):
        loader((store, Records(records.table.assign(image="/elsewhere.png"), records.findings)))


def test_a_worker_that_dies_is_explained(source, monkeypatch):
    monkeypatch.setattr("hilum.data.loader.draw_batch", lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(HilumError, match="--workers 0"):
        list(loader(source, workers=1).batches(0, 2))


def test_workers_start_in_a_process_that_has_used_cv2_on_several_threads(source):
    """A forked process that set cv2's threads itself waited for ever for threads it does not have."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    cv2.GaussianBlur(np.zeros((2000, 2000), np.uint8), (0, 0), 3)
    assert len(list(loader(source, workers=1).batches(0, 2))) == 2
    assert cv2.getNumThreads() == 2
    cv2.setNumThreads(before)


def test_torchs_loader_pins_what_goes_to_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 1)  # there is none on a CPU
    batch = toys.ToyLoader(num_views=2, columns=["patient"]).batch(0)
    pinned = pin_memory(batch)
    assert isinstance(pinned, Batch)
    assert all(torch.equal(a, b + 1) for a, b in zip(pinned.views, batch.views, strict=True))
    assert torch.equal(pinned.codes["patient"], batch.codes["patient"] + 1)
    assert torch.equal(pinned.rows, batch.rows)


def test_a_batch_of_more_than_there_are_is_said(source, caplog):
    loader(source, batch_size=NUM)
    assert caplog.text == ""
    loader(source, batch_size=NUM + 1)
    assert "a batch of 14 holds some of the 13 radiographs more than once" in caplog.text
