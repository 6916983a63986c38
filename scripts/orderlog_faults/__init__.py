"""The fault tests at length: again and again (`suite`), and against bugs that were planted for them (`planted`).

`runs` builds, brings a stack of its own, runs one test at a time, and reads what it said.
"""
