"""Decodes one lossless JPEG frame with GDCM; started as a script in a process of its own by `lossless_jpeg`.

GDCM is C++ with a record of memory-safety faults, so it only ever runs here: under limits that this script
sets on itself before GDCM is imported, with one frame on its standard input, never with a patient's header.
Arguments: GDCM's folder, transfer syntax, rows, columns, bits allocated, bits stored, bytes of address space,
seconds of processor time. Standard output: the pixels, little endian. It imports nothing of hilum.
"""

import resource
import sys


def main() -> int:
    """Exit code 0 with the pixels written, 1 when GDCM refuses the frame."""
    folder, syntax, *numbers = sys.argv[1:]
    rows, columns, allocated, stored, space, seconds = (int(number) for number in numbers)
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.path.append(folder)
    import gdcm

    gdcm.Trace.WarningOff()
    gdcm.Trace.ErrorOff()
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(sys.stdin.buffer.read())
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(element)
    monochrome = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(monochrome))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    image.SetPixelFormat(gdcm.PixelFormat(1, allocated, stored, stored - 1, 0))
    # GDCM's binding hands bytes over as text
    pixels = image.GetBuffer().encode("utf-8", "surrogateescape")
    if len(pixels) != rows * columns * allocated // 8:
        return 1
    sys.stdout.buffer.write(pixels)
    return 0


if __name__ == "__main__":
    sys.exit(main())
