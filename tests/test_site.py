"""The built pages in a real browser: what a reader sees, light and dark, offline."""

import os
import re
from pathlib import Path

import browser as driver
import pytest

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
PAGES = sorted(p.relative_to(SITE).as_posix() for p in (SITE / "book").rglob("*.html"))
each_page = pytest.mark.parametrize("name", PAGES)
# What stands in the article as text, apart from code.
PROSE = """(() => {
  const copy = document.querySelector('article').cloneNode(true);
  copy.querySelectorAll('pre, code, script, mjx-container').forEach(e => e.remove());
  return copy.textContent;
})()"""
# The pictures that show; those of the front page's cards stand beside their title.
PICTURES = """Promise.all([...document.querySelectorAll('article img')]
  .filter(i => i.offsetHeight && !i.closest('.v2v-chapter'))
  .map(async i => {
    i.loading = 'eager';
    await i.decode().catch(() => null);
    return [i.alt, i.src.slice(-60), i.naturalWidth > 0];
  }))"""
AXE = ROOT / "book" / "vendor" / "tests" / "axe.min.js"
VIOLATIONS = """axe.run(document, {resultTypes: ['violations'], preload: false})
  .then(r => r.violations
  .filter(v => ['serious', 'critical'].includes(v.impact))
  .map(v => v.id + ': ' + v.nodes.map(n => n.target.join(' ')).slice(0, 3)))"""


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
    return list(page.console)


def strangers(page, root: str) -> list[str]:
    """Requests that left this machine."""
    local = (root, "data:", "blob:", "about:", "chrome:")
    return [url for url in page.requests if not url.startswith(local)]


@each_page
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_page_is_quiet_asks_nobody_and_shuts_nobody_out(site, name, dark):
    root, page = site
    page.go(f"{root}/{name}", dark=dark)
    assert errors(page) == []
    assert strangers(page, root) == []
    theme = page.js("document.documentElement.dataset.theme")
    assert theme == ("dark" if dark else "light")
    page.js(AXE.read_text(encoding="utf-8"))
    assert page.js(VIOLATIONS) == []


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


# ---- flip-books


SHOWN = """(() => {
  const book = document.querySelectorAll('article .v2v-book')[%d];
  const input = book.querySelector('input');
  const [frame, ...more] = [...book.querySelectorAll('.v2v-frame')]
    .filter(f => f.offsetHeight);
  const img = [...frame.querySelectorAll('img')]
    .find(i => getComputedStyle(i).display !== 'none');
  return {alt: img.alt, picture: img.src, label: frame.dataset.label, more: more.length,
          said: input.getAttribute('aria-valuetext'), name: input.labels[0].innerText,
          below: book.querySelector('.v2v-label').innerText,
          value: +input.value, max: +input.max};
})()"""


def flipbooks(page) -> int:
    return page.js("document.querySelectorAll('article .v2v-book').length")


@each_page
def test_every_slider_changes_its_picture(site, name):
    root, page = site
    page.go(f"{root}/{name}")
    for number in range(flipbooks(page)):
        book = f"document.querySelectorAll('article .v2v-book')[{number}]"
        before = page.js(SHOWN % number)
        page.js(f"{book}.querySelector('input').focus()")
        last = before["value"] == before["max"]
        page.key("ArrowLeft" if last else "ArrowRight")
        after = page.js(SHOWN % number)
        for what in ("alt", "picture", "label", "said"):
            assert before[what] != after[what], f"slider {number} left its {what}"
        assert after["name"] and after["said"] == after["label"] == after["below"]
        assert after["more"] == 0, "one frame at a time"
        page.js(f"{book}.querySelector('[data-by=\"{1 if last else -1}\"]').click()")
        assert page.js(SHOWN % number)["picture"] == before["picture"]


def test_a_flipbook_plays_and_stops(site):
    root, page = site
    page.go(f"{root}/book/06_anchors.html")
    before = page.js(SHOWN % 0)["value"]
    play = "document.querySelector('article .v2v-book .v2v-play')"
    page.js(f"{play}.click()")
    assert page.wait(f"({SHOWN % 0}).value >= {before + 2}", seconds=10)
    page.js(f"{play}.click()")
    assert page.js(f"{play}.getAttribute('aria-pressed')") == "false"


def test_figures_have_captions_and_numbers_that_are_linked(site):
    root, page = site
    page.go(f"{root}/book/06_anchors.html")
    figures = page.js(
        "[...document.querySelectorAll('figure.v2v-figure')].map(f => [f.id,"
        " f.querySelector('figcaption').textContent.trim()])"
    )
    assert len(figures) >= 6 and all(len(caption) > 20 for _, caption in figures)
    for place, caption in (f for f in figures if f[0]):
        number = place.removeprefix("fig-").replace("-", ".")
        assert caption.startswith(f"Figure {number}")
    ids = [place for place, _ in figures if place]
    assert len(ids) >= 6 and len(ids) == len(set(ids))


def test_a_figure_can_be_enlarged_by_key(site):
    root, page = site
    page.go(f"{root}/book/06_anchors.html")
    page.js("document.querySelector('.v2v-zoom').focus()")
    page.key("Enter")
    assert page.js("document.querySelector('dialog.v2v-large')?.open") is True
    page.key("Escape")
    assert page.wait("!document.querySelector('dialog.v2v-large')", seconds=5)


@pytest.mark.parametrize("kind", ["#equation-", "bibliography.html#", "glossary.html#"])
def test_a_link_shows_what_it_leads_to(site, kind):
    root, page = site
    page.go(f"{root}/book/06_anchors.html")
    page.tab.locator(f"article a.internal[href*='{kind}']:visible").first.hover()
    assert page.wait("document.querySelector('.v2v-shown')?.innerText.length > 10")
    if kind == "#equation-":
        assert page.js("document.querySelectorAll('.v2v-shown mjx-container').length")
    page.key("Escape")
    assert page.js("document.querySelector('.v2v-preview')") is None


# ---- room


@each_page
def test_nothing_is_wider_than_its_box(site, name):
    """On a phone no page scrolls sideways; on a desk no printed text is cut."""
    root, page = site
    cut = (
        "[...document.querySelectorAll('.cell_output pre')]"
        ".filter(e => e.scrollWidth > e.clientWidth + 1)"
        ".map(e => e.textContent.slice(0, 60))"
    )
    page.go(f"{root}/{name}")
    assert page.js(cut) == []
    page.tab.set_viewport_size({"width": 390, "height": 844})
    try:
        assert page.wait("document.documentElement.scrollWidth <= 390", seconds=3)
    finally:
        page.tab.set_viewport_size({"width": 1200, "height": 900})


CHAPTERS = [n for n in PAGES if re.search(r"/\d\d_", n)]


@pytest.mark.parametrize("name", CHAPTERS)
def test_what_is_printed_breaks_over_pages(site, name):
    root, page = site
    page.go(f"{root}/{name}")
    page.tab.emulate_media(media="print")
    try:
        stiff = page.js(
            "[...document.querySelectorAll('article *')].filter(e => "
            "e.offsetHeight > 600 && e.tagName !== 'FIGURE' && "
            "getComputedStyle(e).breakInside.startsWith('avoid')).map(e => e.className)"
        )
        assert stiff == []
        shown = (
            "[...document.querySelectorAll('.toggle-button')].some(e=>e.offsetHeight)"
        )
        assert not page.js(shown)
    finally:
        page.tab.emulate_media(media="screen")


def test_paper_is_white_and_has_every_figure(site):
    root, page = site
    page.go(f"{root}/{next(n for n in CHAPTERS if '/08_' in n)}", dark=True)
    theme = "document.documentElement.dataset.theme"
    before = page.js(theme)
    page.js("dispatchEvent(new Event('beforeprint'))")
    assert page.js(theme) == "light"
    shown = "[...document.querySelectorAll('.v2v-figure img.only-light')]"
    assert page.wait(f"{shown}.filter(i => i.offsetHeight).every(i => i.naturalWidth)")
    page.js("dispatchEvent(new Event('afterprint'))")
    assert page.js(theme) == before


# Of the height, and in screens of 900 pixels.
SHARES = """(() => {
  const article = document.querySelector('article');
  const high = e => e.getBoundingClientRect().height;
  const shown = [...article.querySelectorAll('div.cell_input')]
    .filter(e => !e.closest('details:not([open])'));
  const code = shown.map(high).reduce((a, b) => a + b, 0);
  const first = [...article.querySelectorAll('.v2v-figure')].find(f => high(f) > 20);
  return [code / high(article), (first.getBoundingClientRect().top + scrollY) / 900];
})()"""


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_is_no_wall_of_code(site, name):
    root, page = site
    page.go(f"{root}/{name}")
    code, screens = page.js(SHARES)
    assert code <= 0.30
    assert screens <= 2.0


# ---- the head, and links that would be dead


@each_page
def test_head_says_what_the_page_is_about(name):
    text = (SITE / name).read_text(encoding="utf-8")
    for key in ('name="description"', 'property="og:title"', 'property="og:image"'):
        (content,) = re.findall(rf'<meta {key} content="([^"]*)"', text)
        assert len(content) > 5
    assert len(re.findall(r'<meta name="viewport"', text)) == 1
    assert not re.search(r"sphinx-thebe|x-thebe|THEBE|fontawesome", text)


@each_page
def test_what_is_seen_first_waits_for_no_script(name):
    text = (SITE / name).read_text(encoding="utf-8")
    waits = re.findall(r'<script(?![^>]*defer)[^>]* src="([^"?]*)', text)
    assert [path.rpartition("/")[2] for path in waits] == ["documentation_options.js"]
    assert 'rel="preload" as="script"' not in text


@each_page
def test_no_link_leads_to_the_placeholder(name):
    text = (SITE / name).read_text(encoding="utf-8")
    assert not re.findall(r'href="[^"]*/OWNER/[^"]*"', text)


def test_the_site_has_its_small_things():
    for name in ("_static/card.png", "_static/favicon-32.png", "404.html"):
        assert (SITE / name).stat().st_size > 300
    data = (SITE / "_static" / "previewdata.js").read_text(encoding="utf-8")
    for kind in ("equation-eq-06-qap", "term-hub", "Jha"):
        assert kind in data


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapters_have_a_slider_and_hide_their_solutions(site, name):
    root, page = site
    page.go(f"{root}/{name}")
    assert page.js("document.querySelectorAll('article input[type=range]').length") >= 1
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
