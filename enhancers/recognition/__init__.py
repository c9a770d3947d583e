"""Networks that know people: from faces to embeddings, and the cognition network of IPFH.

```python
from facehall_env.enhancers import recognition

recogniser = recognition.load("mobilefacenet", weights="mobilefacenet.safetensors")
embeddings = recogniser.embed(faces)  # (N, 3, H, W) in [0, 1] to (N, 128)
```

>>> from facehall_env.enhancers import recognition
>>> sorted({"mobilefacenet", "sphereface"} & set(recognition.available()))
['mobilefacenet', 'sphereface']
"""

from facehall_env.enhancers.recognition.angular import AngularSoftmax, psi
from facehall_env.enhancers.recognition.base import RECOGNISERS, ChannelOrder, Recogniser
from facehall_env.enhancers.recognition.cognition import (
    Cognition,
    load_cognition,
    save_cognition,
)
from facehall_env.enhancers.recognition.mobilefacenet import MobileFaceNet
from facehall_env.enhancers.recognition.sphereface import SphereFace
from facehall_env.enhancers.recognition.weights import available, load, make, save

register = RECOGNISERS.register

__all__ = [
    "RECOGNISERS",
    "AngularSoftmax",
    "ChannelOrder",
    "Cognition",
    "MobileFaceNet",
    "Recogniser",
    "SphereFace",
    "available",
    "load",
    "load_cognition",
    "make",
    "psi",
    "register",
    "save",
    "save_cognition",
]
