"""The real films, where they lie beside a checkout."""

from pathlib import Path

import pytest

FILMS = Path(__file__).resolve().parents[1] / "../shared/data"
needs_films = pytest.mark.skipif(
    not FILMS.exists(), reason="the real films of shared/data are not on this machine"
)
