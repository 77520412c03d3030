"""The operators' page and the Power BI project: everything that people look at."""
