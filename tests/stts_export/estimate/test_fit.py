"""What cannot fit is refused with numbers, and what is proposed does fit."""

import re
from dataclasses import replace

import pytest
from reference.scenario import scenario

from stts_export.errors import FitError
from stts_export.estimate.estimate import check_fit, estimate
from stts_export.estimate.fit import fit_of


def test_what_fits_has_no_problems():
    found = fit_of(scenario())
    assert found.fits
    assert (found.problems, found.warnings, found.proposals) == ((), (), ())
    check_fit(estimate(scenario()))


def test_the_8b_model_on_the_8_gb_module_is_refused_with_numbers_and_ways_out():
    asked = scenario("molmo2-8b", "jetson-orin-nano", frames=32)
    with pytest.raises(FitError) as caught:
        check_fit(estimate(asked))
    message = str(caught.value)
    assert "molmo2-8b in float16 does not fit jetson-orin-nano at 32 frames" in message
    assert re.search(r"running takes 18\.\d GiB \(weights 16\.2 GiB, cache \d+ MiB.* has 6\.5 GiB for it", message)
    assert "--weights change nothing: the weights alone are" in message
    assert "GiB in int4. Take a smaller model" in message
    assert "--target jetson-orin" in message
    assert caught.value.exit_code == 1
    assert "building the largest engine takes 46.2 GiB to 61.4 GiB (3 to 4 times its weights, and 400 MiB)" in message
    assert "has 6.5 GiB for it, and as much again in swap" in message
    (head,) = fit_of(asked).warnings
    assert "the output head is one matrix of 1.2 GiB that must lie in one piece" in head
    assert "a head split into slices is not built here" in head


def test_what_a_build_takes_is_the_hosts_memory_where_a_card_has_its_own():
    found = fit_of(scenario("molmo2-8b", "l4", frames=32))
    assert found.fits
    (note,) = found.warnings
    assert note.startswith("the host that builds needs main memory or swap: the largest engine takes 46.2 GiB")


def test_a_jetson_is_proposed_larger_jetsons_before_cards():
    found = fit_of(scenario(target="jetson-orin-nx", frames=16))
    assert "another target: --target jetson-orin-32 (or jetson-orin, jetson-thor, l4)" in found.proposals


def options_of(proposal):
    return {name.replace("-", "_"): value for name, value in re.findall(r"--([a-z-]+) ([\w.-]+)", proposal)}


def changed(asked, proposal):
    options = options_of(proposal)
    whole = {name: options[name] for name in ("weights", "kv_cache") if name in options}
    whole |= {name: int(options[name]) for name in ("frames", "chunk_frames") if name in options}
    if "prune" in options:
        whole["prune_fraction"] = float(options["prune"])
    if "precision" in options:
        whole["precision"] = options["precision"]
    if "target" in options:
        return replace(asked, target=scenario(target=options["target"]).target)
    return replace(asked, max_tokens=None, **whole)


@pytest.mark.parametrize(
    ("options", "helps"),
    [
        # float32 halves to what fits
        ({"target": "l4", "model": "molmo2-8b", "precision": "float32", "frames": 32}, {"precision", "target"}),
        # a cache for a long dense clip beside 16 GB of weights
        (
            {"target": "rtx", "model": "molmo2-8b", "frames": 384, "prune": 0.0},
            {"weights", "frames", "prune", "target"},
        ),
        # unchunked vision: the chunk alone sets the need
        ({"target": "rtx", "frames": 256, "chunk_frames": 256}, {"chunk_frames", "frames", "prune", "target"}),
    ],
    ids=["precision", "length", "chunks"],
)
def test_every_proposal_fits(options, helps):
    asked = scenario(**options)
    if asked.target.memory_gib is None:
        asked = replace(asked, target=replace(asked.target, memory_gib=24.0 if "model" in options else 15.0))
    found = fit_of(asked)
    assert not found.fits
    assert {name for proposal in found.proposals for name in options_of(proposal)} <= helps | {"precision", "weights"}
    assert set(options_of(found.proposals[0])) & helps
    for proposal in found.proposals:
        assert fit_of(changed(asked, proposal)).fits, proposal


def test_the_4b_model_in_4_bits_runs_on_the_8_gb_module_and_is_built_with_swap():
    found = fit_of(scenario(target="jetson-orin-nano-super", frames=16, weights="int4"))
    assert found.fits
    build = found.warnings[0]
    low, high, there, swap = map(float, re.findall(r"([\d.]+) GiB", build))
    assert there < low < high < there + swap < high + 1
    assert "`stts-runtime doctor BUNDLE` says how" in build
    assert "--weights int4" in fit_of(scenario(target="jetson-orin-nano-super", frames=16)).proposals[0]


def test_a_build_that_may_want_swap_is_a_warning():
    orin = scenario(target="jetson-orin-32")
    found = fit_of(replace(orin, target=replace(orin.target, memory_gib=28.0)))
    assert found.fits
    assert found.warnings[0].startswith("building may take 22.9 GiB to 30.4 GiB")
    assert "where 26.5 GiB are there: have 4 GiB of swap on a disk" in found.warnings[0]


def test_a_target_of_unknown_memory_is_not_refused_but_said():
    found = fit_of(scenario(target="rtx"))
    assert found.fits
    assert "whether this fits is not known" in found.warnings[0]
