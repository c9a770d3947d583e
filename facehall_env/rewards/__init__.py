"""What a step is worth: rewards by name, and their weighted sums.

>>> from facehall_env import rewards
>>> str(rewards.make("delta_mse + 0.5*coverage"))
'delta_mse + 0.5*coverage'
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
