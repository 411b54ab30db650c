import unittest

from inventory import jobs
from tests.support import make_client


class Jobs(unittest.TestCase):
    def test_a_job_runs_by_its_name(self):
        self.assertEqual(jobs.run("probe", client=make_client(), sku="A-1"), 12)

    def test_a_job_with_a_target(self):
        self.assertEqual(jobs.run("shortage", client=make_client(), sku="B-7", target=2), 2)
