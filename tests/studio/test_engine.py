"""Who waits and who is told to come back; models in memory; nothing outside of the runs."""

import asyncio
import shutil

import pytest
from on_loopback import load
from starlette.concurrency import run_in_threadpool

from wikigpt.errors import ConfigError, RunError, WikiGPTError
from wikigpt.studio import engine as engines
from wikigpt.studio.asked import Stream
from wikigpt.studio.engine import Engine
from wikigpt.studio.turns import AT_ONCE, WAITING, Busy, Row, one_by_one


def test_a_model_is_loaded_once(engine):
    first = load(engine, "g")
    assert (
        load(engine, "g") is first and load(engine, "g", "12") is first and load(engine, "g", "step_00000012") is first
    )
    assert load(engine, "g", "best").run.name == "g" and load(engine, "m") is not first


def test_a_newer_checkpoint_is_seen_at_once(house, tmp_path):
    shutil.copytree(house / "models" / "g", tmp_path / "g")
    shutil.rmtree(tmp_path / "g/checkpoints/step_00000011")
    shutil.move(tmp_path / "g/checkpoints/step_00000012", tmp_path / "later")
    engine = Engine("cpu", str(tmp_path))
    assert load(engine, "g").checkpoint == "step_00000006"
    shutil.move(tmp_path / "later", tmp_path / "g/checkpoints/step_00000012")
    assert load(engine, "g").checkpoint == "step_00000012" and load(engine, "g").name == "g@12"


def test_only_a_few_models_are_kept(engine, monkeypatch):
    monkeypatch.setattr(engines, "KEPT", 2)
    first = load(engine, "g")
    load(engine, "m")
    load(engine, "g", "6")
    assert len(engine._loaded) == 2 and load(engine, "g") is not first
    monkeypatch.setattr(engines, "SHARE", 0.0)
    load(engine, "m")
    assert len(engine._loaded) == 1


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../models/g", "g/../g", "/etc", ".hidden", "no-such", "g\\..", "g/", "a\0b", "x" * 5000]
)
def test_a_name_is_never_a_path(engine, name):
    with pytest.raises(RunError):
        engine.run(name)


@pytest.mark.parametrize(
    "which", ["../checkpoints/step_00000012", "..", "/etc", "", "-1", "1e3", "step_12", "latest/..", "٣"]
)
def test_a_checkpoint_is_never_a_path(engine, which):
    with pytest.raises((RunError, ConfigError)):
        load(engine, "g", which)


@pytest.mark.parametrize("which", ["7", "99999999", "final"])
def test_a_checkpoint_that_is_not_there(engine, which):
    with pytest.raises(RunError, match="has no checkpoint"):
        load(engine, "g", which)


def test_a_damaged_checkpoint_is_said(house, tmp_path):
    shutil.copytree(house / "models" / "g", tmp_path / "g")
    weights = tmp_path / "g/checkpoints/step_00000012/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(WikiGPTError):
        load(Engine("cpu", str(tmp_path)), "g")


def test_some_wait_and_the_next_is_told_to_come_back(engine):
    tickets = [engine.models.ticket() for _ in range(AT_ONCE + WAITING)]
    with pytest.raises(Busy):
        engine.models.ticket()
    tickets[0].give_back()
    tickets[0].give_back()  # twice is once
    engine.models.ticket()
    with pytest.raises(Busy):
        engine.models.ticket()


def test_only_so_many_calculate_at_once(engine):
    now, most = 0, 0

    def work() -> None:
        import time

        nonlocal now, most
        now += 1
        most = max(most, now)
        time.sleep(0.02)
        now -= 1

    async def all_of_them() -> None:
        await asyncio.gather(*(engine.models.work(work) for _ in range(10)))

    asyncio.run(all_of_them())
    assert most == AT_ONCE and not engine.models.tickets


def test_what_fails_gives_its_place_back(engine):
    def work() -> None:
        raise RuntimeError("no")

    async def often() -> None:
        for _ in range(3 * (AT_ONCE + WAITING)):
            with pytest.raises(RuntimeError):
                await engine.models.work(work)

    asyncio.run(often())
    assert not engine.models.tickets


def test_an_item_is_made_when_it_is_asked_for():
    made = []

    def items():
        for n in range(5):
            made.append(n)
            yield n

    async def some() -> list[int]:
        found = []
        async for item in one_by_one(items()):
            found.append(item)
            await run_in_threadpool(lambda: None)
            assert made == found
        return found

    assert asyncio.run(some()) == [0, 1, 2, 3, 4]


def test_a_stream_that_is_given_up_lets_go_of_its_turn_at_once():
    """Not when somebody happens to collect what is left of it."""

    async def forever():
        while True:
            yield {"id": 1}

    async def nobody_reads(message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.sleep(60)

    async def give_up() -> None:
        row = Row()
        stream = Stream(row.ticket(), forever())
        task = asyncio.create_task(stream.stream_response(nobody_reads))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for _ in range(AT_ONCE):
            await asyncio.wait_for(row.turns.acquire(), 1)
        assert stream.body_iterator  # it is still there

    asyncio.run(give_up())
