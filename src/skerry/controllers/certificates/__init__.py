"""Certificate requests: ``rules`` says who gets which, ``loop`` approves, signs and clears away."""
