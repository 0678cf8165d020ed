"""`v2v attack inversion` and its bench, on few rows and the static encoder."""

import json

import pytest
import torch

from v2v_lite.cli import main
from v2v_lite.privacy import Stopped
from v2v_lite.spaces import Space, encode, load, load_documents

pytest.importorskip("wordllama")
TEXTS = load_documents("emails", "private").texts[:2]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encode(TEXTS, "wordllama").save("two.safetensors")


CALL = ("attack", "inversion", "two.safetensors", "--own", "emails", "--encoder",
        "wordllama", "--words", "8", "--beam", "2")  # fmt: skip


def test_texts_are_found_and_written(tmp_path, capsys):
    assert main([*CALL, "--edits", "8", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["texts"]
    assert len(found) == 2 and all(one["text"] for one in found)
    assert json.loads((tmp_path / "runs/inversion.json").read_text()) == found


def test_edits_that_begin_at_more_texts_score_no_lower(capsys):
    scores = []
    for more in ((), ("--drafts", "2", "--restarts", "1")):
        assert main([*CALL, "--edits", "8", *more, "--json"]) == 0
        texts = json.loads(capsys.readouterr().out)["texts"]
        scores.append([one["score"] for one in texts])
    assert all(b >= a - 1e-3 for a, b in zip(*scores, strict=True))
    assert scores[0] != scores[1]


@pytest.mark.parametrize(
    "more, why",
    [
        (("--drafts", "2"), "give --edits"),
        (("--restarts", "1"), "give --edits"),
        (("--edits", "8", "--drafts", "0"), "drafts = 0"),
        (("--edits", "8", "--restarts", "-1"), "restarts = -1"),
        (("--beam", "0"), "beam = 0"),
        (("--rows", "0"), "rows = 0"),
        (("--rounds", "0"), "rounds = 0"),
        (("--lm", "cut.gguf"), "no causal language model"),
        (("--encoder", "none"), "unknown encoder"),
        (("--own", "missing.txt"), "no such file"),
        (("--translator", "nowhere"), "no such file"),
    ],
)
def test_bad_input_is_one_line(more, why, capsys, tmp_path):
    (tmp_path / "cut.gguf").write_bytes(b"GGUF\x03\x00\x00\x00 and no more")
    assert main([*CALL, *more]) == 2
    err = capsys.readouterr().err.strip().splitlines()[-1]
    assert err.startswith("v2v: ") and why in err


def test_vectors_of_another_width(tmp_path, capsys):
    Space.of(torch.randn(3, 9)).save(tmp_path / "two.safetensors")
    assert main(CALL) == 2
    assert "9-d" in capsys.readouterr().err


def test_what_was_found_before_ctrl_c_is_written(tmp_path, monkeypatch, capsys):
    from v2v_lite import privacy

    def stopped(*_, **__):
        raise Stopped([privacy.Inverted("a text", 1.0, 0.5)])

    monkeypatch.setattr(privacy, "invert", stopped)
    assert main(CALL) == 130
    assert "1 texts were found" in capsys.readouterr().err
    assert json.loads((tmp_path / "runs/inversion.json").read_text())[0]["score"] == 1


def test_vectors_of_another_encoder_are_noticed(tmp_path, monkeypatch, capsys):
    from v2v_lite import privacy
    from v2v_lite.align import Whitened

    monkeypatch.setattr(privacy, "invert", lambda *_, **__: [])
    sides = (load(name, "train").take(slice(2000)) for name in ("arctic", "wordllama"))
    Whitened().fit(*sides).save("m")
    for encoder in ("arctic", "minilm"):
        rows = load(encoder, "eval").vectors[:200]
        Space.of(rows).save(tmp_path / "two.safetensors")  # which names no encoder
        assert main([*CALL, "--translator", "m"]) == 0
        told = "look like another encoder's" in capsys.readouterr().err
        assert told == (encoder == "minilm")
