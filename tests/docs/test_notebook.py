"""The notebook of the examples runs from top to bottom, and its results show tables and pictures."""

import importlib.util
import os
import shutil
from pathlib import Path

import pytest
from helpers.paths import ROOT


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("nbclient") is None, reason="needs the extra `notebook`")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Jupyter's own
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cell runs; a run, an explanation and a search show a table and a picture."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(ROOT / "examples" / "notebook.ipynb", as_version=4)
    shutil.copy(ROOT / "examples" / "view_for_permute.py", tmp_path)
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    NotebookClient(notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    shown = [
        output["data"]["text/html"]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "text/html" in output.get("data", ())
    ]
    assert len(shown) == 3
    for html, words in zip(shown, ("agrees", "axis-order", "On both sides"), strict=True):
        assert words in html
        assert ("<svg" in html) or words == "axis-order"
