"""How good a model is, in figures that mean something, beside models that only count.

score.py            a split in windows, as training sees it
counting.py         unigram, bigram, 5-gram
language_model.py   anything that gives texts probabilities: a run, a model of transformers
articles.py         a split by article, with an interval, the best and the worst
ladder.py           all of them on the same articles, xz and zstd too
tasks.py            WikiText, LAMBADA, HellaSwag, and the score of a cloze
cloze.py            its questions, made of held-out articles
harness.py          EleutherAI's lm-evaluation-harness on a run
held_out.py         what of that the run was trained on
kept.py             where all of it is kept in a run
"""

from wikigpt.evaluate.counting import bigram_score
from wikigpt.evaluate.score import Score, evaluate, evaluate_split, words

__all__ = ["Score", "bigram_score", "evaluate", "evaluate_split", "words"]
