"""What my_gpt/sampling.py must do."""

import math

import torch
import torch.nn.functional as F

from wikigpt import generate as package
from wikigpt.config import ModelConfig
from wikigpt.learn.expect import check, expect, same
from wikigpt.transformer import GPTModel

LOGITS = torch.tensor([0.1, 0.4, 0.2, 0.05, 0.25]).log()
NO = float("-inf")


@check("with_temperature: flatter or sharper", "Divide the logits by the temperature.")
def temperature(mine):
    times = {"it was multiplied: at 2 the choice should be flatter": LOGITS * 2}
    same(mine.with_temperature(LOGITS, 2.0), LOGITS / 2, "with_temperature(logits, 2.0)", times)


@check(
    "keep_top_k: the k likeliest",
    "logits.topk(k).values[-1] is the worst that is kept.",
    "logits.masked_fill(logits < worst, float('-inf')).",
    "topk refuses more than there are: min(k, len(logits)).",
)
def top_k(mine):
    right = torch.tensor([NO, math.log(0.4), NO, NO, math.log(0.25)])
    zeros = {"others are 0, which is a score like any: minus infinity": right.masked_fill(right == NO, 0.0)}
    same(mine.keep_top_k(LOGITS, 2), right, "keep_top_k(logits, 2)", zeros)
    same(mine.keep_top_k(LOGITS, 9), LOGITS, "keep_top_k(logits, 9) of five")


@check(
    "keep_top_p: the likeliest until they have the share p",
    "Sort by probability, the likeliest first: ordered, places = logits.sort(descending=True).",
    "probabilities.cumsum(-1) - probabilities is what comes before each. Where that is below p, the token is kept.",
    "places[kept] are the tokens; everything else becomes minus infinity.",
)
def top_p(mine):
    two = torch.tensor([NO, math.log(0.4), NO, NO, math.log(0.25)])
    mistakes = {"the token that reaches p must be kept too": torch.tensor([NO, math.log(0.4), NO, NO, NO])}
    same(mine.keep_top_p(LOGITS, 0.5), two, "keep_top_p(logits, 0.5) of 0.4, 0.25, 0.2, 0.1 and 0.05", mistakes)
    one = torch.tensor([NO, math.log(0.4), NO, NO, NO])
    same(mine.keep_top_p(LOGITS, 0.01), one, "keep_top_p(logits, 0.01): the likeliest is always kept; the result")
    same(mine.keep_top_p(LOGITS, 1.0), LOGITS, "keep_top_p(logits, 1.0)", close=1e-3)


@check(
    "draw: all of it together",
    "Temperature 0 first: int(logits.argmax()); dividing by 0 would give no numbers.",
    "Then temperature, top-k, top-p in this order, then softmax, then torch.multinomial(..., 1, generator=generator).",
)
def draw(mine):
    random = torch.Generator().manual_seed(0)
    same(mine.draw(LOGITS, 0, None, None, random), 1, "draw at temperature 0")
    got = [mine.draw(LOGITS, 1.0, None, None, random) for _ in range(2000)]
    share = got.count(1) / 2000
    expect(0.36 < share < 0.44, f"Token 1 has probability 0.4 and was drawn with {share:.2f}.")
    expect(
        {mine.draw(LOGITS, 1.0, 2, None, random) for _ in range(200)} == {1, 4},
        "With top_k=2, tokens 1 and 4 should come.",
    )
    expect(
        {mine.draw(LOGITS, 1.0, None, 0.5, random) for _ in range(200)} == {1, 4},
        "With top_p=0.5, tokens 1 and 4 should come.",
    )
    expect(
        {mine.draw(LOGITS, 4.0, None, 0.5, random) for _ in range(300)} == {1, 2, 4},
        "Temperature comes first: at 4 the choice is flatter, and it takes three tokens to have a share of 0.5.",
    )
    for seed in range(20):
        sampling = package.Sampling(temperature=0.7, top_k=4, top_p=0.8)
        theirs = package.next_token(LOGITS, sampling, torch.Generator().manual_seed(seed))
        same(
            mine.draw(LOGITS, 0.7, 4, 0.8, torch.Generator().manual_seed(seed)),
            theirs,
            f"what wikigpt draws with seed {seed}",
        )


@check(
    "attend: token by token as all at once",
    "Cache.extend: torch.cat([old, new], dim=2), keep both, return both. At first there is nothing old.",
    "One new token may see everything in the cache: no mask is needed for it.",
    "Of T new tokens behind S - T old, row t may see S - T + t + 1: torch.ones(T, S).tril(S - T).",
)
def attend(mine):
    q, k, v = torch.randn(3, 2, 3, 7, 4).unbind()
    right = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    whole = mine.attend(q, k, v, mine.Cache())
    same(
        whole,
        right,
        "attend of all at once, with an empty cache",
        {"nothing is masked": F.scaled_dot_product_attention(q, k, v)},
    )
    for cuts in ([1] * 7, [3, 1, 1, 2], [2, 5]):
        cache, parts = mine.Cache(), []
        for q_, k_, v_ in zip(q.split(cuts, 2), k.split(cuts, 2), v.split(cuts, 2), strict=True):
            parts.append(mine.attend(q_, k_, v_, cache))
        same(torch.cat(parts, 2), right, f"attend in parts of {cuts}, beside all at once")


@check(
    "generate: one token after another",
    "torch.tensor([ids]) is (1, T); the logits of the last position are model(...)[0, -1].",
    "Of a text longer than the context the model reads the end: ids[-context_length:].",
    "end_of_text ends it before it is added.",
)
def generate(mine):
    config = ModelConfig(
        vocab_size=61, context_length=64, emb_dim=24, n_heads=3, n_layers=2, drop_rate=0.0, qkv_bias=True
    )
    model = GPTModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    prompt = [1, 2, 3]
    for temperature in (0, 0.9):
        sampling = package.Sampling(30, temperature, 20, 0.9, seed=3)
        theirs = list(package.generate_ids(model, prompt, 60, sampling))
        random = torch.Generator().manual_seed(3)
        got = mine.generate(model, prompt, 30, 60, temperature=temperature, top_k=20, top_p=0.9, generator=random)
        with_prompt = {"the prompt is part of the answer, and should not be": prompt + theirs}
        same(got, theirs, f"generate at temperature {temperature}, beside wikigpt's", with_prompt)
    same(prompt, [1, 2, 3], "generate changes the ids that it is given: these")
    first = mine.generate(model, prompt, 5, -1, temperature=0, top_k=None, top_p=None, generator=torch.Generator())
    rest = mine.generate(model, prompt, 5, first[2], temperature=0, top_k=None, top_p=None, generator=torch.Generator())
    expect(first[2] not in rest and len(rest) <= 2, "end_of_text should end it, and not be part of the answer.")
    old = [(7 * place) % 59 for place in range(70)]
    greedy = {"temperature": 0, "top_k": None, "top_p": None, "generator": torch.Generator()}
    same(len(mine.generate(model, old, 3, -1, **greedy)), 3, "how many ids come after 70 with a context of 64")
    with torch.no_grad():
        last, begin = (int(model(torch.tensor([part]))[0, -1].argmax()) for part in (old[-64:], old[:64]))
    start = {"of a text longer than the context it reads the beginning, and should the end": [begin]}
    same(mine.generate(model, old, 1, -1, **greedy), [last], "what comes after 70 ids with a context of 64", start)
