"""Ids are the same in every library, text comes back as it was, and no text can write a special token."""

import json
import unicodedata

import pytest
import tiktoken
from tiktoken.load import load_tiktoken_bpe

from wikigpt import tokenizer as tokenizers
from wikigpt.data.article import Article
from wikigpt.data.sources import sample
from wikigpt.errors import DataError
from wikigpt.tokenizer import END_OF_TEXT, PATTERN, gpt2, train_bpe

HARD = {
    "english": "The quick brown fox doesn't jump over 1,234.5 lazy dogs; it's THEY'LL o'clock.\n\n  Indented\ttabs\r\n",
    "hindi": "हिन्दी विश्व की एक प्रमुख भाषा है। क़िताबें १२३",
    "bengali": "বাংলা ভাষা একটি ইন্দো-আর্য ভাষা, কৃষ্ণ ১৯৫২",
    "tamil": "தமிழ் மொழி ஒரு செம்மொழி ஆகும்",
    "thai": "ภาษาไทยเป็นภาษาที่มีระดับเสียงของคำแน่นอน",
    "arabic": "اللُّغَةُ العَرَبِيَّة هي أكثر اللغات ١٢٣",
    "chinese": "维基百科是一个自由内容的百科全书。繁體中文，２０２６年",
    "emoji": "👩‍👩‍👧‍👦 🇫🇷 👍🏽 ❤️ a\u0301\u0302 ſ K",
    "control": "a\x00b\x01c\x1c\x1d\x85\u2028\u2029\x0b\x0c\x7f\ufeff\u200b\u200d\u00a0  \u3000 end   ",
    "special": "before<|endoftext|>after <|endoftext|><|endoftext|>\n<|im_start|>",
    "spaces": "   \n \n\n   x  \t\t y\r\n\r\n   ",
    "accents": "Cafe\u0301 naïve Ångström Ελλάδα Ёлка " + unicodedata.normalize("NFD", "Việt Nam"),
    "empty": "",
}


@pytest.fixture(scope="module")
def bpe():
    source = sample("en")
    articles = [article.text for article in source if isinstance(article, Article) and not article.id]
    return train_bpe([*articles[:2000], *HARD.values()], 2000)


@pytest.fixture(scope="module", params=["gpt2", "bpe"])
def tokenizer(request, bpe):
    return gpt2() if request.param == "gpt2" else bpe


@pytest.fixture(scope="module")
def hugging_face(tokenizer, tmp_path_factory):
    from tokenizers import Tokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(folder)
    loaded = Tokenizer.from_file(str(folder / "tokenizer.json"))
    loaded.encode_special_tokens = True  # not stored in the file: without it text can write end-of-text
    return folder, loaded


@pytest.mark.parametrize("name", HARD)
def test_text_comes_back_as_it_was(tokenizer, name):
    assert tokenizer.decode(tokenizer.encode(HARD[name])) == HARD[name]


@pytest.mark.parametrize("name", HARD)
def test_hugging_face_gives_the_same_ids(tokenizer, hugging_face, name):
    _, loaded = hugging_face
    assert loaded.encode(HARD[name], add_special_tokens=False).ids == tokenizer.encode(HARD[name]).tolist()
    assert loaded.decode(tokenizer.encode(HARD[name]).tolist(), skip_special_tokens=False) == HARD[name]


@pytest.mark.parametrize("name", HARD)
def test_the_saved_ranks_give_tiktoken_the_same_ids(tokenizer, hugging_face, name):
    folder, _ = hugging_face
    ranks = load_tiktoken_bpe(str(folder / "tokenizer.tiktoken"))
    special = {END_OF_TEXT: len(ranks)}
    plain = tiktoken.Encoding("x", pat_str=tokenizer.pattern, mergeable_ranks=ranks, special_tokens=special)
    assert plain.encode_ordinary(HARD[name]) == tokenizer.encode(HARD[name]).tolist()


def test_a_saved_tokenizer_loads_as_it_was(tokenizer, hugging_face):
    folder, _ = hugging_face
    loaded = tokenizers.load(folder)
    assert (loaded.ranks, loaded.pattern, loaded.sha256) == (tokenizer.ranks, tokenizer.pattern, tokenizer.sha256)
    assert loaded.end_of_text == tokenizer.end_of_text


@pytest.mark.parametrize("text", ["\ud800", "a\udc00b", "\ud83d", "x\udfff\ud800y"])
def test_a_broken_surrogate_is_a_replacement_character(tokenizer, text):
    repaired = tokenizer.decode(tokenizer.encode(text))
    assert "\ufffd" in repaired
    assert tokenizer.encode(repaired).tolist() == tokenizer.encode(text).tolist()


def test_text_never_yields_the_special_id(tokenizer):
    ids = tokenizer.encode(HARD["special"]).tolist()
    assert tokenizer.end_of_text not in ids
    assert len(tokenizer.encode(END_OF_TEXT)) > 1


def test_every_id_says_how_many_bytes_it_stands_for(tokenizer):
    for text in HARD.values():
        assert tokenizer.token_bytes[tokenizer.encode(text)].sum() == len(text.encode())
    assert tokenizer.token_bytes[tokenizer.end_of_text] == 0


def test_gpt2_is_gpt2():
    assert gpt2().encode("Hello world").tolist() == [15496, 995]
    assert (gpt2().vocab_size, gpt2().end_of_text) == (50257, 50256)


def test_training_twice_gives_the_same_tokenizer(bpe):
    texts = list(HARD.values()) * 3
    assert train_bpe(texts, 600).sha256 == train_bpe(texts, 600).sha256
    assert bpe.vocab_size == 2000


def test_a_small_text_gives_a_small_vocabulary():
    assert train_bpe(["aaaa"], 5000).vocab_size < 300


def test_marks_stay_with_their_letters(bpe):
    import regex

    def pieces(pattern):
        return len(regex.findall(pattern, "हिन्दी विश्व की एक प्रमुख भाषा"))

    assert pieces(PATTERN) == 6
    assert pieces(gpt2().pattern.replace("++", "+")) > 12
    assert json.loads(bpe.json)["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] == PATTERN


def test_a_folder_without_a_tokenizer_says_so(tmp_path):
    with pytest.raises(DataError, match="not a byte-level BPE"):
        tokenizers.load(tmp_path)
    with pytest.raises(DataError, match="Take 257 or more"):
        train_bpe(["text"], 256)


def foreign(kind, texts):
    """Tokenizers as other projects have them, trained by the Hugging Face library."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    cut = {
        "gpt2": pre_tokenizers.ByteLevel(add_prefix_space=False),
        "llama": pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(CL100K), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
        ),
        "starcoder": pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        ),
        "words": pre_tokenizers.Sequence(  # a pattern that does not match everything
            [pre_tokenizers.Split(Regex(r"\p{L}+"), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
        ),
    }
    made.pre_tokenizer = cut[kind]
    made.decoder = decoders.ByteLevel()
    if kind == "llama":
        made.normalizer = normalizers.NFC()
    special = ["<|padding|>", "</s>"] if kind == "gpt2" else ["<|end_of_text|>"]  # they come first: ids are not ranks
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1500, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(texts, trainer)
    return made


CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.fixture(scope="module")
def texts():
    source = sample("en")
    return [article.text for article in source if isinstance(article, Article) and not article.id][:1500] + list(
        HARD.values()
    )


@pytest.mark.parametrize("kind", ["gpt2", "llama", "starcoder", "words"])
def test_any_byte_level_bpe_gives_its_own_ids(kind, texts, tmp_path):
    theirs = foreign(kind, texts)
    theirs.save(str(tmp_path / "tokenizer.json"))
    theirs.encode_special_tokens = True
    ours = tokenizers.load(tmp_path, foreign=True)
    for text in [*HARD.values(), *texts[::10]]:
        ids = ours.encode(text).tolist()
        assert ids == theirs.encode(text, add_special_tokens=False).ids
        assert ours.decode(ids) == (unicodedata.normalize("NFC", text) if kind == "llama" else text)
        assert ours.end_of_text not in ids
    assert ours.vocab_size == theirs.get_vocab_size()
    ours.save(tmp_path / "saved")  # as it came, and read back as the same
    assert (tmp_path / "saved" / "tokenizer.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()
    again = tokenizers.load(tmp_path / "saved")
    assert again.gives_the_ids_of(ours) and again.sha256 == ours.sha256 and not ours.gives_the_ids_of(gpt2())


def pattern(record, regex):
    record["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = regex


def cut_elsewhere(model):
    """One token becomes the merge of another pair than the one that byte-pair merging comes to."""
    for number, (a, b) in enumerate(model["merges"]):
        other = [a + b[0], b[1:]]
        if len(b) > 1 and other[0] in model["vocab"] and other[1] in model["vocab"]:
            model["merges"][number] = other
            return
    raise AssertionError("no such token")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: r["model"].update(type="Unigram"), "is no byte-level BPE"),
        (lambda r: r.update(decoder={"type": "Metaspace"}), "is not byte-level"),
        (lambda r: r.update(normalizer={"type": "Lowercase"}), "changes text by Lowercase"),
        (lambda r: r.update(added_tokens=[]), "has none of <|endoftext|>"),
        (lambda r: r["added_tokens"].append({"id": 5, "content": "  ", "special": False}), "that are plain text"),
        (lambda r: r.update(pre_tokenizer={"type": "Whitespace"}), "cuts text with Whitespace"),
        (lambda r: cut_elsewhere(r["model"]), "in an order of its own"),
        (lambda r: r["model"].update(dropout=0.5), "merges at random"),
        (lambda r: pattern(r, r"^[^\n]+|\s+"), "gives other ids here than in Hugging Face's library"),
        (lambda r: pattern(r, r"\s*"), "cuts text with a pattern that matches nothing"),
        (lambda r: pattern(r, r" ?[^(\s|[.,!?])]+"), "is not a byte-level BPE tokenizer.json"),
        (lambda r: r["model"]["vocab"].pop("a"), "lacks a token for some byte"),
        (lambda r: r.pop("model"), "is not a byte-level BPE tokenizer.json"),
    ],
)
def test_what_cannot_be_read_says_why(bpe, tmp_path, change, says):
    record = json.loads(bpe.json)
    change(record)
    (tmp_path / "tokenizer.json").write_text(json.dumps(record))
    with pytest.raises(DataError) as error:
        tokenizers.load(tmp_path, foreign=True)
    assert says in str(error.value)
