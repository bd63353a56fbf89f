import pytest

from stts_export.recipe.target import all_targets
from stts_runtime.device.jetpack import JETPACKS, jetpack_of_l4t, nearest_jetpack


@pytest.mark.parametrize(
    ("l4t", "name"),
    [
        ("36.3.0", "6.0"),
        ("36.4.3", "6.2"),
        ("36.4.4", "6.2.1"),
        ("36.4.7", "6.2.1"),
        ("36.5", "6.2.2"),
        ("36.5.0", "6.2.2"),
        ("38.2", "7.0"),
        ("38.2.1", "7.0"),
        ("38.4.0", "7.1"),
        ("39.2.0", "7.2"),
    ],
)
def test_an_l4t_release_names_its_jetpack(l4t, name):
    assert jetpack_of_l4t(l4t).name == name


@pytest.mark.parametrize(
    ("l4t", "name"),
    [
        ("36.4.0", "6.2"),
        ("36.5.2", "6.2.2"),
        ("39.2.1", "7.2"),
        ("40.1.0", "7.2"),
        ("35.6.2", "6.0"),
        ("38.3.0", "7.0"),
    ],
)
def test_a_release_that_is_not_in_the_table_has_none_but_a_nearest(l4t, name):
    assert jetpack_of_l4t(l4t) is None
    assert nearest_jetpack(l4t).name == name


def test_no_release_belongs_to_two_jetpacks():
    releases = [release for jetpack in JETPACKS for release in jetpack.l4t_releases]
    assert len(set(releases)) == len(releases)


def test_every_jetpack_that_a_target_names_is_in_the_table():
    known = {jetpack.name for jetpack in JETPACKS}
    named = {name for target in all_targets() for name in target.jetpacks}
    assert named <= known


def test_jetpacks_for_a_family_are_those_its_targets_name():
    for target in all_targets():
        for jetpack in JETPACKS:
            if jetpack.name in target.jetpacks:
                assert any(module in target.title for module in jetpack.modules), (target.name, jetpack.name)
