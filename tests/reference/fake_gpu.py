"""A device that is played: fake CUDA and fake TensorRT in place of the real modules, and bundles with its engines."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from reference.fake_cuda import FakeCuda
from reference.fake_trt_runtime import VERSIONS, engine_bytes, fake_tensorrt, profiles_of_spec
from stts_runtime.bundle.engine_set import (
    ENGINE_SET_SCHEMA,
    ENGINES,
    INDEX,
    EngineFile,
    EngineSet,
    index_bytes,
    manifest_digest,
)
from stts_runtime.bundle.manifest import EngineSettings, GraphEntry, Manifest
from stts_runtime.bundle.open import Bundle


@dataclass
class FakeGpu:
    """One GPU and the TensorRT installed for it."""

    cuda: FakeCuda
    tensorrt: Any
    version: str

    @property
    def backend(self) -> str:
        return VERSIONS[self.version]

    def bundle_like(self, bundle: Bundle, folder: Path) -> Bundle:
        """Return a bundle in the new `folder` that answers as `bundle` does, by engines for this GPU."""
        folder.mkdir()
        if bundle.manifest.tokenizer is not None:
            shutil.copy(bundle.path / bundle.manifest.tokenizer, folder / bundle.manifest.tokenizer)
        settings = replace(bundle.manifest.engine, backend=self.backend, device="cuda")
        copy = Bundle(folder, replace(bundle.manifest, engine=settings))
        for entry in bundle.manifest.files:
            if entry.path.startswith("plugins/"):
                (folder / entry.path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(bundle.file(entry.path), folder / entry.path)
        runs = {part: str(bundle.file(graph.file)) for part, graph in bundle.manifest.graphs.items()}
        gives = {"K": (bundle.manifest.grid.groups, "T"), "E": (1, "A", 1)}  # of vision_dense, and of vision_select
        self.build(copy, runs, changes={"gives": gives})
        return copy

    def bundle_of(self, spec: Any, function: str, folder: Path, manifest: Manifest, **how: Any) -> Bundle:
        """Return a bundle of one graph whose engine runs a function of `FUNCTIONS`; `how` is for `build`."""
        folder.mkdir()
        settings = EngineSettings(self.backend, "cuda", "float32", prepack=False)
        graphs = {spec.name: GraphEntry(f"{spec.name}.onnx", spec)}
        bundle = Bundle(folder, replace(manifest, engine=settings, graphs=graphs))
        self.build(bundle, {spec.name: f"function:{function}"}, **how)
        return bundle

    def build(self, bundle: Bundle, runs: Mapping[str, str], **how: Any) -> Path:
        """Write engines for this GPU into the bundle and return their folder; `how` goes to `engine_bytes`."""
        graphs, files = bundle.manifest.graphs, []
        contents = {
            part: engine_bytes(
                graphs[part].spec,
                run,
                **{"profiles": profiles_of_spec(graphs[part].spec), "version": self.version, **how},
            )
            for part, run in runs.items()
        }
        for part, content in contents.items():
            files.append(EngineFile(part, f"{part}.engine", len(content), hashlib.sha256(content).hexdigest()))
        engines = EngineSet(
            ENGINE_SET_SCHEMA,
            self.backend,
            self.version,
            (self.cuda.capability,),
            bundle.manifest.engine.precision,
            manifest_digest(bundle.manifest),
            tuple(files),
        )
        folder = bundle.path / ENGINES / engines.folder
        folder.mkdir(parents=True)
        for part, content in contents.items():
            (folder / f"{part}.engine").write_bytes(content)
        (folder / INDEX).write_bytes(index_bytes(engines))
        return folder


def fake_gpu(monkeypatch: pytest.MonkeyPatch, version: str = "10.3.0", **cuda: Any) -> FakeGpu:
    """Put a GPU with this TensorRT in the place of whatever the machine has; `cuda` goes to `FakeCuda`.

    The doctor, who looks at the machine by other means, is not asked.
    """
    monkeypatch.setattr("stts_runtime.device.doctor.check_device", lambda bundle: ())
    device = FakeCuda(**cuda)
    module = fake_tensorrt(version, device)
    monkeypatch.setitem(sys.modules, VERSIONS[version], module)
    for name in ("cuda", "cuda.bindings"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", device)  # type: ignore[arg-type]
    return FakeGpu(device, module, version)
