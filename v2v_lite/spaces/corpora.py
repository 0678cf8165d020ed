"""Public corpora from the hub as `Documents`, for those who have a network.

None is bundled. They hold texts of real people; use them by their own terms. Offline,
`read_corpus` takes a local copy: JSON lines, `.gz` too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .documents import Document, Documents, Label
from .files import AnyPath, DataError, parsing, pick
from .texts import read_records


@dataclass(frozen=True)
class Corpus:
    """A corpus on the hub: its dataset, where a split's rows lie, how to read one.

    `files` is a path inside the dataset with a place for the split, or "" where the
    dataset says itself which rows are a split's. `read` gives a row's text and labels.
    """

    hub: str
    split: str
    files: str
    read: Callable[[dict], tuple[str, Iterable[str]]]


CORPORA = {
    # Its loading script is of a kind that `datasets` no longer runs, hence the file.
    "tweet_topic": Corpus(
        "cardiffnlp/tweet_topic_multilingual", "test", "dataset/en/en_{}.jsonl",
        lambda r: (r["text"], r.get("label_name", r.get("labels", ()))),
    ),
    "enron": Corpus(
        "Yale-LILY/aeslc", "test", "",
        lambda r: (f"Subject: {r['subject_line']}\n\n{r['email_body']}", ()),
    ),
    "medical": Corpus(
        "argilla/medical-domain", "train", "",
        lambda r: (r["text"], [one["label"].strip() for one in r["prediction"] or ()]),
    ),
}  # fmt: skip


def load_corpus(
    name: str, split: str = "", limit: int | None = None, revision: str | None = None
) -> Documents:
    """The first `limit` rows of a corpus's split (default: its usual one) from the hub.

    "tweet_topic": English tweets in 19 topics (the paper's Table 5 uses its 800 test
    rows). "enron": the e-mails of AESLC, without labels. "medical": medical
    transcriptions by specialty, of the MTSamples kind. A `revision` of the dataset
    fixes its content. Raises DataError when the hub cannot be reached.
    """
    corpus = pick(CORPORA, name, "corpus")
    split = split or corpus.split
    mend = "install `datasets` and connect, or read_corpus(name, path) a local copy"
    with parsing(f"{name} at {corpus.hub}", "within reach", mend):
        from datasets import load_dataset

        if corpus.files:
            root = f"hf://datasets/{corpus.hub}@{revision or 'main'}"
            file = f"{root}/{corpus.files.format(split)}"
            rows = load_dataset("json", data_files={split: file}, split=split)
        else:
            rows = load_dataset(corpus.hub, split=split, revision=revision)
    chosen = rows if limit is None else rows.select(range(min(limit, len(rows))))
    return _documents(name, split, enumerate(chosen, 1), corpus.hub)


def read_corpus(
    name: str, path: AnyPath, split: str = "", limit: int | None = None
) -> Documents:
    """The same rows from a local copy of a corpus, one JSON object a line.

    Rows with a "split" field are taken when it is the one asked for. Raises DataError
    with file and line for a row that the corpus's reader does not understand.
    """
    split = split or pick(CORPORA, name, "corpus").split
    every = read_records(path, {})
    rows = [(number, row) for number, row in every if row.get("split", split) == split]
    return _documents(name, split, rows[:limit], str(path))


def _documents(
    name: str, split: str, rows: Iterable[tuple[int, dict]], where: str
) -> Documents:
    found: list[Document] = []
    names: set[str] = set()
    for number, row in rows:
        fields = f"its fields are {sorted(row)}"
        with parsing(f"{where}, row {number}", f"a row of {name}", fields):
            text, labels = CORPORA[name].read(row)
            if not all(isinstance(one, str) for one in labels):
                raise TypeError("labels are not texts")
            text = (text or "").strip()
        if not text:
            continue  # corpora of the wild have empty rows
        names |= {*labels}
        found.append(Document(f"{name}-{number}", split, text, tuple(labels)))
    if not found:
        raise DataError(f"{where}: no rows of split {split!r}")
    known = tuple(Label(one, one, one) for one in sorted(names))
    return Documents(name, tuple(found), known)
