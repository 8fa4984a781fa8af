"""Numbers as people read them."""

import re

MINUS = "−"


def number(value: float | None, *, places: int = 3) -> str:
    """A value to three places; n/a where it is undefined.

    >>> number(0.87149), number(None), number(-0.0304)
    ('0.871', 'n/a', '−0.030')
    """
    if value is None:
        return "n/a"
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace("-", MINUS)
    if 0 < abs(value) < 10**-places:
        return f"{value:.1e}".replace("-", MINUS)
    return f"{value:.{places}f}".replace("-", MINUS)


def signed(value: float | None, *, places: int = 3) -> str:
    """A difference, with its sign.

    >>> signed(0.02), signed(-0.02)
    ('+0.020', '−0.020')
    """
    if value is None:
        return "n/a"
    return f"{value:+.{places}f}".replace("-", MINUS)


def interval(value: float | None, low: float | None, high: float | None, *, places: int = 3) -> str:
    """A value and its interval.

    >>> interval(0.871, 0.842, 0.899), interval(None, None, None)
    ('0.871 (0.842 to 0.899)', 'n/a')
    """
    if value is None or low is None or high is None:
        return number(value, places=places)
    return f"{value:.{places}f} ({low:.{places}f} to {high:.{places}f})".replace("-", MINUS)


def percent(fraction: float) -> str:
    """A share of one, with a narrow space before the sign.

    >>> percent(0.01), percent(0.125), percent(1)
    ('1\u202f%', '12.5\u202f%', '100\u202f%')
    """
    return f"{100 * fraction:.3g}\u202f%"


def probability(p: float | None) -> str:
    """A p value.

    >>> probability(0.2), probability(0.0002), probability(None)
    ('0.200', '< 0.001', 'n/a')
    """
    if p is None:
        return "n/a"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def reason(note: str) -> str:
    """A note without the word that stands before it anyway.

    >>> reason("n/a: 0 positives"), reason("undefined: no label is known")
    ('0 positives', 'no label is known')
    """
    return note.removeprefix("n/a: ").removeprefix("undefined: ")


def counted(num: int, plural: str) -> str:
    """So many of what the plural names.

    >>> counted(1, "films"), counted(1200, "radiographs"), counted(0, "runs")
    ('1 film', '1,200 radiographs', '0 runs')
    """
    return f"{num:,} {plural.removesuffix('s') if num == 1 else plural}"


def base_name(path: str) -> str:
    r"""The last part of a path, whichever system wrote it.

    >>> base_name("/home/ada/films/a.png"), base_name("C:\\films\\a.png")
    ('a.png', 'a.png')
    """
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


_ABSOLUTE = re.compile(r"(?<![\w.:/\\])(?:~|[A-Za-z]:)?[\\/](?:[^\\/\s'\",;]+[\\/])*([^\\/\s'\",;]+)[\\/]?")


def without_folders(text: str) -> str:
    """The text with absolute paths cut to their last part: a page that is passed on says nothing of the disk.

    >>> without_folders("--records=/home/ada/chexpert.csv --out runs/probe, n/a")
    '--records=chexpert.csv --out runs/probe, n/a'
    """
    return _ABSOLUTE.sub(r"\1", text)
