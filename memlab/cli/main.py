"""`memlab`: the group of verbs. Each is imported only when it is called, so that help is quick."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import Final

import click

from memlab.cli.words import MANNER, show_error
from memlab.errors import HostError, MemlabError

VERBS: Final = {
    "up": "start a lab, record it, show what each mechanism saved and cost",
    "down": "stop the running lab and give the host back",
    "status": "show the running lab, its VMs and their layers",
    "set": "change something in the running lab; it is recorded",
    "exec": "run a command in a VM",
    "logs": "show what the lab or a VM has printed",
    "events": "print the events of a run as JSON lines",
    "why": "tell what the policy decided at a moment, and why",
    "compare": "compare policies on one lab, or runs with each other",
    "simulate": "run a lab, or thousands of VMs like it, on a model instead of the kernel",
    "report": "make the HTML report of a recording",
    "export": "write a recording as csv, jsonl or parquet",
    "exercise": "learn: exercises that run here and check themselves",
    "image": "the kernel and initramfs that QEMU guests start from",
    "box": "a small virtual machine in which memlab runs, without root or risk",
    "validate": "check a lab file; every fault at once",
    "schema": "print the JSON Schema of lab files",
    "init": "write a commented lab file to begin with",
    "examples": "list the bundled labs, or copy one",
    "doctor": "say what this machine can run, and how to mend the rest",
    "clean": "undo what a dead run has left behind",
    "completion": "print the completion script of your shell",
    "version": "print the version",
}
REPAIRS: Final = {
    errno.EMFILE: "allow more open files: ulimit -n 4096",
    errno.ENFILE: "allow more open files on this host: sysctl fs.file-max",
    errno.ENOSPC: "make room on the disk that holds it; df tells which one is full",
}
"""What every verb can run into anywhere, and what to do; the host has been given back by then."""
ALIASES: Final = {"deploy": "up", "apply": "up", "destroy": "down", "ps": "status", "ls": "status"}


class Verbs(click.Group):
    """A group whose commands are modules of this package, one file a verb."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """`memlab help VERB` is `memlab VERB --help`."""
        return super().parse_args(ctx, [*args[1:], "--help"] if args[:1] == ["help"] else args)

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """The verbs, in the order in which one meets them."""
        return list(VERBS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """The verb's command, imported now."""
        verb = ALIASES.get(name, name)
        if verb not in VERBS:
            return None
        module = importlib.import_module(f"memlab.cli.{verb}")
        command: click.Command = module.command
        _name_variables(command, f"MEMLAB_{verb}".upper())
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; an unknown verb names the nearest one."""
        if args and args[0] not in VERBS and args[0] not in ALIASES:
            import difflib

            near = difflib.get_close_matches(args[0], [*VERBS, *ALIASES], n=1)
            hint = f" Did you mean '{near[0]}'?" if near else " See `memlab --help`."
            ctx.fail(f"No such command '{args[0]}'.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs from the table above, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


def _name_variables(command: click.Command, prefix: str) -> None:
    """Let `--dry-run` of `up` and of its aliases be MEMLAB_UP_DRY_RUN too: as it is typed."""
    for param in command.params:
        if isinstance(param, click.Option):
            long = max(param.opts, key=len).lstrip("-")
            param.envvar = f"{prefix}_{long}".replace("-", "_").upper()
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            _name_variables(inner, f"{prefix}_{name}".upper())


def _version(ctx: click.Context, _param: click.Parameter, asked: bool) -> None:
    """`--version` is what everybody types first; it is the verb."""
    if asked and not ctx.resilient_parsing:
        from memlab.cli.version import command

        ctx.exit(ctx.invoke(command, form="text"))


@click.group(
    cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option("-q", "--quiet", is_flag=True, help="Results and errors only.")
@click.option("-v", "--verbose", is_flag=True, help="With an error, also where it arose.")
@click.option("--no-color", is_flag=True, help="As the variable NO_COLOR: no colours.")
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version,
              allow_from_autoenv=False, help="As `memlab version`.")  # fmt: skip
def root(quiet: bool, verbose: bool, no_color: bool) -> None:
    """See, measure and learn how virtual machines share a host's memory, on the real kernel.

    Begin with `memlab up quickstart`, or `memlab doctor`. Every option can be given as an
    environment variable too: MEMLAB_<VERB>_<OPTION>.
    """
    MANNER.quiet, MANNER.verbose = quiet, verbose
    if no_color:
        os.environ["NO_COLOR"] = "1"


def main(args: list[str] | None = None) -> int:
    """Run the command line and return its exit status; errors become one clear text on stderr."""
    try:
        status = root.main(
            args=args, prog_name="memlab", standalone_mode=False, auto_envvar_prefix="MEMLAB"
        )
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except MemlabError as error:
        show_error(error)
        return error.exit_code
    except OSError as error:
        if error.errno not in REPAIRS:
            raise
        show_error(HostError(str(error), hint=REPAIRS[error.errno]))
        return HostError.exit_code
    return status if isinstance(status, int) else 0
