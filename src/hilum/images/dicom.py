"""A DICOM radiograph as one grey image: what is accepted, why not otherwise, and how it is shown.

Messages name tags and technical values that stand in the lists below, never another value of a header: any
header field can hold a patient's name.
"""

from dataclasses import dataclass

import numpy as np

from hilum.errors import ImageError
from hilum.images.acceptance import Field, Header, require_chest_radiograph
from hilum.images.declared import Buffer
from hilum.images.elements import PIXEL_DATA, Elements, read_elements
from hilum.images.frames import SUPPORTED, Samples, decode_frame
from hilum.images.grey import GreyScale, Levels, Lut, Window, grey_levels
from hilum.images.limits import Limits, require_size
