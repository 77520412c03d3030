"""Raw deliveries to run the system on: real groceries, and the small local testing data set."""
