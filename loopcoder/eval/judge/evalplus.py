"""EvalPlus itself, whose verdicts ours are compared with; it runs in an environment of its own."""

from loopcoder.eval.environments import Environment

EVALPLUS = Environment(name="evalplus", requirements=("evalplus==0.3.1",), module="evalplus")
