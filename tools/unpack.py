#!/usr/bin/env python3
"""Put the parts that `pack_training.py` made together again, on a host without a network."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from archive import DamagedError, read_parts


def main() -> int:
    """Put one set together."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", type=Path, help="folder with all parts and SHA256SUMS")
    parser.add_argument("destination", type=Path, help="folder for the files; whole afterwards, or as it was before")
    arguments = parser.parse_args()
    try:
        read_parts(arguments.parts, arguments.destination)
    except (DamagedError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
