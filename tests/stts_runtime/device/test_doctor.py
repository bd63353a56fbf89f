"""What is found on recorded devices, alone and with bundles."""

from dataclasses import replace

import pytest
from reference.device_bundle import DEVICES, bundle_for, probe_of

from stts_runtime.bundle.engine_set import INDEX, EngineFile, EngineSet, index_bytes, manifest_digest
from stts_runtime.device.doctor import check, check_device
from stts_runtime.device.software import RTX_COMPUTE_CAPABILITIES
from stts_runtime.errors import EngineError
from stts_runtime.trt.bindings import import_bindings
from stts_runtime.trt.dialect import rtx_compute_capabilities


GIB = 1 << 30


def levels(findings):
    """Return the topics that are not ok, by level."""
    return {(found.level, found.topic) for found in findings if found.level != "ok"}


def found(findings, topic):
    (only,) = [finding for finding in findings if finding.topic == topic]
    return only


def with_engines(bundle, version="10.3.0", sms=(87,), digest=None, activations=None):
    """Put a set of engines, of no bytes, into the bundle's directory."""
    manifest = bundle.manifest
    engines = EngineSet(
        schema_version=1,
        backend=manifest.engine.backend,
        version=version,
        compute_capabilities=sms,
        precision=manifest.engine.precision,
        manifest_digest=digest or manifest_digest(manifest),
        files=tuple(EngineFile(part, f"{part}.engine", 0, "0" * 64, 0.0, activations) for part in manifest.graphs),
    )
    folder = bundle.path / "engines" / engines.folder
    folder.mkdir(parents=True)
    (folder / INDEX).write_bytes(index_bytes(engines))
    for entry in engines.files:
        (folder / entry.file).touch()
    return bundle


@pytest.fixture
def orin_bundle(tmp_path):
    """A bundle for the AGX Orin whose engines were built on JetPack 6.2."""
    return with_engines(bundle_for("jetson-orin", tmp_path / "model.stts"))


# the device alone

TARGETS = {
    "agx_orin_jp62": "jetson-orin, jetson-orin-32, jetson-orin-nx, jetson-orin-nx-super, jetson-orin-nano, "
    "jetson-orin-nano-super, cpu",
    "thor_jp71": "jetson-thor, cpu",
    "h100": "h100, cpu",
    "laptop_rtx_4070": "rtx, cpu",
    "no_gpu": "cpu",
}
TARGETS["agx_orin_jp72"] = TARGETS["agx_orin_jp62"]
TARGETS = {device: f"bundles for {targets} run here" for device, targets in TARGETS.items()}
TARGETS["orin_nano_jp62"] = (
    "bundles for jetson-orin-nano, jetson-orin-nano-super fit this GPU, once the above is solved; "
    "bundles for cpu run here"
)
TARGETS["l4"] = "bundles for l4, cpu run here; bundles for rtx fit this GPU too, and want tensorrt_rtx installed"
WARNINGS = {
    "orin_nano_jp62": {("warning", "power"), ("warning", "tensorrt")},
    "thor_jp71": {("warning", "power")},
    "no_gpu": {("warning", "gpu")},
}


@pytest.mark.parametrize("device", DEVICES)
def test_every_recorded_device_is_told_what_it_can_run(device):
    findings = check(probe_of(device))
    assert found(findings, "targets").text == TARGETS[device]
    assert levels(findings) == WARNINGS.get(device, set())


@pytest.mark.parametrize("device", DEVICES)
def test_without_a_bundle_nothing_is_a_problem(device):
    bare = {"tensorrt": None, "tensorrt_rtx": None, "onnxruntime": None, "cuda_bindings": None, "cuda_error": "CUDA"}
    assert not [finding for finding in check(probe_of(device, **bare)) if finding.level == "problem"]


@pytest.mark.parametrize("device", DEVICES)
def test_whatever_is_not_ok_comes_with_advice(device, tmp_path):
    bundles = [None, *(bundle_for(target, tmp_path) for target in ("jetson-orin-nano", "rtx", "l4", "cpu"))]
    for bundle in bundles:
        for finding in check(probe_of(device), bundle):
            assert finding.level == "ok" or finding.advice, finding


def test_a_jetson_is_told_its_jetpack_and_what_that_comes_with():
    jetpack = found(check(probe_of("agx_orin_jp72")), "jetpack")
    assert "7.2 (L4T 39.2.0)" in jetpack.text
    assert "TensorRT 10.16.2 or 11.4.1" in jetpack.text


def test_an_unknown_l4t_names_the_nearest_jetpack_and_what_is_known():
    jetpack = found(check(probe_of("agx_orin_jp62", l4t="36.5.2")), "jetpack")
    assert jetpack.level == "warning"
    assert "L4T 36.5.2 is not in the table" in jetpack.text
    assert "the nearest is 6.2.2 (L4T 36.5.0)" in jetpack.text
    assert "TensorRT 10.3.0" in jetpack.text


def test_a_container_on_a_jetson_is_told_what_to_mount():
    jetpack = found(check(probe_of("agx_orin_jp62", l4t=None)), "jetpack")
    assert "/etc/nv_tegra_release is not there" in jetpack.text
    assert "docker run -v" in jetpack.advice


def test_a_tensorrt_that_this_python_does_not_see_is_told_from_none():
    unseen = found(check(probe_of("orin_nano_jp62")), "tensorrt")
    assert "installed by apt, but this Python (3.10.12) does not see it" in unseen.text
    assert "python3.10 -m venv --system-site-packages" in unseen.advice
    none = found(check(probe_of("orin_nano_jp62", system_tensorrt=None)), "tensorrt")
    assert none.text == "not installed"
    assert "nvidia-jetpack" in none.advice


def test_a_gpu_without_any_engine_is_told_what_to_install():
    findings = check(probe_of("l4", tensorrt=None, cuda_bindings=None))
    assert found(findings, "tensorrt").advice == "pip install tensorrt-cu12"
    assert found(findings, "tensorrt-rtx").advice == (
        "update the NVIDIA driver to 580 or later, then pip install tensorrt-rtx-cu13, or pip install tensorrt-rtx-cu12"
    )
    assert found(findings, "targets").text == (
        "bundles for l4, rtx fit this GPU, once the above is solved; bundles for cpu run here"
    )
    newer = check(probe_of("l4", tensorrt=None, cuda="13.0"))
    assert found(newer, "tensorrt-rtx").advice == "pip install tensorrt-rtx-cu13"
    assert found(findings, "cuda-bindings").advice == 'pip install "cuda-bindings==12.*"'


@pytest.mark.parametrize(
    ("changes", "text", "advice"),
    [
        ({"cuda_error": "CUDA_ERROR_NO_DEVICE (100)"}, "CUDA refuses: CUDA_ERROR_NO_DEVICE (100)", "reboot"),
        ({"cuda_loaded": False}, "the CUDA driver library (libcuda.so.1) is not", "--gpus all"),
    ],
)
def test_a_gpu_that_cuda_does_not_reach_is_told_why(changes, text, advice):
    gpu = found(check(probe_of("l4", **changes)), "gpu")
    assert gpu.level == "warning"
    assert text in gpu.text
    assert advice in gpu.advice


# a bundle for jetson-orin


def test_engines_built_here_are_ready(orin_bundle):
    findings = check(probe_of("agx_orin_jp62"), orin_bundle)
    assert levels(findings) == set()
    assert found(findings, "engines").text == "tensorrt-10.3.0-sm87"
    assert "61.4 GiB" in found(findings, "memory").text
    assert check_device(orin_bundle, probe_of("agx_orin_jp62")) == ()


def test_engines_still_to_be_built_are_a_warning_with_the_command_and_the_costs(tmp_path):
    bundle = bundle_for("jetson-orin", tmp_path)
    findings = check(probe_of("agx_orin_jp62"), bundle)
    assert levels(findings) == {("warning", "engines")}
    assert f"stts-runtime build {tmp_path}" in found(findings, "engines").advice
    assert "22.9 GiB to 30.4 GiB" in found(findings, "build memory").text
    assert "engines take about 11.0 GiB" in found(findings, "disk").text


def test_nothing_is_loaded_while_engines_are_still_to_be_built(tmp_path):
    with pytest.raises(EngineError, match=f"none are built yet(.|\n)*stts-runtime build {tmp_path}"):
        check_device(bundle_for("jetson-orin", tmp_path), probe_of("agx_orin_jp62"))


def test_its_path_is_quoted_where_a_shell_would_take_it_apart(tmp_path):
    bundle = replace(bundle_for("jetson-orin", tmp_path), path=tmp_path / "a b.stts")
    with pytest.raises(EngineError) as caught:
        check_device(bundle, probe_of("agx_orin_jp62"))
    assert f"`stts-runtime build '{tmp_path}/a b.stts'`" in str(caught.value)
    assert f"`stts-runtime doctor '{tmp_path}/a b.stts'` says more" in str(caught.value)


def test_engines_of_another_major_version_are_refused(orin_bundle):
    findings = check(probe_of("agx_orin_jp72", tensorrt="11.4.1"), orin_bundle)
    engines = found(findings, "engines")
    assert engines.level == "problem"
    assert "was built with 10.3.0, another major version than the installed 11.4.1" in engines.text
    assert f"stts-runtime build {orin_bundle.path}" in engines.text
    with pytest.raises(EngineError, match="another major version"):
        check_device(orin_bundle, probe_of("agx_orin_jp72", tensorrt="11.4.1"))


def test_engines_for_another_sm_are_refused(tmp_path):
    bundle = with_engines(bundle_for("rtx", tmp_path), version="1.7.1.116", sms=(86, 120))
    engines = found(check(probe_of("laptop_rtx_4070"), bundle), "engines")
    assert engines.level == "problem"
    assert "is for SM 86, 120, this GPU is SM 89" in engines.text


def test_engines_built_from_other_weights_are_refused(tmp_path):
    bundle = with_engines(bundle_for("jetson-orin", tmp_path), digest="0" * 64)
    engines = found(check(probe_of("agx_orin_jp62"), bundle), "engines")
    assert engines.level == "problem"
    assert "other graphs or weights" in engines.text


def test_a_damaged_index_of_engines_is_a_problem_not_an_end(orin_bundle):
    (orin_bundle.path / "engines" / "tensorrt-10.3.0-sm87" / INDEX).write_bytes(b"{}")
    engines = found(check(probe_of("agx_orin_jp62"), orin_bundle), "engines")
    assert engines.level == "problem"
    assert "damaged" in engines.text


@pytest.mark.parametrize("version", ["10.3.0.30", "10.3.0.post1", "10.3.0"])
def test_metadata_may_say_a_number_more_than_the_module(orin_bundle, version):
    assert found(check(probe_of("agx_orin_jp62", tensorrt=version), orin_bundle), "engines").level == "ok"


def test_an_orin_nano_is_told_in_numbers_that_a_4b_model_does_not_fit(tmp_path):
    findings = check(probe_of("orin_nano_jp62"), bundle_for("jetson-orin-nano", tmp_path))
    assert {("problem", "memory"), ("problem", "build memory"), ("problem", "tensorrt")} <= levels(findings)
    memory = found(findings, "memory")
    assert "weights 8.4 GiB, cache 1.1 GiB (8192 tokens), activations 989 MiB (32 frames), libraries" in memory.text
    assert "7.4 GiB, 5.4 GiB free" in memory.text
    assert "742 MiB of it in one piece" in found(findings, "build memory").text


def test_a_conversation_at_its_limits_may_not_fit_where_a_short_one_does(tmp_path):
    bundle = with_engines(bundle_for("jetson-orin-nano", tmp_path, share=0.65, tokens=16384))
    probe = probe_of("orin_nano_jp62", tensorrt="10.3.0", power_mode="MAXN_SUPER")
    findings = check(probe, bundle)
    assert levels(findings) == {("warning", "memory")}
    assert "may not fit" in found(findings, "memory").text
    assert "up to about 1" in found(findings, "memory").advice
    assert [finding.topic for finding in check_device(bundle, probe)] == ["memory"]


def test_what_built_engines_want_counts_for_more_than_what_was_predicted(tmp_path):
    bundle = with_engines(bundle_for("jetson-orin", tmp_path), activations=51 * GIB)
    probe = probe_of("agx_orin_jp62")
    memory = found(check(probe, bundle), "memory")
    assert memory.level == "warning"
    assert "activations 51." in memory.text
    needed = bundle.manifest.memory
    rest = needed.without_tokens - needed.vision_activations + 51 * GIB
    tokens = (probe.total_memory_bytes - rest) // (needed.cache // needed.tokens)
    assert f"up to about {tokens} tokens fit" in memory.advice


def test_a_jetson_bundle_on_a_server_names_the_targets_for_it(tmp_path):
    findings = check(probe_of("l4"), bundle_for("jetson-orin", tmp_path))
    target = found(findings, "target")
    assert target.level == "problem"
    assert "jetson-orin (Jetson AGX Orin 64GB; SM 87)" in target.text
    assert "NVIDIA L4, is SM 89" in target.text
    assert "--target l4` (here also: rtx, cpu)" in target.advice


def test_a_bundle_for_another_gpu_is_not_told_what_to_install_or_to_build(tmp_path):
    bare = probe_of("agx_orin_jp62", tensorrt=None, tensorrt_rtx=None, cuda_bindings=None)
    findings = check(bare, bundle_for("rtx", tmp_path))
    assert levels(findings) == {("problem", "target")}
    assert not {"tensorrt-rtx", "cuda-bindings", "engines", "build memory"} & {found.topic for found in findings}


def test_tensorrt_rtx_is_not_proposed_to_a_gpu_that_it_does_not_know(tmp_path):
    bundle = bundle_for("h100", tmp_path, backend="tensorrt_rtx")
    rtx = found(check(probe_of("h100"), bundle), "tensorrt-rtx")
    assert rtx.level == "problem"
    assert "it knows SM 75, 80, 86, 89, 120, 121, and this GPU is SM 90" in rtx.text
    assert "--backend tensorrt`" in rtx.advice


def test_the_gpus_that_tensorrt_rtx_knows_are_those_of_its_bindings():
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    assert tuple(sorted(rtx_compute_capabilities(import_bindings("tensorrt_rtx")))) == RTX_COMPUTE_CAPABILITIES


def test_engines_that_were_built_on_another_gpu_than_the_targets_run_there(tmp_path):
    bundle = with_engines(bundle_for("jetson-orin", tmp_path), version="10.13.3.9", sms=(89,))
    assert levels(check(probe_of("l4"), bundle)) == set()


def test_a_jetpack_that_the_target_does_not_have_is_a_problem(tmp_path):
    bundle = bundle_for("jetson-orin-nano-super", tmp_path)
    findings = check(probe_of("orin_nano_jp62", l4t="36.3.0", tensorrt="8.6.2"), bundle)
    (jetpack,) = [finding for finding in findings if finding.topic == "target" and finding.level != "ok"]
    assert jetpack.level == "problem"
    assert "are for JetPack 6.2, 6.2.1, 6.2.2, 7.2, and this device has 6.0" in jetpack.text


def test_engines_that_were_built_on_such_a_jetpack_run_there_with_a_warning(tmp_path):
    bundle = with_engines(bundle_for("jetson-orin-nano-super", tmp_path, share=0.2), version="8.6.2")
    findings = check(probe_of("orin_nano_jp62", l4t="36.3.0", tensorrt="8.6.2"), bundle)
    assert ("warning", "target") in levels(findings)
    assert "problem" not in {finding.level for finding in findings}


def test_a_jetpack_that_is_only_guessed_at_is_no_problem(tmp_path):
    findings = check(probe_of("orin_nano_jp62", l4t="36.2.0"), bundle_for("jetson-orin-nano-super", tmp_path))
    assert found(findings, "jetpack").level == "warning"
    assert ("problem", "target") not in levels(findings)
    assert ("warning", "target") in levels(findings)


def test_bfloat16_wants_a_later_tensorrt_than_jetpack_6_0s(tmp_path):
    bundle = bundle_for("jetson-orin", tmp_path, precision="bfloat16")
    assert ("problem", "target") in levels(check(probe_of("agx_orin_jp62", l4t="36.3.0", tensorrt="8.6.2"), bundle))
    assert ("problem", "target") not in levels(check(probe_of("agx_orin_jp62"), bundle))


def test_keys_and_values_in_8_bits_want_a_later_tensorrt_than_jetpack_6_0s(tmp_path):
    bundle = bundle_for("jetson-orin", tmp_path, kv_cache="int8")
    old = check(probe_of("agx_orin_jp62", l4t="36.3.0", tensorrt="8.6.2"), bundle)
    problem = next(one for one in old if (one.level, one.topic) == ("problem", "target"))
    assert "keys and values are in int8, which TensorRT 8.6.2 does not take" in problem.text
    assert ("problem", "target") not in levels(check(probe_of("agx_orin_jp62"), bundle))


def test_weights_in_few_bits_want_a_later_tensorrt_than_jetpack_6_0s(tmp_path):
    bundle = bundle_for("jetson-orin", tmp_path, weights="int4")
    old = check(probe_of("agx_orin_jp62", l4t="36.3.0", tensorrt="8.6.2"), bundle)
    problem = next(one for one in old if (one.level, one.topic) == ("problem", "target"))
    assert "weights are in int4, which TensorRT 8.6.2 does not read" in problem.text
    assert ("problem", "target") not in levels(check(probe_of("agx_orin_jp62"), bundle))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"tensorrt": None, "system_tensorrt": None}, "not installed"),
        ({"tensorrt": "8.5.2.2"}, "8.5.2.2 is too old: wanted 8.6 or later"),
    ],
)
def test_tensorrt_that_is_missing_or_too_old_is_a_problem(orin_bundle, changes, text):
    tensorrt = found(check(probe_of("agx_orin_jp62", **changes), orin_bundle), "tensorrt")
    assert tensorrt.level == "problem"
    assert text in tensorrt.text
    with pytest.raises(EngineError, match=text):
        check_device(orin_bundle, probe_of("agx_orin_jp62", **changes))


def test_a_tensorrt_that_is_not_jetpacks_is_a_warning(orin_bundle):
    tensorrt = found(check(probe_of("agx_orin_jp62", tensorrt="10.13.3"), orin_bundle), "tensorrt")
    assert tensorrt.level == "warning"
    assert "10.13.3 is not the 10.3.0 that JetPack 6.2 comes with" in tensorrt.text


def test_bindings_for_a_newer_cuda_than_the_drivers_are_a_problem(orin_bundle):
    bindings = found(check(probe_of("agx_orin_jp62", cuda_bindings="13.5.0"), orin_bundle), "cuda-bindings")
    assert bindings.level == "problem"
    assert bindings.advice == 'pip install "cuda-bindings==12.*"'


def test_a_device_without_a_gpu_says_so_first(orin_bundle):
    findings = check(probe_of("no_gpu"), orin_bundle)
    assert ("problem", "gpu") in levels(findings)
    assert "--target cpu" in found(findings, "gpu").advice


# a bundle for rtx


def test_a_laptop_that_is_too_small_for_4b_is_fine_for_a_small_model(tmp_path):
    small = with_engines(bundle_for("rtx", tmp_path, share=0.15, tokens=4096), "1.7.1.116", (86, 89, 120))
    assert levels(check(probe_of("laptop_rtx_4070"), small)) == set()
    large = bundle_for("rtx", tmp_path)
    assert ("problem", "memory") in levels(check(probe_of("laptop_rtx_4070"), large))


def test_another_program_on_the_gpu_is_seen(tmp_path):
    memory = found(check(probe_of("h100"), bundle_for("h100", tmp_path)), "memory")
    assert memory.level == "warning"
    assert "may not fit in what is free" in memory.text
    assert "79.1 GiB, 1.2 GiB free" in memory.text


def test_an_rtx_bundle_does_not_run_on_an_h100(tmp_path):
    target = found(check(probe_of("h100"), bundle_for("rtx", tmp_path)), "target")
    assert target.level == "problem"
    assert "SM 86, 89, 120" in target.text
    assert "--target h100" in target.advice


def test_wheels_of_cuda_13_want_a_driver_that_serves_it(tmp_path):
    probe = probe_of("laptop_rtx_4070", cuda="12.8", driver="570.172.08", cuda_bindings="12.8.0")
    rtx = found(check(probe, bundle_for("rtx", tmp_path)), "tensorrt-rtx")
    assert rtx.level == "problem"
    assert "built for CUDA 13, but driver 570.172.08 serves CUDA up to 12.8" in rtx.text
    assert "580 or later" in rtx.advice
    tensorrt = found(
        check(replace(probe, tensorrt="10.16.1", tensorrt_cuda=13), bundle_for("l4", tmp_path)), "tensorrt"
    )
    assert "pip install tensorrt-cu12" in tensorrt.advice


# a bundle for the cpu, and onnxruntime on a GPU


@pytest.mark.parametrize("device", DEVICES)
def test_a_cpu_bundle_asks_nothing_of_the_gpu(device):
    findings = check(probe_of(device), bundle_for("cpu", share=0.1))
    assert levels(findings) <= {("warning", "memory")}
    assert [finding.topic for finding in findings] == ["device", "onnxruntime", "weights", "memory"]


def test_a_cpu_bundle_without_onnxruntime_is_a_problem():
    findings = check(
        probe_of("no_gpu", onnxruntime=None, onnxruntime_providers=()), bundle_for("cpu", share=0.1, tokens=1024)
    )
    assert levels(findings) == {("problem", "onnxruntime")}


def test_a_cpu_bundle_that_is_larger_than_memory_is_a_problem():
    memory = found(check(probe_of("no_gpu"), bundle_for("cpu")), "memory")
    assert memory.level == "problem"
    assert "weights 16.7 GiB" in memory.text
    assert "main memory: 15.5 GiB" in memory.text


def test_loading_a_cpu_bundle_does_not_look_at_the_device():
    assert check_device(bundle_for("cpu"), None) == ()


def test_onnxruntime_on_a_gpu_wants_the_package_with_cuda():
    bundle = bundle_for("l4", backend="onnxruntime", share=0.5, tokens=1024)
    assert levels(check(probe_of("l4"), bundle)) == set()
    without = found(check(probe_of("l4", onnxruntime_providers=("CPUExecutionProvider",)), bundle), "onnxruntime")
    assert without.level == "problem"
    assert "pip install onnxruntime-gpu" in without.advice


# before a build


def test_a_build_that_cannot_fit_is_found_with_numbers_before_it_starts(tmp_path):
    build = found(check(probe_of("orin_nano_jp62"), bundle_for("jetson-orin-nano", tmp_path)), "build memory")
    assert build.level == "problem"
    assert "22.9 GiB to 30.4 GiB" in build.text
    assert "main memory: 7.4 GiB, 5.4 GiB free, no swap on a disk" in build.text
    assert "fallocate -l 31G" in build.advice


def test_swap_counts_for_a_build(tmp_path):
    probe = probe_of("orin_nano_jp62", free_swap_bytes=32 * GIB)
    assert found(check(probe, bundle_for("jetson-orin-nano", tmp_path)), "build memory").level == "ok"


def test_a_build_that_may_not_fit_is_warned_of(tmp_path):
    probe = probe_of("agx_orin_jp62", free_memory_bytes=25 * GIB)
    warning = found(check(probe, bundle_for("jetson-orin", tmp_path)), "build memory")
    assert warning.level == "warning"
    assert "may not fit" in warning.text


def test_a_full_disk_is_found_before_a_build(tmp_path):
    disk = found(check(probe_of("agx_orin_jp62", free_disk_bytes=GIB), bundle_for("jetson-orin", tmp_path)), "disk")
    assert disk.level == "problem"
    assert "engines take about 11.0 GiB: 1.0 GiB free" in disk.text


def test_what_a_build_takes_does_not_matter_once_engines_are_there(orin_bundle):
    probe = probe_of("agx_orin_jp62", free_memory_bytes=12 * GIB, free_disk_bytes=GIB)
    assert check_device(orin_bundle, probe) == ()


def test_a_refusal_lists_every_problem_with_its_advice(orin_bundle):
    with pytest.raises(EngineError) as caught:
        check_device(orin_bundle, probe_of("agx_orin_jp62", tensorrt="8.5.2", cuda_bindings=None))
    message = str(caught.value)
    assert str(orin_bundle.path) in message
    for part in ("engines: ", "tensorrt: 8.5.2 is too old", "cuda-bindings: not installed", "install JetPack 6 or"):
        assert part in message
    assert f"stts-runtime doctor {orin_bundle.path}" in message


def test_what_cannot_be_told_is_a_warning(tmp_path):
    unknown = {"total_memory_bytes": None, "free_memory_bytes": None, "gpu_memory_bytes": None, "free_disk_bytes": None}
    findings = check(probe_of("l4", **unknown), bundle_for("l4", tmp_path))
    assert levels(findings) == {("warning", topic) for topic in ("engines", "memory", "build memory", "disk")}
    assert found(check(probe_of("l4", **unknown)), "memory").level == "warning"
