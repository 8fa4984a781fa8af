import cv2
import numpy as np
import pytest

from hilum.images.phantom import draw_phantom
from hilum.records.burned import LETTERS, writing
from hilum.records.looks import look
from tests.real_films import FILMS

LINES = ("DOE JANE 1961", "ID 40718265", "12.03.1987", "SMITH^JOHN")


def drawn(film, line, *, height=16, corner=(0, 0), level=255):
    """A film with a line of letters in a corner: top or bottom, left or right."""
    film = film.copy()
    font = cv2.FONT_HERSHEY_SIMPLEX
    scale = cv2.getFontScaleFromHeight(font, height, 1)
    (width, _), _ = cv2.getTextSize(line, font, scale, 1)
    x = film.shape[1] - width - 8 if corner[1] else 8
    y = film.shape[0] - 10 if corner[0] else height + 8
    cv2.putText(film, line, (x, y), font, scale, level, 1, cv2.LINE_AA)
    return film


def dark(size=512):
    """Where a film shows air, with grain."""
    return np.random.default_rng(0).integers(20, 40, (size, size)).astype(np.uint8)


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_line_of_letters_is_found_in_each_corner(line, corner):
    found = writing(drawn(dark(), line, corner=corner))
    assert found.letters >= LETTERS
    assert (found.y > 256) == bool(corner[0])


def test_dark_letters_on_a_bright_ground_are_found_too():
    assert writing(255 - drawn(dark(), LINES[0])).letters >= LETTERS


def test_the_size_of_the_film_does_not_matter_and_places_are_its_own():
    large = cv2.resize(drawn(dark(), LINES[0]), None, fx=5, fy=5, interpolation=cv2.INTER_CUBIC)
    found = writing(large)
    assert found.letters >= LETTERS
    assert 5 * 8 < found.x < 5 * 200
    assert found.y < 5 * 40


def test_phantoms_have_a_marker_and_no_writing_until_some_is_drawn():
    films = [draw_phantom(5, i, size=512).pixels for i in range(30)]
    assert all(writing(film).letters < LETTERS for film in films)
    written = [drawn(film, LINES[i % 4], corner=(i % 2, i // 2 % 2)) for i, film in enumerate(films)]
    assert np.mean([writing(film).letters >= LETTERS for film in written]) > 0.5


@pytest.mark.parametrize(
    "film",
    [
        np.zeros((300, 300), np.uint8),
        np.random.default_rng(1).integers(0, 256, (512, 512)).astype(np.uint8),
        (np.indices((512, 512)).sum(axis=0) // 4 % 2 * 255).astype(np.uint8),
        np.full((40, 900), 255, np.uint8),
    ],
    ids=["black", "noise", "stripes", "a strip"],
)
def test_textures_are_no_writing(film):
    assert writing(film).letters < LETTERS


def test_the_doctor_s_look_names_writing_and_where_it_is():
    film = drawn(draw_phantom(5, 0, size=512).pixels, LINES[1], height=20, corner=(1, 0))
    (problem,) = [one for one in look(film).problems if one[0] == "writing"]
    assert "in a corner" in problem[1]
    assert "blacken what names a patient" in problem[2]


def real(folder, step):
    paths = sorted((FILMS / folder / "images").glob("*.jpg"))[::step]
    if not paths:
        pytest.skip(f"{folder}: the real films are not here")
    return [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths]


def test_real_films_of_shenzhen_have_no_writing():
    assert [
        writing(film).letters for film in real("tuberculosis_shenzhen", 3) if writing(film).letters > 4
    ] == []


def test_one_real_film_of_thirteen_says_portable_and_the_like():
    films = real("nih_rsna", 1)
    named = sum(writing(film).letters >= LETTERS for film in films)
    assert named == pytest.approx(98, abs=3)  # each was looked at: PORTABLE, SUPINE, SEMI-ERECT, lead letters
