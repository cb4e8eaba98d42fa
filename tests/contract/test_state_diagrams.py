"""Generated pages are in step with the code."""

from tools.state_diagrams import TARGET, page


def test_state_machines_page_is_drawn_from_todays_tables():
    assert TARGET.read_text(encoding="utf-8") == page(), "run: python -m tools.state_diagrams"
