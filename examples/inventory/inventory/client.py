"""The connection to the warehouse."""


class Client:
    """Answers stock requests and counts them."""

    def __init__(self, shelves):
        self._shelves = dict(shelves)
        self.requests = 0

    def get(self, sku):
        self.requests += 1
        return self._shelves.get(sku)
