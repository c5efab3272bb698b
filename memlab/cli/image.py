"""`memlab image`: the kernel and initramfs that QEMU guests start from."""

from __future__ import annotations

from pathlib import Path

import click

from memlab.cli.words import say
from memlab.units import format_size


@click.group(name="image")
def command() -> None:
    """The micro-guest: a Linux kernel, and an initramfs with nothing in it but the guest agent.

    `memlab up` makes it when a lab first needs it. Nothing of this needs root.
    """


@command.command()
@click.option(
    "--kernel", type=click.Path(path_type=Path), metavar="PATH", help="From this bzImage."
)
@click.option("--fresh", is_flag=True, help="Make it anew, with today's kernel.")
def build(kernel: Path | None, fresh: bool) -> None:
    """Make the image, or look whether it is whole.

    Without --kernel: one that is kept already, else the host's own from /boot, else the
    distribution's kernel for virtual machines, fetched with apt.
    """
    from memlab.guest.image import micro_guest

    made = micro_guest(kernel, fresh=fresh, say=say)
    click.echo(f"Linux {made.release}, {format_size(made.size)} in {made.kernel.parent}")


@command.command(name="list")
def list_() -> None:
    """List the images that are kept."""
    from memlab.guest.image import every, images_folder

    found = every()
    for one in found:
        click.echo(f"{one.release}  {format_size(one.size)}  {one.origin}")
    if not found:
        say(f"no image in {images_folder()}; make one: memlab image build")


@command.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), default="memlab.iso")
def drive(file: Path) -> None:
    """Write the agent's drive to FILE, to let a system of one's own start the agent at boot.

    Every guest with a disk of its own has this drive; here it is for the one time at which
    `sh DRIVE/install` is run in that system, outside of a lab.
    """
    from memlab.errors import MemlabError
    from memlab.guest.drive import LABEL, content

    made = content()
    try:
        file.write_bytes(made)
    except OSError as error:
        raise MemlabError(f"cannot write {file}: {error.strerror}") from error
    click.echo(f"{file}, {format_size(len(made))}, labelled {LABEL}")


@command.command()
def path() -> None:
    """Print the paths of kernel and initramfs, to start a guest by hand."""
    from memlab.guest.image import micro_guest

    made = micro_guest(say=say)
    click.echo(f"{made.kernel}\n{made.initramfs}")
