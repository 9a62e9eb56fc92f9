"""The report in a real browser: headless Chromium, which `.ci/run` installs."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.damaged_traces import DamagedTraces
from helpers.small_runs import CELLS, Run, tiny_case
from helpers.tune_runs import PretendedPool, search_of, tried_all

from compare.judge import Comparison, Verdict
from compare.report.html import write_html
from compare.report.tune_page import write_tune_page
from compare.tune.results import Outcome

BROWSER = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="needs Debian's chromium: apt-get install chromium"),
]

# Clicks every cell of the grid and writes into the page's title where each click came to.
CLICKS = """<script>
addEventListener("load", async () => {
  const came = [];
  for (const cell of document.querySelectorAll(".grid td a")) {
    cell.click();
    await new Promise((done) => setTimeout(done, 300));
    const place = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const top = place.getBoundingClientRect().top;
    came.push([place.id, cell.dataset.status, place.querySelector(".status").textContent, top < innerHeight]);
  }
  document.title = JSON.stringify({ came, wide: document.documentElement.scrollWidth > innerWidth });
});
</script>"""


@pytest.fixture(scope="module")
def comparisons(clean_run: Run, tmp_path_factory: pytest.TempPathFactory) -> list[Comparison]:
    """One comparison that agrees, one that differs and one that failed, of three cases."""
    agreeing, differing = (
        DamagedTraces(clean_run.folder / cell, tmp_path_factory.mktemp(cell) / cell) for cell in CELLS[:2]
    )
    differing.set_figure("obtained", "loss", 5, 3.0)
    failed = Comparison(CELLS[2], "keras-jax", "torch", "float32", "failed", error="keras-jax: it broke")
    return [agreeing.judge(), differing.judge(), failed]


def browse(page: Path, width: int) -> tuple[str, list[str]]:
    """Open a page; return what became of it, and the console's errors."""
    assert BROWSER is not None  # or the tests are skipped
    done = subprocess.run(
        [
            BROWSER,
            *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
            *("--dump-dom", "--enable-logging=stderr", "--virtual-time-budget=20000"),
            *(f"--window-size={width},900", f"--user-data-dir={page.parent / 'browser'}"),
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    console = re.findall(r':(ERROR|WARNING|INFO):CONSOLE.*?\] "(.*)"', done.stderr)
    return done.stdout, [message for level, message in console if level != "INFO" or "Uncaught" in message]


@pytest.mark.parametrize("width", [1280, 390], ids=["desk", "phone"])
def test_the_report_works_in_a_browser(comparisons: list[Comparison], width: int, tmp_path: Path) -> None:
    """Every cell says its comparison's status and leads to it, charts are drawn, and no error is on the console."""
    verdict = Verdict(comparisons)
    page = tmp_path / "report.html"
    write_html(verdict, [tiny_case(cell) for cell in CELLS], {}, page)
    page.write_text(page.read_text("utf-8").replace("</body>", f"{CLICKS}</body>"), "utf-8")
    content, errors = browse(page, width)
    assert errors == []
    title = re.search("<title>(.*?)</title>", content)
    assert title is not None
    seen = json.loads(title[1])
    expected = {(f"{c.case}/{c.runner}", c.status) for c in comparisons}
    assert {(place, status) for place, status, _, _ in seen["came"]} == expected
    assert all(status in told and in_view for _, status, told, in_view in seen["came"])
    assert not seen["wide"], "the page is wider than the window"
    assert len(re.findall(r'data-drawn="\d+"', content)) == 2, "the charts of both cases that have any"


def test_an_error_on_the_console_is_found(tmp_path: Path) -> None:
    """A page whose script raises is told from one whose script does not."""
    page = tmp_path / "broken.html"
    page.write_text("<script>throw new Error('planted')</script>", "utf-8")
    _, errors = browse(page, 1280)
    assert any("planted" in error for error in errors)


def test_a_long_run_opens_soon(comparisons: list[Comparison], tmp_path: Path) -> None:
    """Twenty comparisons of 10,000 steps weigh less than 8 MB, and no chart is drawn that is not in view."""
    differing = comparisons[1]
    curves, ratios = differing.curves, differing.ratio_map
    assert curves is not None
    assert ratios is not None
    generator = np.random.default_rng(0)
    names = ("expected_losses", "obtained_losses", "loss_drift", "ensemble_loss_drift", "loss_tolerance")
    curves = replace(curves, **{name: generator.random(10_000) for name in names})
    cases = [tiny_case("lstm", {}).model_copy(update={"name": f"case{number}"}) for number in range(20)]
    long = [replace(differing, case=case.name, curves=curves, steps=10_000) for case in cases]
    page = tmp_path / "report.html"
    write_html(Verdict(long), cases, {}, page)
    assert page.stat().st_size < 8e6
    content, errors = browse(page, 1280)
    assert errors == []
    assert 1 <= content.count("data-drawn") < 8


# Writes into the page's title whether it is wider than its window, once its charts are drawn.
WIDTH = """<script>
addEventListener("load", () => setTimeout(() => {
  document.title = document.documentElement.scrollWidth > innerWidth ? "wide" : "fits";
}, 3000));
</script>"""


@pytest.mark.parametrize("width", [1280, 390], ids=["desk", "phone"])
def test_the_page_of_a_search_works_in_a_browser(width: int, tmp_path: Path) -> None:
    """Each trial has its row, the charts are drawn, the page is no wider than its window, and there is no error."""
    text = "[grid]\nmodel.units = [2, 3, 4]\nmodel.cell = ['lstm', 'gru']\n[tune]\nsampler = 'grid'\nfolds = 2\n"
    search = search_of(tmp_path, text)
    pool = PretendedPool(lambda case: None if case.model.units == 3 else case.model.units / 10)
    trials = tried_all(search, tmp_path / "out", pool)
    page = tmp_path / "report.html"
    write_tune_page(Outcome(search, trials, {"model.units": 0.9, "model.cell": 0.1}), {"machine": "this one"}, page)
    page.write_text(page.read_text("utf-8").replace("</body>", f"{WIDTH}</body>"), "utf-8")
    content, errors = browse(page, width)
    assert errors == []
    assert "<title>fits</title>" in content
    assert 'data-drawn="4"' in content
    rows = content[content.index('class="trials"') :].split("</table>")[0].count('scope="row"')
    assert rows == len(trials) == 6
    assert content.count("failed: torch: it broke") == 2
