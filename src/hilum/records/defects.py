"""All defects of a file in one message: where, what was found, and the cure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hilum.errors import RecordsError

SHOWN = 20
"""Defects of a kind that are written out; the rest are counted."""
LONGEST = 80
"""Characters of a value that are shown."""


@dataclass
class Defects:
    """Collects what is wrong with a file, by kind, so that one run names everything."""

    path: Path
    _shown: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(self._counts.values())

    def add(self, kind: str, problem: str, *, line: int = 0, column: str = "") -> None:
        """Notes one defect; line 0 is the file as a whole. Of each kind only the first are kept as text."""
        self._counts[kind] = self._counts.get(kind, 0) + 1
        shown = self._shown.setdefault(kind, [])
        if len(shown) < SHOWN:
            where = [f"line {line}"] * bool(line) + [f"column {column!r}"] * bool(column)
            shown.append((line, ": ".join([", ".join(where), problem] if where else [problem])))

    def add_many(
        self, kind: str, examples: Iterable[tuple[int, str]], total: int, *, column: str = ""
    ) -> None:
        """Notes `total` defects of a kind, of which the first are given as lines and problems."""
        given = 0
        for line, problem in examples:
            self.add(kind, problem, line=line, column=column)
            given += 1
        if total > given:
            self._counts[kind] = self._counts.get(kind, 0) + total - given

    def check(self) -> None:
        """Lets a file without defects pass.

        Raises:
            RecordsError: there are defects; the message lists them by line.
        """
        if not len(self):
            return
        lines = [f"{self.path}: {len(self):,} defect{'s' * (len(self) > 1)}; nothing was written"]
        for line, text in sorted(
            (one for shown in self._shown.values() for one in shown), key=lambda o: o[0]
        ):
            lines.append(f"  {text}" if line else f"  file: {text}")
        for kind, count in self._counts.items():
            rest = count - len(self._shown.get(kind, []))
            if rest:
                lines.append(f"  and {rest:,} more of this kind: {kind}")
        raise RecordsError("\n".join(lines))


def quote(value: str) -> str:
    """A value as a message shows it; of a long one, both ends.

    >>> quote("U"), len(quote("x" * 999))
    ("'U'", 82)
    """
    half = LONGEST // 2 - 2
    return repr(value if len(value) <= LONGEST else f"{value[:half]} .. {value[-half:]}")


def listed(names: Iterable[str]) -> str:
    """Names in a message.

    >>> listed(["Edema", "No Finding"])
    "'Edema', 'No Finding'"
    """
    some = list(names)
    rest = f" and {len(some) - SHOWN} more" if len(some) > SHOWN else ""
    return ", ".join(repr(name) for name in some[:SHOWN]) + rest
