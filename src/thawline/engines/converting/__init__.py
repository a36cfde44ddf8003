"""From a torch module, or a recorded graph, to the graphs that OpenVINO runs.

Takes a backbone and the layers to read. Gives graphs of fixed shape, in float32 or as close to it as asked. Refuses
backbones that OpenVINO cannot take, and graphs that compute something else than torch.
"""
