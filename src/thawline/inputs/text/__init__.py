"""Texts.

Takes a string, or the bytes of a text file. Gives a sketch that is equal for copies up to case, blanks and punctuation,
and the ids of tokens as a backbone takes them. Refuses what holds no text.
"""
