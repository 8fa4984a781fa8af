"""Writes docs/commands/*.md: each command's --help as a page."""

from pathlib import Path

from hilum import commands, find
from hilum.cli import usage
from hilum.config import flag

HERE = Path(__file__).resolve().parent / "commands"


def pages() -> dict[str, str]:
    """The text of every page by its file's name."""
    found = {}
    for name in commands.names():
        found[f"{name.replace(' ', '-')}.md"] = (
            f"# hilum {name}\n\n```\n{usage(name, commands.settings_of(name))}```\n"
        )
    for name in commands.names():
        package = commands.KINDS.get(commands.constant(name, "TAKES"))
        for chosen in find.names(package) if package else []:
            fields = commands.settings_of(name, chosen).model_fields
            own = sorted(fields.keys() - commands.settings_of(name).model_fields.keys())
            default = {n: "needed" if fields[n].is_required() else fields[n].get_default() for n in own}
            lines = [f"- `{flag(n)}` ({default[n]}): {fields[n].description}" for n in own]
            found[f"{name.replace(' ', '-')}.md"] += "\n".join([f"\n## {chosen}\n", *lines]) + "\n"
    return found


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    for name, text in pages().items():
        (HERE / name).write_text(text, encoding="utf-8")
