"""Documentation that is executed stays true."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

import hilum
from hilum import commands
from hilum.cli import values
from hilum.commands import settings_of

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "datasets").glob("*.md")]
)


def test_the_pages_of_commands_are_what_help_prints():
    spec = importlib.util.spec_from_file_location("docs_commands", ROOT / "docs" / "commands.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = {path.name: path.read_text() for path in (ROOT / "docs" / "commands").glob("*.md")}
    assert written == module.pages(), "run make docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_line_in_the_documentation_is_one_that_exists(page):
    text = page.read_text().replace("\\\n", " ")
    lines = re.findall(r"^(?:\$ )?hilum ([a-z].*)$", text, flags=re.MULTILINE)
    for line in lines:
        words = shlex.split(line.split("#")[0])
        name = " ".join(words[:2]) if " ".join(words[:2]) in commands.names() else words[0]
        rest = words[len(name.split()) :]
        method = rest[0] if commands.constant(name, "TAKES") in commands.KINDS else ""
        cls = settings_of(name, method)
        cls.build(values(rest, cls, commands.constant(name, "TAKES")), line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_inside_the_repository_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("name", commands.names())
def test_every_example_of_a_command_is_a_valid_command_line(name):
    words = commands.constant(name, "EXAMPLE").split()[1 + len(name.split()) :]
    cls = settings_of(name, words[0] if commands.constant(name, "TAKES") in commands.KINDS else "")
    cls.build(values(words, cls, commands.constant(name, "TAKES")), name)


def test_every_command_is_a_function_of_the_same_name():
    for name in commands.names():
        assert getattr(hilum, name.replace(" ", "_").replace("-", "_")).__doc__ == settings_of(name).__doc__


@pytest.mark.parametrize("name", commands.names())
def test_every_setting_is_documented(name):
    assert all(field.description for field in settings_of(name).model_fields.values())


def test_torch_and_torchvision_are_pinned_as_matching_builds():
    pins = (ROOT / "constraints.txt").read_text()
    assert "torch===2.13.0\n" in pins, (
        "=== keeps pip from a CPU-only local build, with which torchvision cannot be imported"
    )
    assert "torchvision===0.28.0\n" in pins
