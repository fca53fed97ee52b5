"""The report, from results in the stages' formats: whole, partial, forbidding, hostile names, in a browser."""

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from reporting import Results, Tags, about, make_audit, make_benchmark, make_results

from pipeline import report
from stages import images, store


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return make_results(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def page(results: Results) -> str:
    return report.render(results, about(results))


def text_of(page: str) -> str:
    """What a person reads, without style, script and tags."""
    bare = re.sub(r"<(style|script)>.*?</\1>", " ", page, flags=re.DOTALL)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", bare)))


def test_the_page_says_at_the_top_that_it_stays_inside(page: str) -> None:
    assert "This page shows real tiles. It stays inside." in text_of(page)[:200]


def test_the_page_tells_every_reader_what_they_came_for(page: str) -> None:
    text = text_of(page)
    for words in (
        "9 tiles of the source play no role here",
        "0.840 [0.810, 0.870]",
        "95% interval 0.810 to 0.870",
        "How many tiles are nearly a training tile.",
        "0.01 [-0.02, 0.04] 0.01 0.05 0.00012",
        "fewer than 300 tiles were audited",
        "noticed, by how it was altered cropped 0.125 · mirrored 1",
        "control alarms on hold out none · control groups 80",
        "Not tested attacks on the model The nearest pairs",
        "KID against the val tiles did not fall",
        "histodistill run config.yaml --root ../.. --name demo",
        "2,100 MiB",
        "real_14 real, chosen: random 2 2 2 6",
        "infomap_14 synthetic, chosen: infomap · for release 14 14 14 42",
        "0.860 trained on as many real tiles instead (real_14)",
        "real test tiles 0.950 [0.920, 0.980] 0.950 [0.920, 0.980] –",
        "infomap_14 0.800 [0.770, 0.830] 0.800 [0.770, 0.830] 0.842 [0.812, 0.872]",
        "0.0500 [0.0200, 0.0800] 0.0100 [-0.0100, 0.0300]",
        "share that looks like real 0.75 –",
    ):
        assert words in text, words
    assert "It appears here once that step is done" not in text


@pytest.mark.parametrize("kept", [(), ("tiles",), ("tiles", "candidates"), ("benchmark/real_14",), ("embedding",)])
def test_parts_that_are_not_there_yet_say_so(results: Results, kept: tuple[str, ...]) -> None:
    there = {node: folder for node, folder in results.items() if node in kept}
    text = text_of(report.render(there, about(there)))
    assert "no verdict" in text
    assert "It appears here once that step is done" in text
    assert f"{len(kept)} of {len(kept) + 1} steps are done" in text


def test_several_networks_are_named_in_the_order_of_the_settings_with_soft_twins_and_the_judge(
    results: Results, tmp_path: Path
) -> None:
    several = dict(results)
    networks = ("vit", "vit_soft", "convnet3", "colour")
    for name, value, rows in (
        ("all_real", 0.8, ("vit", "convnet3", "colour", "judge", "judge_grey")),
        ("real_14", 0.9, ("vit", "convnet3", "colour")),
        ("infomap_14", 0.7, networks),
    ):
        several[f"benchmark/{name}"] = tmp_path / name
        make_benchmark(tmp_path / name, value, 42, rows)
    del several["benchmark/all_synthetic"]
    page = report.render(several, about(several))
    text = text_of(page)
    assert "vit : about vit. vit_soft : about vit_soft. convnet3 : ConvNet-3, 32 px. colour : colour only." in text
    rows = re.findall(r"<li.*?</li>", page[page.index('<ol class="forest many">') :], re.DOTALL)
    shown = [re.findall(r"<i title=[^>]*>(\w+)</i> (\S+)", row) for row in rows[:3]]
    assert shown == [
        [("vit", "0.900"), ("convnet3", "0.850"), ("colour", "0.800")],
        [("vit", "0.800"), ("convnet3", "0.750"), ("colour", "0.700"), ("judge", "0.650"), ("judge_grey", "0.600")],
        [("vit", "0.700"), ("vit_soft", "0.650"), ("convnet3", "0.600"), ("colour", "0.550")],
    ]
    assert [row.count("ring") for row in rows[:3]] == [0, 0, 2] and "M-4.5-4.5" in rows[1]
    assert (
        "0.700 balanced accuracy on real test tiles" in text
        and "interval 0.670 to 0.730; with soft labels 0.650" in text
    )
    turned = report.render(several, about(several)._replace(networks=["convnet3", "vit"]))
    assert "Sorted by convnet3." in text_of(turned) and "Sorted by vit." in text
    assert "the judge, trained once on all real tiles" in text and "trained with the soft labels of the set" in text


def test_one_network_needs_no_name_beside_its_mark(page: str) -> None:
    assert '<ol class="forest">' in page and "soft labels" not in text_of(page)


def test_no_single_missing_node_breaks_the_page(results: Results, page: str) -> None:
    by_stage = {node.partition("/")[0]: node for node in results}
    for node in by_stage.values():
        there = {other: folder for other, folder in results.items() if other != node}
        partial = report.render(there, about(there))
        assert partial.rstrip().endswith("</html>") and partial != page, node


def test_real_tiles_come_from_validation_alone(results: Results, page: str) -> None:
    from pipeline import report_pictures as pictures

    real = images.read(results["tiles"] / "images")
    for role in ("train", "val", "test", "control"):
        shown = [pictures.tile(pixels_hwc, "").uri in page for pixels_hwc in real.where(role=role).pixels_nhwc]
        assert sum(shown) == (36 if role == "val" else 0)


def test_learned_images_are_shown_beside_the_tissue_and_may_be_what_ships(results: Results, tmp_path: Path) -> None:
    shutil.copytree(results["candidates"], tmp_path / "dm_14")
    store.write_json(tmp_path / "dm_14" / "facts.json", {"pixels": "learned", "method": "dm"})
    node = "condensation/dm_14"
    with_it = {name: folder for name, folder in results.items() if not name.startswith("selection")} | {
        node: tmp_path / "dm_14"
    }
    text = text_of(report.render(with_it, about(with_it, "dm_14")))
    assert "Learned: dm_14" in text and "synthetic tiles in dm_14" in text
    assert "dm_14 synthetic, chosen: dm" not in text and "dm_14 learned: dm" in text
    assert "Synthetic or selected tiles are not there yet" not in text


def test_a_known_scale_has_a_bar_beside_every_panel_and_an_unknown_one_none(
    results: Results, page: str, tmp_path: Path
) -> None:
    assert "Scale: not known." in text_of(page) and 'class="scale"' not in page
    folder = Path(shutil.copytree(results["tiles"], tmp_path / "tiles"))
    store.write_json(folder / "facts.json", store.read_json(folder / "facts.json") | {"mpp": 0.5})
    scaled = report.render(results | {"tiles": folder}, about(results))
    text = text_of(scaled)
    assert "Scale: 0.5 µm per pixel." in text and "Real tiles, 16 × 16 px, 0.5 µm per pixel; in brackets" in text
    bars = re.findall(r'<div class="scale"><svg[^>]*><rect width="([0-9.]+)" height="1"/></svg>2 µm</div>', scaled)
    assert len(bars) == scaled.count('<div class="tiles') > 0 and set(bars) == {"0.250000"}, "2 of 8 µm"


def test_a_forbidding_audit_is_what_one_sees_first(results: Results, tmp_path: Path) -> None:
    make_audit(tmp_path, "NO-GO")
    text = text_of(report.render(results | {"audit_images/infomap_14": tmp_path}, about(results)))
    assert re.search(r"It stays inside.{0,250}NO-GO The image tests found what must not be shared", text)
    assert "Nothing is released." in text and "results/release/dataset" not in text
    assert "2 tiles are copies of training tiles." in text and " alarm " in text


def test_hostile_names_are_shown_not_obeyed(tmp_path: Path) -> None:
    hostile = ('<b>&"', "</svg><script>alert(1)</script>", "'onload=alert(1) ")
    made = make_results(tmp_path, classes=hostile)
    page = report.render(made, about(made))
    assert all(name.strip() in text_of(page) for name in hostile)
    tags = Tags(page).tags
    assert sum(tag == "script" for tag, _ in tags) == 1
    assert not [(tag, name) for tag, attributes in tags for name in attributes if name.startswith("on")]
    assert {tag for tag, attributes in tags if tag == "b" and attributes} == set()


def test_the_page_refers_to_nothing_outside(page: str) -> None:
    tags = Tags(page).tags
    loaded = [
        a[name] for tag, a in tags for name in ("src", "href", "srcset", "data", "action") if name in a and tag != "a"
    ]
    assert loaded and all(str(uri).startswith("data:") for uri in loaded)
    links = [str(a["href"]) for tag, a in tags if tag == "a"]
    assert {link for link in links if not link.startswith("#")} == {"https://arxiv.org/abs/2406.13536"}
    ids = {a["id"] for _, a in tags if "id" in a}
    assert {link[1:] for link in links if link.startswith("#")} <= ids
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style and "url(" not in style[1] and "@import" not in style[1]
    policy = next(a["content"] for tag, a in tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy and policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy and "http" not in policy


def test_everything_can_be_read_without_eyes(page: str) -> None:
    tags = Tags(page).tags
    pictures = [a for tag, a in tags if tag == "img"]
    assert len(pictures) > 100 and all(a.get("alt") for a in pictures)
    drawings = [a for tag, a in tags if tag == "svg" and "class" in a]
    assert drawings and all(a.get("aria-label") or a.get("aria-hidden") for a in drawings)
    assert all(a.get("scope") for tag, a in tags if tag == "th")
    assert [tag for tag, _ in tags].count("h1") == 1
    assert dict(tags)["html"]["lang"] == "en"


def test_equal_results_give_an_equal_page(results: Results, page: str) -> None:
    assert report.render(results, about(results)) == page


def test_the_benchmark_is_sorted_and_colour_only_is_marked(page: str) -> None:
    rows = re.findall(r'<span class="name">(\w+) <small>42 images(.*?)</li>', page, re.DOTALL)
    assert [name for name, _ in rows] == ["all_real", "real_14", "infomap_14", "all_synthetic"]
    assert [row.count('class="mark') for _, row in rows] == [2, 2, 1, 1]
    assert [row.count("hollow") > 0 for _, row in rows] == [True, True, False, False]
    assert ["for release" in row for _, row in rows] == [False, False, True, False]


def test_every_dot_has_its_own_thumbnail(page: str) -> None:
    dots = re.findall(r'data-p="(\d+)" data-s="candidate (\d+) · ([^"]*)"', page)
    assert len(dots) == 60 and all(place == row for place, row, _ in dots)
    assert sum("· chosen: quota" in says for _, _, says in dots) == 42


def chromium(folder: Path, page: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """Open a page without a window and without a network; what it wrote to its console is on stderr."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium on this machine: the report was not opened in a browser")
    (folder / "page.html").write_text(page)
    quiet = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    command = [browser, *quiet.split(), "--disable-component-update", "--disable-sync", "--enable-logging=stderr"]
    command += [f"--user-data-dir={folder / 'profile'}", *flags, (folder / "page.html").as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)


def complaints(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def without_policy(page: str, script: str) -> str:
    """The page with a script of ours in it, which its policy would refuse."""
    bare = re.sub(r'<meta http-equiv="Content-Security-Policy".*?>', "", page)
    return bare.replace("</body>", f"<script>{script}</script></body>")


def test_a_browser_has_nothing_to_complain_of(page: str, tmp_path: Path) -> None:
    assert complaints(chromium(tmp_path, page, "--dump-dom")) == []


def test_a_browser_refuses_what_was_smuggled_in(page: str, tmp_path: Path) -> None:
    smuggled = "<script>document.title = 'smuggled'</script><img src='https://example.org/x.png' alt=''></body>"
    done = chromium(tmp_path, page.replace("</body>", smuggled), "--dump-dom")
    assert len(complaints(done)) == 2
    assert "<title>smuggled" not in done.stdout


def test_pointing_at_the_map_shows_the_tile(page: str, tmp_path: Path) -> None:
    script = """
    addEventListener("load", () => {
      const map = document.querySelector("svg.map"), tip = document.getElementById("tip"), said = [];
      const thumb = tip.querySelector("b").style;
      const look = () => said.push(tip.hidden ? "hidden" : tip.innerText + thumb.backgroundPosition);
      look();
      map.querySelector("circle").dispatchEvent(new PointerEvent("pointermove", {bubbles: true, clientX: 9}));
      look();
      map.dispatchEvent(new PointerEvent("pointerleave"));
      look();
      map.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}));
      look();
      document.title = said.join("|");
    });"""
    done = chromium(tmp_path, without_policy(page, script), "--dump-dom")
    assert complaints(done) == []
    title = re.search("<title>(.*?)</title>", done.stdout)
    assert title
    first, pointed, left, stepped = title[1].split("|")
    assert (first, left) == ("hidden", "hidden")
    for shown in (pointed, stepped):
        assert re.match(r"candidate \d+ · .*: .*px", shown), shown


@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_is_no_wider_than_its_window(page: str, tmp_path: Path, width: int) -> None:
    inner = html.escape(without_policy(page, ""), quote=True)
    script = "onload = () => { document.title = frames[0].document.documentElement.scrollWidth; }"
    outer = f'<iframe style="width:{width}px;border:0" srcdoc="{inner}"></iframe><script>{script}</script>'
    done = chromium(tmp_path, f"<!doctype html><title></title>{outer}", "--dump-dom", "--window-size=1600,900")
    title = re.search(r"<title>(\d+)</title>", done.stdout)
    assert title and int(title[1]) <= width


def test_a_whole_run_leaves_no_part_empty(tiny_root: Path) -> None:
    text = text_of((tiny_root / "runs" / "tiny" / "report.html").read_text())
    assert "It appears here once that step is done" not in text
    assert "steps are done" not in text and "Nothing is released" not in text
    for words in ("for release", "Do the labels hold?", "Would it have noticed a copy?", "The nearest pairs", "timm"):
        assert words in text, words
