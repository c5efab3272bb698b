"""The distribution's files: unpacked as an ordinary user, then made fit for an init of our own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from memlab.box import recipe
from memlab.box.tools import Guest, last_words, make, require
from memlab.errors import HostError

KEYRINGS: Final = Path("/usr/share/keyrings")
_NOT_WANTED: Final = (
    *("usr/share/doc", "usr/share/locale", "usr/share/man", "usr/share/info", "usr/share/lintian"),
    *("usr/share/bug", "usr/share/zoneinfo", "usr/share/perl", "usr/lib/x86_64-linux-gnu/perl"),
    *("usr/lib/x86_64-linux-gnu/perl-base", "usr/lib/systemd", "var/cache/apt", "var/lib/apt"),
)


def make_tree(tree: Path, release: recipe.Release) -> None:
    """The files of the packages in `tree`. HostError if they cannot be had."""
    require(recipe.MMDEBSTRAP)
    _unpack(tree, release)
    _merge_usr(tree)
    for name in _NOT_WANTED:
        shutil.rmtree(tree / name, ignore_errors=True)
    _keep_modules(tree)
    _furnish(tree)
    Guest(tree).compile_python(tree / "usr/lib", tree)


def kernel_release(tree: Path) -> str:
    """The kernel's name, as its modules' folder has it."""
    (folder,) = (tree / "usr/lib/modules").iterdir()
    return folder.name


def mirror() -> tuple[str, ...]:
    """Where this machine's apt gets Debian from; on another distribution nothing, and then
    mmdebstrap takes Debian's own mirror."""
    asked = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(CODENAME)",
         "Created-By: Packages"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    for line in asked.stdout.splitlines():
        uri, _, rest = line.partition(" ")
        origin, _, suite = rest.partition(" ")
        if origin == "Debian" and "-" not in suite:
            return (uri,)
    return ()


def _unpack(tree: Path, release: recipe.Release) -> None:
    """Packages, without running their scripts: that takes no root and no namespace."""
    excludes = ("doc", "locale", "man", "info")
    words = [
        *("mmdebstrap", "--quiet", "--variant=extract", "--mode=chrootless", "--format=directory"),
        *("--architectures=amd64", f"--keyring={KEYRINGS}"),
        f"--include={','.join(recipe.PACKAGES)}",
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in excludes),
        *(release, str(tree), *mirror()),
    ]
    run = make(words)
    if run.returncode:
        raise HostError(
            f"mmdebstrap could not unpack {release}: {last_words(run.stderr)}",
            hint="look whether this machine's apt reaches its mirror: apt-get update; and whether "
            "debian-archive-keyring is installed",
        )


def _merge_usr(tree: Path) -> None:
    """/bin is /usr/bin, also where the release leaves that to a script."""
    for name in ("bin", "sbin", "lib", "lib64"):
        old, new = tree / name, tree / "usr" / name
        if old.is_symlink():
            continue
        new.mkdir(parents=True, exist_ok=True)
        if old.is_dir():
            shutil.copytree(old, new, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(old)
        old.symlink_to(f"usr/{name}")


def _keep_modules(tree: Path) -> None:
    """Of the kernel's modules those that a lab may want, and what they depend on."""
    guest = Guest(tree)
    release = kernel_release(tree)
    folder = tree / "usr/lib/modules" / release
    guest.run("kmod", ["-b", str(tree), release], name="depmod")
    kept = set(dependencies(folder, (*recipe.BOOT_MODULES, *recipe.MODULES)))
    for path in (folder / "kernel").rglob("*.ko*"):
        if str(path.relative_to(folder)) not in kept:
            path.unlink()
    guest.run("kmod", ["-b", str(tree), release], name="depmod")


def dependencies(folder: Path, names: Sequence[str]) -> list[str]:
    """Files of the modules `names` below `folder`, each after those it depends on.

    One that is built into the kernel, or that this kernel has not, is passed over.
    """
    needs: dict[str, list[str]] = {}
    files: dict[str, str] = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        file, _, rest = line.partition(":")
        needs[file] = rest.split()
        files[Path(file).name.split(".")[0].replace("-", "_")] = file
    order: list[str] = []

    def add(file: str) -> None:
        if file not in order:
            for other in needs[file]:
                add(other)
            order.append(file)

    for name in names:
        found = files.get(name.replace("-", "_"))
        if found is not None:
            add(found)
    return order


def _furnish(tree: Path) -> None:
    """What the packages' scripts would have made, and our own init."""
    etc = tree / "etc"
    (etc / "passwd").write_text(recipe.PASSWD)
    (etc / "group").write_text(recipe.GROUP)
    (etc / "hostname").write_text("memlab-box\n")
    (etc / "hosts").write_text("127.0.0.1 localhost memlab-box\n")
    (etc / "resolv.conf").unlink(missing_ok=True)
    (etc / "mtab").unlink(missing_ok=True)
    (etc / "mtab").symlink_to("/proc/mounts")
    awk = tree / "usr/bin/awk"
    if not awk.exists():
        awk.symlink_to("gawk")
    init = tree / "usr/lib/memlab-box/init"
    init.parent.mkdir(parents=True)
    init.write_text(recipe.INIT_SCRIPT)
    init.chmod(0o755)
    shell = tree / "usr/bin/sh"
    if not shell.exists():
        shell.symlink_to("dash")
    # The packages' own files of the boot loader: the kernel is taken from them before this.
    for name in ("var/tmp", "tmp", "run", "proc", "sys", "dev", "root"):
        (tree / name).mkdir(parents=True, exist_ok=True)
