"""Models in EleutherAI's lm-evaluation-harness (0.4.13), through this project's engine.

`python -m loopcoder.eval.lm_harness` is that harness's own command line, with the model `loopcoder`
known to it: lm-eval has no entry points for models of other packages.
"""
