import pytest

from stts_runtime.errors import UsageError
from stts_runtime.hub.name import HubName, hub_name, named_on_hub


@pytest.mark.parametrize(
    ("text", "repository", "revision"),
    [
        ("allenai/Molmo2-4B", "allenai/Molmo2-4B", None),
        ("org/name@v1.0", "org/name", "v1.0"),
        ("org/name@refs/pr/1", "org/name", "refs/pr/1"),
        ("o_r.g/n", "o_r.g/n", None),
    ],
)
def test_one_slash_and_perhaps_a_revision_is_a_hubs_name(text, repository, revision):
    assert hub_name(text) == HubName(repository, revision)
    assert str(hub_name(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        *("nano", "./nano", "../nano", "/abs/path", "~/Molmo2-4B", "a/b/c", "dir/", "/", ""),
        *("build/micro.stts", "dir/recipe.toml", "dir/model.safetensors", "s3://bucket/name"),
    ],
)
def test_what_has_not_that_form_is_a_path(text):
    assert hub_name(text) is None


@pytest.mark.parametrize(
    "text", ["org/na me", "org/name--x", "org/na..me", "org/name.git", "-org/name", f"o/{'x' * 96}"]
)
def test_a_name_that_no_hub_has_is_refused_before_anyone_is_asked(text):
    with pytest.raises(UsageError, match=r"no path that exists, and no name on a hub either: those are ORG/NAME"):
        hub_name(text)


@pytest.mark.parametrize("revision", ["", "../../x", "a b", "-x"])
def test_a_revision_that_cannot_be_is_refused(revision):
    with pytest.raises(UsageError, match="is no revision: wanted a branch, a tag or a commit"):
        hub_name(f"org/name@{revision}")


def test_what_exists_is_a_path_whatever_its_form(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert named_on_hub("org/name") == HubName("org/name")
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert named_on_hub("org/name") is None
    (tmp_path / "org" / "na me").symlink_to("nowhere")
    assert named_on_hub("org/na me") is None
