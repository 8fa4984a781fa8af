"""The few header fields of a DICOM radiograph that hilum reads, as plain values."""

import struct
from enum import IntEnum

import numpy as np

from hilum.errors import ImageError
from hilum.images.elements import Element, Elements
from hilum.images.grey import GreyScale, Lut, Window


class Tag(IntEnum):
    """Everything that is read of a header; whatever is not here is never looked at."""

    SOP_CLASS = 0x00080016
    MODALITY = 0x00080060
    PRESENTATION_INTENT_TYPE = 0x00080068
    PATIENT_SEX = 0x00100040
    PATIENT_AGE = 0x00101010
    BODY_PART_EXAMINED = 0x00180015
    VIEW_POSITION = 0x00185101
    LATERALITY = 0x00200060
    IMAGE_LATERALITY = 0x00200062
    SAMPLES_PER_PIXEL = 0x00280002
    PHOTOMETRIC_INTERPRETATION = 0x00280004
    NUMBER_OF_FRAMES = 0x00280008
    ROWS = 0x00280010
    COLUMNS = 0x00280011
    BITS_ALLOCATED = 0x00280100
    BITS_STORED = 0x00280101
    HIGH_BIT = 0x00280102
    PIXEL_REPRESENTATION = 0x00280103
    PIXEL_PADDING_VALUE = 0x00280120
    PIXEL_PADDING_RANGE_LIMIT = 0x00280121
    BURNED_IN_ANNOTATION = 0x00280301
    WINDOW_CENTER = 0x00281050
    WINDOW_WIDTH = 0x00281051
    RESCALE_INTERCEPT = 0x00281052
    RESCALE_SLOPE = 0x00281053
    VOI_LUT_FUNCTION = 0x00281056
    MODALITY_LUT_SEQUENCE = 0x00283000
    LUT_DESCRIPTOR = 0x00283002
    LUT_DATA = 0x00283006
    VOI_LUT_SEQUENCE = 0x00283010
    PRESENTATION_LUT_SHAPE = 0x20500020
    FLOAT_PIXEL_DATA = 0x7FE00008
    DOUBLE_FLOAT_PIXEL_DATA = 0x7FE00009
    PIXEL_DATA = 0x7FE00010


SEQUENCES = frozenset({Tag.MODALITY_LUT_SEQUENCE, Tag.VOI_LUT_SEQUENCE})
# far above any exposure, and small enough that no product of two header values overflows
_ABSURD = 1e9
_INTEGERS = {"": "H", "US": "H", "SS": "h", "UL": "I", "SL": "i"}


class Header:
    """Typed access to the elements; absent, empty and unreadable values are None or empty text."""

    def __init__(self, elements: Elements) -> None:
        self.elements = elements
        self.order = "<" if elements.little_endian else ">"

    def has(self, tag: Tag) -> bool:
        """Whether the element is present."""
        return tag in self.elements.values

    def text(self, tag: Tag) -> str:
        """The first value, in capitals."""
        element = self.elements.values.get(tag)
        if element is None or len(element.value) > 1024:
            return ""
        return bytes(element.value).decode("latin-1").split("\\")[0].strip(" \0").upper()

    def decimal(self, tag: Tag) -> float | None:
        """The first value of a decimal string; one that is absurdly large counts as absent."""
        try:
            value = float(self.text(tag))
        except ValueError:
            return None
        return value if abs(value) < _ABSURD else None

    def integer(self, tag: Tag) -> int | None:
        """The first value of a binary integer or an integer string."""
        element = self.elements.values.get(tag)
        if element is None:
            return None
        code = "" if tag == Tag.NUMBER_OF_FRAMES else _INTEGERS.get(element.vr, "")
        if code and len(element.value) >= struct.calcsize(code):
            return int(struct.unpack_from(self.order + code, element.value)[0])
        decimal = None if code else self.decimal(tag)
        return None if decimal is None else int(decimal)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns.

        Raises:
            ImageError: one of them is missing.
        """
        rows, columns = self.integer(Tag.ROWS), self.integer(Tag.COLUMNS)
        if not rows or not columns or rows < 0 or columns < 0:
            raise ImageError("Rows or Columns is missing from its header")
        return rows, columns

    @property
    def bits(self) -> tuple[int, int, int]:
        """Bits allocated, bits stored, high bit.

        Raises:
            ImageError: they contradict each other, or are none of a radiograph.
        """
        allocated = self.integer(Tag.BITS_ALLOCATED)
        if allocated not in (8, 16):
            raise ImageError(f"BitsAllocated is {allocated}; a radiograph has 8 or 16")
        stored = self.integer(Tag.BITS_STORED) or allocated
        high = self.integer(Tag.HIGH_BIT)
        high = stored - 1 if high is None else high
        if not 1 <= stored <= allocated or not stored - 1 <= high < allocated:
            raise ImageError(
                f"BitsAllocated {allocated}, BitsStored {stored} and HighBit {high} contradict each other"
            )
        return allocated, stored, high

    @property
    def is_signed(self) -> bool:
        """Whether stored values are two's complement."""
        return self.integer(Tag.PIXEL_REPRESENTATION) == 1

    @property
    def voi(self) -> Lut | Window | None:
        """The VOI LUT, else the first window, else None."""
        if self.elements.items.get(Tag.VOI_LUT_SEQUENCE):
            return self._lut(Tag.VOI_LUT_SEQUENCE)
        centre, width = self.decimal(Tag.WINDOW_CENTER), self.decimal(Tag.WINDOW_WIDTH)
        if centre is None or width is None:
            return None
        function = self.text(Tag.VOI_LUT_FUNCTION)
        if function == "SIGMOID":
            window = Window(centre, width, "SIGMOID")
        else:
            window = Window(centre, width, "LINEAR_EXACT" if function == "LINEAR_EXACT" else "LINEAR")
        return window if window.is_usable else None

    @property
    def scale(self) -> GreyScale:
        """How the stored values are meant to be shown.

        MONOCHROME1 inverts, once: PresentationLUTShape INVERSE says the same again in DX files. INVERSE
        beside MONOCHROME2 inverts, too; IDENTITY beside MONOCHROME1 is a writer's mistake and undoes nothing.
        """
        modality = None
        if self.elements.items.get(Tag.MODALITY_LUT_SEQUENCE):
            modality = self._lut(Tag.MODALITY_LUT_SEQUENCE)
        slope, intercept = self.decimal(Tag.RESCALE_SLOPE), self.decimal(Tag.RESCALE_INTERCEPT)
        is_negative = self.text(Tag.PHOTOMETRIC_INTERPRETATION) == "MONOCHROME1"
        return GreyScale(
            bits=self.bits[1],
            is_signed=self.is_signed,
            modality=modality,
            slope=1.0 if slope is None else slope,
            intercept=0.0 if intercept is None else intercept,
            voi=self.voi,
            invert=is_negative or self.text(Tag.PRESENTATION_LUT_SHAPE) == "INVERSE",
            padding=self._padding(),
        )

    def _padding(self) -> tuple[int, int] | None:
        """The stored values outside the film; the pixels' sign counts, whatever VR the writer chose."""
        code = self.order + ("h" if self.is_signed else "H")
        ends: list[int] = []
        for tag in (Tag.PIXEL_PADDING_VALUE, Tag.PIXEL_PADDING_RANGE_LIMIT):
            element = self.elements.values.get(tag)
            if element is not None and len(element.value) >= 2:
                ends += struct.unpack_from(code, element.value)
        if not self.has(Tag.PIXEL_PADDING_VALUE) or not ends:
            return None
        return ends[0], ends[-1]

    def _lut(self, sequence: Tag) -> Lut:
        """The table in the first item of a sequence (PS3.3 C.11.1.1)."""
        item = self.elements.items[sequence]
        descriptor, data = item.get(Tag.LUT_DESCRIPTOR), item.get(Tag.LUT_DATA)
        if descriptor is None or data is None or len(descriptor.value) < 6:
            raise ImageError(f"its {_name(sequence)} is damaged: its table is missing")
        count, first, bits = struct.unpack_from(self.order + "3H", descriptor.value)
        count = count or 65_536
        if first >= 32_768 and self._is_signed(descriptor):
            first -= 65_536
        wide = len(data.value) >= 2 * count
        if not wide and len(data.value) < count:
            raise ImageError(
                f"its {_name(sequence)} is damaged: its table has fewer entries than it declares"
            )
        dtype = np.dtype(self.order + "u2") if wide else np.dtype(np.uint8)
        entries = np.frombuffer(data.value, dtype, count).astype(np.uint16)
        return Lut(first, entries, bits if 1 <= bits <= 16 else 16)

    def _is_signed(self, element: Element) -> bool:
        return element.vr == "SS" or (element.vr != "US" and self.is_signed)


def _name(tag: Tag) -> str:
    return "VOI LUT" if tag == Tag.VOI_LUT_SEQUENCE else "modality LUT"
