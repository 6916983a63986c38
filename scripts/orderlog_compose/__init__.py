"""The composed system on a real Docker engine: built, started, used, broken, taken down.

`cli` says what is done in which order, `engine` finds or starts Docker, `stand_ins` makes base images where none can be
pulled, `project` calls Compose, `walk` asks the running system through its gateway, `confinement` looks at what the
containers may do and give away.
"""
