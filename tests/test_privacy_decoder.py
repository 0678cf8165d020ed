"""The decoder: what it learns, what it saves, and that a search can use it."""

import pytest
import torch
from safetensors.torch import save_file

from v2v_lite.privacy import Decoder, DecoderConfig, Guide, SearchConfig, invert
from v2v_lite.privacy.decoder import Given
from v2v_lite.spaces import DataError

COLOURS = "red green blue grey".split()
TEXTS = [f"the {colour} house is {colour}" for colour in COLOURS] * 8
AIMS = torch.eye(4).repeat(8, 1)
SMALL = DecoderConfig(width=32, layers=1, heads=2, words=8, epochs=40,
                      batch=8, cosine=0.95)  # fmt: skip


@pytest.fixture(scope="module")
def decoder():
    torch.set_num_threads(1)
    return Decoder.train_on(TEXTS, AIMS, SMALL, seed=0)


def test_it_reads_the_vector(decoder):
    guide = Guide(lambda texts: torch.ones(len(texts), 4), torch.zeros(4))
    config = SearchConfig(beam=2, words=6, kappa=0, bonus=0)
    found = invert(torch.eye(4), decoder, guide, config)
    assert [one.text.lower() for one in found] == TEXTS[:4]


def test_probabilities_sum_to_one_and_do_not_look_ahead(decoder):
    given = decoder.given(AIMS[0])
    p = given.log_probs([[1, 2, 3], [4, 1, 2]]).exp()
    torch.testing.assert_close(p.sum(1), torch.ones(2))
    a = decoder(AIMS[:1], torch.tensor([[1, 2, 3]]))
    b = decoder(AIMS[:1], torch.tensor([[1, 2, 4]]))
    torch.testing.assert_close(a[:, :3], b[:, :3])


def test_saved_and_read(decoder, tmp_path):
    path = tmp_path / "d.safetensors"
    decoder.save(path)
    again = Decoder.load(path)
    assert again.words == decoder.words and again.config == decoder.config
    both = [Given(model, AIMS[1]).log_probs([[1]]) for model in (decoder, again)]
    torch.testing.assert_close(*both, atol=0.02, rtol=0.02)
    save_file({"a": torch.ones(2)}, tmp_path / "x.safetensors")
    with pytest.raises(DataError, match="not a decoder"):
        Decoder.load(tmp_path / "x.safetensors")


def test_same_seed_same_decoder_and_the_global_seed_is_left_alone():
    config = DecoderConfig(width=8, layers=1, heads=2, words=8, epochs=1)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two = (Decoder.train_on(TEXTS, AIMS, config, seed=3) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)


def test_errors(decoder):
    with pytest.raises(DataError, match="4-d decoder"):
        decoder.given(torch.ones(5))
    with pytest.raises(DataError, match="32 texts, but 3"):
        Decoder.train_on(TEXTS, AIMS[:3], SMALL)
    for bad in ({"heads": 5}, {"layers": 0}, {"cosine": 0.0}):
        with pytest.raises(DataError):
            DecoderConfig(**bad)
