"""`memlab box`: a small virtual machine in which memlab runs, without root and without risk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from memlab.cli.words import say
from memlab.errors import UsageError
from memlab.units import UnitError, format_size, parse_size

if TYPE_CHECKING:
    from memlab.box.qemu import Hardware

RELEASES = ("trixie", "bookworm")

_release = click.option(
    "--release", type=click.Choice(RELEASES), default="trixie", help="Debian's release in it."
)
_memory = click.option("--memory", default="1GiB", metavar="SIZE", help="Memory of the box.")
_accel = click.option(
    "--accel", type=click.Choice(["auto", "kvm", "tcg"]), default="auto",
    help="Virtualize or emulate its CPU; auto: KVM where it really runs.",
)  # fmt: skip
_cgroup = click.option(
    "--cgroup", type=click.Choice(["v2", "v1"]), default="v2", help="Which cgroups it has."
)


@click.group(name="box")
def command() -> None:
    """A box: a small virtual machine with a Debian kernel, in which all of memlab runs.

    No root, no risk: nothing of this host is changed. `memlab up --box LAB` runs a lab in it.
    """


@command.command()
@_release
@click.option("--with", "extras", multiple=True, metavar="PACKAGE", help="A Python package too.")
@click.option("--fresh", is_flag=True, help="Make every layer anew, with today's packages.")
@click.option("--vagrant", is_flag=True, help="A whole Debian, as a box for Vagrant's libvirt.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Where Vagrant's box is written; memlab.box if not given.",
)  # fmt: skip
def build(
    release: str, extras: tuple[str, ...], fresh: bool, vagrant: bool, output: Path | None
) -> None:
    """Build the box, or bring it up to date with this memlab.

    About two minutes from nothing, seconds when only memlab has changed. Needs mmdebstrap and
    apt's mirror, but no root.
    """
    from memlab.box.build import build as make
    from memlab.box.recipe import Release

    if vagrant:
        _for_vagrant(release, output or Path("memlab.box"), extras)
        return
    if output is not None:
        raise UsageError(
            "-o is for --vagrant", hint="memlab keeps its own boxes where it finds them"
        )
    box = make(Release(release), extras=extras, fresh=fresh, say=say)
    click.echo(f"{release}: Linux {box.kernel}, {format_size(box.size)} in {box.folder}")


def _for_vagrant(release: str, target: Path, extras: tuple[str, ...]) -> None:
    from memlab.box.recipe import Release
    from memlab.box.vagrant import build as make

    if extras:
        raise UsageError("--with is for memlab's own box", hint="install it in the guest with pip")
    make(Release(release), target, say=say)
    click.echo(f"{target}, {format_size(target.stat().st_size)}")


@command.command()
@click.argument("lab", required=False)
@click.option("--set", "sets", multiple=True, metavar="A.B=C", help="Change a value of the file.")
@click.option("--time-scale", type=click.FloatRange(0.1, 100), help="Multiply all times of LAB.")
@_release
@_accel
@click.pass_context
def up(
    ctx: click.Context,
    lab: str | None,
    sets: tuple[str, ...],
    time_scale: float | None,
    release: str,
    accel: str,
) -> int:
    """Run LAB in a box: short for `memlab up --box LAB`, which has all the options of `up`."""
    from memlab.cli.up import command as whole

    status: int = ctx.invoke(
        whole, lab=lab, sets=sets, time_scale=time_scale,
        box=True, box_release=release, box_accel=accel,
    )  # fmt: skip
    return status


@command.command(context_settings={"ignore_unknown_options": True})
@_release
@_memory
@_accel
@_cgroup
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="CMD...")
def run(release: str, memory: str, accel: str, cgroup: str, words: tuple[str, ...]) -> int:
    """Run CMD in a box, as its root, in this folder: `memlab box run -- memlab doctor`.

    The folder can be read; what CMD writes below it comes out, while it runs and at the end. The
    exit status is CMD's. Then the box is gone.
    """
    from memlab.box.here import run_here

    return run_here(release, _hardware(memory, accel, cgroup), words, say=say)


@command.command()
@_release
@_memory
@_accel
@_cgroup
def shell(release: str, memory: str, accel: str, cgroup: str) -> int:
    """Open a shell in a box, as its root, in this folder."""
    from memlab.box.here import run_here

    if not (os.isatty(0) and os.isatty(1)):
        raise UsageError(
            "a shell needs a terminal", hint="run one command instead: memlab box run -- CMD"
        )
    hardware = _hardware(memory, accel, cgroup)
    return run_here(release, hardware, ["bash", "-l"], terminal=True, say=say)


@command.command(name="list")
def list_() -> None:
    """List the boxes that have been built."""
    from memlab.box.build import is_current
    from memlab.box.cache import boxes_folder, every

    found = every()
    for box in found:
        state = "current" if is_current(box) else "older than this memlab"
        size = format_size(box.size)
        click.echo(f"{box.release}  Linux {box.kernel}  {size}  {box.built}  {state}")
    if not found:
        say(f"no box in {boxes_folder()}; build one: memlab box build")


@command.command()
@click.argument("release", type=click.Choice(RELEASES))
def rm(release: str) -> None:
    """Remove a box with all that belongs to it."""
    from memlab.box.cache import locked
    from memlab.guest.cachedir import discard

    with locked(release, alone=True) as folder:
        discard(folder)
    say(f"{release} is removed")


def _hardware(memory: str, accel: str, cgroup: str) -> Hardware:
    from memlab.box.qemu import Hardware
    from memlab.vm.accel import accelerator

    try:
        size = parse_size(memory)
    except UnitError as error:
        raise UsageError(f"--memory: {error}", hint=error.fix) from error
    return Hardware(accelerator(accel), size, cgroup)
