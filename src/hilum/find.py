"""A file's name is its name: what `hilum.methods.moco` is called on the command line is `moco`."""

import difflib
import importlib
import importlib.util
import pkgutil
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from hilum.errors import ConfigError


def names(package: str) -> list[str]:
    """The modules of a package, by listing its folder: nothing in it is imported.

    >>> "read" in names("hilum.images")
    True
    """
    spec = importlib.util.find_spec(package)
    assert spec is not None
    locations = spec.submodule_search_locations
    assert locations is not None, f"{package} is no package"
    return sorted(
        module.name for module in pkgutil.iter_modules(locations) if not module.name.startswith("_")
    )


def path(package: str, name: str) -> Path:
    """The source file of `package.name`, or of the user's own dotted module `name`.

    Raises:
        ConfigError: there is no such module; the message names the nearest.
    """
    known = names(package)
    dotted = name if "." in name else f"{package}.{name}"
    if "." not in name and name not in known:
        raise ConfigError(f"{name!r} is not one of {', '.join(known)}{did_you_mean(name, known)}")
    try:
        spec = importlib.util.find_spec(dotted)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{name!r}: {error}; a module of your own must be importable") from None
    if spec is None or spec.origin is None:
        raise ConfigError(f"{name!r}: no such module; built in are {', '.join(known)}")
    return Path(spec.origin)


def module(package: str, name: str) -> ModuleType:
    """Imports `package.name`, or the user's own dotted module `name`."""
    path(package, name)
    return importlib.import_module(name if "." in name else f"{package}.{name}")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like this one, if any is alike.

    >>> nearest("Oedema", ["Edema", "Effusion"])
    'Edema'
    """
    by_lower = {other.lower(): other for other in known}
    match = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.6)
    return by_lower[match[0]] if match else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name.

    >>> did_you_mean("bath_size", ["batch_size"])
    "; did you mean 'batch_size'?"
    """
    near = nearest(name, known)
    return f"; did you mean {near!r}?" if near else ""
