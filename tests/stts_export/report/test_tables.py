import io

import pytest
from rich.console import Console

from stts_export.report.tables import markdown_table, terminal_table
from stts_runtime.text_table import Rows


HEADERS, ROWS = ("part", "ms", "note"), (("vision_score", "12.5", "a|b"), ("plan", "-", ""))


def test_a_markdown_table_also_reads_as_plain_text():
    assert markdown_table(Rows("", HEADERS, ROWS)) == (
        "| part         |   ms | note |\n"
        "| ------------ | ---: | ---- |\n"
        "| vision_score | 12.5 | a\\|b |\n"
        "| plan         |    - |      |\n"
    )


def test_a_terminal_table_shows_every_cell_literally():
    output = io.StringIO()
    Console(file=output, width=80).print(terminal_table(Rows("stages", HEADERS, (*ROWS, ("[K, d]", "1.3x", "")))))
    for cell in ("stages", "vision_score", "12.5", "a|b", "[K, d]", "1.3x"):
        assert cell in output.getvalue()


@pytest.mark.parametrize("table", [markdown_table, terminal_table])
def test_a_row_of_another_length_is_refused(table):
    with pytest.raises(ValueError, match="3 columns, but a row of 1"):
        table(Rows("", HEADERS, (("plan",),)))


def test_a_table_without_rows_has_its_headers():
    assert markdown_table(Rows("", ("a",), ())) == "| a   |\n| --- |\n"
