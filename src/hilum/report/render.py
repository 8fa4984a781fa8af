"""Templates to pages; everything that is not a template is escaped."""

from functools import cache
from importlib.metadata import version
from pathlib import Path

import jinja2

from hilum.report import words
from hilum.report.report import WrongFilm


def render(template: str, **context: object) -> str:
    """The page that a template of this folder gives."""
    return _environment().get_template(template).render(context)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    names = (
        "number",
        "signed",
        "interval",
        "percent",
        "probability",
        "reason",
        "base_name",
        "counted",
        "without_folders",
    )
    environment.globals.update({name: getattr(words, name) for name in names})
    environment.globals.update(version=version("hilum"), film_words=film_words)
    return environment


def film_words(film: WrongFilm) -> str:
    """What was wrong, in words."""
    if film.truth in ("absent", "present"):
        return "missed" if film.truth == "present" else "false alarm"
    return f"is {film.truth}, called {film.decision}"
