"""What a configuration describes: the runs, sets and files of an experiment. Imports nothing heavy."""
