"""docs/images/demo.png: a film of each finding, and what `make demo` measured on them.

python docs/demo_picture.py demo
"""

import json
import sys
from pathlib import Path

import cv2
import matplotlib
from matplotlib.patches import Rectangle

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from hilum.records.table import Records

LOOKS = {"pixels 32×32": ("#0072b2", "-"), "random encoder": ("#d55e00", "--"), "SimCLR": ("#009e73", "-.")}


def main(demo: Path) -> None:
    records = Records.read(demo / "films" / "records.csv")
    figure = plt.figure(figsize=(15.4, 6.6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.35))
    panels = above.subplots(1, len(records.findings) + 1)
    for axes, finding in zip(panels, ["", *records.findings], strict=True):
        film(axes, records, finding)
    means = json.loads((demo / "comparison" / "comparison.json").read_text())["means"]
    _, axes, _ = below.subplots(1, 3, width_ratios=(1, 2, 1))
    for other in below.axes:
        other.set_visible(other is axes)
    for place, (init, (colour, line)) in enumerate(LOOKS.items()):
        some = [m for m in means if m["init"] == init and m["finding"] == "macro"]
        x = [m["fraction"] * 1.03 ** (place - 1) for m in some]
        low, high = ([m[end] for m in some] for end in ("low", "high"))
        axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
        axes.plot(x, [m["value"] for m in some], line, color=colour, marker="o", label=init)
    axes.set(xscale="log", xlabel="labels used", ylabel="mean AUROC, 95 % interval")
    axes.set_xticks([0.02, 0.1, 1], ["2 %", "10 %", "100 %"])
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    figure.savefig(
        Path(__file__).parent / "images" / "demo.png", dpi=100, bbox_inches="tight", pad_inches=0.1
    )


def film(axes: plt.Axes, records: Records, finding: str) -> None:
    """The first film with that finding alone, and its box; without a name, the first with none."""
    labels = records.table[list(records.findings)]
    alone = labels.sum(axis=1) == int(bool(finding))
    row = records.table[alone & (labels[finding] == 1) if finding else alone].iloc[0]
    axes.imshow(cv2.imread(row["image"], cv2.IMREAD_GRAYSCALE), cmap="gray")
    for _, left, top, right, bottom in json.loads(row["boxes"]):
        axes.add_patch(
            Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor="#e69f00", linewidth=1.4)
        )
    axes.set_title(finding or "no finding", fontsize=11)
    axes.axis("off")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
