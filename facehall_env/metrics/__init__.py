"""How close a restored face is to the truth: PSNR, SSIM, FSIM and FSIMc.

Every function takes two batches of images and returns one number per image, so that callers
average over images and never over pixels of different images.

>>> import torch
>>> from facehall_env.metrics import psnr
>>> hr = torch.full((2, 3, 32, 32), 0.5)
>>> psnr(hr + 0.1, hr).round(decimals=4)
tensor([20., 20.], dtype=torch.float64)
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
