"""Generated pages are in step with the code."""

from tools import error_table
from tools.state_diagrams import TARGET, page


def test_state_machines_page_is_drawn_from_todays_tables():
    assert TARGET.read_text(encoding="utf-8") == page(), "run: python -m tools.state_diagrams"


def test_the_table_of_errors_is_todays_error_page():
    assert error_table.TARGET.read_text(encoding="utf-8") == error_table.page(), "run: python -m tools.error_table"
