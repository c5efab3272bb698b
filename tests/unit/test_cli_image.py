"""`memlab image`, on a kernel made up for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from memlab.cli.image import command
from memlab.guest import bzimage, image
from tests.unit.test_guest_image import RELEASE, kernel_tree


def test_an_image_is_built_listed_and_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(image.VARIABLE, str(tmp_path / "cache"))
    runner = CliRunner()
    none = runner.invoke(command, ["list"])
    assert none.exit_code == 0 and "memlab image build" in none.output
    kernel = kernel_tree(tmp_path / "root", bzimage.ELF + b"kernel")
    made = runner.invoke(command, ["build", "--kernel", str(kernel)])
    assert made.exit_code == 0 and f"Linux {RELEASE}, " in made.output
    assert f"{RELEASE}  " in runner.invoke(command, ["list"]).output
    paths = runner.invoke(command, ["path"]).output.split()
    assert [Path(path).is_file() for path in paths] == [True, True]
