"""A small tokenizer trained here, of the Qwen kind: byte-level BPE behind Qwen's splitting expression, special tokens
behind the vocabulary. Nothing of it is ours but the prompts, which say what Molmo2's own processor writes.
"""

from functools import cache

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from stts_runtime.bundle.manifest import Prompt, Tokens


QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIALS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|video|>",
    "<|image|>",
    "<im_start>",
    "<im_end>",
    "<im_patch>",
    "<im_col>",
    "<low_res_im_start>",
    "<im_low>",
    "<frame_start>",
    "<frame_end>",
)
TEXT = (
    "user\nassistant\nsystem\nWhat happens in the video? How many bikes pass by, and where do they go?\n\n"
    "Describe the scene at 0.0 0.5 1.0 1.5 2.0 12.5 seconds.  It's a street; they've stopped.\n"
    "na\u00efve caf\u00e9 \u2026\n"
    "<im_patch> is written as text here, and so is <frame_start>.\n"
)
# The two places a video can stand in: before the first role header, as Molmo2 has it, and within the user's turn.
MOLMO2_PROMPT = Prompt(
    system="{video}",
    user="<|im_start|>user\n{content}<|im_end|>\n",
    assistant="<|im_start|>assistant\n",
    turn_end="<|im_end|>\n",
)
CHAT_PROMPT = Prompt(
    system="<|im_start|>system\nYou are helpful.<|im_end|>\n",
    user="<|im_start|>user\n{content}<|im_end|>\n",
    assistant="<|im_start|>assistant\n",
    turn_end="<|im_end|>\n",
)


@cache
def trained_tokenizer() -> str:
    """A tokenizer file's content."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([TEXT] * 4, trainer)
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in SPECIALS])
    return tokenizer.to_str()


def special_tokens() -> Tokens:
    """The trained tokenizer's ids."""
    number = Tokenizer.from_str(trained_tokenizer()).token_to_id
    return Tokens(
        bos=number("<|im_end|>"),
        stop=(number("<|im_end|>"),),
        image_patch=number("<im_patch>"),
        frame_start=number("<frame_start>"),
        frame_end=number("<frame_end>"),
        image_start=number("<im_start>"),
        low_res_image_start=number("<low_res_im_start>"),
        image_column=number("<im_col>"),
        image_end=number("<im_end>"),
    )
