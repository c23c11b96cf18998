"""`python -m podium_operator`: run the operator until SIGTERM."""

import asyncio

import kopf

from podium_operator import logs
from podium_operator.handlers import Operator, register
from podium_operator.settings import OperatorSettings


def main() -> None:
    """Run until a signal comes."""
    settings = OperatorSettings()  # type: ignore[call-arg]  # from the environment
    logs.as_json(settings.log_level)
    namespaces = settings.namespaces()
    asyncio.run(
        kopf.operator(
            registry=register(Operator(settings)),
            clusterwide=not namespaces,
            namespaces=namespaces,
            standalone=True,
        )
    )


if __name__ == "__main__":
    main()
