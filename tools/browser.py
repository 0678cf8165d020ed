"""Drive headless Chromium over its DevTools socket: for the site tests and screenshots.

    python tools/browser.py book/04_with_pairs.html page.png            # light
    python tools/browser.py book/04_with_pairs.html page.png --dark --full

Serves ``_build/html`` on the loopback address, and notes every request and every
message of the console. Needs ``websocket-client`` and Debian's ``chromium``.
"""

from __future__ import annotations

import argparse
import base64
import functools
import http.server
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--disable-dev-shm-usage --hide-scrollbars --remote-debugging-port=0 "
    "--remote-allow-origins=* --window-size=1200,900"
).split()


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

    def __init__(self, socket):
        self.socket, self.number = socket, 0
        self.requests: list[str] = []
        self.console: list[str] = []
        self.loaded = False
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params) -> dict:
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        self.socket.send(json.dumps(message))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._event(answer.get("method", ""), answer.get("params", {}))

    def _event(self, method: str, params: dict) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Page.loadEventFired":
            self.loaded = True
        elif method == "Runtime.exceptionThrown":
            detail = params["exceptionDetails"]
            thrown = detail.get("exception", {}).get("description", "")
            self.console.append(f"{detail['text']} {thrown}".split("\n")[0])
        elif method == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.console.append(" ".join(str(a.get("value")) for a in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            entry = params["entry"]
            self.console.append(f"{entry['text']} {entry.get('url', '')}")

    def js(self, code: str):
        """The value of a JavaScript expression; promises are awaited."""
        asked = {"expression": code, "awaitPromise": True, "returnByValue": True}
        try:
            result = self.call("Runtime.evaluate", **asked)
        except RuntimeError as error:  # a page that sends us on goes while it is asked
            if "navigated" not in str(error) and "context" not in str(error):
                raise
            time.sleep(0.2)
            result = self.call("Runtime.evaluate", **asked)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{code[:80]}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait(self, code: str, seconds: float = 20.0) -> bool:
        """Wait until the expression is true; False when it never was."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.js(code):
                return True
            time.sleep(0.05)
        return False

    def go(self, url: str, dark: bool = False) -> Page:
        """Load a page and wait until its equations and its widgets stand."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.requests.clear()
        self.console.clear()
        self.loaded = False
        self.call("Page.navigate", url=url)
        end = time.monotonic() + 60
        while not self.loaded and time.monotonic() < end:
            self.js("1")
            time.sleep(0.02)
        self.js("window.MathJax?.startup?.promise?.then(() => 1)")
        self.wait(
            "document.querySelectorAll('.jupyter-widgets').length > 0 || !document."
            "querySelector('script[type=\"application/vnd.jupyter.widget-view+json\"]')"
        )
        time.sleep(0.2)  # late scripts and their errors
        self.js("1")
        return self

    def key(self, name: str, code: int) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind, key=name, code=name, windowsVirtualKeyCode=code,
            )  # fmt: skip

    def screenshot(self, path: Path, full: bool = False) -> None:
        if full:
            height = self.js("document.documentElement.scrollHeight")
            self.call(
                "Emulation.setDeviceMetricsOverride",
                width=1200, height=int(height), deviceScaleFactor=1, mobile=False,
            )  # fmt: skip
            time.sleep(0.5)
        data = self.call("Page.captureScreenshot", format="png")["data"]
        Path(path).write_bytes(base64.b64decode(data))


def _endpoint(profile: Path, process, seconds: float = 60.0) -> str:
    """The socket of the first tab, from the port that the browser wrote down."""
    port_file, end = profile / "DevToolsActivePort", time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if port_file.is_file() and port_file.read_text().strip():
            port = port_file.read_text().split()[0]
            # The loopback address is spoken to directly, whatever proxy is set.
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            tabs = json.load(opener.open(f"http://127.0.0.1:{port}/json"))
            pages = [t for t in tabs if t["type"] == "page"]
            if pages:
                return pages[0]["webSocketDebuggerUrl"]
        time.sleep(0.1)
    raise RuntimeError("Chromium did not start: run it by hand to see why")


@contextmanager
def browser():
    """A headless Chromium with a new, empty profile; gives its page."""
    import websocket

    command = find_browser()
    if command is None:
        raise RuntimeError(f"no browser among {NAMES}: apt-get install chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        call = [command, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(
            call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            url = _endpoint(Path(profile), process)
            socket = websocket.create_connection(
                url, timeout=60, http_no_proxy=["127.0.0.1"]
            )
            yield Page(socket)
            socket.close()
        finally:
            process.terminate()
            process.wait(10)


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
