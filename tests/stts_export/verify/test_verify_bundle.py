"""A toy bundle, exported once, against its model: whole, and with one thing wrong at a time."""

import shutil
from dataclasses import asdict, replace

import numpy as np
import onnx_ir as ir
import pytest
from reference.toy_bundle import KINDS, toy_checkpoint, toy_config

from stts_export.bundle.write import write_manifest
from stts_export.cli import main as compiler
from stts_export.recipe.config import ScorerConfig
from stts_export.verify.record import model_of, record_bundle, record_reference
from stts_export.verify.report import check_report
from stts_export.verify.verify_bundle import verify_bundle
from stts_runtime.bundle.manifest import Pruning
from stts_runtime.bundle.open import Bundle, open_bundle
from stts_runtime.cli import main as runtime
from stts_runtime.errors import UsageError, VerificationError
from stts_runtime.verify.reference import KEEP, SCORES, Reference, reference_of, write_reference
from stts_runtime.verify.report import SKIPPED, TIED


pytestmark = pytest.mark.slow

CONFIG = toy_config(*KINDS["ffd"][:2])
DENSE_CONFIG = replace(CONFIG, scorer=ScorerConfig("none", soft_bias=False))


@pytest.fixture(scope="module")
def exported(toy_bundle):
    """A pruned toy bundle without a reference."""
    return open_bundle(toy_bundle("ffd"))


@pytest.fixture(scope="module")
def reference(exported):
    return record_reference(CONFIG, toy_checkpoint(CONFIG), exported.manifest, exported.file("tokenizer.json"))


@pytest.fixture
def bundle(exported, tmp_path):
    """A copy that a test may damage."""
    return open_bundle(shutil.copytree(exported.path, tmp_path / "toy.stts"))


def weight_in_file(bundle, part, name):
    """The bytes of a weight where the graph says they are, as float32 that can be written to."""
    weights = ir.load(bundle.file(bundle.manifest.graphs[part].file)).graph.initializers
    weight = (weights.get(name) or weights[f"{name}.T"]).const_value
    file = bundle.file(weight.location)
    return np.memmap(file, "<f4", "r+", weight.offset, (weight.length // 4,))


def comparisons_of(report, part):
    """Those of a part's runs; of the ends, those about the clip."""
    runs = [result for result in report.results if result.part == part and result.case != "image to tokens"]
    return {one.name: one for result in runs for one in result.comparisons}


def test_a_pruned_bundle_agrees_with_its_model_graph_by_graph_and_end_to_end(bundle, reference):
    write_reference(bundle.path, reference)
    write_manifest(bundle.path, bundle.manifest)
    stored = open_bundle(bundle.path)
    report = verify_bundle(stored, reference_of(stored))
    assert report.ok, report.verdict
    check_report(report)
    parts = list(dict.fromkeys(result.part for result in report.results))
    assert parts == ["vision_score", "vision_encode", "vision_dense", "vision_image", "decoder", "end_to_end"]
    score_runs = [result.case for result in report.results if result.part == "vision_score"]
    assert score_runs == ["frames 0 to 2", "frames 3 to 5"]
    for part, graph in bundle.manifest.graphs.items():
        assert set(graph.spec.taps) <= set(comparisons_of(report, part))
    end = comparisons_of(report, "end_to_end")
    assert list(end) == ["scores", "keep set", "features", "prompt ids", "first logits", "greedy tokens"]
    assert end["keep set"].overlap == end["prompt ids"].overlap == end["greedy tokens"].overlap == 1.0
    assert max(one.relative_error or 0 for result in report.results for one in result.comparisons) < 1e-5


def test_a_dense_bundle_agrees_with_its_model(bundle):
    graphs = {name: bundle.manifest.graphs[name] for name in ("vision_dense", "vision_image", "decoder")}
    pruning = Pruning(0.0, "none", soft_bias=False, packing="none")
    manifest = replace(bundle.manifest, graphs=graphs, pruning=pruning, model=asdict(DENSE_CONFIG), tokenizer=None)
    dense = Bundle(bundle.path, manifest)
    reference = record_bundle(dense, model_of(dense), toy_checkpoint(DENSE_CONFIG))
    report = verify_bundle(dense, reference)
    assert report.ok, report.verdict
    parts = ["vision_dense"] * 2 + ["vision_image"] + ["decoder"] * 2 + ["end_to_end"] * 2
    assert [result.part for result in report.results] == parts
    assert "keep set" not in comparisons_of(report, "end_to_end")
    assert any("no tokenizer" in note for note in report.notes)


@pytest.mark.parametrize(
    ("part", "block", "weight"),
    [
        ("vision_score", "vision_tower.blocks.0", "attention.value.weight"),
        ("vision_score", "vision_tower.blocks.1", "mlp.down.weight"),
        ("vision_encode", "vision_tower.blocks.2", "attention_norm.weight"),
        ("vision_encode", "vision_tower.blocks.3", "mlp.up.weight"),
        ("decoder", "decoder.blocks.0", "attention.output.weight"),
        ("decoder", "decoder.blocks.1", "mlp.down.weight"),
    ],
)
def test_one_wrong_weight_in_one_block_is_reported_at_that_block(bundle, reference, part, block, weight):
    weight_in_file(bundle, part, f"{block}.{weight}")[17] += 1.0
    report = verify_bundle(bundle, reference)
    assert not report.ok
    result, departure = report.first_departure
    assert (result.part, departure.name) == (part, block)
    with pytest.raises(VerificationError, match=rf"{part} departs from the model at {block} .*error"):
        check_report(report)


def test_a_wrong_weight_does_not_show_up_in_graphs_that_do_not_read_it(bundle, reference):
    weight_in_file(bundle, "decoder", "decoder.blocks.1.mlp.gate.weight")[:] *= 1.5
    report = verify_bundle(bundle, reference)
    failing = {result.part for result in report.results if not result.ok}
    assert failing == {"decoder", "end_to_end"}


def test_a_wrong_scorer_is_reported_at_the_scores(bundle, reference):
    weight_in_file(bundle, "vision_score", "scorer.mlp.third.weight")[:] *= 2
    report = verify_bundle(bundle, reference)
    result, departure = report.first_departure
    assert (result.part, departure.name) == ("vision_score", "scores")
    assert comparisons_of(report, "end_to_end")["scores"].failed


def test_a_nan_is_a_failure_though_no_comparison_with_it_is_true(bundle, reference):
    weight_in_file(bundle, "vision_score", "vision_tower.blocks.0.mlp.up.weight")[3] = np.nan
    report = verify_bundle(bundle, reference)
    result, departure = report.first_departure
    assert (result.part, departure.name) == ("vision_score", "vision_tower.blocks.0")
    assert "NaN" in departure.message
    assert "not finite" in comparisons_of(report, "end_to_end")["running it"].message


def test_a_tap_that_the_graph_does_not_have_is_a_failure(bundle, reference):
    file = bundle.file("decoder.onnx")
    model = ir.load(file)
    next(value for node in model.graph for value in node.outputs if value.name == "decoder.blocks.0").name = "renamed"
    ir.save(model, file)
    report = verify_bundle(bundle, reference)
    result, departure = report.first_departure
    assert (result.part, departure.name) == ("decoder", "decoder.blocks.0")
    assert "no value of this name" in departure.message


def test_a_graph_that_cannot_be_opened_fails_and_the_others_are_still_compared(bundle, reference):
    bundle.file("vision_encode.onnx").write_bytes(b"not a graph")
    report = verify_bundle(bundle, reference)
    result, departure = report.first_departure
    assert (result.part, departure.name) == ("vision_encode", "vision_encode.onnx")
    whole = ["vision_score"] * 2 + ["vision_dense", "vision_image"] + ["decoder"] * 2
    assert [result.part for result in report.results if result.ok] == [*whole, "end_to_end"]
    assert report.results[-1].case == "image to tokens"  # which needs no graph of a clip's


def test_a_bundle_without_a_reference_says_how_to_verify_it(bundle):
    with pytest.raises(VerificationError, match=r"--no-verify.*--checkpoint DIRECTORY"):
        reference_of(bundle)


def test_a_reference_of_another_bundle_is_refused(bundle, reference):
    without = replace(reference.info, cases=reference.cases("decoder"))
    with pytest.raises(VerificationError, match="recorded for another bundle"):
        verify_bundle(bundle, Reference(without, reference.arrays))


def test_a_precision_without_tolerances_is_refused(bundle, reference):
    engine = replace(bundle.manifest.engine, precision="int3")
    with pytest.raises(UsageError, match=r"int3.*known: float32"):
        verify_bundle(Bundle(bundle.path, replace(bundle.manifest, engine=engine)), reference)


def with_other_group_kept(reference):
    """The reference, as if of two groups in one frame the other one had been kept."""
    keep = reference.arrays[KEEP].copy()
    frame = next(frame for frame in range(1, len(keep)) if 0 < keep[frame].sum() < keep.shape[1])
    kept, dropped = np.flatnonzero(keep[frame])[0], np.flatnonzero(~keep[frame])[0]
    keep[frame, [kept, dropped]] = False, True
    return Reference(reference.info, {**reference.arrays, KEEP: keep})


def test_another_keep_set_is_a_failure(bundle, reference):
    report = verify_bundle(bundle, with_other_group_kept(reference))
    result, departure = report.first_departure
    assert (result.part, departure.name) == ("end_to_end", "keep set")
    assert 0.9 < departure.overlap < 1.0


def test_features_of_a_keep_set_that_is_tied_are_skipped_and_never_called_equal(bundle, reference):
    changed = with_other_group_kept(reference)
    scores = np.zeros_like(reference.arrays[SCORES])  # all tied, in a reference that is read no further
    report = verify_bundle(bundle, Reference(changed.info, {**changed.arrays, SCORES: scores}))
    end = comparisons_of(report, "end_to_end")
    assert (end["keep set"].verdict, end["features"].verdict) == (TIED, SKIPPED)
    assert end["features"].cosine is None
    assert "prompt ids" in end


def test_a_wrong_number_of_threads_is_wrong_use_as_in_the_runtime(bundle, reference, monkeypatch, capsys):
    write_reference(bundle.path, reference)
    write_manifest(bundle.path, bundle.manifest)
    monkeypatch.setenv("STTS_THREADS", "abc")
    for main in (compiler, runtime):
        assert main(["verify", str(bundle.path)]) == 2
        assert "error: STTS_THREADS is 'abc', wanted a number of threads" in capsys.readouterr().err


def test_another_greedy_token_is_a_failure_unless_the_models_own_logits_are_tied(bundle, reference):
    answer = reference.info.answer
    greedy = (*answer.greedy[:-1], (answer.greedy[-1] + 1) % CONFIG.decoder.vocabulary)

    def with_last_gap(gap):
        changed = replace(answer, greedy=greedy, logit_gaps=(*answer.logit_gaps[:-1], gap))
        return Reference(replace(reference.info, answer=changed), reference.arrays)

    report = verify_bundle(bundle, with_last_gap(answer.logit_gaps[-1]))
    result, departure = report.first_departure
    assert (result.part, departure.name) == ("end_to_end", "greedy tokens")
    assert f"first at 11: {answer.greedy[-1]}, wanted {greedy[-1]}" in departure.message
    report = verify_bundle(bundle, with_last_gap(0.0))
    assert report.ok, report.verdict
    tokens = comparisons_of(report, "end_to_end")["greedy tokens"]
    assert tokens.verdict == TIED
    assert "1 differ" in tokens.message
