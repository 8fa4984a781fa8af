import json

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

import hilum
from hilum.errors import ConfigError, ImageError, MissingError, NumericalError, OutputError, RecordsError
from hilum.images.phantom import write_phantoms

SMALL = {"arch": "test_resnet", "image_size": 32, "store_size": 32}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """60 phantoms of two sites: a white corner marks the second."""
    folder = tmp_path_factory.mktemp("films") / "phantoms"
    table = pd.read_csv(write_phantoms(folder, count=60, seed=3, size=32), dtype=str)
    second = table["patient"].str[-1].isin(list("13579"))
    table["site"] = second.map({True: "B", False: "A"})
    table["marker"] = np.where(np.arange(60) % 4 == 0, "", second.map({True: "yes", False: "no"}))
    table["dose"] = [str(1.5 * i) if i % 5 else "" for i in range(60)]
    for image in table["image"][second]:
        film = cv2.imread(str(folder / image), cv2.IMREAD_GRAYSCALE)
        film[:, :10] = 255
        cv2.imwrite(str(folder / image), film)
    table.to_csv(folder / "films.csv", index=False)
    return folder / "films.csv"


def place(table, **more):
    return {"records": table, "store": table.parent.parent / "store", **SMALL, **more}


def test_the_map_has_a_picture_a_table_and_numbers_beside_chance(films, tmp_path):
    colours = ["Effusion", "site", "view", "marker", "dose"]
    out = hilum.map("random", **place(films, colour=colours, replicates=100, out=tmp_path / "map"))
    assert sorted(path.name for path in out.iterdir()) == ["map.csv", "map.html", "map.json", "map.png"]
    table = pd.read_csv(out / "map.csv", dtype=str, keep_default_na=False)
    given = pd.read_csv(films, dtype=str, keep_default_na=False)
    assert list(table) == ["image", "patient", "x", "y", *colours]
    pd.testing.assert_frame_equal(table[colours], given[colours])
    found = json.loads((out / "map.json").read_text())
    assert 0 < found["explained"][1] < found["explained"][0] < 1
    site = found["told"]["site"]
    assert site["metric"] == "AUROC"
    assert site["value"] > 0.9
    assert site["chance_high"] < site["value"]
    assert found["told"]["marker"]["images"] == 45
    assert found["told"]["dose"]["metric"] == "rank correlation"
    assert found["told"]["dose"]["images"] == 48
    page = (out / "map.html").read_text()
    assert "Nearest films tell" in page.partition("</h1>")[0]
    assert "site" in page.partition("</h1>")[0]
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert cv2.imread(str(out / "map.png")).shape[0] > 1000


def test_the_same_map_is_the_same_to_the_byte(films, tmp_path):
    one, other = (
        hilum.map("random", **place(films, colour=["site"], replicates=64, out=tmp_path / name))
        for name in "ab"
    )
    for name in ("map.csv", "map.png"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_of_many_films_whole_patients_are_drawn_and_counted(films, tmp_path):
    out = hilum.map("random", **place(films, colour=["site"], films=30, replicates=64, out=tmp_path / "map"))
    table = pd.read_csv(out / "map.csv")
    given = pd.read_csv(films)
    assert 15 < len(table) < 45
    sizes = given[given["patient"].isin(table["patient"])].groupby("patient").size()
    pd.testing.assert_series_equal(table.groupby("patient").size(), sizes)
    assert f"A draw of {len(table)} of 60 films" in (out / "map.html").read_text()


def test_without_colours_the_usual_columns_are_drawn(films, tmp_path):
    out = hilum.map("pixels", **place(films, replicates=64, out=tmp_path / "map"))
    told = json.loads((out / "map.json").read_text())["told"]
    assert {"site", "view", "sex", "Effusion"} <= set(told)


def test_umap_draws_too(films, tmp_path, monkeypatch):
    import hilum.commands.map as command

    # The real one compiles itself for many seconds; tests/metrics/test_projection.py has it.
    monkeypatch.setattr(command, "umap", lambda features, seed: features[:, :2].astype(np.float64))
    asked = {"colour": ["site"], "projection": "umap", "replicates": 64, "out": tmp_path / "map"}
    found = json.loads((hilum.map("random", **place(films, **asked)) / "map.json").read_text())
    assert found["explained"] is None
    assert "UMAP keeps neighbours, not distances" in (tmp_path / "map" / "map.html").read_text()


def test_what_is_wrong_is_said_in_one_message_and_nothing_is_written(films, tmp_path):
    out = tmp_path / "map"
    with pytest.raises(ConfigError, match=r"no column 'sight'; did you mean 'site'\?"):
        hilum.map("random", **place(films, colour=["sight"], out=out))
    with pytest.raises(MissingError, match="give a run or a weights file"):
        hilum.map(str(tmp_path / "none"), **place(films, out=out))
    with pytest.raises(RecordsError, match="--split later has no radiographs"):
        hilum.map("random", **place(films, split="later", out=out))
    with pytest.raises(ConfigError, match="--films is 1"):
        hilum.map("random", **place(films, films=1, out=out))
    assert not out.exists()
    out.mkdir()
    with pytest.raises(OutputError, match="is there already"):
        hilum.map("random", **place(films, out=out))


def test_a_collapsed_encoder_is_named(films, tmp_path, monkeypatch):
    import hilum.commands.map as command

    monkeypatch.setattr(
        command, "embed", lambda encoder, records, *_, **__: np.ones((len(records), 4), np.float32)
    )
    with pytest.raises(NumericalError, match="random: the embeddings of all 60 films are the same"):
        hilum.map("random", **place(films, colour=["site"], out=tmp_path / "map"))


def test_a_classifier_is_mapped_by_its_encoder(films, tmp_path):
    from hilum.images.spec import InputSpec
    from hilum.models.classifier import Classifier
    from hilum.models.encoder import Encoder
    from hilum.models.weights import to_bytes

    torch.manual_seed(0)
    encoder = Encoder("test_resnet", InputSpec(side=32))
    (tmp_path / "classifier.safetensors").write_bytes(to_bytes(Classifier(encoder, ("a",), exclusive=False)))
    asked = {"colour": ["site"], "replicates": 64}
    one = hilum.map(str(tmp_path / "classifier.safetensors"), **place(films, **asked, out=tmp_path / "one"))
    other = hilum.map("random", **place(films, **asked, out=tmp_path / "other"))
    assert (one / "map.csv").read_text() == (other / "map.csv").read_text()


def asked(films, *, out, **more):
    images = pd.read_csv(films)["image"]
    return place(films, image=[films.parent / images[0], films.parent / images[7]], out=out, **more)


def test_neighbours_are_the_most_alike_of_other_patients(films, tmp_path):
    out = hilum.neighbours("pixels", **asked(films, k=5, show=["Effusion", "site"], out=tmp_path / "near"))
    assert cv2.imread(str(out / "neighbours.png")).shape[1] > 1200
    table, given = pd.read_csv(out / "neighbours.csv"), pd.read_csv(films)
    assert list(table) == ["query", "rank", "image", "patient", "distance", "own_patient", "Effusion", "site"]
    assert len(table) == 10
    # By hand, from the files: 32 x 32 pixels are their own embedding, but for the shift and scale of input.
    films_ = [
        cv2.imread(str(films.parent / image), cv2.IMREAD_GRAYSCALE).ravel() / 255 for image in given["image"]
    ]
    unit = (np.stack(films_) - 0.5) / 0.25
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    for query, row in zip(table["query"].unique(), (0, 7), strict=True):
        distance = 1 - unit @ unit[row]
        distance[given["patient"] == given["patient"][row]] = np.inf
        nearest = np.argsort(distance, kind="stable")[:5]
        mine = table[table["query"] == query]
        assert mine["image"].tolist() == [str(films.parent / given["image"][i]) for i in nearest]
        np.testing.assert_allclose(mine["distance"], distance[nearest], atol=1e-4)
        assert (mine["own_patient"] == 0).all()


def test_films_of_the_own_patient_are_marked_if_asked_for(films, tmp_path):
    out = hilum.neighbours(
        "pixels", **asked(films, k=59, own_patient="mark", show=["site"], out=tmp_path / "near")
    )
    table, given = pd.read_csv(out / "neighbours.csv"), pd.read_csv(films)
    for query, mine in table.groupby("query"):
        assert query not in set(mine["image"])
        patient = given["patient"][[query.endswith(image) for image in given["image"]]].item()
        own = mine[mine["own_patient"] == 1]
        assert set(own["patient"]) <= {patient}
        assert len(own) == (given["patient"] == patient).sum() - 1


def test_a_film_outside_the_table_finds_its_copy_in_it(films, tmp_path, caplog):
    image = pd.read_csv(films)["image"][3]
    copy = tmp_path / "copy.png"
    copy.write_bytes((films.parent / image).read_bytes())
    out = hilum.neighbours("pixels", **place(films, image=[copy], k=2, out=tmp_path / "near"))
    first = pd.read_csv(out / "neighbours.csv").iloc[0]
    assert first["image"].endswith(image)
    assert first["distance"] == pytest.approx(0, abs=1e-6)
    assert first["own_patient"] == 0
    assert "1 of 1 films asked about are not in the records" in caplog.text


def test_films_that_cannot_be_asked_about_are_said(films, tmp_path):
    out = tmp_path / "near"
    with pytest.raises(MissingError, match=r"--image .*none\.png: no such file"):
        hilum.neighbours("pixels", **place(films, image=[tmp_path / "none.png"], out=out))
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ImageError, match=r"text\.png"):
        hilum.neighbours("pixels", **place(films, image=[tmp_path / "text.png"], out=out))
    with pytest.raises(ConfigError, match="did you mean 'Effusion'"):
        hilum.neighbours("pixels", **asked(films, show=["Efusion"], out=out))
    assert not out.exists()
