"""Public corpora: local copies in the hub's forms, and the hub when it is not there."""

import gzip
import json
from pathlib import Path

import pytest

from v2v_lite.spaces import DataError
from v2v_lite.spaces.corpora import load_corpus, read_corpus

SHARED = Path(__file__).resolve().parents[2] / "shared/data/tweet_topic/texts.jsonl.gz"


def write(path, rows):
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def test_tweets(tmp_path):
    rows = [
        {"text": "a game", "label_name": ["Sports"], "split": "test"},
        {"text": "a song", "labels": ["Music", "Family"], "split": "test"},
        {"text": "left out", "labels": ["Music"], "split": "train"},
    ]
    tweets = read_corpus("tweet_topic", write(tmp_path / "t.jsonl.gz", rows))
    assert tweets.texts == ["a game", "a song"]
    assert [x.key for x in tweets.labels] == ["Family", "Music", "Sports"]
    assert tweets.multi_hot().tolist() == [[False, False, True], [True, True, False]]


def test_emails_and_transcriptions(tmp_path):
    mail = [{"subject_line": "Lunch", "email_body": "At noon?"}]
    found = read_corpus("enron", write(tmp_path / "m.jsonl.gz", mail))
    assert found.texts == ["Subject: Lunch\n\nAt noon?"] and not found.labels
    note = [{"text": "Knee pain.", "prediction": [{"label": " Orthopedic "}]}]
    found = read_corpus("medical", write(tmp_path / "n.jsonl.gz", note))
    assert found[0].labels == ("Orthopedic",)


def test_another_corpus_is_refused(tmp_path):
    path = write(tmp_path / "x.jsonl.gz", [{"body": "?"}])
    with pytest.raises(DataError, match="row 1: not a row of tweet_topic"):
        read_corpus("tweet_topic", path)
    path = write(tmp_path / "y.jsonl.gz", [{"text": "a", "split": "train"}])
    with pytest.raises(DataError, match="no rows of split 'test'"):
        read_corpus("tweet_topic", path)
    with pytest.raises(DataError, match="tweet_topic, enron, medical"):
        load_corpus("tweets")


def test_without_a_network_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"read_corpus\(name, path\)"):
        load_corpus("enron")


@pytest.mark.skipif(not SHARED.exists(), reason="the tweets are not bundled")
def test_the_real_tweets():
    tweets = read_corpus("tweet_topic", SHARED)
    assert len(tweets) == 800 and len(tweets.labels) == 19
