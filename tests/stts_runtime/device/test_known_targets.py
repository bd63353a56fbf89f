from stts_export.recipe.target import all_targets
from stts_runtime.device.known_targets import KNOWN_TARGETS, KnownTarget, targets_for


def names(*arguments):
    return [target.name for target in targets_for(*arguments)]


def test_they_are_the_recipes():
    recipes = {
        KnownTarget(target.name, target.backends[0], target.compute_capabilities, target.memory_gib)
        for target in all_targets()
    }
    assert set(KNOWN_TARGETS) == recipes


def test_the_last_is_the_one_that_fits_anything():
    assert KNOWN_TARGETS[-1].name == "cpu"


def test_a_device_takes_bundles_of_its_sm_that_its_memory_holds():
    assert names(None, None) == ["cpu"]
    assert names(87, 7_989_313_536) == ["jetson-orin-nano", "jetson-orin-nano-super", "cpu"]
    assert names(87, 65_893_662_720)[0] == "jetson-orin"
    assert names(89, 8 << 30) == ["rtx", "cpu"]
    assert names(89, 22 << 30) == ["l4", "rtx", "cpu"]
    assert names(61, 8 << 30) == ["cpu"]


def test_a_product_with_less_memory_than_its_target_takes_the_target_all_the_same():
    assert names(80, 40 << 30) == ["a100", "cpu"]


def test_with_memory_unknown_any_of_its_sm_may_fit():
    assert "jetson-orin" in names(87, None)
