"""Errors that a user can cause, and the exit code of each.

```
HilumError            1
├── ConfigError       2   a setting: unknown, of the wrong type, or contradicting another
├── RecordsError     65   a table of radiographs
├── ImageError       65   a file that is no usable radiograph
├── WeightsError     65   a weights file
├── MissingError     66   a file or folder that is not there
├── DependencyError  69   an optional package that is not installed
├── NumericalError   70   training that went non-finite or collapsed
├── OutputError      73   a place that cannot be written to
├── StorageError     74   a disk that is full or fails
└── Interrupted     130   Ctrl-C (SIGTERM: 143)
```
Every message says where, what was found, what was expected, and the way out when there is one.
"""


class HilumError(Exception):
    """Base of every error a user can cause; its text is the whole message."""

    exit_code = 1


class ConfigError(HilumError):
    """A setting is unknown, of the wrong type, or contradicts another."""

    exit_code = 2


class RecordsError(HilumError):
    """A table of radiographs has defects; the message lists all of them."""

    exit_code = 65


class ImageError(HilumError):
    """A file is no usable radiograph."""

    exit_code = 65


class WeightsError(HilumError):
    """A weights file cannot be read, or does not fit what it is loaded into."""

    exit_code = 65


class MissingError(HilumError):
    """A file or folder is not there."""

    exit_code = 66


class DependencyError(HilumError):
    """An optional package is not installed; the message names the extra that brings it."""

    exit_code = 69


class NumericalError(HilumError):
    """Training produced a value that is not finite, or collapsed."""

    exit_code = 70


class OutputError(HilumError):
    """A place cannot be written to, or holds something that must not be overwritten."""

    exit_code = 73


class StorageError(HilumError):
    """A disk is full or fails; what was written before is still good."""

    exit_code = 74


class Interrupted(HilumError):  # noqa: N818 - an interruption is no error of anybody's
    """The user or the scheduler asked the run to stop; its state was saved."""

    def __init__(self, message: str, exit_code: int = 130) -> None:
        super().__init__(message)
        self.exit_code = exit_code
