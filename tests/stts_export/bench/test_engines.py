import sys
from dataclasses import replace

import pytest
import torch
from reference.molmo2_sizes import DECODERS
from reference.qwen3_vl_sizes import model_config as qwen3_vl_config
from reference.toy_bundle import toy_checkpoint, toy_config, toy_frames
from reference.toy_manifest import model_manifest

from stts_export.bench.eager import eager_subjects
from stts_export.bench.torch_subject import Task, torch_threads
from stts_export.bench.transformers_config import is_llama
from stts_export.bench.transformers_dense import transformers_subject
from stts_runtime.bundle.manifest import Pruning
from stts_runtime.clip.video import clip_from_frames
from stts_runtime.errors import UsageError
from stts_runtime.timings import Timings


def task_of(config, answer_tokens, memory=False):
    pruning = Pruning(0.5, config.scorer.kind, config.scorer.soft_bias, "ffd")
    return Task(model_manifest(config, pruning=pruning), answer_tokens, memory)


def clip_of(config, frames):
    return clip_from_frames(toy_frames(frames), config.frame_sampling, size=config.grid.image_size)


@pytest.mark.parametrize("kind", ["qwen3", "olmo3", "llama", "qwen3-vl", "qwen3-vl, tied"])
def test_transformers_and_eager_torch_answer_alike_when_dense(kind):
    config = toy_config(kind) if "vl" not in kind else qwen3_vl_config()
    if "tied" in kind:
        config = replace(config, decoder=replace(config.decoder, tied_embedding=True))
    checkpoint, task, clip = toy_checkpoint(config), task_of(config, 5), clip_of(config, 3)
    (eager,) = eager_subjects(config, checkpoint, [0.0], task)
    transformers = transformers_subject(config, checkpoint, task)
    timings = [Timings(), Timings()]
    answers = [subject.answer(clip, timings) for subject, timings in zip((eager, transformers), timings, strict=True)]
    assert answers[0] == answers[1]
    assert len(answers[0]) == 6
    assert len(set(answers[0])) > 1
    assert timings[0].tokens == timings[1].tokens


def test_a_pruned_pass_has_the_same_stages_and_fewer_tokens():
    config = toy_config()
    subjects = eager_subjects(config, toy_checkpoint(config), [0.0, 0.5], task_of(config, 2))
    found = []
    for subject in subjects:
        found.append(Timings())
        subject.answer(clip_of(config, 4), found[-1])
    dense, pruned = found
    assert list(dense.milliseconds) == list(pruned.milliseconds) == ["preprocessing", "vision", "prefill", "decode"]
    assert (dense.tokens["kept_groups"], pruned.tokens["kept_groups"]) == (36, 18)
    assert dense.tokens["prompt_tokens"] - pruned.tokens["prompt_tokens"] == 18


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps a peak that can be set back")
def test_warming_up_weighs_where_asked():
    config = toy_config()
    found = []
    for memory in (True, False):
        (subject,) = eager_subjects(config, toy_checkpoint(config), [0.0], task_of(config, 1, memory))
        found.append(subject.warm_up(clip_of(config, 2)))
    assert {"preprocessing", "vision", "prefill", "decode"} == set(found[0].stages)
    assert found[1] is None


def test_torch_gets_its_threads_back():
    before = torch.get_num_threads()
    with torch_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_a_decoder_that_transformers_does_not_know_is_refused():
    with pytest.raises(UsageError, match="no such decoder"):
        is_llama(replace(DECODERS["llama"], block_norm="post"))
    assert is_llama(DECODERS["llama"])
    assert not is_llama(DECODERS["olmo3"])
