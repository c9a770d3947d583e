"""Datasets of faces, and the protocols that degrade them.

```python
from facehall_env import data

faces = data.make("synthetic", split="test")
batch = data.protocols.get("bicubic").degrade(faces.batch([0, 1, 2]), scale=4)
```
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
