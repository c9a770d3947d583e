"""The words that settings choose among, apart from the code that acts on them.

Nothing is imported here, so that a command can list what it offers without torch.
"""

from __future__ import annotations

from typing import Literal

Align = Literal["landmarks", "none"]
"""Faces turned, scaled and moved until their landmarks stand where a recogniser expects them, or
the largest window of its proportions in the middle of the image."""
Augmentation = Literal["flip", "scale", "rotate"]
"""How training faces are varied; see `facehall_env.training.augment`."""
Border = Literal["centre", "inside"]
"""Whether a patch may reach over the edge of the image; see `facehall_env.patches`."""
ChannelOrder = Literal["rgb", "bgr"]
"""Order in which a recogniser takes the channels."""
Down = Literal["average", "convolution"]
"""How images are downsampled for a loss; see `facehall_env.training.dual_consistency`."""
FaceLoss = Literal["l1", "mse", "charbonnier", "psnr"]
"""How the error of whole faces is counted; see `facehall_env.training.losses`."""
Kernel = Literal["bicubic", "matlab-bicubic", "area", "catmull-rom-corners", "torch7-bicubic"]
"""How an image is resized; see `facehall_env.data.resize`."""
Loss = Literal["l1", "mse", "charbonnier"]
"""How the error of pixels is counted; see `facehall_env.training.losses`."""
Optimizer = Literal["adam", "muon"]
"""What follows the gradients; see `facehall_env.training.muon`."""
Pooling = Literal["fc", "gap"]
"""How a recogniser's features become an embedding: a dense layer, or their means."""
Precision = Literal["fp32", "bf16"]
"""Numbers that a network computes with."""
Schedule = Literal["cosine", "step", "constant"]
"""How a learning rate falls; see `facehall_env.training.schedules`."""
Split = Literal["train", "test", "all"]
"""Part of a dataset."""
