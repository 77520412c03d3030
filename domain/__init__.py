"""Pure rules of weekly demand forecasting: standard library only, no I/O, no clock."""
