"""The codes of faults: stable, so that they can be looked up. docs/lab-file.md lists them."""

from __future__ import annotations

from typing import Final

CODES: Final = {
    "ML001": "the text is not YAML, or uses a part of it that a lab file does not have",
    "ML002": "a key is there twice",
    "ML003": "too large, too deep, or too many aliases",
    "ML004": "a key is not a word, or the file is not a map",
    "ML005": "a character that cannot stand in a text file",
    "ML006": "a ${VARIABLE} that is not set, or cannot be read",
    "ML010": "an unknown key",
    "ML011": "a key is missing",
    "ML012": "a value of another type: a map, a list, text or a number is wanted",
    "ML013": "a size that cannot be read, or has no unit",
    "ML014": "a duration that cannot be read, or has no unit",
    "ML015": "a percentage that cannot be read",
    "ML016": "a switch that is neither on nor off",
    "ML017": "not one of the words that may stand there",
    "ML018": "a number or size outside its range",
    "ML019": "a name that cannot be one",
    "ML020": "a text or list that is empty or too long",
    "ML021": "not a finite number",
    "ML022": "two settings that exclude each other, or neither of them",
    "ML023": "parts that are more than the whole",
    "ML030": "no group is called so",
    "ML031": "two VMs, entries or groups would have one name",
    "ML032": "too many VMs",
    "ML033": "the VM's image and workload do not fit into its memory",
    "ML034": "reservation, limit and memory contradict each other",
    "ML035": "a setting that this workload does not have, or a value that it refuses",
    "ML036": "mechanisms that cannot work with the rest of the file",
    "ML037": "a policy that does not exist, or a setting that it does not have",
    "ML038": "a setting that this kind of VM does not have",
    "ML040": "a path that cannot be set",
    "ML041": "no VM is called so",
    "ML042": "a time after the end of the run",
    "ML043": "a window that is empty, or outside the run",
    "ML044": "a condition that cannot be read, or cannot be meant",
    "ML045": "it cannot be changed while the lab runs",
    "ML050": "written for a newer memlab",
}
"""Code → what is wrong, for all files."""
