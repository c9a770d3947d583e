from .base import Reward as Reward
from .base import make as make
from .base import total as total
from .catalog import REWARDS as REWARDS
from .catalog import available as available
from .ipfh import IPFHReward as IPFHReward
