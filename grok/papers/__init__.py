"""The papers as a project: experiments, sweeps and analysis.

The folders are links to those of the checkout. A wheel contains their files, so that `grok run`
finds the papers where there is no checkout.
"""
