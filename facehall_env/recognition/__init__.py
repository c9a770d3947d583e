"""Networks that know people: from faces to embeddings, and the cognition network of IPFH.

```python
from facehall_env import recognition

recogniser = recognition.load("mobilefacenet", weights="mobilefacenet.safetensors")
embeddings = recogniser.embed(faces)  # (N, 3, H, W) in [0, 1] to (N, 128)
```

>>> from facehall_env import recognition
>>> sorted({"mobilefacenet", "sphereface"} & set(recognition.available()))
['mobilefacenet', 'sphereface']
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
