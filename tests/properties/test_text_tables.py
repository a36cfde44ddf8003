"""Whatever people write: a table of texts gives back every text as it was written."""

from __future__ import annotations

import csv

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thawline.data.tables.columns import Columns
from thawline.data.tables.opening import open_table

SIGNS = st.characters(codec="utf-8", exclude_categories=("Cc",), include_characters="\t\n\r")
TEXTS = st.lists(st.text(SIGNS, min_size=1, max_size=40), min_size=2, max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=TEXTS, delimiter=st.sampled_from(",;|\t"), end=st.sampled_from(["\n", "\r\n"]), first=st.booleans())
def test_texts_come_back(tmp_path, texts, delimiter, end, first):
    if delimiter == "\t":  # a quoted cell may go on in the next lines, though not with tabs in these
        texts = [text.replace("\t", " ") for text in texts]
    path = tmp_path / "t.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
        rows = [("text", "label"), *((text, f"c{i % 2}") for i, text in enumerate(texts))]
        writer.writerows(rows if first else [row[::-1] for row in rows])
    listing = open_table(path, Columns())
    assert listing.input_kind == "text"
    assert [listing.source.texts[row] for row in range(len(texts))] == texts
    assert listing.labels == tuple(f"c{i % 2}" for i in range(len(texts)))
