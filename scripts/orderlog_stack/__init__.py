"""Orderlog's processes on one machine: third-party components and our services, without Docker.

`cli` reads the command line, `stack` says what each command does, `components` and `services`
describe what is run, `processes` runs it, `tools` finds or gets the programs.
"""
