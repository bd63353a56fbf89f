"""What is given to users: the wheels, and the files that images are made of."""

import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import tomllib

from stts_runtime.device.jetpack import JETPACKS


ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import release_check  # noqa: E402


NAMES = list(release_check.FOLDERS)
PROJECTS = {
    name: tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    for name, folder in release_check.FOLDERS.items()
}
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """Both packages as wheels, built with what is installed."""
    folder = tmp_path_factory.mktemp("wheels")
    for source in release_check.FOLDERS.values():
        release_check.run(
            sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source
        )  # fmt: skip
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_wheel_holds_every_file_of_its_package_its_licence_and_nothing_else(wheels, name):
    release_check.check_wheel(release_check.one_of(wheels, name, ".whl"), name)


def test_the_recipes_and_the_weights_of_nano_are_in_the_compilers_wheel(wheels):
    with zipfile.ZipFile(release_check.one_of(wheels, "stts-export", ".whl")) as wheel:
        names = set(wheel.namelist())
    for file in ("models/nano.toml", "data/nano.toml", "targets/cpu.toml", "weights/nano/trained-01-of-01.safetensors"):
        assert f"stts_export/recipes/{file}" in names


def test_the_compiler_wants_the_runtime_of_its_release(wheels):
    release_check.check_pin(wheels)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda name: None if name.endswith("py.typed") else name, "py.typed is missing"),
        (lambda name: None if name.endswith("/LICENSE") else name, "LICENSE is missing"),
        (lambda name: None if name.endswith("/errors.py") else name, "errors.py is missing"),
    ],
)
def test_a_wheel_that_lacks_a_file_is_refused(wheels, tmp_path, spoil, said):
    whole = release_check.one_of(wheels, "stts-runtime", ".whl")
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(tmp_path / whole.name, "w") as new:
        for name in old.namelist():
            if spoil(name):
                new.writestr(spoil(name), old.read(name))
    with pytest.raises(release_check.ReleaseError, match=said):
        release_check.check_wheel(tmp_path / whole.name, "stts-runtime")


def test_a_wheel_with_a_file_too_many_is_refused(wheels, tmp_path):
    whole = release_check.one_of(wheels, "stts-runtime", ".whl")
    spoilt = shutil.copy(whole, tmp_path)
    with zipfile.ZipFile(spoilt, "a") as wheel:
        wheel.writestr("tests/test_it.py", "")
    with pytest.raises(release_check.ReleaseError, match=r"tests/test_it\.py should not be there"):
        release_check.check_wheel(Path(spoilt), "stts-runtime")


def test_both_packages_carry_the_same_licence_and_version():
    licences = {(folder / "LICENSE").read_text() for folder in release_check.FOLDERS.values()}
    assert len(licences) == 1
    assert len({project["version"] for project in PROJECTS.values()}) == 1


@pytest.mark.parametrize("name", NAMES)
def test_every_extra_for_users_is_in_the_table_of_the_page(name):
    page = (ROOT / "docs/install.md").read_text()
    table = page.partition(f"| extra of `{name}` |")[2].partition("\n\n")[0]
    rows = set(re.findall(r"^\| `([\w-]+)` \|", table, re.M))
    assert rows == set(PROJECTS[name]["optional-dependencies"]) - {"dev"}


def test_an_image_is_made_for_each_kind_of_device():
    assert [file.stem for file in DOCKERFILES] == ["gpu", "jetpack"]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.stem)
def test_an_image_has_pinned_bases_and_runs_as_nobody_special(dockerfile):
    text = dockerfile.read_text()
    bases = re.findall(r"^FROM (\S+)", text, re.M)
    assert len(bases) == 2
    assert all(re.search(r":\w*\d+\.\d+", base) for base in bases)
    (user,) = re.findall(r"^USER (\d+)$", text, re.M)
    assert int(user) >= 1000
    (extras,) = re.findall(r'"\.\[([\w,-]+)\]"', text)
    assert set(extras.split(",")) <= set(PROJECTS["stts-runtime"]["optional-dependencies"])


def test_the_image_for_jetsons_has_the_python_and_cuda_of_a_jetpack():
    text = (ROOT / "docker/jetpack.Dockerfile").read_text()
    (release,) = re.findall(r"l4t-jetpack:r([\d.]+)\.\d+$", text, re.M)
    (jetpack, *_) = [one for one in JETPACKS if any(known.startswith(release) for known in one.l4t_releases)]
    assert f"FROM python:{jetpack.python}." in text
    assert f"tensorrt-cu{jetpack.cuda.partition('.')[0]}," in text


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.stem)
def test_the_linter_of_dockerfiles_has_nothing_to_say(dockerfile):
    if platform.machine() != "x86_64":
        pytest.skip("hadolint has wheels for x86-64 alone")
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, dockerfile], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")
