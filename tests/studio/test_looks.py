"""The architecture is the model's; what is shown of a text is what the analysis finds."""

import base64
import threading

import numpy as np
import pytest
import torch
from on_loopback import load

from wikigpt.analysis.inside import lens_words, look_inside
from wikigpt.config import MODEL_CONFIGS, ModelConfig
from wikigpt.generate import Sampling
from wikigpt.runs import read_run
from wikigpt.studio.asked import Text
from wikigpt.studio.looks import _inside, described
from wikigpt.transformer import GPTModel


@pytest.mark.parametrize("name", ["g", "m"])
def test_the_architecture_is_that_of_the_weights(client, engine, name):
    found = client.get(f"/api/runs/{name}/architecture").json()
    model = GPTModel(engine.run(name).config.model)
    assert found["parameters"] == [[n, list(p.shape), p.numel()] for n, p in model.named_parameters()]
    rows = found["padding"] * found["config"]["emb_dim"] * (1 if found["config"]["tie_embeddings"] else 2)
    assert (
        sum(n for *_, n in found["parameters"]) - rows == found["total"] == engine.run(name).config.model.n_parameters
    )


def test_a_large_one_takes_no_memory(house):
    run = read_run(house / "models" / "g")
    config = ModelConfig(**MODEL_CONFIGS["gpt2_xl"])
    object.__setattr__(run.config, "model", config)
    found = described(run)
    assert found["total"] == 1_557_611_200 == sum(n for *_, n in found["parameters"])


@pytest.mark.parametrize("name", ["g", "m"])
def test_inside_is_what_the_analysis_finds(client, engine, name):
    loaded = load(engine, name)
    text = "# Luna\n\nLa Luna es el satélite"
    ids = [loaded.tokenizer.end_of_text, *loaded.tokenizer.encode(text).tolist()]
    found = client.post("/api/inside", json={"run": name, "prompt": text}).json()
    inside = look_inside(loaded.model, ids)
    L, H, T, _ = inside.attention_LHTT.shape
    shades = [
        [np.frombuffer(base64.b64decode(head), np.uint8).reshape(T, T) for head in layer]
        for layer in found["attention"]
    ]
    assert (
        np.abs(np.array(shades) / 255 - inside.attention_LHTT.numpy()).max() < 0.003
        and len(shades) == L
        and len(shades[0]) == H
    )
    ours = lens_words(loaded.model, loaded.tokenizer, inside)
    assert [[word for word, _ in row] for row in found["lens"]] == [[word for word, _ in row] for row in ours]
    with torch.no_grad():
        log_probs_TV = loaded.model(torch.tensor([ids]))[0].log_softmax(-1)
    bits = [-log_probs_TV[n, token].item() / np.log(2) for n, token in enumerate(ids[1:])]
    assert [token["bits"] for token in found["tokens"]] == pytest.approx(bits, abs=1e-3)
    assert "".join(token["text"] for token in found["tokens"]) == text and len(found["words"]) == T


def test_looking_leaves_the_model_as_it_was(client, engine):
    before = client.post("/api/generate", json={"run": "g", "prompt": "La", "max_gen": 5, "temperature": 0}).text
    client.post("/api/inside", json={"run": "g", "prompt": "La Luna"})
    after = client.post("/api/generate", json={"run": "g", "prompt": "La", "max_gen": 5, "temperature": 0}).text
    assert before.split("data: ")[2:-1] == after.split("data: ")[2:-1]


def test_of_a_long_text_the_beginning(client):
    found = client.post("/api/inside", json={"run": "g", "prompt": "la luna " * 300}).json()
    assert len(found["tokens"]) == 31 and found["all_tokens"] > 300 and len(found["words"]) == 32


def test_of_nothing_there_is_nothing_to_see(client):
    answer = client.post("/api/inside", json={"run": "g", "prompt": ""})
    assert answer.status_code == 400 and "no text" in answer.json()["error"]["message"]


def test_a_single_token(client):
    found = client.post("/api/inside", json={"run": "m", "prompt": "a"}).json()
    assert len(found["tokens"]) == 1 and len(found["attention"][0]) == 4


def test_one_may_look_while_another_writes(engine):
    """Looking puts something else in the place of attention for a moment: nobody else may calculate meanwhile."""
    loaded = load(engine, "m")
    ids = [loaded.tokenizer.end_of_text, *loaded.tokenizer.encode("La Luna es").tolist()]
    expected = [token.id for token in loaded.tokens(ids, Sampling(20, 0.0))]
    heads = look_inside(loaded.model, ids).attention_LHTT
    stop, wrong = threading.Event(), []

    def write() -> None:
        while not stop.is_set():
            if [token.id for token in loaded.tokens(ids, Sampling(20, 0.0))] != expected:
                wrong.append("written")

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(60):
        found = _inside(engine, Text(run="m", prompt="La Luna es"))
        if len(found["attention"]) != len(heads):
            wrong.append("seen")
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
