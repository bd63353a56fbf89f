"""The last of the runs: the runtime, used as an application uses it, from frames or an image to greedy tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stts_runtime.conversation import seen_pieces
from stts_runtime.errors import SttsError
from stts_runtime.language.generation import Decoding
from stts_runtime.language.prompt import (
    Pieces,
    build_first_turn,
    first_turn,
    image_ids,
    made_up_turn,
    vision_flags,
)
from stts_runtime.session import Session
from stts_runtime.verify.compare import compare_rows, failure
from stts_runtime.verify.reference import FRAMES, IMAGE, IMAGE_FEATURES, IMAGE_LOGITS, KEEP, SCORES, Answer, Reference
from stts_runtime.verify.report import FAILED, PASSED, SKIPPED, TIED, CaseResult, Comparison
from stts_runtime.verify.stored import float32_values, stored_values
from stts_runtime.verify.tolerances import Tolerance, engine_tolerance
from stts_runtime.vision.run import Vision


END_TO_END = "end_to_end"
KEEP_SET, FEATURES = "keep set", "features"


def compare_end_to_end(session: Session, reference: Reference) -> CaseResult:
    """Return what the bundle says about the recorded clip, step by step, against what the model says.

    A step that cannot be run fails, and ends the list.
    """
    found: list[Comparison] = []
    prefill = reference.cases("decoder")[0]
    logits = reference.arrays[prefill.key("logits")]
    magnitude = next(value.magnitude for value in prefill.values if value.name == "logits")
    try:
        vision = compare_vision(found, session, reference)
        ids = compare_prompt(found, session, reference, vision)
        compare_answer(found, session, reference.info.answer, logits, magnitude, ids, vision)
    except SttsError as error:
        found.append(failure("running it", str(error)))
    return CaseResult(END_TO_END, "frames to tokens", tuple(found))


def compare_image(session: Session, reference: Reference) -> CaseResult | None:
    """Return the same of the recorded image; None where nothing was asked about one."""
    answer, arrays, manifest = reference.info.image, reference.arrays, session.manifest
    if answer is None:
        return None
    found: list[Comparison] = []
    expected, logits = arrays[IMAGE_FEATURES], arrays[IMAGE_LOGITS]
    try:
        conversation = session.look(arrays[IMAGE])
        vision = conversation.vision
        dtype = manifest.graphs["vision_image"].spec.tensor("features").dtype
        got = float32_values(session.engine("vision_image").memory.to_host(vision.features), dtype)
        magnitude = float(np.abs(expected).max())
        found.append(compare_rows(FEATURES, expected, got, magnitude, through(session, "vision_image")))
        ids = image_prompt(session, seen_pieces(manifest, conversation.clip, vision), answer.question)
        found.append(compare_tokens("prompt ids", answer.token_ids, ids.tolist()))
        compare_answer(found, session, answer, logits, float(np.abs(logits).max()), ids, vision)
    except SttsError as error:
        found.append(failure("running it", str(error)))
    return CaseResult(END_TO_END, "image to tokens", tuple(found))


def image_prompt(session: Session, seen: Pieces, question: str | None) -> NDArray[np.int64]:
    """Return the prompt's token ids; without a question, of a bundle without a tokenizer, the image alone."""
    manifest = session.manifest
    if question is None:
        return image_ids(manifest.tokens, seen)
    return first_turn(session.tokenizer, manifest.prompt, manifest.tokens, seen, question).token_ids


def through(session: Session, part: str) -> Tolerance:
    """Return what values are held to that have gone through all engines up to a part's."""
    tolerance = engine_tolerance(session.manifest.engine, part)
    return replace(tolerance, relative=tolerance.end_to_end)


def compare_vision(found: list[Comparison], session: Session, reference: Reference) -> Vision:
    """Add scores, keep set and features; return what the language model is to read.

    Groups whose recorded scores are tied with the cut may change sides; then features are of other groups and cannot be
    compared, and the model's own are gone on with.
    """
    answer, arrays = reference.info.answer, reference.arrays
    clip = session.read(arrays[FRAMES])
    vision = session.vision(clip, answer.prune_fraction)
    prefill = reference.cases("decoder")[0]
    expected = arrays[prefill.inputs["features"]]
    part = "vision_dense" if vision.scores is None else "vision_encode"
    tolerance = through(session, part)
    dtype = session.manifest.graphs[part].spec.tensor("features").dtype
    if vision.scores is not None:
        scores, keep = arrays[SCORES], arrays[KEEP]
        magnitude = float(np.abs(scores).max())
        found.append(compare_rows(SCORES, scores, vision.scores, magnitude, tolerance))
        found.append(compare_keep(keep, vision.keep, scores, tolerance.tie * magnitude))
        if found[-1].verdict == TIED:
            found.append(Comparison(FEATURES, SKIPPED, message="they are of other groups, since scores are tied"))
            return Vision(stored_values(expected, dtype), keep, vision.scores)
    magnitude = float(np.abs(expected).max())
    got = float32_values(session.engine(part).memory.to_host(vision.features), dtype)
    found.append(compare_rows(FEATURES, expected, got, magnitude, tolerance))
    return vision


def compare_keep(
    expected: NDArray[np.bool_], got: NDArray[np.bool_], scores: NDArray[np.float32], margin: float
) -> Comparison:
    """Return the comparison of the keep set; its overlap is the groups kept by both over those kept by either.

    Args:
        expected: bool [T, G], what the model keeps.
        got: bool [T, G].
        scores: float32 [T, G], the model's.
        margin: a group whose score is no further than this from the cut may be on either side of it.
    """
    overlap = float((expected & got).sum() / max(1, (expected | got).sum()))
    different = expected != got
    count = int(different.sum())
    if count == 0:
        return Comparison(KEEP_SET, PASSED, overlap=overlap)
    later, kept = scores[1:], expected[1:]  # the first frame always stays, whatever its scores
    cut = (float(later[kept].min(initial=np.inf)) + float(later[~kept].max(initial=-np.inf))) / 2
    tied = np.abs(scores - cut) <= margin
    tied[0] = False
    wrong = int((different & ~tied).sum())
    if wrong:
        text = f"{count} groups are kept by only one of the two, {wrong} of them far from the cut"
        return Comparison(KEEP_SET, FAILED, overlap=overlap, message=text)
    text = f"{count} groups differ, tied in the model's scores"
    return Comparison(KEEP_SET, TIED, overlap=overlap, message=text)


def compare_prompt(
    found: list[Comparison], session: Session, reference: Reference, vision: Vision
) -> NDArray[np.int64]:
    """Add the prompt's token ids and return them."""
    manifest, answer = session.manifest, reference.info.answer
    kept = vision.keep.sum(axis=1).tolist()
    if answer.question is None:
        ids = made_up_turn(manifest.prompt, manifest.tokens, manifest.decoder.vocabulary, kept).token_ids
    else:
        _, times = session.read(reference.arrays[FRAMES]).patches(manifest.grid.frames)
        turn = build_first_turn(session.tokenizer, manifest.prompt, manifest.tokens, times, kept, answer.question)
        ids = turn.token_ids
    found.append(compare_tokens("prompt ids", answer.token_ids, ids.tolist()))
    return ids


def compare_tokens(name: str, expected: Sequence[int], got: Sequence[int]) -> Comparison:
    """Return the comparison of a sequence of tokens; its overlap is the share of places that agree."""
    longest = max(len(expected), len(got), 1)
    different = [place for place, pair in enumerate(zip(expected, got, strict=False)) if pair[0] != pair[1]]
    different += range(min(len(expected), len(got)), longest)
    overlap = 1 - len(different) / longest
    if not different:
        return Comparison(name, PASSED, overlap=overlap)
    place = different[0]
    want, have = (tokens[place] if place < len(tokens) else "nothing" for tokens in (expected, got))
    message = f"{len(different)} of {longest} differ, first at {place}: {have}, wanted {want}"
    return Comparison(name, FAILED, overlap=overlap, message=message)


def compare_answer(
    found: list[Comparison],
    session: Session,
    answer: Answer,
    first_logits: NDArray[np.float32],
    magnitude: float,
    ids: NDArray[np.int64],
    vision: Vision,
) -> None:
    """Add the first logits and the greedy tokens.

    Every step reads the model's own token before it, so that each is judged alone; they all agree just where a free
    run does. A token that differs where the model's two likeliest are tied is no fault.
    """
    tolerance, decoding = through(session, "decoder"), Decoding(session.engine("decoder"), session.manifest)
    logits = decoding.read(ids, vision_flags(ids, session.manifest.tokens), vision.features, vision.keep)
    found.append(compare_rows("first logits", first_logits, logits[None], magnitude, tolerance))
    got, ties = [], 0
    for place, (token, gap) in enumerate(zip(answer.greedy, answer.logit_gaps, strict=True)):
        if place > 0:
            logits = decoding.read(np.array(answer.greedy[place - 1 : place]), np.zeros(1, bool))
        if not np.isfinite(logits).all():
            found.append(failure("greedy tokens", f"logits of token {place} are NaN or infinite"))
            return
        likeliest = int(logits.argmax())
        tied = likeliest != token and gap <= tolerance.tie * magnitude
        ties += tied
        got.append(token if tied else likeliest)
    tokens = compare_tokens("greedy tokens", answer.greedy, got)
    if ties:
        note = f"{ties} differ where the model's two likeliest are tied"
        verdict = FAILED if tokens.failed else TIED
        tokens = replace(tokens, verdict=verdict, message="; ".join(filter(None, (tokens.message, note))))
    found.append(tokens)
