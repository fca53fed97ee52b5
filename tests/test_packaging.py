"""What is installed is what we mean to ship."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent


def test_the_installed_pipeline_and_stages_are_ours() -> None:
    owners = importlib.metadata.packages_distributions()
    assert set(owners["pipeline"]) == set(owners["stages"]) == {"histodistill"}
    import pipeline
    import stages

    for module in (pipeline, stages):
        assert Path(str(module.__file__)).resolve().is_relative_to(HERE)


def test_every_folder_with_code_is_a_package() -> None:
    for top in ("pipeline", "stages"):
        for path in (HERE / top).rglob("*.py"):
            assert (path.parent / "__init__.py").is_file(), f"{path.parent} has no __init__.py"


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['histodistill', '--help']\n"
        "from pipeline import cli\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'pandas', 'numpy', 'diffusers', 'pydantic'} & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.endswith("[]\n"), result.stdout[-200:]


def test_asking_for_settings_loads_no_torch() -> None:
    code = "import sys, pipeline.story, pipeline.runner; print('torch' in sys.modules, 'diffusers' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]


def test_the_constraints_pin_every_dependency_and_name_no_host() -> None:
    text = (HERE / "constraints.txt").read_text()
    assert not re.search(r"https?://|@", text)
    pinned = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in text.splitlines()}
    wanted = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    for word in [*wanted["dependencies"], *wanted["optional-dependencies"]["dev"]]:
        name = re.split(r"[<>=\[; ]", word)[0]
        assert re.sub(r"[-_.]+", "-", name).lower() in pinned, name


def test_the_wheel_holds_two_packages_and_works_in_an_empty_folder(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("pipeline", "stages"):
        shutil.copytree(HERE / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(HERE / name, source / name)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    wheel = next(tmp_path.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    tops = {name.split("/")[0] for name in names if not name.split("/")[0].endswith(".dist-info")}
    assert tops == {"pipeline", "stages"}
    assert any(name.endswith("squeezenet1_1.safetensors") for name in names)
    for page in ("report.html.jinja", "explorer.html.jinja", "explorer.css", "explorer.js", "explorer_map.js"):
        assert f"pipeline/{page}" in names
    empty = tmp_path / "empty"
    empty.mkdir()
    recipe = empty / "recipe.yaml"
    recipe.write_text((HERE / "configs" / "tiny.yaml").read_text().replace("../data", str(HERE / "data")))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PYTHONPATH": str(tmp_path / "site")}
    code = "from pipeline import cli; import stages; print(stages.__file__); cli.main()"
    result = subprocess.run(
        [sys.executable, "-c", code, "run", "recipe.yaml"], cwd=empty, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert str(tmp_path / "site") in result.stdout, "the wheel's own code ran"
    assert (empty / "data" / "runs" / "recipe" / "report.html").is_file()
