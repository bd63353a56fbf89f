from reference.onnx_graphs import block_spec, decoder_spec

from stts_runtime.trt.profiles import profiles_of


def test_a_part_has_one_profile_over_its_dims():
    (profile,) = profiles_of(block_spec())
    assert profile.shapes == {"hidden": ((1, 9, 16), (4, 9, 16), (8, 9, 16))}


def test_the_decoder_prefills_from_an_empty_cache_up_to_all_its_limits():
    profile, _ = profiles_of(decoder_spec())
    assert profile.name == "prefill"
    assert profile.shapes["token_ids"] == ((1, 1), (1, 8), (1, 64))
    assert profile.shapes["feature_rows"] == ((1,), (8,), (64,))
    assert profile.shapes["past_key_0"] == ((1, 1, 0, 16), (1, 1, 32, 16), (1, 1, 64, 16))


def test_the_decoder_decodes_one_token_and_is_not_fixed_at_it_and_is_tuned_for_a_long_cache():
    _, profile = profiles_of(decoder_spec())
    assert profile.name == "decode"
    assert profile.shapes["token_ids"] == ((1, 1), (1, 1), (1, 2))
    assert profile.shapes["features"] == ((1, 16), (1, 16), (1, 16))
    assert profile.shapes["feature_rows"] == ((1,), (1,), (2,))
    assert profile.shapes["past_key_0"] == ((1, 1, 0, 16), (1, 1, 64, 16), (1, 1, 64, 16))
