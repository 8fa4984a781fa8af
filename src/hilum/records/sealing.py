"""A file's hash beside it, as `sha256sum -c` understands it: what was split once stays as it was."""

from pathlib import Path

from hilum.durable import sha256, write_atomically
from hilum.errors import RecordsError


def seal(path: Path) -> str:
    """Writes `<path>.sha256`, and returns the hash of the file."""
    digest = sha256(path)
    write_atomically(seal_of(path), f"{digest}  {path.name}\n".encode())
    return digest


def check_seal(path: Path) -> None:
    """Lets a file pass that has no seal, or is as it was sealed.

    Raises:
        RecordsError: the file was changed after it was sealed.
    """
    if not seal_of(path).is_file():
        return
    expected = seal_of(path).read_text(encoding="utf-8", errors="replace").partition(" ")[0].strip()
    found = sha256(path)
    if found != expected:
        raise RecordsError(
            f"{path}: the file was changed after it was written "
            f"(SHA-256 {found[:12]}..., expected {expected[:12]}...); restore it, or delete "
            f"{seal_of(path).name} if the change was meant"
        )


def seal_of(path: Path) -> Path:
    """Where the hash of a file is kept."""
    return path.with_name(path.name + ".sha256")
