"""Parts of miniature data sets."""

from pathlib import Path

import numpy as np
from PIL import Image


def film(path: Path, size: tuple[int, int] = (8, 8)) -> Path:
    """Writes a black film of a width and height, as the ending says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros(size[::-1], np.uint8)).save(path)
    return path


def text(path: Path, *lines: str, encoding: str = "utf-8") -> Path:
    """Writes lines of text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path
