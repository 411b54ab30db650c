"""Which orders can be filled."""

from inventory.stock import UnknownSku, fetch_stock


def can_fill(client, order):
    """True if every line of the order is on hand; units not listed cannot be filled."""
    try:
        return all(fetch_stock(client, sku) >= wanted for sku, wanted in order.items())
    except UnknownSku:
        return False


def missing(client, order):
    """Return the units that are short, by sku."""
    short = {}
    for sku, wanted in order.items():
        have = fetch_stock(client, sku)
        if have < wanted:
            short[sku] = wanted - have
    return short
