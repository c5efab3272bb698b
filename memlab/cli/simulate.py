"""`memlab simulate`: a lab, or a whole fleet like it, on a model instead of the kernel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from memlab.cli.words import say

if TYPE_CHECKING:
    from rich.console import Console

    from memlab.lab.load import Loaded
    from memlab.simulate.against import Held
    from memlab.simulate.fleets import Simulated


@click.command("simulate")
@click.argument("lab", required=False, metavar="LAB")
@click.option("--policy", "policies", default="", metavar="A,B,C",
              help="Policies to simulate; the lab's own if absent.")  # fmt: skip
@click.option("--vms", type=click.IntRange(1), metavar="N",
              help="So many VMs, the lab mix again and again.")  # fmt: skip
@click.option("--hosts", type=click.IntRange(1), default=1, show_default=True, metavar="M",
              help="Hosts that they are spread over.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(1, 1e6), metavar="S",
              help="Time to simulate; the lab's duration if absent.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Instead of the lab's.")
@click.option("--tick", type=click.FloatRange(0.001, 1), default=0.05, show_default=True,
              metavar="S", help="Longest step of the model, seconds.")  # fmt: skip
@click.option("--cgroup", type=click.Choice(["v1", "v2"]),
              help="Of the hosts; that of RUN, or v2, if absent.")  # fmt: skip
@click.option("--set", "sets", multiple=True, metavar="A.B=C", help="Change a value of the file.")
@click.option("--against", type=click.Path(exists=True, path_type=Path), metavar="RUN",
              help="First show how the model follows this recording.")  # fmt: skip
@click.option("-f", "--format", "form", type=click.Choice(["table", "json"]), default="table",
              show_default=True, help="What is printed.")  # fmt: skip
def command(
    lab: str | None,
    policies: str,
    vms: int | None,
    hosts: int,
    seconds: float | None,
    seed: int | None,
    tick: float,
    cgroup: str | None,
    sets: tuple[str, ...],
    against: Path | None,
    form: str,
) -> int:
    """Run LAB's policies on a model of memory: no VM starts, no root is needed, nothing is changed.

    It is for what no machine at hand can run: --vms 10000 --hosts 200. What it says is a model's
    word; --against RUN holds it against a real recording first, of the same lab, and without LAB
    goes on with the lab of that recording.

    On hosts with cgroup v1 the budget is smaller by the cap of the compressed pool, as in a running
    lab: nobody is charged for that pool there.
    """
    _need_numpy()
    if lab is None and against is None:
        raise click.UsageError("name a LAB, or a recording with --against")
    held = None if against is None else _held(against, tick)
    if held is not None and form == "table":
        _show_held(held)
    loaded = _load(lab, sets) if lab is not None or held is None else held.loaded
    charged = cgroup == "v2" if cgroup else held is None or held.pool_charged
    found = _simulated(loaded, policies, vms, hosts, seconds, seed, tick, charged)
    if form == "json":
        click.echo(json.dumps(_figures(found, held), indent=2))
    else:
        _show(found)
    return 0


def _need_numpy() -> None:
    from importlib.util import find_spec

    from memlab.errors import HostError

    if find_spec("numpy") is None:
        raise HostError("the model needs numpy, which is not here", hint="pip install numpy")


def _load(lab: str | None, sets: tuple[str, ...]) -> Loaded:
    from memlab.lab.load import load, resolve

    return load(resolve(lab or ""), sets=sets)


def _held(run: Path, tick: float) -> Held:
    from memlab.record.derive import Derived
    from memlab.simulate.against import against

    with Derived.open(run, check=False) as source:
        return against(source, folder=run.parent, tick=tick)


def _simulated(
    loaded: Loaded,
    policies: str,
    vms: int | None,
    hosts: int,
    seconds: float | None,
    seed: int | None,
    tick: float,
    pool_charged: bool,
) -> Simulated:
    from memlab.simulate.fleets import Task, simulate

    names = tuple(word.strip() for word in policies.split(",") if word.strip())
    return simulate(
        Task(loaded.lab, names, vms, hosts, seconds, seed, tick, pool_charged, loaded.folder)
    )


def _figures(found: Simulated, held: Held | None) -> dict[str, object]:
    from memlab.simulate.table import figures, held_figures

    answer = figures(found)
    return answer if held is None else answer | {"against": held_figures(held)}


def _console() -> Console:
    """As wide as the terminal; in a pipe as wide as the table."""
    from rich.console import Console

    console = Console(soft_wrap=True)
    if not console.is_terminal:
        console.width = 120
    return console


def _show_held(held: Held) -> None:
    from memlab.simulate.table import held_table

    _console().print(held_table(held))
    for note in held.notes:
        say(note)
    click.echo()


def _show(found: Simulated) -> None:
    from memlab.simulate.table import did, remarks, table

    _console().print(table(found))
    click.echo()
    for row in found.rows:
        click.echo(did(row.outcome))
    for note in remarks(found):
        say(note)
