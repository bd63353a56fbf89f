"""The page at `/`, as a person sees it: in Chromium where it is installed."""

import re
import shutil
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from reference.serving import serving, wait_until

from stts_runtime.serve import page


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
KEY = "a-key-of-some-length"
FOLDER = Path(page.__file__).parent


def test_the_page_needs_no_key_and_allows_nothing_from_elsewhere(served):
    for path, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")):
        answer = httpx.get(served.url + path)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(kind)
        rules = answer.headers["content-security-policy"]
        assert "default-src 'none'" in rules
        assert "unsafe" not in rules
        assert "http" not in rules
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert httpx.get(f"{served.url}/page/index.html").status_code == 404


def test_the_page_names_no_address_and_has_no_script_or_style_in_its_text():
    text = "".join((FOLDER / name).read_text() for name in ("index.html", "page.css", "page.js"))
    assert not re.search(r"https?://", text)
    html = (FOLDER / "index.html").read_text()
    assert not re.search(r"<style|style=|\son\w+=|<script(?![^>]*src=)", html)
    assert set(re.findall(r'<label[^>]* for="([\w-]+)"', html)) <= set(re.findall(r' id="([\w-]+)"', html))
    script = (FOLDER / "page.js").read_text()
    assert set(re.findall(r'at\("([\w-]+)"\)', script)) <= set(re.findall(r' id="([\w-]+)"', html))
    assert "innerHTML" not in script


@contextmanager
def browser(**more):
    """Give a page of a browser, and what went wrong in it."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium is installed")
    fake = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *fake])
        try:
            context = found.new_context(**more)
            tab = context.new_page()
            tab.set_default_timeout(30_000)
            wrong = []
            tab.on("pageerror", lambda error: wrong.append(str(error)))
            tab.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
            yield tab, wrong
        finally:
            found.close()


def wait_for(tab, place, text):
    """Wait until something is to be read somewhere."""
    tab.locator(place).filter(has_text=re.compile(text)).wait_for()


def answered(tab):
    """Wait until an answer has ended, and return it."""
    tab.wait_for_selector("#answer:not(.running)")
    return tab.locator("#answer").inner_text()


@pytest.mark.slow
def test_a_person_asks_about_a_clip_and_sees_what_was_kept(served, clips):
    clip = clips[2]
    expected = {
        prune: served.session.ask(clip.path, clip.questions[0], prune=prune, max_tokens=12).strip()
        for prune in (0.5, 0.75)
    }
    with browser(viewport={"width": 1200, "height": 1000}) as (tab, wrong):
        tab.goto(served.url)
        wait_for(tab, "#model", "^nano")
        tab.set_input_files("#file", clip.path)
        tab.get_by_label("Question about the clip").fill(clip.questions[0])
        tab.keyboard.press("Enter")
        tab.wait_for_selector("#runs tr")
        assert answered(tab).strip() == expected[0.5]
        assert tab.locator("#frames figure").count() == 8
        assert "64 of 128 groups in 8 frames" in tab.locator("#summary").inner_text()
        assert tab.locator("canvas").first.get_attribute("aria-label") == "Frame at 0.0 seconds: 16 of 16 groups kept"
        tab.locator("#prune").focus()
        for _ in range(5):
            tab.keyboard.press("ArrowRight")  # each moves the share, and asks again
        wait_for(tab, "#runs tr:first-child", "^75 %")
        assert answered(tab).strip() == expected[0.75]
        assert "32 of 128" in tab.locator("#runs tr").first.inner_text()
        dimmed = tab.evaluate("document.querySelectorAll('canvas')[3].toDataURL()")
        tab.get_by_label("Show scores").check()
        wait_until(lambda: tab.evaluate("document.querySelectorAll('canvas')[3].toDataURL()") != dimmed)
        assert wrong == []


@pytest.mark.slow
def test_the_page_fits_a_phone_records_its_camera_and_asks_for_a_key(nano_bundle, tmp_path):
    from stts_runtime.serve.keys import read_keys

    (tmp_path / "keys").write_text(f"{KEY}\n")
    with (
        serving(nano_bundle, keys=read_keys(tmp_path / "keys")) as served,
        browser(viewport={"width": 360, "height": 740}, permissions=["camera"], color_scheme="dark") as (tab, wrong),
    ):
        tab.goto(served.url)
        tab.get_by_label("Key of this server").fill("a-wrong-key-of-some-length")
        tab.keyboard.press("Tab")
        assert "wants a key" in tab.locator("#model").inner_text()
        tab.get_by_label("Key of this server").fill(KEY)
        tab.keyboard.press("Tab")
        wait_for(tab, "#model", "^nano")
        tab.get_by_role("button", name="Use the camera").click()
        tab.get_by_role("button", name="Record 4 seconds").click()
        wait_for(tab, "#clip-name", "^camera,")
        tab.get_by_label("Question about the clip").fill("What colour moves?")
        tab.get_by_role("button", name="Ask").click()
        tab.wait_for_selector("#runs tr")
        assert answered(tab)
        assert tab.locator("#frames figure").count() > 1
        width = tab.evaluate("document.documentElement.scrollWidth")
        assert width <= 360
        assert [line for line in wrong if "401" not in line] == []


@pytest.mark.slow
def test_an_error_is_told_where_a_screen_reader_says_it(served, tmp_path):
    (tmp_path / "none.mp4").write_bytes(b"no clip at all")
    with browser() as (tab, _):
        tab.goto(served.url)
        tab.get_by_label("Question about the clip").fill("What?")
        tab.keyboard.press("Enter")
        assert tab.get_by_role("alert").inner_text() == "Choose a clip first."
        tab.set_input_files("#file", tmp_path / "none.mp4")
        wait_for(tab, "#clip-name", "^none.mp4,")
        tab.keyboard.press("Enter")
        wait_for(tab, "#error", "cannot be read")
        assert tab.get_by_role("alert").is_visible()
