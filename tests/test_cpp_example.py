"""examples/cpp: compiled and linked as its README says, and run with engines that onnxruntime plays (`standin/`)."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from reference.once import once
from reference.plugin_harness import harness_for, headers
from reference.qwen3_vl_bundle import clip as wide_clip
from reference.standin_tensorrt import SOURCES as STANDIN, make_standin, run_program, write_engines
from reference.toy_bundle import toy_frames

from stts_export.kernels.compilers import compiler_for
from stts_export.verify.cpu_emulation import cpu_emulation
from stts_runtime.bundle.manifest import SCHEMA_VERSION
from stts_runtime.bundle.open import open_bundle
from stts_runtime.bundle.plugin_library import file_for
from stts_runtime.bundle.spec import TensorSpec
from stts_runtime.engine import open_engine
from stts_runtime.errors import EngineError
from stts_runtime.timings import Timings
from stts_runtime.vision.on_device import PARTS, runs_of_frames, vision_on_device
from stts_runtime.vision.plan import kept_groups


EXAMPLE = Path(__file__).parents[1] / "examples/cpp"
MACHINES = ("x86_64", "aarch64")
HERE = os.uname().machine
VERSION, SM = "1.7.1.116", 87
SANITIZE = "-fsanitize=address,undefined -fno-sanitize-recover=all"


@dataclass(frozen=True)
class Program:
    """The example for a machine, the bundle with its library, and what plays its engines."""

    command: tuple[str, ...]
    folder: Path  # of the stand-ins
    bundle: Path
    engines: dict

    def run(self, frames, work, *, prune=None, bundle=None, engines=None, sm=SM, manifest=None):
        """What it said, with features and which groups were kept if it wrote them."""
        clip = work / "clip.npy"
        np.save(clip, frames) if isinstance(frames, np.ndarray) else clip.write_bytes(frames)
        bundle = bundle or self.bundle
        arguments = [str(path) for path in (bundle, clip, work / "features.npy", work / "keep.npy")]
        played = {**self.engines, **(engines or {})}
        graphs = (manifest or open_bundle(self.bundle).manifest).graphs
        specs = {part: graph.spec for part, graph in graphs.items()}
        return run_program(
            [*self.command, *arguments, *([] if prune is None else [str(prune)])],
            specs,
            lambda part, inputs, outputs: played[part](inputs, outputs),
            {"LD_LIBRARY_PATH": self.folder, "STTS_STANDIN_SM": sm, "STTS_STANDIN_TENSORRT": 10701},
        )


@pytest.fixture(scope="module")
def played(plugin_bundle):
    """The bundle as onnxruntime runs it, and its engines by part."""
    with cpu_emulation(open_bundle(plugin_bundle)) as bundle:
        engines = {part: open_engine(bundle, part) for part in PARTS}
        yield bundle.manifest, engines
        for engine in engines.values():
            engine.close()


@pytest.fixture(scope="module", params=MACHINES)
def program(request, run_folder, plugin_bundle, played):
    """The example for a machine; that for this one with sanitizers."""
    machine = request.param
    if shutil.which("cmake") is None:
        pytest.skip("no cmake: install it beside the compiler")
    harness = harness_for(machine, run_folder)
    compiler, folder = compiler_for(machine), run_folder / f"cpp-example-{machine}"

    def make(whole):
        path = whole.with_name(f"{whole.name}-half")
        standin = path / "standin"
        path.mkdir()
        make_standin(standin, compiler, headers())
        options = {
            "CMAKE_CXX_COMPILER": compiler,
            "CMAKE_BUILD_TYPE": "None",
            "CMAKE_CXX_FLAGS": f"-Werror {'' if harness.emulator else SANITIZE}",
            "TENSORRT_INCLUDE": headers().folder,
            "TENSORRT_LIBRARY": standin / "libnvinfer.so",
            "CUDA_INCLUDE": STANDIN,
            "CUDART_LIBRARY": standin / "libcudart.so",
        }
        if harness.emulator:
            options |= {"CMAKE_SYSTEM_NAME": "Linux", "CMAKE_SYSTEM_PROCESSOR": machine}
        build = path / "build"
        configure = ["cmake", "-S", EXAMPLE, "-B", build, *(f"-D{name}={value}" for name, value in options.items())]
        for command in (configure, ["cmake", "--build", build]):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
        shutil.copytree(plugin_bundle, path / "bundle.stts")
        (path / "bundle.stts" / file_for(machine)).write_bytes((harness.folder / "libstts_trt.so").read_bytes())
        write_engines(path / "bundle.stts", open_bundle(plugin_bundle).manifest, VERSION, SM)
        path.rename(whole)

    once(folder, make)
    command = (*harness.emulator, str(folder / "build/frames_to_features"))
    return Program(command, folder / "standin", folder / "bundle.stts", {p: e.run for p, e in played[1].items()})


on_this_machine = pytest.mark.parametrize("program", [HERE], indirect=True)


@pytest.mark.parametrize(("frames", "prune", "runs"), [(1, 0.5, 1), (3, 0.3, 1), (8, 0.5, 2), (8, 0.8, 1)])
def test_features_and_kept_groups_are_those_of_the_runtime(program, played, tmp_path, frames, prune, runs):
    clip, (manifest, engines) = toy_frames(frames), played
    expected = vision_on_device(*(engines[part] for part in PARTS), clip, prune, manifest, Timings())
    done = program.run(clip, tmp_path, prune=prune)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "features.npy").view(np.uint16), expected.features.view(np.uint16))
    np.testing.assert_array_equal(np.load(tmp_path / "keep.npy"), expected.keep)
    kept = expected.keep.sum()
    assert f"kept {kept} of {expected.keep.size} groups of {frames} frames, encoded in {runs} run" in done.stdout
    # for scores and order, once all is asked for; for the lengths before, where they cut the clip
    assert f"the host waited {1 if runs == 1 else 2} times" in done.stderr


@on_this_machine
@pytest.mark.parametrize(("frames", "prune"), [(1, 0.5), (4, 0.5), (11, 0.3)])
def test_wide_frames_of_which_two_make_a_patch_come_out_as_from_the_runtime(
    program, qwen_bundle, tmp_path, frames, prune
):
    built = open_bundle(qwen_bundle("plugin"))
    folder = shutil.copytree(built.path, tmp_path / "qwen.stts")
    (folder / file_for(HERE)).write_bytes((program.bundle / file_for(HERE)).read_bytes())
    manifest, clip = write_engines(folder, built.manifest, VERSION, SM), wide_clip(frames)
    with cpu_emulation(open_bundle(folder)) as emulated:
        engines = {part: open_engine(emulated, part) for part in PARTS}
        expected = vision_on_device(*engines.values(), clip, prune, emulated.manifest, Timings())
        played = {part: engine.run for part, engine in engines.items()}
        done = program.run(clip, tmp_path, prune=prune, bundle=folder, manifest=manifest, engines=played)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "features.npy").view(np.uint16), expected.features.view(np.uint16))
    np.testing.assert_array_equal(np.load(tmp_path / "keep.npy"), expected.keep)
    assert expected.keep.shape == (-(-frames // 2), 15)
    ends = np.append(0, np.cumsum(expected.keep.sum(axis=1)))
    runs = len(list(runs_of_frames(ends, built.manifest.graphs["vision_encode"].spec.dim("K").maximum)))
    assert (runs > 1) == (frames == 11)
    assert f"groups of {frames} frames, encoded in {runs} run" in done.stdout
    many = program.run(wide_clip(13), tmp_path, prune=prune, bundle=folder, manifest=manifest, engines=played)
    assert "has 13 frames, the bundle was built for at most 12: use fewer" in many.stderr


@on_this_machine
def test_bytes_without_a_head_are_frames_too_and_the_bundle_says_how_much_goes(program, tmp_path):
    clip = toy_frames(3)
    for frames in (clip, clip.tobytes()):
        done = program.run(frames, tmp_path)
        assert done.returncode == 0, done.stderr
        np.save(tmp_path / f"{type(frames).__name__}.npy", np.load(tmp_path / "features.npy"))
    np.testing.assert_array_equal(np.load(tmp_path / "ndarray.npy"), np.load(tmp_path / "bytes.npy"))


def test_the_newest_bundles_are_read_by_it():
    """Without a compiler too: a schema is raised in Python, where this header is out of sight."""
    newest = re.search(r"kNewest = (\d+)", (EXAMPLE / "bundle.h").read_text())[1]
    assert int(newest) == SCHEMA_VERSION


def _of_portable(manifest, folder):
    manifest["engine"]["ops"] = "portable"


def _of_another_machine(manifest, folder):
    manifest["files"] = [entry for entry in manifest["files"] if HERE not in entry["path"]]


def _with_half_a_size(manifest, folder):
    manifest["grid"]["image_size"] = [126]


def _of_a_newer_schema(manifest, folder):
    manifest["schema_version"] = SCHEMA_VERSION + 1


def _without_a_limit(manifest, folder):
    del manifest["limits"]["max_frames"]


def _with_an_odd_number(manifest, folder):
    manifest["graphs"]["vision_encode"]["spec"]["dims"][0]["maximum"] = 8.5


def _with_half_a_library(manifest, folder):
    (folder / file_for(HERE)).write_bytes(b"\x7fELF")


def _with_another_library(manifest, folder):
    library = folder / file_for(HERE)
    library.write_bytes(b"?" * library.stat().st_size)


def _engine(folder):
    return next(folder.glob("engines/*/vision_encode.engine"))


def _with_half_an_engine(manifest, folder):
    _engine(folder).write_text("engine")


def _with_an_engine_that_is_none(manifest, folder):
    _engine(folder).write_text("?" * _engine(folder).stat().st_size)


def _with_an_engine_for_fewer_groups(manifest, folder):
    text = _engine(folder).read_text()
    _engine(folder).write_text(text.replace("dim K 1 27", "dim K 1 26"))


def _without_engines(manifest, folder):
    shutil.rmtree(folder / "engines")


@on_this_machine
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (_of_portable, "has no plugins .its graphs are portable.*: build it with --ops plugin"),
        (_of_another_machine, rf"carries no plugins/{HERE}/libstts_trt.so .it has: plugins/\w+/libstts_trt.so.: "),
        (_of_a_newer_schema, f"is of schema {SCHEMA_VERSION + 1}, this program reads 5 to {SCHEMA_VERSION}: "),
        (_with_half_a_size, "manifest.json: grid.image_size: wanted a square's side, or height and width: build"),
        (_without_a_limit, "manifest.json: limits: wanted max_frames: build the bundle again"),
        (_with_an_odd_number, r"graphs.vision_encode.spec.dims.0.maximum: wanted a whole number"),
        (_with_half_a_library, "libstts_trt.so is missing, or is not the file that was written: copy the bundle"),
        (_with_another_library, "TensorRT cannot load .*libstts_trt.so"),
        (_with_half_an_engine, "sm87 lacks an engine, or one is cut off: run `stts-runtime build "),
        (_with_an_engine_that_is_none, "TensorRT: no engine of this stand-in\n.*TensorRT refuses .*vision_encode"),
        (_with_an_engine_for_fewer_groups, "order of .*vision_encode.engine is not as the bundle says: build"),
        (_without_engines, "holds no engines for tensorrt_rtx 1.7.1 on SM 87; it holds none at all: run `stts-"),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_what_is_wrong_with_a_bundle_is_told_and_nothing_is_written(program, tmp_path, change, complaint):
    folder = shutil.copytree(program.bundle, tmp_path / "changed.stts")
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest, folder)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    _refused(program.run(toy_frames(3), tmp_path, bundle=folder), tmp_path, complaint)


@on_this_machine
def test_a_manifest_that_is_cut_off_anywhere_is_refused(program, tmp_path):
    content = (program.bundle / "manifest.json").read_bytes().rstrip()
    folder = tmp_path / "cut.stts"
    folder.mkdir()
    for length in (0, 1, 100, len(content) // 2, len(content) - 1):
        (folder / "manifest.json").write_bytes(content[:length])
        _refused(program.run(toy_frames(1), tmp_path, bundle=folder), tmp_path, "manifest.json is damaged at byte ")


@on_this_machine
@pytest.mark.parametrize(
    ("frames", "how", "complaint"),
    [
        (toy_frames(3), {"sm": 90}, "no engines for .* on SM 90; tensorrt_rtx-1.7.1.116-sm87 is for another: run"),
        (toy_frames(3), {"bundle": Path("/nowhere")}, "no bundle at /nowhere: pass a folder NAME.stts"),
        (toy_frames(3), {"prune": 1}, r"prune fraction is 1, wanted a number in \[0, 1\)"),
        (toy_frames(3), {"prune": "nan"}, r"prune fraction is nan, wanted a number in \[0, 1\)"),
        (toy_frames(3), {"prune": "0.5x"}, "0.5x is no prune fraction: wanted a number like 0.5"),
        (toy_frames(3), {"prune": 0}, "prune fraction is 0: nothing is to be selected then, ask stts-runtime"),
        (toy_frames(9), {}, "has 9 frames, the bundle was built for at most 8: use fewer, or build it again with a"),
        (toy_frames(3)[:, :125], {}, r"'shape': \(3, 125, 126, 3\).*wanted RGB frames 126 wide and 126 high, uint8"),
        (toy_frames(3).astype(float), {}, "'descr': '<f8'.*wanted RGB frames 126 wide and 126 high, uint8"),
        (b"", {}, "has 0 bytes of pixels, a frame has 47628: wanted RGB frames"),
        (b"\x93NUMPY\1\0\xff\xff", {}, "clip.npy says .*: wanted RGB frames"),
        (toy_frames(3).tobytes() + b"?", {}, "has 142885 bytes of pixels, a frame has 47628: wanted RGB frames"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_what_cannot_be_run_is_refused_with_what_to_do(program, tmp_path, frames, how, complaint):
    _refused(program.run(frames, tmp_path, **how), tmp_path, complaint)


@on_this_machine
def test_the_scorer_begins_with_zeros_and_scores_of_the_first_frame_bias_nothing(program, tmp_path):
    folder = shutil.copytree(program.bundle, tmp_path / "gated.stts")
    shutil.rmtree(folder / "engines")
    manifest = open_bundle(folder).manifest
    score = manifest.graphs["vision_score"]
    gated = replace(score.spec, inputs=(*score.spec.inputs, TensorSpec("gate", "float32", ("T",))))
    manifest = replace(manifest, graphs={**manifest.graphs, "vision_score": replace(score, spec=gated)})
    manifest, gates = write_engines(folder, manifest, VERSION, SM), []
    states = []

    def noted(inputs, outputs):
        gates.append(inputs["gate"].tolist())
        states.append(bool(inputs["previous"].any()))
        program.engines["vision_score"](inputs, outputs)

    done = program.run(toy_frames(5), tmp_path, bundle=folder, manifest=manifest, engines={"vision_score": noted})
    assert done.returncode == 0, done.stderr
    assert gates == [[0, 1, 1], [1, 1]]
    assert states == [False, True]


@on_this_machine
@pytest.mark.parametrize("prune", [0.5, 0.8], ids=["several runs", "one run"])
def test_a_score_that_is_not_finite_is_told_with_its_frame(program, tmp_path, prune):
    scored = []

    def score(inputs, outputs):
        program.engines["vision_score"](inputs, outputs)
        scored.extend(range(len(inputs["patches"])))
        if len(scored) > 6:
            outputs["scores"][0, 2] = np.inf

    def encode(inputs, outputs):  # as the plugins do: rows of zeros for what is no group
        outputs["features"][:] = 0

    def select(inputs, outputs):  # as its contract says
        outputs["order"][:] = -1
        outputs["cumulative_groups"][-1] = -1

    engines = {"vision_score": score, "vision_select": select, "vision_encode": encode}
    done = program.run(toy_frames(8), tmp_path, prune=prune, engines=engines)
    _refused(done, tmp_path, "scores of frame 6 are not finite: the vision graph overflowed")


@on_this_machine
def test_an_engine_that_fails_on_the_device_is_told_by_the_name_of_the_error(program, tmp_path):
    def fails(inputs, outputs):
        raise EngineError("it fails")

    done = program.run(toy_frames(3), tmp_path, engines={"vision_select": fails})
    _refused(done, tmp_path, "failed: cudaErrorLaunchFailure .unspecified launch failure.")


def test_budget_and_runs_are_those_of_the_runtime_to_the_last_group(tmp_path):
    compiler = compiler_for(HERE)
    if compiler is None:
        pytest.skip("no C++ compiler: install g++")
    source, binary = tmp_path / "host.cpp", tmp_path / "host"
    source.write_text(HOST_SIDE)
    options = ["-std=c++17", "-Wall", "-Wextra", "-Werror", *SANITIZE.split(), "-I", str(EXAMPLE)]
    subprocess.run([compiler, *options, "-o", str(binary), str(source)], check=True)
    rng = np.random.default_rng(12)
    asked, expected = [], []
    for _ in range(4000):
        groups, frames = int(rng.choice([1, 4, 9, 36, 81, 196])), int(rng.integers(1, 1025))
        prune = float(rng.choice([rng.random(), rng.integers(100) / 100, rng.integers(20) / 20]))
        asked.append(f"kept {groups} {frames} {prune!r}")
        expected.append(str(kept_groups(groups, frames, prune)))
    for _ in range(500):
        lengths, room = rng.integers(0, 10, rng.integers(1, 40)), int(rng.integers(9, 31))
        ends = np.append(0, np.cumsum(lengths))
        asked.append(f"runs {room} {len(lengths)} {' '.join(map(str, ends))}")
        expected.append(" ".join(f"{first}-{last}" for first, last in runs_of_frames(ends, room)))
    done = subprocess.run([binary], input="\n".join(asked), capture_output=True, text=True, check=True)
    assert [line.strip() for line in done.stdout.splitlines()] == expected


def _refused(done, work, complaint):
    assert done.returncode == 1, done.stderr
    assert re.search(complaint, done.stderr, re.DOTALL), done.stderr
    assert sorted(path.name for path in work.iterdir() if path.suffix != ".stts") == ["clip.npy"]


HOST_SIDE = r"""
#include "clip.h"

#include <iostream>

int main() {
  for (std::string asked; std::cin >> asked;) {
    int64_t first = 0, frames = 0;  // groups of a frame, or room of a run
    std::cin >> first >> frames;
    if (asked == "kept") {
      double prune = 0;
      std::cin >> prune;
      std::cout << stts::kept_groups(first, frames, prune);
    } else {
      std::vector<int64_t> ends(static_cast<size_t>(frames) + 1);
      for (int64_t& end : ends) std::cin >> end;
      for (auto const& [from, to] : stts::runs_of_frames(ends.data(), frames, first)) {
        std::cout << from << "-" << to << " ";
      }
    }
    std::cout << "\n";
  }
}
"""
