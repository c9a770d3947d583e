"""Recurrent policies trained by REINFORCE (Attention-FH, section 3.3)."""
