"""The networks that the environment wraps.

>>> from facehall_env import enhancers
>>> sorted({"attention_fh", "bicubic", "compact"} & set(enhancers.available()))
['attention_fh', 'bicubic', 'compact']
"""

if __name__ == "enhancers":
    raise ImportError(
        "Import facehall_env.enhancers: the bare name 'enhancers' would load a second copy of it."
    )

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
