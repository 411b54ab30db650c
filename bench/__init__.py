"""Fleet's figures, measured on the real thing: the real daemon, doors, claude program and store; only the model is a script.

One module per measure. Nothing is asserted on speed: a figure that misses its goal is shown as missed. Ratios compare
two things of one run and hold on other machines; times and memory are those of the machine in `results.json`.
"""
