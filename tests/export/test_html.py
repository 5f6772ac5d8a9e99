"""The page writes what our model writes with the same int8 weights: in Node.js, and in headless Chromium offline."""

import json
import re
import subprocess
from dataclasses import replace

import pytest
import torch
from browser import NODE, page
from test_tokenizer import HARD

from wikigpt.config import ModelConfig
from wikigpt.errors import ConfigError
from wikigpt.export.html import check_page, dequantized, quantized, write_page
from wikigpt.export.trained import read_trained
from wikigpt.generate import Sampling, generate_text, prompt_ids, window_start
from wikigpt.runs import read_run
from wikigpt.tokenizer import Tokenizer
from wikigpt.transformer import GPTModel

IN_NODE = r"""
const { texts, prompts, length } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const html = require("fs").readFileSync(process.argv[1], "utf8");
const part = (id) => html.match(new RegExp(`<script[^>]* id="${id}">(.*?)</script>`, "s"))[1];
const code = html.match(/<script>\n(.*?)<\/script>/s)[1].split("// The page around the model")[0];
const record = JSON.parse(part("model")), bytes = Buffer.from(part("weights"), "base64");
const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
const answer = new Function("record", "buffer", "texts", "prompts", "length", code + `
  const tokenizer = new Tokenizer(record.tokenizer), model = new Model(record, buffer);
  const greedy = (prompt) => {
    const decode = tokenizer.decoder(), ids = [];
    let text = "";
    const start = tokenizer.encodePrompt(prompt);
    let hidden;
    model.length = 0;
    for (const id of start) hidden = model.read(id);
    const logits = Array.from(model.logits(hidden));
    for (const id of write(model, start, tokenizer.endOfText, { temperature: 0, top_k: 0, max_gen: length })) {
      if (id !== null) { ids.push(id); text += decode(id); }
    }
    return { start, logits, text: text + decode(null) };
  };
  const random = seeded(7), logits = Float32Array.from([0, 1, 2, 3]), counts = [0, 0, 0, 0];
  for (let n = 0; n < 4000; n++) counts[draw(logits, { temperature: 1, top_k: 3 }, random)] += 1;
  return {
    ids: texts.map((text) => tokenizer.encode(text)), greedy: prompts.map(greedy), counts,
    windows: Array.from({ length: 40 }, (_, n) => windowStart(n, 9)),
  };
`)(record, buffer, texts, prompts, length);
console.log(JSON.stringify(answer));
"""

PROMPTS = ["# Luna\n\n", "", "La Luna es el único satélite 🌙 y", "a"]


@pytest.fixture(params=["r", "g", "m", "u"])
def trained(house, request):
    return read_trained(read_run(house / "models" / request.param))


def page_model(trained) -> GPTModel:
    """The plain model with the weights of the page."""
    model = GPTModel(trained.config).eval()
    model.load_state_dict(dequantized(quantized(trained.weights)))
    return model


def ours(trained, prompt: str, length: int) -> str:
    """What it writes."""
    model = page_model(trained)
    return "".join(generate_text(model, trained.tokenizer, prompt, Sampling(max_gen=length, temperature=0)))


def test_its_javascript_writes_what_our_model_writes(trained, tmp_path):
    """Ids of hard text, greedy text beyond the context, windows and drawing."""
    path = write_page(trained, tmp_path)
    model = page_model(trained)
    # A space behind a byte order mark or a NEL is where JavaScript's white space differs from everybody else's.
    texts = [
        *HARD.values(),
        "a" * 3000,
        "维基百科" * 800,
        "".join(map(chr, range(0x4E00, 0x5800))),
        "1" * 500,
        "a\ufeff b \ufeffc",
        "a\x85 b \x85c \u2028d",
        "end\n\n",
        "  ",
    ]
    given = json.dumps({"texts": texts, "prompts": PROMPTS, "length": 100})
    done = subprocess.run([NODE, "-e", IN_NODE, path], input=given, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["ids"] == [trained.tokenizer.encode(text).tolist() for text in texts]
    for prompt, answer in zip(PROMPTS, found["greedy"], strict=True):
        assert answer["start"] == prompt_ids(trained.tokenizer, prompt)
        assert answer["text"] == ours(trained, prompt, 100)
        with torch.inference_mode():
            logits = model(torch.tensor([answer["start"]]))[0, -1]
        assert (torch.tensor(answer["logits"]) - logits).abs().max() < 1e-4
    assert found["windows"] == [window_start(n, 9) for n in range(40)]
    shares = torch.softmax(torch.tensor([1.0, 2.0, 3.0]), 0) * 4000
    assert found["counts"][0] == 0
    assert all(abs(count - share) < 120 for count, share in zip(found["counts"][1:], shares.tolist(), strict=True))


def test_a_piece_that_is_a_token_as_a_whole(house, tmp_path):
    """A token that no merges make (`ignore_merges`): the page takes it whole, as we do."""
    trained = read_trained(read_run(house / "models" / "r"))
    ranks = trained.tokenizer.ranks | {b" Qzxw": len(trained.tokenizer.ranks)}
    tokenizer = Tokenizer("bpe", ranks, trained.tokenizer.pattern)
    weights = trained.weights | {"tok_emb.weight": torch.zeros(tokenizer.vocab_size, 32)}
    config = replace(trained.config, vocab_size=tokenizer.vocab_size)
    path = write_page(replace(trained, tokenizer=tokenizer, weights=weights, config=config), tmp_path)
    given = json.dumps({"texts": ["La Qzxw Qzxwy"], "prompts": [], "length": 1})
    done = subprocess.run([NODE, "-e", IN_NODE, path], input=given, capture_output=True, text=True, check=True)
    ids = json.loads(done.stdout)["ids"][0]
    assert ids == tokenizer.encode("La Qzxw Qzxwy").tolist() and len(ranks) - 1 in ids


def test_eight_bits_are_close(trained):
    for name, tensor in dequantized(quantized(trained.weights)).items():
        largest = trained.weights[name].abs().amax(-1, keepdim=True)
        assert ((tensor - trained.weights[name]).abs() <= largest / 253).all()  # half a step, and a rounding


@pytest.mark.slow
@pytest.mark.parametrize("run", ["r", "g"])
def test_in_chromium_without_a_network(house, tmp_path, run):
    """As a friend opens it: from a file, offline, with a title, another beginning, and Stop."""
    trained = read_trained(read_run(house / "models" / run))
    path = write_page(trained, tmp_path)
    with page() as tab:
        said: list[str] = []
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        asked: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(path.as_uri())
        assert trained.name in tab.inner_text("h1")
        tab.fill("#title", "Luna")
        tab.evaluate("document.getElementById('temperature').value = 0")
        tab.fill("#max_gen", "90")
        tab.click("text=Write")
        tab.wait_for_selector("#stop:disabled")
        assert tab.evaluate("document.getElementById('output').textContent") == "# Luna\n\n" + ours(
            trained, "# Luna\n\n", 90
        )
        tab.check("#free")
        assert tab.is_disabled("#title") and tab.is_enabled("#beginning")
        beginning = "La <b>Luna</b> es"
        tab.fill("#beginning", beginning)
        tab.click("text=Write")
        tab.wait_for_selector("#stop:disabled")
        assert tab.evaluate("document.getElementById('output').textContent") == beginning + ours(trained, beginning, 90)
        tab.fill("#max_gen", "100000")
        tab.evaluate("tokenizer.endOfText = -1")  # it never ends by itself
        tab.evaluate("document.getElementById('temperature').value = 1.5")
        tab.fill("#top_k", "0")
        tab.click("text=Write")
        tab.wait_for_selector("#status:has-text('tokens')")
        tab.click("#stop")
        assert "Stopped." in tab.inner_text("#status") and tab.is_disabled("#stop")
        written = tab.evaluate("document.getElementById('output').textContent")
        tab.wait_for_timeout(100)
        assert tab.evaluate("document.getElementById('output').textContent") == written
        assert said == [] and [url for url in asked if not url.startswith("file:")] == []


def test_the_page_is_one_file_that_asks_nobody(trained, tmp_path):
    html = write_page(trained, tmp_path).read_text()
    assert re.findall(r"""(?:src|href)=["']|@import|fetch\(|XMLHttpRequest|https?://(?!\S*wikipedia)""", html) == []
    assert "default-src 'none'" in html and [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert "CC BY-SA 4.0" in html and "word for word" in html


def test_what_does_not_fit_into_a_page_is_refused(trained):
    large = replace(trained, config=ModelConfig(**trained.config.preset() | {"emb_dim": 960, "n_layers": 12}))
    with pytest.raises(ConfigError, match=r"too many for a page\. Up to 25 million fit; take --gguf"):
        check_page(large)
    other = Tokenizer("other", {bytes([b]): b for b in range(256)}, r"[\s\S]")
    with pytest.raises(ConfigError, match="cannot cut text"):
        check_page(replace(trained, tokenizer=other))
