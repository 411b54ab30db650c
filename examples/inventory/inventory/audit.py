"""Compares the shelves with what the books say."""

import inventory.stock as shelves


def differences(client, books):
    found = {}
    for sku, booked in books.items():
        counted = shelves.fetch_stock(client, sku)
        if counted != booked:
            found[sku] = counted - booked
    return found


def is_clean(client, books):
    return not any(shelves.fetch_stock(client, sku) - booked for sku, booked in books.items())
