"""The experiment described by a configuration: runs, sets and files. Imports nothing heavy."""
