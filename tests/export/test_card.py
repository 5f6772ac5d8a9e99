"""The card says what the run was, passes the hub's rules, and its commands make the run again, to the byte."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest
import yaml
from helpers import state
from loopback_hub import card_errors

from wikigpt.config import ModelConfig, RunConfig, TrainingSettings, modern
from wikigpt.export.card import card, in_bash
from wikigpt.export.licence import hub_licence, notice
from wikigpt.export.reproduce import prepare_command, train_command
from wikigpt.export.trained import Form, read_trained, size
from wikigpt.metrics import read_all
from wikigpt.runs import read_run


@pytest.fixture
def trained(house):
    return read_trained(read_run(house / "models" / "r"))


def test_it_says_what_the_run_was(trained, exported, data):
    text = (exported / "README.md").read_text()
    run = trained.run.config
    (final,) = read_all(trained.run.path)["final"]
    for fact in (
        f"# {trained.name}", "**base model**", f"| parameters | {trained.config.n_parameters:,} |",
        "| layers, width, heads | 2, 32, 2 |",
        f"**{final['bits_per_byte']:.3f}**", f"| Kneser-Ney bigram | {final['bigram_bits_per_byte']:.3f} |",
        f"{final['scored_bytes']:,} bytes", "this model before its first step", "| wiki, language | es, es |", data.hash,
        "summaries_es-es.json", data.manifest["source"]["files"][0]["sha256"], "duplicate",
        "3.0% of articles for validation",
        "sample-leads/1", run.tokenizer_hash, "30 steps of 512 tokens",
        "AdamW for the rest, gradients clipped at 1", "0.02, of Muon 0.014, wsd",
        run.hardware, "2 threads", "in training steps", f"WikiGPT {run.wikigpt_version}", run.torch_version,
        run.wikigpt_commit.rstrip("+"), "**Queso de luna**", "word for word", "CC BY-SA 4.0", "curves.png",
        "vllm serve USER/wikigpt-es-0.1M", "mlx_lm.generate", "llama.cpp", "Ollama", "hf_infer.py", "--init_from",
        "trust_remote_code", "`<|endoftext|>`", "wikigpt prepare", "wikigpt train",
    ):  # fmt: skip
        assert fact in text, fact
    assert "$" not in re.sub(r"\$'[^']*'", "", text.replace("\\$", "")), "a place of the template was not filled in"
    assert re.fullmatch("[0-9a-f]{40}[+]?", run.wikigpt_commit)
    assert (exported / "curves.png").read_bytes().startswith(b"\x89PNG") and (
        exported / "curves.png"
    ).stat().st_size > 20_000


def head(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


def test_its_metadata_pass_the_rules_of_the_hub(trained, exported):
    from huggingface_hub import ModelCard

    text = (exported / "README.md").read_text()
    assert card_errors(text) == []
    data = ModelCard(text).data
    assert data.language == ["es"] and data.license == "cc-by-sa-4.0" and data.library_name == "transformers"
    found = {result.metric_type: result.metric_value for result in data.eval_results}
    (final,) = read_all(trained.run.path)["final"]
    assert found == {"bits_per_byte": round(final["bits_per_byte"], 4), "perplexity": round(final["perplexity"], 4)}


@pytest.mark.parametrize(
    ("wiki", "language"),
    [("no", ["nb"]), ("simple", ["en"]), ("zh-yue", ["yue"]), ("be-tarask", ["be"]), ("", None), ("tokipona", None)],
)
def test_languages_that_are_not_what_their_wiki_is_called(trained, wiki, language):
    run = replace(trained.run.config, source=[trained.run.config.source[0] | {"wiki": wiki}])
    text = card(replace(trained, run=replace(trained.run, config=run)), Form(), "USER/x")
    assert head(text).get("language") == language and card_errors(text) == []


@pytest.mark.parametrize(
    ("licences", "fields"),
    [
        (["CC BY-SA 4.0"], {"license": "cc-by-sa-4.0"}),
        (["CC0"], {"license": "cc0-1.0"}),
        (["not stated"], {"license": "unknown"}),
        ([], {"license": "unknown"}),
        (["My Own, v1"], {"license": "other", "license_name": "my-own-v1", "license_link": "LICENSE"}),
        (["CC0", "MIT"], {"license": "other", "license_name": "cc0-and-mit", "license_link": "LICENSE"}),
        (
            ["CC BY-SA 4.0 International"],
            {"license": "other", "license_name": "cc-by-sa-4.0-international", "license_link": "LICENSE"},
        ),
        (["公有领域"], {"license": "other", "license_name": "see-license", "license_link": "LICENSE"}),
    ],
)
def test_licences(trained, licences, fields):
    source = [trained.run.config.source[0] | {"licence": licence} for licence in licences]
    run = replace(trained.run.config, source=source)
    assert hub_licence(run) == fields
    text = card(replace(trained, run=replace(trained.run, config=run)), Form(), "USER/x")
    assert card_errors(text) == []
    assert all(licence in text and licence in notice(run) for licence in licences)


def test_what_it_wrote_is_shown_as_it_is(trained, house):
    """Marks of Markdown and HTML in a sample do nothing."""
    path = trained.run.path / "samples.md"
    before = path.read_text()
    written = "> # Not a heading <script>alert(1)</script> *x* `y`\n>     - a\n> 1. b\n> &amp; http://c @d\n"
    path.write_text(f"{before}\n## Step 30\n\n**A | B**\n\n{written}")
    try:
        text = card(trained, Form(), "USER/x")
    finally:
        path.write_text(before)
    assert "> \\# Not a heading \\<script\\>alert(1)\\</script\\> \\*x\\* \\`y\\`" in text and "**A \\| B**" in text
    assert "> \\- a\n> 1\\. b\n> \\&amp; http\\://c \\@d\n" in text


def test_an_old_run_and_one_that_was_not_evaluated(trained):
    """run.json of before this version says less; another checkpoint than an evaluated one has no figures."""
    known = ("name", "wiki", "origin", "licence", "attribution", "articles", "tokens")
    source = [{key: value for key, value in trained.run.config.source[0].items() if key in known}]
    run = replace(trained.run.config, source=source, hardware="", wikigpt_commit="")
    text = card(replace(trained, run=replace(trained.run, config=run)), Form(), "USER/x")
    assert card_errors(text) == [] and "With WikiGPT:" in text
    assert "# how es was prepared was not recorded yet" in text
    other = replace(trained, checkpoint=trained.checkpoint.with_name("step_00000007"))
    text = card(other, Form(), "USER/x")
    assert "It was not evaluated at this step (7)." in text and "model-index" not in text and card_errors(text) == []
    assert "--keep_every 7\n" in text and "wikigpt export --run r --checkpoint 7\n" in text


def test_a_mixture_says_all_it_has_seen(trained):
    part = trained.run.config.source[0]
    source = [part, part | {"name": "novels", "wiki": "", "licence": "CC0", "attribution": "", "origin": "novels.txt"}]
    run = replace(trained.run.config, source=source, data="/home/alice/es:7/10,/home/alice/novels:3/10")
    text = card(replace(trained, run=replace(trained.run, config=run)), Form(), "USER/x")
    assert "tokens of Wikipedia (es), novels." in text and "Shares: `es:7/10,novels:3/10`." in text
    assert "alice" not in text and "- novels.txt Licence of this text: CC0." in text


@pytest.mark.parametrize(
    ("init_from", "known", "says", "licence"),
    [
        ("hf://openai-community/gpt2", False, "on the weights of openai-community/gpt2", "other"),
        ("/home/alice/secret/base", False, "on the weights of base", "other"),
        ("models/older", True, "on the weights of older", "cc-by-sa-4.0"),
    ],
)
def test_what_it_began_with_counts_too(trained, init_from, known, says, licence):
    older = (
        [trained.run.config.source[0] | {"name": "fr", "wiki": "fr", "attribution": "Text: French."}] if known else []
    )
    run = replace(trained.run.config, init_from=init_from, init_hash="abc", init_source=older)
    text = card(replace(trained, run=replace(trained.run, config=run)), Form(), "USER/x")
    assert says in text and "from scratch" not in text and "nothing else" not in text and "alice" not in text
    assert card_errors(text) == [] and head(text)["license"] == licence and "SHA-256 `abc`" in text
    assert head(text).get("base_model") == ("openai-community/gpt2" if init_from.startswith("hf") else None)
    assert ("Text: French." in text) == known == ("Text: French." in notice(run))
    assert ("It began with the weights of" in notice(run)) != known


def test_sizes():
    numbers = (477_056, 1_461_760, 9_960_000, 124_439_808, 999_600_000, 1_557_611_200)
    assert [size(n) for n in numbers] == ["0.5M", "1.5M", "10M", "124M", "1.0B", "1.6B"]


def commands_of(text: str) -> list[str]:
    block = text.split("## How to make it again")[1].split("```bash\n")[1].split("\n```")[0]
    return block.splitlines()


@pytest.mark.slow
def test_its_commands_make_the_run_again_to_the_byte(house, exported, tmp_path):
    lines = commands_of((exported / "README.md").read_text())
    assert len(lines) == 3
    for line in lines:
        command = line.replace("wikigpt", f"{sys.executable} -m wikigpt", 1)
        subprocess.run(command, shell=True, cwd=tmp_path, check=True, capture_output=True)
    assert state(tmp_path / "models" / "r") == state(house / "models" / "r")
    again = (tmp_path / "exports" / "r" / "model.safetensors").read_bytes()
    assert again == (exported / "model.safetensors").read_bytes()


PART = {
    "name": "x",
    "wiki": "pt",
    "origin": "o",
    "licence": "CC BY-SA 4.0",
    "attribution": "",
    "articles": 1,
    "tokens": 1,
}
GPT2 = {"tokenizer": "gpt2", "vocab_size": 50257, "held_out": 0.01, "hold_out": None, "max_articles": None}


@pytest.mark.parametrize(
    ("part", "command"),
    [
        (
            {"kind": "dump", "files": [{"name": "ptwiki-20261101-pages-articles1.xml-p1p9.bz2"}], "settings": GPT2},
            "wikigpt prepare --wiki pt --date 20261101 --name x --tokenizer gpt2 --held_out 0.01",
        ),
        (
            {"kind": "dump", "files": [{"name": "ptwiki-2026-11-01-p1p9.xml.bz2"}], "settings": GPT2 | {"max_articles": 9}},
            "wikigpt prepare --wiki pt --date 20261101 --name x --tokenizer gpt2 --held_out 0.01 --max_articles 9",
        ),
        (
            {"kind": "dump", "files": [{"name": "my dump.xml"}], "settings": GPT2 | {"tokenizer": "bpe", "vocab_size": 300}},
            "wikigpt prepare --path 'my dump.xml' --wiki pt --name x --tokenizer bpe --vocab_size 300 --held_out 0.01",
        ),
        (
            {"kind": "hf", "origin": "wikimedia/wikipedia, 20231101.pt, revision abc", "settings": GPT2},
            "wikigpt prepare --source hf --wiki pt --dataset wikimedia/wikipedia --date 20231101 --name x --tokenizer gpt2 "
            "--held_out 0.01",
        ),
        (
            {"kind": "hf", "origin": "HuggingFaceFW/finewiki, data/ptwiki, revision abc", "settings": {}},
            "wikigpt prepare --source hf --wiki pt --dataset HuggingFaceFW/finewiki --name x",
        ),
        (
            {
                "kind": "files", "wiki": "", "files": [{"name": "a.jsonl"}], "settings": GPT2 | {"tokenizer": "sha256 0"},
                "cleaner": "files/1 (text=the body, title=head)", "licence": "CC0",
            },
            "wikigpt prepare --path a.jsonl --name x --tokenizer TOKENIZER.json --held_out 0.01 --text_field 'the body' "
            "--title_field head --licence CC0",
        ),
        (
            {"kind": "files", "wiki": "", "files": [{"name": f"{n}.txt"} for n in range(100)], "cleaner": "f (text=a)"},
            "wikigpt prepare --path FILES --name x --text_field a --licence 'CC BY-SA 4.0'",
        ),
    ],
)  # fmt: skip
def test_how_data_was_prepared(part, command):
    assert prepare_command(PART | part) == command


def test_how_a_run_was_trained(house):
    run = RunConfig.load(house / "models" / "r" / "run.json")
    training = TrainingSettings(1e-3, 3, 2, 0.0, 7, 4, 0.0, "cosine")  # and AdamW
    other = replace(
        run, model=replace(run.model, qkv_bias=False), training=training, training_setting="mine", device="cuda",
        data="a/en:7/10,b/pt:3/10", init_from="hf://openai-community/gpt2", model_config="tiny",
    )  # fmt: skip
    command = train_command(other, "my run", 20)
    begins = "wikigpt train --data en:7/10,pt:3/10 --run 'my run'"
    assert command.startswith(f"{begins} --init_from hf://openai-community/gpt2 --training_setting fast ")
    assert "--model_config" not in command and "--drop_rate 0.0 " in command
    command = train_command(replace(other, init_from="/home/alice/base"), "my run", 20)
    assert "--init_from PATH/TO/base " in command and "alice" not in command
    command = train_command(replace(other, init_from=None), "my run", 20)
    assert command.startswith(f"{begins} --model_config tiny --training_setting fast ")
    assert "--qkv_bias False" in command and "--gradient_accumulation_steps 4" in command
    assert "--threads" not in command and command.endswith(" --keep_every 20")
    assert "--num_epochs" not in command and "--vocab_size" not in command


def test_how_a_modern_run_was_trained(house):
    run = RunConfig.load(house / "models" / "m" / "run.json")
    command = train_command(run, "m", 30)
    for flag in ("--arch qwen3", "--qkv_bias False", "--n_kv_heads 1", "--head_dim 24", "--zero_init True"):
        assert f" {flag} " in command
    assert "--ffn_dim" not in command and "--optimizer" not in command  # these follow, and are the preset's
    model, training = modern(3, 1000)
    deep = replace(
        run, model=ModelConfig(**model), training=TrainingSettings(**training), model_config="depth_3",
        training_setting="depth_3",
    )  # fmt: skip
    command = train_command(deep, "d", 30)
    assert command.startswith("wikigpt train --data es --run d --depth 3 --max_steps 30 --seed 0 --batch_size 64 ")


def test_a_prompt_in_bash():
    text = "# L'été \\ $HOME\n\n`x`"
    done = subprocess.run(["bash", "-c", f"printf %s {in_bash(text)}"], capture_output=True, text=True, check=True)
    assert done.stdout == text
