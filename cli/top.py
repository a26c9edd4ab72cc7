"""`dispycos top`."""

from dispycos.config import TopSettings


def run(settings: TopSettings) -> int:
    """Later."""
    return 0
