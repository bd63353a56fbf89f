"""The model card of a bundle, written from its manifest and its verification alone."""

from __future__ import annotations

import json
from collections.abc import Iterator

from stts_export.bundle.summary import backend_line, ops_line, pruning_line, source_line
from stts_runtime.bundle.backend import Backend, backend_named
from stts_runtime.bundle.manifest import Manifest, weights_line
from stts_runtime.sizes import size_text
from stts_runtime.verify.report import Report


LIBRARY = "stts"
TASK = "video-text-to-text"
HUB_LICENSES = (
    "apache-2.0",
    "mit",
    "bsd-3-clause",
    "cc-by-4.0",
    "cc-by-nc-4.0",
    "gemma",
    "llama3",
    "openrail",
    "other",
)
"""Of the licenses that a hub knows by name, those that models have; another is told as `other`, with its own name."""


def model_card(manifest: Manifest, report: Report | None, repository: str) -> str:
    """Return the card, Markdown with the hub's metadata as YAML before it.

    Args:
        manifest: the bundle's.
        report: what verification found; None where the bundle was not verified.
        repository: `ORG/NAME`, where it will lie.
    """
    return "\n".join([*_metadata(manifest), "", *_page(manifest, report, repository), ""])


def _metadata(manifest: Manifest) -> Iterator[str]:
    source = manifest.source
    said = None if source is None else source.license
    yield "---"
    if said is not None and said.lower() in HUB_LICENSES:
        yield f"license: {said.lower()}"
    elif said is not None:
        yield "license: other"
        yield f"license_name: {_text(said)}"
    yield f"library_name: {LIBRARY}"
    yield f"pipeline_tag: {TASK}"
    if source is not None and source.repository is not None:
        yield f"base_model: {_text(source.repository)}"
    yield "tags:"
    engine = manifest.engine
    pruned = () if manifest.pruning.is_dense else ("token-pruning",)
    for tag in dict.fromkeys((LIBRARY, *pruned, "onnx", engine.backend, engine.precision, manifest.target.name)):
        yield f"- {_text(tag)}"
    yield "---"


def _page(manifest: Manifest, report: Report | None, repository: str) -> Iterator[str]:
    backend = backend_named(manifest.engine.backend)
    yield f"# {repository.partition('/')[2]}"
    yield ""
    yield (
        f"`{manifest.name}` as a bundle for `stts-runtime`: graphs, weights, tokenizer and settings. Video frames and "
        "a question in, text out, without torch."
    )
    yield ""
    yield from _table(manifest)
    yield ""
    yield "## Run it"
    yield ""
    yield from _commands(backend, repository)
    yield ""
    yield "## Verification"
    yield ""
    yield from _verification(report)
    if manifest.notes:
        yield ""
        yield "## Notes"
        yield ""
        yield from (f"- {note}" for note in manifest.notes)


def _table(manifest: Manifest) -> Iterator[str]:
    limits = manifest.limits
    size = sum(entry.size for entry in manifest.files)
    rows = {
        "weights from": source_line(manifest),
        "pruning": pruning_line(manifest),
        "target": f"{manifest.target.name} ({manifest.target.title})",
        "runs on": backend_line(manifest),
        "weights": weights_line(manifest.engine),
        "operators": ops_line(manifest),
        "limits": f"{manifest.most_frames} frames, {limits.max_tokens} tokens a conversation",
        "size": f"{size_text(size)} in {len(manifest.files)} files",
        "built by": manifest.created_by,
    }
    yield "| | |"
    yield "|---|---|"
    yield from (f"| {name} | {value.replace('|', chr(92) + '|')} |" for name, value in rows.items())


def _commands(backend: Backend, repository: str) -> Iterator[str]:
    name = repository.partition("/")[2]
    yield "    pip install 'stts-runtime[hub,video]'"
    if not backend.needs_engines:
        yield f'    stts-runtime run {repository} --video clip.mp4 "What happens?"'
        return
    yield f"    stts-runtime pull {repository} -o {name}.stts"
    yield f"    stts-runtime build {name}.stts     # engines for this device; none are published"
    yield f'    stts-runtime run {name}.stts --video clip.mp4 "What happens?"'
    yield ""
    yield f"It needs {backend.title}: {backend.install}."


def _verification(report: Report | None) -> Iterator[str]:
    if report is None:
        yield "**Not verified.** The bundle was built with `--no-verify`: nobody compared it with its torch model."
        return
    yield (
        f"The graphs against {report.reference}, on {report.engine}, {report.precision}: {report.verdict}. Engines "
        "built on a device are compared there: `stts-runtime verify`."
    )
    yield ""
    yield "| run | compared | largest error | smallest cosine |"
    yield "|---|--:|--:|--:|"
    for result in report.results:
        told = [one for one in result.comparisons if not one.skipped]
        errors = [one.max_error for one in told if one.max_error is not None]
        cosines = [one.cosine for one in told if one.cosine is not None]
        error = f"{max(errors):.1e}" if errors else ""
        cosine = f"{min(cosines):.6f}" if cosines else ""
        yield f"| {result.name} | {result.compared} | {error} | {cosine} |"
    yield from ("", *(f"- {note}" for note in report.notes)) if report.notes else ()


def _text(value: str) -> str:
    """Return text for YAML, quoted as JSON is, which YAML reads, wherever it is not a plain word."""
    return value if value.replace("-", "").replace("/", "").replace("_", "").isalpha() else json.dumps(value)
