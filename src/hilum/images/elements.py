"""The elements of a DICOM file that a radiograph's pixels need; everything else is stepped over unread.

A full parser builds every value of every nested sequence, recursing as deep as the file asks. This one steps
from element to element by their lengths, so a file costs no more than its bytes, and no value outside the
wanted tags (a name, a date, a comment) is ever turned into text that could reach a message or a log.
"""

import contextlib
import struct
from dataclasses import dataclass, field

from hilum.errors import ImageError
from hilum.images.declared import Buffer
from hilum.images.limits import Limits, inflate

PIXEL_DATA = 0x7FE00010
TRANSFER_SYNTAX = 0x00020010
DEFLATED = "1.2.840.10008.1.2.1.99"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
EXPLICIT_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_MARKER = slice(128, 132)
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)


@dataclass(frozen=True)
class Element:
    """A value as it stands in the file."""

    vr: str
    """Empty in files that do not write it (implicit VR)."""
    value: memoryview


@dataclass
class Elements:
    """The wanted elements of a file, with the pixels' place."""

    syntax: str
    """UID of the transfer syntax."""
    little_endian: bool
    values: dict[int, Element] = field(default_factory=dict)
    items: dict[int, dict[int, Element]] = field(default_factory=dict)
    """The first item of each wanted sequence."""
    fragments: list[memoryview] | None = None
    """Compressed pixels; the first fragment is the offset table."""


class _MalformedError(ImageError):
    """Bytes that are no element; inside a sequence of known length it can be stepped over."""


def is_dicom(content: Buffer) -> bool:
    """Whether the file carries DICOM's marker behind its preamble."""
    return bytes(content[_MARKER]) == b"DICM"


def read_elements(
    content: Buffer, limits: Limits, *, wanted: frozenset[int], wanted_items: frozenset[int]
) -> Elements:
    """The wanted elements up to and with the pixels; of wanted sequences the first item.

    Raises:
        ImageError: a limit is exceeded, or the file ends early.
    """
    view = memoryview(content)
    meta = _Walker(view, limits, explicit=True, little_endian=True)
    elements, start = meta.group_two(_MARKER.stop, wanted)
    syntax = elements.get(TRANSFER_SYNTAX)
    uid = bytes(syntax.value).decode("ascii", "replace").strip("\0 ") if syntax else _guess(view, start)
    if uid == DEFLATED:
        view, start = memoryview(inflate(view[start:], limits)), 0
    walker = _Walker(view, limits, explicit=uid != IMPLICIT, little_endian=uid != EXPLICIT_BIG_ENDIAN)
    return walker.dataset(start, Elements(uid, walker.little_endian, elements), wanted, wanted_items)


def _guess(view: memoryview, start: int) -> str:
    """The plain syntax that the first element's value representation shows, where no syntax is named."""
    return EXPLICIT_LITTLE_ENDIAN if _is_vr(bytes(view[start + 4 : start + 6])) else IMPLICIT


def _is_vr(letters: bytes) -> bool:
    return len(letters) == 2 and letters.isalpha() and letters.isupper()


class _Walker:
    """Steps through a dataset, counting what it meets against the limits."""

    def __init__(self, view: memoryview, limits: Limits, *, explicit: bool, little_endian: bool) -> None:
        self.view, self.limits, self.explicit, self.little_endian = view, limits, explicit, little_endian
        order = "<" if little_endian else ">"
        self.tag, self.short, self.long = (struct.Struct(order + code) for code in ("HH", "H", "I"))
        self.item = self.tag.pack(0xFFFE, 0xE000)
        self.count = 0

    def group_two(self, position: int, wanted: frozenset[int]) -> tuple[dict[int, Element], int]:
        """The meta header's wanted elements and the position after it."""
        values: dict[int, Element] = {}
        while bytes(self.view[position : position + 2]) == b"\x02\x00":
            tag, vr, length, position = self._element(position, len(self.view))
            if length == _UNDEFINED:
                raise ImageError("its meta header is damaged: an element has no length")
            if tag in wanted or tag == TRANSFER_SYNTAX:
                values[tag] = Element(vr, self.view[position : position + length])
            position += length
        return values, position

    def dataset(
        self, start: int, found: Elements, wanted: frozenset[int], wanted_items: frozenset[int]
    ) -> Elements:
        """Adds the top level's wanted elements."""
        position, end = start, len(self.view)
        while position < end:
            tag, vr, length, position = self._element(position, end)
            if position - start > self.limits.header_bytes:
                raise ImageError(f"its header exceeds the limit of {self.limits.header_bytes:,} bytes")
            if tag == PIXEL_DATA and length == _UNDEFINED:
                found.fragments, _ = self._fragments(position)
                return found
            if length != _UNDEFINED and tag in wanted:
                found.values[tag] = Element(vr, self.view[position : position + length])
            if tag == PIXEL_DATA:
                return found
            keep = found.items.setdefault(tag, {}) if tag in wanted_items else None
            position = self._after(tag, vr, length, position, end, depth=1, keep=keep)
        return found

    def _element(self, position: int, end: int) -> tuple[int, str, int, int]:
        """Tag, value representation, length, and where the value starts."""
        self.count += 1
        if self.count > self.limits.elements:
            raise ImageError(
                f"it has more than {self.limits.elements:,} elements, the limit for a radiograph"
            )
        if position + 8 > end:
            raise _MalformedError("the DICOM file ends early: it is truncated")
        group, number = self.tag.unpack_from(self.view, position)
        letters = bytes(self.view[position + 4 : position + 6])
        # some writers switch to implicit VR inside sequences, and what is in UN is implicit by the standard
        if not self.explicit or group == 0xFFFE or not _is_vr(letters):
            letters, (length,), value = b"", self.long.unpack_from(self.view, position + 4), position + 8
        elif letters not in _LONG_VRS:
            (length,), value = self.short.unpack_from(self.view, position + 6), position + 8
        elif position + 12 > end:
            raise _MalformedError("the DICOM file ends early: it is truncated")
        else:
            (length,), value = self.long.unpack_from(self.view, position + 8), position + 12
        if length != _UNDEFINED and value + length > end:
            raise _MalformedError("the DICOM file ends early, or an element's length is wrong")
        return group << 16 | number, letters.decode("ascii"), length, value

    def _after(
        self,
        tag: int,
        vr: str,
        length: int,
        position: int,
        end: int,
        *,
        depth: int,
        keep: dict[int, Element] | None,
    ) -> int:
        """Steps over a value, through its nested items where it has any; the position after it."""
        if length == _UNDEFINED:
            if tag == PIXEL_DATA or vr in ("OB", "OW"):
                return self._fragments(position)[1]
            return self._sequence(position, end, depth, keep, closed=False)
        after = position + length
        holds_items = bytes(self.view[position : min(position + 4, after)]) == self.item
        if vr == "SQ" or (vr in ("", "UN") and holds_items):
            # a maker's own encoding may not parse; its length says where it ends
            with contextlib.suppress(_MalformedError):
                self._sequence(position, after, depth, keep, closed=True)
        return after

    def _sequence(
        self, position: int, end: int, depth: int, keep: dict[int, Element] | None, *, closed: bool
    ) -> int:
        """Steps over items until `end` (closed: the sequence has a length) or the delimiter."""
        if depth > self.limits.depth:
            raise ImageError(f"its sequences are nested deeper than {self.limits.depth} levels, the limit")
        while position < end or not closed:
            tag, _, length, position = self._element(position, end)
            if tag == _SEQUENCE_END:
                return position
            if tag != _ITEM:
                raise _MalformedError("a DICOM sequence is damaged: an item is missing")
            item_end = end if length == _UNDEFINED else position + length
            position = self._nested(position, item_end, depth, keep, closed=length != _UNDEFINED)
            keep = None
        return end

    def _nested(
        self, position: int, end: int, depth: int, keep: dict[int, Element] | None, *, closed: bool
    ) -> int:
        """Steps over the elements of one item."""
        while position < end or not closed:
            tag, vr, length, position = self._element(position, end)
            if tag == _ITEM_END:
                return position
            if keep is not None and length != _UNDEFINED:
                keep[tag] = Element(vr, self.view[position : position + length])
            position = self._after(tag, vr, length, position, end, depth=depth + 1, keep=None)
        return end

    def _fragments(self, position: int) -> tuple[list[memoryview], int]:
        """Pieces of compressed pixels, and the position after them."""
        fragments: list[memoryview] = []
        while True:
            tag, _, length, position = self._element(position, len(self.view))
            if tag == _SEQUENCE_END:
                return fragments, position
            if tag != _ITEM or length == _UNDEFINED:
                raise ImageError("its compressed pixels are damaged: a fragment is missing")
            fragments.append(self.view[position : position + length])
            position += length
