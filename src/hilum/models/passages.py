"""Which part of a radiologist's text is read: a section of it, and some of its sentences."""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

Section = Literal["whole", "findings", "impression"]

_CAPITALS = r"(?:^|(?<=\s))([A-Z][A-Z ()/,&-]{2,})"
_ANY_CASE = r"(?:^|(?<=\n)|(?<=[.!?]\s))((?i:findings|impressions?|conclusions?))"
_HEADER = re.compile(rf"(?:{_CAPITALS}|{_ANY_CASE})[ \t]*:(?=\s|$)")
_IN_SECTION = {"findings": re.compile("FINDING"), "impression": re.compile("IMPRESSION|CONCLUSION")}
_NUMBERED = re.compile(r"(?:^|(?<=[.;:\n]))\s*\d{1,2}[.)]\s*(?=[^\W\d])")
_ENDS = re.compile(r"(?<=[.!?])\s+|\n\s*\n")
_ABBREVIATED = re.compile(r"(?:^|\s)(?:dr|mr|mrs|ms|st|vs|approx|e\.g|i\.e)\.$", re.IGNORECASE)


class Passages(NamedTuple):
    """What is read of some texts."""

    texts: list[str]
    lacking: int
    """How many texts lack the section that was asked for, and are read whole."""


def passages(
    texts: Sequence[str], *, section: Section, sentences: int, chance: Float[np.ndarray, "B _"]
) -> Passages:
    """A passage of each text: its section, then `sentences` of its sentences, or all for 0.

    Row i of `chance`, numbers in [0, 1), at least as many as sentences, chooses those of text i.
    """
    parts = [section_of(text, section) for text in texts]
    whole = [part or text for part, text in zip(parts, texts, strict=True)]
    lacking = sum(not part for part in parts) if section != "whole" else 0
    if sentences:
        whole = [
            " ".join(some(sentences_of(text), sentences, chance=row)) or text
            for text, row in zip(whole, chance, strict=True)
        ]
    return Passages(whole, lacking)


def section_of(text: str, section: Section) -> str:
    r"""The text under a header; empty where there is no such header, or nothing under it.

    A header is in capitals before a colon, as in MIMIC-CXR, or one of the words findings, impression and
    conclusion (another name of the impression) in any case. Sections of the same name are joined.

    >>> section_of("INDICATION: Cough. FINDINGS: The heart\n is large. IMPRESSION: Failure.", "findings")
    'The heart is large.'
    """
    if section == "whole":
        return text.strip()
    headers = list(_HEADER.finditer(text))
    ends = [*(header.start() for header in headers[1:]), len(text)][: len(headers)]
    found = [
        text[header.end() : end]
        for header, end in zip(headers, ends, strict=True)
        if _IN_SECTION[section].search((header[1] or header[2]).upper())
    ]
    return " ".join(" ".join(found).split())


def sentences_of(text: str) -> list[str]:
    r"""The sentences of a text, without their numbering, line breaks as spaces.

    >>> sentences_of("1. A nodule of 2.5 cm, seen by Dr. Wu. 2.Old\nscars; 3.No effusion")
    ['A nodule of 2.5 cm, seen by Dr. Wu.', 'Old scars', 'No effusion']
    """
    found: list[str] = []
    for numbered in _NUMBERED.split(text):
        kept = ""
        for piece in _ENDS.split(numbered):
            kept = f"{kept} {piece}".strip()
            if not _ABBREVIATED.search(kept):
                found.append(kept)
                kept = ""
        found.append(kept)
    lines = (" ".join(sentence.split()).rstrip("; ") for sentence in found)
    return [line for line in lines if any(letter.isalnum() for letter in line)]


def some(sentences: Sequence[str], count: int, *, chance: Float[np.ndarray, " _"]) -> list[str]:
    """`count` different sentences, each equally likely, in the order of the text; all if they are fewer.

    >>> some(["a", "b", "c"], 2, chance=np.array([0.9, 0.1]))
    ['b', 'c']
    """
    places = list(range(len(sentences)))
    if count >= len(places):
        return list(sentences)
    for k in range(count):  # the first steps of a Fisher-Yates shuffle
        # A number that was rounded to float32 may have become 1.
        j = min(k + int(chance[k] * (len(places) - k)), len(places) - 1)
        places[k], places[j] = places[j], places[k]
    return [sentences[place] for place in sorted(places[:count])]
