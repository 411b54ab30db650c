"""Tables for people."""

from . import stock


def line(client, sku):
    return f"{sku:<8}{stock.fetch_stock(client, sku):>6}"


def table(client, skus):
    # One fetch_stock for each row: fine below a few hundred rows.
    return "\n".join(line(client, sku) for sku in sorted(skus))
