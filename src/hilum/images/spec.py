"""How a radiograph becomes an encoder's input; it travels with the weights."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self


@dataclass(frozen=True)
class InputSpec:
    """Size and normalisation of what an encoder sees: one grey channel in [0, 1], then `(x - mean) / std`."""

    side: int = 224
    """Height and width, pixels."""
    fit: Literal["crop", "squash", "pad"] = "crop"
    """How an oblong film fills the square: its central square, squeezed, or whole with black borders."""
    mean: float = 0.5
    std: float = 0.25
    crop: float = 1.0
    """Share of the square's side that is seen, around its middle: 0.875 is 224 of 256 pixels."""
    colour_mean: tuple[float, ...] = ()
    """Three means, subtracted from three equal channels after `mean` and `std`, before the stem of an encoder
    that was trained on colour; empty: the stem takes one channel."""
    colour_std: tuple[float, ...] = ()
    """Divides them then."""
    upsample: int = 0
    """The side that an encoder enlarges its input to, bilinear, corners aligned; 0: it does not."""

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        known: dict[str, Any] = {n: tuple(x) if isinstance(x, list) else x for n, x in values.items()}
        return cls(**known)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a weights file's header.

        >>> InputSpec.from_dict(InputSpec(side=128).to_dict()) == InputSpec(side=128)
        True
        """
        return asdict(self)
