"""A room imports only rooms to its left; some do without torch; nothing loads what it should not."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "hilum"
ORDER = [
    ["errors"],
    ["durable"],
    ["find"],
    ["config"],
    ["progress"],
    ["records"],
    ["images"],
    ["metrics"],
    ["models"],
    ["data"],
    ["tensorboard"],
    ["run"],
    ["losses"],
    ["train"],
    ["methods", "detectors"],
    ["inference", "detecting"],
    ["saliency"],
    ["report"],
    ["commands"],
    ["cli"],
]
PLACE = {room: place for place, rooms in enumerate(ORDER) for room in rooms}
WITHOUT_TORCH = ("durable", "records", "images", "metrics", "report", "config", "find", "cli")


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


FILES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_room_imports_only_rooms_to_its_left(path):
    here = PLACE[room_of(path)]
    inner = {name.split(".")[1] for name in imports(path) if name.startswith("hilum.")}
    wrong = {room for room in inner if room in PLACE and PLACE[room] > here}
    assert wrong == set(), f"{path} imports {wrong}"
    assert inner <= set(PLACE), f"rooms without a place: {inner - set(PLACE)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_some_rooms_do_without_torch(path):
    if room_of(path) in WITHOUT_TORCH:
        assert not any(name.split(".")[0] in ("torch", "torchvision", "timm") for name in imports(path))


def test_no_method_is_named_in_the_loop():
    assert not any(
        "hilum.methods" in name for path in (SOURCE / "train").glob("*.py") for name in imports(path)
    )


@pytest.mark.parametrize(
    "words", [["--help"], ["pretrain", "moco", "--help"], ["records", "check", "--help"]]
)
def test_help_imports_no_torch(words):
    heavy = "any(name in sys.modules for name in ('torch', 'pandas', 'numpy', 'cv2'))"
    code = f"import sys; from hilum.cli import main; main({words!r}); sys.exit({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("  hilum ")


def test_nothing_in_the_source_loads_code_from_files():
    forbidden = (
        "pickle.load",
        "allow_pickle=True",
        "weights_only=False",
        "yaml.load(",
        "shell=True",
        "strict=False",
    )
    for path in FILES:
        text = path.read_text()
        assert not [word for word in forbidden if word in text], path
