"""What to buy again."""

from .stock import fetch_stock as on_hand


def shortage(client, sku, target):
    return max(0, target - on_hand(client, sku))


def plan(client, targets):
    """Return what to buy by sku; on_hand is asked once for each."""
    wanted = {sku: target - on_hand(client, sku.strip()) for sku, target in targets.items()}
    return {sku: units for sku, units in wanted.items() if units > 0}
