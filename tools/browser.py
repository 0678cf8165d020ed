"""A headless Chromium, driven by Playwright: for the site tests and screenshots.

    python tools/browser.py book/04_with_pairs.html page.png            # light
    python tools/browser.py book/04_with_pairs.html page.png --dark --full

Serves ``_build/html`` on the loopback address, and notes every request and every error
of the console. The browser is the system's own (Debian's ``chromium``, or Chrome):
Playwright brings none of its own here.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import shutil
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Without a sandbox, which containers lack; and nothing asked for in the background.
FLAGS = ["--no-sandbox", "--disable-quic", "--disable-component-update"]
READY = """async () => {
  await window.MathJax?.startup?.promise;
  await new Promise(go => setTimeout(go, 200));  // late scripts and their errors
}"""


def find_browser() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def serve(folder: Path):
    """Serve a folder on 127.0.0.1; gives the address of its root."""
    handler = functools.partial(_Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class Page:
    """One tab: go to a page, run JavaScript in it, read what it asked for and said."""

    def __init__(self, tab):
        self.tab = tab
        self.requests: list[str] = []
        self.console: list[str] = []
        tab.on("request", lambda request: self.requests.append(request.url))
        tab.on("pageerror", lambda error: self.console.append(str(error)))
        tab.on("console", self._note)

    def _note(self, message) -> None:
        if message.type == "error":
            place = message.location.get("url", "")
            self.console.append(f"{message.text} {place}".strip())

    def go(self, url: str, dark: bool = False) -> Page:
        """Load a page and wait until its equations are there."""
        from playwright.sync_api import Error

        self.tab.emulate_media(color_scheme="dark" if dark else "light")
        self.requests.clear()
        self.console.clear()
        self.tab.goto(url, wait_until="load")
        for left in reversed(range(5)):
            try:
                self.tab.evaluate(READY)
                break
            except Error as error:  # a page that sends us on goes while it is asked
                if "navigation" not in str(error) or not left:
                    raise
                self.tab.wait_for_load_state("load")
        return self

    def js(self, code: str):
        """The value of a JavaScript expression; promises are awaited."""
        return self.tab.evaluate(code)

    def wait(self, code: str, seconds: float = 20.0) -> bool:
        """Wait until the expression is true; False when it never was."""
        from playwright.sync_api import TimeoutError

        try:
            self.tab.wait_for_function(code, timeout=1000 * seconds)
        except TimeoutError:
            return False
        return True

    def key(self, name: str) -> None:
        self.tab.keyboard.press(name)

    def screenshot(self, path: Path, full: bool = False) -> None:
        self.tab.screenshot(path=path, full_page=full)


@contextmanager
def browser():
    """A headless Chromium with a new, empty profile; gives its page."""
    from playwright.sync_api import sync_playwright

    command = find_browser()
    if command is None:
        raise RuntimeError(f"no browser among {NAMES}: apt-get install chromium")
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=command, args=FLAGS)
        try:
            yield Page(chromium.new_page(viewport={"width": 1200, "height": 900}))
        finally:
            chromium.close()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Take a screenshot of a built page.")
    parser.add_argument("page", help="such as book/index.html")
    parser.add_argument("out", type=Path, help="the PNG to write")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--full", action="store_true", help="the whole page")
    parser.add_argument("--site", type=Path, default=ROOT / "_build" / "html")
    options = parser.parse_args(arguments)
    with serve(options.site) as root, browser() as page:
        page.go(f"{root}/{options.page}", dark=options.dark)
        page.screenshot(options.out, full=options.full)
        for line in page.console:
            print("console:", line)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
