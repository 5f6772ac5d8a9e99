"""The official client of OpenAI talks to it, and gets what the model writes and thinks."""

import json
import random
import shutil

import httpx2
import openai
import pytest
import torch
from on_loopback import load

from wikigpt.generate import Drawn, Sampling, generate_ids, prompt_ids
from wikigpt.studio.completions import Piece, Stops, named
from wikigpt.studio.engine import Loaded

PROMPT = "# Luna\n\nLa"


@pytest.fixture
def ask(served):
    """The client as its users make it."""
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)


@pytest.fixture
def loaded(engine):
    return load(engine, "g")


def ours(loaded, sampling: Sampling, prompt: str = PROMPT) -> list[int]:
    ids = prompt_ids(loaded.tokenizer, prompt)
    return list(generate_ids(loaded.model, ids, loaded.tokenizer.end_of_text, sampling))


def test_models_are_runs_and_their_checkpoints(ask):
    names = [model.id for model in ask.models.list()]
    assert {"g", "m", "g@12", "g@6", "m@12"} <= set(names) and len(set(names)) == len(names)
    assert ask.models.retrieve("g@6").id == "g@6"
    with pytest.raises(openai.NotFoundError):
        ask.models.retrieve("gpt-4")


def test_it_writes_what_generate_writes(ask, loaded):
    ids = ours(loaded, Sampling(20, 0.7, 30, 0.9, seed=5))
    settings = {"max_tokens": 20, "temperature": 0.7, "top_p": 0.9, "seed": 5, "extra_body": {"top_k": 30}}
    answer = ask.completions.create(model="g", prompt=PROMPT, **settings)
    assert answer.choices[0].text == loaded.tokenizer.decode(ids) and answer.object == "text_completion"
    assert answer.usage.completion_tokens == len(ids) and answer.usage.prompt_tokens == len(
        prompt_ids(loaded.tokenizer, PROMPT)
    )
    assert answer.choices[0].finish_reason == ("length" if len(ids) == 20 else "stop")
    assert answer.system_fingerprint == "g@12"
    chunks = list(
        ask.completions.create(
            model="g", prompt=PROMPT, stream=True, stream_options={"include_usage": True}, **settings
        )
    )
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == answer.choices[0].text
    assert len(chunks) > 10 and chunks[-1].usage == answer.usage
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == answer.choices[0].finish_reason


def test_prompts_may_be_several_and_may_be_ids(ask, loaded):
    ids = prompt_ids(loaded.tokenizer, PROMPT)
    greedy = {"model": "g", "max_tokens": 6, "temperature": 0}
    (text,) = [choice.text for choice in ask.completions.create(prompt=PROMPT, **greedy).choices]
    assert [c.text for c in ask.completions.create(prompt=[PROMPT, PROMPT], **greedy).choices] == [text, text]
    assert [c.text for c in ask.completions.create(prompt=ids, **greedy).choices] == [text]
    both = ask.completions.create(prompt=[ids, [loaded.tokenizer.end_of_text]], **greedy)
    assert [choice.index for choice in both.choices] == [0, 1] and both.choices[0].text == text
    drawn = ask.completions.create(model="g", prompt=PROMPT, max_tokens=8, n=3, seed=1)
    assert len({choice.text for choice in drawn.choices}) == 3
    assert drawn.usage.prompt_tokens == len(ids)


def test_the_same_seed_gives_the_same_text(ask):
    texts = [
        ask.completions.create(model="g", prompt="", max_tokens=12, seed=seed).choices[0].text for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_a_checkpoint_can_be_named(ask, engine):
    old = load(engine, "g", "6")
    ids = ours(old, Sampling(10, 0.0))
    answer = ask.completions.create(model="g@6", prompt=PROMPT, max_tokens=10, temperature=0)
    assert answer.choices[0].text == old.tokenizer.decode(ids)


@pytest.mark.parametrize("stream", [False, True])
def test_it_stops_before_a_stop(ask, loaded, stream):
    whole = loaded.tokenizer.decode(ours(loaded, Sampling(40, 1.0, seed=2)))
    middle = len(whole) // 2
    for stop in (whole[middle : middle + 5], [whole[middle : middle + 3], "never"], whole[0]):
        settings = {"model": "g", "prompt": PROMPT, "max_tokens": 40, "seed": 2, "stop": stop, "stream": stream}
        answer = ask.completions.create(**settings)
        choices = [chunk.choices[0] for chunk in answer] if stream else answer.choices
        first = min(place for one in ([stop] if isinstance(stop, str) else stop) if (place := whole.find(one)) >= 0)
        assert "".join(choice.text for choice in choices) == whole[:first]
        assert choices[-1].finish_reason == "stop"


def test_a_character_that_the_prompt_began_is_finished(client, engine, monkeypatch):
    loaded = load(engine, "g")
    half, other = (
        next(n for n in range(loaded.tokenizer.vocab_size) if loaded.tokenizer.decode_bytes([n]) == byte)
        for byte in (b"\xc3", b"\xb1")
    )
    logits_V = torch.zeros(loaded.tokenizer.vocab_size)
    monkeypatch.setattr(Loaded, "tokens", lambda self, ids, sampling: iter([Drawn(other, logits_V)]))
    asked = {"model": "g", "prompt": [half], "max_tokens": 1}
    assert client.post("/v1/completions", json=asked).json()["choices"][0]["text"] == "ñ"
    assert client.post("/v1/completions", json=asked | {"echo": True}).json()["choices"][0]["text"] == "ñ"


def test_log_probabilities_are_the_model_s(ask, loaded):
    answer = ask.completions.create(model="g", prompt=PROMPT, max_tokens=6, temperature=0, logprobs=3).choices[0]
    ids = prompt_ids(loaded.tokenizer, PROMPT)
    made = ours(loaded, Sampling(6, 0.0))
    with torch.no_grad():
        log_probs_TV = loaded.model(torch.tensor([ids + made]))[0].log_softmax(-1)[len(ids) - 1 :]
    found = answer.logprobs
    assert found.token_logprobs == pytest.approx(
        [log_probs_TV[n, token].item() for n, token in enumerate(made)], abs=1e-4
    )
    for n, top in enumerate(found.top_logprobs):
        assert sorted(top.values(), reverse=True) == pytest.approx(log_probs_TV[n].topk(3).values.tolist(), abs=1e-4)
    assert found.text_offset[0] == 0 and "".join(found.tokens) == answer.text


def test_what_harnesses_ask_for(ask, loaded):
    """lm-eval's `local-completions`: the prompt's own log probabilities, and nothing more or one token."""
    ids = prompt_ids(loaded.tokenizer, PROMPT)
    answer = ask.completions.create(
        model="g", prompt=[ids], max_tokens=0, echo=True, logprobs=1, temperature=0
    ).choices[0]
    assert answer.text == PROMPT and answer.logprobs.token_logprobs[0] is None
    with torch.no_grad():
        log_probs_TV = loaded.model(torch.tensor([ids]))[0].log_softmax(-1)
    expected = [log_probs_TV[n, token].item() for n, token in enumerate(ids[1:])]
    assert answer.logprobs.token_logprobs[1:] == pytest.approx(expected, abs=1e-4)
    assert answer.logprobs.text_offset == [0] + [len(loaded.tokenizer.decode(ids[:n])) for n in range(1, len(ids))]
    assert (
        ask.completions.create(model="g", prompt=PROMPT, max_tokens=1, echo=True, temperature=0)
        .choices[0]
        .text.startswith(PROMPT)
    )


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"temperature": -1}, "temperature"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 10**6}, "max_tokens"),
        ({"n": 0}, "n:"),
        ({"logprobs": 21}, "logprobs"),
        ({"suffix": "end"}, "suffix"),
        ({"presence_penalty": 1}, "presence_penalty"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"best_of": 5}, "best_of"),
        ({"best_of": 1, "n": 3}, "best_of"),
        ({"n": 8, "max_tokens": 4096}, "too many"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"prompt": [10**9]}, "no token"),
        ({"prompt": "la " * 60, "echo": True, "logprobs": 1}, "context"),
        ({"model": "g@../6"}, "no checkpoint"),
    ],
)
def test_a_mistake_is_the_client_s_bad_request(ask, wrong, said):
    with pytest.raises(openai.BadRequestError) as raised:
        ask.completions.create(**{"model": "g", "prompt": PROMPT, "max_tokens": 2} | wrong)
    assert said in raised.value.message and raised.value.type == "invalid_request_error"


def test_a_run_may_have_an_at_sign_in_its_name(house, engine):
    shutil.copytree(house / "models/g", house / "models/me@home")
    try:
        assert named(engine, "me@home") == ("me@home", "latest") and named(engine, "me@home@6") == ("me@home", "6")
        assert named(engine, "g@6") == ("g", "6") and named(engine, "g") == ("g", "latest")
    finally:
        shutil.rmtree(house / "models/me@home")


def test_a_model_that_is_not_there_is_not_found(ask):
    for name in ("gpt-4", "g@7", "../models/g"):
        with pytest.raises(openai.NotFoundError):
            ask.completions.create(model=name, prompt="a")


def test_a_full_row_is_the_client_s_rate_limit(ask, engine):
    tickets = [engine.models.ticket() for _ in range(18)]
    with pytest.raises(openai.RateLimitError):
        ask.completions.create(model="g", prompt="a")
    for ticket in tickets:
        ticket.give_back()
    assert ask.completions.create(model="g", prompt="a", max_tokens=1) and not engine.models.tickets


def test_other_programs_may_leave_fields_null(served):
    nothing = dict.fromkeys(
        ("max_tokens", "temperature", "top_p", "n", "stream", "logprobs", "echo", "stop", "seed", "suffix")
    )
    answer = httpx2.post(f"{served.url}/v1/completions", json={"model": "g", "prompt": "a", "user": "me"} | nothing)
    assert answer.status_code == 200 and answer.json()["usage"]["completion_tokens"] <= 16


def test_a_stream_ends_as_theirs_does(served):
    text = httpx2.post(
        f"{served.url}/v1/completions", json={"model": "g", "prompt": "a", "max_tokens": 3, "stream": True}
    ).text
    events = text.strip().split("\n\n")
    assert events[-1] == "data: [DONE]" and all(json.loads(event.removeprefix("data: ")) for event in events[:-1])


def test_stops_in_pieces_of_any_size():
    """What goes out is what stands before the stop that is complete first, and nothing that might yet begin one."""
    chance = random.Random(1)
    for _ in range(500):
        text = "".join(chance.choice("abc") for _ in range(30))
        stops = [
            "".join(chance.choice("abc") for _ in range(chance.randrange(1, 6))) for _ in range(chance.randrange(4))
        ]
        passed, out, sent, certain = Stops(stops), "", "", 0
        while len(sent) < len(text) and not passed.met:
            piece = text[len(sent) : len(sent) + chance.randrange(4)]
            sent += piece
            out += "".join(one.text for one in passed.add(Piece(piece, piece)))
            certain = min((place for stop in stops if (place := sent.find(stop)) >= 0), default=len(sent))
            assert sent[:certain].startswith(out)
            assert passed.met == (certain < len(sent))
        out += "".join(one.text for one in passed.rest())
        assert out == text[:certain]
