from .colour import rgb_to_y as rgb_to_y
from .feature_similarity import fsim as fsim
from .fidelity import psnr as psnr
from .fidelity import ssim as ssim
from .scoring import METRIC_NAMES as METRIC_NAMES
from .scoring import ScoringProtocol as ScoringProtocol
from .scoring import score as score
