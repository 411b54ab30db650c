import unittest

from inventory import metrics, report
from tests.support import make_client


class Metrics(unittest.TestCase):
    def test_reading_stock_is_counted_under_the_name_that_dashboards_know(self):
        before = metrics.counts["fetch_stock"]
        report.line(make_client(), "A-1")
        self.assertEqual(metrics.counts["fetch_stock"], before + 1)

    def test_an_unknown_event(self):
        with self.assertRaises(ValueError):
            metrics.count("stock")
