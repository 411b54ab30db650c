import unittest

import inventory
from inventory import UnknownSku, fetch_stock
from inventory.stock import fetch_stock_legacy
from tests.support import make_client


class Stock(unittest.TestCase):
    def test_units_on_hand(self):
        self.assertEqual(fetch_stock(make_client(), "A-1"), 12)

    def test_one_request_for_each_question(self):
        client = make_client()
        fetch_stock(client, "A-1")
        fetch_stock(client, sku="B-7")
        self.assertEqual(client.requests, 2)

    def test_keyword_arguments(self):
        self.assertEqual(fetch_stock(client=make_client(), sku="C-3"), 4)

    def test_a_unit_that_is_not_listed(self):
        with self.assertRaises(UnknownSku):
            fetch_stock(make_client(), "Z-9")

    def test_everything_that_is_announced_exists(self):
        for name in inventory.__all__:
            self.assertTrue(hasattr(inventory, name), name)

    def test_the_nightly_export(self):
        self.assertEqual(fetch_stock_legacy("A-1,3\nB-7,1", "B-7"), 1)
