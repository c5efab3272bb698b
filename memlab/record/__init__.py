"""Recordings: what a sample is, how it is taken, kept, accounted for and asked."""
