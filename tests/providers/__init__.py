"""The contract of providers, run against each with its real program."""

import pytest

pytest.register_assert_rewrite(f"{__name__}.contract", f"{__name__}.lab")
