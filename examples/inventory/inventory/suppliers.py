"""What suppliers say they have. None of this is the warehouse's stock."""

from vendor.acme import fetch_stock


class SupplierFeed:
    """One supplier in one region."""

    def __init__(self, region):
        self.region = region

    def fetch_stock(self, sku):
        return fetch_stock(self.region, sku)

    def available(self, skus):
        return [sku for sku in skus if self.fetch_stock(sku) > 0]
