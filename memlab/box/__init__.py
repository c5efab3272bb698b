"""The test box: a small virtual machine with a distribution's kernel, in which memlab runs.

`build` makes it from the distribution's packages, `machine` starts it with QEMU, `agent` (inside)
and `client` (outside) speak over one virtio-serial port, `mirror` brings out what was written.
"""
