"""The built pages in a real browser: what a reader sees, light and dark, offline."""

import os
import re
from pathlib import Path

import browser as driver
import pytest

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
PAGES = sorted(p.relative_to(SITE).as_posix() for p in (SITE / "book").rglob("*.html"))
HARMLESS = "Identifier 'THEBE_JS_URL' has already been declared"  # the theme's own
each_page = pytest.mark.parametrize("name", PAGES)
# What stands in the article as text, apart from code.
PROSE = """(() => {
  const copy = document.querySelector('article').cloneNode(true);
  copy.querySelectorAll('pre, code, script, mjx-container').forEach(e => e.remove());
  return copy.textContent;
})()"""
PICTURES = """[...document.querySelectorAll('article img')].map(
  i => [i.alt, i.src.slice(0, 60), i.complete && i.naturalWidth > 0])"""


@pytest.fixture(scope="module")
def site():
    if driver.find_browser() is None:
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail("no Chromium, though REQUIRE_BROWSER is set")
        pytest.skip("no Chromium here: apt-get install chromium")
    if not PAGES:
        pytest.fail("no built pages: run `make site` first")
    with driver.serve(SITE) as root, driver.browser() as page:
        yield root, page


def errors(page) -> list[str]:
    return [line for line in page.console if HARMLESS not in line]


def strangers(page, root: str) -> list[str]:
    """Requests that left this machine."""
    local = (root, "data:", "blob:", "about:", "chrome:")
    return [url for url in page.requests if not url.startswith(local)]


@each_page
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_page_is_quiet_and_asks_nobody(site, name, dark):
    root, page = site
    page.go(f"{root}/{name}", dark=dark)
    assert errors(page) == []
    assert strangers(page, root) == []
    theme = page.js("document.documentElement.dataset.theme")
    assert theme == ("dark" if dark else "light")


@each_page
def test_equations_are_typeset(site, name):
    root, page = site
    page.go(f"{root}/{name}")
    counts = page.js(
        "[...document.querySelectorAll('article .math')]"
        ".map(e => e.querySelectorAll('mjx-container').length)"
    )
    assert all(count >= 1 for count in counts)
    assert page.js("document.querySelectorAll('mjx-merror, .mjx-error').length") == 0
    raw = re.findall(r"\\\(|\\\[|\$\$|\\(?:frac|top|mathbb|lVert)\b", page.js(PROSE))
    assert not raw, f"raw TeX on the page: {raw}"


@each_page
def test_pictures_are_there_and_described(site, name):
    root, page = site
    page.go(f"{root}/{name}")
    for alt, source, drawn in page.js(PICTURES):
        assert len(alt) >= 8, f"no alt text: {source}"
        assert drawn, f"not drawn: {source}"
    # A widget that did not come up leaves an empty place behind.
    wanted = page.js(
        "document.querySelectorAll("
        "'script[type=\"application/vnd.jupyter.widget-view+json\"]').length"
    )
    shown = page.js(
        "[...document.querySelectorAll('article .jupyter-widgets')]"
        ".filter(e => e.offsetHeight > 20).length"
    )
    assert shown >= wanted


def flipbooks(page) -> int:
    return page.js("document.querySelectorAll('article .noUi-handle').length")


SHOWN = """(() => {
  const handle = document.querySelectorAll('article .noUi-handle')[%d];
  const box = handle.closest('.widget-vbox');
  const frames = [...box.querySelectorAll('.v2v-frame')].filter(f => f.offsetHeight);
  return frames.map(f => [f.querySelector('img').alt, f.querySelector('img').src,
                          f.innerText.trim()]);
})()"""


@each_page
def test_every_slider_changes_its_picture(site, name):
    root, page = site
    page.go(f"{root}/{name}")
    for number in range(flipbooks(page)):
        handle = f"document.querySelectorAll('article .noUi-handle')[{number}]"
        (before,) = page.js(SHOWN % number)
        steps = page.js(f"+{handle}.getAttribute('aria-valuenow')")
        page.js(f"{handle}.focus()")
        last = page.js(f"+{handle}.getAttribute('aria-valuemax')") == steps
        page.key("ArrowLeft" if last else "ArrowRight")
        page.wait(f"({SHOWN % number})[0][1] !== {before[1]!r}", seconds=5)
        (after,) = page.js(SHOWN % number)
        for what, one, two in zip(
            ("alt", "picture", "label"), before, after, strict=True
        ):
            assert one != two, f"slider {number} left its {what} as it was"


@pytest.mark.parametrize("name", [n for n in PAGES if re.search(r"/\d\d_", n)])
def test_chapters_have_a_slider_and_hide_their_solutions(site, name):
    root, page = site
    page.go(f"{root}/{name}")
    ranges = page.js("document.querySelectorAll('article input[type=range]').length")
    assert flipbooks(page) + ranges >= 1
    hidden = page.js(
        "[...document.querySelectorAll('article .solution.dropdown')]"
        ".map(e => e.classList.contains('toggle-hidden'))"
    )
    assert len(hidden) >= 3 and all(hidden)
    assert "google.colab" not in page.js(PROSE) + page.js(
        "[...document.querySelectorAll('pre')].map(e => e.innerText).join(' ')"
    )


@pytest.mark.parametrize("name", [n for n in PAGES if "/api/" in n])
def test_the_reference_describes_its_names(site, name):
    root, page = site
    page.go(f"{root}/{name}")
    entries = page.js("document.querySelectorAll('article dl.py > dt[id]').length")
    assert entries or name.endswith("index.html")
    links = page.js("[...document.querySelectorAll('article a')].map(a => a.pathname)")
    assert any(re.search(r"/book/\d\d_", link) for link in links)
    assert "{py:" not in page.js(PROSE) and "{api}" not in page.js(PROSE)


def test_search_finds_a_word(site):
    root, page = site
    page.go(f"{root}/search.html?q=procrustes")
    assert page.wait("document.querySelectorAll('#search-results li a').length > 0")
    links = page.js(
        "[...document.querySelectorAll('#search-results li a')].map(a => a.href)"
    )
    assert any("refresher_linear_algebra" in link for link in links)
    assert errors(page) == [] and strangers(page, root) == []


def test_the_front_door_leads_to_the_book(site):
    root, page = site
    page.go(f"{root}/index.html")
    assert page.wait("location.pathname === '/book/index.html'", seconds=5)


def test_links_between_pages_lead_somewhere(site):
    """Every link of the site to itself, page and place on the page."""
    root, page = site
    ids: dict[str, set] = {}
    links = set()
    for name in PAGES:
        page.go(f"{root}/{name}")
        ids[f"{root}/{name}"] = set(
            page.js("[...document.querySelectorAll('[id]')].map(e => e.id)")
        )
        anchors = "[...document.querySelectorAll('article a[href]')]"
        links |= set(page.js(f"{anchors}.map(a => a.href)"))
    for link in (link for link in links if link.startswith(root)):
        address, _, place = link.partition("#")
        if address in ids:
            assert not place or place in ids[address], f"no such place: {link}"
        else:
            assert (SITE / address.removeprefix(root + "/")).exists(), link
