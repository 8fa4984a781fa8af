"""Reports as they lie on disk: JSON that names its schema."""

from collections.abc import Mapping
from json import loads
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from hilum.errors import MissingError, RecordsError


def read_stored(path: Path, adapter: TypeAdapter[Any], *, schema: str, writer: str) -> Mapping[str, Any]:
    """The fields of a report.

    Args:
        path: the file.
        adapter: of the dataclass that it holds.
        schema: what the file has to call its schema.
        writer: the command that writes such files.

    Raises:
        MissingError: there is no such file.
        RecordsError: it is no such report, or one of another schema.
    """
    try:
        content = loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingError(f"{path}: no such file; `hilum {writer}` writes it") from None
    except ValueError as error:
        raise RecordsError(f"{path}: is no JSON ({error})") from None
    found = content.get("schema") if isinstance(content, dict) else None
    again = f"give `hilum {writer}` again, with another --out"
    if found != schema:
        raise RecordsError(
            f"{path}: its schema is {found!r}, this version of hilum reads {schema!r}; {again}"
        )
    try:
        fields: Mapping[str, Any] = vars(adapter.validate_python(content))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise RecordsError(f"{path}: {place}: {first['msg']}; {again}") from None
    return fields
