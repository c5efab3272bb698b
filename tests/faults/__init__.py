"""Faults injected into real running labs; after each the host must be as it was."""
