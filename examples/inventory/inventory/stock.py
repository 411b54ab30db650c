"""Stock on hand."""

from . import metrics


class UnknownSku(LookupError):
    """The warehouse does not list this unit."""


def fetch_stock(client, sku):
    """Return how many of `sku` are on hand."""
    metrics.count("fetch_stock")
    units = client.get(sku)
    if units is None:
        raise UnknownSku(sku)
    return units


def fetch_stock_legacy(export, sku):
    """Return the units of `sku` in a nightly CSV export."""
    rows = dict(line.split(",") for line in export.splitlines())
    return int(rows.get(sku, 0))
