"""Boxes of the records on the views that are drawn of their films."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from hilum.images.store import Store
from hilum.images.warp import Turned, warp_boxes
from hilum.records.boxes import boxes_of, scaling
from hilum.records.table import Records


class BoxSource:
    """The boxes of some findings on every radiograph, ready to be moved with its views."""

    def __init__(
        self, records: Records, store: Store, findings: Sequence[str], *, turned: Turned = "corners"
    ) -> None:
        """Takes the boxes from pixels of the files to those of the stored films."""
        rows = store.rows(records.table["image"].tolist()).tolist()
        factors = [scaling(store.source_size(row), store[row].shape) for row in rows]
        parts = [boxes_of(records, finding) for finding in findings]
        self._boxes = [
            np.concatenate(
                [
                    np.pad(part[row] * factor, ((0, 0), (0, 1)), constant_values=k)
                    for k, part in enumerate(parts)
                ]
            )
            for row, factor in enumerate(factors)
        ]
        self.most = max(1, *map(len, self._boxes))
        """M: the most boxes that any radiograph has."""
        self.turned = turned

    def on_view(self, row: int, matrix: Float[np.ndarray, "3 3"], side: int) -> Float[np.ndarray, "M 5"]:
        """The boxes whose middle is on the view, cut at its edges, with their finding's number; then NaN."""
        found = self._boxes[row]
        out = np.full((self.most, 5), np.nan)
        if not len(found):
            return out
        middle = (found[:, :2] + found[:, 2:4]) / 2
        x, y, w = np.linalg.inv(matrix) @ np.column_stack([middle, np.ones(len(middle))]).T
        with np.errstate(divide="ignore", invalid="ignore"):
            shown = (w > 0) & (np.minimum(x, y) / w >= 0) & (np.maximum(x, y) / w <= side)
        moved = np.column_stack([warp_boxes(found[:, :4], matrix, side, turned=self.turned), found[:, 4]])
        kept = moved[shown & ((moved[:, 2:4] - moved[:, :2]).min(axis=1) > 0)]
        out[: len(kept)] = kept
        return out
