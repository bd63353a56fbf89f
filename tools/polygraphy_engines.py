"""Have Polygraphy, which shares no code with us, read a bundle's graphs and build TensorRT-RTX engines of them.

    python tools/polygraphy_engines.py build/two-blocks-rtx.stts --compute-capability 8.6 12.0

No GPU is needed. Each part is asked for operators that TensorRT's parser does not know (`polygraphy inspect
capability`), and becomes an engine for the shapes of its GraphSpec (`polygraphy convert`), which is thrown away.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from stts_runtime.bundle.open import Bundle, open_bundle
from stts_runtime.errors import EngineError, SttsError, UsageError
from stts_runtime.text_table import Rows, text_table
from stts_runtime.verify.polygraphy import profile_words
from stts_runtime.verify.saved_runs import profile_of


POLYGRAPHY = "from polygraphy.tools import main; raise SystemExit(main())"
SUPPORTED = "Graph is fully supported by TensorRT"
LAST_LINES = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a row for each part; return 0 if Polygraphy builds them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="built for TensorRT or TensorRT-RTX, --ops portable")
    parser.add_argument("--compute-capability", nargs="+", default=["8.6", "12.0"], metavar="X.Y")
    parser.add_argument("--parts", nargs="+", help="which parts (default: all)")
    parsed = parser.parse_args(arguments)
    try:
        rows = engine_rows(open_bundle(parsed.bundle), parsed.compute_capability, parsed.parts)
    except SttsError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stdout.write(text_table(rows, ("part", "capability")))
    return 0


def engine_rows(bundle: Bundle, compute_capabilities: Sequence[str], parts: Sequence[str] | None = None) -> Rows:
    """Return what Polygraphy says of each part and how large its engine is.

    Raises:
        EngineError: it refuses one.
        UsageError: Polygraphy is not installed, or the bundle is not for TensorRT, or has plugins.
    """
    manifest = bundle.manifest
    if importlib.util.find_spec("polygraphy") is None:
        raise UsageError("polygraphy is not installed: pip install 'stts-export[debug]'")
    if manifest.engine.backend == "onnxruntime" or manifest.engine.has_plugins:
        raise UsageError(f"{bundle.path.name} is not for TensorRT by itself: build it with --target rtx --ops portable")
    unknown = sorted(set(parts or ()) - set(manifest.graphs))
    if unknown:
        raise UsageError(f"{bundle.path.name} has no part {unknown[0]!r}; it has {', '.join(manifest.graphs)}")
    cells = []
    with TemporaryDirectory() as folder:
        for part in parts or manifest.graphs:
            graph = manifest.graphs[part]
            file, engine = str(bundle.file(graph.file).absolute()), Path(folder) / f"{part}.engine"
            capability = polygraphy(part, folder, "inspect", "capability", file)
            if SUPPORTED not in capability:
                raise EngineError(f"{part}: TensorRT does not know all of its operators:\n{capability}")
            shapes = profile_words(profile_of(graph.spec))
            cards = ("--compute-capabilities", *compute_capabilities)
            polygraphy(part, folder, "convert", file, "--convert-to", "trt", "-o", str(engine), *cards, *shapes)
            cells.append((part, "all operators", f"{engine.stat().st_size / (1 << 20):.1f}"))
    title = f"{bundle.path.name}, by Polygraphy, for {', '.join(compute_capabilities)}"
    return Rows(title, ("part", "capability", "engine MiB"), tuple(cells))


def polygraphy(part: str, folder: str, *words: str) -> str:
    """Run Polygraphy on TensorRT-RTX in `folder`, where it may leave things, and return what it says.

    Raises:
        EngineError: it fails.
    """
    environment = {**os.environ, "POLYGRAPHY_USE_TENSORRT_RTX": "1"}
    done = subprocess.run(
        [sys.executable, "-c", POLYGRAPHY, *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    said = done.stdout + done.stderr
    if done.returncode:
        last = "\n".join(said.splitlines()[-LAST_LINES:])
        raise EngineError(f"{part}: polygraphy {words[0]} failed:\n{last}")
    return said


if __name__ == "__main__":
    raise SystemExit(main())
