"""The command line: one file per verb, and nothing that the Python API does not have.

Takes arguments; gives tables for people or one JSON object for programs, progress on standard error, exit code 0 when
done, 2 when the user can mend it, 1 for a defect, 130 after Ctrl-C. Refuses nothing itself: errors come from the rooms.
"""
