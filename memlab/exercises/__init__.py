"""Exercises: lessons that run on the real kernel and check themselves.

A folder of `course/` is one exercise: `exercise.yaml` (what is asked and checked), its lab files,
its handout and solution in each language. Checks read recordings, and nothing else.
"""
