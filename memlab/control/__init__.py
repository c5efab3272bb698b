"""Policies: who gives up memory, how, and why; and the one place that carries it out."""
