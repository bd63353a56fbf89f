"""Which token ids have a meaning, as the files of a checkpoint say it: the markers, what begins a prompt, what ends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stts_export.checkpoint.json_file import Table, beside, shown
from stts_export.checkpoint.tokenizer import FILE as TOKENIZER_FILE
from stts_export.errors import CheckpointError
from stts_runtime.bundle.manifest import Prompt, Tokens


@dataclass(frozen=True)
class TokenNames:
    """Where the files of a kind of model say which tokens have a meaning, and what they are where no file says it."""

    known: Tokens  # of the released models, for checkpoints that come without tokenizer files
    image_patch: str  # key of config.json, as the next two
    frame_start: str
    frame_end: str
    # what a prompt begins with: the first of these roles in tokenizer_config.json that has a token
    begins: tuple[str, ...] = ()
    begins_with: str | None = None  # or the token of this text, where prompts begin as their template does


MOLMO2 = TokenNames(
    Tokens(bos=151645, stop=(151645, 151643), image_patch=151938, frame_start=151943, frame_end=151944),
    "image_patch_id",
    "frame_start_token_id",
    "frame_end_token_id",
    begins=("bos_token", "eos_token"),
)
OLMO = replace(MOLMO2, known=replace(MOLMO2.known, bos=100257, stop=(100257, 100265)))
QWEN3_VL = TokenNames(
    Tokens(
        bos=151644,
        stop=(151645, 151643),
        image_patch=151656,
        frame_start=151652,
        frame_end=151653,
        texts=("<|video_pad|>", "<|vision_start|>", "<|vision_end|>"),
    ),
    "video_token_id",
    "vision_start_token_id",
    "vision_end_token_id",
    begins_with="<|im_start|>",  # there is no BOS
)


def tokens_from_files(config: Table, names: TokenNames, folder: Path, prompt: Prompt) -> Tokens:
    """Return the ids of the checkpoint in `folder`.

    An answer stops at whatever any file says ends one, and at what closes a turn in the prompt: none of them is rare as
    the only source that knows.

    Args:
        config: its config.json.
        names: of its kind of model.
        folder: where its other files are looked for.
        prompt: what the model is asked with.
    """
    known = names.known
    tokenizer, settings = beside(folder, TOKENIZER_FILE), beside(folder, "tokenizer_config.json")
    bos = [number for role in names.begins for number in _named_ids(settings, role, tokenizer)]
    added = added_tokens(tokenizer)
    bos += [number for text, number in added.items() if text == names.begins_with]
    closing = [text for text in added if text and prompt.turn_end.startswith(text)]
    stop = [number for numbers in stops_said(folder, tokenizer).values() for number in numbers]
    stop += [added[text] for text in sorted(closing, key=len)[-1:]]
    return Tokens(
        bos=bos[0] if bos else known.bos,
        stop=tuple(dict.fromkeys(stop)) or known.stop,
        image_patch=config.whole(names.image_patch, default=known.image_patch),
        frame_start=config.whole(names.frame_start, default=known.frame_start),
        frame_end=config.whole(names.frame_end, default=known.frame_end),
        texts=known.texts,
    )


def stops_said(folder: Path, tokenizer: Table) -> dict[str, tuple[int, ...]]:
    """Return the ids that end an answer, by the file that says so; files that say nothing are left out.

    Args:
        folder: where the files are looked for.
        tokenizer: the tokenizer's file, which knows the ids of tokens that are named.
    """
    config, settings = beside(folder, "config.json"), beside(folder, "tokenizer_config.json")
    said = {
        "generation_config.json": beside(folder, "generation_config.json").ids("eos_token_id"),
        "config.json": (*config.ids("eos_token_id"), *config.table("text_config", default={}).ids("eos_token_id")),
        "tokenizer_config.json": (*_named_ids(settings, "eos_token", tokenizer), *settings.ids("eos_token_id")),
    }
    return {file: tuple(dict.fromkeys(ids)) for file, ids in said.items() if ids}


def stop_notes(folder: Path, stop: tuple[int, ...]) -> tuple[str, ...]:
    """Return what a user should know where the files of a checkpoint do not agree on what ends an answer.

    Args:
        folder: the checkpoint's.
        stop: where answers of the model will end.
    """
    said = stops_said(folder, beside(folder, TOKENIZER_FILE))
    if not said or set(next(iter(said.values()))) == set(stop).union(*said.values()):
        return ()
    sources = ", ".join(f"{file} says {_listed(ids)}" for file, ids in said.items())
    return (f"what ends an answer is not agreed on ({sources}): answers end at token ids {_listed(stop)}",)


def _named_ids(settings: Table, key: str, tokenizer: Table) -> list[int]:
    """Return the ids of a key that holds a token's text or id, or a list of them; unknown texts are left out."""
    value = settings.get(key, default=[])
    vocabulary: Any = tokenizer.table("model", default={}).get("vocab", default={})
    known = {**(vocabulary if isinstance(vocabulary, dict) else {}), **added_tokens(tokenizer)}
    found = []
    for token in value if isinstance(value, list) else [value]:
        said = token.get("content") if isinstance(token, dict) else token
        if type(said) not in (str, int):
            raise CheckpointError(
                f"{settings.where}: key {key} is {shown(value)}; wanted a token's text or id, or a list of them"
            )
        found.append(known.get(said) if isinstance(said, str) else said)
    return [number for number in found if type(number) is int]


def added_tokens(tokenizer: Table) -> dict[str, int]:
    """Return the ids of the tokens that a tokenizer's file adds to its vocabulary, by their text."""
    added = tokenizer.get("added_tokens", default=[])
    try:
        found = {token["content"]: token["id"] for token in added}
    except (TypeError, KeyError) as error:
        raise CheckpointError(f"{tokenizer.where}: key added_tokens is {shown(added)}; wanted tokens") from error
    if not all(isinstance(text, str) and type(number) is int for text, number in found.items()):
        raise CheckpointError(f"{tokenizer.where}: key added_tokens is {shown(added)}; wanted tokens")
    return found


def _listed(ids: tuple[int, ...]) -> str:
    return ", ".join(map(str, ids))
