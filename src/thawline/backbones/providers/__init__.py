"""Where models come from, one file for each library.

Takes a model's name in its library. Gives its architecture, its weights and its preparation. Refuses names that the
library does not know.
"""
