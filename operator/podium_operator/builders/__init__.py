"""Pure builders, one module a component: its part of the spec goes in, Kubernetes objects come out.

Nothing here does I/O. Every builder is a function `build(inputs: Inputs) -> list[JSON]`.
"""
