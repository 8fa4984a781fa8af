"""The tables behind docs/results.md, from three public collections of chest films.

    python examples/real_films/prepare.py FOLDER tables

FOLDER holds nih_rsna, tuberculosis_shenzhen and paediatric_pneumonia, each with a labels.csv. One split by
patient serves every task of a collection, so that one pretraining keeps clear of all test patients:
NIH 40 % train, 15 % validation, 45 % test; Shenzhen half in pretraining, half the test of another hospital;
the paediatric films are for pretraining alone.
"""

import json
import sys
from pathlib import Path

import pandas as pd

from hilum.records.splits import split_patients
from hilum.records.table import Records

MINED = ("Atelectasis", "Cardiomegaly", "Edema", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumothorax")


def nih(folder: Path) -> pd.DataFrame:
    """NIH films: mined findings, sex, and the RSNA readers' judgement and boxes where there are any."""
    raw = pd.read_csv(folder / "nih_rsna/labels.csv", dtype=str, keep_default_na=False)
    table = pd.DataFrame({"image": [str(folder / "nih_rsna" / p) for p in raw["path"]]})
    table["patient"], table["site"] = "nih-" + raw["patient_id"], "NIH"
    table["view"], table["sex"], table["age"] = raw["view"], raw["sex"], raw["age"]
    for finding in MINED:
        table[finding] = (
            raw["finding_labels"].str.split("|").apply(lambda names, f=finding: float(f in names))
        )
    table["Opacity"] = (raw["rsna_class"] == "Lung Opacity").astype(float).where(raw["rsna_class"] != "")
    table["Female"] = (raw["sex"] == "F").astype(float)
    boxes = pd.read_csv(folder / "nih_rsna/boxes.csv")
    boxes = boxes[boxes["annotator"] == "RSNA_stage2"]
    corners = zip(
        boxes["x"], boxes["y"], boxes["x"] + boxes["width"], boxes["y"] + boxes["height"], strict=True
    )
    cells: dict[str, list[list[object]]] = {}
    for path, corner in zip(boxes["path"], corners, strict=True):
        cells.setdefault(path, []).append(["Opacity", *map(float, corner)])
    table["boxes"] = [json.dumps(cells[p]) if p in cells else "" for p in raw["path"]]
    return table


def shenzhen(folder: Path) -> pd.DataFrame:
    """Shenzhen films of adults: sex and tuberculosis."""
    raw = pd.read_csv(folder / "tuberculosis_shenzhen/labels.csv", dtype=str, keep_default_na=False)
    table = pd.DataFrame({"image": [str(folder / "tuberculosis_shenzhen" / p) for p in raw["path"]]})
    table["patient"], table["site"], table["view"] = "shenzhen-" + raw["patient_id"], "Shenzhen", raw["view"]
    table["sex"], table["age"] = raw["sex"].str[:1], raw["age"]
    table["Tuberculosis"] = raw["tuberculosis"].astype(float)
    table["Female"] = (table["sex"] == "F").astype(float)
    adult = pd.to_numeric(raw["age"], errors="coerce") >= 18
    return table[adult].reset_index(drop=True)


def paediatric(folder: Path) -> pd.DataFrame:
    """Films of children: pneumonia."""
    raw = pd.read_csv(folder / "paediatric_pneumonia/labels.csv", dtype=str, keep_default_na=False)
    table = pd.DataFrame({"image": [str(folder / "paediatric_pneumonia" / p) for p in raw["path"]]})
    table["patient"], table["site"], table["view"] = "children-" + raw["patient_id"], "Guangzhou", "AP"
    table["Pneumonia"] = raw["pneumonia"].astype(float)
    return table


def main(folder: Path, out: Path) -> None:
    """Writes one table per task, and `union.csv` for pretraining."""
    out.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    ours = split_patients(
        records(nih(folder), (*MINED, "Opacity", "Female")), val=0.15, test=0.45, seed=0
    ).table
    theirs = split_patients(
        records(shenzhen(folder), ("Tuberculosis", "Female")), val=0, test=0.5, seed=0
    ).table
    children = paediatric(folder).assign(split="train")

    judged = ours[ours["Opacity"].notna()]
    write(judged, ("Opacity",), out / "opacity.csv")
    write(judged[judged["view"] == "PA"], ("Opacity",), out / "opacity_pa.csv")
    write(ours, ("Effusion", "Cardiomegaly"), out / "findings.csv")
    # Sex is learnt at NIH and tested in Shenzhen: NIH's own test films stay out of it.
    learnt, tested = ours[ours["split"] != "test"], theirs[theirs["split"] == "test"]
    write(pd.concat([learnt, tested]), ("Female",), out / "sex.csv")
    everything = pd.concat([ours, theirs, children])
    everything = everything[everything["split"] == "train"]
    write(everything, (*MINED, "Pneumonia", "Tuberculosis"), out / "union.csv")


def records(table: pd.DataFrame, findings: tuple[str, ...]) -> Records:
    """The library's table from ours."""
    return Records(table.assign(split="").reset_index(drop=True), findings)


def write(table: pd.DataFrame, findings: tuple[str, ...], path: Path) -> None:
    """One task's table: what every row has, and its findings."""
    known = [
        "image",
        "patient",
        "split",
        "site",
        "view",
        "sex",
        "age",
        *(["boxes"] if "boxes" in table else []),
    ]
    kept = table[[*known, *findings]].fillna(dict.fromkeys(known, "")).reset_index(drop=True)
    Records(kept, findings).write(path)
    sys.stderr.write(f"{path}: {len(kept)} films, {kept['patient'].nunique()} patients\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
