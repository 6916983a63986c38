"""A walk through a running Orderlog, with the real requests and what they leave behind in each store."""
