"""Fast operators for training on processors.

Takes the layers above the thaw line. Gives steps over them with chains of small layers run as one and a batch divided
among the processors. Refuses layers whose outputs or gradients would not be the same: those run as they are.
"""
