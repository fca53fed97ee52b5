"""What the command line says and how it ends."""

import json
import shutil
from pathlib import Path

import pytest
from telling import TINY, histodistill

from pipeline.cli import app
from pipeline.cli_words import run_name
from stages.contracts import UserError


def test_status_says_missing_before_and_sealed_after(tiny_root: Path, tmp_path: Path) -> None:
    before = histodistill("status", TINY, root=tmp_path)
    assert before.code == 0
    assert before.out.splitlines()[0].split()[:2] == ["missing", "tiles"]
    assert {line.split()[0] for line in before.out.splitlines()[1:]} == {"waiting"}
    after = histodistill("status", TINY, root=tiny_root)
    assert {line.split()[0] for line in after.out.splitlines()} == {"sealed"}


def test_status_says_why_a_node_is_stale(tiny_root: Path) -> None:
    told = histodistill("status", TINY, "--set", "candidates.guidance=3.5", root=tiny_root)
    line = next(line for line in told.out.splitlines() if " candidates " in line)
    assert line.startswith("stale") and "setting guidance:" in line and "-> 3.5" in line


def test_a_dry_run_runs_nothing(tmp_path: Path) -> None:
    told = histodistill("run", TINY, "--dry-run", root=tmp_path)
    assert told.code == 0 and "missing" in told.out
    assert not list(tmp_path.rglob("seal.json"))


COMMANDS = ("run", "status", "select x", "explain x", "report", "accept x --why y", "compare x", "explore x", "study")


@pytest.mark.parametrize("command", [*COMMANDS, "graph x --out x.gexf"])
def test_a_name_that_leads_out_of_the_root_is_refused_by_every_command(tmp_path: Path, command: str) -> None:
    word, *rest = command.split()
    tell = [word, str(TINY), *rest, "--root", str(tmp_path / "a" / "root"), "--name", "../../../out"]
    with pytest.raises(
        UserError, match=r"--name '../../../out' does not name a folder .* for example --name second_try"
    ):
        app(args=tell, standalone_mode=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", " ", ".", "..", ".hidden", "a/b", "/tmp", "a\\b", "a\nb", "a\0b"])
def test_the_name_of_a_run_is_one_folder(name: str) -> None:
    with pytest.raises(UserError, match="does not name a folder"):
        run_name(name, Path("recipe.yaml"))


def test_a_run_is_called_by_its_recipe_unless_a_person_says_otherwise() -> None:
    assert run_name(None, Path("configs/tiny.yaml")) == "tiny"
    assert run_name("second try.2", Path("configs/tiny.yaml")) == "second try.2"
    with pytest.raises(UserError, match=r"\.tiny\.yaml, whose run would be called '\.tiny', does not name"):
        run_name(None, Path(".tiny.yaml"))


def test_from_marks_all_that_follows(tiny_root: Path) -> None:
    told = histodistill("run", TINY, "--dry-run", "--from", "embedding", root=tiny_root)
    words = {line.split()[1]: line.split()[0] for line in told.out.splitlines()}
    assert words["tiles"] == words["candidates"] == "sealed"
    assert words["embedding"] == words["release"] == "again"


def test_explain_names_settings_code_and_inputs(tiny_root: Path) -> None:
    told = histodistill("explain", TINY, "selection/infomap", root=tiny_root)
    assert told.code == 0, told.err
    for word in ("sealed", "per_class", "stages.graph", "embedding", "candidates"):
        assert word in told.out


def test_an_unknown_node_is_suggested(tiny_root: Path) -> None:
    told = histodistill("explain", TINY, "selection/infomapp", root=tiny_root)
    assert told.code == 2 and "Did you mean selection/infomap" in told.err
    assert "Traceback" not in told.err


def test_an_error_is_one_paragraph_and_debug_shows_where(tmp_path: Path) -> None:
    words = ("run", TINY, "--set", "tiles.source=gone.parquet")
    told = histodistill(*words, root=tmp_path)
    assert told.code == 2
    assert "gone.parquet" in told.err.replace("\n", "") and "Traceback" not in told.err
    assert "Traceback" in histodistill("--debug", *words, root=tmp_path).err


def test_a_no_go_audit_ends_with_3_and_says_so(tiny_root: Path, tmp_path: Path) -> None:
    """A release of real tiles: the candidates' place is taken by copies of the training tiles."""
    from pipeline import config as configs
    from pipeline import engine, runner, story
    from pipeline.faults import verdict
    from stages import images

    root = tmp_path / "copy"
    shutil.copytree(tiny_root, root, symlinks=True)
    config = configs.load(TINY)
    run = runner.Run(root, "tiny", config.seed)
    steps = {step.node: step for step in story.tell(config)}
    states = {state.step.node: state for state in runner.states(run, list(steps.values()))}
    train = images.read(states["tiles"].seal.folder / "images", role="train")
    chosen = states["selection/infomap"].seal.folder / "images"
    table = images.read(chosen).table
    stolen = train.take([list(train.labels_n).index(label) for label in table["label"]])
    extra = table.drop(columns=["label", "tile_id"])
    copied = images.make(stolen.pixels_nhwc, stolen.labels_n, stolen.classes, extra)
    selection, audit, release = (tmp_path / name for name in ("selection", "audit", "release"))
    shutil.copytree(chosen.parent, selection)
    shutil.rmtree(selection / "images")
    images.write(selection / "images", copied)
    for folder in (audit, release):
        folder.mkdir()
    inputs = {role: states[node].seal.folder for role, node in steps["release"].needs.items()}
    inputs |= {"selection": selection, "audit_images": audit}
    serial = engine.Serial()
    steps["audit_images/infomap"].run(config.audit_images, inputs, audit, 0, serial)
    assert json.loads((audit / "audit.json").read_text())["verdict"] == "NO-GO"
    with pytest.raises(Exception) as caught:
        steps["release"].run(config.release, inputs, release, 0, serial)
    assert verdict(caught.value)[0] == 3
    assert "NO-GO" in verdict(caught.value)[1]


def test_clean_shows_before_it_deletes(tiny_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(tiny_root, root, symlinks=True)
    assert "Nothing to delete" in histodistill("clean", root=root).out
    unused = root / "store" / "selection" / ("0" * 32)
    unused.mkdir()
    (unused / "x").write_text("x")
    assert str(unused) in histodistill("clean", root=root).out
    assert unused.exists()
    assert "Deleted 1" in histodistill("clean", "--yes", root=root).out
    assert not unused.exists()
    assert (root / ".key").read_text() == (tiny_root / ".key").read_text()
    assert {line.split()[0] for line in histodistill("status", TINY, root=root).out.splitlines()} == {"sealed"}


def test_config_commands(tmp_path: Path) -> None:
    assert "per_class" in histodistill("config", "show", TINY).out
    assert "good" in histodistill("config", "validate", TINY).out
    assert json.loads(histodistill("config", "schema").out)["properties"]["tiles"]
    bad = tmp_path / "bad.yaml"
    bad.write_text("tiles: {sourc: x}\n")
    told = histodistill("config", "validate", bad)
    assert told.code == 2 and "did you mean 'source'?" in told.err


def test_the_doctor_looks_at_this_machine(tmp_path: Path) -> None:
    told = histodistill("doctor", root=tmp_path)
    assert told.code == 0, told.out
    for word in ("torch", "device", "threads", "memory", "disk", "openslide"):
        assert word in told.out


def test_verify_of_a_strange_folder_says_what_to_give(tmp_path: Path) -> None:
    told = histodistill("verify", tmp_path)
    assert told.code == 2 and "neither a release" in " ".join(told.err.split())
