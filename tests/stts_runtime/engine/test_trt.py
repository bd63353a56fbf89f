"""TensorRT engines on a played GPU: nothing here ran on a real one. What is bound, copied, checked and given back."""

import gc
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from reference.fake_gpu import fake_gpu
from reference.fake_trt_runtime import FUNCTIONS, VERSIONS
from reference.toy_manifest import TOY_MANIFEST

from stts_runtime.bundle.spec import Dim, GraphSpec, TensorSpec
from stts_runtime.engine import open_engine
from stts_runtime.engine.device_memory import ALIGNMENT
from stts_runtime.errors import EngineError, LimitError, UsageError


SPEC = GraphSpec(
    "decoder",
    (
        TensorSpec("ids", "int64", (1, "S")),
        TensorSpec("half", "bfloat16", ("P", 4)),
        TensorSpec("flags", "bool", ("S",)),
    ),
    (TensorSpec("sums", "float32", (1, "S")), TensorSpec("copy", "bfloat16", ("P", 4))),
    (Dim("S", 1, 8, 64, "--max-tokens"), Dim("P", 0, 8, 64, "--max-tokens")),
    step=(Dim("S", 1, 1, 2), Dim("P", 0, 64, 64)),
)
WIDE, NARROW = {"S": (1, 64), "P": (0, 64)}, {"S": (1, 1), "P": (0, 64)}


def summed(inputs):
    """What the engine does: adds to each id how many flags are set, and hands bfloat16 bits through."""
    return {"sums": (inputs["ids"] + inputs["flags"].sum()).astype(np.float32), "copy": inputs["half"]}


FUNCTIONS["summed"] = summed


def float16_spec():
    """8.6 has no bfloat16."""
    tensors = [replace(t, dtype=t.dtype.replace("bfloat16", "float16")) for t in (*SPEC.inputs, *SPEC.outputs)]
    return replace(SPEC, inputs=tuple(tensors[:3]), outputs=tuple(tensors[3:]))


@pytest.fixture(params=VERSIONS)
def gpu(request, monkeypatch):
    return fake_gpu(monkeypatch, request.param)


@pytest.fixture
def one(monkeypatch):
    return fake_gpu(monkeypatch)


def opened(gpu, folder, **how):
    spec = how.pop("spec", float16_spec() if gpu.version.startswith("8") else SPEC)
    how.setdefault("profiles", [WIDE, NARROW])
    return open_engine(gpu.bundle_of(spec, "summed", folder / "bundle", TOY_MANIFEST, **how), "decoder")


def arrays_for(tokens, past, seed=0, half="uint16"):
    rng = np.random.default_rng(seed)
    inputs = {
        "ids": rng.integers(0, 2**20, (1, tokens)),
        "half": rng.integers(0, 2**10, (past, 4)).astype(half),
        "flags": rng.integers(0, 2, tokens).astype(bool),
    }
    return inputs, {"sums": np.empty((1, tokens), np.float32), "copy": np.empty((past, 4), half)}


def run_and_check(engine, tokens, past, seed=0, half="uint16"):
    inputs, outputs = arrays_for(tokens, past, seed, half)
    engine.run(inputs, outputs)
    for name, wanted in summed(inputs).items():
        np.testing.assert_array_equal(outputs[name], wanted, err_msg=name)


def left_over(gpu):
    gc.collect()
    return gpu.cuda.left()


def test_every_version_runs_with_any_shape_that_a_profile_holds(gpu, tmp_path):
    engine = opened(gpu, tmp_path)
    half = "float16" if gpu.version.startswith("8") else "uint16"
    for seed, (tokens, past) in enumerate([(5, 0), (1, 8), (1, 8), (1, 8), (64, 64), (2, 3)]):
        run_and_check(engine, tokens, past, seed, half)
    contexts = [weakref.ref(context) for context in gpu.tensorrt.made]
    gpu.tensorrt.made.clear()
    engine.close()
    engine.close()
    assert left_over(gpu) == {}
    assert [context() for context in contexts] == [None, None], "TensorRT's own memory is held by a closed engine"


def test_every_profile_has_one_context_and_one_allocation_made_when_the_engine_opens(gpu, tmp_path):
    engine = opened(gpu, tmp_path, scratch=5000 * 256)
    sizes = [size for size in gpu.cuda.allocations if size >= 5000 * 256]
    # 8.6 only says what the hungriest profile needs
    assert sizes == [10000 * 256] * 2 if gpu.version.startswith("8") else [5000 * 256, 10000 * 256]
    half = "float16" if gpu.version.startswith("8") else "uint16"
    for past in (0, 8, 64):
        run_and_check(engine, 1, past, half=half)
        run_and_check(engine, 9, past, half=half)
    assert [size for size in gpu.cuda.allocations if size >= 5000 * 256] == sizes
    assert [context.profile for context in gpu.tensorrt.made] == [0, 1]
    engine.close()


def test_a_prefill_that_waits_for_another_threads_step_is_not_taken_for_a_step(one, tmp_path):
    engine = opened(one, tmp_path)
    with ThreadPoolExecutor(2) as pool:
        for _ in range(4):
            with engine.memory.lock:
                prefill = pool.submit(run_and_check, engine, 9, 8)
                time.sleep(0.05)
                step = pool.submit(run_and_check, engine, 1, 8)
                time.sleep(0.05)
            prefill.result()
            step.result()
    assert one.tensorrt.made[0].runs == 4, "a prefill was recorded and replayed"
    engine.close()


def test_decoding_runs_in_the_narrow_profile_and_prefill_in_the_wide_one(one, tmp_path):
    engine = opened(one, tmp_path)
    run_and_check(engine, 1, 8)
    assert [context.runs for context in one.tensorrt.made] == [0, 1]
    run_and_check(engine, 2, 8)
    assert [context.runs for context in one.tensorrt.made] == [1, 1]
    engine.close()


def test_arrays_on_the_device_are_bound_as_they_are_and_nothing_waits_or_comes_back(one, tmp_path):
    engine = opened(one, tmp_path)
    inputs, outputs = arrays_for(3, 8)
    there = engine.memory.empty((8, 4), "bfloat16")
    engine.run(inputs, {**outputs, "copy": there})
    came = one.cuda.copied("to host")
    assert came == outputs["sums"].nbytes
    copied = [engine.memory.empty((8, 4), "bfloat16") for _ in range(2)]
    engine.run({**inputs, "half": there}, {**outputs, "copy": copied[0]})
    engine.memory.zero(there)  # after the run in stream order, however late that is done
    engine.run({**inputs, "half": copied[0]}, {**outputs, "copy": copied[1]})
    assert one.cuda.copied("to host") == 3 * came
    assert one.cuda.copied("within") == 0
    np.testing.assert_array_equal(engine.memory.to_host(copied[1]), inputs["half"])
    assert not engine.memory.to_host(there).any()
    engine.close()


def test_rows_that_lie_where_tensorrt_takes_no_address_go_through_a_buffer(one, tmp_path):
    engine = opened(one, tmp_path)
    inputs, outputs = arrays_for(3, 5)
    whole = engine.memory.empty((16, 4), "bfloat16")
    engine.memory.zero(whole)
    rows = whole[3:8]
    assert rows.pointer % ALIGNMENT
    engine.run(inputs, {**outputs, "copy": rows})
    engine.run({**inputs, "half": rows}, outputs)
    np.testing.assert_array_equal(outputs["copy"], inputs["half"])
    values = engine.memory.to_host(whole)
    np.testing.assert_array_equal(values[3:8], inputs["half"])
    assert not values[:3].any()
    assert not values[8:].any()
    engine.close()


def test_inputs_need_not_be_contiguous_and_may_change_as_soon_as_run_returns(one, tmp_path):
    engine = opened(one, tmp_path)
    inputs, outputs = arrays_for(6, 8)
    expected = summed(inputs)
    there = engine.memory.empty((8, 4), "bfloat16")
    inputs["half"] = np.asfortranarray(inputs["half"])
    engine.run(inputs, {"sums": engine.memory.empty((1, 6), "float32"), "copy": there})
    inputs["half"][:] = 0  # nothing was waited for: what the engine reads must be its own copy
    engine.run(inputs, {"sums": outputs["sums"], "copy": engine.memory.empty((8, 4), "bfloat16")})
    np.testing.assert_array_equal(engine.memory.to_host(there), expected["copy"])
    engine.close()


def test_decoding_is_recorded_once_and_replayed_until_shapes_or_addresses_change(one, tmp_path):
    engine = opened(one, tmp_path)
    caches = [engine.memory.empty((8, 4), "bfloat16") for _ in range(2)]
    sums = np.empty((1, 1), np.float32)

    def step(number, cache, past=8):
        engine.run(
            {"ids": np.array([[number]]), "half": cache[:past], "flags": np.array([True])},
            {"sums": sums, "copy": caches[1][:past]},
        )
        assert sums[0, 0] == number + 1  # the ids of this step, not those that were recorded

    for number in range(10):
        step(number, caches[0])
    assert (one.cuda.captures, one.cuda.launches) == (1, 9)
    assert one.tensorrt.made[1].runs == 2, "the first as it is, the second recorded"
    grown = engine.memory.empty((16, 4), "bfloat16")
    for number in range(4):
        step(number, grown)  # another address
    assert (one.cuda.captures, one.cuda.launches) == (2, 12)
    for number in range(4):
        step(number, grown, past=7)  # another shape
    assert (one.cuda.captures, one.cuda.launches) == (3, 15)
    engine.close()
    assert left_over(one) == {}


def test_prefill_is_not_recorded(one, tmp_path):
    engine = opened(one, tmp_path)
    for _ in range(4):
        run_and_check(engine, 5, 8)
    assert one.cuda.captures == 0
    engine.close()


def test_a_recording_is_dropped_when_its_context_runs_with_other_shapes(one, tmp_path):
    engine = opened(one, tmp_path, profiles=[WIDE])
    for seed in range(3):
        run_and_check(engine, 1, 8, seed)
    run_and_check(engine, 5, 8)
    assert one.cuda.captures == 1
    for seed in range(3):
        run_and_check(engine, 1, 8, seed)
    assert one.cuda.captures == 2
    engine.close()
    assert left_over(one) == {}


def test_where_nothing_can_be_recorded_it_is_said_once_and_decoding_goes_on(one, tmp_path):
    one.tensorrt.refuses_capture = True
    engine = opened(one, tmp_path)
    run_and_check(engine, 1, 8, 0)
    with pytest.warns(RuntimeWarning, match=r"cannot be recorded.*not permitted when stream is capturing.*STTS_CUDA_G"):
        run_and_check(engine, 1, 8, 1)
    for seed in range(3):
        run_and_check(engine, 1, 8, seed)  # a second warning would be an error
    assert (one.cuda.captures, one.cuda.launches) == (0, 0)
    engine.close()
    assert left_over(one) == {}


def test_recording_can_be_switched_off(one, tmp_path, monkeypatch):
    monkeypatch.setenv("STTS_CUDA_GRAPH", "0")
    engine = opened(one, tmp_path)
    for seed in range(4):
        run_and_check(engine, 1, 8, seed)
    assert one.cuda.captures == 0
    engine.close()


def test_a_setting_that_is_none_is_refused_before_anything_is_opened(one, tmp_path, monkeypatch):
    monkeypatch.setenv("STTS_CUDA_GRAPH", "yes")
    with pytest.raises(UsageError, match="STTS_CUDA_GRAPH is 'yes', wanted 1"):
        opened(one, tmp_path)
    assert left_over(one) == {}


@pytest.mark.parametrize(("setting", "strategies"), [("1", [0, 1]), ("0", [0, 0])])
def test_rtx_records_decoding_itself_and_we_do_not(monkeypatch, tmp_path, setting, strategies):
    monkeypatch.setenv("STTS_CUDA_GRAPH", setting)
    gpu = fake_gpu(monkeypatch, "1.7.1.116")
    engine = opened(gpu, tmp_path)
    for seed in range(4):
        run_and_check(engine, 1, 8, seed)
    assert gpu.cuda.captures == 0
    assert [context.graphs for context in gpu.tensorrt.made] == strategies
    engine.close()


def test_a_gpu_without_memory_pools_is_served_too(monkeypatch, tmp_path):
    gpu = fake_gpu(monkeypatch, pools=False)
    engine = opened(gpu, tmp_path)
    for seed, tokens in enumerate((5, 1, 1, 1, 60)):
        run_and_check(engine, tokens, 8, seed)
    engine.close()
    assert left_over(gpu) == {}


@pytest.mark.parametrize(
    ("tokens", "past", "message"),
    [
        (65, 8, r"S is 65, the engine was built for 1 to 64: use fewer frames.*larger --max-tokens"),
        (5, 100, r"P is 100, the engine was built for 0 to 64.*--max-tokens"),
    ],
)
def test_a_shape_that_no_profile_holds_is_named_with_its_limit_and_what_to_do(one, tmp_path, tokens, past, message):
    engine = opened(one, tmp_path)
    with pytest.raises(LimitError, match=message):
        run_and_check(engine, tokens, past)
    run_and_check(engine, 3, 8)  # nothing was lost
    engine.close()


def test_a_limit_that_the_model_decides_names_no_option(one, tmp_path):
    engine = opened(one, tmp_path, spec=replace(SPEC, dims=(Dim("S", 1, 8, 64), Dim("P", 0, 8, 64))))
    with pytest.raises(LimitError, match=r"built for 1 to 64: use fewer frames or prune more$"):
        run_and_check(engine, 65, 8)
    engine.close()


def test_a_run_just_beyond_a_step_is_not_recorded(one, tmp_path):
    engine = opened(one, tmp_path)
    for _ in range(4):
        run_and_check(engine, 3, 8)
    assert one.cuda.captures == 0
    engine.close()


def test_a_combination_that_no_profile_holds_is_explained(one, tmp_path):
    engine = opened(one, tmp_path, profiles=[{"S": (2, 64), "P": (0, 7)}, {"S": (1, 1), "P": (0, 64)}])
    with pytest.raises(LimitError, match=r"no profile of the engine holds \{'S': 5, 'P': 8\}.*stts-runtime build"):
        run_and_check(engine, 5, 8)
    engine.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i, o: i.pop("flags"), "'flags' is missing"),
        (lambda i, o: i.update(ids=i["ids"].astype(np.int32)), r"'ids': wanted int64 \[1, 'S'\].*got int32 \[1, 5\]"),
        (lambda i, o: i.update(flags=i["flags"][:4]), r"'flags'.*other tensors have \{'S': 5\}; got bool \[4\]"),
        (lambda i, o: i.update(ids=i["ids"][0]), r"'ids'.*got int64 \[5\]"),
        (lambda i, o: o.update(copy=o["copy"][:7]), r"'copy'.*\{'P': 8\}; got uint16 \[7, 4\]"),
        (lambda i, o: o["sums"].setflags(write=False), "'sums': the output array is read-only"),
        (lambda i, o: i.update(half=i["half"].tolist()), "'half': got list"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_before_the_device_sees_them(one, tmp_path, change, message):
    engine = opened(one, tmp_path)
    inputs, outputs = arrays_for(5, 8)
    change(inputs, outputs)
    with pytest.raises(EngineError, match=message):
        engine.run(inputs, outputs)
    assert one.cuda.copies == []
    engine.close()


def changed(spec, name, **entries):
    """The tensors of an engine of which one is not as it should be."""
    tensors = {
        tensor.name: {"mode": mode, "dtype": tensor.dtype, "shape": tensor.shape, "location": "DEVICE"}
        for mode, group in (("INPUT", spec.inputs), ("OUTPUT", spec.outputs))
        for tensor in group
    }
    tensors[name] = {**tensors.get(name, {}), **entries}
    return {"tensors": tensors}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (changed(SPEC, "half", dtype="float32"), "has 'half' as float32, the graph has bfloat16"),
        (changed(SPEC, "ids", dtype="int32"), "has 'ids' as int32, the graph has int64"),
        (changed(SPEC, "half", shape=("P", 8)), r"has 'half' with shape \[-1, 8\], the graph has \['P', 4\]"),
        (changed(SPEC, "copy", shape=("P",)), r"has 'copy' with shape \[-1\]"),
        (changed(SPEC, "flags", location="HOST"), "wants 'flags' on the host"),
        (
            changed(SPEC, "gate", mode="INPUT", dtype="float32", shape=(1,), location="DEVICE"),
            r"has tensors that the graph has not \(\['gate'\]\)",
        ),
        ({"profiles": [{"S": (1, 32), "P": (0, 64)}]}, r"serves S in \[\(1, 32\)\], the bundle wants 1 to 64"),
    ],
)
def test_an_engine_that_is_not_the_graphs_is_refused_when_it_opens(one, tmp_path, changes, message):
    with pytest.raises(EngineError, match=message + r".*not built from this bundle's graph.*stts-runtime build"):
        opened(one, tmp_path, changes=changes)
    assert left_over(one) == {}


def test_an_output_that_the_engine_lacks_is_named(one, tmp_path):
    changes = changed(SPEC, "copy")
    del changes["tensors"]["copy"]
    with pytest.raises(EngineError, match=r"lacks outputs \(\['copy'\]\)"):
        opened(one, tmp_path, changes=changes)


def test_an_input_that_tensorrt_dropped_is_not_fed(one, tmp_path):
    FUNCTIONS["without flags"] = lambda inputs: {"sums": inputs["ids"] + 0.0, "copy": inputs["half"]}
    changes = {**changed(SPEC, "flags"), "run": "function:without flags"}
    del changes["tensors"]["flags"]
    engine = opened(one, tmp_path, changes=changes)
    inputs, outputs = arrays_for(5, 8)
    engine.run(inputs, outputs)
    np.testing.assert_array_equal(outputs["sums"], inputs["ids"])
    engine.close()


def test_an_output_whose_size_is_not_what_there_is_room_for_is_refused_before_it_is_written(one, tmp_path):
    spec = replace(SPEC, outputs=(SPEC.outputs[0], TensorSpec("copy", "bfloat16", ("K", 4))), dims=(*SPEC.dims, KEPT))
    engine = opened(one, tmp_path, spec=spec, changes={"gives": {"K": (9, "")}})
    with pytest.raises(EngineError, match=r"'copy': the engine gives \[9, 4\], there is room for \[8, 4\]"):
        run_and_check(engine, 5, 8)
    assert one.tensorrt.made[0].runs == 0
    engine.close()


KEPT = Dim("K", 1, 8, 64)


def test_an_engine_file_that_cannot_be_read_is_refused_with_what_tensorrt_says(one, tmp_path):
    bundle = one.bundle_of(SPEC, "summed", tmp_path / "bundle", TOY_MANIFEST)
    file = next((bundle.path / "engines").glob("*/decoder.engine"))
    file.write_bytes(b"x" * file.stat().st_size)
    with pytest.raises(EngineError, match=r"TensorRT 10.3.0 refuses .*decoder.engine: .*magicTag differs.*build"):
        open_engine(bundle, "decoder")
    assert left_over(one) == {}


def test_engines_of_another_sm_version_or_none_are_refused_with_the_command_to_run(monkeypatch, tmp_path):
    built = fake_gpu(monkeypatch, capability=87)
    bundle = built.bundle_of(SPEC, "summed", tmp_path / "bundle", TOY_MANIFEST)
    other = fake_gpu(monkeypatch, capability=89)
    with pytest.raises(EngineError, match=r"is for SM 87, this GPU is SM 89.*stts-runtime build"):
        open_engine(bundle, "decoder")
    assert left_over(other) == {}
    fake_gpu(monkeypatch, "11.4.1", capability=87)
    with pytest.raises(EngineError, match=r"built with 10.3.0, another major version than the installed 11.4.1"):
        open_engine(bundle, "decoder")


def test_memory_that_is_missing_is_counted_and_what_was_had_is_given_back(monkeypatch, tmp_path):
    gpu = fake_gpu(monkeypatch, total=64 << 20)
    with pytest.raises(EngineError, match=r"no room for 80 MiB more: 24 MiB of 64 MiB are free.*cudaErrorMemoryAlloca"):
        opened(gpu, tmp_path, scratch=40 << 20)
    assert left_over(gpu) == {}


def test_a_fault_on_the_gpu_is_named_and_closing_still_works(one, tmp_path):
    engine = opened(one, tmp_path)
    one.cuda.fault = one.cuda.cudaError_t.cudaErrorIllegalAddress
    with pytest.raises(EngineError, match=r"cudaErrorIllegalAddress \(an illegal memory access"):
        run_and_check(engine, 5, 8)
    with pytest.raises(EngineError, match="cudaErrorIllegalAddress"):
        engine.close()
    engine.close()
    with pytest.raises(EngineError, match="was closed"):
        run_and_check(engine, 5, 8)


def test_arrays_of_another_session_are_refused(one, tmp_path):
    engines = [opened(one, tmp_path / name) for name in ("a", "b") if not (tmp_path / name).mkdir()]
    inputs, outputs = arrays_for(5, 8)
    with pytest.raises(EngineError, match="'copy': an array of another session"):
        engines[0].run(inputs, {**outputs, "copy": engines[1].memory.empty((8, 4), "bfloat16")})
    for engine in engines:
        engine.close()
    assert left_over(one) == {}


def test_a_closed_engine_says_so(one, tmp_path):
    engine = opened(one, tmp_path)
    engine.close()
    with pytest.raises(EngineError, match="'decoder' was closed"):
        run_and_check(engine, 5, 8)
