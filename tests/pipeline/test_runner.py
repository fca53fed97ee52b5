"""The runner on a toy story of three steps: numbers -> doubled -> total."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from pydantic import Field

from pipeline import engine, keys, runner, seals
from pipeline.steps import Step, downstream, find, upstream
from stages import store
from stages.contracts import Engine, Inputs, Interrupted, UserError
from stages.settings import InputPath, Settings

RAN: list[str] = []


class NumbersSettings(Settings):
    """Where the numbers come from."""

    source: InputPath
    """A JSON file."""


class DoubledSettings(Settings):
    """How much."""

    factor: int = Field(2, ge=0)
    """Times."""
    fail: bool = False
    """Stop half-way, as a fault would."""


class TotalSettings(Settings):
    """Nothing to set."""


def numbers(settings: NumbersSettings, inputs: Inputs, out: Path, seed: int, engine: Engine) -> None:
    RAN.append("numbers")
    store.write_json(out / "numbers.json", store.read_json(settings.source))


def doubled(settings: DoubledSettings, inputs: Inputs, out: Path, seed: int, engine: Engine) -> None:
    RAN.append("doubled")
    store.write_json(out / "half.json", 1)
    if settings.fail:
        raise RuntimeError("broke half-way")
    values = [abs(settings.factor) * n for n in store.read_json(inputs["numbers"] / "numbers.json")]
    store.write_json(out / "doubled.json", values)


def total(settings: TotalSettings, inputs: Inputs, out: Path, seed: int, engine: Engine) -> None:
    RAN.append("total")
    store.write_json(out / "total.json", [sum(store.read_json(inputs["doubled"] / "doubled.json")), seed])


def story(source: Path, **doubled_settings: object) -> list[Step]:
    return [
        Step("numbers", numbers, NumbersSettings(source=source)),
        Step("doubled/main", doubled, DoubledSettings(**doubled_settings), {"numbers": "numbers"}),
        Step("total", total, TotalSettings(), {"doubled": "doubled/main"}),
    ]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.json"
    path.write_text("[1, 2, 3]")
    return path


def go(root: Path, steps: list[Step], seed: int = 0, again: frozenset[str] = frozenset()) -> dict[str, seals.Seal]:
    RAN.clear()
    return runner.go(runner.Run(root, "toy", seed), steps, engine.Serial(), again)


def words(root: Path, steps: list[Step]) -> list[str]:
    return [state.word for state in runner.states(runner.Run(root, "toy", 0), steps)]


def test_a_second_run_does_nothing(tmp_path: Path, source: Path) -> None:
    first = go(tmp_path, story(source))
    assert RAN == ["numbers", "doubled", "total"]
    assert go(tmp_path, story(source)) == first
    assert RAN == []
    assert words(tmp_path, story(source)) == ["sealed"] * 3


def test_a_changed_setting_runs_only_what_it_reaches(tmp_path: Path, source: Path) -> None:
    go(tmp_path, story(source))
    assert words(tmp_path, story(source, factor=3)) == ["sealed", "stale", "waiting"]
    sealed = go(tmp_path, story(source, factor=3))
    assert RAN == ["doubled", "total"]
    assert store.read_json(sealed["total"].folder / "total.json")[0] == 18
    go(tmp_path, story(source))
    assert RAN == [], "the older results are still there"


def test_a_run_that_changes_no_byte_stops_there(tmp_path: Path, source: Path) -> None:
    go(tmp_path, story(source, factor=-0))
    source.write_text("[1,  2,3 ]")  # other bytes, the same numbers
    go(tmp_path, story(source, factor=0))
    assert RAN == ["numbers"]


def keyed(settings: TotalSettings, inputs: Inputs, out: Path, seed: int, engine: Engine) -> None:
    RAN.append("keyed")
    store.write_text(out / "id", inputs["key"].read_text()[:4])


def test_a_step_gets_the_roots_key_and_its_seal_holds_the_digest_alone(tmp_path: Path) -> None:
    steps = [Step("keyed", keyed, TotalSettings(), secrets=("key",))]
    assert words(tmp_path, steps) == ["missing"] and not keys.place(tmp_path).exists()
    seal = go(tmp_path, steps)["keyed"]
    key = keys.place(tmp_path).read_text().strip()
    assert seal.causes["secrets"] == {"key": keys.digest(tmp_path)}
    assert (seal.folder / "id").read_text() == key[:4] and key not in (seal.folder / "seal.json").read_text()
    go(tmp_path, steps)
    assert RAN == []


def test_another_key_makes_a_result_stale_and_nobody_can_vouch_that_it_is_the_same(tmp_path: Path) -> None:
    steps = [Step("keyed", keyed, TotalSettings(), secrets=("key",))]
    go(tmp_path, steps)
    keys.place(tmp_path).unlink()
    keys.ensure(tmp_path)
    run = runner.Run(tmp_path, "toy", 0)
    assert next(runner.states(run, steps)).why == ("the root's key is another",)
    assert not runner.acceptable(run, steps, "keyed")
    go(tmp_path, steps)
    assert RAN == ["keyed"]


def test_the_same_content_at_another_place_is_the_same(tmp_path: Path, source: Path) -> None:
    go(tmp_path, story(source))
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_bytes(source.read_bytes())
    go(tmp_path, story(elsewhere))
    assert RAN == []


def test_a_failing_step_leaves_no_result_and_the_next_run_starts_there(tmp_path: Path, source: Path) -> None:
    with pytest.raises(RuntimeError, match="half-way"):
        go(tmp_path, story(source, fail=True))
    assert not list((tmp_path / "store" / "doubled").glob("*/seal.json"))
    go(tmp_path, story(source))
    assert RAN == ["doubled", "total"]
    assert "half.json" in store.digest_folder(next((tmp_path / "store" / "doubled").glob("*/seal.json")).parent)


def test_two_runs_from_nothing_give_equal_seals(tmp_path: Path, source: Path) -> None:
    one, two = go(tmp_path / "a", story(source)), go(tmp_path / "b", story(source))
    for node, seal in one.items():
        assert (seal.folder / "seal.json").read_bytes() == (two[node].folder / "seal.json").read_bytes()


def test_the_seed_reaches_every_step(tmp_path: Path, source: Path) -> None:
    one, two = go(tmp_path, story(source), seed=0), go(tmp_path, story(source), seed=1)
    assert RAN == ["numbers", "doubled", "total"]
    assert one["total"].result != two["total"].result


def test_a_lost_or_cut_file_makes_the_step_run_again(tmp_path: Path, source: Path) -> None:
    sealed = go(tmp_path, story(source))
    (sealed["doubled/main"].folder / "doubled.json").write_text("[")
    state = list(runner.states(runner.Run(tmp_path, "toy", 0), story(source)))[1]
    assert (state.word, state.why) == ("stale", ("the result's files are damaged or gone",))
    go(tmp_path, story(source))
    assert RAN == ["doubled"], "the same bytes come back, so what follows stays"


def test_damage_of_equal_size_is_found_by_hashing_in_full(tmp_path: Path, source: Path) -> None:
    seal = go(tmp_path, story(source))["doubled/main"]
    path = seal.folder / "doubled.json"
    path.write_bytes(path.read_bytes().replace(b"4", b"5"))
    assert seals.read(seal.folder) is not None
    assert seals.damage(seal) == ["doubled.json"]


def test_two_commands_of_one_run_at_the_same_time_both_leave_their_nodes_in_its_record(
    tmp_path: Path, source: Path
) -> None:
    def slow(settings: NumbersSettings, inputs: Inputs, out: Path, seed: int, engine: Engine) -> None:
        numbers(settings, inputs, out, seed, engine)
        go(tmp_path, story(source))

    go(tmp_path, [Step("slow", slow, NumbersSettings(source=source))])
    run = runner.Run(tmp_path, "toy", 0)
    assert set(run.record()) == {"slow", "numbers", "doubled/main", "total"}
    assert {path.name for path in (run.folder / "results").iterdir()} == {"slow", "numbers", "doubled", "total"}


def test_asking_again_runs_a_sealed_step(tmp_path: Path, source: Path) -> None:
    go(tmp_path, story(source))
    go(tmp_path, story(source), again=frozenset({"doubled/main"}))
    assert RAN == ["doubled"]


def test_reasons_are_said(tmp_path: Path, source: Path) -> None:
    go(tmp_path, story(source))
    state = list(runner.states(runner.Run(tmp_path, "toy", 0), story(source, factor=5)))[1]
    assert state.why == ("setting factor: 2 -> 5",)
    source.write_text("[7]")
    state = next(iter(runner.states(runner.Run(tmp_path, "toy", 0), story(source))))
    assert state.why[0].startswith("setting source: content ")


def test_a_change_of_code_is_stale_until_a_person_accepts_it(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(tmp_path, story(source))
    run, real = runner.Run(tmp_path, "toy", 0), seals.code_of
    monkeypatch.setattr(seals, "code_of", lambda module: real(module) | {"stages.graph": "changed"})
    assert words(tmp_path, story(source)) == ["stale", "waiting", "waiting"]
    assert runner.acceptable(run, story(source), "numbers")
    for node in ("numbers", "doubled/main", "total"):
        runner.accept(run, story(source), node, "only a name changed")
    assert words(tmp_path, story(source)) == ["sealed"] * 3
    record = next((tmp_path / "store" / "total").glob("*.accepted.json"))
    assert store.read_json(record)["why"] == "only a name changed"
    with pytest.raises(UserError, match="nothing to accept"):
        runner.accept(run, story(source), "total", "again")
    with pytest.raises(UserError, match="More than code changed"):
        runner.accept(run, story(source, factor=9), "doubled/main", "no")


def test_ancestors_and_descendants(source: Path) -> None:
    steps = story(source)
    assert [s.node for s in upstream(steps, "doubled/main")] == ["numbers", "doubled/main"]
    assert [s.node for s in downstream(steps, "doubled/main")] == ["doubled/main", "total"]
    with pytest.raises(UserError, match="Did you mean total"):
        find(steps, "totl")


def test_links_lead_to_the_results(tmp_path: Path, source: Path) -> None:
    sealed = go(tmp_path, story(source))
    link = tmp_path / "runs" / "toy" / "results" / "doubled" / "main"
    assert link.resolve() == sealed["doubled/main"].folder.resolve()


KILLED = """
import sys, time
from pathlib import Path
import torch
from pipeline import engine, runner
from pipeline.steps import Step
from stages import streams, training, store
from stages.settings import Settings

class Nothing(Settings):
    '''Nothing.'''

def learn(settings, inputs, out, seed, engine):
    model = torch.nn.Linear(3, 1)
    torch.nn.init.normal_(model.weight, generator=streams.torch_stream(seed, "start"))
    torch.nn.init.zeros_(model.bias)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    training.SECONDS_BETWEEN_CHECKPOINTS = 0.05
    def step(k):
        time.sleep(float(sys.argv[2]))
        x = torch.randn(8, 3, generator=streams.torch_stream(seed, "step", k))
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad(); loss.backward(); optimizer.step()
        return {"loss": float(loss)}
    curves = training.train(out, "line", 120, step, {"model": model}, {"adam": optimizer})
    store.write_tensors(out / "w.safetensors", model.state_dict())
    curves.to_parquet(out / "curves.parquet", index=False)

runner.go(runner.Run(Path(sys.argv[1]), "toy", 0), [Step("learn", learn, Nothing())], engine.Serial())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_training_that_was_stopped_continues_to_the_same_bytes(tmp_path: Path, number: signal.Signals) -> None:
    script = tmp_path / "killed.py"
    script.write_text(textwrap.dedent(KILLED))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    whole = [sys.executable, "-c", "import killed", str(tmp_path / "whole"), "0"]
    subprocess.run(whole, check=True, env=environment, capture_output=True)
    broken = [sys.executable, "-c", "import killed", str(tmp_path / "broken"), "0.02"]
    process = subprocess.Popen(broken, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "broken").rglob("*.work/line.safetensors")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode != 0
    assert number == signal.SIGKILL or "Interrupted" in stderr
    assert not list((tmp_path / "broken").rglob("seal.json"))
    subprocess.run(broken, check=True, env=environment, capture_output=True)
    one, two = (next((tmp_path / name).rglob("seal.json")).read_bytes() for name in ("whole", "broken"))
    assert one == two
    assert not list((tmp_path / "broken").rglob("*.work"))


def test_a_stop_between_two_steps_ends_the_run_and_loses_nothing(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner.compute, "stop_asked", lambda: RAN == ["numbers"])
    with pytest.raises(Interrupted, match="stopped after numbers"):
        go(tmp_path, story(source))
    monkeypatch.undo()
    assert words(tmp_path, story(source)) == ["sealed", "missing", "waiting"]
    go(tmp_path, story(source))
    assert RAN == ["doubled", "total"]
