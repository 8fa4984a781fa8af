"""Nothing of a DICOM header leaves its file: every text in one is a canary, and none sings elsewhere."""

import base64
import contextlib
import hashlib
import io
import json
import logging
import re

import pandas as pd
import pydicom
import pytest
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid

import hilum
from hilum.cli import main
from hilum.images.header import Tag
from hilum.images.phantom import write_phantoms

FILMS = 20
SMALL = {"store_size": 64, "device": "cpu"}
WORD, UID, NUMBER = "ZQCNRY", "2.25.271828182845904523", "1828182845"
DAY, TIME = "18280911", "182818.284590"
NEEDLE = re.compile(
    rb"zqcnry|2\.25\.271828182845904523|182818\.284590|18280911182818|(?<![0-9.])(?:18280911|1828182845)(?![0-9])"
)
"""What every canary has in common, in small letters; the plain numbers only where they stand alone."""
READ = frozenset(Tag) - {
    Tag.PATIENT_SEX, Tag.VIEW_POSITION, Tag.LATERALITY, Tag.IMAGE_LATERALITY, Tag.BODY_PART_EXAMINED,
    Tag.PRESENTATION_INTENT_TYPE, Tag.BURNED_IN_ANNOTATION,
}  # fmt: skip
"""Elements that keep their values, since films without them are refused; an age has no room for a canary."""


def canary(vr, number):
    """A value that the representation allows and nothing else would write."""
    word = f"{WORD}{number:06d}"
    return {
        "DA": DAY,
        "TM": TIME,
        "DT": f"{DAY}{TIME}",
        "DS": f"{NUMBER}.{number % 1000:03d}",
        "IS": NUMBER,
        "UI": f"{UID}{number:06d}",
        "PN": f"{word}^{WORD}",
        "UR": f"http://{word}",
    }.get(vr, word)


TEXTS = ("AE", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")


def everywhere(dataset, start):
    """Fills every element of text that the standard has, private ones, and sequences in sequences."""
    number = start
    for tag, (vr, *_) in DicomDictionary.items():
        group, element = tag >> 16, tag & 0xFFFF
        if vr in TEXTS and 8 <= group < 0x5000 and element and tag not in READ:
            number += 1
            dataset.add_new(tag, vr, canary(vr, number))
    for block_number in (0x0099, 0x7F99):
        block = dataset.private_block(block_number, canary("LO", number + 1), create=True)
        for element, vr in enumerate(("LO", "PN", "UT", "UN"), 1):
            number += 1
            value = canary(vr, number)
            block.add_new(element, vr, value.encode() if vr == "UN" else value)
    inner, outer = Dataset(), Dataset()
    inner.PatientID = canary("LO", number + 2)
    outer.OtherPatientIDsSequence = Sequence([inner])
    outer.PatientName, outer.ImageComments = canary("PN", number + 3), canary("LT", number + 4)
    dataset.RequestAttributesSequence = Sequence([outer, inner])
    for item in dataset.get("AnatomicRegionSequence", ()):
        item.CodeValue = item.CodingSchemeDesignator = item.CodeMeaning = canary("SH", number + 1)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.DataSetTrailingPadding = canary("LT", number + 5).encode()
    meta = dataset.file_meta
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.SourceApplicationEntityTitle = canary("AE", number + 6)
    meta.ImplementationVersionName = canary("SH", number + 7)
    meta.PrivateInformationCreatorUID = canary("UI", number + 8)
    meta.PrivateInformation = canary("LO", number + 9).encode()
    dataset.preamble = canary("LO", number + 10).encode().ljust(128, b"\0")
    return number + 10


def found(content: bytes) -> list[bytes]:
    """The canaries in a file: as bytes, in wide letters, and in pictures that a page carries as base64."""
    content = content.lower() if b";base64," not in content else content
    embedded = [base64.b64decode(part) for part in re.findall(rb";base64,([A-Za-z0-9+/=]+)", content)]
    return [hit for part in (content, *embedded) for hit in NEEDLE.findall(part.lower().replace(b"\0", b""))]


class Kept(logging.Handler):
    """Whatever anything logs, down to debugging."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.lines = []

    def emit(self, record):
        self.lines.append(self.format(record))


@contextlib.contextmanager
def listening():
    """Everything that is logged or printed meanwhile."""
    kept, printed, root = Kept(), io.StringIO(), logging.getLogger()
    level = root.level
    root.addHandler(kept)
    root.setLevel(logging.DEBUG)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            yield lambda: "\n".join([*kept.lines, printed.getvalue()]).encode()
    finally:
        root.removeHandler(kept)
        root.setLevel(level)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """DICOM films with a canary in every element of text, and a table that the user wrote of them."""
    folder = tmp_path_factory.mktemp("films")
    write_phantoms(folder, count=FILMS, seed=2, size=64, format="dicom")
    number, rows = 0, []
    for place, path in enumerate(sorted((folder / "images").iterdir())):
        film = pydicom.dcmread(path)
        number = everywhere(film, number)
        film.save_as(path, enforce_file_format=True)
        split = ("train", "val", "test")[(place // 2) % 5 // 2 if place // 2 % 5 < 4 else 2]
        rows.append({"image": path, "patient": f"person {place}", "split": split, "Effusion": place % 2})
    table = folder / "films.csv"
    pd.DataFrame(rows).to_csv(table, index=False)
    return table


@pytest.fixture(scope="module")
def written(films, tmp_path_factory):
    """Every file that the commands left, and all that they said."""
    out = tmp_path_factory.mktemp("out")
    place = {"records": films, "store": out / "store"}
    with listening() as said:
        assert main(["records", "check", str(films)]) == 0
        hilum.records_preview(films, store=out / "store", store_size=64, out=out / "preview.png")
        encoder = hilum.pretrain(
            "simclr", **place, **SMALL, arch="test_resnet", image_size=64, out=out / "simclr", steps=2,
            batch_size=4, workers=0, threads=1, tensorboard=True,
        )  # fmt: skip
        probe = hilum.transfer(
            **place, **SMALL, init=str(encoder), fit="logistic", replicates=20, out=out / "probe"
        )
        tuned = hilum.transfer(
            **place, **SMALL, init=str(encoder), fit="finetune", steps=1, batch_size=4, workers=0, threads=1,
            replicates=20, out=out / "tuned",
        )  # fmt: skip
        predictions = hilum.predict(probe, **place, **SMALL, out=out / "predictions.csv")
        hilum.evaluate(predictions, records=films, out=out / "evaluated", replicates=20)
        hilum.explain(tuned, **place, **SMALL, finding="Effusion", limit=4, replicates=20, out=out / "maps")
        hilum.records_merge([films], out=out / "merged.csv")
    return {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}, said()


def test_a_canary_sits_in_every_element_and_is_found_where_it_is(films):
    for path in (films.parent / "images").iterdir():
        film = pydicom.dcmread(path)
        content = path.read_bytes()
        texts = [one for one in film.iterall() if one.VR in TEXTS and one.tag not in READ]
        assert len(texts) > 2000
        silent = {one.keyword for one in texts if not found(str(one.value).encode())}
        assert silent <= {"SpecificCharacterSet"}
        assert len(found(content)) > 2000
    planted = base64.b64encode(b"\x89PNG tEXt " + WORD.encode())
    assert found(b'<img src="data:image/png;base64,' + planted + b'">')
    assert found(json.dumps({"day": DAY}).encode())
    assert found(WORD.encode("utf-16"))
    assert found(f"0.{DAY}17".encode()) == []


def test_the_commands_leave_what_a_user_would_keep(written):
    names = {path.name for path in written[0]}
    assert {
        "model.safetensors", "environment.json", "trained_on.json", "metrics.jsonl", "predictions.csv",
        "report.json", "report.html", "maps.csv", "maps.npy", "maps.html", "preview.png", "merged.json",
    } <= names  # fmt: skip
    assert any("tfevents" in name for name in names)
    assert b"20" in written[1]


def test_no_canary_is_in_any_file_name_message_or_log(written):
    files, said = written
    singing = {str(path): hits[:3] for path, content in files.items() if (hits := found(content))}
    assert singing == {}
    assert found("\n".join(map(str, files)).encode()) == []
    assert found(said) == []


def test_not_even_a_hash_of_the_header_s_patient_is_kept(films, written):
    kept = b"".join(written[0].values())
    for path in (films.parent / "images").iterdir():
        film = pydicom.dcmread(path)
        for value in (film.PatientID, str(film.PatientName), film.SOPInstanceUID, film.AccessionNumber):
            for algorithm in (hashlib.sha256, hashlib.md5, hashlib.sha1):
                assert algorithm(str(value).encode()).hexdigest()[:16].encode() not in kept


DAMAGE = {
    "another modality": lambda film: setattr(film, "Modality", WORD),
    "another photometric interpretation": lambda film: setattr(film, "PhotometricInterpretation", WORD),
    "no pixels": lambda film: delattr(film, "PixelData"),
    "too few pixels": lambda film: setattr(film, "Rows", film.Rows * 2),
    "an unknown transfer syntax": lambda film: setattr(
        film.file_meta, "TransferSyntaxUID", generate_uid(prefix=f"{UID}.")
    ),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_what_is_said_of_a_film_that_is_refused_quotes_no_canary(films, tmp_path, how):
    path = tmp_path / "film.dcm"
    film = pydicom.dcmread(sorted((films.parent / "images").iterdir())[0])
    DAMAGE[how](film)
    if how.startswith("an unknown"):
        plain = film.file_meta.TransferSyntaxUID
        film.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        film.save_as(path, enforce_file_format=True)
        content = path.read_bytes()
        old = pydicom.uid.ExplicitVRLittleEndian.encode()
        path.write_bytes(content.replace(old.ljust(20, b"\0"), plain[:20].encode(), 1))
    else:
        film.save_as(path, enforce_file_format=True)
    (tmp_path / "films.csv").write_text(f"image,patient,Effusion\n{path},one,1\n")
    with listening() as said:
        assert main(["records", "check", str(tmp_path / "films.csv")]) == 65
        code = main(
            ["records", "preview", str(tmp_path / "films.csv"), "--store", str(tmp_path / "store"), "--out",
             str(tmp_path / "preview.png")]
        )  # fmt: skip
    assert code == 65
    assert b"film.dcm" in said()
    assert found(said()) == []


def test_a_film_cut_off_anywhere_says_nothing_of_its_header(films, tmp_path):
    content = sorted((films.parent / "images").iterdir())[0].read_bytes()
    path = tmp_path / "film.dcm"
    (tmp_path / "films.csv").write_text(f"image,patient,Effusion\n{path},one,1\n")
    for end in range(132, len(content), len(content) // 12):
        path.write_bytes(content[:end])
        with listening() as said:
            assert main(["records", "check", str(tmp_path / "films.csv")]) == 65
        assert found(said()) == []
