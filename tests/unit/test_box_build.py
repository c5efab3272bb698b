"""What a box is made of and how it is started, without building or starting one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memlab.box import cache, layers, recipe, root, tools
from memlab.box.cache import Box
from memlab.box.qemu import Hardware, arguments
from memlab.errors import HostError
from memlab.guest import bzimage
from memlab.units import GIB
from memlab.vm.accel import accelerator


def a_box(folder: Path, **changed: str) -> Box:
    facts = {"release": "trixie", "kernel": "6.12", "python": "python3.13", "base": "b"}
    facts |= {"deps": "d", "memlab": "m", "built": "2026", **changed}
    return Box(folder=folder, extras=(), **facts)


def test_the_command_line_shares_to_be_read_and_writes_nothing(tmp_path: Path) -> None:
    words = arguments(a_box(tmp_path), Hardware("tcg", GIB), agent=3, console=4, share=Path("/a,b"))
    line = " ".join(words)
    assert "path=/a,,b,security_model=none,readonly=on" in line
    assert "-m 1024" in line and "-smp 1" in line and "-accel tcg" in line
    assert line.count("readonly=on") == 4, "three layers and the folder"
    assert line.count("snapshot=on") == 1, "the scratch disk"
    assert "-netdev" not in line and "-nodefaults" in line
    assert "-incoming" not in line
    assert "mem-merge=off" in line, "the host's KSM has nothing to do with it"


def test_a_saved_state_is_another_one_for_other_hardware(tmp_path: Path) -> None:
    box = a_box(tmp_path)
    kinds = [Hardware("tcg", GIB), Hardware("kvm", GIB), Hardware("tcg", 2 * GIB)]
    kinds.append(Hardware("tcg", GIB, "v1"))
    lines = {" ".join(arguments(box, kind, agent=0, console=0)) for kind in kinds}
    assert len(lines) == 4


def test_keys_follow_what_is_in_a_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert layers.base_key("trixie") != layers.base_key("bookworm")
    before = layers.base_key("trixie")
    monkeypatch.setattr(recipe, "PACKAGES", (*recipe.PACKAGES, "gdb"))
    assert layers.base_key("trixie") != before
    assert layers.deps_key("b", "python3.13", []) != layers.deps_key("b", "python3.13", ["pytest"])
    (tmp_path / "a.py").write_text("1")
    first = layers.memlab_key(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/a.pyc").write_text("x")
    assert layers.memlab_key(tmp_path) == first
    (tmp_path / "a.py").write_text("2")
    assert layers.memlab_key(tmp_path) != first


def test_requirements_leave_out_those_of_extras() -> None:
    found = layers.requirements(["pytest"])
    assert "pytest" in found
    assert any(line.startswith("click") for line in found)
    assert not any(line.startswith("numpy") for line in found)
    assert not any("extra" in line for line in found)


def test_a_box_is_published_whole_and_the_old_one_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    folder = tmp_path / "trixie"
    for name in ("base-old", "base-b", "states"):
        (folder / name).mkdir(parents=True)
    for name in ("base-b/base.erofs", "deps-d.erofs", "deps-old.erofs"):
        (folder / name).write_text("")
    cache.publish(a_box(folder))
    assert cache.find("trixie") is None, "a layer is missing"
    (folder / "memlab-m.erofs").write_text("")
    found = cache.find("trixie")
    assert found == a_box(folder) and cache.every() == [found]
    assert {path.name for path in folder.iterdir()} == {
        *("box.json", "base-b", "states", "deps-d.erofs", "memlab-m.erofs"),
    }
    (folder / "box.json").write_text(json.dumps({"release": "trixie"}))
    assert cache.find("trixie") is None, "written by another memlab"


def test_no_box_yet_says_how_to_build_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    with pytest.raises(HostError, match="there is no box of bookworm yet") as error:
        cache.needed("bookworm")
    assert "memlab box build --release bookworm" in error.value.hint


def test_what_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(HostError) as error:
        tools.require(recipe.MMDEBSTRAP, recipe.QEMU)
    assert "mmdebstrap and qemu-system-x86_64, which are not installed" in error.value.message
    assert error.value.hint == "apt-get install mmdebstrap qemu-system-x86"


def test_modules_come_after_what_they_need(tmp_path: Path) -> None:
    (tmp_path / "modules.dep").write_text(
        "kernel/fs/ext4.ko.xz: kernel/fs/jbd2.ko.xz kernel/lib/crc.ko.xz\n"
        "kernel/fs/jbd2.ko.xz: kernel/lib/crc.ko.xz\nkernel/lib/crc.ko.xz:\n"
        "kernel/lib/lzo-rle.ko.xz:\n"
    )
    found = root.dependencies(tmp_path, ["built_in", "ext4", "lzo_rle"])
    names = [Path(name).name.split(".")[0] for name in found]
    assert names == ["crc", "jbd2", "ext4", "lzo-rle"]


def test_the_payload_of_a_kernel_image() -> None:
    image = bytearray(4096)
    image[0x1F1] = 1
    image[0x248:0x250] = (16).to_bytes(4, "little") + (12).to_bytes(4, "little")
    image[1024 + 16 : 1024 + 28] = b"payload!size"
    assert bzimage.payload(bytes(image)) == b"payload!"


def test_emulation_can_be_asked_for() -> None:
    assert accelerator("tcg") == "tcg"
