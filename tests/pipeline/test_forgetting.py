"""A patient withdraws consent: what is found in a real root, by role, and what is said when nothing is."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from made_tiles import as_parquet, rows
from telling import HERE, TINY, histodistill

from pipeline import engine, forgetting, forgetting_text, keys, runner
from pipeline.steps import Step
from stages import store, tiles
from stages.contracts import UserError
from stages.hashing import keyed
from stages.images import read_table
from stages.tables import ROLES

SAMPLE = HERE / "data" / "sample" / "lung.parquet"


def patients(root: Path) -> dict[str, str]:
    """Role -> an original that plays it in the tiny story."""
    groups = pq.read_table(next(root.glob("store/tiles/*/groups.parquet"))).to_pandas()
    role_of = dict(zip(groups["hash"], groups["role"], strict=True))
    key = keys.read(root)
    assert key is not None
    names = sorted(set(pq.read_table(SAMPLE, columns=["group"])["group"].to_pylist()))
    return {role_of[h]: name for name in names if (h := keyed(key, "group", name)) in role_of}


def stages_of(found: dict[str, Any], holds: str) -> set[str]:
    return {row["result"].split("/")[0] for row in found["results"] if row["holds"] == holds}


def test_a_train_patient_is_in_everything_and_the_release_is_to_be_withdrawn(tiny_root: Path) -> None:
    name = patients(tiny_root)["train"]
    told = histodistill("forget", name, "--json", root=tiny_root)
    assert told.code == 0, told.err
    found = json.loads(told.out)
    assert name not in told.out and found["hash"] in told.out
    assert [(row["role"], row["tiles"]) for row in found["tiles"]] == [("train", 2)]
    assert stages_of(found, "copies") == {"autoencoder"}, "it was taken as it is, but latents lie beside it"
    assert stages_of(found, "influence") == {
        *("judge", "denoiser", "candidates", "embedding", "selection", "experts", "condensation"),
        *("benchmark", "audit_images", "release"),
    }
    sealed = {p.parent.relative_to(tiny_root / "store").as_posix() for p in tiny_root.rglob("seal.json")}
    assert {row["result"] for row in [*found["tiles"], *found["results"]]} == sealed
    (run,) = found["runs"]
    assert run["run"] == "tiny" and len(run["uses"]) == len(sealed) and run["source"] == str(SAMPLE)
    (release,) = found["releases"]
    dataset = tiny_root / "runs" / "tiny" / "results" / "release" / "dataset"
    assert release["withdraw"] and release["checksums"] == store.digest_file(dataset / "checksums.sha256")
    assert (found["unsearchable"], found["orphans"], found["leftovers"]) == ([], [], [])


@pytest.mark.parametrize(
    ("role", "holds", "wanted"),
    [("test", "figures", {"benchmark", "release"}), ("control", "audits", {"audit_images", "release"})],
)
def test_a_patient_that_nothing_was_learned_from_is_in_figures_or_audits_alone(
    tiny_root: Path, role: str, holds: str, wanted: set[str]
) -> None:
    found = forgetting.forget(tiny_root, patients(tiny_root)[role])
    assert stages_of(found, holds) == wanted == {row["result"].split("/")[0] for row in found["results"]}
    assert [release["withdraw"] for release in found["releases"]] == [False]
    page = forgetting_text.page(found, tiny_root)
    assert "make anew: synthetic-histopathology 1.0.0" in page and "Withdraw" not in page


def test_on_a_val_patient_choices_were_made(tiny_root: Path) -> None:
    found = forgetting.forget(tiny_root, patients(tiny_root)["val"])
    assert stages_of(found, "copies") == {"autoencoder"} and stages_of(found, "influence") == set()
    assert {"judge", "benchmark", "release"} <= stages_of(found, "choices")


def test_every_tile_of_the_image_set_is_found_under_one_name_of_the_source(tiny_root: Path) -> None:
    """All names of the sample together hold each tile once, in its own role."""
    counts = dict.fromkeys(ROLES, 0)
    names = set(pq.read_table(SAMPLE, columns=["group"])["group"].to_pylist())
    groups = pq.read_table(next(tiny_root.glob("store/tiles/*/groups.parquet"))).to_pandas()
    key = keys.read(tiny_root)
    assert key is not None and set(groups["hash"]) <= {keyed(key, "group", name) for name in names}
    for role, count in zip(groups["role"], groups["tiles"], strict=True):
        counts[role] += count
    table, _ = read_table(next(tiny_root.glob("store/tiles/*/images")))
    assert counts == table["role"].value_counts().to_dict()


def test_the_page_says_what_to_do_in_order_and_is_narrow(tiny_root: Path) -> None:
    told = histodistill("forget", f" {patients(tiny_root)['train']} ", root=tiny_root)
    assert told.code == 0 and max(map(len, told.out.splitlines())) <= 160
    steps = " ".join(told.out.split("What to do")[1].split())
    places = [steps.index(w) for w in ("Withdraw", "Remove the", "Run the recipe", "clean --root", "Ask again")]
    assert places == sorted(places) and "lung.parquet" in steps


def test_an_unknown_patient_is_told_so_with_0(tiny_root: Path) -> None:
    told = histodistill("forget", "nobody", root=tiny_root)
    assert (
        told.code == 0
        and told.out.startswith("Not found")
        and "near-duplicates" in told.out
        and "What to do" not in told.out
    )
    assert json.loads(histodistill("forget", "nobody", "--json", root=tiny_root).out)["results"] == []


def test_taken_out_of_the_parquet_the_patient_is_gone_and_the_others_stay(tiny_root: Path, tmp_path: Path) -> None:
    root, names = tmp_path / "root", patients(tiny_root)
    root.mkdir()
    shutil.copy(tiny_root / ".key", root)
    assert histodistill("run", TINY, "--until", "tiles", root=root).code == 0
    table = pq.read_table(SAMPLE)
    pq.write_table(table.filter(pc.not_equal(table["group"], names["train"])), tmp_path / "lung.parquet")
    source = f"tiles.source={tmp_path / 'lung.parquet'}"
    told = histodistill("run", TINY, "--until", "tiles", "--set", source, root=root)
    assert told.code == 0, told.err
    (row,) = forgetting.forget(root, names["train"])["tiles"]
    assert row["tiles"] == 2, "the older result is still there"
    assert histodistill("clean", "--yes", root=root).code == 0
    assert not forgetting.forget(root, names["train"])["found"]
    assert all(forgetting.forget(root, names[role])["found"] for role in ("val", "test", "control"))


def small_root(root: Path, parquet: Path, **settings: Any) -> Path:
    """A root with tiles alone, by the runner."""
    step = Step("tiles", tiles.run, tiles.TilesSettings(source=parquet, **settings), secrets=("key",))
    runner.go(runner.Run(root, "small", 0), [step], engine.Serial())
    return root


def test_what_cannot_be_searched_is_named_with_the_reason(tmp_path: Path) -> None:
    parquet = as_parquet(rows(), tmp_path / "t.parquet")
    root = small_root(tmp_path / "root", parquet)
    (tmp_path / "root" / "store" / "tiles" / "x.work").mkdir()
    small_root(root, parquet, group_column=None, grouping="each")
    name = rows()["group"].iloc[0]
    found = forgetting.forget(root, name)
    assert [row["tiles"] for row in found["tiles"]] == [3] and found["leftovers"] == ["tiles/x.work"]
    (one,) = found["unsearchable"]
    assert one["result"] != found["tiles"][0]["result"] and "gives no groups" in one["why"]
    assert one["result"] in forgetting_text.page(forgetting.forget(root, "nobody"), root)
    keys.place(root).unlink()
    for make in (lambda: None, lambda: keys.ensure(root)):
        make()
        found = forgetting.forget(root, name)
        assert not found["found"] and [row["why"] for row in found["unsearchable"]] == ["made under another key"] * 2


def test_a_patient_with_tiles_in_two_roles_is_found_in_both(tmp_path: Path) -> None:
    root = small_root(tmp_path / "root", as_parquet(rows(), tmp_path / "t.parquet"), grouping="each")
    told = [forgetting.forget(root, name)["tiles"] for name in rows()["group"].unique()]
    assert all(sum(row["tiles"] for row in one) == 3 for one in told) and max(map(len, told)) > 1


def test_a_root_without_a_store_and_a_name_of_nothing_are_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no store in .*--root"):
        forgetting.forget(tmp_path, "a")
    with pytest.raises(UserError, match="PATIENT is empty"):
        forgetting.forget(tmp_path, " ")
