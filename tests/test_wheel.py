"""What `pip install` of the wheel gives: the library alone, with its data, in any folder."""

from __future__ import annotations

import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.support.wheel import ROOT, build, call, track_nano


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"))


def test_it_holds_the_library_alone_and_all_of_its_files(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    there = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "saetrack").rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }
    assert names == there
    assert "saetrack/lm/catalog/published.yaml" in names
    assert "saetrack/chain/presets/track/mini.yaml" in names
    assert "saetrack/py.typed" in names


@pytest.mark.usefixtures("source")  # the nano LM is in the cache
def test_a_track_runs_in_an_empty_folder(wheel: Path, tmp_path: Path, cache_dir: Path) -> None:
    python = _environment_with(wheel, tmp_path / "env")
    assert track_nano(python, tmp_path / "empty", cache_dir) == 4


def _environment_with(wheel: Path, folder: Path) -> Path:
    """An environment that has the wheel, and shares all other packages with this one.

    A folder named in a .pth file has its own .pth files ignored: this checkout is not found there.
    """
    call(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    site = Path(
        call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    )
    (site / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps"]
    call(*pip, "--no-index", wheel)
    found = call(python, "-c", "import saetrack; print(saetrack.__file__)", cwd=folder).strip()
    assert Path(found).is_relative_to(folder)
    return python
