"""The search on a toy encoder of which everything is known, and its scorer."""

from dataclasses import replace

import pytest
import torch

from v2v_lite.privacy import (
    END,
    EncoderScorer,
    NgramLM,
    SearchConfig,
    Stopped,
    invert,
    recentre_rows,
    tokens,
)
from v2v_lite.privacy.edits import Draft, Edit, Editor, improved, log_likelihood
from v2v_lite.privacy.inversion import Beam
from v2v_lite.spaces import DataError, unit

WORDS = "red green blue cat dog bird sat ran flew near far the".split()
g = torch.Generator().manual_seed(0)
ROWS = {word: torch.randn(24, generator=g) for word in WORDS}
MANY = torch.randint(0, 3, (200, 4), generator=g).tolist()
TEXTS = [
    f"the {WORDS[a]} {WORDS[3 + b]} {WORDS[6 + c]} {WORDS[9 + d % 2]}"
    for a, b, c, d in MANY
]


def encoder(texts):
    """A bag of words: the mean of its words' vectors, of length one."""
    none = torch.ones(24)
    sums = [sum(ROWS.get(word, none) for word in tokens(text)) for text in texts]
    return unit(torch.stack(sums))


@pytest.fixture(scope="module")
def lm():
    return NgramLM.fit(TEXTS)


@pytest.fixture(scope="module")
def scorer(lm):
    return EncoderScorer.fit(lm.words, encoder, TEXTS, encoder(TEXTS))


# The order of words is in the language model alone, so it must have its say.
TOY = {"kappa": 60, "topic_weight": 2, "length_bonus": 2}
BLIND = {"words": 6, "beam": 1, "kappa": 0, "topic_weight": 0}  # but for its edits
SECRETS = ["the red dog flew far", "the blue cat ran near"]


@pytest.mark.parametrize("exact", [0, 12])
def test_finds_the_known_text(lm, scorer, exact):
    config = SearchConfig(words=6, exact=exact, **TOY)
    found = invert(encoder(SECRETS), lm, scorer, config)
    assert [one.text.lower() for one in found] == SECRETS
    assert min(one.cosine for one in found) > 0.99


def test_finds_it_without_a_word_table(lm):
    bare = EncoderScorer(encoder, encoder(TEXTS).mean(0))
    config = SearchConfig(words=6, beam=6, kappa=100)
    found = invert(encoder(SECRETS), lm, bare, config)
    assert [one.text.lower() for one in found] == SECRETS


def test_the_table_gives_the_cosines_of_the_sums(lm, scorer):
    target = scorer.target(encoder(SECRETS))[0]
    beam = Beam(target, lm, scorer, SearchConfig())
    for _ in range(3):
        beam.advance()
    for sums, prefix in zip(beam.sums, beam.prefixes, strict=True):
        torch.testing.assert_close(sums, scorer.words.vectors[prefix].sum(0))
    sums = beam.sums[:, None] + scorer.words.vectors[beam.rows]
    expected = torch.nn.functional.cosine_similarity(sums, target, dim=-1)
    torch.testing.assert_close(beam.cosines(), expected, rtol=1e-3, atol=1e-4)


def test_the_mean_vector_gives_what_the_language_model_thinks(lm, scorer):
    (found,) = invert(scorer.centre[None], lm, scorer, SearchConfig(words=4))
    assert found.text.lower().startswith("the") and found.cosine == 0


def test_a_text_may_have_all_its_words(lm, scorer):
    for words in (1, 5):
        config = SearchConfig(words=words, **TOY | {"length_bonus": 50})
        (found,) = invert(encoder(SECRETS[:1]), lm, scorer, config)
        assert len(tokens(found.text)) == words


def test_no_word_stands_more_often_than_in_own_texts(lm, scorer):
    assert scorer.words.max_count[1:].max() == 1  # no toy text says a word twice
    target = unit(ROWS["dog"] + scorer.centre)[None]
    eager = {"words": 6, "kappa": 400, "length_bonus": 20}
    (found,) = invert(target, lm, scorer, SearchConfig(**eager))
    said = tokens(found.text.lower())
    assert len(said) == len(set(said)) > 1
    (found,) = invert(target, lm, scorer, SearchConfig(**eager, repeats=True))
    said = tokens(found.text.lower())
    assert said.count("dog") > 1


def test_edits_mend_a_text_that_the_beam_got_wrong(lm, scorer):
    target = scorer.target(encoder(SECRETS[:1]))[0]
    config = SearchConfig(words=6, edits=24, rounds=6, edit_kappa=400, **TOY)
    rows = torch.arange(len(lm.words))
    editor = Editor(lm, target, rows, scorer, config)
    wrong = [lm.words.index(word) for word in "the green bird flew".split()]
    (draft,) = improved([editor], [Draft(wrong, 0.0, 0.0)], scorer, config.rounds)
    # The words; their order costs this encoder, a bag, nothing.
    assert sorted(tokens(lm.text(draft.words).lower())) == sorted(tokens(SECRETS[0]))
    assert draft.cosine == pytest.approx(1.0, abs=1e-3)


def test_an_edit_changes_the_words_that_it_says():
    editor = Editor.__new__(Editor)
    editor.draft = Draft([1, 2, 3, 4], 0.0, 0.0)
    assert editor.apply([Edit(0, 1, (9,)), Edit(2, 4, (4, 3))]) == [9, 2, 4, 3]
    assert editor.apply([Edit(1, 1, (7,)), Edit(3, 4, ())]) == [1, 7, 2, 3]


def test_edits_never_lower_the_score(lm, scorer):
    found = {
        edits: invert(
            encoder(SECRETS), lm, scorer, SearchConfig(words=4, edits=edits, **TOY)
        )
        for edits in (0, 16)
    }
    for before, after in zip(found[0], found[16], strict=True):
        assert after.cosine >= before.cosine - 1e-4


def test_edits_from_a_better_draft_find_what_the_beam_missed(lm, scorer):
    # One round of two edits cannot mend the beam's text; the draft is the answer.
    few = SearchConfig(edits=2, rounds=1, **BLIND)
    vectors = encoder(SECRETS)
    alone = invert(vectors, lm, scorer, few)
    helped = invert(vectors, lm, scorer, few, drafts=[[secret] for secret in SECRETS])
    assert min(one.cosine for one in alone) < 0.9
    assert min(one.cosine for one in helped) > 0.999
    nothing = invert(vectors, lm, scorer, few, drafts=[["zzz"]] * len(SECRETS))
    assert nothing == alone  # a draft of unknown words


def test_restarts_only_raise_the_score_and_depend_on_the_seed_alone(lm, scorer):
    few = SearchConfig(edits=4, rounds=1, **BLIND)
    more, vectors = replace(few, restarts=4), encoder(SECRETS)
    plain, found = (invert(vectors, lm, scorer, c, seed=1) for c in (few, more))
    assert all(b.score >= a.score for a, b in zip(plain, found, strict=True))
    assert sum(b.score > a.score + 1 for a, b in zip(plain, found, strict=True))
    assert found == invert(vectors, lm, scorer, more, seed=1)


def test_the_likelihood_of_a_text_is_the_sum_of_its_steps(lm):
    lines = [[lm.words.index(w) for w in text.split()] for text in SECRETS]
    lines[1] = lines[1][:2]
    for line, value in zip(lines, log_likelihood(lm, lines).tolist(), strict=True):
        steps = [lm.log_probs([line[:i]])[0] for i in range(len(line) + 1)]
        by_hand = sum(s[w].item() for s, w in zip(steps, [*line, END], strict=True))
        assert value == pytest.approx(by_hand, abs=1e-3)


def test_errors(lm, scorer):
    with pytest.raises(DataError, match="translate them"):
        invert(torch.randn(2, 7), lm, scorer)
    with pytest.raises(DataError, match="0 rows"):
        invert(torch.empty(0, 24), lm, scorer)
    with pytest.raises(DataError, match="beam = 0"):
        SearchConfig(beam=0)
    with pytest.raises(DataError, match="rounds = 0; at least 1"):
        SearchConfig(rounds=0)
    with pytest.raises(DataError, match="kappa = -1; at least 0"):
        SearchConfig(kappa=-1)
    with pytest.raises(DataError, match="restarts = -1; at least 0"):
        SearchConfig(restarts=-1)
    with pytest.raises(DataError, match="restarts = 2, but edits = 0; try 32"):
        SearchConfig(restarts=2)
    with pytest.raises(DataError, match="2 rows, but 1 lists of drafts"):
        invert(encoder(SECRETS), lm, scorer, drafts=[["the red dog"]])
    with pytest.raises(DataError, match="3 texts, but 2 vectors"):
        EncoderScorer.fit(lm.words, encoder, TEXTS[:3], encoder(TEXTS[:2]))
    with pytest.raises(DataError, match="one encoder"):
        EncoderScorer.fit(lm.words, encoder, TEXTS[:3], torch.randn(3, 5))


def test_a_stopped_search_keeps_what_it_found(lm, scorer):
    calls = []

    def tired(texts):
        calls.append(len(texts))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encoder(texts)

    slow = EncoderScorer(tired, scorer.centre, scorer.words)
    vectors = encoder(SECRETS * 3)
    with pytest.raises(Stopped, match="4 texts") as stop:
        invert(vectors, lm, slow, SearchConfig(words=6, **TOY), batch_size=2)
    assert [one.text.lower() for one in stop.value.found] == SECRETS * 2
    assert isinstance(stop.value, KeyboardInterrupt)


def test_recentred_rows_have_the_mean_of_the_own_ones():
    own = unit(torch.randn(400, 8, generator=g) + torch.arange(8))
    away = unit(torch.randn(300, 8, generator=g) * 0.3 - torch.arange(8))
    moved = recentre_rows(away, own)
    assert (moved.mean(0) - own.mean(0)).norm() < 0.15 * (away - own.mean(0)).norm()
    torch.testing.assert_close(moved.norm(dim=1), torch.ones(300))
    with pytest.raises(DataError, match="at least 2"):
        recentre_rows(away[:1], own)
