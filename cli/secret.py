"""`dispycos secret show`: prints the cluster's secret, to copy to other hosts; makes it if there is none."""

from __future__ import annotations

import json
import sys

from dispycos.config import SecretSettings
from dispycos.transport.folders import find_folders
from dispycos.transport.secret import Secret


def run(settings: SecretSettings) -> int:
    """The secret alone is on stdout, so that it can be piped into a file; where it lies is said on stderr."""
    secret = Secret.load_or_make(settings.secret_file)
    if settings.json:
        print(json.dumps({"secret": secret.text, "source": secret.source, "tag": secret.tag}))
        return 0
    for note in find_folders().notes:
        print(f"dispycos secret show: {note}", file=sys.stderr)
    print(secret.text)
    if sys.stderr.isatty():
        print(
            f"from {secret.source}; on another host, put it into ~/.config/dispycos/secret (chmod 600)",
            file=sys.stderr,
        )
    return 0
