"""The commands. One verb, one file: parse, call one function, print."""
