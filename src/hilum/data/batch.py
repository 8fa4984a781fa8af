"""Radiographs side by side, as a task meets them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from hilum.images.chance import uniforms
from hilum.images.spec import InputSpec

_TASKS = 2**30  # in the place of a view's number: the first of a task's own random numbers


@dataclass(frozen=True)
class Batch:
    """Views of some radiographs, with what is known of each."""

    views: tuple[Tensor, ...]
    """Each (B, 1, S, S), S of its own: uint8 as loaded, normalised float32 after `to`."""
    labels: Float[Tensor, "B F"]
    """1, 0 or NaN (unknown) per finding."""
    rows: Int64[Tensor, " B"]
    """Row of each radiograph in the Records; stays on the CPU."""
    epochs: Int64[Tensor, " B"]
    """How often each was seen before; stays on the CPU."""
    codes: Mapping[str, Int64[Tensor, " B"]] = field(default_factory=dict)
    """Per column that the task asked for, a number for each different cell; -1 for an empty one."""
    partner_codes: Mapping[str, Int64[Tensor, " B"]] = field(default_factory=dict)
    """The same of the film that every second view shows."""
    texts: tuple[str, ...] = ()
    """The radiologists' texts, where the records have them."""
    boxes: Float[Tensor, "B M 5"] | None = None
    """x1, y1, x2, y2 in pixels of the first view, and the number of the finding; NaN after the last box."""
    seed: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    def uniforms(self, count: int, *, slot: int = 0) -> Float[Tensor, "B {count}"]:
        """Random numbers in [0, 1) for the task: functions of (seed, epoch, row, slot, place) alone.

        So they are the same however a batch is split among processes, and after a restart.
        """
        drawn = uniforms(self.seed, self.epochs.numpy(), self.rows.numpy(), view=_TASKS + slot, count=count)
        return torch.from_numpy(drawn).float().to(self.labels.device, non_blocking=True)

    def to(self, device: torch.device | str, spec: InputSpec) -> Self:
        """The batch on a device, its views as an encoder wants them: `(level / 255 - mean) / std`."""
        scale, shift = 1 / (255 * spec.std), -spec.mean / spec.std
        return replace(
            self,
            views=tuple(
                view.to(device, non_blocking=True).to(torch.float32).mul_(scale).add_(shift)
                for view in self.views
            ),
            labels=self.labels.to(device, non_blocking=True),
            codes={name: code.to(device, non_blocking=True) for name, code in self.codes.items()},
            partner_codes={
                name: code.to(device, non_blocking=True) for name, code in self.partner_codes.items()
            },
            boxes=None if self.boxes is None else self.boxes.to(device, non_blocking=True),
        )

    def pin_memory(self) -> Self:
        """The batch in memory that a GPU copies from by itself; torch's loader calls it."""
        return replace(
            self,
            views=tuple(view.pin_memory() for view in self.views),
            labels=self.labels.pin_memory(),
            codes={name: code.pin_memory() for name, code in self.codes.items()},
            partner_codes={name: code.pin_memory() for name, code in self.partner_codes.items()},
            boxes=None if self.boxes is None else self.boxes.pin_memory(),
        )

    def part(self, index: int, of: int) -> Self:
        """One of `of` equal, contiguous parts."""
        size, rest = divmod(len(self), of)
        assert rest == 0, f"a batch of {len(self)} has no {of} equal parts"
        part = slice(index * size, (index + 1) * size)
        return replace(
            self,
            views=tuple(view[part] for view in self.views),
            labels=self.labels[part],
            rows=self.rows[part],
            epochs=self.epochs[part],
            codes={name: code[part] for name, code in self.codes.items()},
            partner_codes={name: code[part] for name, code in self.partner_codes.items()},
            texts=self.texts[part],
            boxes=None if self.boxes is None else self.boxes[part],
        )
