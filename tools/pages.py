"""A Sphinx extension that makes a site of the pages: head, numbers, links, icons.

- Equations, exercises and theorems are numbered by chapter: (6.2), not (57).
- Each page has a description and a preview card; the site has a page for what is not
  found and, once its address is known, a map for search engines.
- While the repository's address in ``_config.yml`` is the placeholder, no button and no
  link is drawn that would lead nowhere (``make stamp ADDRESS=...`` brings them).
- What the pages do not use is left out: the scripts of sphinx-thebe, and Font Awesome
  but for the few icons in use, which become one small style sheet.
- Terms, citations and equations are written once more into ``previews.js``, which the
  pages show beside a link (``book/web/previews.js`` asks for it).
- The bibliography is labelled as the text cites, and links each paper once.
"""

from __future__ import annotations

import base64
import html
import io
import json
import logging
import re
from pathlib import Path

from docutils import nodes

PLACEHOLDER = "github.com/OWNER/"
CHAPTER = re.compile(r"/(\d\d)_")
TITLE = "Translating Embeddings"
ABOUT = (
    "A textbook that runs: how the vectors of an unknown encoder are translated into "
    "the space of a known one without a single pair, and what that means for privacy."
)
# What the style sheet calls them.
ICONS = {"solid": "Font Awesome 6 Free", "brands": "Font Awesome 6 Brands"}


def placeholder(app) -> bool:
    return PLACEHOLDER in app.config.html_theme_options.get("repository_url", "OWNER/")


def home(app) -> str | None:
    """The published pages' address, as GitHub Pages makes it of the repository's."""
    found = re.match(
        r"https://github\.com/([\w.-]+)/([\w.-]+)",
        app.config.html_theme_options.get("repository_url", ""),
    )
    if placeholder(app) or not found:
        return None
    return f"https://{found[1].lower()}.github.io/{found[2]}/"


# ---- numbers


def by_chapter(app, env) -> list:
    """Number equations, exercises and theorems anew in every chapter."""
    for docname, kinds in env.toc_fignumbers.items():
        found = CHAPTER.search(docname)
        chapter = (int(found[1]),) if found else ()
        for places in kinds.values():
            for count, place in enumerate(places, start=1):
                places[place] = (*chapter, count)
    return []


# ---- the head


def description(doctree) -> str:
    """The page's first paragraph of prose, cut after a word."""
    for paragraph in doctree.findall(nodes.paragraph):
        text = " ".join(paragraph.astext().split())
        if len(text) > 60 and isinstance(paragraph.parent, nodes.section):
            return text if len(text) <= 200 else text[:197].rsplit(" ", 1)[0] + " …"
    return ABOUT


def head(app, pagename, templatename, context, doctree) -> None:
    """Description, preview card, and only the scripts and buttons that are of use."""
    about = (
        description(doctree) if doctree and not pagename.endswith("index") else ABOUT
    )
    title = re.sub(r"<[^>]*>", "", context.get("title", "")) or TITLE
    root = home(app) or "../" * pagename.count("/")
    meta = {
        'name="description"': about,
        'property="og:title"': html.unescape(title),
        'property="og:description"': about,
        'property="og:type"': "website" if pagename.endswith("index") else "article",
        'property="og:site_name"': TITLE,
        'property="og:image"': f"{root}_static/card.png",
        'property="og:image:alt"': "Green circles on orange squares: two spaces in one",
        'name="twitter:card"': "summary_large_image",
    }
    tags = [f'<meta {key} content="{html.escape(v)}">' for key, v in meta.items()]
    if home(app):
        tags.append(f'<link rel="canonical" href="{home(app)}{pagename}.html">')
    up = "../" * pagename.count("/")
    tags.append(f'<link rel="icon" sizes="32x32" href="{up}_static/favicon-32.png">')
    tags.append(f'<link rel="apple-touch-icon" href="{up}_static/touch-180.png">')
    context["metatags"] = context.get("metatags", "") + "\n".join(["", *tags, ""])
    for files in ("script_files", "css_files"):
        context[files] = [f for f in context.get(files, []) if not _thebe(f)]
    if placeholder(app):
        context["header_buttons"] = [
            button
            for button in context.get("header_buttons", [])
            if not str(button.get("label", "")).startswith(("launch", "source", "repo"))
        ]


def _thebe(file) -> bool:
    text = str(getattr(file, "filename", file)) + str(getattr(file, "attributes", ""))
    return "thebe" in text.lower()


def living_links(app, doctree, docname: str) -> None:
    """No link to the placeholder: its text stays, or its paragraph goes with it."""
    if not placeholder(app):
        return
    for link in list(doctree.findall(nodes.reference)):
        if "/OWNER/" in link.get("refuri", ""):
            parent = link.parent
            if parent.astext().strip() == link.astext().strip():
                parent.parent.remove(parent)
            else:
                parent.replace(link, [nodes.Text(link.astext())])


# ---- icons


def icons(static: Path, used: str) -> str:
    """A style sheet with the icons that the pages use, their fonts inside it."""
    from fontTools import subset
    from fontTools.ttLib import TTFont

    logging.getLogger("fontTools").setLevel(logging.WARNING)
    folder = next(static.glob("vendor/fontawesome/*"))
    rules = (folder / "css" / "all.min.css").read_text(encoding="utf-8")
    codes = {}
    for names, code in re.findall(r'([^{}]*):before\{content:"\\([0-9a-f]+)"\}', rules):
        for name in re.findall(r"\.(fa-[a-z0-9-]+)", names):
            if re.search(rf"{name}\b(?!-)", used):
                codes[name] = int(code, 16)
    private = {ord(c) for c in used if 0xE000 <= ord(c) <= 0xF8FF}
    private |= {int(code, 16) for code in re.findall(r"\\(f[0-9a-f]{3})\b", used)}
    sheet = [
        ':root{--fa-font-solid:normal 900 1em/1 "Font Awesome 6 Free";'
        '--fa-font-regular:normal 900 1em/1 "Font Awesome 6 Free";'
        '--fa-font-brands:normal 400 1em/1 "Font Awesome 6 Brands"}',
        '.fa,.fas,.fa-solid,.fab,.fa-brands{font-family:"Font Awesome 6 Free";'
        "font-weight:900;display:inline-block;font-style:normal;line-height:1;"
        "text-rendering:auto;-webkit-font-smoothing:antialiased}",
        '.fab,.fa-brands{font-family:"Font Awesome 6 Brands";font-weight:400}',
        ".fa-lg{font-size:1.25em;line-height:.05em;vertical-align:-.075em}",
    ]
    for kind, family in ICONS.items():
        (file,) = folder.glob(f"webfonts/fa-{kind}-*.ttf")
        font, out = TTFont(file), io.BytesIO()
        cut = subset.Subsetter(subset.Options(layout_features=[], hinting=False))
        cut.populate(unicodes=private | set(codes.values()))
        cut.subset(font)
        font.flavor = "woff"
        font.save(out)
        data = base64.b64encode(out.getvalue()).decode()
        weight = 900 if kind == "solid" else 400
        sheet.append(
            f'@font-face{{font-family:"{family}";font-weight:{weight};'
            f"font-display:block;src:url(data:font/woff;base64,{data})}}"
        )
    sheet += [f'.{n}:before{{content:"\\{c:x}"}}' for n, c in sorted(codes.items())]
    return "\n".join(sheet)


# ---- after the pages are written


def cleaned(text: str) -> str:
    """A page without what it does not need, and with names that a reader hears."""
    text = re.sub(r'\s*<script type="text/x-thebe-config">.*?</script>', "", text,
                  flags=re.S)  # fmt: skip
    text = re.sub(r'\s*<script src="[^"]*fontawesome[^"]*"></script>', "", text)
    text = re.sub(r'\s*<link rel="preload" as="font"[^>]*fontawesome[^>]*>', "", text)
    text = re.sub(
        r'<link href="([^"]*_static/)vendor/fontawesome/[^"]*"([^>]*)>',
        r'<link href="\1icons.css"\2>', text,
    )  # fmt: skip
    text = re.sub(r"\s*<script>(?:(?!</script>).)*thebe(?:(?!</script>).)*</script>",
                  "", text, flags=re.S | re.I)  # fmt: skip
    viewport = re.compile(r'<meta name="viewport"[^>]*>')
    kept = viewport.search(text)
    if kept:
        rest = viewport.sub("", text[kept.end() :])
        text = text[: kept.end()] + rest
    text = text.replace('<div role="list" class="citation-list">',
                        '<div class="citation-list">')  # fmt: skip
    scrolls = 'tabindex="0" role="group" aria-label="table"'
    text = re.sub(r'(<div class="pst-scrollable-table-container")>',
                  rf"\1 {scrolls}>", text)  # fmt: skip
    text = re.sub(r'(<button class="btn search-button-field[^>]*) aria-label="Search"',
                  r"\1", text)  # fmt: skip
    text = re.sub(r'<summary>(\s*<span class="toctree-toggle")',
                  r'<summary aria-label="pages below this one">\1', text)  # fmt: skip
    # What is seen first waits for no script: they run in their order afterwards. The
    # one exception sets a name that a line in the head needs.
    text = re.sub(r'<link rel="preload" as="script"[^>]*>\s*', "", text)
    ours = r'[^"]*(?:_static/(?!documentation_)|searchindex)[^"]*'
    waits = rf'<script((?! defer)[^>]*) src="({ours})"'
    text = re.sub(waits, r'<script\1 defer="defer" src="\2"', text)
    # Signatures of several lines are lists of definitions that define nothing.
    text = re.sub(r"<dl>(\s*<dd>)", r'<dl role="presentation">\1', text)
    same = f"<title>{TITLE} &#8212; {TITLE}</title>"
    return text.replace(same, f"<title>{TITLE}: a textbook that runs</title>")


def previews(pages: dict[str, str]) -> dict[str, str]:
    """What a link to a term, a citation or an equation shows, by its place."""
    shown = {}
    for name, text in pages.items():
        if name == "book/glossary.html":
            found = re.findall(r'<dt id="(term-[^"]+)">(.*?)</dt>\s*<dd>(.*?)</dd>',
                               text, re.S)  # fmt: skip
            shown |= {i: f"<b>{plain(term)}</b> {plain(dd)}" for i, term, dd in found}
        elif name == "book/bibliography.html":
            found = re.findall(
                r'<div class="citation" id="([^"]+)"[^>]*>(.*?)</div>', text, re.S
            )
            for place, entry in found:
                inside = re.sub(r'<span class="label">.*?</span></span>', "", entry)
                shown[place] = plain(inside)
        for place, tex in re.findall(
            r'<div class="math notranslate nohighlight" id="(equation-[^"]+)">(.*?)'
            r"</div>", text, re.S,
        ):  # fmt: skip
            number = r'<span class="eqno">.*?</a></span>|<span class="eqno">.*?</span>'
            shown[place] = re.sub(number, "", tex, flags=re.S).strip()
    return shown


def plain(markup: str) -> str:
    """The text of some HTML, without its links, cut where it is long."""
    text = re.sub(r'<a class="headerlink".*?</a>', "", markup, flags=re.S)
    text = " ".join(re.sub(r"<[^>]+>", "", text).split())
    return text if len(text) < 600 else text[:600].rsplit(" ", 1)[0] + " …"


def finish(app, exception) -> None:
    """Clean the written pages and add what belongs to all of them."""
    if exception or app.builder.format != "html":
        return
    out = Path(app.outdir)
    static, pages = out / "_static", {}
    for path in sorted(out.rglob("*.html")):
        if "_static" not in path.parts:
            text = path.read_text(encoding="utf-8")
            pages[path.relative_to(out).as_posix()] = new = cleaned(text)
            if new != text:
                path.write_text(new, encoding="utf-8")
    sheets = [*static.glob("styles/*.css"), *static.glob("*.css")]
    scripts = [*static.glob("scripts/*.js"), *pages.values()]
    used = "".join(
        one if isinstance(one, str) else one.read_text(encoding="utf-8")
        for one in [*sheets, *scripts]
        if one != static / "icons.css"
    )
    (static / "icons.css").write_text(icons(static, used), encoding="utf-8")
    data = json.dumps(previews(pages), ensure_ascii=False)
    (static / "previewdata.js").write_text(f"window.v2vPreviews = {data};\n", "utf-8")
    for path in [*static.rglob("*.map"), *static.glob("*thebe*")]:
        path.unlink()
    root = home(app)
    (out / "404.html").write_text(lost(root or ""), encoding="utf-8")
    if root:
        names = [name for name in pages if name.startswith("book/")]
        urls = "".join(f"<url><loc>{root}{name}</loc></url>" for name in names)
        (out / "sitemap.xml").write_text(
            '<?xml version="1.0" encoding="UTF-8"?><urlset xmlns='
            f'"http://www.sitemaps.org/schemas/sitemap/0.9">{urls}</urlset>\n',
            encoding="utf-8",
        )


def lost(root: str) -> str:
    """The page that a server shows for an address that is none."""
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Not found: {TITLE}</title>"
        "<style>body{font:1.1em/1.5 sans-serif;"
        "max-width:34em;margin:15vh auto;padding:0 1em}</style></head><body><main>"
        "<h1>There is no such page</h1><p>It may have moved when chapters were "
        f'renumbered. The <a href="{root}book/index.html">first page</a> lists all '
        "chapters.</p></main></body></html>\n"
    )


# ---- the bibliography


def register_style() -> None:
    """A bibliography style whose labels are the text's: Artetxe et al., 2018."""
    from pybtex.plugin import register_plugin
    from pybtex.style.formatting.unsrt import Style as Unsrt
    from pybtex.style.labels import BaseLabelStyle
    from pybtex.style.sorting.author_year_title import SortingStyle
    from pybtex.style.template import sentence

    class Labels(BaseLabelStyle):
        def format_labels(self, entries):
            seen: dict[str, int] = {}
            for entry in entries:
                people = entry.persons.get("author") or entry.persons.get("editor", [])
                last = [" ".join(person.last_names) for person in people]
                last = last or [entry.fields.get("key", entry.fields["title"])]
                many = len(last) > 2 or "others" in last
                names = f"{last[0]} et al." if many else " and ".join(last)
                label = f"{names}, {entry.fields.get('year', 'n.d.')}"
                seen[label] = seen.get(label, 0) + 1
                letter = chr(96 + seen[label]) if seen[label] > 1 else ""
                yield re.sub(r"[{}]", "", label) + letter

    class AuthorYear(Unsrt):
        default_label_style = Labels
        default_sorting_style = SortingStyle

        def format_web_refs(self, entry):
            web = [self.format_eprint, self.format_doi, self.format_url]
            for field, one in zip(("eprint", "doi", "url"), web, strict=True):
                if field in entry.fields:
                    return sentence[one(entry)]
            return sentence[""]

    register_plugin("pybtex.style.formatting", "authoryear", AuthorYear)


def setup(app) -> dict:
    """Register the extension with Sphinx."""
    register_style()
    app.connect("env-get-updated", by_chapter, priority=900)
    app.connect("doctree-resolved", living_links, priority=800)
    app.connect("html-page-context", head, priority=950)
    app.connect("build-finished", finish, priority=900)
    return {"parallel_read_safe": True}
