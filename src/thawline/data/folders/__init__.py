"""List the pictures of a folder: at which level its classes stand, which are parts of a split, what is passed over.

Takes a folder. Gives a ``Listing``, in which every file below the class folders is a sample or skipped with its reason.
Refuses folders that can be read in two ways, with both and how to choose.
"""
