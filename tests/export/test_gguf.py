"""What llama.cpp makes of our files: the real one, serving on loopback, for both kinds of tokenizer."""

import json
import os
import random
import sys
import urllib.request
from contextlib import contextmanager

import pytest
import torch
from test_tokenizer import HARD

from wikigpt.errors import ConfigError
from wikigpt.export.gguf import check_pre_tokenizer, write_gguf
from wikigpt.export.trained import read_trained
from wikigpt.generate import Sampling, generate_ids
from wikigpt.runs import read_run
from wikigpt.transformer import GPTModel


class LlamaCpp:
    """A server of llama.cpp."""

    def __init__(self, path, context_length: int) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path, params.n_ctx, params.n_parallel, params.port = str(path), context_length, 1, 0
        params.warmup = False
        self.server = xllamacpp.Server(params)

    def post(self, place: str, **body):
        request = urllib.request.Request(
            self.server.listening_address + place, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        return json.loads(urllib.request.urlopen(request, timeout=60).read())

    def ids(self, text: str, parse_special: bool = False) -> list[int]:
        return self.post("/tokenize", content=text, parse_special=parse_special, add_special=False)["tokens"]

    def greedy(self, prompt: list[int], length: int):
        body = {"prompt": prompt, "n_predict": length, "temperature": 0, "cache_prompt": False}
        return self.post("/completion", **body, return_tokens=True, n_probs=5)


@contextmanager
def quiet():
    """llama.cpp speaks to the file descriptor, past Python."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept), os.close(nowhere)


@pytest.fixture(params=["r", "g", "m", "u"])
def trained(house, request):
    return read_trained(read_run(house / "models" / request.param))


# How far a logarithm of a probability may lie from ours: llama.cpp looks its GELU up in a table of 16-bit numbers.
TOLERANCE = {"f32": 0.01, "f16": 0.01, "q8_0": 0.1}


@pytest.mark.parametrize("kind", ["f32", "f16", "q8_0"])
def test_llama_cpp_says_what_our_model_says(trained, tmp_path, kind):
    path = write_gguf(trained, kind, tmp_path)
    assert path.name == f"{trained.name}-{kind.upper()}.gguf"
    model = GPTModel(trained.config).eval()
    model.load_state_dict(trained.weights)
    prompt = trained.tokenizer.encode("# Luna\n\nLa Luna es").tolist()
    ours = list(generate_ids(model, prompt, trained.tokenizer.end_of_text, Sampling(max_gen=40, temperature=0)))
    with torch.inference_mode():
        scores = torch.log_softmax(model(torch.tensor([prompt]))[0, -1], -1)
    with quiet():
        llama = LlamaCpp(path, trained.config.context_length)
        answer = llama.greedy(prompt, 40)
        assert [llama.ids(text) for text in HARD.values()] == [
            trained.tokenizer.encode(t).tolist() for t in HARD.values()
        ]
        # By default it takes the end of a text in a text for the token: the card says so.
        assert trained.tokenizer.end_of_text in llama.ids("a<|endoftext|>b", parse_special=True)
        del llama
    if kind != "q8_0":  # eight bits may choose otherwise
        assert answer["tokens"][: len(ours)] == ours
        assert answer["content"] == trained.tokenizer.decode(answer["tokens"])
    first = answer["completion_probabilities"][0]["top_logprobs"]
    assert max(abs(one["logprob"] - scores[one["id"]].item()) for one in first) < TOLERANCE[kind]
    size = {"f32": 4, "f16": 2, "q8_0": 34 / 32}[kind]
    matrices = sum(w.numel() for name, w in trained.weights.items() if w.dim() == 2 and "pos_emb" not in name)
    assert matrices * size < path.stat().st_size < matrices * size + 2.5e6  # its vocabulary, and what stays at 32 bits


@pytest.mark.slow
def test_llama_cpp_cuts_any_text_as_we_do(trained, tmp_path):
    path = write_gguf(trained, "q8_0", tmp_path)
    draw = random.Random(0)
    pools = [
        "abc XYZ'sS'Ll\n\t  .,!?-_12 ३",
        "हिन्दी विश्व की",
        "العَرَبِيَّة ١٢",
        "维基百科，。２０",
        "\u00a0\u2028\u3000\x85\x1c\ufeff\r\n",
    ]
    pools += ["👩‍👩‍👧🇫🇷❤️", "éàñ\u0301ŒßЁлка", "".join(map(chr, range(1, 0x250)))]

    def character() -> str:
        code = draw.randrange(1, 0x110000)
        return draw.choice(draw.choice(pools)) if draw.random() < 0.8 or 0xD800 <= code < 0xE000 else chr(code)

    texts = ["".join(character() for _ in range(draw.randint(1, 40))) for _ in range(3000)]
    characters = [chr(code) for code in range(1, 0x20000) if not 0xD800 <= code < 0xE000]
    texts += ["".join(f"a{c}b 1{c}2 " for c in characters[k : k + 200]) for k in range(0, len(characters), 200)]
    with quiet():
        llama = LlamaCpp(path, trained.config.context_length)
        wrong = [text for text in texts if llama.ids(text) != trained.tokenizer.encode(text).tolist()]
        del llama
    assert not wrong, wrong[:3]


def test_the_command_writes_it_with_a_recipe_for_ollama(at_house, tmp_path):
    assert at_house(f"export --run r --folder {tmp_path}/out --gguf q8_0 f16") == 0
    recipe = (tmp_path / "out" / "Modelfile").read_text()
    assert "FROM ./wikigpt-es-0.1M-Q8_0.gguf" in recipe and 'PARAMETER stop "<|endoftext|>"' in recipe
    assert "PARAMETER num_ctx 64" in recipe and "CC BY-SA 4.0" in recipe
    assert len(list((tmp_path / "out").glob("*.gguf"))) == 2
    assert at_house(f"export --run r --gguf --folder {tmp_path}/plain") == 0
    assert [path.name for path in (tmp_path / "plain").glob("*.gguf")] == ["wikigpt-es-0.1M-F16.gguf"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "llama-completion -m wikigpt-es-0.1M-Q8_0.gguf" in card and "- gguf\n" in card


def test_a_width_that_blocks_do_not_fit_into(at_house, house, tmp_path):
    """Rows of 48 numbers are no whole blocks of 32: they stay at 16 bits, and llama.cpp reads the file."""
    flags = (
        "--model_config tiny --training_setting small_models --emb_dim 48 --n_heads 3 --context_length 32 --threads 2"
    )
    assert at_house(f"train {flags} --qkv_bias False --max_steps 2 --eval_tokens 100 --run odd") == 0
    trained = read_trained(read_run(house / "models" / "odd"))
    path = write_gguf(trained, "q8_0", tmp_path)
    import gguf

    kinds = {t.name: t.tensor_type.name for t in gguf.GGUFReader(path).tensors}
    assert (
        kinds["token_embd.weight"] == "F16" and kinds["position_embd.weight"] == kinds["blk.0.attn_qkv.bias"] == "F32"
    )
    assert kinds["blk.0.ffn_down.weight"] == "Q8_0"
    with quiet():
        assert LlamaCpp(path, 32).greedy([1, 2, 3], 4)["tokens"]


def test_a_tokenizer_that_llama_cpp_does_not_know_is_refused():
    from wikigpt.tokenizer import Tokenizer, gpt2

    with pytest.raises(ConfigError, match=r"llama.cpp cannot be told"):
        check_pre_tokenizer(Tokenizer("other", {bytes([b]): b for b in range(256)}, r"[\s\S]"))
    mine = gpt2()
    record = json.loads(mine.json)
    record["model"]["ignore_merges"] = True
    with pytest.raises(ConfigError, match=r"llama.cpp cannot be told"):
        check_pre_tokenizer(Tokenizer("gpt2", mine.ranks, mine.pattern, json_text=json.dumps(record)))
