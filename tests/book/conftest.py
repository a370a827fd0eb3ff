"""A tiny book for the tests here; its presence puts this folder on the path, so that tests below it find it too."""

import ledger_book
import pytest


@pytest.fixture
def book(tmp_path):
    return ledger_book.make(tmp_path)
