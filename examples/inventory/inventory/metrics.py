"""Counters by event name. Dashboards know these names, so they never change."""

from collections import Counter

EVENTS = ("fetch_stock", "order")
counts = Counter()


def count(event):
    if event not in EVENTS:
        raise ValueError(f"unknown event {event!r}, known are {EVENTS}")
    counts[event] += 1
