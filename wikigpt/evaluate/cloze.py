"""A cloze in any language: which of four titles belongs into this article?

    held-out articles ──> lead with its title hidden ──> four titles of like length and category ──> Choice

Each title is put where the article has its own: as heading and where its first paragraph first names it. What is scored is
the text behind it, up to where the title would come again, so that all four are judged by the same words, and no title by
how likely it is itself.

Source: the idea of scoring the rest and not the candidate is Trinh & Le 2018, "A Simple Method for Commonsense Reasoning".
"""

import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wikigpt.data.article import prompt
from wikigpt.errors import DataError
from wikigpt.evaluate.articles import Text, count_words

POOL = 2000  # articles that questions and wrong titles are taken from, the first by the order of their hashes
LONGEST = 300  # characters that are scored
SHORTEST = 40


@dataclass(frozen=True)
class Question:
    """What stands before the scored words with each of four titles, the right one the first; and these words."""

    befores: Sequence[str]
    behind: str


@dataclass(frozen=True)
class Hidden:
    """An article's lead without its title."""

    title: str
    before: str
    behind: str


def cloze(texts: Sequence[Text]) -> list[Question]:
    """Questions about articles, at most POOL of them. Raises DataError where there are none."""
    by_chance = sorted(texts, key=lambda text: hash_of(text.row["title"]))[:POOL]
    leads = [hidden for text in by_chance if (hidden := hide(text)) is not None]
    questions = []
    for lead, likeness in zip(leads, _likeness(leads), strict=True):
        titles = [lead.title, *_others(lead, leads, likeness)]
        if len(titles) == 4:
            befores = [f"{prompt(title)}{lead.before}{title}" for title in titles]
            questions.append(Question(befores, lead.behind))
    if not questions:
        raise DataError("Too few of these articles name their title in their lead.", "Prepare more articles.")
    return questions


def hash_of(title: str) -> bytes:
    """An order that is the same everywhere and has nothing to do with the alphabet."""
    return hashlib.sha256(title.encode()).digest()


def hide(text: Text) -> Hidden | None:
    """Cuts the first paragraph before and after its title ("Mercury" of "Mercury (planet)"). None where the title does not
    stand there, or too little behind it."""
    title = re.sub(r"\s*[(（].*[)）]$", "", text.row["title"]) or text.row["title"]
    if not title:
        return None
    body = text.text.removeprefix(prompt(text.row["title"]))
    before, found, behind = body.split("\n\n")[0].partition(title)
    behind = behind.partition(title)[0][:LONGEST]
    if behind[:1].isalpha() and count_words(body) is not None:  # inside of a word: "Art" in "Arthurian"
        return None
    return Hidden(title, before, behind) if found and len(behind.strip()) >= SHORTEST else None


def _likeness(leads: Sequence[Hidden]) -> list[dict[int, float]]:
    """How much each article is of one kind with each other: the rare words that both leads hold, each worth the logarithm
    of how rare it is. (In a script without spaces pairs of characters are the words.)"""
    if not leads:
        return []
    bags = [set(re.findall(r"\w+", lead.behind.lower())) for lead in leads]
    if np.mean([len(bag) for bag in bags]) < 5:
        bags = [{lead.behind[n : n + 2] for n in range(len(lead.behind) - 1)} for lead in leads]
    places = defaultdict(list)
    for number, bag in enumerate(bags):
        for word in bag:
            places[word].append(number)
    found = [defaultdict[int, float](float) for _ in leads]
    for numbers in places.values():
        worth = math.log(len(leads) / len(numbers))
        if 1 < len(numbers) <= max(20, len(leads) // 10):
            for one in numbers:
                for other in numbers:
                    found[one][other] += worth
    return [dict(worths) for worths in found]


def _others(own: Hidden, leads: Sequence[Hidden], likeness: dict[int, float]) -> list[str]:
    """Three titles about as long and, among these, of the likest kind."""
    lead, length = own.before + own.behind, len(own.title)
    possible = [n for n, other in enumerate(leads) if other.title != own.title and other.title not in lead]
    possible.sort(key=lambda n: (abs(len(leads[n].title) - length), n))
    near = [n for n in possible if abs(len(leads[n].title) - length) <= max(2, length // 4)]
    likest = sorted(
        near if len(near) >= 3 else possible, key=lambda n: -likeness.get(n, 0.0) if len(near) >= 3 else 0.0
    )
    return list(dict.fromkeys(leads[n].title for n in likest))[:3]
