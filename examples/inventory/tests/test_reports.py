import contextlib
import io
import unittest

from inventory import audit, reorder, report
from inventory.__main__ import main
from tests.support import make_client


class Reports(unittest.TestCase):
    def test_a_table_is_sorted(self):
        self.assertEqual(report.table(make_client(), ["B-7", "A-1"]), "A-1         12\nB-7          0")

    def test_shortage(self):
        self.assertEqual(reorder.shortage(make_client(), "C-3", 10), 6)

    def test_a_plan_names_only_what_is_short(self):
        self.assertEqual(reorder.plan(make_client(), {"A-1": 10, "B-7 ": 5}), {"B-7 ": 5})

    def test_differences_from_the_books(self):
        self.assertEqual(audit.differences(make_client(), {"A-1": 10, "C-3": 4}), {"A-1": 2})

    def test_clean_books(self):
        self.assertTrue(audit.is_clean(make_client(), {"A-1": 12, "B-7": 0}))

    def test_the_command_line(self):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            main(["A-1=3"])
        self.assertEqual(out.getvalue(), "A-1 3\n")
