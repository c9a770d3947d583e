"""Who chooses the patches.

```python
from facehall_env import agents

agent = agents.make("even", core)
action, state = agent.act(observation, state)
```
"""

if __name__ == "agents":
    raise ImportError(
        "import facehall_env.agents: the bare name agents would load a second copy of it."
    )

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
