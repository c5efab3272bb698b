"""Virtual machines: the contract, and the two kinds that keep it."""
