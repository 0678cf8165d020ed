"""The spelling of everything that is read: chapters, pages, README, datasheets.

python tools/spelling.py      lists what is misspelt

Two lists: codespell's of common misspellings, and HOUSE, the words for which this book
has another one. Code, formulas, links and citations are left out.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import claims

ROOT = Path(__file__).resolve().parent.parent
#: Words that codespell takes for misspellings and that are none here.
ALLOWED = (
    "ans",
    "assertIn",
    "nd",
    "te",
    "ot",
    "fo",
    "hist",
    "reise",
    "sur",
    "vie",
    "nin",
)
#: What this book writes otherwise, and how.
HOUSE = {
    r"\be-mails?\b": "email",
    r"\bwithout (?:a|any) network\b": "without an internet connection",
    r"\b(?:analy[sz]ing|analyze[sd]?)\b": "analyse",
    r"\b(?:center|color|neighbor|behavior|favor)(?:s|ed|ing|hood)?\b": "-re, -our",
    r"\b\w{3,}(?:ization|izations)\b": "-isation",
    r"\b(?:normaliz|synchroniz|quantiz|initializ|organiz)\w+": "-ise",
    r"\b(?:minimiz|maximiz|generaliz|regulariz|optimiz)\w+": "-ise",
}
LATER = r"(?:Normalization|Regularization|Optimization|Quantization)"


def files() -> list[Path]:
    """What is read, and not made by a program."""
    more = (
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "data/README.md",
        "data/documents/README.md",
    )
    return [*claims.pages(), *(ROOT / name for name in more)]


def plain(path: Path) -> str:
    """A page's prose without code, formulas, links, roles' targets and comments."""
    text = claims.text_of(path)
    text = re.sub(r"^(?:```|~~~)(?!\{).*?^(?:```|~~~)", "", text, flags=re.M | re.S)
    text = re.sub(r"<!--.*?-->|<[^>\n]+>", "", text, flags=re.S)
    text = re.sub(r"\$\$.*?\$\$(?: *\([\w-]+\))?|\$[^$\n]+\$", "", text, flags=re.S)
    text = re.sub(
        r"\{(?:cite|ref|eq|numref|claim)(?::\w+)?\}`[^`]*`|`[^`\n]+`", "", text
    )
    text = re.sub(
        r"\]\([^)]*\)|https?://\S+|^:\w+:.*$|\(\w+-[\w-]+\)=", "", text, flags=re.M
    )
    return text


def house(text: str) -> list[str]:
    """Uses of words for which the book has others."""
    found = []
    for pattern, better in HOUSE.items():
        for word in re.findall(pattern, text):
            if not re.match(LATER, word):
                found.append(f"{word} ({better})")
    return found


def misspelt() -> list[str]:
    """Every finding as "FILE: WORD ==> BETTER"."""
    texts = {path: plain(path) for path in files()}
    found = [
        f"{path.name}: {word}" for path, text in texts.items() for word in house(text)
    ]
    command = [sys.executable, "-m", "codespell_lib", "-L", ",".join(ALLOWED), "-"]
    for path, text in texts.items():
        run = subprocess.run(command, input=text, capture_output=True, text=True)
        if run.returncode not in (0, 65):
            raise RuntimeError(run.stderr)
        hits = re.findall(r"^\s*(\S+ ==> .+)$", run.stdout, re.M)
        found += [f"{path.name}: {hit}" for hit in hits]
    return found


if __name__ == "__main__":
    bad = misspelt()
    print(*bad, f"{len(bad)} words", sep="\n")
    sys.exit(bool(bad))
