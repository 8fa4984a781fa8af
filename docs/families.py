"""The table of families in docs/checkpoints.md: python docs/families.py."""

from pathlib import Path

from hilum.models.recognise import families

BEGIN, END = "<!-- families: written by docs/families.py -->", "<!-- end of families -->"


def table() -> str:
    """A row for each family."""
    rows = []
    for name, one in families().items():
        known = "by --family, or where no other fits" if one.generic else "by its keys"
        rows.append(f"| `{name}` | [{one.name}]({one.source}) | {one.licence} | {known} |")
    return "\n".join(["| file | family | terms of the weights | known |", "|---|---|---|---|", *rows])


if __name__ == "__main__":
    page = Path(__file__).parent / "checkpoints.md"
    head, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    page.write_text(f"{head}{BEGIN}\n\n{table()}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")
