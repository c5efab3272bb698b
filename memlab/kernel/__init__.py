"""Every file below /proc, /sys and cgroupfs that memlab reads or turns. Knows no VM and no lab.

Standard library only: the guard, which has to work when nothing else does, lives here.
"""
