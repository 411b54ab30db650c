"""Shared by the tests."""

from inventory import Client

SHELVES = {"A-1": 12, "B-7": 0, "C-3": 4}


def make_client():
    return Client(SHELVES)
