import numpy as np
import pytest
import torch

from hilum.errors import ConfigError
from hilum.images.phantom import write_phantoms
from hilum.images.store import build_store
from hilum.inference import embed, predict
from hilum.models.classifier import Classifier
from hilum.models.encoder import Encoder
from hilum.records.table import Records
from tests import toys


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    records = Records.read(write_phantoms(folder / "films", count=12, size=64))
    return records, build_store(records.table["image"].tolist(), folder=folder, size=32, quiet=True)


def test_embeddings_are_in_the_order_of_the_table(films):
    records, store = films
    encoder = toys.encoder()
    whole = embed(encoder, records, store, precision="float32")
    backwards = embed(encoder, records.take(np.arange(12)[::-1]), store, precision="float32")
    assert np.allclose(whole, backwards[::-1], atol=1e-5)


def test_cached_features_are_those_of_these_weights_and_films(films, tmp_path):
    records, store = films
    first = embed(toys.encoder(0), records, store, cache=tmp_path, precision="float32")
    again = embed(toys.encoder(0), records, store, cache=tmp_path, precision="float32")
    other = embed(toys.encoder(1), records, store, cache=tmp_path, precision="float32")
    fewer = embed(toys.encoder(0), records.take(np.arange(5)), store, cache=tmp_path, precision="float32")
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)
    assert np.allclose(first[:5], fewer, atol=1e-5)
    assert len(list(tmp_path.glob("*.npy"))) == 3


def test_pixels_are_the_film_itself_area_averaged(films):
    records, store = films
    found = embed(Encoder("pixels/8", toys.SPEC), records, store, precision="float32")
    film = store[int(store.rows([records.table["image"][0]])[0])].astype(np.float64)
    assert film.shape == (32, 32)
    expected = (film.reshape(8, 4, 8, 4).mean((1, 3)) / 255 - toys.SPEC.mean) / toys.SPEC.std
    assert np.allclose(found[0].reshape(8, 8), expected, atol=1e-4)


def test_predictions_are_probabilities_in_float32_and_bfloat16(films):
    records, store = films
    model = Classifier(toys.encoder(), records.findings, exclusive=False)
    torch.nn.init.normal_(model.head.weight, std=0.1)
    exact = predict(model, records, store, precision="float32")
    fast = predict(model, records, store, precision="bfloat16")
    assert exact.findings == records.findings
    assert np.abs(exact.scores - fast.scores).max() < 0.05
    assert ((exact.scores > 0) & (exact.scores < 1)).all()


def test_pixels_need_a_number():
    with pytest.raises(ConfigError, match="pixels/32"):
        Encoder("pixels/many", toys.SPEC)
