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

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a weights file's header.

        >>> InputSpec.from_dict(InputSpec(side=128).to_dict()) == InputSpec(side=128)
        True
        """
        return asdict(self)
