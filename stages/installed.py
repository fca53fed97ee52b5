"""Which versions are installed here."""

from importlib.metadata import PackageNotFoundError, version

MISSING = "not installed"


def installed(name: str) -> str:
    """The version of a library, or that there is none; a checkout that is only on the path has none of its own."""
    try:
        return version(name)
    except PackageNotFoundError:
        return MISSING
