"""lm-evaluation-harness on a run gives what its own `hf` backend gives for the exported model."""

import json
import shutil

import pytest
import yaml
from helpers import training_command

QUESTIONS = [
    {"question": "La Luna es", "choices": [" un satélite", " una ciudad de Francia", " x"], "label": 0},
    {"question": "", "choices": ["Hola", "Adiós"], "label": 1},
    {"question": "Con un espacio al final ", "choices": ["sí", "no", "quizá"], "label": 2},
    {"question": "muy largo " * 40, "choices": [" y más", " y menos"], "label": 0},
    {"question": "El Sol", "choices": ["a", "ab", "abc"], "label": 1},
]
TEXTS = [{"text": "La Tierra es un planeta. " * 20}, {"text": "Un texto con <|endoftext|> dentro."}, {"text": "Sol"}]
PROMPTS = [{"prompt": "La Luna", "answer": "x"}, {"prompt": "El río Tajo nace en España y " * 9, "answer": "y"}]


def write_task(folder, name, rows, **task):
    (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    record = {"task": name, "dataset_path": "json", "test_split": "test", "metadata": {"version": 1.0}}
    record |= {"dataset_kwargs": {"data_files": {"test": str(folder / f"{name}.jsonl")}}, **task}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(record))
    return path


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    """Three local tasks, one of each kind."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    means = {"aggregation": "mean", "higher_is_better": True}
    mc = {"doc_to_text": "{{question}}", "doc_to_choice": "choices", "doc_to_target": "label"}
    mc |= {"metric_list": [{"metric": metric, **means} for metric in ("acc", "acc_norm")]}
    kinds = ("word_perplexity", "byte_perplexity", "bits_per_byte")
    aggregated = dict(zip(kinds, ("weighted_perplexity", "weighted_perplexity", "bits_per_byte"), strict=True))
    rolling = {"doc_to_text": "", "doc_to_target": "{{text}}"}
    rolling |= {"metric_list": [{"metric": kind, "aggregation": how} for kind, how in aggregated.items()]}
    writing = {
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "exact_match", **means}],
    }
    writing |= {"generation_kwargs": {"until": ["\n"], "max_gen_toks": 9, "do_sample": False}}
    return [
        write_task(tmp_path, "mini_mc", QUESTIONS, output_type="multiple_choice", **mc),
        write_task(tmp_path, "mini_rolling", TEXTS, output_type="loglikelihood_rolling", **rolling),
        write_task(tmp_path, "mini_writing", PROMPTS, output_type="generate_until", **writing),
    ]


def theirs(folder, tasks, tmp_path):
    """The harness's own results for an exported folder, and what it wrote."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    settings = json.loads((copy / "generation_config.json").read_text())
    settings.pop("max_new_tokens", None)  # with it transformers ignores what the harness asks for
    (copy / "generation_config.json").write_text(json.dumps(settings))
    return lm_eval.simple_evaluate(
        model="hf", model_args={"pretrained": str(copy), "dtype": "float32", "device": "cpu"}, batch_size=2,
        tasks=[str(task) for task in tasks], task_manager=TaskManager(include_defaults=False), bootstrap_iters=0,
    )  # fmt: skip


def close(ours, result):
    """Every score of ours is the harness's."""
    for task, scores in ours.items():
        for name, value in scores.items():
            if name.endswith("_stderr") or name == "sample_len":
                continue
            assert value == pytest.approx(result["results"][task][f"{name},none"], rel=1e-4), (task, name)


def test_it_scores_a_run_as_its_own_backend_does_the_export(at_house, house, tasks, tmp_path, capsys):
    named = " ".join(map(str, tasks))
    assert at_house(f"evaluate --run r --lm_eval {named} --json") == 0
    out = capsys.readouterr()
    ours = json.loads(out.out)["lm_eval"]
    assert set(ours) == {"mini_mc", "mini_rolling", "mini_writing"} and {"acc", "acc_norm"} <= ours["mini_mc"].keys()
    assert ours["mini_rolling"]["bits_per_byte"] > 1 and "it/s" not in out.err
    kept = json.loads((house / "models/r/evaluation/step_00000012/lm_eval.json").read_text())
    assert kept == ours
    close(ours, theirs(house / "exports/r", tasks, tmp_path))


@pytest.mark.slow
def test_what_it_writes_and_a_modern_model_too(at_house, house, tasks, tmp_path, capsys, machine, data):
    from wikigpt.evaluate.harness import Harness, harness_scores
    from wikigpt.evaluate.language_model import of_run
    from wikigpt.generate import load_model
    from wikigpt.runs import read_run

    modern = "--arch qwen3 --qkv_bias False --n_kv_heads 1 --head_dim 16 --drop_rate 0 --run m --learning_rate 2e-2"
    assert at_house(training_command(modern)) == 0 and at_house("export --run m") == 0
    for run in ("m", "r"):
        model, tokenizer = load_model(read_run(house / "models" / run), "cpu")
        harness = Harness(of_run(run, model, tokenizer, machine), model, tokenizer)
        ours = harness_scores(harness, [str(task) for task in tasks], None, [], False)
        result = theirs(house / "exports" / run, tasks, tmp_path / run)
        close(ours, result)
        written = [sample["resps"][0][0] for sample in result["samples"]["mini_writing"]]
        asked = {"until": ["\n"], "max_gen_toks": 9, "do_sample": False}
        assert [harness._generate(prompt["prompt"], asked) for prompt in PROMPTS] == written


def test_a_task_of_training_articles_is_refused(at_house, data, tokenizer, tmp_path, tasks, capsys):
    from wikigpt.evaluate.articles import read_texts

    seen = next(read_texts(data, "train", tokenizer)).row["title"]
    rows = [{"title": seen, "text": "Algo."}, {"title": "No hay tal cosa", "text": "Nada."}]
    metrics = [{"metric": "bits_per_byte", "aggregation": "bits_per_byte"}]
    rolling = {"doc_to_text": "", "doc_to_target": "{{text}}", "metric_list": metrics}
    task = write_task(tmp_path, "titles", rows, output_type="loglikelihood_rolling", **rolling)
    assert at_house(f"evaluate --run r --lm_eval {task}") == 2
    assert f"1 of the 2 articles in titles are among those that it was trained on ({seen})" in capsys.readouterr().err
    assert at_house(f"evaluate --run r --lm_eval {task} --with_trained_on") == 0


def test_a_task_that_is_not_there_gets_one_line(at_house, tasks, capsys):
    assert at_house("evaluate --run r --lm_eval nothing.yaml") == 2
    assert "There is no file nothing.yaml" in capsys.readouterr().err.splitlines()[-1]
    tasks[0].write_text("task: broken\ndataset_path: json\noutput_type: multiple_choice\n")
    assert at_house(f"evaluate --run r --lm_eval {tasks[0]}") == 2
    assert "Traceback" not in capsys.readouterr().err
