"""What is read while Qwen3-VL is calibrated: tokens turned by three axes, and features behind the first blocks."""

import numpy as np
import torch
from reference.qwen3_vl_bundle import config_of, tokenizer_text
from tokenizers import Tokenizer as Library

from stts_export.calibrate.block import run_block
from stts_export.calibrate.material import Material
from stts_export.calibrate.sequences import embedded_sequences
from stts_export.checkpoint.load import load_into
from stts_export.checkpoint.seeded import random_checkpoint
from stts_export.data.records import Question
from stts_export.graph.capture import weightless_model
from stts_export.models.prefix_attention import prefix_attention
from stts_export.models.vision import run_vision
from stts_export.train.example import Example, patches_of
from stts_export.train.forward import Pruning
from stts_runtime.clip.frame_sampling import patch_times
from stts_runtime.language.prompt import build_first_turn
from stts_runtime.language.rope_positions import rope_positions
from stts_runtime.language.tokenizer import Tokenizer


TOKENIZER = Tokenizer(Library.from_str(tokenizer_text()))
QUESTION = Question("a.zip", "What happens?", "nothing")


def test_blocks_run_one_by_one_give_what_the_decoder_gives() -> None:
    config = config_of("cosine")
    checkpoint, model, decoder = random_checkpoint(config, 3), weightless_model(config), config.decoder
    pixels = torch.randint(0, 256, (5, 24, 40, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    clip = Example(pixels, np.arange(5) / 2, (QUESTION,))
    text = tuple(TOKENIZER.encode("What happens?", specials=False))
    pruning = Pruning(0.5, "ragged", soft_bias=False)
    made = embedded_sequences(
        model, checkpoint.tensors, Material((clip,), (text,), "mine"), TOKENIZER, pruning, lambda share: None
    )
    assert [len(one.deep) for one in made] == [3, 0]
    load_into(model, checkpoint)
    with torch.inference_mode():
        behind = made
        for index in range(decoder.layers):
            behind, _ = run_block(model.decoder, index, behind, ())
        result = run_vision(
            model, patches_of([clip], model.grid, torch.device("cpu")), None, 0.5, "ragged", soft_bias=False
        )
        keep = result.keep.numpy()
        times = patch_times(clip.timestamps, 2)
        turn = build_first_turn(TOKENIZER, config.prompt, config.tokens, times, keep.sum(1), QUESTION.prompt)
        answer = [*TOKENIZER.encode(QUESTION.target, specials=False), config.tokens.stop[0]]
        ids = np.array([*turn.token_ids, *answer])
        for sequence, tokens, kept, features in (
            (behind[0], ids, keep, result.features),
            (behind[1], np.array(text), keep[:0], torch.zeros(1, 4 * decoder.width)),
        ):
            places, is_patch = torch.arange(len(tokens)), tokens == config.tokens.image_patch
            turned, _ = rope_positions(tokens, config.tokens, kept, model.grid)
            expected, _ = model.decoder.hidden_states(
                torch.from_numpy(tokens[None]),
                features,
                torch.from_numpy(np.where(is_patch, np.cumsum(is_patch) - 1, 0)),
                places,
                places,
                torch.zeros(len(tokens), dtype=torch.bool),
                model.decoder.empty_cache(),
                prefix_attention,
                torch.from_numpy(turned),
            )
            torch.testing.assert_close(sequence.hidden, expected, rtol=1e-4, atol=1e-4)
