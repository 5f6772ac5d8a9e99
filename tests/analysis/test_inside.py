"""Attention, lens and norms are what transformers and PyTorch say, for both shapes of model."""

import math

import pytest
import torch
import torch.nn.functional as F

from wikigpt.analysis.inside import logit_lens, look_inside, nearest, norms
from wikigpt.analysis.surprise import pieces, surprise
from wikigpt.evaluate.articles import read_texts, score_articles
from wikigpt.evaluate.language_model import of_run
from wikigpt.generate import load_model
from wikigpt.runs import read_run

IDS = [999, 3, 250, 17, 512, 44, 3, 8, 700, 1, 2, 90]


@pytest.fixture(params=["r", "m"])
def both(request, house):
    """A run's model and tokenizer, and the same model in transformers."""
    from transformers import AutoModelForCausalLM

    model, tokenizer = load_model(read_run(house / "models" / request.param), "cpu")
    folder = str(house / "exports" / request.param)
    theirs = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", trust_remote_code=False)
    return model, tokenizer, theirs.eval()


def test_attention_and_stream_are_those_of_transformers(both):
    model, _, theirs = both
    inside = look_inside(model, IDS)
    with torch.no_grad():
        known = theirs(torch.tensor([IDS]), output_attentions=True, output_hidden_states=True)
    assert torch.allclose(inside.attention_LHTT, torch.cat(known.attentions), atol=1e-5)
    assert torch.allclose(inside.stream_LTD[:-1], torch.cat(known.hidden_states[:-1]), atol=1e-4)
    assert torch.allclose(inside.attention_LHTT.sum(-1), torch.ones(()))
    tokens, sure = logit_lens(model, inside, top=3)
    best = known.logits[0].softmax(-1).topk(3)
    assert torch.equal(tokens[-1], best.indices) and torch.allclose(sure[-1], best.values, atol=1e-5)
    assert tokens.shape == (model.config.n_layers + 1, len(IDS), 3)


def test_looking_leaves_the_model_as_it_was_and_is_exact_with_fused_attention(both):
    from wikigpt.transformer import Plain

    model, *_ = both
    before = model(torch.tensor([IDS]))
    inside = look_inside(model, IDS)
    assert torch.equal(model(torch.tensor([IDS])), before)
    assert all(not block._forward_hooks and not block._forward_pre_hooks for block in model.blocks)

    class Fused(Plain):
        """What training on a card uses: it never has the weights."""

        @staticmethod
        def attention(q_BHTK, k_BGTK, v_BGTK, dropout=0.0):
            times = q_BHTK.shape[1] // k_BGTK.shape[1]
            k, v = (x.repeat_interleave(times, 1) for x in (k_BGTK, v_BGTK))
            return F.scaled_dot_product_attention(q_BHTK, k, v, is_causal=True)

    model.use(Fused)
    fused = model(torch.tensor([IDS]))
    again = look_inside(model, IDS)
    assert torch.equal(again.attention_LHTT, inside.attention_LHTT)
    assert torch.allclose(model.head(model.final_norm(again.stream_LTD[-1])), fused[0], atol=1e-4)
    with pytest.raises(ValueError, match="do not fit"):
        look_inside(model, [1] * 40)
    assert all(not block._forward_hooks for block in model.blocks)


def test_norms_are_those_of_a_plain_backward_pass(both):
    model, *_ = both
    found = {norm.layer: norm for norm in norms(model, IDS)}
    assert all(parameter.grad is None for parameter in model.parameters())
    row = torch.tensor([IDS])
    F.cross_entropy(model(row[:, :-1])[0], row[0, 1:]).backward()
    block = math.sqrt(sum(p.grad.pow(2).sum().item() for p in model.blocks[1].parameters()))
    assert found["block 1"].gradient == pytest.approx(block, rel=1e-4)
    embeddings = [model.tok_emb.weight] + ([model.pos_emb.weight] if model.pos_emb is not None else [])
    assert found["embeddings"].gradient == pytest.approx(
        math.sqrt(sum(p.grad.pow(2).sum().item() for p in embeddings)), rel=1e-4
    )
    stream = look_inside(model, IDS[:-1]).stream_LTD
    assert found["block 0"].activation == pytest.approx(stream[1].pow(2).mean().sqrt().item(), rel=1e-5)
    assert list(found) == ["embeddings", "block 0", "block 1", "head"]


def test_neighbours_by_hand(both):
    model, tokenizer, _ = both
    weight = model.tok_emb.weight.detach()
    cosines = [
        (F.cosine_similarity(weight[300], weight[n], dim=0).item(), n) for n in range(tokenizer.vocab_size) if n != 300
    ]
    expected = [(tokenizer.decode([n]), c) for c, n in sorted(cosines, reverse=True)[:5]]
    found = nearest(model, tokenizer, 300, 5)
    assert [word for word, _ in found] == [word for word, _ in expected]
    assert [cosine for _, cosine in found] == pytest.approx([cosine for _, cosine in expected], abs=1e-5)


def test_surprise_adds_up_to_what_evaluate_says_of_an_article(both, data, machine):
    model, tokenizer, _ = both
    text = next(text for text in read_texts(data, "test", tokenizer) if len(text.ids) > 60)
    ours = of_run("r", model, tokenizer, machine)
    ids = [tokenizer.end_of_text, *text.ids.tolist()]
    tokens = surprise(ours, tokenizer, ids, 32, 16)
    (score,) = score_articles(ours, [text], tokenizer.sha256, 32, 16)
    assert sum(token.bits for token in tokens) == pytest.approx(score.nats / math.log(2), rel=1e-4)
    assert "".join(token.text for token in tokens) == text.text + "<|endoftext|>"
    with torch.no_grad():
        log_probs = torch.log_softmax(model(torch.tensor([ids[:8]]))[0, -1], -1)
    assert tokens[7].bits == pytest.approx(-log_probs[ids[8]].item() / math.log(2), abs=1e-3)
    best = log_probs.exp().topk(5)
    assert [p for _, p in tokens[7].alternatives] == pytest.approx(best.values.tolist(), abs=1e-4)
    assert [word for word, _ in tokens[7].alternatives] == [tokenizer.decode([n]) for n in best.indices.tolist()]


def test_a_character_comes_with_its_last_token(both):
    _, tokenizer, _ = both
    text = "日本 पेरिस 🙂"
    ids = tokenizer.encode(text).tolist()
    shown = list(pieces(tokenizer, ids))
    assert "".join(shown) == text and len(shown) == len(ids) and "" in shown
