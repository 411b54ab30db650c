import unittest
from unittest import mock

from inventory import orders
from tests.support import make_client


class Orders(unittest.TestCase):
    def test_an_order_that_can_be_filled(self):
        self.assertTrue(orders.can_fill(make_client(), {"A-1": 12, "C-3": 1}))

    def test_a_unit_that_is_not_listed_cannot_be_filled(self):
        self.assertFalse(orders.can_fill(make_client(), {"Z-9": 1}))

    def test_what_is_missing(self):
        self.assertEqual(orders.missing(make_client(), {"A-1": 2, "C-3": 6}), {"C-3": 2})

    def test_stock_is_asked_once_for_each_line(self):
        with mock.patch("inventory.orders.fetch_stock", return_value=1) as asked:
            orders.missing(make_client(), {"A-1": 1, "B-7": 1})
        self.assertEqual(asked.call_count, 2)
