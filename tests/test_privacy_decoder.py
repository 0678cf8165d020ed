"""The decoder: what it learns, what it saves, and that a search can use it."""

import pytest
import torch
from safetensors.torch import save_file

from v2v_lite.privacy import Decoder, DecoderConfig, EncoderScorer, SearchConfig, invert
from v2v_lite.spaces import DataError
from v2v_lite.spaces.headers import read_tensors, write_tensors

COLOURS = "red green blue grey".split()
TEXTS = [f"the {colour} house is {colour}" for colour in COLOURS] * 8
TARGETS = torch.eye(4).repeat(8, 1)
SMALL = DecoderConfig(width=32, layers=1, heads=2, words=8, epochs=40,
                      batch_size=8, cosine=0.95)  # fmt: skip


@pytest.fixture(scope="module")
def decoder():
    torch.set_num_threads(1)
    return Decoder.fit(TEXTS, TARGETS, SMALL, seed=0)


def test_it_reads_the_vector(decoder):
    scorer = EncoderScorer(lambda texts: torch.ones(len(texts), 4), torch.zeros(4))
    config = SearchConfig(beam=2, words=6, kappa=0, length_bonus=0)
    found = invert(torch.eye(4), decoder, scorer, config)
    assert [one.text.lower() for one in found] == TEXTS[:4]


def test_probabilities_sum_to_one_and_do_not_look_ahead(decoder):
    conditioned = decoder.condition(TARGETS[0])
    p = conditioned.log_probs([[1, 2, 3], [4, 1, 2]]).exp()
    torch.testing.assert_close(p.sum(1), torch.ones(2))
    a = decoder(TARGETS[:1], torch.tensor([[1, 2, 3]]))
    b = decoder(TARGETS[:1], torch.tensor([[1, 2, 4]]))
    torch.testing.assert_close(a[:, :3], b[:, :3])


def test_saved_and_read(decoder, tmp_path):
    path = tmp_path / "d.safetensors"
    decoder.save(path)
    again = Decoder.load(path)
    assert (
        again.vocabulary.words == decoder.vocabulary.words
        and again.config == decoder.config
    )
    both = [model.condition(TARGETS[1]).log_probs([[1]]) for model in (decoder, again)]
    torch.testing.assert_close(*both, atol=0.02, rtol=0.02)
    save_file({"a": torch.ones(2)}, tmp_path / "x.safetensors")
    with pytest.raises(DataError, match="this version reads 'v2v-decoder-1'"):
        Decoder.load(tmp_path / "x.safetensors")


def test_a_file_of_version_0_1_is_read(decoder, tmp_path):
    path = tmp_path / "d.safetensors"
    decoder.save(path)
    tensors, about = read_tensors(path)
    for old, new in (("rate", "lr"), ("batch", "batch_size")):
        about["config"][old] = about["config"].pop(new)
    write_tensors(path, tensors, about)
    assert Decoder.load(path).config == decoder.config


def test_same_seed_same_decoder_and_the_global_seed_is_left_alone():
    config = DecoderConfig(width=8, layers=1, heads=2, words=8, epochs=1)
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
    for bad in ({"heads": 5}, {"layers": 0}, {"cosine": 0.0}):
        with pytest.raises(DataError):
            DecoderConfig(**bad)
