import unittest
from unittest import mock

from inventory.suppliers import SupplierFeed


class Suppliers(unittest.TestCase):
    def test_a_feed_asks_its_own_region(self):
        self.assertEqual(SupplierFeed("us").fetch_stock("A-1"), 5)

    def test_what_is_available(self):
        self.assertEqual(SupplierFeed("eu").available(["A-1", "B-7"]), ["A-1"])

    def test_a_feed_that_is_empty(self):
        with mock.patch("inventory.suppliers.SupplierFeed.fetch_stock", return_value=0):
            self.assertEqual(SupplierFeed("eu").available(["A-1"]), [])

    def test_the_supplier_is_asked_through_its_own_client(self):
        with mock.patch("inventory.suppliers.fetch_stock", return_value=7) as asked:
            self.assertEqual(SupplierFeed("eu").fetch_stock("B-7"), 7)
        asked.assert_called_once_with("eu", "B-7")
