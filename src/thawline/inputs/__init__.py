"""What a sample is, for each kind of input.

Takes a sample as it is stored: the bytes of a file, or an array. Gives its digest, a sketch to compare it by, and the
arrays that a backbone takes. Refuses, with the reason, what cannot be read.
"""
