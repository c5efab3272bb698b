"""What a lab file says of the estimates of active memory (`active:`)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from memlab.lab.values import Duration, Percent, Switch, not_below
from memlab.lab.vmspec import Spec


def switched(value: Any) -> Any:
    """`tps: on` is short for `tps: {enabled: on}`."""
    return {"enabled": value} if isinstance(value, str | bool) else value


class Pressure(Spec):
    """The estimate by pressing: a step of the VM is pushed out, and what is used comes back."""

    enabled: Switch = Field(
        default=True, description="Whether VMs are pressed; not as long as `pressure` is left out."
    )
    period: Annotated[Duration, not_below(0.1)] = Field(
        default=2.0, description="Between two steps; not less than a VM takes to use all it needs."
    )
    step: Annotated[Percent, Field(gt=0)] = Field(
        default=0.1, description="Largest step, of the VM's memory."
    )
    stall: Annotated[Percent, Field(gt=0)] = Field(
        default=0.05, description="It eases off when the VM waits for memory longer than that."
    )
    back: Annotated[Percent, Field(gt=0)] = Field(
        default=0.02, description="Or when more of the VM's memory comes back in a period."
    )


class Regions(Spec):
    """How many regions DAMON takes a VM to be made of, each used alike."""

    min: int = Field(default=100, ge=10, le=10_000, description="No region is much larger.")
    max: int = Field(
        default=1000, ge=10, le=100_000, description="It takes no more; each costs a look."
    )


class Damon(Spec):
    """The estimate by DAMON: the kernel looks at a page of each region, again and again."""

    enabled: Switch = Field(
        default=True, description="Whether DAMON is used; not as long as `damon` is left out."
    )
    sample: Annotated[Duration, not_below(0.005)] = Field(
        default=0.1, description="Between two looks at the accessed bit of one page of a region."
    )
    period: Annotated[Duration, not_below(0.1)] = Field(
        default=2.0, description="How long the looks are added up."
    )
    regions: Regions = Field(default_factory=Regions, description="Regions of each VM.")
    threshold: int = Field(
        default=1, ge=1, description="Looks of a period that must find a region used."
    )


class Active(Spec):
    """The estimate of active memory: random pages are watched, and those counted that are used."""

    enabled: Switch = Field(default=True, description="Whether it is made.")
    pages: int = Field(
        default=100, ge=10, le=4096, description="Pages of each VM that are watched at a time."
    )
    period: Annotated[Duration, not_below(0.1)] = Field(
        default=2.0, description="How long they are watched."
    )
    referenced: Switch = Field(
        default=False,
        description="Estimate it a second time, from outside, by the accessed bits.",
    )
    pressure: Annotated[Pressure, BeforeValidator(switched)] = Field(
        default_factory=lambda: Pressure(enabled=False),
        description="Estimate it by pressing the VMs, which takes memory from them.",
    )
    damon: Annotated[Damon, BeforeValidator(switched)] = Field(
        default_factory=lambda: Damon(enabled=False),
        description="Estimate it by DAMON, where the kernel has it and nobody else uses it.",
    )

    @property
    def presses(self) -> bool:
        """Whether VMs are pressed."""
        return self.enabled and self.pressure.enabled

    @property
    def monitors(self) -> bool:
        """Whether DAMON is used."""
        return self.enabled and self.damon.enabled

    @property
    def watched(self) -> tuple[int, float]:
        """Pages and seconds; no pages if it is off."""
        return (self.pages if self.enabled else 0, self.period)

    @property
    def looks(self) -> float:
        """Seconds between two looks at the accessed bits; 0 if none is asked for."""
        return self.period if self.enabled and self.referenced else 0.0
