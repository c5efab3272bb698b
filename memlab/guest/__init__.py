"""The guest: the C agent, the names of its wire protocol, the micro-guest image."""
