"""Weight files of other formats.

Takes a file that a stranger wrote. Gives a safetensors file with its tensors, converted once by a process that can
neither write, connect nor start programs. Refuses what is no plain tensor, what wants to call something, and what is
larger than its file says.
"""
