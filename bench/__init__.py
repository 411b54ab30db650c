"""Measures Fleet on the real thing: daemon, doors, claude program and store. Only the model is scripted.

One module per measure. Nothing is asserted on speed: a figure that misses its goal is shown as missed. Ratios compare
two things of one run and hold on other machines; times and memory are those of the machine in `results.json`.
"""
