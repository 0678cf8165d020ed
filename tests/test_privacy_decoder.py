"""The decoder: what it learns, what it saves, and that a search can use it."""

import pytest
import torch
from safetensors.torch import save_file

from v2v_lite.privacy import (
    Decoder,
    DecoderConfig,
    EncoderScorer,
    Pieces,
    SearchConfig,
    invert,
)
from v2v_lite.privacy.decoder import Noise
from v2v_lite.spaces import DataError, unit
from v2v_lite.spaces.headers import read_tensors, write_tensors

COLOURS = "red green blue grey".split()
TEXTS = [f"the {colour} house is {colour}" for colour in COLOURS] * 8
TARGETS = torch.eye(4).repeat(8, 1)
SMALL = DecoderConfig(width=32, layers=2, heads=2, words=8, epochs=30, rare=1,
                      batch_size=8, cosine=0.95)  # fmt: skip


@pytest.fixture(scope="module")
def decoder():
    torch.set_num_threads(1)
    return Decoder.fit(TEXTS, TARGETS, SMALL, seed=0, encoder="toy")


def test_it_reads_the_vector(decoder):
    scorer = EncoderScorer(lambda texts: torch.ones(len(texts), 4), torch.zeros(4))
    config = SearchConfig(beam=2, words=6, kappa=0, length_bonus=0)
    found = invert(torch.eye(4), decoder, scorer, config)
    assert [one.text.lower() for one in found] == TEXTS[:4]


def test_probabilities_sum_to_one_and_do_not_look_ahead(decoder):
    conditioned = decoder.condition(TARGETS[0])
    p = conditioned.log_probs([[1, 2, 3], [4, 1, 2]]).exp()
    torch.testing.assert_close(p.sum(1), torch.ones(2))
    a, _ = decoder(TARGETS[:1], torch.tensor([[1, 2, 3]]))
    b, _ = decoder(TARGETS[:1], torch.tensor([[1, 2, 4]]))
    torch.testing.assert_close(a[:, :3], b[:, :3])


def test_the_cache_changes_nothing(decoder):
    at_once = decoder.condition(TARGETS[0])
    step_by_step = decoder.condition(TARGETS[0])
    lines = [[1, 2, 3], [1, 2, 5], [4, 1, 2]]
    for length in range(3):
        step_by_step.log_probs([line[:length] for line in lines])
    torch.testing.assert_close(
        step_by_step.log_probs(lines), at_once.log_probs(lines), atol=1e-4, rtol=1e-4
    )


def test_saved_and_read(decoder, tmp_path):
    path = tmp_path / "d.safetensors"
    decoder.save(path)
    again = Decoder.load(path, "toy")
    assert again.vocabulary.words == decoder.vocabulary.words
    assert again.config == decoder.config and again.encoder == "toy"
    both = [model.condition(TARGETS[1]).log_probs([[1]]) for model in (decoder, again)]
    torch.testing.assert_close(both[0].exp(), both[1].exp(), atol=0.03, rtol=0)
    assert read_tensors(path)[0]["embed.weight"].dtype == torch.int8
    with pytest.raises(DataError, match=r"for 'toy', but the vectors are of 'minilm'"):
        Decoder.load(path, "minilm")


def test_what_is_no_decoder_is_refused(decoder, tmp_path):
    path = tmp_path / "d.safetensors"
    save_file({"a": torch.ones(2)}, path)
    with pytest.raises(DataError, match="this version reads 'v2v-decoder-2'"):
        Decoder.load(path)
    decoder.save(path)
    tensors, about = read_tensors(path)
    tensors.pop("embed.weight")
    write_tensors(path, tensors, about)
    with pytest.raises(DataError, match="a whole decoder"):
        Decoder.load(path)
    decoder.save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="a whole"):
        Decoder.load(path)


def test_noise_has_the_cosine_and_the_covariance_of_the_texts():
    torch.manual_seed(0)
    scale = torch.cat([torch.full((16,), 3.0), torch.ones(16)])
    rows = unit(torch.randn(4000, 32) * scale + 0.5)
    config = DecoderConfig(cosine=0.9, clean=0.0)
    away, moved = rows - rows.mean(0), Noise.of(rows)(rows, config) - rows.mean(0)
    cosines = torch.cosine_similarity(away, moved)
    assert 0.88 < cosines.median() < 0.93
    calm = DecoderConfig(cosine=0.9, clean=1.0)
    torch.testing.assert_close(Noise.of(rows)(rows, calm), rows)
    spread = (moved - away).std(0)
    assert spread[:16].mean() > 2 * spread[16:].mean()


def test_pieces_begin_where_their_own_vectors_lie():
    pieces = Pieces(("", *"abcdefghijk"), {})
    alone = torch.randn(12, 8)
    model = Decoder(pieces, torch.zeros(8), DecoderConfig(width=8, heads=2))
    model.start_from(alone)
    rows = unit(alone - alone.mean(0))
    torch.testing.assert_close(
        model.embed.weight @ model.embed.weight.T, rows @ rows.T, atol=1e-4, rtol=1e-4
    )


def test_same_seed_same_decoder_and_the_global_seed_is_left_alone():
    config = DecoderConfig(width=8, layers=1, heads=2, words=8, epochs=1, rare=1)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two = (Decoder.fit(TEXTS, TARGETS, config, seed=3) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)


def test_errors(decoder):
    with pytest.raises(DataError, match="4-d decoder"):
        decoder.condition(torch.ones(5))
    with pytest.raises(DataError, match="32 texts, but 3"):
        Decoder.fit(TEXTS, TARGETS[:3], SMALL)
    for bad in ({"heads": 5}, {"layers": 0}, {"cosine": 0.0}, {"clean": 1.5}):
        with pytest.raises(DataError):
            DecoderConfig(**bad)


KNOWN = ("tam", "##sul", "##osin", "the", "mg", "40")
SPELT = "the tamsulosin 40 mg zq"


def test_pieces_are_the_longest_that_match_and_letters_spell_the_rest():
    pieces = Pieces.chosen([SPELT] * 3, KNOWN, min_count=2)
    words = [pieces.words[row] for row in pieces.rows("The Tamsulosin, 40 mg: zq")]
    assert words == ["the", "tam", "##sul", "##osin", ",", "40", "mg", ":", "z", "##q"]
    assert pieces.text(pieces.rows(SPELT)).lower() == SPELT
    assert pieces.text(pieces.rows("Don't pay £2,400 at 9:30")) == (
        "Don't pay £2,400 at 9:30"
    )
    assert "sul" not in pieces.words and pieces.rows("\u4e2d") == []


def test_rare_pieces_are_dropped_and_none_is_an_error():
    pieces = Pieces.chosen([SPELT], KNOWN, min_count=2)
    assert "tam" not in pieces.words
    assert pieces.text(pieces.rows("tamsulosin")) == "Tamsulosin"  # by its letters
    with pytest.raises(DataError, match="no pieces"):
        Pieces.chosen(["a"], [])
