"""One exported model in every runtime that reads it here: how far its log-probabilities are from ours, whether the greedy
text is the same, and tokens per second, in turns.

    wikigpt export --run NAME --gguf f32 f16 q8_0 --html
    python benchmarks/runtimes.py models/NAME exports/NAME

Needs the packages of requirements-dev.txt. llama.cpp's tokens per second are its own figure, without reading the prompt.
"""

import argparse
import json
import os
import statistics
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import playwright
import torch
import xllamacpp
from transformers import AutoModelForCausalLM

from wikigpt.export.html import dequantized, quantized
from wikigpt.export.trained import read_trained
from wikigpt.generate import Sampling, generate_ids
from wikigpt.runs import read_run
from wikigpt.transformer import GPTModel

Answer = tuple[list[int], list[float] | None, float]  # ids, log-probabilities of the first token, tokens per second

JAVASCRIPT = r"""
const { prompt, length } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const html = require("fs").readFileSync(process.argv[1], "utf8");
const part = (id) => html.match(new RegExp(`<script[^>]* id="${id}">(.*?)</script>`, "s"))[1];
const code = html.match(/<script>\n(.*?)<\/script>/s)[1].split("// The page around the model")[0];
const bytes = Buffer.from(part("weights"), "base64");
const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
console.log(new Function("record", "buffer", "prompt", "length", code + `
  const model = new Model(record, buffer), began = performance.now();
  const ids = [...write(model, prompt, -1, { temperature: 0, max_gen: length })].filter((id) => id !== null);
  const speed = ids.length / (performance.now() - began) * 1000;
  model.length = 0;
  let hidden;
  for (const id of prompt) hidden = model.read(id);
  const shares = model.logits(hidden);
  softmax(shares);
  return JSON.stringify([ids, Array.from(shares, Math.log), speed]);
`)(JSON.parse(part("model")), buffer, prompt, length));
"""


def ours(model: GPTModel, prompt: list[int], length: int) -> Answer:
    with torch.inference_mode():
        scores = torch.log_softmax(model(torch.tensor([prompt]))[0, -1], -1).tolist()
    start = time.perf_counter()
    ids = list(generate_ids(model, prompt, -1, Sampling(max_gen=length, temperature=0)))
    return ids, scores, len(ids) / (time.perf_counter() - start)


def in_transformers(model: Any, prompt: list[int], length: int) -> Answer:
    inputs = torch.tensor([prompt])
    with torch.inference_mode():
        scores = torch.log_softmax(model(inputs).logits[0, -1], -1).tolist()
    start = time.perf_counter()
    settings = {"do_sample": False, "temperature": None, "top_k": None, "eos_token_id": None, "pad_token_id": 0}
    ids = model.generate(inputs, max_new_tokens=length, **settings)[0, len(prompt) :].tolist()
    return ids, scores, len(ids) / (time.perf_counter() - start)


def in_llama_cpp(server: Any, prompt: list[int], length: int) -> Answer:
    body = {"prompt": prompt, "n_predict": length, "temperature": 0, "cache_prompt": False, "ignore_eos": True}
    body |= {"return_tokens": True, "n_probs": 100}
    request = urllib.request.Request(
        f"{server.listening_address}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    answer = json.loads(urllib.request.urlopen(request).read())
    scores = [float("nan")] * 10**6
    for one in answer["completion_probabilities"][0]["top_logprobs"]:
        scores[one["id"]] = one["logprob"]
    return answer["tokens"], scores, answer["timings"]["predicted_per_second"]


def in_javascript(page: Path, prompt: list[int], length: int) -> Answer:
    node = Path(playwright.__file__).parent / "driver" / "node"
    given = json.dumps({"prompt": prompt, "length": length})
    done = subprocess.run([node, "-e", JAVASCRIPT, page], input=given, capture_output=True, text=True, check=True)
    ids, scores, speed = json.loads(done.stdout)
    return ids, scores, speed


def llama(path: Path, context: int) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel, params.port = str(path), context, 1, 0
    return xllamacpp.Server(params)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("export", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # llama.cpp speaks there
    trained = read_trained(read_run(asked.run))
    plain, eight = GPTModel(trained.config).eval(), GPTModel(trained.config).eval()
    plain.load_state_dict(trained.weights)
    eight.load_state_dict(dequantized(quantized(trained.weights)))
    prompt = trained.tokenizer.encode("# Moon cheese\n\nMoon cheese is").tolist()
    length = min(100, trained.config.context_length - len(prompt) - 1)
    stock = AutoModelForCausalLM.from_pretrained(asked.export).eval()
    runtimes: dict[str, Any] = {
        "ours": lambda: ours(plain, prompt, length),
        "transformers": lambda: in_transformers(stock, prompt, length),
        "ours, int8 weights": lambda: ours(eight, prompt, length),
        "index.html in Node.js": lambda: in_javascript(asked.export / "index.html", prompt, length),
    }
    if trained.config.arch == "gpt2":
        custom = AutoModelForCausalLM.from_pretrained(asked.export, trust_remote_code=True).eval()
        runtimes["transformers, our code"] = lambda: in_transformers(custom, prompt, length)
    for path in sorted(asked.export.glob("*.gguf")):
        server = llama(path, trained.config.context_length)
        runtimes[f"llama.cpp {path.stem.rpartition('-')[2]}"] = lambda server=server: in_llama_cpp(
            server, prompt, length
        )
    answers = {name: [run() for _ in range(1)] for name, run in runtimes.items()}
    for _ in range(asked.rounds - 1):
        for name, run in runtimes.items():
            answers[name].append(run())
    for name, found in answers.items():
        reference = "ours, int8 weights" if "index" in name else "ours"
        ids, scores = answers[reference][0][:2]
        away = max(abs(a - b) for a, b in zip(found[0][1], scores, strict=False) if a == a)
        same = next((n for n, (a, b) in enumerate(zip(found[0][0], ids, strict=True)) if a != b), length)
        speed = statistics.median(answer[2] for answer in found)
        print(f"| {name} | {away:.1e} | {same} of {length} | {speed:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
