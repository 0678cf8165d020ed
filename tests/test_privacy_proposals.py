"""Proposal models: probabilities that sum to one, back-off by hand, names, numbers."""

import pytest
import torch

from v2v_lite.privacy import END, CausalLM, NgramLM, tokens
from v2v_lite.privacy.proposals import spell
from v2v_lite.spaces import DataError

TEXTS = ["the cat sat. the cat ran.", "the dog sat at 9:30.", "Ask Maeve. The dog ran."]


def rows(lm, text):
    return [lm.words.index(word) for word in tokens(text)]


@pytest.mark.parametrize("order", [1, 2, 3])
def test_probabilities_sum_to_one(order):
    lm = NgramLM.fit(TEXTS, extra=["zebra", "18:45"], order=order)
    prefixes = [[], rows(lm, "the"), rows(lm, "the cat"), rows(lm, "zebra zebra cat")]
    torch.testing.assert_close(lm.log_probs(prefixes).exp().sum(1), torch.ones(4))


def test_the_bigram_by_hand():
    lm = NgramLM.fit(["a b", "a b", "a c a"], order=2, rare=1, discount=0.5)
    p = lm.log_probs([rows(lm, "a")])[0].exp()
    # After "a": b twice, c once, the end once. Continuations: one for b (after a), one
    # for c, two for a (after the start and c), two for the end (after b and a).
    base = 0.5 * 4 / 6 * (1 / 4)  # of the unigram's discount: uniform over 4 words
    unigram = {"b": 0.5 / 6 + base, "c": 0.5 / 6 + base, "a": 1.5 / 6 + base}
    back = 0.5 * 3 / 4
    assert p[lm.words.index("b")] == pytest.approx(1.5 / 4 + back * unigram["b"])
    assert p[lm.words.index("c")] == pytest.approx(0.5 / 4 + back * unigram["c"])
    assert p[lm.words.index("a")] == pytest.approx(back * unigram["a"])


def test_unseen_names_stand_where_rare_words_stand_and_numbers_share_a_shape():
    lm = NgramLM.fit(TEXTS, extra=["zebra", "18:45", "7:15"])
    p = lm.log_probs([rows(lm, "ask")])[0]
    at = {word: p[row].item() for row, word in enumerate(lm.words)}
    assert at["zebra"] == at["maeve"] > at["cat"]
    p = lm.log_probs([rows(lm, "sat at")])[0]
    at = {word: p[row].item() for row, word in enumerate(lm.words)}
    assert at["7:15"] == at["9:30"] > at["18:45"]


def test_a_text_comes_back_in_its_usual_spelling():
    lm = NgramLM.fit(TEXTS)
    assert lm.text(rows(lm, "ask maeve. the dog ran.")) == "Ask Maeve. The dog ran."
    assert lm.text([]) == "" and lm.words[END] == ""
    assert spell(["(", "no", ")", "!"], {}) == "(no)!"


@pytest.mark.parametrize("bad", [{"order": 0}, {"discount": 1.0}, {"discount": 0}])
def test_bad_settings(bad):
    with pytest.raises(DataError):
        NgramLM.fit(TEXTS, **bad)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A GPT-2 of random weights with a word tokenizer, as save_pretrained writes it."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<end>", "the", "cat", "dog", "sat", "ran"]
    model = models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<end>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = tmp_path_factory.mktemp("gpt")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>"
    ).save_pretrained(folder)
    size = dict(n_embd=16, n_layer=1, n_head=2, n_positions=32, vocab_size=6)
    config = transformers.GPT2Config(**size, bos_token_id=0, eos_token_id=0)
    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def test_a_causal_model_of_transformers(tiny):
    lm = CausalLM(str(tiny), local=True)
    prefixes = [[2, 3], [4, 5]]
    p = lm.log_probs(prefixes).exp()
    assert p.shape == (2, len(lm.words)) == (2, 7)
    torch.testing.assert_close(p.sum(1), torch.ones(2))
    assert lm.text([2, 3, END]) == "the cat" and lm.rows("the cat") == [2, 3]
    with torch.no_grad():
        logits = lm._model(torch.tensor([[0, 1, 2]])).logits[0, -1]
    torch.testing.assert_close(p[0, END], logits.softmax(0)[0])
    torch.testing.assert_close(p[0, 4], logits.softmax(0)[3])


def test_the_cache_of_a_causal_model_changes_nothing(tiny):
    lm, other = CausalLM(str(tiny), local=True), CausalLM(str(tiny), local=True)
    lm.log_probs([[2], [4]])
    longer = [[4, 5], [2, 3], [4, 2]]  # rows of the cache in another order, one twice
    torch.testing.assert_close(
        lm.log_probs(longer), other.log_probs(longer), atol=1e-5, rtol=1e-5
    )
    again = [[4, 2, 3], [4, 5, 3]]
    torch.testing.assert_close(
        lm.log_probs(again), other.log_probs(again), atol=1e-5, rtol=1e-5
    )


def test_a_gguf_file_cut_short_is_one_clear_error(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF\x03\x00\x00\x00" + b"\x00" * 40)
    with pytest.raises(DataError, match=r"model.gguf: no causal language model"):
        CausalLM(str(path), local=True)
    with pytest.raises(DataError, match="no such file"):
        CausalLM(str(tmp_path / "missing.gguf"), local=True)


def test_a_causal_model_that_cannot_be_had(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(DataError, match="NgramLM"):
        CausalLM(str(tmp_path / "none"), local=True)
