"""List the samples of a table as people have it: which column is which, in which encoding, where the files lie.

Takes a CSV, TSV, Parquet or JSON-lines table, or a folder of them. Gives a ``Listing``. Refuses tables whose labels are
measurements, whose files are mostly missing or lie outside the folder, and pictures with two labels.
"""
